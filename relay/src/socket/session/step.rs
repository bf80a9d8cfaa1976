//! What a session makes of its client's messages: inputs of the hub, at once or after something has been looked up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tracing::trace;

use super::Session;
use super::intake::Intake;
use crate::fanout::{ClientInput, HubInput, Join};
use crate::protocol::{self, Incoming, JoinPayload, Payload, PresenceCall, Ref, access_token};
use crate::route::{Topic, strip_wire_prefix};
use crate::socket::Handshake;
use crate::socket::message::Message;

/// A channel takes one new token in this time; the next one waits.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(1);

/// What becomes of a message: told to the hub at once, or after something has been looked up.
pub(super) enum Step {
    Tell(HubInput),
    Wait(BoxFuture<'static, HubInput>),
}

impl Step {
    /// The same, and not before this moment.
    pub(super) fn at(self, due: Instant) -> Self {
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

impl Session {
    /// What the hub is to be told.
    pub(super) fn step(&mut self, incoming: Incoming, within_rate: bool) -> Option<Step> {
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
    pub(super) fn parse(&self, message: Message, intake: &mut Intake) -> Option<Incoming> {
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
pub(super) fn may_wait(incoming: &Incoming) -> bool {
    match incoming.topic.as_str() {
        protocol::PHOENIX => incoming.event == "heartbeat",
        _ => matches!(incoming.event.as_str(), "phx_leave" | "access_token"),
    }
}
