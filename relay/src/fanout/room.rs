//! Who listens to what: topics, and the sockets that joined them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use indexmap::IndexMap;
use uuid::Uuid;

use super::cut::Cut;
use super::outbox::Outbox;
use super::socket_id::SocketId;
use super::views::Views;
use crate::auth::Credential;
use crate::protocol::Vsn;
use crate::route::{Scope, Sight, Topic};

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
    /// Of a room that had an event that is not for all.
    views: Option<Box<Views>>,
    /// Every member has its view.
    is_viewed: bool,
}

/// Members for whom one encoded frame will do.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) key: GroupKey,
    pub(super) members: IndexMap<SocketId, Member>,
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) outbox: Arc<Outbox>,
    pub(super) valve: Valve,
    /// False for those who may see who is there and nothing else.
    pub(super) hears_broadcasts: bool,
    pub(super) hears_presence: Hears,
    /// What gates decide by. None sees no event that has one.
    viewer: Option<Box<MemberView>>,
}

#[derive(Debug)]
struct MemberView {
    credential: Credential,
    /// Its number among the room's.
    number: Option<usize>,
}

impl Member {
    /// Whether it is among those of the views that see something.
    pub(super) fn is_in(&self, audience: &[bool]) -> bool {
        let number = self.viewer.as_ref().and_then(|viewer| viewer.number);
        number.and_then(|number| audience.get(number)) == Some(&true)
    }
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
pub(super) enum Valve {
    /// Nothing: its join is not answered yet.
    Shut,
    /// It is sent the events out of the window. What else is said waits for its turn among them.
    Lagging,
    /// What its snapshot does not show.
    Behind(Arc<Cut>),
    Open,
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
        valve: Valve,
        credential: Option<Credential>,
    ) {
        if let Some(organization) = organization_of_widget(&room)
            && !self.rooms.contains_key(&room)
        {
            self.widgets.entry(organization).or_default().insert(room.clone());
        }
        let Room { groups, is_viewed, .. } = self.rooms.entry(room).or_default();
        *is_viewed = false;
        let viewer = credential.map(|credential| Box::new(MemberView { credential, number: None }));
        let member = Member { outbox, valve, hears_broadcasts: true, hears_presence: Hears::Nothing, viewer };
        match groups.iter_mut().find(|known| known.key == group) {
            Some(known) => {
                known.members.insert(socket, member);
            }
            None => groups.push(Group { key: group, members: IndexMap::from([(socket, member)]) }),
        }
    }

    /// From here on the member gets what the valve lets through.
    pub(super) fn set_valve(&mut self, room: &RoomKey, group: &GroupKey, socket: SocketId, valve: Valve) {
        if let Some(member) = self.member_mut(room, group, socket) {
            member.valve = valve;
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

    /// From here on gates decide by other claims.
    pub(super) fn see_as(
        &mut self,
        room: &RoomKey,
        group: &GroupKey,
        socket: SocketId,
        credential: Option<Credential>,
    ) {
        let viewer = credential.map(|credential| Box::new(MemberView { credential, number: None }));
        if let Some(member) = self.member_mut(room, group, socket) {
            member.viewer = viewer;
        }
        if let Some(room) = self.rooms.get_mut(room) {
            room.is_viewed = false;
        }
    }

    /// The views of a room, by number, that see an event.
    pub(super) fn audience(&mut self, room: &RoomKey, sight: &Sight) -> Vec<bool> {
        let Some(Room { groups, views, is_viewed }) = self.rooms.get_mut(room) else { return Vec::new() };
        let views = views.get_or_insert_default();
        let count = groups.iter().map(|group| group.members.len()).sum();
        let are_numbers_kept = views.learn(sight, count);
        if !are_numbers_kept || !*is_viewed {
            let members = groups.iter_mut().flat_map(|group| group.members.values_mut());
            for MemberView { credential, number } in members.filter_map(|member| member.viewer.as_deref_mut())
            {
                if number.is_none() || !are_numbers_kept {
                    *number = Some(views.number(credential));
                }
            }
            *is_viewed = true;
        }
        views.audience(sight)
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

    /// The groups of a room.
    pub(super) fn groups(&self, room: &RoomKey) -> &[Group] {
        self.rooms.get(room).map(|room| room.groups.as_slice()).unwrap_or_default()
    }

    /// The members of a room, with the topic under which each joined.
    pub(super) fn members(&self, room: &RoomKey) -> Vec<(SocketId, Arc<str>)> {
        let members = |group: &Group| {
            let wire_topic = Arc::clone(&group.key.wire_topic);
            group.members.keys().map(move |socket| (*socket, Arc::clone(&wire_topic))).collect::<Vec<_>>()
        };
        self.groups(room).iter().flat_map(members).collect()
    }

    /// The keys of all rooms.
    pub(super) fn keys(&self) -> impl Iterator<Item = &RoomKey> {
        self.rooms.keys()
    }
}

fn organization_of_widget(room: &RoomKey) -> Option<Uuid> {
    room.topic.organization().filter(|_| room.topic.scope() == Some(Scope::Widget))
}
