//! One WebSocket: reads frames and hands them to the hub, writes what the hub queued.
//!
//! A session decides nothing about channels. It parses, verifies tokens, and keeps the order in which its client
//! spoke; who is joined to what is the hub's. Its hazard is a client that stops reading: reading from it goes on while
//! it is written to, and a write gives way to the outbox overflowing, to a drain, and to the idle time.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, Sink, Stream};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_util::sync::CancellationToken;
use tracing::{debug, trace};

use super::progress::Progress;
use super::rate::RateLimit;
use crate::auth::Credential;
use crate::config::Limits;
use crate::fanout::{ClientInput, CloseReason, HubInput, Join, Outbox, OutboxLimits, SocketId};
use crate::http::{Place, Shared};
use crate::metrics::Reason;
use crate::policies::Headers;
use crate::protocol::{self, Frame, Incoming, JoinPayload, Payload, PresenceCall, Ref, Vsn, access_token};
use crate::route::{Topic, strip_wire_prefix};

/// How long a closing socket may take to accept the close frame, and what waits before it without moving.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Sockets whose closing a second of drain is spread over. Clients come back without jitter of their own.
const DRAINED_PER_SECOND: i64 = 1_000;

/// What a session needs to know of its socket.
pub struct Session {
    id: SocketId,
    vsn: Vsn,
    /// What the socket connected with; a join without a token of its own runs with it.
    credential: Credential,
    /// What policies see of the handshake: its headers that begin with `x-`.
    headers: Headers,
    /// Topics joined as private outside `org:`, for which a new token means asking the policies again. One too many
    /// costs a question, one too few ends the channel; so it may be inexact.
    policed: Vec<Arc<str>>,
    /// Its place among the sockets of its address.
    place: Place,
    shared: Arc<Shared>,
}

type WebSocket = WebSocketStream<Progress<TokioIo<Upgraded>>>;

/// Why a session ended.
enum End {
    /// We close, and say why.
    Server(CloseReason),
    /// The client went, or broke the protocol.
    Client(&'static str),
}

/// What becomes of a message: told to the hub at once, or after something has been looked up.
enum Step {
    Tell(HubInput),
    Wait(BoxFuture<'static, HubInput>),
}

impl Session {
    pub(crate) fn new(
        id: SocketId,
        vsn: Vsn,
        credential: Credential,
        headers: Headers,
        place: Place,
        shared: Arc<Shared>,
    ) -> Self {
        Self { id, vsn, credential, headers, policed: Vec::new(), place, shared }
    }

    /// Serves the socket until either side ends it.
    pub async fn run(mut self, mut socket: WebSocket) {
        let Limits { outbox_bytes_max: bytes_max, outbox_frames_max: frames_max, .. } = self.shared.limits;
        let outbox = Arc::new(Outbox::new(OutboxLimits { bytes_max, frames_max }));
        let hub = &self.shared.hub.clone();
        let connect = ClientInput::Connect { vsn: self.vsn, outbox: Arc::clone(&outbox) };
        if hub.send(HubInput::Client(self.id, connect)).await.is_err() {
            return;
        }
        self.shared.metrics.sockets.inc();
        self.shared.metrics.sockets_opened.inc();
        let end = self.serve(&mut socket, &outbox, hub).await;
        // A hub that is gone has nothing to forget.
        hub.send(HubInput::Client(self.id, ClientInput::Disconnect)).await.ok();
        self.shared.metrics.sockets.dec();
        let reason = match end {
            End::Client(reason) => reason,
            End::Server(reason) => {
                // The peer of a half-open socket never answers; there is nobody to tell.
                let _ = tokio::time::timeout(CLOSE_TIMEOUT, close(&mut socket, reason)).await;
                reason.label()
            }
        };
        self.shared.metrics.sockets_closed.get_or_create(&Reason { reason }).inc();
        debug!(reason, "socket closed");
    }

