//! Sockets and their channels: one channel is one socket joined to one topic. What clients do to them beside joining and
//! sending, and how they end.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::dashboards::Agent;
use super::hub::{ClientInput, Hub, SocketId};
use super::outbox::Outbox;
use super::presence::Attendance;
use super::resume::Cursor;
use super::room::{Gate, GroupKey, RoomKey};
use super::snapshot::{Cut, Pending};
use super::typing::Mouth;
use crate::auth::{Fingerprint, Grants, Identity};
use crate::postgres::Timestamp;
use crate::protocol::{Envelope, Reason, Ref, SystemStatus, Vsn, unmatched_topic};

const REPLICATION_READY: &str = "Replication connection established";

/// How long a channel waits for that before it ends, as in the reference.
pub(super) const REPLICATION_PATIENCE: Duration = Duration::from_secs(60);

/// A socket and the channels it joined.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) vsn: Vsn,
    pub(super) outbox: Arc<Outbox>,
    /// At most a hundred, mostly one to three: looking through them beats hashing.
    pub(super) channels: Vec<Channel>,
    /// What it is to be sent out of the window waits for memory.
    pub(super) is_starved: bool,
}

#[derive(Debug)]
pub(super) struct Channel {
    pub(super) wire_topic: Arc<str>,
    pub(super) room: RoomKey,
    pub(super) join_ref: Ref,
    pub(super) ack: bool,
    pub(super) echo: bool,
    /// Who this is to an organization; None on channels outside `org:`.
    pub(super) identity: Option<Identity>,
    /// What the database's policies allow; None where they do not decide.
    pub(super) grants: Option<Grants>,
    /// Of the token it runs with; API keys are not told apart.
    pub(super) token: Option<Fingerprint>,
    /// When the token ends; API keys do not.
    pub(super) expires_at: Option<SystemTime>,
    /// Asked for a replay, so it is told positions.
    pub(super) resumes: bool,
    /// The attachment to the database whose agents admitted it.
    pub(super) attachment: u64,
    pub(super) stage: Stage,
    pub(super) attendance: Attendance,
    /// It asked to be told when the database streams, and waits for that until then.
    pub(super) replication_due: Option<Instant>,
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
    pub(super) fn gate(&self) -> Gate {
        match self {
            Self::Pending(_) => Gate::Shut,
            Self::CatchingUp(_) => Gate::Lagging,
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

    pub(super) fn may_read_broadcasts(&self) -> bool {
        self.grants.is_none_or(|grants| grants.read_broadcast)
    }

    /// Whether it has what it missed, and gets what is delivered to its room.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.stage, Stage::Behind(_) | Stage::Live)
    }

    /// Whether it has rows of a snapshot that the stream may not have come to yet.
    pub(super) fn has_cut(&self) -> bool {
        match &self.stage {
            Stage::Pending(_) | Stage::Behind(_) => true,
            Stage::CatchingUp(cursor) => cursor.cut.is_some(),
            Stage::Live => false,
        }
    }
}

impl Socket {
    pub(super) fn envelope<'a>(&'a self, channel: &'a Channel) -> Envelope<'a> {
        self.envelope_of(&channel.wire_topic, &channel.join_ref)
    }

    pub(super) fn envelope_of<'a>(&self, topic: &'a str, join_ref: &'a Ref) -> Envelope<'a> {
        Envelope { vsn: self.vsn, topic, join_ref }
    }

    /// Whether a channel is still to be sent something out of the window.
    pub(super) fn is_behind(&self) -> bool {
        self.channels.iter().any(|channel| matches!(channel.stage, Stage::CatchingUp(_)))
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
                self.sockets.insert(id, Socket { vsn, outbox, channels: Vec::new(), is_starved: false });
            }
            ClientInput::Disconnect => {
                self.disconnect(id);
                self.feed_starved();
            }
            ClientInput::Heartbeat { reference } => self.heartbeat(id, &reference),
            ClientInput::Refill => {
                self.refill(id);
                self.feed_starved();
            }
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

