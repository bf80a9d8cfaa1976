//! What clients may do to the hub: join, leave, renew a token, send. One channel is one socket joined to one topic.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tracing::debug;
use uuid::Uuid;

use super::hub::{ClientInput, Hub, Join, SocketId};
use super::outbox::Outbox;
use super::presence::Attendance;
use super::replay::{Opening, ReplayRequest};
use super::resume::{Cursor, replay_response};
use super::room::{Except, Gate, GroupKey, RoomKey};
use super::snapshot::{Cut, Pending};
use super::typing::Typist;
use super::window::Kept;
use crate::auth::{self, Claims, Credential, Fingerprint, Grants, Identity, TokenError};
use crate::decode::Timestamp;
use crate::protocol::{
    Broadcast, Encoding, Envelope, Reason, Ref, SystemStatus, UserBroadcast, Vsn, unmatched_topic,
};
use crate::route::{Topic, strip_wire_prefix};

/// Largest payload of a typing indicator, in bytes.
const TYPING_BYTES_MAX: usize = 1024;

const REPLICATION_READY: &str = "Replication connection established";

/// How long a channel waits for that before it ends, as in the reference.
const REPLICATION_PATIENCE: Duration = Duration::from_secs(60);

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
    pub(super) identity: Option<Identity>,
    /// What the database's policies allow; None where they do not decide.
    pub(super) grants: Option<Grants>,
    /// Of the token it runs with; API keys are not told apart.
    token: Option<Fingerprint>,
    /// When the token ends; API keys do not.
    expires_at: Option<SystemTime>,
    /// Asked for a replay, so it is told positions.
    pub(super) resumes: bool,
    /// The attachment to the database whose agents admitted it.
    attachment: u64,
    pub(super) stage: Stage,
    pub(super) attendance: Attendance,
    /// It asked to be told when the database streams, and waits for that until then.
    replication_due: Option<Instant>,
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

    fn may_read_broadcasts(&self) -> bool {
        self.grants.is_none_or(|grants| grants.read_broadcast)
    }

    /// Whether it has what it missed, and gets what is delivered to its room.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.stage, Stage::Behind(_) | Stage::Live)
    }
}

impl Socket {
    pub(super) fn envelope<'a>(&'a self, channel: &'a Channel) -> Envelope<'a> {
        self.envelope_of(&channel.wire_topic, &channel.join_ref)
    }

    pub(super) fn envelope_of<'a>(&self, topic: &'a str, join_ref: &'a Ref) -> Envelope<'a> {
        Envelope { vsn: self.vsn, topic, join_ref }
    }

