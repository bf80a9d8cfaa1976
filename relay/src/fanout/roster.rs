//! Who is present in which room: what every channel tracks, and what the rooms' members have been told of it.
//!
//! A change waits a moment and goes out with all others of its room as one difference, so that a crowd that comes at
//! once costs each member a few frames rather than one a head. Who joins a large room is told in pieces who is there, and
//! of changes meanwhile. Pure but for the random part of its refs.

mod away;
mod id;
mod memory;

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use indexmap::{IndexMap, IndexSet};

use self::away::Away;
pub(super) use self::id::PresenceId;
pub(super) use self::memory::Full;
pub use self::memory::PresenceLimits;
use self::memory::PresenceMemory;
use super::room::RoomKey;
use super::tight_queue::TightQueue;
use crate::protocol::json::quoted;

/// How long changes wait for others to come.
const COALESCE: Duration = Duration::from_millis(50);

/// Bytes of metas and keys after which a difference, or a piece of a state, is cut; the rest goes with the next. One
/// member must not be able to make a frame that overflows everybody's outbox.
const PIECE_BYTES_MAX: usize = 64 * 1024;

/// What members of a room are told at once: JSON objects of key to metas.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) room: RoomKey,
    pub(super) joins: String,
    pub(super) leaves: String,
    left: Vec<Left>,
}

/// What members know no more.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    id: PresenceId,
    /// The turn in which they were told of it.
    told_in: u64,
    key: Arc<str>,
    meta: String,
}

/// How far a member has been told who is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    /// Up to this one.
    after: PresenceId,
    /// As it was in this turn. Of later changes it is told like everybody else.
    turn: u64,
}

/// A part of what a joining member is told.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// A JSON object of key to metas.
    pub(super) metas: Arc<str>,
    /// Where the next one begins; None: this is the last.
    pub(super) rest: Option<Progress>,
}

/// All rooms in which somebody is present.
#[derive(Debug)]
pub(super) struct Roster {
    grace: Duration,
    rooms: HashMap<RoomKey, Presences>,
    memory: PresenceMemory,
    /// Rooms whose members do not know everything yet.
    stale: IndexSet<RoomKey>,
    /// When they are to be told.
    tell_at: Option<Instant>,
    /// Counts the times that members of any room were told.
    turn: u64,
    /// Who went away without a word, by when that counts as having left.
    absences: TightQueue<(Instant, RoomKey, PresenceId)>,
    /// Refs of a relay that runs later must be others: clients compare them across a reconnect.
    epoch: u32,
    last: u64,
}

/// Who is present in one room.
#[derive(Debug, Default)]
struct Presences {
    present: BTreeMap<PresenceId, Present>,
    away: Away,
    changed: TightQueue<PresenceId>,
    bytes: usize,
    /// What a joining member is told first, until somebody comes or goes.
    state: Option<Piece>,
}

#[derive(Debug)]
struct Present {
    key: Arc<str>,
    /// As the members know it.
    told: Option<Meta>,
    /// The turn in which they were told.
    told_in: u64,
    /// As it is; None: to be forgotten.
    now: Option<Meta>,
    /// The channel is gone, and until then may come back.
    away_until: Option<Instant>,
    is_changed: bool,
}

#[derive(Clone, Debug)]
struct Meta {
    reference: u64,
    /// Of what this replaced.
    previous: Option<u64>,
    /// JSON text without braces.
    members: Arc<str>,
}

impl Roster {
    pub(super) fn new(limits: &PresenceLimits) -> Self {
        Self {
            grace: limits.grace,
            rooms: HashMap::new(),
            memory: PresenceMemory::new(limits),
            stale: IndexSet::new(),
            tell_at: None,
            turn: 0,
            absences: TightQueue::default(),
            epoch: rand::random(),
            last: 0,
        }
    }

    /// Takes note of what a channel tracks; `held` is what it tracks already. Whoever was away under the same key
    /// comes back rather than coming anew: members then hear of a change, or of nothing at all. Where there is no memory
    /// for it, nothing changes.
    pub(super) fn track(
        &mut self,
        room_key: &RoomKey,
        held: Option<PresenceId>,
        key: &Arc<str>,
        members: &str,
        now: Instant,
    ) -> Result<PresenceId, Full> {
        let (reference, new_id) = (self.next(), PresenceId(self.next()));
        let room = self.rooms.get(room_key);
        let of_key = |id: &PresenceId| {
            room.and_then(|room| room.present.get(id)).is_some_and(|present| present.key == *key)
        };
        let known = held.filter(of_key).or_else(|| room?.away.find(key, members));
        let present = known.and_then(|id| room?.present.get(&id));
        let is_same =
            present.and_then(|present| present.now.as_ref()).is_some_and(|meta| *meta.members == *members);
        let before = present.map_or(0, Present::bytes);
        if !is_same {
            let after = PresenceMemory::of(key, members.len());
            self.memory.admit(room_key, room.map_or(0, |room| room.bytes), before, after)?;
        }
        let room = self.rooms.entry(room_key.clone()).or_default();
        let id = known.unwrap_or(new_id);
        room.come_back(id);
        if !is_same {
            let present = room.present.entry(id).or_insert_with(|| Present {
                key: Arc::clone(key),
                told: None,
                told_in: 0,
                now: None,
                away_until: None,
                is_changed: false,
            });
            present.now = Some(Meta { reference, previous: None, members: members.into() });
            let after = present.bytes();
            room.bytes = room.bytes + after - before;
            room.change(id);
            self.memory.note(room_key, before, after);
            self.tell(room_key, now);
        }
        Ok(id)
    }

