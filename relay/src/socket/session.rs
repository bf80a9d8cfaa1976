//! One WebSocket: reads frames and hands them to the hub, writes what the hub queued.
//!
//! A session decides nothing about channels. It parses, verifies tokens, and keeps the order in which its client
//! spoke; who is joined to what is the hub's. Its hazard is a client that stops reading: reading from it goes on while
//! it is written to, and a write gives way to the outbox overflowing, to a drain, and to the idle time.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, trace};

use super::message::{Broken, Message};
use super::unfinished::{Claim, Unfinished};
use super::wire::{ReadError, Wire};
use super::{Handshake, Sockets};
use crate::admission::{MessageRate, RateLimit};
use crate::fanout::{ClientInput, CloseReason, HubInput, Join, Outbox, SocketId, Stall};
use crate::protocol::{self, Incoming, JoinPayload, Payload, PresenceCall, Ref, access_token};
use crate::route::{Topic, strip_wire_prefix};

/// How long a closing socket may take to accept the close frame, and what waits before it without moving.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Sockets whose closing a second of drain is spread over. Clients come back without jitter of their own.
const DRAINED_PER_SECOND: i64 = 1_000;

/// Messages over its rate that a socket may have refused before it is closed. They are forgiven as fast as it may send.
const EXCESS_MAX: u32 = 1_000;

/// A channel takes one new token in this time; the next one waits.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(1);

/// What a message may have beside its payload: a topic, an event's name, a token.
const ENVELOPE_BYTES: usize = 64 * 1024;

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

