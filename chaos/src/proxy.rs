//! A TCP proxy with weather: it delays, narrows and splits what passes, goes silent, and cuts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use rand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::plan::Weather;
use crate::sabotage::Saboteur;

/// What every connection looks at.
#[derive(Default)]
struct State {
    upstream: u16,
    weather: Weather,
    connections: HashMap<u64, watch::Sender<Passage>>,
    accepted: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Passage {
    Open,
    Silent,
    Cut,
}

/// Listens on a port of its own for as long as it lives.
pub struct Proxy {
    pub port: u16,
    state: Arc<Mutex<State>>,
    listener: JoinHandle<()>,
}

impl Proxy {
    /// Passes on to a port of 127.0.0.1; what comes back may go through a saboteur.
    pub async fn start(upstream: u16, saboteur: Option<Arc<Saboteur>>) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("no port for a proxy")?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(Mutex::new(State { upstream, ..State::default() }));
        let shared = Arc::clone(&state);
        let listener = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, Arc::clone(&shared), saboteur.clone()));
            }
        });
        Ok(Self { port, state, listener })
    }

    /// Where new connections go.
    pub fn lead_to(&self, upstream: u16) {
        lock(&self.state).upstream = upstream;
    }

    /// From now on, also for connections that exist.
    pub fn set_weather(&self, weather: Weather) {
        lock(&self.state).weather = weather;
    }

    /// Ends about this many of a hundred connections, without a word at either end.
    pub fn cut(&self, share: u32) {
        self.tell(share, Passage::Cut);
    }

    /// Passes nothing more on, for about this many of a hundred connections, and leaves them open.
    pub fn silence(&self, share: u32) {
        self.tell(share, Passage::Silent);
    }

    /// Cuts what was silenced.
    pub fn end_silence(&self) {
        for connection in lock(&self.state).connections.values() {
            connection.send_if_modified(|passage| {
                let silent = *passage == Passage::Silent;
                if silent {
                    *passage = Passage::Cut;
                }
                silent
            });
        }
    }

    fn tell(&self, share: u32, passage: Passage) {
        for connection in lock(&self.state).connections.values() {
            // Which ones it hits depends on what is connected, so it cannot follow from the seed.
            if rand::rng().random_ratio(share.min(100), 100) {
                connection.send_replace(passage);
            }
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listener.abort();
        self.cut(100);
    }
}

async fn serve(client: TcpStream, state: Arc<Mutex<State>>, saboteur: Option<Arc<Saboteur>>) {
    let (sender, passage) = watch::channel(Passage::Open);
    let (number, upstream) = {
        let mut state = lock(&state);
        state.accepted += 1;
        let number = state.accepted;
        state.connections.insert(number, sender);
        (number, state.upstream)
    };
    if let Ok(server) = TcpStream::connect(("127.0.0.1", upstream)).await {
        client.set_nodelay(true).ok();
        server.set_nodelay(true).ok();
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let up = pump(from_client, to_server, Arc::clone(&state), passage.clone(), None);
        let line = saboteur.map(Saboteur::line);
        let down = pump(from_server, to_client, Arc::clone(&state), passage, line);
        // The end of one direction is the end of both: a relay that is gone cannot hear either.
        tokio::select! {
            () = up => {}
            () = down => {}
        }
    }
    lock(&state).connections.remove(&number);
}

async fn pump(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    state: Arc<Mutex<State>>,
    mut passage: watch::Receiver<Passage>,
    mut line: Option<crate::sabotage::Line>,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let mut silence = passage.clone();
        let read = tokio::select! {
            read = from.read(&mut buffer), if *silence.borrow_and_update() != Passage::Silent => read,
            changed = passage.changed() => {
                if changed.is_err() || *passage.borrow() == Passage::Cut { return }
                continue;
            }
        };
        let Ok(length @ 1..) = read else { return };
        let bytes = match &mut line {
            Some(line) => line.pass(&buffer[..length]),
            None => buffer[..length].to_vec(),
        };
        let weather = lock(&state).weather;
        if !weather.delay.is_zero() {
            tokio::time::sleep(weather.delay).await;
        }
        if let Some(rate) = weather.bytes_per_second {
            tokio::time::sleep(Duration::from_secs_f64(bytes.len() as f64 / f64::from(rate))).await;
        }
        for piece in bytes.chunks(weather.segment.unwrap_or(usize::MAX)) {
            let written = tokio::select! {
                written = to.write_all(piece) => written,
                _ = passage.wait_for(|passage| *passage == Passage::Cut) => return,
            };
            if written.is_err() {
                return;
            }
            if weather.segment.is_some() {
                tokio::task::yield_now().await;
            }
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn echo() -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await.ok();
                });
            }
        });
        port
    }

    #[tokio::test]
    async fn bytes_pass_whole_in_any_weather_and_a_cut_ends_the_connection() {
        let proxy = Proxy::start(echo().await, None).await.unwrap();
        proxy.set_weather(Weather { segment: Some(3), ..Weather::default() });
        let mut stream = TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap();
        let sent: Vec<u8> = (0..=255).cycle().take(5_000).collect();
        stream.write_all(&sent).await.unwrap();
        let mut got = vec![0; sent.len()];
        stream.read_exact(&mut got).await.unwrap();
        assert_eq!(got, sent);
        proxy.cut(100);
        assert_eq!(stream.read(&mut got).await.unwrap_or(0), 0);
    }
}
