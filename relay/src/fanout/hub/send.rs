//! What clients send to the members of their channels.

use std::sync::Arc;
use std::time::Instant;

use super::Hub;
use crate::auth::{self, Identity};
use crate::fanout::channel::Channel;
use crate::fanout::room::{Except, RoomKey};
use crate::fanout::socket_id::SocketId;
use crate::fanout::typing::{Indicator, Mouth};
use crate::protocol::{EVENT_BYTES_MAX, Envelope, Reason, Ref, UserBroadcast};

/// Largest payload of a typing indicator, in bytes.
const TYPING_BYTES_MAX: usize = 1024;

impl Hub {
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
        let refusal = self.refusal(channel, broadcast, within_rate);
        // Unlike the reference, which leaves a client that may not send to wait for its time-out.
        let ack = channel.ack;
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
        if broadcast.event.len() > EVENT_BYTES_MAX {
            return Some(Reason::EventNameTooLong);
        }
        if broadcast.payload.len() > self.payload_bytes_max(channel.identity.as_ref(), &broadcast.event) {
            return Some(Reason::PayloadTooLarge);
        }
        if channel.grants.is_some_and(|grants| !grants.write_broadcast) {
            return Some(Reason::SendUnauthorized { topic: channel.room.topic.to_string() });
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
            let mouth = Mouth { socket: id, wire_topic: Arc::clone(&channel.wire_topic) };
            return self.relay_typing(mouth, room, identity, broadcast, Instant::now());
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
        mouth: Mouth,
        room: RoomKey,
        identity: Identity,
        broadcast: &UserBroadcast,
        now: Instant,
    ) {
        let from = mouth.socket;
        let (payload, encoding) = (broadcast.payload.clone(), broadcast.encoding);
        let indicator = Indicator { room: room.clone(), identity, payload, encoding };
        if broadcast.event == "typing:start" {
            self.typing.start(mouth, indicator, now);
        } else {
            self.typing.stop(&mouth, &indicator);
        }
        self.deliver_typing(&room, from, &identity, broadcast);
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

    /// Says that somebody types no more, in place of the sender.
    pub(super) fn end_typing(&mut self, from: SocketId, indicator: Indicator) {
        let Indicator { room, identity, payload, encoding } = indicator;
        let stop = UserBroadcast { event: "typing:stop".to_owned(), encoding, payload };
        self.deliver_typing(&room, from, &identity, &stop);
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
            broadcast.stamped(Some(stamp))
        };
        self.deliver_of_client(room, stamped, except);
    }
}

fn is_typing(event: &str) -> bool {
    event.starts_with("typing:")
}
