//! Presence of channels: their calls, their limits, and who is told of others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::channel::Channel;
use super::hub::{Hub, SocketId};
use super::presence_memory::Full;
use super::room::Hears;
use super::roster::{Difference, Piece, PresenceId, Progress};
use crate::auth::Identity;
use crate::protocol::{PresenceCall, Reason, Ref};

/// What presence may cost.
#[derive(Clone, Copy, Debug)]
pub struct PresenceLimits {
    /// How long a socket that broke may take to come back before its channels count as gone.
    pub grace: Duration,
    /// Calls of one channel within the time; 0: any number.
    pub calls_max: u32,
    pub calls_time: Duration,
    pub payload_bytes_max: usize,
    /// Memory that all who are present in one room may take, in bytes.
    pub room_bytes_max: usize,
    /// The same of all rooms. An organization may take a quarter of it, and so may all channels outside `org:` together,
    /// so that nobody fills it for others.
    pub bytes_max: usize,
}

/// What a channel has to do with presence.
#[derive(Debug, Default)]
pub(super) struct Attendance {
    /// Asked for by the client, or made up by us.
    pub(super) key: Option<Arc<str>>,
    /// What it tracks.
    pub(super) tracked: Option<PresenceId>,
    /// It asked to be told who is there.
    pub(super) enabled: bool,
    /// What it is told of who comes and goes.
    pub(super) hears: Hears,
    /// It is to be told who is there, once it is live and there is room.
    state_due: bool,
    /// How far it has been told, if that is not all.
    told: Option<Progress>,
    /// A widget that was told whether an agent is there.
    pub(super) knows_status: bool,
    calls: u32,
    calls_since: Option<Instant>,
}

impl Attendance {
    /// The key is kept only where it may name somebody.
    pub(super) fn new(key: Option<&str>, identity: Option<&Identity>, enabled: bool) -> Self {
        let is_named = !matches!(identity, Some(Identity::Agent { .. } | Identity::Visitor { .. }));
        let key = key.filter(|_| is_named).map(Arc::from);
        Self { key, enabled, state_due: enabled, ..Self::default() }
    }

    /// Counts a call. False: that is one too many.
    fn admit(&mut self, limits: &PresenceLimits, now: Instant) -> bool {
        let since = *self.calls_since.get_or_insert(now);
        if now.duration_since(since) >= limits.calls_time {
            (self.calls, self.calls_since) = (0, Some(now));
        }
        self.calls += 1;
        limits.calls_max == 0 || self.calls <= limits.calls_max
    }

    /// Under which key the channel is present. Agents are present as who they are, whatever they ask for: nobody is
    /// believed about that on an organization's channels.
    fn key(&mut self, identity: Option<&Identity>) -> Arc<str> {
        if let Some(Identity::Agent { user, .. }) = identity {
            return user.to_string().into();
        }
        Arc::clone(self.key.get_or_insert_with(|| Uuid::new_v4().to_string().into()))
    }
}

impl Channel {
    /// Visitors are not told which agents are there, so they take no part in presence.
    pub(super) fn may_read_presence(&self) -> bool {
        match (&self.identity, self.grants) {
            (Some(identity), _) => !matches!(identity, Identity::Visitor { .. }),
            (None, Some(grants)) => grants.read_presence,
            (None, None) => true,
        }
    }

    fn may_write_presence(&self) -> bool {
        match (&self.identity, self.grants) {
            (Some(identity), _) => !matches!(identity, Identity::Visitor { .. }),
            (None, Some(grants)) => grants.write_presence,
            (None, None) => true,
        }
    }

    /// Whether the room is one where everybody hears of everybody, as the reference has it for public channels.
    fn is_public(&self) -> bool {
        self.identity.is_none() && !self.room.private
    }
}