/// What becomes of a message: told to the hub at once, or after something has been looked up.
enum Step {
    Tell(HubInput),
    Wait(BoxFuture<'static, HubInput>),
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

    /// What the hub is to be told.
    fn step(&mut self, incoming: Incoming, within_rate: bool) -> Option<Step> {
        let Incoming { join_ref, reference, topic, event, payload } = incoming;
        if topic == protocol::PHOENIX {
            let heartbeat = HubInput::Client(self.id, ClientInput::Heartbeat { reference });
            return (event == "heartbeat").then_some(Step::Tell(heartbeat));
        }
        let wire_topic: Arc<str> = topic.into();
        let input = match (event.as_str(), payload) {
            ("phx_join", Payload::Json(_)) if !within_rate => {
                let payload = Err(protocol::Reason::TooManyJoins);
                let credential = Ok(self.handshake.credential.clone());
                let address = self.handshake.place.address();
                let grants = None;
                let join = Join {
                    wire_topic,
                    join_ref,
                    reference,
                    payload,
                    credential,
                    grants,
                    address,
                    within_rate,
                };
                ClientInput::Join(Box::new(join))
            }
            ("phx_join", Payload::Json(payload)) => {
                let payload = JoinPayload::parse(&payload, self.sockets.settings.presence_default);
                return Some(self.join(wire_topic, join_ref, reference, payload));
            }
            ("phx_leave", _) => ClientInput::Leave { wire_topic, join_ref, reference },
            ("access_token", Payload::Json(payload)) => match access_token(&payload) {
                // supabase-js pushes its key where it has no token of its own, also over one that was set by hand.
                Some(token) if !self.sockets.admission.verifier.is_api_key(&token) => {
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
                self.sockets.messages_dropped.count("over_rate");
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
    ) -> Step {
        let is_private = payload.as_ref().is_ok_and(|payload| payload.private);
        let policed = policed_name(&wire_topic).filter(|_| is_private);
        self.policed.retain(|topic| *topic != wire_topic);
        if policed.is_some() && self.policed.len() < self.sockets.hub_settings.channels_per_socket_max {
            self.policed.push(Arc::clone(&wire_topic));
        }
        let (id, admission) = (self.id, Arc::clone(&self.sockets.admission));
        let Handshake { credential: connection, headers, place, .. } = &self.handshake;
        let (connection, headers, address) = (connection.clone(), headers.clone(), place.address());
        let decide = async move {
            let token = payload.as_ref().ok().and_then(|payload| payload.access_token.as_deref());
            let credential = admission.verifier.join(&connection, token).await;
            let grants = admission.policies.grants(policed.as_deref(), &credential, &headers, address).await;
            let join = Join {
                wire_topic,
                join_ref,
                reference,
                payload,
                credential,
                grants,
                address,
                within_rate: true,
            };
            HubInput::Client(id, ClientInput::Join(Box::new(join)))
        };
        Step::Wait(decide.boxed())
    }

    /// A channel gets another token. What comes too soon after the one before waits, as each may be a question to the
    /// database.
    fn renew(&mut self, wire_topic: Arc<str>, reference: Ref, token: String) -> Step {
        let due = self.next_renewal(&wire_topic);
        let (id, admission) = (self.id, Arc::clone(&self.sockets.admission));
        let policed = policed_name(&wire_topic).filter(|_| self.policed.contains(&wire_topic));
        let Handshake { credential: connection, headers, place, .. } = &self.handshake;
        let (connection, headers, address) = (connection.clone(), headers.clone(), place.address());
        let decide = async move {
            let credential = admission.verifier.join(&connection, Some(&token)).await;
            let grants = admission.policies.grants(policed.as_deref(), &credential, &headers, address).await;
            HubInput::Client(id, ClientInput::AccessToken { wire_topic, reference, credential, grants })
        };
        let step = Step::Wait(decide.boxed());
        match due {
            Some(due) => step.at(due),
            None => step,
        }
    }

    /// Takes note that a topic gets a token. Tells when it may, unless at once.
    fn next_renewal(&mut self, wire_topic: &Arc<str>) -> Option<Instant> {
        let now = Instant::now();
        self.renewed.retain(|(_, next)| *next > now);
        let before = self.renewed.iter().position(|(topic, _)| *topic == *wire_topic);
        let due = before.map(|index| self.renewed.swap_remove(index).1);
        self.renewed.push((Arc::clone(wire_topic), due.unwrap_or(now) + RENEWAL_INTERVAL));
        due
    }

    /// Malformed frames are dropped and counted, and the socket is kept, as Phoenix does.
    fn parse(&self, message: Message, intake: &mut Intake) -> Option<Incoming> {
        let parsed = match message {
            Message::Text(text) => Incoming::parse_text(self.handshake.vsn, &text),
            Message::Binary(bytes) => Incoming::parse_binary(self.handshake.vsn, &bytes),
            Message::Ping(_) | Message::Pong | Message::Close(_) => return None,
        };
        let claim = intake.claim.take();
        match parsed {
            Ok(mut incoming) => {
                if let (Payload::Broadcast(broadcast), Some(claim)) = (&mut incoming.payload, claim) {
                    broadcast.payload = claim.finish(std::mem::take(&mut broadcast.payload));
                }
                Some(incoming)
            }
            Err(error) => {
                trace!(%error, "malformed frame dropped");
                self.sockets.messages_dropped.count("malformed");
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

/// Whether a message that comes too soon waits instead of being refused: losing it would harm the client, or cost the
/// relay more than a moment.
fn may_wait(incoming: &Incoming) -> bool {
    match incoming.topic.as_str() {
        protocol::PHOENIX => incoming.event == "heartbeat",
        _ => matches!(incoming.event.as_str(), "phx_leave" | "access_token"),
    }
}

/// What came first.
enum Turn {
    /// Everything is on its way.
    Written(io::Result<()>),
    Read(Result<Message, ReadError>),
}

/// Reads messages, and bounds what unfinished ones take.
struct Intake {
    id: SocketId,
    outbox: Arc<Outbox>,
    unfinished: Arc<Unfinished>,
    /// Largest message before a channel outside `org:` is joined, and afterwards.
    bytes_max: (usize, usize),
    /// The memory of the message that has begun, if it has any.
    claim: Option<Claim>,
    claimed: usize,
    /// Since when more of a message is waited for.
    amid_since: Option<Instant>,
}

impl Intake {
    fn new(id: SocketId, sockets: &Sockets, outbox: Arc<Outbox>) -> Self {
        let hub = &sockets.hub_settings;
        let payload = hub.org_payload_bytes_max.max(hub.presence.payload_bytes_max);
        let large = sockets.settings.frame_bytes_max;
        let bytes_max = (large.min(payload.saturating_add(ENVELOPE_BYTES)), large);
        let unfinished = Arc::clone(&sockets.unfinished);
        Self { id, outbox, unfinished, bytes_max, claim: None, claimed: 0, amid_since: None }
    }

    fn poll(&mut self, wire: &mut Connection, cx: &mut Context<'_>) -> Poll<Result<Message, ReadError>> {
        let (small, large) = self.bytes_max;
        let read = wire.poll_read(cx, if self.outbox.takes_large() { large } else { small });
        if !wire.is_amid_message() {
            self.amid_since = None;
        } else if read.is_pending() {
            let since = *self.amid_since.get_or_insert_with(Instant::now);
            let bytes = wire.unfinished_bytes();
            if bytes > 0 && (bytes != self.claimed || self.claim.is_none()) {
                let claim = || self.unfinished.claim(since, self.id, &self.outbox);
                self.claim.get_or_insert_with(claim).grow(bytes);
                self.claimed = bytes;
            }
        }
        read
    }
}

/// Resolves when the relay stops, later for some sockets than for others.
async fn drain(stop: &CancellationToken, sockets: prometheus_client::metrics::gauge::Gauge) {
    stop.cancelled().await;
    let spread = Duration::from_millis((sockets.get().max(0) * 1000 / DRAINED_PER_SECOND) as u64);
    tokio::time::sleep(spread.mul_f64(rand::random())).await;
}

impl Step {
    /// The same, and not before this moment.
    fn at(self, due: Instant) -> Self {
        let later = async move {
            tokio::time::sleep_until(due.into()).await;
            match self {
                Self::Tell(input) => input,
                Self::Wait(input) => input.await,
            }
        };
        Self::Wait(later.boxed())
    }
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
