//! Announcements to channels: that the database streams, who is there, and that events are missing.

use std::sync::Arc;

use super::Hub;
use crate::fanout::channel::{Channel, Stage};
use crate::fanout::socket_id::SocketId;
use crate::postgres::Xid;
use crate::protocol::{Envelope, SystemStatus};
use crate::route::{Position, Template};

const REPLICATION_READY: &str = "Replication connection established";

pub(super) const EMPTIED: &str = "rows were removed all at once (TRUNCATE); fetch anew what you show";

impl Hub {
    /// Tells the channels that asked for it that the database streams.
    pub(super) fn tell_replication_ready(&mut self) {
        let waits = |channel: &&Channel| channel.replication_due.is_some();
        for (id, _) in self.channels_where(waits) {
            self.tell_what_is_due(id);
        }
    }

    /// Tells the channels of a socket that are live what follows a join, in the reference's order: that the database
    /// streams, and who is there. Widgets are then told whether an agent is online.
    pub(super) fn tell_what_is_due(&mut self, id: SocketId) {
        let is_ready = self.is_ready;
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

    /// Tells channels that committed events are missing from what they got. What the window was still to give to one is
    /// gone with them.
    pub(super) fn announce_loss(&mut self, cause: &str, is_hit: impl Fn(&Channel) -> bool) {
        let cause = format!("{cause}; fetch anew what you show");
        let head = self.window.head();
        let from_here = self.id_of(head);
        let mut notices = Vec::new();
        for (id, socket) in &mut self.sockets {
            for channel in socket.channels.iter_mut().filter(|channel| is_hit(channel)) {
                match &mut channel.stage {
                    Stage::Pending(_) => continue,
                    Stage::CatchingUp(cursor) => cursor.position = head,
                    Stage::Behind(_) | Stage::Live => {}
                }
                let envelope =
                    Envelope { vsn: socket.vsn, topic: &channel.wire_topic, join_ref: &channel.join_ref };
                notices.push((*id, envelope.replay_incomplete(&cause, &from_here)));
            }
        }
        self.push_all(notices);
    }

    /// Tells the channels to which rows of emptied tables went, at this place among their events. Those that are not live
    /// learn of it when they come to it; a snapshot that shows the change shows the tables empty.
    pub(super) fn announce_emptied(
        &mut self,
        channels: &[Template],
        public: &[Template],
        xid: Xid,
        sent: Position,
    ) {
        let from_here = self.id_of(self.window.head());
        let mut notices = Vec::new();
        for (id, socket) in &self.sockets {
            for channel in &socket.channels {
                let is_behind = match &channel.stage {
                    Stage::Pending(_) | Stage::CatchingUp(_) => true,
                    Stage::Behind(cut) => cut.snapshot.shows(xid),
                    Stage::Live => false,
                };
                let topic = &channel.room.topic;
                let templates = if channel.is_public() { public } else { channels };
                let is_deaf = is_behind || !channel.may_read_broadcasts();
                if is_deaf || !templates.iter().any(|template| template.can_address(topic)) {
                    continue;
                }
                let notice = socket.envelope(channel).replay_incomplete(EMPTIED, &from_here);
                notices.push((*id, Arc::clone(&channel.wire_topic), notice));
            }
        }
        self.offer_all(notices, sent);
    }
}