    pub(super) fn find_mut(&mut self, wire_topic: &str) -> Option<&mut Channel> {
        self.channels.iter_mut().find(|channel| *channel.wire_topic == *wire_topic)
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
            ClientInput::AccessToken { wire_topic, reference, credential, grants } => {
                self.renew(id, &wire_topic, &reference, credential, grants);
            }
            ClientInput::Broadcast { wire_topic, reference, broadcast, within_rate } => {
                self.broadcast(id, &wire_topic, &reference, &broadcast, within_rate);
            }
            ClientInput::Presence { wire_topic, reference, call, within_rate } => {
                self.presence_call(id, &wire_topic, &reference, &call, within_rate, Instant::now());
            }
            ClientInput::Other { wire_topic, reference } => {
                self.channel_or_reply(id, &wire_topic, &reference);
            }
        }
    }

    fn join(&mut self, id: SocketId, join: Join) {
        let old = self.remove_channel(id, &join.wire_topic);
        let outcome = self.admit(id, &join).and_then(|(mut channel, opening)| {
            if let Some(Opening::Rows(wanted)) = opening {
                let credential = join.credential.clone().map_err(Reason::from)?;
                let topic = channel.room.topic.clone();
                let pending = self.request_snapshot(id, join.reference.clone(), topic, wanted, credential)?;
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
                        let is_told = |kept: &&Kept| kept.encoding == Encoding::Json || vsn == Vsn::V2;
                        let events = self.window.after(&channel.room.topic, start.position);
                        let count = events.filter(is_told).count();
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
        let topic = Topic::parse(name).map_err(Reason::InvalidTopic)?;
        let payload = join.payload.as_ref().map_err(Reason::clone)?;
        let joined = self.sockets.get(&id).map_or(0, |socket| socket.channels.len());
        if joined >= self.settings.channels_per_socket_max {
            return Err(Reason::TooManyChannels);
        }
        let credential = join.credential.as_ref().map_err(|error| Reason::from(error.clone()))?;
        let token = fingerprint(credential);
        let sockets_max = self.settings.sockets_per_token_max;
        if token.is_some_and(|token| !self.token_use.admits(token, id, sockets_max)) {
            return Err(Reason::TooManySockets);
        }
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
            attendance: Attendance::new(payload.presence_key.as_deref(), payload.presence_enabled),
            replication_due: payload.replication_ready.then(|| Instant::now() + REPLICATION_PATIENCE),
        };
        Ok((channel, opening))
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
            self.end_presence(&channel, Instant::now());
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
        grants: Option<Result<Grants, Reason>>,
    ) {
        let Some(channel) = self.channel_or_reply(id, wire_topic, reference) else { return };
        let RoomKey { topic, private } = channel.room.clone();
        let (before, enabled) = (channel.grants.unwrap_or_default(), channel.attendance.enabled);
        let renewed = credential.map_err(Reason::from).and_then(|credential| {
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
                channel.expires_at = credential.expires_at();
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
                channel.attendance.hears &= channel.may_read_presence();
                self.rooms.hear_presence(&channel.room, &after, id, channel.attendance.hears);
                self.dashboard_opens(identity, id);
                self.dashboard_closes(was, Instant::now());
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
        // As in the reference: who is not allowed to send is not told so.
        let ack = channel.ack && !matches!(refusal, Some(Reason::Unauthorized { .. }));
        let join_ref = channel.join_ref.clone();
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
        if !within_rate {
            return Some(Reason::TooManyMessages);
        }
        if broadcast.payload.len() > self.payload_bytes_max(channel.identity.as_ref(), &broadcast.event) {
            return Some(Reason::PayloadTooLarge);
        }
        if channel.grants.is_some_and(|grants| !grants.write_broadcast) {
            return Some(Reason::Unauthorized { topic: channel.room.topic.to_string() });
        }
        let identity = channel.identity.as_ref()?;
        auth::may_send(identity, &broadcast.event).err().map(Reason::from)
    }

    /// Largest payload of an event, in bytes; `identity` is None outside `org:`.
    pub(super) fn payload_bytes_max(&self, identity: Option<&Identity>, event: &str) -> usize {
        match identity {
            Some(_) if is_typing(event) => TYPING_BYTES_MAX,
            Some(_) => self.settings.org_payload_bytes_max,
            None => self.settings.payload_bytes_max,
        }
    }

    /// Passes an admitted broadcast on.
    fn relay(&mut self, id: SocketId, wire_topic: &str, broadcast: &UserBroadcast) {
        let Some(channel) = self.channel(id, wire_topic) else { return };
        let room = channel.room.clone();
        let Some(identity) = channel.identity else {
            let except = if channel.echo { Except::Nobody } else { Except::Channel(id, wire_topic) };
            return self.deliver_of_client(&room, |_| broadcast.stamped(None), except);
        };
        if Self::is_typing_on(&room, broadcast) {
            let typist = Typist { socket: id, wire_topic: Arc::clone(&channel.wire_topic) };
            return self.relay_typing(typist, &room, identity, broadcast, Instant::now());
        }
        let except = if channel.echo { Except::Nobody } else { Except::Channel(id, wire_topic) };
        self.deliver_stamped(&room, &identity, broadcast, except);
    }

    /// Whether a broadcast is typing in a conversation, which the server ends if nobody else does.
    pub(super) fn is_typing_on(room: &RoomKey, broadcast: &UserBroadcast) -> bool {
        is_typing(&broadcast.event) && room.topic.sibling().is_some()
    }

    pub(super) fn relay_typing(
        &mut self,
        typist: Typist,
        room: &RoomKey,
        identity: Identity,
        broadcast: &UserBroadcast,
        now: Instant,
    ) {
        let from = typist.socket;
        if broadcast.event == "typing:start" {
            self.typing.start(typist, room.clone(), identity, now);
        } else {
            self.typing.stop(&typist);
        }
        self.deliver_typing(room, from, &identity, broadcast);
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

    pub(super) fn deliver_stamped(
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
        self.deliver_of_client(room, stamped, except);
    }

    /// Delivers what a client sent, unless that is more than the whole relay may carry a second: then, as in the
    /// reference, the receivers' channels end.
    pub(super) fn deliver_of_client<'b>(
        &mut self,
        room: &RoomKey,
        broadcast: impl Fn(/* to visitors */ bool) -> Broadcast<'b>,
        except: Except<'_>,
    ) {
        let now = Instant::now();
        if self.event_rate.is_over(now) {
            let receivers = self.rooms.members(room).into_iter();
            for (id, wire_topic) in receivers.filter(|(id, wire_topic)| !except.is(*id, wire_topic)) {
                self.close_channel(id, &wire_topic, &Reason::TooManyMessages);
            }
            return;
        }
        let delivery = self.rooms.deliver_by_audience(room, broadcast, except);
        self.event_rate.add(1 + delivery.delivered, now);
        self.settle(delivery);
    }

    /// Ends what is over by the clock: typing indicators and tokens.
    pub(super) fn tick(&mut self, now: Instant, wall: SystemTime) {
        let millis = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
        self.window.expire(Timestamp::from_unix_millis(i64::try_from(millis).unwrap_or(i64::MAX)));
        self.measure_window();
        self.roster.expire(now);
        self.tell_who_is_gone(now);
        let is_over = |channel: &&Channel| channel.replication_due.is_some_and(|due| due <= now);
        for (id, wire_topic) in self.channels_where(is_over) {
            self.close_channel(id, &wire_topic, &Reason::ReplicationNotEstablished);
        }
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
        self.tell_who_is_gone(Instant::now());
    }

    fn channels_where(&self, wanted: impl Fn(&&Channel) -> bool) -> Vec<(SocketId, Arc<str>)> {
        let of_socket = |(id, socket): (&SocketId, &Socket)| {
            let channels = socket.channels.iter().filter(&wanted);
            channels.map(|channel| (*id, Arc::clone(&channel.wire_topic))).collect::<Vec<_>>()
        };
        self.sockets.iter().flat_map(of_socket).collect()
    }

    /// Tells the channels that asked for it that the database streams.
    pub(super) fn tell_replication_ready(&mut self) {
        let waits = |channel: &&Channel| channel.replication_due.is_some();
        for (id, _) in self.channels_where(waits) {
            self.tell_what_is_due(id);
        }
    }

    /// What follows a join as soon as the channel is live, in the reference's order: that the database streams, who is
    /// there; and to a widget, whether an agent is.
    pub(super) fn tell_what_is_due(&mut self, id: SocketId) {
        let is_ready = *self.ready.borrow();
        let waits = |channel: &&mut Channel| channel.is_live() && channel.replication_due.is_some();
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        let vsn = socket.vsn;
        let mut frames = Vec::new();
        for channel in socket.channels.iter_mut().filter(waits).filter(|_| is_ready) {
            channel.replication_due = None;
            let envelope = Envelope { vsn, topic: &channel.wire_topic, join_ref: &channel.join_ref };
            frames.push(envelope.system(SystemStatus::Ok, REPLICATION_READY));
        }
        frames.into_iter().for_each(|frame| self.push(id, frame));
        self.tell_states(id);
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        let mut widgets = Vec::new();
        for channel in socket.channels.iter_mut().filter(|channel| channel.is_live() && channel.is_widget()) {
            if !std::mem::replace(&mut channel.attendance.knows_status, true) {
                widgets.push(Arc::clone(&channel.wire_topic));
            }
        }
        widgets.iter().for_each(|wire_topic| self.tell_widget(id, wire_topic));
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
        self.end_presence(&channel, Instant::now());
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
        let now = Instant::now();
        self.part(&channel, now);
        self.dashboard_closes(channel.identity, now);
        self.token_use.leave(channel.token, id);
        Some(channel)
    }

    pub(super) fn channel_mut(&mut self, id: SocketId, wire_topic: &str) -> Option<&mut Channel> {
        self.sockets.get_mut(&id)?.find_mut(wire_topic)
    }

    fn channel(&self, id: SocketId, wire_topic: &str) -> Option<&Channel> {
        self.sockets.get(&id)?.find(wire_topic)
    }

    /// The channel that a push names; without one the push is answered with an error.
    pub(super) fn channel_or_reply(
        &mut self,
        id: SocketId,
        wire_topic: &str,
        reference: &Ref,
    ) -> Option<&Channel> {
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

fn fingerprint(credential: &Credential) -> Option<Fingerprint> {
    credential.claims().map(|claims: &Claims| claims.fingerprint)
}

fn is_typing(event: &str) -> bool {
    event.starts_with("typing:")
}
