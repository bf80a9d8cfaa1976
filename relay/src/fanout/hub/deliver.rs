//! The one way out: every frame that is queued for a socket is queued by this file.
//!
//! What goes to a room is encoded once for each of its groups. A frame that the window can give again is *offered*: a
//! socket without room for it goes on from the window. Everything else is *pushed*: a socket without room for it is
//! closed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::Hub;
use crate::fanout::channel::{Channel, Socket, Stage};
use crate::fanout::cursor::Held;
use crate::fanout::origin::Except;
use crate::fanout::outbox::{Offered, Outbox, Share};
use crate::fanout::room::{Group, Hears, Member, RoomKey, Valve};
use crate::fanout::roster::Difference;
use crate::fanout::socket_id::SocketId;
use crate::postgres::Xid;
use crate::protocol::{Broadcast, Envelope, Frame, Reason, Ref, encode_broadcast};
use crate::route::{Position, Sight};

/// What is delivered to a room.
#[derive(Clone, Copy, Debug)]
enum Matter {
    /// An event of this transaction.
    Event { xid: Xid, /* by the window */ is_kept: bool },
    /// No event of the database: it is sent once, and the window does not keep it.
    Ephemeral,
}

impl Matter {
    /// Whether a valve lets it through, now or later.
    fn passes(self, valve: &Valve) -> bool {
        match (valve, self) {
            (Valve::Shut, _) | (Valve::Lagging, Self::Event { .. }) => false,
            (Valve::Behind(cut), Self::Event { xid, .. }) => !cut.snapshot.shows(xid),
            (Valve::Lagging | Valve::Behind(_), Self::Ephemeral) | (Valve::Open, _) => true,
        }
    }
}

/// The outcome of a delivery.
#[derive(Debug, Default)]
struct Delivery {
    /// Members that were looked at, whether or not they got something.
    looked_at: usize,
    /// Frames queued.
    delivered: u64,
    /// Sockets whose outbox is closed: they are to be forgotten.
    closed: Vec<SocketId>,
    /// Channels whose outbox has no room for more events: they are to go on from the window.
    lagging: Vec<(SocketId, Arc<str>)>,
    /// Channels that go on from the window, and what is to reach them in its place among the events.
    held: Vec<(SocketId, Arc<str>, Frame)>,
}

impl Delivery {
    fn push(&mut self, id: SocketId, outbox: &Outbox, frame: Frame) {
        match outbox.push(frame) {
            Ok(()) => self.delivered += 1,
            Err(_) => self.closed.push(id),
        }
    }

    /// Queues a frame that the window can give again.
    fn offer(&mut self, id: SocketId, wire_topic: &Arc<str>, outbox: &Outbox, frame: Frame) {
        match outbox.offer(frame, Share::ThreeQuarters) {
            Offered::Queued => self.delivered += 1,
            Offered::Full => self.lagging.push((id, Arc::clone(wire_topic))),
            Offered::Closed => self.closed.push(id),
        }
    }
}

/// Queues a frame out of the window, for a channel that goes on from there.
pub(super) fn offer_again(outbox: &Outbox, frame: Frame) -> Offered {
    outbox.offer(frame, Share::Portion)
}

impl Hub {
    /// Queues a frame for one socket, and forgets it if it cannot take that.
    pub(super) fn push(&mut self, id: SocketId, frame: Frame) {
        let Some(socket) = self.sockets.get(&id) else { return };
        if socket.outbox.push(frame).is_err() {
            self.disconnect(id);
        }
    }

    /// The same for many frames. Sockets are forgotten once all frames are queued.
    pub(super) fn push_all(&mut self, frames: Vec<(SocketId, Frame)>) {
        let mut delivery = Delivery::default();
        for (id, frame) in frames {
            if let Some(socket) = self.sockets.get(&id) {
                delivery.push(id, &socket.outbox, frame);
            }
        }
        delivery.closed.into_iter().for_each(|id| self.disconnect(id));
    }

    /// Queues frames, each in its place among the events of a channel. `sent`: what channels that are live have been sent.
    pub(super) fn offer_all(&mut self, frames: Vec<(SocketId, Arc<str>, Frame)>, sent: Position) {
        let mut delivery = Delivery::default();
        for (id, wire_topic, frame) in frames {
            let Some(socket) = self.sockets.get(&id) else { continue };
            match socket.find(&wire_topic).is_some_and(|channel| channel.room.has_history()) {
                true => delivery.offer(id, &wire_topic, &socket.outbox, frame),
                false => delivery.push(id, &socket.outbox, frame),
            }
        }
        delivery.lagging.iter().for_each(|(id, wire_topic)| self.lag(*id, wire_topic, sent));
        delivery.closed.into_iter().for_each(|id| self.disconnect(id));
    }

    /// Delivers an event of a transaction to everybody in a room whose snapshot does not show it already, and whom gates
    /// let see it. `sent`: what channels that are live had been sent before its change.
    pub(super) fn deliver_event(
        &mut self,
        room: &RoomKey,
        broadcast: &Broadcast<'_>,
        xid: Xid,
        sight: Option<&Sight>,
        sent: Position,
    ) {
        let matter = Matter::Event { xid, is_kept: room.has_history() };
        let audience = sight.map(|sight| self.rooms.audience(room, sight));
        let mut delivery = self.distribute(room, |_| *broadcast, Except::Nobody, matter, audience.as_deref());
        let lagging = std::mem::take(&mut delivery.lagging);
        self.work += delivery.looked_at;
        self.settle(delivery, false);
        lagging.iter().for_each(|(id, wire_topic)| self.lag(*id, wire_topic, sent));
    }

