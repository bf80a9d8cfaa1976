//! One WebSocket: reads frames and hands them to the hub, writes what the hub queued.
//!
//! A session decides nothing about channels. It parses, verifies tokens, and keeps the order in which its client
//! spoke; who is joined to what is the hub's. Its hazard is a client that stops reading: reading from it goes on while
//! it is written to, and a write gives way to the outbox overflowing, to a drain, and to the idle time.

mod intake;
mod step;

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use self::intake::Intake;
use self::step::{Step, may_wait};
use super::message::{Broken, Message};
use super::wire::{ReadError, Wire};
use super::{Handshake, Sockets};
use crate::admission::{MessageRate, RateLimit};
use crate::fanout::{ClientInput, HubInput, Outbox, SocketId, Stall};
use crate::protocol::CloseReason;

/// How long a closing socket may take to accept the close frame, and what waits before it without moving.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Sockets whose closing a second of drain is spread over. Clients come back without jitter of their own.
const DRAINED_PER_SECOND: i64 = 1_000;

/// Messages over its rate that a socket may have refused before it is closed. They are forgiven as fast as it may send.
const EXCESS_MAX: u32 = 1_000;

/// What a session needs to know of its socket.
pub(super) struct Session {
    id: SocketId,
    handshake: Handshake,
    /// Topics joined as private outside `org:`, for which a new token means asking the policies again. One too many
    /// costs a question, one too few ends the channel; so it may be inexact.
    policed: Vec<Arc<str>>,
    /// Topics that were given a token within the last interval, and when the next one may come.
    renewed: Vec<(Arc<str>, Instant)>,
    sockets: Arc<Sockets>,
}

type Connection = Wire<TokioIo<Upgraded>>;

/// Why a session ended.
enum End {
    /// We close, and say why.
    Server(CloseReason),
    /// The client said goodbye, and is answered with this code.
    Client(Option<u16>),
    /// The connection is gone.
    Lost(&'static str),
}

impl Session {
    pub(super) fn new(id: SocketId, handshake: Handshake, sockets: Arc<Sockets>) -> Self {
        Self { id, handshake, policed: Vec::new(), renewed: Vec::new(), sockets }
    }

    /// Serves the socket until either side ends it.
    pub(super) async fn run(mut self, stream: TokioIo<Upgraded>) {
        let mut wire = Wire::new(stream);
        let outbox = Outbox::new(self.sockets.settings.outbox, Arc::clone(&self.sockets.unread));
        let outbox = Arc::new(outbox);
        let hub = &self.sockets.hub.clone();
        let connect = ClientInput::Connect { vsn: self.handshake.vsn, outbox: Arc::clone(&outbox) };
        if hub.send(HubInput::Client(self.id, connect)).await.is_err() {
            return;
        }
        self.sockets.metrics.sockets.inc();
        self.sockets.metrics.sockets_opened.inc();
        let end = self.serve(&mut wire, &outbox, hub).await;
        wire.forget();
        // A hub that is gone has nothing to forget.
        hub.send(HubInput::Client(self.id, ClientInput::Disconnect)).await.ok();
        self.sockets.metrics.sockets.dec();
        let reason = match end {
            End::Lost(reason) => reason,
            End::Client(code) => {
                let _ = tokio::time::timeout(CLOSE_TIMEOUT, wire.close(code, "", false)).await;
                "closed by client"
            }
            End::Server(reason) => {
                // The peer of a half-open socket never answers; there is nobody to tell. What is short is not kept for
                // the one that caused it.
                if reason != CloseReason::OutOfMemory || !wire.is_amid_frame() {
                    let goodbye = wire.close(Some(reason.code()), reason.text(), is_cut_short(reason));
                    let _ = tokio::time::timeout(CLOSE_TIMEOUT, goodbye).await;
                }
                reason.label()
            }
        };
        self.sockets.metrics.sockets_closed.count(reason);
        debug!(reason, "socket closed");
    }