    /// Forgets what a channel tracks, at once.
    pub(super) fn untrack(&mut self, room_key: &RoomKey, id: PresenceId, now: Instant) {
        let Some(room) = self.rooms.get_mut(room_key) else { return };
        room.come_back(id);
        let Some(present) = room.present.get_mut(&id) else { return };
        let before = present.bytes();
        present.now = None;
        let after = present.bytes();
        room.bytes = room.bytes + after - before;
        room.change(id);
        self.memory.note(room_key, before, after);
        self.tell(room_key, now);
    }

    /// The channel is gone without having said so: a socket that broke may come back in a moment.
    pub(super) fn part(&mut self, room_key: &RoomKey, id: PresenceId, now: Instant) {
        let Some(room) = self.rooms.get_mut(room_key) else { return };
        let Some(present) = room.present.get_mut(&id) else { return };
        let Some(meta) = &present.now else { return };
        let until = now + self.grace;
        present.away_until = Some(until);
        room.away.insert(id, &present.key, &meta.members);
        self.absences.push_back((until, room_key.clone(), id));
    }

    /// Forgets who stayed away too long.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((until, ..)) = self.absences.front()
            && *until <= now
        {
            let Some((until, room, id)) = self.absences.pop_front() else { return };
            let present = self.rooms.get(&room).and_then(|room| room.present.get(&id));
            if present.is_some_and(|present| present.away_until == Some(until)) {
                self.untrack(&room, id, now);
            }
        }
    }

    /// When there is something to tell.
    pub(super) fn tell_at(&self) -> Option<Instant> {
        self.tell_at
    }

    /// Takes what the members of each room are to be told now. At most one difference a room.
    pub(super) fn differences(&mut self, now: Instant) -> Vec<Difference> {
        self.tell_at = None;
        self.turn += 1;
        let mut differences = Vec::new();
        for room_key in std::mem::take(&mut self.stale) {
            let Some(room) = self.rooms.get_mut(&room_key) else { continue };
            let (joins, left) = room.difference(&room_key, &mut self.memory, self.epoch, self.turn);
            if !room.changed.is_empty() {
                self.stale.insert(room_key.clone());
                self.tell_at = Some(now + COALESCE);
            }
            if room.present.is_empty() {
                self.rooms.remove(&room_key);
            }
            if !(joins.is_empty() && left.is_empty()) {
                let leaves = by_key(metas_of(left.iter()));
                differences.push(Difference { room: room_key, joins: by_key(joins), leaves, left });
            }
        }
        differences
    }

    /// Who is present as the members of the room know it, or from where a member has been told on. From the first piece
    /// on it is to be told of differences too.
    pub(super) fn state(&mut self, room_key: &RoomKey, told: Option<Progress>) -> Piece {
        let Some(room) = self.rooms.get_mut(room_key) else {
            return Piece { metas: "{}".into(), rest: None };
        };
        if let Some(told) = told {
            return room.piece(told, self.epoch);
        }
        let all = Progress { after: PresenceId(0), turn: u64::MAX };
        let first = room.state.take().unwrap_or_else(|| room.piece(all, self.epoch));
        let Piece { metas, rest } = room.state.insert(first).clone();
        Piece { metas, rest: rest.map(|rest| Progress { turn: self.turn, ..rest }) }
    }

    /// How many are present, those who are away included.
    pub(super) fn len(&self) -> usize {
        self.memory.count()
    }

    pub(super) fn bytes(&self) -> usize {
        self.memory.bytes()
    }

    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn tell(&mut self, room: &RoomKey, now: Instant) {
        self.stale.insert(room.clone());
        self.tell_at.get_or_insert(now + COALESCE);
    }
}

impl Difference {
    /// Who left of those of whom a member has been told by now.
    pub(super) fn leaves_known_to(&self, told: Progress) -> String {
        let is_known = |left: &&Left| left.id <= told.after || left.told_in > told.turn;
        by_key(metas_of(self.left.iter().filter(is_known)))
    }
}

