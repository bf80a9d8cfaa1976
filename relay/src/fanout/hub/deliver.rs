//! The way to the sockets.

use std::collections::VecDeque;

use super::Hub;
use crate::fanout::channel::{Channel, Socket, Stage};
use crate::fanout::cursor::Held;
use crate::fanout::room::Delivery;
use crate::fanout::socket_id::SocketId;
use crate::protocol::{Frame, Ref, unmatched_topic};

impl Hub {
    pub(super) fn push(&mut self, id: SocketId, frame: Frame) {
        let Some(socket) = self.sockets.get(&id) else { return };
        if socket.outbox.push(frame).is_err() {
            self.disconnect(id);
        }
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

    /// Counts a delivery, forgets the sockets that could not take it, and keeps it for those that are not that far.
    pub(super) fn settle(&mut self, delivery: Delivery) {
        self.settle_held(delivery, false);
    }

    /// The same, where what has to wait may be lost.
    pub(super) fn settle_held(&mut self, delivery: Delivery, is_expendable: bool) {
        self.metrics.deliveries.inc_by(delivery.delivered);
        for socket in delivery.closed {
            self.disconnect(socket);
        }
        for (socket, wire_topic, frame) in delivery.held {
            self.hold(socket, &wire_topic, frame, is_expendable);
        }
        for (socket, wire_topic) in delivery.untold {
            self.tell_state_later(socket, &wire_topic);
        }
    }

    /// Keeps something that is no event until the events before it have been sent. There is room for a quarter of an
    /// outbox: then the oldest gives way that may be lost, and if there is none, the socket is closed.
    pub(super) fn hold(&mut self, id: SocketId, wire_topic: &str, frame: Frame, is_expendable: bool) {
        let after = self.window.head();
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        let frame = socket.outbox.unread().count(frame);
        let Some(channel) = socket.find_mut(wire_topic) else { return };
        let Stage::CatchingUp(cursor) = &mut channel.stage else { return };
        cursor.held.push_back(Held { after, frame, is_expendable });
        let Socket { outbox, channels, .. } = socket;
        let mut queues: Vec<&mut VecDeque<Held>> = channels.iter_mut().filter_map(Channel::held).collect();
        let held = queues.iter().flat_map(|held| held.iter());
        let (frames, bytes) =
            held.fold((0, 0), |(frames, bytes), held| (frames + 1, bytes + held.frame.len()));
        if outbox.may_hold(frames, bytes) {
            return;
        }
        let oldest = queues.iter_mut().filter_map(|queue| {
            let index = queue.iter().position(|held| held.is_expendable)?;
            Some((queue[index].after, index, queue))
        });
        match oldest.min_by_key(|(after, ..)| *after) {
            Some((_, index, queue)) => {
                queue.remove(index);
                self.metrics.drop_message("lagging");
            }
            None => {
                outbox.overflow();
                self.disconnect(id);
            }
        }
    }
}