    /// Delivers an ephemeral broadcast of the relay itself.
    pub(super) fn deliver_ephemeral(
        &mut self,
        room: &RoomKey,
        broadcast: &Broadcast<'_>,
        except: Except<'_>,
    ) {
        let delivery = self.distribute(room, |_| *broadcast, except, Matter::Ephemeral, None);
        self.settle(delivery, false);
    }

    /// Delivers a client's broadcast. If the whole relay carries more events a second than it may, the receivers' channels
    /// end instead, as in the reference.
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
        // A client that was told that somebody types must hear that it is over; the rest are moments that pass.
        let is_expendable = broadcast(false).event != "typing:stop";
        let delivery = self.distribute(room, broadcast, except, Matter::Ephemeral, None);
        self.event_rate.add(1 + delivery.delivered + delivery.held.len() as u64, now);
        self.settle(delivery, is_expendable);
    }

    /// Tells the members of a room who came and went.
    pub(super) fn deliver_difference(&mut self, difference: &Difference) {
        let Difference { room, joins, leaves, .. } = difference;
        let mut delivery = Delivery::default();
        let (mut untold, mut partly) = (Vec::new(), Vec::new());
        let is_told =
            |member: &Member| member.hears_presence != Hears::Nothing && !matches!(member.valve, Valve::Shut);
        for Group { key, members } in self.rooms.groups(room) {
            let envelope = Envelope { vsn: key.vsn, topic: &key.wire_topic, join_ref: &Ref::Null };
            let mut told = members.iter().filter(|(_, member)| is_told(member)).peekable();
            if told.peek().is_none() {
                continue;
            }
            let frame = envelope.presence_diff(joins, leaves);
            for (id, member) in told {
                match member.valve {
                    _ if member.hears_presence == Hears::Partly => {
                        partly.push((*id, Arc::clone(&key.wire_topic)));
                    }
                    // However much changes meanwhile, one state says it all.
                    Valve::Lagging => untold.push((*id, Arc::clone(&key.wire_topic))),
                    _ => delivery.push(*id, &member.outbox, frame.clone()),
                }
            }
        }
        self.settle(delivery, false);
        untold.iter().for_each(|(id, wire_topic)| self.tell_state_later(*id, wire_topic));
        partly.iter().for_each(|(id, wire_topic)| self.tell_part(*id, wire_topic, difference));
    }

    /// Queues a broadcast for the members of a room. It is encoded once for each group. `audience`: which of the room's
    /// views see it, if not all.
    fn distribute<'b>(
        &self,
        room: &RoomKey,
        broadcast: impl Fn(/* to visitors */ bool) -> Broadcast<'b>,
        except: Except<'_>,
        matter: Matter,
        audience: Option<&[bool]>,
    ) -> Delivery {
        let mut delivery = Delivery::default();
        for Group { key, members } in self.rooms.groups(room) {
            delivery.looked_at += members.len();
            let hears = |(id, member): &(&SocketId, &Member)| {
                member.hears_broadcasts
                    && !except.is(**id, &key.wire_topic)
                    && matter.passes(&member.valve)
                    && audience.is_none_or(|audience| member.is_in(audience))
            };
            let mut members = members.iter().filter(hears).peekable();
            if members.peek().is_none() {
                continue;
            }
            // Binary payloads cannot be told to clients of 1.0.0.
            let Some(frame) = encode_broadcast(key.vsn, &key.wire_topic, &broadcast(key.visitor)) else {
                continue;
            };
            for (id, Member { outbox, valve, .. }) in members {
                match (valve, matter) {
                    (Valve::Lagging, _) => {
                        delivery.held.push((*id, Arc::clone(&key.wire_topic), frame.clone()));
                    }
                    (_, Matter::Event { is_kept: true, .. }) => {
                        delivery.offer(*id, &key.wire_topic, outbox, frame.clone());
                    }
                    _ => delivery.push(*id, outbox, frame.clone()),
                }
            }
        }
        delivery
    }

    /// Counts a delivery, forgets the sockets that could not take it, and holds it back for channels that go on from the
    /// window. `is_expendable`: what is held back may be lost.
    fn settle(&mut self, delivery: Delivery, is_expendable: bool) {
        self.metrics.deliveries.inc_by(delivery.delivered);
        for id in delivery.closed {
            self.disconnect(id);
        }
        for (id, wire_topic, frame) in delivery.held {
            self.hold(id, &wire_topic, frame, is_expendable);
        }
    }

    /// Holds a frame that is no event back until the events before it have been sent. There is room for a quarter of an
    /// outbox: beyond it, the oldest frame that may be lost is dropped, and if there is none, the socket is closed.
    fn hold(&mut self, id: SocketId, wire_topic: &str, frame: Frame, is_expendable: bool) {
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
                self.metrics.client_messages_dropped.count("lagging");
            }
            None => {
                outbox.overflow();
                self.disconnect(id);
            }
        }
    }
}