impl Hub {
    /// Answers a presence call of a channel.
    pub(super) fn presence_call(
        &mut self,
        id: SocketId,
        wire_topic: &str,
        reference: &Ref,
        call: &PresenceCall,
        within_rate: bool,
        now: Instant,
    ) {
        if self.channel_or_reply(id, wire_topic, reference).is_none() {
            return;
        }
        let limits = self.settings.presence;
        let Some(channel) = self.channel_mut(id, wire_topic) else { return };
        if !channel.attendance.admit(&limits, now) {
            return self.close_channel(id, wire_topic, &Reason::TooManyPresenceCalls);
        }
        let join_ref = channel.join_ref.clone();
        let outcome = match call {
            _ if !within_rate => Err(Some(Reason::TooManyMessages)),
            PresenceCall::Track(members) if members.len() > limits.payload_bytes_max => {
                return self.close_channel(id, wire_topic, &Reason::PresenceTooLarge);
            }
            PresenceCall::NotAnObject => Err(Some(Reason::PresenceNotAnObject)),
            PresenceCall::Nothing => Ok(()),
            PresenceCall::Unknown => Err(None),
            PresenceCall::Track(_) | PresenceCall::Untrack if !channel.may_write_presence() => Err(None),
            PresenceCall::Track(members) => self.track(id, wire_topic, members, now).map_err(Some),
            PresenceCall::Untrack => {
                self.untrack(id, wire_topic, now);
                Ok(())
            }
        };
        let Some(socket) = self.sockets.get(&id) else { return };
        let envelope = socket.envelope_of(wire_topic, &join_ref);
        let reply = match outcome {
            Ok(()) => envelope.reply_ok(reference, "{}"),
            Err(Some(reason)) => envelope.reply_error(reference, &reason),
            Err(None) => envelope.reply_refused(reference),
        };
        self.push(id, reply);
    }

    fn track(&mut self, id: SocketId, wire_topic: &str, members: &str, now: Instant) -> Result<(), Reason> {
        let Some(socket) = self.sockets.get_mut(&id) else { return Ok(()) };
        let Some(channel) = socket.find_mut(wire_topic) else { return Ok(()) };
        let key = channel.attendance.key(channel.identity.as_ref());
        let held = channel.attendance.tracked;
        let tracked = self.roster.track(&channel.room, held, &key, members, now).map_err(Reason::from)?;
        channel.attendance.tracked = Some(tracked);
        if let Some(other) = held.filter(|held| *held != tracked) {
            // The channel has become somebody else's, by another token.
            self.roster.untrack(&channel.room, other, now);
        }
        // Who tracks without having asked for presence hears of changes from here on, without a state.
        if !channel.attendance.state_due {
            self.begin_to_hear(id, wire_topic);
        }
        self.measure_presence();
        Ok(())
    }

    fn untrack(&mut self, id: SocketId, wire_topic: &str, now: Instant) {
        let Some(channel) = self.channel_mut(id, wire_topic) else { return };
        let (room, tracked) = (channel.room.clone(), channel.attendance.tracked.take());
        if let Some(tracked) = tracked {
            self.roster.untrack(&room, tracked, now);
        }
    }

    /// A channel begins: public ones hear of who comes and goes, and who asked for it is told who is there.
    pub(super) fn begin_presence(&mut self, id: SocketId) {
        let Some(channel) = self.sockets.get(&id).and_then(|socket| socket.channels.last()) else { return };
        if channel.is_public() && !channel.attendance.enabled {
            let wire_topic = Arc::clone(&channel.wire_topic);
            self.begin_to_hear(id, &wire_topic);
        }
    }

    /// Tells a socket's channels who is there, as soon as they are live and there is room. What changes afterwards
    /// follows as differences to exactly that.
    pub(super) fn tell_states(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get(&id) else { return };
        let is_due = |channel: &&Channel| channel.attendance.state_due && channel.is_live();
        let due: Vec<_> =
            socket.channels.iter().filter(is_due).map(|channel| Arc::clone(&channel.wire_topic)).collect();
        if !due.is_empty() && self.waits_for_memory(id) {
            return;
        }
        for wire_topic in due {
            while self.tell_piece(id, &wire_topic) {}
        }
    }

