//! Presence of channels: their calls, their limits, and who is told of others.

use std::sync::Arc;
use std::time::Instant;

use super::Hub;
use crate::fanout::channel::Channel;
use crate::fanout::room::Hears;
use crate::fanout::roster::{Difference, Full, Piece};
use crate::fanout::socket_id::SocketId;
use crate::protocol::{PresenceCall, Reason, Ref};

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
        // A channel that tracks without having asked for presence is told of changes from here on, but no state.
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
    pub(super) fn tell_part(&mut self, id: SocketId, wire_topic: &str, difference: &Difference) {
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
            self.metrics.presence_differences.inc();
            self.deliver_difference(&difference);
        }
        self.measure_presence();
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
