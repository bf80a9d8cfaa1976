//! Ends of channels: the client leaves, the relay closes the channel, or the socket is gone.

use std::sync::Arc;
use std::time::Instant;

use super::Hub;
use crate::fanout::channel::{Channel, Socket, Stage};
use crate::fanout::origin::Origin;
use crate::fanout::room::RoomKey;
use crate::fanout::socket_id::SocketId;
use crate::protocol::{Envelope, Reason, Ref, SystemStatus, Vsn};

impl Hub {
    pub(super) fn leave(&mut self, id: SocketId, wire_topic: &str, join_ref: &Ref, reference: &Ref) {
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

    pub(super) fn close_room(&mut self, room: &RoomKey, reason: &Reason) {
        for (id, wire_topic) in self.rooms.members(room) {
            self.close_channel(id, &wire_topic, reason);
        }
    }

    /// Ends a channel and says why: to a join that is not answered yet, in its answer. The socket and its other
    /// channels go on.
    pub(super) fn close_channel(&mut self, id: SocketId, wire_topic: &str, reason: &Reason) {
        let Some(channel) = self.remove_channel(id, wire_topic) else { return };
        self.end_presence(&channel, Instant::now());
        let Some(socket) = self.sockets.get(&id) else { return };
        let envelope = Envelope { vsn: socket.vsn, topic: wire_topic, join_ref: &channel.join_ref };
        if let Stage::Pending(pending) = &channel.stage {
            self.metrics.joins_refused.count(reason.label());
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
        let origin = Origin::Channel { socket: id, wire_topic: Arc::clone(&channel.wire_topic) };
        for indicator in self.typing.silence(&origin) {
            self.end_typing(&origin, indicator);
        }
        let now = Instant::now();
        self.part(&channel, now);
        self.agent_closes(channel.identity, id, now);
        self.visitor_goes(id, channel.identity, channel.attendance.visit, now);
        self.token_use.leave(channel.token, id);
        Some(channel)
    }
}