    /// Ends what is over by the clock: tokens, typing indicators.
    pub(super) fn tick(&mut self, now: Instant, wall: SystemTime) {
        self.end_tokens(wall);
        let millis = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
        self.window.expire(Timestamp::from_unix_millis(i64::try_from(millis).unwrap_or(i64::MAX)));
        self.measure_window();
        self.feed_starved();
        self.relieve_memory();
        self.roster.expire(now);
        self.tell_who_is_gone(now);
        let is_over = |channel: &&Channel| channel.replication_due.is_some_and(|due| due <= now);
        for (id, wire_topic) in self.channels_where(is_over) {
            self.close_channel(id, &wire_topic, &Reason::ReplicationNotEstablished);
        }
        for (mouth, indicator) in self.typing.expired(now) {
            self.end_typing(mouth.socket, indicator);
        }
    }

    /// Ends every channel of an agent whose row is gone or inactive: of this one, or of all agents.
    pub(super) fn close_unauthorized_agents(&mut self, agent: Option<Agent>) {
        for agent in self.agents_online(agent) {
            if self.agents.get(&agent) != Some(&true) {
                self.close_channels_of(agent, |_| true);
            }
        }
    }

    /// Ends the channels of an agent, or of all, that an earlier attachment admitted.
    pub(super) fn close_agents_of_before(&mut self, agent: Option<Agent>) {
        let attachment = self.attachment;
        for agent in self.agents_online(agent) {
            self.close_channels_of(agent, |channel| channel.attachment < attachment);
        }
    }

    fn agents_online(&self, agent: Option<Agent>) -> Vec<Agent> {
        agent.map_or_else(|| self.dashboards.agents().copied().collect(), |agent| vec![agent])
    }

    fn close_channels_of(&mut self, agent: Agent, wanted: impl Fn(&Channel) -> bool) {
        let (organization, user) = agent;
        let identity = Some(Identity::Agent { organization, user });
        for id in self.dashboards.sockets(&agent) {
            let Some(socket) = self.sockets.get(&id) else { continue };
            let is_gone = |channel: &&Channel| channel.identity == identity && wanted(channel);
            let gone: Vec<_> = socket
                .channels
                .iter()
                .filter(is_gone)
                .map(|channel| Arc::clone(&channel.wire_topic))
                .collect();
            for wire_topic in gone {
                self.close_channel(id, &wire_topic, &Reason::AgentGone);
            }
        }
        if self.agents.get(&agent) != Some(&true) {
            self.tell_who_ended(agent);
        }
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

    /// Tells channels that committed events are missing from what they got. What the window was still to give to one is
    /// gone with them.
    pub(super) fn announce_loss(&mut self, cause: &str, is_hit: impl Fn(&Channel) -> bool) {
        let cause = format!("{cause}; fetch anew what you show");
        let head = self.window.head();
        let from_here = self.id_of(head);
        let mut closed = Vec::new();
        for (id, socket) in &mut self.sockets {
            for channel in socket.channels.iter_mut().filter(|channel| is_hit(channel)) {
                match &mut channel.stage {
                    Stage::Pending(_) => continue,
                    Stage::CatchingUp(cursor) => cursor.position = head,
                    Stage::Behind(_) | Stage::Live => {}
                }
                let envelope =
                    Envelope { vsn: socket.vsn, topic: &channel.wire_topic, join_ref: &channel.join_ref };
                if socket.outbox.push(envelope.replay_incomplete(&cause, &from_here)).is_err() {
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

    pub(super) fn remove_channel(&mut self, id: SocketId, wire_topic: &str) -> Option<Channel> {
        let socket = self.sockets.get_mut(&id)?;
        let index = socket.channels.iter().position(|channel| *channel.wire_topic == *wire_topic)?;
        let channel = socket.channels.swap_remove(index);
        let group = channel.group(socket.vsn);
        self.rooms.leave(&channel.room, &group, id);
        self.metrics.channels.dec();
        self.expiries.remove(channel.expires_at, id, &channel.wire_topic);
        let mouth = Mouth { socket: id, wire_topic: Arc::clone(&channel.wire_topic) };
        for indicator in self.typing.silence(&mouth) {
            self.end_typing(id, indicator);
        }
        let now = Instant::now();
        self.part(&channel, now);
        self.dashboard_closes(channel.identity, id, now);
        self.token_use.leave(channel.token, id);
        Some(channel)
    }

    pub(super) fn channel_mut(&mut self, id: SocketId, wire_topic: &str) -> Option<&mut Channel> {
        self.sockets.get_mut(&id)?.find_mut(wire_topic)
    }

    pub(super) fn channel(&self, id: SocketId, wire_topic: &str) -> Option<&Channel> {
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