    async fn serve(&mut self, socket: &mut WebSocket, outbox: &Outbox, hub: &mpsc::Sender<HubInput>) -> End {
        let limits = self.shared.limits.clone();
        let idle = Duration::from_secs(limits.idle_seconds);
        let mut rate =
            RateLimit::new(limits.client_messages_per_second, limits.client_messages_burst, Instant::now());
        let mut heard_at = Instant::now();
        // Never further away than the idle time, so that it goes off before anything has lasted that long.
        let timer = tokio::time::sleep(idle);
        tokio::pin!(timer);
        let stop = self.shared.stop.clone();
        let drain = drain(&stop, self.shared.metrics.sockets.clone());
        tokio::pin!(drain);
        let mut draining = false;
        let mut frames = VecDeque::new();
        // Since when there is something to write.
        let mut writing = None::<Instant>;
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
                () = outbox.filled(), if writing.is_none() => match outbox.take(&mut frames) {
                    Some(reason) => return End::Server(reason),
                    None => writing = Some(Instant::now()),
                },
                () = outbox.overflowed(), if writing.is_some() => return End::Server(CloseReason::SlowConsumer),
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
                    if let Some(since) = writing {
                        let stalled_at = since.max(socket.get_ref().wrote_at()) + patience;
                        if stalled_at <= now {
                            let reason = if draining { CloseReason::Shutdown } else { CloseReason::NotReading };
                            return End::Server(reason);
                        }
                        next = next.min(stalled_at);
                    }
                    timer.as_mut().reset(next.into());
                }
                // By turns, so that neither a flood from the client nor one for it stops the other.
                turn = turn(socket, writing.is_some().then_some(&mut frames), may_read, read_first) => {
                    read_first = matches!(turn, Turn::Written(_));
                    match turn {
                        Turn::Written(Err(_)) => return End::Client("write failed"),
                        Turn::Written(Ok(())) => {
                            writing = None;
                            // A burst leaves no large buffer behind on a socket that is then idle.
                            frames.shrink_to(16);
                            if outbox.take_refill_request()
                                && hub.send(HubInput::Client(self.id, ClientInput::Refill)).await.is_err()
                            {
                                return End::Server(CloseReason::Shutdown);
                            }
                        }
                        Turn::Read(message) => {
                            let message = match message {
                                Some(Ok(message)) => message,
                                Some(Err(error)) => return End::of(&error),
                                None => return End::Client("closed by client"),
                            };
                            heard_at = Instant::now();
                            let step = self.parse(message).and_then(|incoming| {
                                let within_rate = rate.admit(heard_at);
                                self.step(incoming, within_rate)
                            });
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

    /// What the hub is to be told.
    fn step(&mut self, incoming: Incoming, within_rate: bool) -> Option<Step> {
        let Incoming { join_ref, reference, topic, event, payload } = incoming;
        if topic == protocol::PHOENIX {
            let heartbeat = HubInput::Client(self.id, ClientInput::Heartbeat { reference });
            return (event == "heartbeat").then_some(Step::Tell(heartbeat));
        }
        let wire_topic: Arc<str> = topic.into();
        let input = match (event.as_str(), payload) {
            ("phx_join", Payload::Json(payload)) => {
                let payload = JoinPayload::parse(&payload, self.shared.presence_default);
                return Some(self.join(wire_topic, join_ref, reference, payload, within_rate));
            }
            ("phx_leave", _) => ClientInput::Leave { wire_topic, join_ref, reference },
            ("access_token", Payload::Json(payload)) => match access_token(&payload) {
                // supabase-js pushes its key where it has no token of its own, also over one that was set by hand.
                Some(token) if self.shared.api_keys.role(&token).is_none() => {
                    return Some(self.renew(wire_topic, reference, token));
                }
                _ => ClientInput::Other { wire_topic, reference },
            },
            ("broadcast", Payload::Broadcast(broadcast)) => {
                ClientInput::Broadcast { wire_topic, reference, broadcast, within_rate }
            }
            ("presence", Payload::Json(payload)) => {
                let call = PresenceCall::parse(&payload);
                ClientInput::Presence { wire_topic, reference, call, within_rate }
            }
            _ if !within_rate => {
                self.shared.metrics.drop_message("over_rate");
                return None;
            }
            _ => ClientInput::Other { wire_topic, reference },
        };
        Some(Step::Tell(HubInput::Client(self.id, input)))
    }

    /// A channel runs with its own token, or with what the socket connected with.
    fn join(
        &mut self,
        wire_topic: Arc<str>,
        join_ref: Ref,
        reference: Ref,
        payload: Result<JoinPayload, protocol::Reason>,
        within_rate: bool,
    ) -> Step {
        let is_private = payload.as_ref().is_ok_and(|payload| payload.private);
        let policed = policed_name(&wire_topic).filter(|_| is_private && within_rate);
        self.policed.retain(|topic| *topic != wire_topic);
        if policed.is_some() && self.policed.len() < self.shared.limits.channels_per_socket_max {
            self.policed.push(Arc::clone(&wire_topic));
        }
        let (id, shared, connection) = (self.id, Arc::clone(&self.shared), self.credential.clone());
        let (headers, address) = (self.headers.clone(), self.place.address());
        let decide = async move {
            let token = payload.as_ref().ok().and_then(|payload| payload.access_token.as_deref());
            let credential = shared.join(&connection, token).await;
            let grants = shared.grants(policed.as_deref(), &credential, &headers, address).await;
            let join =
                Join { wire_topic, join_ref, reference, payload, credential, grants, address, within_rate };
            HubInput::Client(id, ClientInput::Join(Box::new(join)))
        };
        Step::Wait(decide.boxed())
    }

    fn renew(&self, wire_topic: Arc<str>, reference: Ref, token: String) -> Step {
        let (id, shared, connection) = (self.id, Arc::clone(&self.shared), self.credential.clone());
        let policed = policed_name(&wire_topic).filter(|_| self.policed.contains(&wire_topic));
        let (headers, address) = (self.headers.clone(), self.place.address());
        let decide = async move {
            let credential = shared.join(&connection, Some(&token)).await;
            let grants = shared.grants(policed.as_deref(), &credential, &headers, address).await;
            HubInput::Client(id, ClientInput::AccessToken { wire_topic, reference, credential, grants })
        };
        Step::Wait(decide.boxed())
    }

    /// Malformed frames are dropped and counted, and the socket is kept, as Phoenix does.
    fn parse(&self, message: Message) -> Option<Incoming> {
        let parsed = match message {
            Message::Text(text) => Incoming::parse_text(self.vsn, text.as_str()),
            Message::Binary(bytes) => Incoming::parse_binary(self.vsn, &bytes),
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => return None,
        };
        match parsed {
            Ok(incoming) => Some(incoming),
            Err(error) => {
                trace!(%error, "malformed frame dropped");
                self.shared.metrics.drop_message("malformed");
                None
            }
        }
    }
}

/// The name of a channel whose private form policies decide about; None on an organization's and on what is no
/// channel. Canonical, as the hub's room: with `bcast:` in front it is the same channel, and the same question.
fn policed_name(wire_topic: &str) -> Option<String> {
    let topic = Topic::parse(strip_wire_prefix(wire_topic)?).ok()?;
    topic.organization().is_none().then(|| topic.to_string())
}

/// What came first.
enum Turn {
    /// Everything is on its way.
    Written(Result<(), tungstenite::Error>),
    Read(Option<Result<Message, tungstenite::Error>>),
}

/// Writes frames, if there are any, and reads a message, if it may: whichever is done first. Nothing is lost if this is
/// dropped, as what has been written of the frames is not among them any more.
async fn turn(
    socket: &mut WebSocket,
    mut frames: Option<&mut VecDeque<Frame>>,
    reads: bool,
    read_first: bool,
) -> Turn {
    let mut write = |socket: &mut WebSocket, cx: &mut Context<'_>| match &mut frames {
        Some(frames) => poll_write(socket, frames, cx).map(Turn::Written),
        None => Poll::Pending,
    };
    let read = |socket: &mut WebSocket, cx: &mut Context<'_>| match reads {
        true => Pin::new(socket).poll_next(cx).map(Turn::Read),
        false => Poll::Pending,
    };
    poll_fn(|cx| {
        if read_first && let Poll::Ready(turn) = read(socket, cx) {
            return Poll::Ready(turn);
        }
        match write(socket, cx) {
            Poll::Pending if !read_first => read(socket, cx),
            turn => turn,
        }
    })
    .await
}

fn poll_write(
    socket: &mut WebSocket,
    frames: &mut VecDeque<Frame>,
    cx: &mut Context<'_>,
) -> Poll<Result<(), tungstenite::Error>> {
    while !frames.is_empty() {
        ready!(Pin::new(&mut *socket).poll_ready(cx))?;
        if let Some(frame) = frames.pop_front() {
            Pin::new(&mut *socket).start_send(frame.into())?;
        }
    }
    Pin::new(socket).poll_flush(cx)
}

/// Resolves when the relay stops, later for some sockets than for others.
async fn drain(stop: &CancellationToken, sockets: prometheus_client::metrics::gauge::Gauge) {
    stop.cancelled().await;
    let spread = Duration::from_millis((sockets.get().max(0) * 1000 / DRAINED_PER_SECOND) as u64);
    tokio::time::sleep(spread.mul_f64(rand::random())).await;
}

impl End {
    /// What it means that nothing more can be read.
    fn of(error: &tungstenite::Error) -> Self {
        use tungstenite::error::ProtocolError::ResetWithoutClosingHandshake;
        match error {
            tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => {
                Self::Client("closed by client")
            }
            tungstenite::Error::Capacity(_) => Self::Server(CloseReason::FrameTooLarge),
            tungstenite::Error::Utf8(_) => Self::Server(CloseReason::InvalidText),
            tungstenite::Error::Protocol(ResetWithoutClosingHandshake) => Self::Client("connection lost"),
            tungstenite::Error::Protocol(_) => Self::Server(CloseReason::ProtocolError),
            _ => Self::Client("connection lost"),
        }
    }
}

/// Says goodbye. Where the client was cut short, it may still be sending: closing a connection with unread input takes
/// back what the peer has not read yet, the goodbye included, so that is read first.
async fn close(socket: &mut WebSocket, reason: CloseReason) -> Result<(), tungstenite::Error> {
    let frame = CloseFrame { code: reason.code().into(), reason: reason.text().into() };
    socket.close(Some(frame)).await?;
    if let CloseReason::FrameTooLarge | CloseReason::ProtocolError | CloseReason::InvalidText = reason {
        let stream = socket.get_mut();
        stream.shutdown().await?;
        let mut unread = vec![0; 16 * 1024];
        while stream.read(&mut unread).await? > 0 {}
    }
    Ok(())
}