    async fn serve(
        &mut self,
        wire: &mut Connection,
        outbox: &Arc<Outbox>,
        hub: &mpsc::Sender<HubInput>,
    ) -> End {
        let idle = self.sockets.settings.idle;
        let MessageRate { per_second, burst } = self.sockets.admission.message_rate;
        let mut rate = RateLimit::new(per_second, burst, Instant::now());
        let mut excess = RateLimit::new(per_second, EXCESS_MAX, Instant::now());
        let mut heard_at = Instant::now();
        // Never further away than the idle time, so that it goes off before anything has lasted that long.
        let timer = tokio::time::sleep(idle);
        tokio::pin!(timer);
        let stop = self.sockets.stop.clone();
        let drain = drain(&stop, self.sockets.metrics.sockets.clone());
        tokio::pin!(drain);
        let mut draining = false;
        let mut intake = Intake::new(self.id, &self.sockets, Arc::clone(outbox));
        // Since when there is something to write.
        let mut writing = None::<Instant>;
        let mut stall = None::<Stall>;
        let mut read_first = false;
        // What the client's last message waits for. Until it is there no other is read, so that order is kept; what
        // the hub queues goes out meanwhile.
        let mut waiting: Option<BoxFuture<'static, HubInput>> = None;
        loop {
            let may_read = waiting.is_none();
            tokio::select! {
                biased;
                // Stop: what is queued still goes out before the close frame, as long as it moves.
                () = &mut drain, if !draining => {
                    draining = true;
                    outbox.close(CloseReason::Shutdown);
                    timer.as_mut().reset((Instant::now() + CLOSE_TIMEOUT).into());
                }
                // What the hub queued.
                () = outbox.filled(), if writing.is_none() => match outbox.take(wire.frames()) {
                    Some(reason) => return End::Server(reason),
                    None => writing = Some(Instant::now()),
                },
                reason = outbox.overflowed(), if writing.is_some() => return End::Server(reason),
                // What was looked up.
                input = async { waiting.as_mut().expect("the arm is off without one").await }, if waiting.is_some() => {
                    waiting = None;
                    if hub.send(input).await.is_err() {
                        return End::Server(CloseReason::Shutdown);
                    }
                }
                () = &mut timer => {
                    let now = Instant::now();
                    let patience = if draining { CLOSE_TIMEOUT } else { idle };
                    let quiet_until = heard_at + idle;
                    if quiet_until <= now {
                        outbox.close(CloseReason::Idle);
                    }
                    let mut next = quiet_until.max(now + Duration::from_secs(1)).min(now + patience);
                    if let Some(since) = intake.amid_since {
                        let finished_by = since + idle;
                        if finished_by <= now {
                            return End::Server(CloseReason::Unfinished);
                        }
                        next = next.min(finished_by);
                    }
                    if let Some(since) = writing {
                        let stalled_at = since.max(wire.wrote_at()) + patience;
                        if stalled_at <= now {
                            let reason = if draining { CloseReason::Shutdown } else { CloseReason::NotReading };
                            return End::Server(reason);
                        }
                        next = next.min(stalled_at);
                    }
                    timer.as_mut().reset(next.into());
                }
                // By turns, so that neither a flood from the client nor one for it stops the other.
                turn = poll_fn(|cx| {
                    if read_first && may_read && let Poll::Ready(read) = intake.poll(wire, cx) {
                        return Poll::Ready(Turn::Read(read));
                    }
                    if let Some(since) = writing {
                        match wire.poll_write(cx) {
                            Poll::Ready(written) => return Poll::Ready(Turn::Written(written)),
                            Poll::Pending if stall.is_none() => {
                                stall = Some(outbox.stall(since, self.id));
                            }
                            Poll::Pending => {}
                        }
                    }
                    if !read_first && may_read && let Poll::Ready(read) = intake.poll(wire, cx) {
                        return Poll::Ready(Turn::Read(read));
                    }
                    Poll::Pending
                }) => {
                    read_first = matches!(turn, Turn::Written(_));
                    match turn {
                        Turn::Written(Err(_)) => return End::Lost("write failed"),
                        Turn::Written(Ok(())) => {
                            (writing, stall) = (None, None);
                            if outbox.take_refill_request()
                                && hub.send(HubInput::Client(self.id, ClientInput::Refill)).await.is_err()
                            {
                                return End::Server(CloseReason::Shutdown);
                            }
                        }
                        Turn::Read(Err(error)) => return End::of(&error),
                        Turn::Read(Ok(Message::Close(code))) => return End::Client(answer_to(code)),
                        Turn::Read(Ok(message)) => {
                            heard_at = Instant::now();
                            if let Message::Ping(payload) = &message {
                                wire.answer_ping(payload);
                                writing = writing.or(Some(heard_at));
                            }
                            let incoming = self.parse(message, &mut intake);
                            let within_rate = rate.admit(heard_at);
                            let waits = !within_rate && incoming.as_ref().is_some_and(may_wait);
                            if !within_rate && !waits && !excess.admit(heard_at) {
                                return End::Server(CloseReason::OverRate);
                            }
                            let step = incoming.and_then(|incoming| self.step(incoming, within_rate));
                            let step = match waits {
                                true => step.map(|step| step.at(rate.reserve(heard_at))),
                                false => step,
                            };
                            let is_told = match step {
                                Some(Step::Tell(input)) => hub.send(input).await.is_ok(),
                                Some(Step::Wait(input)) => {
                                    waiting = Some(input);
                                    true
                                }
                                None => true,
                            };
                            if !is_told {
                                return End::Server(CloseReason::Shutdown);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// What came first.
enum Turn {
    /// Everything is on its way.
    Written(io::Result<()>),
    Read(Result<Message, ReadError>),
}

/// Resolves when the relay stops, later for some sockets than for others.
async fn drain(stop: &CancellationToken, sockets: prometheus_client::metrics::gauge::Gauge) {
    stop.cancelled().await;
    let spread = Duration::from_millis((sockets.get().max(0) * 1000 / DRAINED_PER_SECOND) as u64);
    tokio::time::sleep(spread.mul_f64(rand::random())).await;
}

impl End {
    /// What it means that nothing more can be read.
    fn of(error: &ReadError) -> Self {
        match error {
            ReadError::Lost => Self::Lost("connection lost"),
            ReadError::Broken(Broken::TooLarge) => Self::Server(CloseReason::FrameTooLarge),
            ReadError::Broken(Broken::Protocol) => Self::Server(CloseReason::ProtocolError),
            ReadError::Broken(Broken::NotUtf8) => Self::Server(CloseReason::InvalidText),
        }
    }
}

/// What a client's goodbye is answered with: its own code, unless that is none that may be sent.
fn answer_to(code: Option<u16>) -> Option<u16> {
    code.map(|code| match code {
        1000..=1003 | 1007..=1014 | 3000..=4999 => code,
        _ => CloseReason::ProtocolError.code(),
    })
}

/// Whether a client is closed in the middle of what it says.
fn is_cut_short(reason: CloseReason) -> bool {
    use CloseReason::{FrameTooLarge, InvalidText, OverRate, ProtocolError, Unfinished};
    matches!(reason, FrameTooLarge | InvalidText | OverRate | ProtocolError | Unfinished)
}
