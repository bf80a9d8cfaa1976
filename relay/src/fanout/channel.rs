//! What clients may do to the hub: join, leave, renew a token, send. One channel is one socket joined to one topic.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tracing::debug;
use uuid::Uuid;

use super::hub::{ClientInput, Hub, Join, SocketId};
use super::outbox::Outbox;
use super::replay::{Opening, ReplayRequest};
use super::resume::{Cursor, replay_response};
use super::room::{Except, Gate, GroupKey, RoomKey};
use super::snapshot::{Cut, Pending};
use super::typing::Typist;
use crate::auth::{self, Credential, Identity, TokenError};
use crate::decode::Timestamp;
use crate::protocol::{Encoding, Envelope, Reason, Ref, SystemStatus, UserBroadcast, Vsn, unmatched_topic};
use crate::route::{Topic, strip_wire_prefix};

/// Largest payload of a typing indicator, in bytes.
const TYPING_BYTES_MAX: usize = 1024;

/// A socket and the channels it joined.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) vsn: Vsn,
    pub(super) outbox: Arc<Outbox>,
    /// At most a hundred, mostly one to three: looking through them beats hashing.
    pub(super) channels: Vec<Channel>,
}

#[derive(Debug)]
pub(super) struct Channel {
    pub(super) wire_topic: Arc<str>,
    pub(super) room: RoomKey,
    pub(super) join_ref: Ref,
    ack: bool,
    echo: bool,
    /// Who this is to an organization; None on channels outside `org:`.
    identity: Option<Identity>,
    /// When the token ends; API keys do not.
    expires_at: Option<SystemTime>,
    /// Asked for a replay, so it is told positions.
    pub(super) resumes: bool,
    /// The attachment to the database whose agents admitted it.
    attachment: u64,
    pub(super) stage: Stage,
}

/// How far a channel has come.
#[derive(Debug)]
pub(super) enum Stage {
    /// Its snapshot is being read, and its join is not answered yet.
    Pending(Box<Pending>),
    /// It is being sent what it missed.
    CatchingUp(Box<Cursor>),
    /// It is live, except for what its snapshot shows and the stream has not passed yet.
    Behind(Arc<Cut>),
    Live,
}

impl Stage {
    fn gate(&self) -> Gate {
        match self {
            Self::Pending(_) | Self::CatchingUp(_) => Gate::Shut,
            Self::Behind(cut) => Gate::Behind(Arc::clone(cut)),
            Self::Live => Gate::Open,
        }
    }
}

impl Channel {
    pub(super) fn group(&self, vsn: Vsn) -> GroupKey {
        let visitor = matches!(self.identity, Some(Identity::Visitor { .. }));
        GroupKey { vsn, wire_topic: Arc::clone(&self.wire_topic), visitor }
    }
}

impl Socket {
    pub(super) fn envelope<'a>(&'a self, channel: &'a Channel) -> Envelope<'a> {
        Envelope { vsn: self.vsn, topic: &channel.wire_topic, join_ref: &channel.join_ref }
    }

    pub(super) fn find(&self, wire_topic: &str) -> Option<&Channel> {
        self.channels.iter().find(|channel| *channel.wire_topic == *wire_topic)
    }
}

impl Hub {
    pub(super) fn apply_client(&mut self, id: SocketId, input: ClientInput) {
        match input {
            ClientInput::Connect { vsn, outbox } => {
                self.sockets.insert(id, Socket { vsn, outbox, channels: Vec::new() });
            }
            ClientInput::Disconnect => self.disconnect(id),
            ClientInput::Heartbeat { reference } => self.heartbeat(id, &reference),
            ClientInput::Refill => self.refill(id),
            ClientInput::Join(join) => self.join(id, *join),
            ClientInput::Leave { wire_topic, join_ref, reference } => {
                self.leave(id, &wire_topic, &join_ref, &reference)
            }
            ClientInput::AccessToken { wire_topic, reference, credential } => {
                self.renew(id, &wire_topic, &reference, credential);
            }
            ClientInput::Broadcast { wire_topic, reference, broadcast, within_rate } => {
                self.broadcast(id, &wire_topic, &reference, &broadcast, within_rate);
            }
            ClientInput::Other { wire_topic, reference } => {
                self.channel_or_reply(id, &wire_topic, &reference);
            }
        }
    }

