//! Admission: whether a client may open a channel, and whether it may send a broadcast. Both are decided here only, in one
//! order, by the verified claims, the control state and the settings.

use tracing::debug;

use super::Hub;
use crate::auth::{self, Claims, Credential, Fingerprint, Grants, Identity};
use crate::fanout::channel::Channel;
use crate::fanout::expiries::expired;
use crate::fanout::socket_id::SocketId;
use crate::protocol::{EVENT_BYTES_MAX, Reason, UserBroadcast};
use crate::route::Topic;

/// Largest payload of a typing indicator, in bytes.
const TYPING_BYTES_MAX: usize = 1024;

/// By what right a client sends a broadcast.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sender<'a> {
    /// It has joined the channel: the join decided who it is.
    Channel { channel: &'a Channel, within_rate: bool },
    /// It asks over HTTP, where its rate was checked before. `is_granted`: the database's policies allow it, if they
    /// decide.
    Http { credential: &'a Credential, topic: &'a Topic, private: bool, is_granted: bool },
}

impl Hub {
    /// Whether one more socket may use a token.
    pub(super) fn admit_token(&self, token: Option<Fingerprint>, id: SocketId) -> Result<(), Reason> {
        let sockets_max = self.settings.sockets_per_token_max;
        match token.is_none_or(|token| self.token_use.admits(token, id, sockets_max)) {
            true => Ok(()),
            false => Err(Reason::TooManySockets),
        }
    }

    /// The identity under which a credential opens a topic, and the grants of the policies. Outside `org:` there is no
    /// identity, elsewhere there are no grants.
    pub(super) fn authorize(
        &self,
        topic: &Topic,
        credential: &Credential,
        private: bool,
        grants: Option<Result<Grants, Reason>>,
        presence_enabled: bool,
    ) -> Result<(Option<Identity>, Option<Grants>), Reason> {
        // It was valid when it was verified.
        if let Some(reason) = expired(credential.expires_at(), self.wall_clock) {
            return Err(reason);
        }
        if topic.organization().is_some() {
            return Ok((Some(self.identify(topic, credential)?), None));
        }
        match (private, self.settings.public_channels) {
            (true, _) => {
                // If the policies were not asked, they grant nothing.
                let grants = grants.transpose()?.unwrap_or_default();
                if grants.read_broadcast || (presence_enabled && grants.read_presence) {
                    Ok((None, Some(grants)))
                } else {
                    Err(Reason::Unauthorized { topic: topic.to_string() })
                }
            }
            (false, true) => Ok((None, None)),
            (false, false) => Err(Reason::PrivateOnly),
        }
    }

    /// The identity under which a credential opens a channel of an organization.
    fn identify(&self, topic: &Topic, credential: &Credential) -> Result<Identity, Reason> {
        let is_active = |organization, user| self.agents.is_active((organization, user));
        auth::authorize(topic, credential, is_active).map_err(|refusal| {
            debug!(%topic, %refusal, "not authorized");
            refusal.reason(&topic.to_string())
        })
    }

    /// The identity under which a client may send a broadcast, None outside `org:`; or why it is refused. Checked in this
    /// order: rate, length of the event's name, identity, size of the payload, right to send the event.
    pub(super) fn admit_broadcast(
        &self,
        sender: Sender<'_>,
        broadcast: &UserBroadcast,
    ) -> Result<Option<Identity>, Reason> {
        if matches!(sender, Sender::Channel { within_rate: false, .. }) {
            return Err(Reason::TooManyMessages);
        }
        if broadcast.event.len() > EVENT_BYTES_MAX {
            return Err(Reason::EventNameTooLong);
        }
        let identity = match sender {
            Sender::Channel { channel, .. } => channel.identity,
            Sender::Http { topic, credential, .. } => match topic.organization() {
                Some(_) => Some(self.identify(topic, credential)?),
                None => None,
            },
        };
        let bytes_max = match identity {
            Some(_) if is_typing(&broadcast.event) => TYPING_BYTES_MAX,
            Some(_) => self.settings.org_payload_bytes_max,
            None => self.settings.payload_bytes_max,
        };
        if broadcast.payload.len() > bytes_max {
            return Err(Reason::PayloadTooLarge);
        }
        match identity {
            Some(identity) => auth::may_send(&identity, &broadcast.event)?,
            None => self.admit_outside(sender)?,
        }
        let topic = match sender {
            Sender::Channel { channel, .. } => &channel.room.topic,
            Sender::Http { topic, .. } => topic,
        };
        // It would pass for a committed row.
        if self.routed.reserves(topic, &broadcast.event) {
            return Err(Reason::EventNotAllowed);
        }
        Ok(identity)
    }

    /// Whether a client may send to a channel outside `org:`.
    fn admit_outside(&self, sender: Sender<'_>) -> Result<(), Reason> {
        match sender {
            Sender::Channel { channel, .. } => match channel.grants {
                Some(grants) if !grants.write_broadcast => {
                    Err(Reason::SendUnauthorized { topic: channel.room.topic.to_string() })
                }
                _ => Ok(()),
            },
            Sender::Http { private: true, is_granted: true, .. } => Ok(()),
            Sender::Http { topic, private: true, .. } => {
                Err(Reason::Unauthorized { topic: topic.to_string() })
            }
            Sender::Http { .. } if self.settings.public_channels => Ok(()),
            Sender::Http { .. } => Err(Reason::PrivateOnly),
        }
    }
}

pub(super) fn fingerprint(credential: &Credential) -> Option<Fingerprint> {
    credential.claims().map(|claims: &Claims| claims.fingerprint)
}

pub(super) fn is_typing(event: &str) -> bool {
    event.starts_with("typing:")
}
