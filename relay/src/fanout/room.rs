//! Who listens to what: topics, and the sockets that joined them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use indexmap::IndexMap;
use uuid::Uuid;

use super::hub::SocketId;
use super::outbox::{Offered, Outbox, Share};
use super::snapshot::Cut;
use crate::postgres::Xid;
use crate::protocol::{Broadcast, Envelope, Frame, Ref, Vsn, encode_broadcast};
use crate::route::{Scope, Topic};

/// Names a room. Channels outside `org:` have a public and a private room of the same name; those of `org:` have one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct RoomKey {
    pub(super) topic: Topic,
    pub(super) private: bool,
}

impl RoomKey {
    /// Whether the window keeps its events. Public channels have no replay, and what was public must not become part of
    /// the private room's history.
    pub(super) fn has_history(&self) -> bool {
        self.private || self.topic.organization().is_some()
    }
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
    /// Of the rooms those of an organization's widgets.
    widgets: HashMap<Uuid, HashSet<RoomKey>>,
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
    /// False for those who may see who is there and nothing else.
    hears_broadcasts: bool,
    hears_presence: Hears,
}

/// What a member is told of who comes and goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Hears {
    #[default]
    Nothing,
    /// It has not been told of all who are there, and cannot be told that the others left.
    Partly,
    Everything,
}

/// What a member gets of what is delivered to its room.
#[derive(Clone, Debug)]
pub(super) enum Gate {
    /// Nothing: its join is not answered yet.
    Shut,
    /// It is sent the events out of the window. What else is said waits for its turn among them.
    Lagging,
    /// What its snapshot does not show.
    Behind(Arc<Cut>),
    Open,
}

/// What a delivery came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Delivery {
    /// Members that were looked at, whether or not they got something.
    pub(super) looked_at: usize,
    /// Frames queued.
    pub(super) delivered: u64,
    /// Sockets whose outbox is closed: they are to be forgotten.
    pub(super) closed: Vec<SocketId>,
    /// Channels whose outbox has no room for more events: they are to go on from the window.
    pub(super) lagging: Vec<(SocketId, Arc<str>)>,
    /// Channels that go on from the window, and what is to reach them in its place among the events.
    pub(super) held: Vec<(SocketId, Arc<str>, Frame)>,
    /// Channels that were not told who came and went: they are to be told who is there.
    pub(super) untold: Vec<(SocketId, Arc<str>)>,
    /// Channels that know a part of who is there: they are to be told what of it changed.
    pub(super) partly: Vec<(SocketId, Arc<str>)>,
}

impl Delivery {
    fn push(&mut self, socket: SocketId, member: &Member, frame: &Frame) {
        match member.outbox.push(frame.clone()) {
            Ok(()) => self.delivered += 1,
            Err(_) => self.closed.push(socket),
        }
    }

    /// Queues what the window has too.
    fn offer(&mut self, socket: SocketId, key: &GroupKey, member: &Member, frame: &Frame) {
        match member.outbox.offer(frame.clone(), Share::ThreeQuarters) {
            Offered::Queued => self.delivered += 1,
            Offered::Full => self.lagging.push((socket, Arc::clone(&key.wire_topic))),
            Offered::Closed => self.closed.push(socket),
        }
    }
}

impl Member {
    /// Whether its gate lets something through, now or later.
    fn takes(&self, matter: Matter) -> bool {
        match (&self.gate, matter) {
            (Gate::Shut, _) | (Gate::Lagging, Matter::Event { .. }) => false,
            (Gate::Behind(cut), Matter::Event { xid, .. }) => !cut.snapshot.shows(xid),
            (Gate::Lagging | Gate::Behind(_), Matter::Word) | (Gate::Open, _) => true,
        }
    }
}