impl Presences {
    /// Whoever was away is no more.
    fn come_back(&mut self, id: PresenceId) {
        if let Some(present) = self.present.get_mut(&id)
            && present.away_until.take().is_some()
            && let Some(meta) = &present.now
        {
            self.away.remove(id, &present.key, &meta.members);
        }
    }

    fn change(&mut self, id: PresenceId) {
        if let Some(present) = self.present.get_mut(&id)
            && !std::mem::replace(&mut present.is_changed, true)
        {
            self.changed.push_back(id);
        }
    }

    /// What changed since the last one, as far as one frame shall hold: who came by key, and who left.
    fn difference(
        &mut self,
        room_key: &RoomKey,
        memory: &mut PresenceMemory,
        epoch: u32,
        turn: u64,
    ) -> (IndexMap<Arc<str>, String>, Vec<Left>) {
        let (mut joins, mut left) = (IndexMap::new(), Vec::new());
        let mut bytes = 0;
        while bytes < PIECE_BYTES_MAX
            && let Some(id) = self.changed.pop_front()
        {
            let Some(present) = self.present.get_mut(&id) else { continue };
            present.is_changed = false;
            let before = present.bytes();
            let told = present.told.take();
            if let (Some(meta), Some(told)) = (&mut present.now, &told)
                && meta.reference != told.reference
            {
                meta.previous = Some(told.reference);
            }
            present.told.clone_from(&present.now);
            let key = Arc::clone(&present.key);
            let told_in = std::mem::replace(&mut present.told_in, turn);
            let after = present.bytes();
            self.bytes = self.bytes + after - before;
            memory.note(room_key, before, after);
            let now = present.now.clone();
            if now.is_none() {
                self.present.remove(&id);
            }
            if now.as_ref().map(|meta| meta.reference) == told.as_ref().map(|meta| meta.reference) {
                continue;
            }
            self.state = None;
            if let Some(meta) = now {
                let meta = meta.json(epoch);
                bytes += key.len() + meta.len();
                push(&mut joins, &key, &meta);
            }
            if let Some(meta) = told {
                let meta = meta.json(epoch);
                bytes += key.len() + meta.len();
                left.push(Left { id, told_in, key, meta });
            }
        }
        (joins, left)
    }

    /// Who is present as the members know it, from where one was told on.
    fn piece(&self, told: Progress, epoch: u32) -> Piece {
        let mut metas = IndexMap::new();
        let (mut bytes, mut last) = (0, told.after);
        let mut rest = None;
        for (id, present) in self.present.range((Bound::Excluded(told.after), Bound::Unbounded)) {
            let Some(meta) = present.told.as_ref().filter(|_| present.told_in <= told.turn) else { continue };
            if bytes >= PIECE_BYTES_MAX {
                rest = Some(Progress { after: last, ..told });
                break;
            }
            let meta = meta.json(epoch);
            bytes += present.key.len() + meta.len();
            push(&mut metas, &present.key, &meta);
            last = *id;
        }
        Piece { metas: by_key(metas).into(), rest }
    }
}

impl Present {
    /// What it takes in memory; 0 if it is to be forgotten.
    fn bytes(&self) -> usize {
        let members = [&self.told, &self.now].into_iter().flatten().map(|meta| meta.members.len());
        members.max().map_or(0, |members| PresenceMemory::of(&self.key, members))
    }
}

impl Meta {
    fn json(&self, epoch: u32) -> String {
        let mut text = format!(r#"{{"phx_ref":"{epoch:08x}{:x}""#, self.reference);
        if let Some(previous) = self.previous {
            text.push_str(&format!(r#","phx_ref_prev":"{epoch:08x}{previous:x}""#));
        }
        if !self.members.is_empty() {
            text.push(',');
            text.push_str(&self.members);
        }
        text.push('}');
        text
    }
}

fn metas_of<'a>(left: impl Iterator<Item = &'a Left>) -> IndexMap<Arc<str>, String> {
    let mut metas = IndexMap::new();
    left.for_each(|left| push(&mut metas, &left.key, &left.meta));
    metas
}

fn push(metas: &mut IndexMap<Arc<str>, String>, key: &Arc<str>, meta: &str) {
    let list = metas.entry(Arc::clone(key)).or_default();
    if !list.is_empty() {
        list.push(',');
    }
    list.push_str(meta);
}

fn by_key(metas: IndexMap<Arc<str>, String>) -> String {
    let mut text = String::from("{");
    for (key, metas) in metas {
        if text.len() > 1 {
            text.push(',');
        }
        text.extend([&*quoted(&key), r#":{"metas":["#, &metas, "]}"]);
    }
    text.push('}');
    text
}

#[cfg(test)]
mod tests;