    fn join(&mut self, id: SocketId, join: Join) {
        let old = self.remove_channel(id, &join.wire_topic);
        let outcome = self.admit(id, &join).and_then(|(mut channel, opening)| {
            if let Some(Opening::Snapshot { rows_max }) = opening {
                let credential = join.credential.clone().map_err(Reason::from)?;
                let topic = channel.room.topic.clone();
                let pending =
                    self.request_snapshot(id, join.reference.clone(), topic, rows_max, credential)?;
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
                        let count = self.window.after(&channel.room.topic, start.position).len();
                        Some(replay_response(start.complete, count, &self.window, self.tag))
                    }
                    // With its rows.
                    Some(Opening::Snapshot { .. }) => None,
                };
                // Reply first: what is delivered from here on belongs to a joined channel.
                let reply = response.map(|response| envelope.reply_ok(&join.reference, &response));
                if reply.is_some_and(|reply| socket.outbox.push(reply).is_err()) {
                    return self.disconnect(id);
                }
                let (room, group, gate) = (channel.room.clone(), channel.group(vsn), channel.stage.gate());
                self.rooms.join(room, group, id, Arc::clone(&socket.outbox), gate);
                socket.channels.push(channel);
                self.metrics.channels.inc();
                if let Some(Opening::Window(start)) = opening {
                    self.begin_replay(id, &join.wire_topic, start.complete);
                }
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
            return Err(Reason::TooManyMessages);
        }
        let topic = Topic::parse(name).map_err(Reason::InvalidTopic)?;
        let payload = join.payload.as_ref().map_err(Reason::clone)?;
        let joined = self.sockets.get(&id).map_or(0, |socket| socket.channels.len());
        if joined >= self.settings.channels_per_socket_max {
            return Err(Reason::TooManyChannels);
        }
        let credential = join.credential.as_ref().map_err(|error| Reason::from(*error))?;
        let identity = self.authorize(&topic, credential, payload.private)?;
        let opening = match ReplayRequest::parse(payload.replay.as_deref())? {
            None => None,
            Some(_) if identity.is_none() => return Err(Reason::ReplayNotAllowed),
            // Without a database there is nothing to replay, and handshakes are refused.
            Some(request) => self.tag.map(|tag| request.opening(&topic, &self.window, tag)).transpose()?,
        };
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
            expires_at: credential.expires_at(),
            resumes: opening.is_some(),
            attachment: self.attachment,
            stage,
        };
        Ok((channel, opening))
    }

    /// As whom a credential opens a topic, if it does; None outside `org:`.
    fn authorize(
        &self,
        topic: &Topic,
        credential: &Credential,
        private: bool,
    ) -> Result<Option<Identity>, Reason> {
        if topic.organization().is_some() {
            let is_active = |organization, user| self.agents.get(&(organization, user)).copied();
            return auth::authorize(topic, credential, is_active).map(Some).map_err(|refusal| {
                debug!(%topic, %refusal, "not authorized");
                refusal.reason(&topic.to_string())
            });
        }
        match (private, self.settings.public_channels) {
            // No policy grants anything on private channels.
            (true, _) => Err(Reason::Unauthorized { topic: topic.to_string() }),
            (false, true) => Ok(None),
            (false, false) => Err(Reason::PrivateOnly),
        }
    }

    fn leave(&mut self, id: SocketId, wire_topic: &str, join_ref: &Ref, reference: &Ref) {
        let Some(socket) = self.sockets.get(&id) else { return };
        let vsn = socket.vsn;
        let Some(channel) = socket.find(wire_topic) else {
            return self.push(id, Envelope { vsn, topic: wire_topic, join_ref }.reply_ok(reference, "{}"));
        };
        // A leave that names an earlier join is late news: the client has joined again since.
        if vsn == Vsn::V2 && !join_ref.is_null() && *join_ref != channel.join_ref {
            return;
        }
        if let Some(channel) = self.remove_channel(id, wire_topic) {
            let envelope = Envelope { vsn, topic: wire_topic, join_ref: &channel.join_ref };
            self.push(id, envelope.reply_ok(reference, "{}"));
            self.push(id, envelope.close());
        }
    }

    /// Takes a new token for a channel. Success is silent.
    fn renew(
        &mut self,
        id: SocketId,
        wire_topic: &str,
        reference: &Ref,
        credential: Result<Credential, TokenError>,
    ) {
        let Some(channel) = self.channel_or_reply(id, wire_topic, reference) else { return };
        let RoomKey { topic, private } = channel.room.clone();
        let renewed = credential.map_err(Reason::from).and_then(|credential| {
            let identity = self.authorize(&topic, &credential, private)?;
            Ok((identity, credential.expires_at()))
        });
        match renewed {
            Ok((identity, expires_at)) => {
                let Some(socket) = self.sockets.get_mut(&id) else { return };
                let vsn = socket.vsn;
                let Some(channel) =
                    socket.channels.iter_mut().find(|channel| *channel.wire_topic == *wire_topic)
                else {
                    return;
                };
                let before = channel.group(vsn);
                channel.identity = identity;
                channel.attachment = self.attachment;
                channel.expires_at = expires_at;
                let after = channel.group(vsn);
                if before != after {
                    self.rooms.leave(&channel.room, &before, id);
                    self.rooms.join(
                        channel.room.clone(),
                        after,
                        id,
                        Arc::clone(&socket.outbox),
                        channel.stage.gate(),
                    );
                }
            }
            Err(reason) => self.close_channel(id, wire_topic, &reason),
        }
    }

    fn broadcast(
        &mut self,
        id: SocketId,
        wire_topic: &str,
        reference: &Ref,
        broadcast: &UserBroadcast,
        within_rate: bool,
    ) {
        self.channel_or_reply(id, wire_topic, reference);
        let Some(channel) = self.channel(id, wire_topic) else { return };
        let refusal = self.refusal(channel, broadcast, within_rate);
        let (ack, join_ref) = (channel.ack, channel.join_ref.clone());
        if let Some(reason) = &refusal {
            self.metrics.drop_message(reason.label());
        } else {
            self.metrics.client_messages.inc();
            self.relay(id, wire_topic, broadcast);
        }
        // Looked up again: delivering may have ended the sender's own socket.
        let Some(socket) = self.sockets.get(&id).filter(|_| ack) else { return };
        let envelope = Envelope { vsn: socket.vsn, topic: wire_topic, join_ref: &join_ref };
        let reply = match refusal {
            Some(reason) => envelope.reply_error(reference, &reason),
            None => envelope.reply_ok(reference, "{}"),
        };
        self.push(id, reply);
    }

    /// Why a client may not send this, if so.
    fn refusal(&self, channel: &Channel, broadcast: &UserBroadcast, within_rate: bool) -> Option<Reason> {
        let bytes = broadcast.payload.len();
        let bytes_max = match &channel.identity {
            Some(_) if is_typing(&broadcast.event) => TYPING_BYTES_MAX,
            Some(_) => self.settings.org_payload_bytes_max,
            None => self.settings.payload_bytes_max,
        };
        if !within_rate {
            return Some(Reason::TooManyMessages);
        }
        if bytes > bytes_max {
            return Some(Reason::PayloadTooLarge);
        }
        let identity = channel.identity.as_ref()?;
        auth::may_send(identity, &broadcast.event).err().map(Reason::from)
    }

    /// Passes an admitted broadcast on.
    fn relay(&mut self, id: SocketId, wire_topic: &str, broadcast: &UserBroadcast) {
        let Some(channel) = self.channel(id, wire_topic) else { return };
        let room = channel.room.clone();
        let Some(identity) = channel.identity else {
            let except = if channel.echo { Except::Nobody } else { Except::Channel(id, wire_topic) };
            let delivery = self.rooms.deliver(&room, &broadcast.stamped(None), except);
            return self.settle(delivery);
        };
        if is_typing(&broadcast.event) && room.topic.sibling().is_some() {
            let typist = Typist { socket: id, wire_topic: Arc::clone(&channel.wire_topic) };
            if broadcast.event == "typing:start" {
                self.typing.start(typist, room.clone(), identity, Instant::now());
            } else {
                self.typing.stop(&typist);
            }
            return self.deliver_typing(&room, id, &identity, broadcast);
        }
        let except = if channel.echo { Except::Nobody } else { Except::Channel(id, wire_topic) };
        self.deliver_stamped(&room, &identity, broadcast, except);
    }

    /// Typing on a conversation reaches its channel and its widget alike, but never the socket it came from.
    fn deliver_typing(
        &mut self,
        room: &RoomKey,
        from: SocketId,
        identity: &Identity,
        broadcast: &UserBroadcast,
    ) {
        let sibling = room.topic.sibling().map(|topic| RoomKey { topic, private: false });
        for room in [Some(room.clone()), sibling].into_iter().flatten() {
            self.deliver_stamped(&room, identity, broadcast, Except::Socket(from));
        }
    }

    fn deliver_stamped(
        &mut self,
        room: &RoomKey,
        identity: &Identity,
        broadcast: &UserBroadcast,
        except: Except<'_>,
    ) {
        let stamp = identity.sender_meta();
        let visitors_stamp = identity.sender_meta_for_visitors();
        let stamped = |visitor: bool| {
            let stamp = if visitor { &visitors_stamp } else { &stamp };
            broadcast.stamped(Some(stamp.as_bytes()))
        };
        let delivery = self.rooms.deliver_by_audience(room, stamped, except);
        self.settle(delivery);
    }

    /// Ends what is over by the clock: typing indicators and tokens.
    pub(super) fn tick(&mut self, now: Instant, wall: SystemTime) {
        let millis = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
        self.window.expire(Timestamp::from_unix_millis(i64::try_from(millis).unwrap_or(i64::MAX)));
        self.measure_window();
        for (typist, room, identity) in self.typing.expired(now) {
            self.end_typing(&typist, &room, &identity);
        }
        let over = |channel: &&Channel| channel.expires_at.is_some_and(|expires_at| expires_at <= wall);
        let expired: Vec<_> = self
            .sockets
            .iter()
            .flat_map(|(id, socket)| {
                socket
                    .channels
                    .iter()
                    .filter(over)
                    .map(|channel| (*id, channel.wire_topic.clone(), channel.expires_at))
            })
            .collect();
        for (id, wire_topic, expires_at) in expired {
            let ago =
                expires_at.and_then(|expires_at| wall.duration_since(expires_at).ok()).unwrap_or_default();
            let reason = Reason::TokenExpired { seconds_ago: ago.as_secs() };
            self.close_channel(id, &wire_topic, &reason);
        }
    }

    fn end_typing(&mut self, typist: &Typist, room: &RoomKey, identity: &Identity) {
        let stop =
            UserBroadcast { event: "typing:stop".to_owned(), encoding: Encoding::Json, payload: "{}".into() };
        self.deliver_typing(room, typist.socket, identity, &stop);
    }

    /// Ends every channel of an agent whose row is gone or inactive.
    pub(super) fn close_unauthorized_agents(&mut self) {
        let mut gone = Vec::new();
        for (id, socket) in &self.sockets {
            for channel in &socket.channels {
                if let Some(Identity::Agent { organization, user }) = channel.identity
                    && self.agents.get(&(organization, user)) != Some(&true)
                {
                    gone.push((*id, Arc::clone(&channel.wire_topic)));
                }
            }
        }
        self.close_agents(gone);
    }

    /// Ends the channels of an agent, or of all, that an earlier attachment admitted.
    pub(super) fn close_agents_of_before(&mut self, agent: Option<(Uuid, Uuid)>) {
        let mut gone = Vec::new();
        for (id, socket) in &self.sockets {
            for channel in &socket.channels {
                if let Some(Identity::Agent { organization, user }) = channel.identity
                    && agent.is_none_or(|agent| agent == (organization, user))
                    && channel.attachment < self.attachment
                {
                    gone.push((*id, Arc::clone(&channel.wire_topic)));
                }
            }
        }
        self.close_agents(gone);
    }

    fn close_agents(&mut self, gone: Vec<(SocketId, Arc<str>)>) {
        for (id, wire_topic) in gone {
            self.close_channel(id, &wire_topic, &Reason::AgentGone);
        }
    }

    pub(super) fn close_room(&mut self, room: &RoomKey, reason: &Reason) {
        for (id, wire_topic) in self.rooms.members(room) {
            self.close_channel(id, &wire_topic, reason);
        }
    }

    /// Tells every channel that committed events are missing from what it got.
    pub(super) fn announce_loss(&mut self, cause: &str) {
        let message = format!("ReplayIncomplete: {cause}; fetch anew what you show");
        let mut closed = Vec::new();
        for (id, socket) in &self.sockets {
            for channel in &socket.channels {
                if matches!(channel.stage, Stage::Pending(_)) {
                    continue;
                }
                let envelope =
                    Envelope { vsn: socket.vsn, topic: &channel.wire_topic, join_ref: &channel.join_ref };
                if socket.outbox.push(envelope.system(SystemStatus::Ok, &message)).is_err() {
                    closed.push(*id);
                }
            }
        }
        closed.into_iter().for_each(|id| self.disconnect(id));
    }

    /// Ends a channel and says why: to a join that is not answered yet, in its answer. The socket and its other
    /// channels go on.
    pub(super) fn close_channel(&mut self, id: SocketId, wire_topic: &str, reason: &Reason) {
        let Some(channel) = self.remove_channel(id, wire_topic) else { return };
        let Some(socket) = self.sockets.get(&id) else { return };
        let envelope = Envelope { vsn: socket.vsn, topic: wire_topic, join_ref: &channel.join_ref };
        if let Stage::Pending(pending) = &channel.stage {
            self.metrics.refuse_join(reason.label());
            return self.push(id, envelope.reply_error(&pending.reference, reason));
        }
        self.push(id, envelope.system(SystemStatus::Error, &reason.message()));
        self.push(id, envelope.close());
    }

    /// Forgets a socket. Its session ends by itself.
    pub(super) fn disconnect(&mut self, id: SocketId) {
        let topics =
            |socket: &Socket| socket.channels.iter().map(|channel| channel.wire_topic.clone()).collect();
        let topics: Vec<_> = self.sockets.get(&id).map(topics).unwrap_or_default();
        for wire_topic in topics {
            self.remove_channel(id, &wire_topic);
        }
        self.sockets.remove(&id);
    }

    fn remove_channel(&mut self, id: SocketId, wire_topic: &str) -> Option<Channel> {
        let socket = self.sockets.get_mut(&id)?;
        let index = socket.channels.iter().position(|channel| *channel.wire_topic == *wire_topic)?;
        let channel = socket.channels.swap_remove(index);
        let group = channel.group(socket.vsn);
        self.rooms.leave(&channel.room, &group, id);
        self.metrics.channels.dec();
        let typist = Typist { socket: id, wire_topic: Arc::clone(&channel.wire_topic) };
        if let Some((room, identity)) = self.typing.stop(&typist) {
            self.end_typing(&typist, &room, &identity);
        }
        Some(channel)
    }

    fn channel(&self, id: SocketId, wire_topic: &str) -> Option<&Channel> {
        self.sockets.get(&id)?.find(wire_topic)
    }

    /// The channel that a push names; without one the push is answered with an error.
    fn channel_or_reply(&mut self, id: SocketId, wire_topic: &str, reference: &Ref) -> Option<&Channel> {
        if self.channel(id, wire_topic).is_none() {
            let vsn = self.sockets.get(&id)?.vsn;
            self.push(id, unmatched_topic(vsn, wire_topic, reference));
        }
        self.channel(id, wire_topic)
    }

    pub(super) fn push(&mut self, id: SocketId, frame: crate::protocol::Frame) {
        let Some(socket) = self.sockets.get(&id) else { return };
        if socket.outbox.push(frame).is_err() {
            self.disconnect(id);
        }
    }
}

fn is_typing(event: &str) -> bool {
    event.starts_with("typing:")
}