/// What is delivered to a room.
#[derive(Clone, Copy, Debug)]
enum Matter {
    /// An event of this transaction.
    Event { xid: Xid, /* by the window */ is_kept: bool },
    /// What is said once.
    Word,
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

impl Except<'_> {
    pub(super) fn is(self, socket: SocketId, wire_topic: &str) -> bool {
        match self {
            Self::Nobody => false,
            Self::Channel(sender, topic) => socket == sender && *wire_topic == *topic,
            Self::Socket(sender) => socket == sender,
        }
    }
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
        if let Some(organization) = organization_of_widget(&room)
            && !self.rooms.contains_key(&room)
        {
            self.widgets.entry(organization).or_default().insert(room.clone());
        }
        let groups = &mut self.rooms.entry(room).or_default().groups;
        let member = Member { outbox, gate, hears_broadcasts: true, hears_presence: Hears::Nothing };
        match groups.iter_mut().find(|known| known.key == group) {
            Some(known) => {
                known.members.insert(socket, member);
            }
            None => groups.push(Group { key: group, members: IndexMap::from([(socket, member)]) }),
        }
    }

    /// From here on the member gets what the gate lets through.
    pub(super) fn set_gate(&mut self, room: &RoomKey, group: &GroupKey, socket: SocketId, gate: Gate) {
        if let Some(member) = self.member_mut(room, group, socket) {
            member.gate = gate;
        }
    }

    /// Whether the member gets broadcasts from here on.
    pub(super) fn hear_broadcasts(
        &mut self,
        room: &RoomKey,
        group: &GroupKey,
        socket: SocketId,
        hears: bool,
    ) {
        if let Some(member) = self.member_mut(room, group, socket) {
            member.hears_broadcasts = hears;
        }
    }

    /// What the member is told of who comes and goes from here on.
    pub(super) fn hear_presence(&mut self, room: &RoomKey, group: &GroupKey, socket: SocketId, hears: Hears) {
        if let Some(member) = self.member_mut(room, group, socket) {
            member.hears_presence = hears;
        }
    }

    fn member_mut(&mut self, room: &RoomKey, group: &GroupKey, socket: SocketId) -> Option<&mut Member> {
        let groups = &mut self.rooms.get_mut(room)?.groups;
        groups.iter_mut().find(|known| known.key == *group)?.members.get_mut(&socket)
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
            self.forget_widget(room);
        }
    }

    fn forget_widget(&mut self, room: &RoomKey) {
        let Some(organization) = organization_of_widget(room) else { return };
        if let Some(widgets) = self.widgets.get_mut(&organization) {
            widgets.remove(room);
            if widgets.is_empty() {
                self.widgets.remove(&organization);
            }
        }
    }

    /// The rooms of an organization's widgets.
    pub(super) fn widgets(&self, organization: Uuid) -> Vec<RoomKey> {
        self.widgets.get(&organization).map(|rooms| rooms.iter().cloned().collect()).unwrap_or_default()
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

    /// Queues who came and went for those who are told. It is encoded once for each group.
    pub(super) fn deliver_presence(&self, room: &RoomKey, joins: &str, leaves: &str) -> Delivery {
        let mut delivery = Delivery::default();
        let groups = self.rooms.get(room).map(|room| room.groups.as_slice()).unwrap_or_default();
        let is_told =
            |member: &Member| member.hears_presence != Hears::Nothing && !matches!(member.gate, Gate::Shut);
        for Group { key, members } in groups {
            let envelope = Envelope { vsn: key.vsn, topic: &key.wire_topic, join_ref: &Ref::Null };
            let mut told = members.iter().filter(|(_, member)| is_told(member)).peekable();
            if told.peek().is_none() {
                continue;
            }
            let frame = envelope.presence_diff(joins, leaves);
            for (socket, member) in told {
                match member.gate {
                    _ if member.hears_presence == Hears::Partly => {
                        delivery.partly.push((*socket, Arc::clone(&key.wire_topic)));
                    }
                    // However much changes meanwhile, one state says it all.
                    Gate::Lagging => delivery.untold.push((*socket, Arc::clone(&key.wire_topic))),
                    _ => delivery.push(*socket, member, &frame),
                }
            }
        }
        delivery
    }

    /// Queues an event of a transaction for everybody in the room whose snapshot does not show it already. `is_kept`:
    /// the window has it too, so that no socket need take it now.
    pub(super) fn deliver_event(
        &self,
        room: &RoomKey,
        broadcast: &Broadcast<'_>,
        xid: Xid,
        is_kept: bool,
    ) -> Delivery {
        self.deliver_where(room, |_| *broadcast, Except::Nobody, Matter::Event { xid, is_kept })
    }

    /// Like [`Rooms::deliver`], with one broadcast for visitors and another for everybody else.
    pub(super) fn deliver_by_audience<'b>(
        &self,
        room: &RoomKey,
        broadcast: impl Fn(/* to visitors */ bool) -> Broadcast<'b>,
        except: Except<'_>,
    ) -> Delivery {
        self.deliver_where(room, broadcast, except, Matter::Word)
    }

    fn deliver_where<'b>(
        &self,
        room: &RoomKey,
        broadcast: impl Fn(/* to visitors */ bool) -> Broadcast<'b>,
        except: Except<'_>,
        matter: Matter,
    ) -> Delivery {
        let mut delivery = Delivery::default();
        let Some(room) = self.rooms.get(room) else { return delivery };
        for Group { key, members } in &room.groups {
            delivery.looked_at += members.len();
            let hears = |(socket, member): &(&SocketId, &Member)| {
                member.hears_broadcasts && !except.is(**socket, &key.wire_topic)
            };
            let mut members =
                members.iter().filter(hears).filter(|(_, member)| member.takes(matter)).peekable();
            if members.peek().is_none() {
                continue;
            }
            // Binary payloads cannot be told to clients of 1.0.0.
            let Some(frame) = encode_broadcast(key.vsn, &key.wire_topic, &broadcast(key.visitor)) else {
                continue;
            };
            for (socket, member) in members {
                match (&member.gate, matter) {
                    (Gate::Lagging, _) => {
                        delivery.held.push((*socket, Arc::clone(&key.wire_topic), frame.clone()));
                    }
                    (_, Matter::Event { is_kept: true, .. }) => delivery.offer(*socket, key, member, &frame),
                    _ => delivery.push(*socket, member, &frame),
                }
            }
        }
        delivery
    }
}

fn organization_of_widget(room: &RoomKey) -> Option<Uuid> {
    room.topic.organization().filter(|_| room.topic.scope() == Some(Scope::Widget))
}
