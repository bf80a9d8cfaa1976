//! Joins: decided by the claims and the control state in the hub's turn.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::debug;

use super::Hub;
use super::admit::fingerprint;
use super::replay::replay_response;
use crate::fanout::attendance::Attendance;
use crate::fanout::channel::{Channel, Stage};
use crate::fanout::cursor::Cursor;
use crate::fanout::input::Join;
use crate::fanout::replay_request::{Opening, ReplayRequest};
use crate::fanout::room::RoomKey;
use crate::fanout::socket_id::SocketId;
use crate::fanout::views::Viewer;
use crate::protocol::{Envelope, Reason, Vsn};
use crate::route::{Topic, strip_wire_prefix};

/// How long a channel waits to be told that the database streams before it ends, as in the reference.
const REPLICATION_PATIENCE: Duration = Duration::from_secs(60);

impl Hub {
    pub(super) fn join(&mut self, id: SocketId, join: Join) {
        let old = self.remove_channel(id, &join.wire_topic);
        let outcome = self.admit(id, &join).and_then(|(mut channel, opening)| {
            if let Some(Opening::Rows(wanted)) = opening {
                let credential = join.credential.clone().map_err(Reason::from)?;
                let topic = channel.room.topic.clone();
                let reference = join.reference.clone();
                let pending = self.request_rows(id, reference, topic, wanted, credential, join.address)?;
                channel.stage = Stage::Pending(Box::new(pending));
            }
            Ok((channel, opening))
        });
        let Some(vsn) = self.sockets.get(&id).map(|socket| socket.vsn) else { return };
        let envelope = Envelope { vsn, topic: &join.wire_topic, join_ref: &join.join_ref };
        match outcome {
            Ok((channel, opening)) => {
                let response = match opening {
                    None => Some(r#"{"postgres_changes":[]}"#.to_owned()),
                    Some(Opening::Window(start)) => {
                        let viewer = &mut Viewer::new(channel.viewer.as_ref());
                        let topic = &channel.room.topic;
                        let count = self.window.count_after(topic, start.position, vsn, viewer);
                        Some(replay_response(start.complete, count, &self.window, self.tag))
                    }
                    // With its rows.
                    Some(Opening::Rows(_)) => None,
                };
                // Reply first: what is delivered from here on belongs to a joined channel.
                if let Some(response) = response {
                    self.push(id, envelope.reply_ok(&join.reference, &response));
                }
                let Some(socket) = self.sockets.get_mut(&id) else { return };
                let (room, group, valve) = (channel.room.clone(), channel.group(vsn), channel.stage.valve());
                let viewer = channel.viewer.clone();
                self.rooms.join(room, group.clone(), id, Arc::clone(&socket.outbox), valve, viewer);
                self.rooms.hear_broadcasts(&channel.room, &group, id, channel.may_read_broadcasts());
                self.token_use.join(channel.token, id);
                let identity = channel.identity;
                if identity.is_none() {
                    socket.outbox.take_large();
                }
                self.expiries.insert(channel.expires_at, id, &channel.wire_topic);
                socket.channels.push(channel);
                self.metrics.channels.inc();
                self.agent_opens(identity, id);
                self.visitor_comes(id, &join.wire_topic, Instant::now());
                if let Some(Opening::Window(start)) = opening {
                    self.begin_replay(id, &join.wire_topic, start.complete || start.is_as_asked);
                }
                self.begin_presence(id);
                self.tell_what_is_due(id);
            }
            Err(reason) => {
                debug!(socket_id = id.0, %reason, "join refused");
                self.metrics.joins_refused.count(reason.label());
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
            replay => ReplayRequest::parse(replay, &topic, &self.routed)?,
        };
        if request.is_some() && grants.is_some_and(|grants| !grants.read_broadcast) {
            return Err(Reason::Unauthorized { topic: topic.to_string() });
        }
        // Without a database there is nothing to replay, and handshakes are refused.
        let opening = request.zip(self.tag);
        let viewer = (payload.private && identity.is_none()).then(|| credential.clone());
        let opening = opening
            .map(|(request, tag)| {
                let mut viewer = Viewer::new(viewer.as_ref());
                request.opening(&topic, &self.window, tag, &self.routed, &mut viewer)
            })
            .transpose()?;
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
            viewer,
            expires_at: credential.expires_at(),
            resumes: opening.is_some(),
            attachment: self.attachment,
            stage,
            attendance: Attendance::new(payload.presence_key.as_deref(), identity.as_ref(), enabled),
            replication_due: payload.replication_ready.then(|| Instant::now() + REPLICATION_PATIENCE),
        };
        Ok((channel, opening))
    }
}
