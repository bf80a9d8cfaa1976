//! Who listens to what: topics, and the sockets that joined them.

use std::collections::HashMap;
use std::sync::Arc;

use indexmap::IndexMap;

use super::hub::SocketId;
use super::outbox::Outbox;
use super::snapshot::Cut;
use crate::protocol::{Broadcast, Vsn, encode_broadcast};
use crate::route::Topic;
use crate::wal::Xid;

/// Names a room. Channels outside `org:` have a public and a private room of the same name; those of `org:` have one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct RoomKey {
    pub(super) topic: Topic,
    pub(super) private: bool,
}

/// What the members of a group share, so that one encoded frame serves them all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GroupKey {
    pub(super) vsn: Vsn,
    /// The topic as it was joined: with or without `bcast:`.
    pub(super) wire_topic: Arc<str>,
    /// Visitors are not told which agent sent something.
    pub(super) visitor: bool,
}

/// All rooms with at least one member.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    rooms: HashMap<RoomKey, Room>,
}

#[derive(Debug, Default)]
struct Room {
    // A room has one group, rarely more than four: two serializations, two spellings.
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    key: GroupKey,
    members: IndexMap<SocketId, Member>,
}

#[derive(Debug)]
struct Member {
    outbox: Arc<Outbox>,
    gate: Gate,
}

/// What a member gets of what is delivered to its room.
#[derive(Clone, Debug)]
pub(super) enum Gate {
    /// Nothing: what it missed is still being sent.
    Shut,
    /// What its snapshot does not show.
    Behind(Arc<Cut>),
    Open,
}

/// What a delivery came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Delivery {
    /// Frames queued.
    pub(super) delivered: u64,
    /// Sockets whose outbox is closed: they are to be forgotten.
    pub(super) closed: Vec<SocketId>,
}

/// Who is not to receive a broadcast.
#[derive(Clone, Copy, Debug)]
pub(super) enum Except<'a> {
    Nobody,
    /// One channel: the sender's, unless it asked for its own messages.
    Channel(SocketId, &'a str),
    /// All channels of a socket.
    Socket(SocketId),
}

impl Rooms {
    pub(super) fn len(&self) -> usize {
        self.rooms.len()
    }

    pub(super) fn join(
        &mut self,
        room: RoomKey,
        group: GroupKey,
        socket: SocketId,
        outbox: Arc<Outbox>,
        gate: Gate,
    ) {
        let groups = &mut self.rooms.entry(room).or_default().groups;
        let member = Member { outbox, gate };
        match groups.iter_mut().find(|known| known.key == group) {
            Some(known) => {
                known.members.insert(socket, member);
            }
            None => groups.push(Group { key: group, members: IndexMap::from([(socket, member)]) }),
        }
    }

    /// From here on the member gets what the gate lets through.
    pub(super) fn set_gate(&mut self, room: &RoomKey, group: &GroupKey, socket: SocketId, gate: Gate) {
        let groups = self.rooms.get_mut(room).map(|room| room.groups.as_mut_slice()).unwrap_or_default();
        let found = groups.iter_mut().find(|known| known.key == *group);
        if let Some(member) = found.and_then(|group| group.members.get_mut(&socket)) {
            member.gate = gate;
        }
    }

    pub(super) fn leave(&mut self, room: &RoomKey, group: &GroupKey, socket: SocketId) {
        let Some(found) = self.rooms.get_mut(room) else { return };
        if let Some(index) = found.groups.iter().position(|known| known.key == *group) {
            let members = &mut found.groups[index].members;
            members.swap_remove(&socket);
            if members.is_empty() {
                found.groups.swap_remove(index);
            }
        }
        if found.groups.is_empty() {
            self.rooms.remove(room);
        }
    }

    /// The members of a room, with the topic under which each joined.
    pub(super) fn members(&self, room: &RoomKey) -> Vec<(SocketId, Arc<str>)> {
        let groups = self.rooms.get(room).map(|room| room.groups.as_slice()).unwrap_or_default();
        let members = |group: &Group| {
            let wire_topic = Arc::clone(&group.key.wire_topic);
            group.members.keys().map(move |socket| (*socket, Arc::clone(&wire_topic))).collect::<Vec<_>>()
        };
        groups.iter().flat_map(members).collect()
    }

    /// The keys of all rooms.
    pub(super) fn keys(&self) -> impl Iterator<Item = &RoomKey> {
        self.rooms.keys()
    }

    /// Queues a broadcast for everybody in the room. It is encoded once for each group.
    pub(super) fn deliver(&self, room: &RoomKey, broadcast: &Broadcast<'_>, except: Except<'_>) -> Delivery {
        self.deliver_by_audience(room, |_| *broadcast, except)
    }

    /// Queues an event of a transaction for everybody in the room whose snapshot does not show it already.
    pub(super) fn deliver_event(&self, room: &RoomKey, broadcast: &Broadcast<'_>, xid: Xid) -> Delivery {
        let is_for = |_: SocketId, _: &GroupKey, gate: &Gate| match gate {
            Gate::Open => true,
            Gate::Shut => false,
            Gate::Behind(cut) => !cut.snapshot.shows(xid),
        };
        self.deliver_where(room, |_| *broadcast, is_for)
    }

    /// Like [`Rooms::deliver`], with one broadcast for visitors and another for everybody else.
    pub(super) fn deliver_by_audience<'b>(
        &self,
        room: &RoomKey,
        broadcast: impl Fn(/* to visitors */ bool) -> Broadcast<'b>,
        except: Except<'_>,
    ) -> Delivery {
        let is_for = |socket: SocketId, key: &GroupKey, gate: &Gate| {
            let is_excepted = match except {
                Except::Nobody => false,
                Except::Channel(sender, topic) => socket == sender && *key.wire_topic == *topic,
                Except::Socket(sender) => socket == sender,
            };
            !is_excepted && !matches!(gate, Gate::Shut)
        };
        self.deliver_where(room, broadcast, is_for)
    }

    fn deliver_where<'b>(
        &self,
        room: &RoomKey,
        broadcast: impl Fn(/* to visitors */ bool) -> Broadcast<'b>,
        is_for: impl Fn(SocketId, &GroupKey, &Gate) -> bool,
    ) -> Delivery {
        let mut delivery = Delivery::default();
        let Some(room) = self.rooms.get(room) else { return delivery };
        for Group { key, members } in &room.groups {
            // Binary payloads cannot be told to clients of 1.0.0.
            let Some(frame) = encode_broadcast(key.vsn, &key.wire_topic, &broadcast(key.visitor)) else {
                continue;
            };
            for (socket, member) in
                members.iter().filter(|(socket, member)| is_for(**socket, key, &member.gate))
            {
                match member.outbox.push(frame.clone()) {
                    Ok(()) => delivery.delivered += 1,
                    Err(_) => delivery.closed.push(*socket),
                }
            }
        }
        delivery
    }
}
