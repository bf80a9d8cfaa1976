//! Accepts connections and serves each until it is done, is a WebSocket, or has kept the relay waiting for too long.

use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::Shared;
use super::listener::Listener;
use super::lobby::{Awaited, Seat};
use super::opening::Opening;
use super::peer::Connected;
use super::seldom::Seldom;
use crate::admission::Origin;

/// Largest header of a request. The reference's server takes 64 KiB too; hyper would take 400.
const HEADER_BYTES_MAX: usize = 64 * 1024;

/// How often a connection in the middle of an answer is looked at.
const GLANCE: Duration = Duration::from_secs(1);

/// Pauses after a failed accept double from one to the other: a process without free files would spin.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Serves a listener until the relay stops. `connections` has a task for each connection.
pub(crate) async fn serve(listener: Listener, router: Router, shared: Arc<Shared>, connections: TaskTracker) {
    let failures = Seldom::every(Duration::from_secs(10));
    let full = Seldom::every(Duration::from_secs(10));
    let mut pause = PAUSES.0;
    while let Some(accepted) = shared.stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, address)) => {
                pause = PAUSES.0;
                // Behind proxies a connection is a proxy's: only requests tell clients apart.
                let is_proxied = shared.proxies.trusted_proxies > 0;
                let origin = if is_proxied { Origin::Local } else { Origin::of_connection(address) };
                if let Some(seat) = shared.lobby.enter(origin).await {
                    connections.spawn(drive(stream, address, seat, router.clone(), Arc::clone(&shared)));
                    continue;
                }
                shared.metrics.connections_closed.count("full");
                if let Some(others) = full.admit(Instant::now()) {
                    info!(
                        others,
                        %origin,
                        "connection refused: all that CAMPFIRE_MAX_CONNECTIONS allows are being answered"
                    );
                }
            }
            Err(error) if is_of_the_peer(&error) => {}
            Err(error) => {
                shared.metrics.accept_failures.inc();
                if let Some(others) = failures.admit(Instant::now()) {
                    warn!(%error, others, "cannot accept connections; trying again");
                }
                // Where files are short, this gives one back.
                shared.lobby.make_room();
                shared.stop.run_until_cancelled(tokio::time::sleep(pause)).await;
                pause = (pause * 2).min(PAUSES.1);
            }
        }
    }
}

/// The connection went before it was accepted; the listener is well.
fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// Serves one connection that somebody else accepted.
pub(crate) async fn receive(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    address: Option<IpAddr>,
    router: Router,
    shared: Arc<Shared>,
) {
    if let Some(seat) = shared.lobby.enter(Origin::of_connection(address)).await {
        drive(stream, address, seat, router, shared).await;
    }
}

async fn drive(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    address: Option<IpAddr>,
    seat: Arc<Seat>,
    router: Router,
    shared: Arc<Shared>,
) {
    let io = TokioIo::new(Opening::new(stream, Arc::clone(&shared.strangers)));
    let connected = Connected { address, seat: Arc::clone(&seat) };
    let router = TowerToHyperService::new(router);
    let answer = service_fn(|request: Request<Incoming>| {
        let answering = connected.seat.answering();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(connected.clone());
        let answer = router.call(request);
        async move {
            let answer = answer.await;
            drop(answering);
            answer
        }
    });
    // All deadlines are the seat's.
    let mut server = http1::Builder::new();
    server.header_read_timeout(None).max_buf_size(HEADER_BYTES_MAX);
    let mut connection = pin!(server.serve_connection(io, answer).with_upgrades());
    let mut deadline = pin!(tokio::time::sleep_until(next_look(&seat).into()));
    let mut is_stopping = false;
    loop {
        tokio::select! {
            // What the client has said already is heard first: in a storm of handshakes none is cut off that has come.
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    debug!(%error, "connection ended");
                }
                return;
            }
            () = seat.evicted() => {
                if seat.gives_way() {
                    shared.metrics.connections_closed.count("evicted");
                    shared.note_closed("evicted");
                    return;
                }
            }
            () = shared.stop.cancelled(), if !is_stopping => {
                // A client in the middle of a header has asked nothing yet.
                if matches!(seat.awaited(), Some((Awaited::Header | Awaited::Next, _))) {
                    return;
                }
                is_stopping = true;
                connection.as_mut().graceful_shutdown();
            }
            () = deadline.as_mut() => {
                if let Some((awaited, until)) = seat.awaited() && until <= Instant::now() {
                    let reason = awaited.label();
                    shared.metrics.connections_closed.count(reason);
                    shared.note_closed(reason);
                    return;
                }
                deadline.as_mut().reset(next_look(&seat).into());
            }
        }
    }
}

fn next_look(seat: &Seat) -> Instant {
    seat.awaited().map_or_else(|| Instant::now() + GLANCE, |(_, until)| until)
}

impl Awaited {
    /// Why a connection was closed whose client did not send it in time.
    fn label(self) -> &'static str {
        match self {
            Self::Header => "header_timeout",
            Self::Body => "body_timeout",
            Self::Next => "keep_alive_timeout",
        }
    }
}