    /// Tells a channel a piece of who is there. Whether there is more, and may be room for it.
    fn tell_piece(&mut self, id: SocketId, wire_topic: &str) -> bool {
        let Some(socket) = self.sockets.get_mut(&id) else { return false };
        let outbox = Arc::clone(&socket.outbox);
        let Some(channel) = socket.find_mut(wire_topic) else { return false };
        if !channel.may_read_presence() {
            (channel.attendance.state_due, channel.attendance.told) = (false, None);
            return false;
        }
        let told = channel.attendance.told;
        if told.is_some() && !outbox.has_room_for_replay() {
            outbox.request_refill();
            return false;
        }
        let Piece { metas, rest } = self.roster.state(&channel.room, told);
        if !outbox.has_room_for(metas.len()) {
            outbox.request_refill();
            return false;
        }
        (channel.attendance.state_due, channel.attendance.told) = (rest.is_some(), rest);
        let join_ref = channel.join_ref.clone();
        let envelope = socket.envelope_of(wire_topic, &join_ref);
        let frame = match told {
            None => Some(envelope.presence_state(&metas)),
            // All of those have changed or gone meanwhile, and that was told.
            Some(_) if *metas == *"{}" => None,
            Some(_) => Some(envelope.presence_diff(&metas, "{}")),
        };
        frame.into_iter().for_each(|frame| self.push(id, frame));
        self.begin_to_hear(id, wire_topic);
        rest.is_some()
    }

    /// A channel could not be told who came and went: it is told who is there once it is live.
    pub(super) fn tell_state_later(&mut self, id: SocketId, wire_topic: &str) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        let vsn = socket.vsn;
        let Some(channel) = socket.find_mut(wire_topic) else { return };
        let attendance = &mut channel.attendance;
        (attendance.hears, attendance.state_due, attendance.told) = (Hears::Nothing, true, None);
        self.rooms.hear_presence(&channel.room, &channel.group(vsn), id, Hears::Nothing);
    }

    /// Tells a channel what of a difference it can know.
    fn tell_part(&mut self, id: SocketId, wire_topic: &str, difference: &Difference) {
        let Some(socket) = self.sockets.get(&id) else { return };
        let Some(channel) = socket.find(wire_topic) else { return };
        let Some(told) = channel.attendance.told.filter(|_| channel.is_live()) else {
            return self.tell_state_later(id, wire_topic);
        };
        let leaves = difference.leaves_known_to(told);
        let frame = socket.envelope_of(wire_topic, &Ref::Null).presence_diff(&difference.joins, &leaves);
        self.push(id, frame);
    }

    fn begin_to_hear(&mut self, id: SocketId, wire_topic: &str) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        let vsn = socket.vsn;
        let Some(channel) = socket.find_mut(wire_topic).filter(|channel| channel.may_read_presence()) else {
            return;
        };
        let hears = if channel.attendance.told.is_some() { Hears::Partly } else { Hears::Everything };
        channel.attendance.hears = hears;
        self.rooms.hear_presence(&channel.room, &channel.group(vsn), id, hears);
    }

    /// The channel is gone, in whatever way: who comes back in a moment was not away.
    pub(super) fn part(&mut self, channel: &Channel, now: Instant) {
        if let Some(tracked) = channel.attendance.tracked {
            self.roster.part(&channel.room, tracked, now);
        }
    }

    /// The channel ended on purpose, so that there is nothing to wait for.
    pub(super) fn end_presence(&mut self, channel: &Channel, now: Instant) {
        if let Some(tracked) = channel.attendance.tracked {
            self.roster.untrack(&channel.room, tracked, now);
        }
    }

    /// Tells rooms what has changed.
    pub(super) fn tell_differences(&mut self, now: Instant) {
        for difference in self.roster.differences(now) {
            let Difference { room, joins, leaves, .. } = &difference;
            let mut delivery = self.rooms.deliver_presence(room, joins, leaves);
            self.metrics.presence_differences.inc();
            let partly = std::mem::take(&mut delivery.partly);
            self.settle(delivery);
            partly.iter().for_each(|(id, wire_topic)| self.tell_part(*id, wire_topic, &difference));
        }
        self.measure_presence();
    }

    fn measure_presence(&self) {
        self.metrics.presences.set(i64::try_from(self.roster.len()).unwrap_or(i64::MAX));
        self.metrics.presence_bytes.set(i64::try_from(self.roster.bytes()).unwrap_or(i64::MAX));
    }
}

impl From<Full> for Reason {
    fn from(full: Full) -> Self {
        match full {
            Full::Room => Self::PresenceChannelFull,
            Full::Account => Self::PresenceFull,
        }
    }
}
