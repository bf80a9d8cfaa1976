//! Broadcasts of clients, over a socket or HTTP, on their way to the members of a channel.

use std::sync::Arc;
use std::time::Instant;

use super::Hub;
use super::admit::{Sender, is_typing};
use crate::auth::Identity;
use crate::fanout::origin::{Except, Origin};
use crate::fanout::room::RoomKey;
use crate::fanout::socket_id::SocketId;
use crate::fanout::typing::Indicator;
use crate::protocol::{Envelope, Meta, Ref, UserBroadcast};

/// A broadcast that was admitted.
#[derive(Debug)]
pub(super) struct Admitted<'a> {
    pub(super) origin: Origin,
    /// As whom it was admitted; None outside `org:`.
    pub(super) identity: Option<Identity>,
    pub(super) broadcast: &'a UserBroadcast,
    /// What is stamped on it outside `org:`, as a JSON object.
    pub(super) meta: Option<&'a Meta>,
    /// The sender asked for its own messages.
    pub(super) echo: bool,
}

impl Hub {
    /// Sends a broadcast of a channel's client, and answers it if the client asked for that.
    pub(super) fn broadcast(
        &mut self,
        id: SocketId,
        wire_topic: &str,
        reference: &Ref,
        broadcast: &UserBroadcast,
        within_rate: bool,
    ) {
        self.channel_or_reply(id, wire_topic, reference);
        let Some(channel) = self.channel(id, wire_topic) else { return };
        let outcome = self.admit_broadcast(Sender::Channel { channel, within_rate }, broadcast);
        let (ack, echo, join_ref) = (channel.ack, channel.echo, channel.join_ref.clone());
        match &outcome {
            Ok(identity) => {
                let origin = Origin::Channel { socket: id, wire_topic: Arc::clone(&channel.wire_topic) };
                let room = channel.room.clone();
                self.metrics.client_messages.inc();
                self.send(&room, Admitted { origin, identity: *identity, broadcast, meta: None, echo });
            }
            Err(reason) => self.metrics.client_messages_dropped.count(reason.label()),
        }
        // Unlike the reference, which leaves a client that may not send to wait for its time-out.
        // Looked up again: delivering may have ended the sender's own socket.
        let Some(socket) = self.sockets.get(&id).filter(|_| ack) else { return };
        let envelope = Envelope { vsn: socket.vsn, topic: wire_topic, join_ref: &join_ref };
        let reply = match outcome {
            Ok(_) => envelope.reply_ok(reference, "{}"),
            Err(reason) => envelope.reply_error(reference, &reason),
        };
        self.push(id, reply);
    }

    /// Passes an admitted broadcast on to a room.
    pub(super) fn send(&mut self, room: &RoomKey, admitted: Admitted<'_>) {
        let Admitted { origin, identity, broadcast, meta, echo } = admitted;
        match identity {
            None => self.deliver_of_client(room, |_| broadcast.stamped(meta), origin.except(echo)),
            // The server ends it if nobody else does.
            Some(identity) if is_typing(&broadcast.event) && room.topic.sibling().is_some() => {
                self.send_typing(origin, room, identity, broadcast, Instant::now());
            }
            Some(identity) => self.deliver_stamped(room, &identity, broadcast, origin.except(echo)),
        }
    }

    fn send_typing(
        &mut self,
        origin: Origin,
        room: &RoomKey,
        identity: Identity,
        broadcast: &UserBroadcast,
        now: Instant,
    ) {
        let (payload, encoding) = (broadcast.payload.clone(), broadcast.encoding);
        let indicator = Indicator { room: room.clone(), identity, payload, encoding };
        if broadcast.event == "typing:start" {
            self.typing.start(origin.clone(), indicator, now);
        } else {
            self.typing.stop(&origin, &indicator);
        }
        self.deliver_typing(room, &origin, &identity, broadcast);
    }

    /// Typing on a conversation reaches its channel and its widget alike, but never the socket it came from.
    fn deliver_typing(
        &mut self,
        room: &RoomKey,
        origin: &Origin,
        identity: &Identity,
        broadcast: &UserBroadcast,
    ) {
        let sibling = room.topic.sibling().map(|topic| RoomKey { topic, private: false });
        for room in [Some(room.clone()), sibling].into_iter().flatten() {
            self.deliver_stamped(&room, identity, broadcast, origin.except_socket());
        }
    }

    /// Sends `typing:stop` in place of the sender.
    pub(super) fn end_typing(&mut self, origin: &Origin, indicator: Indicator) {
        let Indicator { room, identity, payload, encoding } = indicator;
        let stop = UserBroadcast { event: "typing:stop".to_owned(), encoding, payload };
        self.deliver_typing(&room, origin, &identity, &stop);
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
            broadcast.stamped(Some(stamp))
        };
        self.deliver_of_client(room, stamped, except);
    }
}
