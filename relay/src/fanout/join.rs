//! Joins: decided by the claims and the control state in the hub's turn. And tokens that are renewed, decided likewise.

use std::sync::Arc;
use std::time::Instant;

use tracing::debug;

use super::channel::{Channel, REPLICATION_PATIENCE, Stage};
use super::expiry::expired;
use super::hub::{Hub, Join, SocketId};
use super::presence::Attendance;
use super::replay::{Opening, ReplayRequest};
use super::resume::{Cursor, replay_response};
use super::room::{Hears, RoomKey};
use crate::auth::{self, Claims, Credential, Fingerprint, Grants, Identity, TokenError};
use crate::protocol::{Envelope, Reason, Ref, Vsn};
use crate::route::{Topic, strip_wire_prefix};

impl Hub {
    pub(super) fn join(&mut self, id: SocketId, join: Join) {
        let old = self.remove_channel(id, &join.wire_topic);
        let outcome = self.admit(id, &join).and_then(|(mut channel, opening)| {
            if let Some(Opening::Rows(wanted)) = opening {
                let credential = join.credential.clone().map_err(Reason::from)?;
                let topic = channel.room.topic.clone();
                let reference = join.reference.clone();
                let pending =
                    self.request_snapshot(id, reference, topic, wanted, credential, join.address)?;
                channel.stage = Stage::Pending(Box::new(pending));
            }
            Ok((channel, opening))
        });
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        let vsn = socket.vsn;
        let envelope = Envelope { vsn, topic: &join.wire_topic, join_ref: &join.join_ref };
        match outcome {
            Ok((channel, opening)) => {
                let response = match opening {
                    None => Some(r#"{"postgres_changes":[]}"#.to_owned()),
                    Some(Opening::Window(start)) => {
                        let count = self.window.count_after(&channel.room.topic, start.position, vsn);
                        Some(replay_response(start.complete, count, &self.window, self.tag))
                    }
                    // With its rows.
                    Some(Opening::Rows(_)) => None,
                };
                // Reply first: what is delivered from here on belongs to a joined channel.
                let reply = response.map(|response| envelope.reply_ok(&join.reference, &response));
                if reply.is_some_and(|reply| socket.outbox.push(reply).is_err()) {
                    return self.disconnect(id);
                }
                let (room, group, gate) = (channel.room.clone(), channel.group(vsn), channel.stage.gate());
                self.rooms.join(room, group.clone(), id, Arc::clone(&socket.outbox), gate);
                self.rooms.hear_broadcasts(&channel.room, &group, id, channel.may_read_broadcasts());
                self.token_use.join(channel.token, id);
                let identity = channel.identity;
                if identity.is_none() {
                    socket.outbox.take_large();
                }
                self.expiries.insert(channel.expires_at, id, &channel.wire_topic);
                socket.channels.push(channel);
                self.metrics.channels.inc();
                self.dashboard_opens(identity, id);
                if let Some(Opening::Window(start)) = opening {
                    self.begin_replay(id, &join.wire_topic, start.complete || start.is_as_asked);
                }
                self.begin_presence(id);
                self.tell_what_is_due(id);
            }
            Err(reason) => {
                debug!(socket_id = id.0, %reason, "join refused");
                self.metrics.refuse_join(reason.label());
                self.push(id, envelope.reply_error(&join.reference, &reason));
            }
        }
        // The Python client, which speaks 1.0.0, would take this close for the new channel's.
        if let Some(old) = old.filter(|_| vsn == Vsn::V2) {
            self.push(id, Envelope { vsn, topic: &old.wire_topic, join_ref: &old.join_ref }.close());
        }
    }

    /// Decides a join by the claims, the control state and nothing else.
    fn admit(&self, id: SocketId, join: &Join) -> Result<(Channel, Option<Opening>), Reason> {
        let name = strip_wire_prefix(&join.wire_topic).ok_or(Reason::UnmatchedTopic)?;
        if name.is_empty() {
            return Err(Reason::TopicNameRequired);
        }
        if !join.within_rate {
            return Err(Reason::TooManyJoins);
        }
        let topic = Topic::parse(name).map_err(|error| Reason::InvalidTopic { error })?;
        let payload = join.payload.as_ref().map_err(Reason::clone)?;
        let joined = self.sockets.get(&id).map_or(0, |socket| socket.channels.len());
        if joined >= self.settings.channels_per_socket_max {
            return Err(Reason::TooManyChannels);
        }
        let credential = join.credential.as_ref().map_err(|error| Reason::from(error.clone()))?;
        let token = fingerprint(credential);
        self.admit_token(token, id)?;
        let grants = join.grants.clone();
        let enabled = payload.presence_enabled;
        let (identity, grants) = self.authorize(&topic, credential, payload.private, grants, enabled)?;
        let request = match payload.replay.as_deref() {
            // As in the reference, whatever it says.
            Some(_) if identity.is_none() && grants.is_none() => return Err(Reason::ReplayNotAllowed),
            replay => ReplayRequest::parse(replay, &topic)?,
        };
        if request.is_some() && grants.is_some_and(|grants| !grants.read_broadcast) {
            return Err(Reason::Unauthorized { topic: topic.to_string() });
        }
        // Without a database there is nothing to replay, and handshakes are refused.
        let opening = request.zip(self.tag).map(|(request, tag)| request.opening(&topic, &self.window, tag));
        let opening = opening.transpose()?;
        let stage = match opening {
            Some(Opening::Window(start)) => Stage::CatchingUp(Box::new(Cursor::at(start.position))),
            _ => Stage::Live,
        };
        let channel = Channel {
            wire_topic: Arc::clone(&join.wire_topic),
            room: RoomKey { private: payload.private && identity.is_none(), topic },
            join_ref: join.join_ref.clone(),
            ack: payload.ack,
            echo: payload.echo,
            identity,
            grants,
            token,
            expires_at: credential.expires_at(),
            resumes: opening.is_some(),
            attachment: self.attachment,
            stage,
            attendance: Attendance::new(payload.presence_key.as_deref(), identity.as_ref(), enabled),
            replication_due: payload.replication_ready.then(|| Instant::now() + REPLICATION_PATIENCE),
        };
        Ok((channel, opening))
    }

    /// Whether a socket may use a token beside the others that do.
    fn admit_token(&self, token: Option<Fingerprint>, id: SocketId) -> Result<(), Reason> {
        let sockets_max = self.settings.sockets_per_token_max;
        match token.is_none_or(|token| self.token_use.admits(token, id, sockets_max)) {
            true => Ok(()),
            false => Err(Reason::TooManySockets),
        }
    }

    /// As whom a credential opens a topic, and by which grants, if it does; as nobody outside `org:`.
    fn authorize(
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
            let is_active = |organization, user| self.agents.get(&(organization, user)).copied();
            let identity = auth::authorize(topic, credential, is_active).map_err(|refusal| {
                debug!(%topic, %refusal, "not authorized");
                refusal.reason(&topic.to_string())
            })?;
            return Ok((Some(identity), None));
        }
        match (private, self.settings.public_channels) {
            (true, _) => {
                // Who did not ask the policies has nothing from them.
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

    /// Takes a new token for a channel. Success is silent.
    pub(super) fn renew(
        &mut self,
        id: SocketId,
        wire_topic: &str,
        reference: &Ref,
        credential: Result<Credential, TokenError>,
        grants: Option<Result<Grants, Reason>>,
    ) {
        let Some(channel) = self.channel_or_reply(id, wire_topic, reference) else { return };
        let RoomKey { topic, private } = channel.room.clone();
        let (before, enabled) = (channel.grants.unwrap_or_default(), channel.attendance.enabled);
        let renewed = credential.map_err(Reason::from).and_then(|credential| {
            self.admit_token(fingerprint(&credential), id)?;
            let (identity, grants) = self.authorize(&topic, &credential, private, grants, enabled)?;
            let after = grants.unwrap_or_default();
            let lost = (before.read_broadcast && !after.read_broadcast)
                || (enabled && before.read_presence && !after.read_presence);
            if lost {
                return Err(Reason::NoLongerAuthorized { topic: topic.to_string() });
            }
            Ok((identity, grants, credential))
        });
        match renewed {
            Ok((identity, grants, credential)) => {
                let Some(socket) = self.sockets.get_mut(&id) else { return };
                let vsn = socket.vsn;
                let Some(channel) =
                    socket.channels.iter_mut().find(|channel| *channel.wire_topic == *wire_topic)
                else {
                    return;
                };
                let before = channel.group(vsn);
                let was = std::mem::replace(&mut channel.identity, identity);
                channel.grants = grants;
                channel.attachment = self.attachment;
                let expires_at = credential.expires_at();
                let expired_at = std::mem::replace(&mut channel.expires_at, expires_at);
                self.expiries.remove(expired_at, id, &channel.wire_topic);
                self.expiries.insert(expires_at, id, &channel.wire_topic);
                let token = fingerprint(&credential);
                self.token_use.join(token, id);
                self.token_use.leave(std::mem::replace(&mut channel.token, token), id);
                let after = channel.group(vsn);
                if before != after {
                    self.rooms.leave(&channel.room, &before, id);
                    self.rooms.join(
                        channel.room.clone(),
                        after.clone(),
                        id,
                        Arc::clone(&socket.outbox),
                        channel.stage.gate(),
                    );
                }
                self.rooms.hear_broadcasts(&channel.room, &after, id, channel.may_read_broadcasts());
                if !channel.may_read_presence() {
                    channel.attendance.hears = Hears::Nothing;
                }
                self.rooms.hear_presence(&channel.room, &after, id, channel.attendance.hears);
                self.dashboard_opens(identity, id);
                self.dashboard_closes(was, id, Instant::now());
            }
            Err(reason) => self.close_channel(id, wire_topic, &reason),
        }
    }
}

fn fingerprint(credential: &Credential) -> Option<Fingerprint> {
    credential.claims().map(|claims: &Claims| claims.fingerprint)
}
