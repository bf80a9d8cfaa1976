//! The replay window: what was sent lately, so that a client that was away gets what it missed.
//!
//! In memory, and backed by the slot: the position confirmed to Postgres trails behind the window, so a relay that was
//! killed reads it again. Bounded by time and bytes. Its hazard is silence: every event that leaves raises a floor,
//! and whoever asks for something below the floor is told that it is incomplete.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, VecDeque, vec_deque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::evicted::Evicted;
use super::tight_queue::TightQueue;
use crate::decode::Timestamp;
use crate::protocol::{Encoding, Vsn};
use crate::route::{Event, Position, RealtimeMessage, Template, Topic};
use crate::wal::{Snapshot, Xid};

/// Memory taken by an event besides its payload and its `meta`, in bytes: the entry itself, its place in the order, and
/// what counts the owners of its payload.
const EVENT_BYTES: usize = TightQueue::<Kept>::ELEMENT_BYTES + TightQueue::<Topic>::ELEMENT_BYTES + 32;

/// Memory taken by the place of a row of `realtime.messages`, in bytes.
const ROW_BYTES: usize = entry_bytes::<(Uuid, Position)>();

/// Memory taken by a topic, in bytes: its entry, and its place among those that are quiet.
const TOPIC_BYTES: usize = entry_bytes::<(Topic, Channel)>() + TightQueue::<(Position, Topic)>::ELEMENT_BYTES;

/// Memory taken by an organization, in bytes.
const ORGANIZATION_BYTES: usize =
    entry_bytes::<(Uuid, Organization)>() + 3 * size_of::<(Rank, Uuid)>() + 3 * size_of::<(Position, Uuid)>();

/// Memory taken by a commit that is remembered, in bytes.
const COMMIT_BYTES: usize = TightQueue::<Commit>::ELEMENT_BYTES;

/// Memory taken by an entry of a hash map, which may be less than half full.
const fn entry_bytes<T>() -> usize {
    (size_of::<T>() + 1) * 2
}

/// Memory that the allocator takes for so many bytes.
fn heap_bytes(bytes: usize) -> usize {
    (bytes + 8).next_multiple_of(16).max(32)
}

/// Of what is counted: an `Arc<str>` or `Arc<[u8]>`.
fn shared_bytes(bytes: usize) -> usize {
    heap_bytes(bytes + 2 * size_of::<usize>())
}

/// Of the bound, what topics without events may take, for the sake of their floors: an eighth.
const QUIET_SHARE: usize = 8;

/// Entries from which on a map that is nearly empty is made smaller.
const SPARSE_MIN: usize = 1024;

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub struct WindowLimits {
    pub age_max: Duration,
    pub bytes_max: usize,
    /// What one organization may take of it, so that one's import does not evict another's history.
    pub organization_bytes_max: usize,
}

/// An event that can be sent again.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) position: Position,
    pub(super) xid: Xid,
    pub(super) event: Arc<str>,
    pub(super) encoding: Encoding,
    pub(super) payload: Bytes,
    /// The `meta` object as JSON text.
    pub(super) meta: Arc<[u8]>,
    /// The row of `realtime.messages` that it is.
    row: Option<Uuid>,
    bytes: u32,
    /// Events of the channel with a binary payload, up to this one.
    binaries: u32,
    /// The newest transaction of the channel's events up to this one, as a whole id.
    newest: u64,
}

impl Kept {
    /// `sharers`: the events of its change, which have the `meta` in common.
    pub(super) fn new(position: Position, xid: Xid, event: &Event, meta: &Arc<[u8]>, sharers: usize) -> Self {
        let Event { event, payload, message, .. } = event;
        let encoding = match message {
            Some(RealtimeMessage { binary: true, .. }) => Encoding::Binary,
            _ => Encoding::Json,
        };
        let row = message.map(|message| message.id);
        // Names of routes are the routes' own.
        let of_row = row.map_or(0, |_| shared_bytes(event.len()) + ROW_BYTES);
        let bytes =
            EVENT_BYTES + heap_bytes(payload.len()) + shared_bytes(meta.len()) / sharers.max(1) + of_row;
        Self {
            position,
            xid,
            event: Arc::clone(event),
            encoding,
            payload: payload.clone(),
            meta: Arc::clone(meta),
            row,
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            binaries: 0,
            newest: 0,
        }
    }

    fn bytes(&self) -> usize {
        self.bytes as usize
    }

    /// Whether it is this row of `realtime.messages`.
    pub(super) fn is_row(&self, id: Uuid) -> bool {
        self.row == Some(id)
    }
}

#[derive(Clone, Copy, Debug)]
struct Commit {
    /// Of the transaction's last change.
    position: Position,
    committed_at: Timestamp,
    /// The latest time up to here: clocks go back, and times of commits overtake each other.
    latest: Timestamp,
}

#[derive(Debug)]
struct Channel {
    events: TightQueue<Kept>,
    /// Everything of this channel above it is here.
    floor: Position,
    /// Where the rows of `realtime.messages` are.
    rows: Option<Box<HashMap<Uuid, Position>>>,
    /// It is among those of its organization that had no events.
    is_quiet: bool,
}

impl Channel {
    fn at(floor: Position) -> Self {
        Self { events: TightQueue::default(), floor, rows: None, is_quiet: false }
    }

    /// `id`: the whole id of the event's transaction.
    fn push(&mut self, mut kept: Kept, id: u64) {
        kept.newest = id;
        if let Some(last) = self.events.back() {
            kept.binaries = last.binaries;
            kept.newest = id.max(last.newest);
        }
        kept.binaries = kept.binaries.wrapping_add(u32::from(kept.encoding == Encoding::Binary));
        if let Some(row) = kept.row {
            // Clients come back with one of the last.
            self.rows.get_or_insert_default().insert(row, kept.position);
        }
        self.events.push_back(kept);
    }

    fn pop(&mut self) -> Option<Kept> {
        let kept = self.events.pop_front()?;
        self.floor = kept.position;
        if let (Some(row), Some(rows)) = (kept.row, &mut self.rows) {
            if rows.get(&row) == Some(&kept.position) {
                rows.remove(&row);
            }
            give_back(rows);
        }
        if self.events.is_empty() {
            self.rows = None;
        }
        Some(kept)
    }
}

/// The binary logarithm of a size, and what is oldest.
type Rank = (u32, Reverse<Position>);

#[derive(Debug, Default)]
struct Organization {
    /// The topics of its events, in the order of the events.
    order: TightQueue<Topic>,
    bytes: usize,
    /// Where its oldest event is; if it has none, since when its quietest topic has been so.
    oldest: Position,
    rank: Rank,
    /// Topics that have had no events since then, in this order. Some may have events again.
    quiet: TightQueue<(Position, Topic)>,
    /// Memory of these.
    quiet_bytes: usize,
    /// Of topics that are not known: everything above it is here.
    floor: Position,
}

/// What was sent lately, by topic.
#[derive(Debug)]
pub(super) struct Window {
    limits: WindowLimits,
    channels: HashMap<Topic, Channel>,
    organizations: HashMap<Uuid, Organization>,
    /// Organizations by what they take: the largest gives way first, and of those that are about as large the one with
    /// the oldest event.
    by_rank: BTreeSet<(Rank, Uuid)>,
    /// Those that have topics without events, by where the first of these fell quiet.
    by_quiet: BTreeSet<(Position, Uuid)>,
    quiet_bytes: usize,
    /// Of organizations that are not known: everything above it is here.
    unknown_floor: Position,
    /// Every commit, with or without events, in order: positions that a client may have, and when they were.
    commits: TightQueue<Commit>,
    bytes: usize,
    event_count: usize,
    /// Everything above it is here, except where a channel's floor says otherwise.
    floor: Position,
    /// When the commit at the floor was; None while the floor is where reading began.
    floor_at: Option<Timestamp>,
    head: Position,
    evicted: Evicted,
    /// Where tables were emptied last whose rows went to channels of a name.
    emptied: Vec<Emptied>,
}

#[derive(Debug)]
struct Emptied {
    channels: Template,
    position: Position,
    xid: Xid,
}

/// Why a position is not one to go on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gap {
    /// What came after it is not all there any more.
    BelowFloor,
    /// It has not been reached.
    AboveHead,
    /// No transaction committed there.
    UnknownCommit,
}

impl Window {
    pub(super) fn new(limits: WindowLimits) -> Self {
        Self {
            limits,
            channels: HashMap::new(),
            organizations: HashMap::new(),
            by_rank: BTreeSet::new(),
            by_quiet: BTreeSet::new(),
            quiet_bytes: 0,
            unknown_floor: Position::default(),
            commits: TightQueue::default(),
            bytes: 0,
            event_count: 0,
            floor: Position::default(),
            floor_at: None,
            head: Position::default(),
            evicted: Evicted::default(),
            emptied: Vec::new(),
        }
    }

    /// The last change applied, or where reading began.
    pub(super) fn head(&self) -> Position {
        self.head
    }

    /// Forgets everything at or below a position, where events are missing from here on back.
    pub(super) fn start_at(&mut self, position: Position) {
        let limits = self.limits;
        let old = std::mem::replace(self, Self { floor: position, head: position, ..Self::new(limits) });
        // A snapshot may still not show what was streamed.
        self.evicted = old.evicted;
        for kept in old.channels.values().flat_map(|channel| channel.events.iter()) {
            self.evicted.note(kept.xid);
        }
    }

    /// The database is about to give out this transaction id. `is_elsewhere`: it is not the one of before, or has lost
    /// transactions since, and may give out their ids once more.
    pub(super) fn learn_id(&mut self, id: u64, is_elsewhere: bool) {
        if is_elsewhere {
            self.evicted.clear();
        }
        self.evicted.learn(id);
    }

    /// The stream has brought this transaction.
    pub(super) fn witness(&mut self, xid: Xid) {
        self.evicted.witness(xid);
    }

    /// Notes that a change was applied, whether or not it led to events.
    pub(super) fn advance(&mut self, position: Position, committed_at: Timestamp) {
        self.head = position;
        match self.commits.back_mut() {
            Some(last) if last.position.commit() == position.commit() => last.position = position,
            _ => {
                let latest = self.commits.back().map_or(committed_at, |last| last.latest.max(committed_at));
                self.commits.push_back(Commit { position, committed_at, latest });
                self.bytes += COMMIT_BYTES;
                self.shrink();
            }
        }
    }

    /// The change last noted emptied tables: what came of their rows is not sent again, and a client that has some of it
    /// is told. At most one entry a template, so there is no bound to keep.
    pub(super) fn empty(&mut self, channels: &[Template], xid: Xid) {
        let position = self.head;
        self.emptied.retain(|known| !channels.contains(&known.channels));
        let emptied = |channels: &Template| Emptied { channels: channels.clone(), position, xid };
        self.emptied.extend(channels.iter().map(emptied));
    }

    /// Keeps an event of the change last noted.
    pub(super) fn keep(&mut self, topic: &Topic, kept: Kept) {
        let mut bytes = kept.bytes();
        let id = organization_of(topic);
        let organization = self.organizations.entry(id).or_insert_with(|| {
            bytes += ORGANIZATION_BYTES;
            Organization { floor: self.unknown_floor, ..Organization::default() }
        });
        if organization.order.is_empty() {
            organization.oldest = kept.position;
        }
        organization.order.push_back(topic.clone());
        let floor = self.floor.max(organization.floor);
        let channel = self.channels.entry(topic.clone()).or_insert_with(|| {
            bytes += topic_bytes(topic);
            Channel::at(floor)
        });
        let transaction = self.evicted.whole_id(kept.xid);
        channel.push(kept, transaction);
        self.event_count += 1;
        self.resize(id, |size| size + bytes);
        let is_over = |window: &Self| {
            let known = window.organizations.get(&id);
            known.is_some_and(|known| known.bytes > window.limits.organization_bytes_max)
        };
        while is_over(self) && self.give_way(id) {}
        self.shrink();
    }

    /// Keeps to the bound. Events go before commits, which only say which positions exist.
    fn shrink(&mut self) {
        while self.bytes > self.limits.bytes_max {
            let quietest =
                self.by_quiet.first().filter(|_| self.quiet_bytes > self.limits.bytes_max / QUIET_SHARE);
            let gave_way = match (quietest.copied(), self.by_rank.last().copied()) {
                (Some((_, quietest)), _) => self.forget_quietest_of(quietest),
                (None, Some((_, largest))) => self.give_way(largest),
                (None, None) => false,
            };
            if !gave_way && !self.forget_oldest_commit() {
                return;
            }
        }
    }

    /// Makes an organization smaller, if it can be.
    fn give_way(&mut self, id: Uuid) -> bool {
        let Some(known) = self.organizations.get(&id) else { return false };
        match known.quiet_bytes > known.bytes / 4 {
            true => self.forget_quietest_of(id) || self.evict_oldest_of(id),
            false => self.evict_oldest_of(id) || self.forget_quietest_of(id),
        }
    }

    /// Drops what is older than the window.
    pub(super) fn expire(&mut self, now: Timestamp) {
        let age_max = i64::try_from(self.limits.age_max.as_micros()).unwrap_or(i64::MAX);
        let oldest = Timestamp(now.0.saturating_sub(age_max));
        while self.commits.front().is_some_and(|commit| commit.committed_at < oldest) {
            self.forget_oldest_commit();
        }
        let floor = self.floor;
        let ids: Vec<Uuid> = self.organizations.keys().copied().collect();
        for id in ids {
            while self.oldest_of(id).is_some_and(|kept| kept.position <= floor) {
                self.evict_oldest_of(id);
            }
        }
        while let Some((since, id)) = self.by_quiet.first().copied()
            && since <= floor
        {
            self.forget_quietest_of(id);
        }
        give_back(&mut self.channels);
        give_back(&mut self.organizations);
        self.emptied.retain(|known| known.position > floor);
    }

    /// Whether a client that has everything of a topic up to `after` can go on from there without a gap.
    pub(super) fn check(&self, topic: &Topic, after: Position) -> Result<(), Gap> {
        if after > self.head {
            return Err(Gap::AboveHead);
        }
        if after < self.floor_of(topic) {
            return Err(Gap::BelowFloor);
        }
        let wanted = after.commit();
        let is_known = wanted == self.floor.commit()
            || self.commits.binary_search_by_key(&wanted, |commit| commit.position.commit()).is_ok();
        if is_known { Ok(()) } else { Err(Gap::UnknownCommit) }
    }

    /// Everything of a topic above it is here, and none of it tells of rows that were gone at a stroke.
    pub(super) fn floor_of(&self, topic: &Topic) -> Position {
        let floor = self.floor_of_channel(topic).max(self.floor);
        self.emptied_of(topic).map(|known| known.position).fold(floor, Position::max)
    }

    /// The same but for the commits that were forgotten.
    fn floor_of_channel(&self, topic: &Topic) -> Position {
        let of_unknown = || {
            let organization = self.organizations.get(&organization_of(topic));
            organization.map_or(self.unknown_floor, |known| known.floor).max(self.floor)
        };
        self.channels.get(topic).map_or_else(of_unknown, |channel| channel.floor)
    }

    fn emptied_of(&self, topic: &Topic) -> impl Iterator<Item = &Emptied> {
        self.emptied.iter().filter(|known| known.channels.can_address(topic))
    }

    /// Whether the window has lost something of a topic above a position. Commits without events on it that have left
    /// are no loss, except where nothing of the topic is remembered.
    pub(super) fn overtakes(&self, topic: &Topic, position: Position) -> bool {
        position < self.floor_of_channel(topic)
            || self.emptied_of(topic).any(|known| position < known.position)
    }

    /// The events of a topic above a position, oldest first.
    pub(super) fn after(&self, topic: &Topic, after: Position) -> vec_deque::Iter<'_, Kept> {
        const NONE: &VecDeque<Kept> = &VecDeque::new();
        let events = self.channels.get(topic).map_or(NONE, |channel| &*channel.events);
        events.range(events.partition_point(|kept| kept.position <= after)..)
    }

    /// How many of them there are for a serialization.
    pub(super) fn count_after(&self, topic: &Topic, after: Position, vsn: Vsn) -> usize {
        let events = self.after(topic, after);
        let (count, first, last) = (events.len(), events.clone().next(), events.clone().next_back());
        let binaries = match (first, last) {
            (Some(first), Some(last)) => {
                let before = first.binaries.wrapping_sub(u32::from(first.encoding == Encoding::Binary));
                last.binaries.wrapping_sub(before) as usize
            }
            _ => 0,
        };
        if Encoding::Binary.is_for(vsn) { count } else { count - binaries }
    }

    /// From where on a topic may have events that a snapshot does not show: it shows all up to there.
    pub(super) fn shown_up_to(&self, topic: &Topic, snapshot: &Snapshot) -> Position {
        let floor = self.floor_of(topic);
        let Some(channel) = self.channels.get(topic) else { return floor };
        let shown = channel.events.partition_point(|kept| !snapshot.is_recent(kept.newest));
        let last = shown.checked_sub(1).and_then(|last| channel.events.get(last));
        last.map_or(floor, |kept| kept.position.max(floor))
    }

    /// Where a row of `realtime.messages` was sent to a topic.
    pub(super) fn position_of(&self, topic: &Topic, row: Uuid) -> Option<Position> {
        let found = self.channels.get(topic)?.rows.as_ref()?.get(&row).copied();
        found.filter(|position| *position >= self.floor_of(topic))
    }

    /// Where to begin so that everything committed at or after `since` follows, at most `limit` events; and whether
    /// that is everything.
    pub(super) fn since(&self, topic: &Topic, since: Timestamp, limit: usize) -> (Position, bool) {
        let floor = self.floor_of(topic);
        // Commits are in the order of their positions, their times only nearly: the first that is late enough counts.
        let before = match self.commits.partition_point(|commit| commit.latest < since) {
            first if first == self.commits.len() => self.head,
            0 => self.floor,
            first => self.commits[first - 1].position,
        };
        let known_since = self.floor_at.or(self.commits.front().map(|commit| commit.committed_at));
        let complete = known_since.is_some_and(|known| known < since) && floor <= before;
        let start = before.max(floor);
        let mut found = self.after(topic, start);
        match found.len().checked_sub(limit) {
            None | Some(0) => (start, complete),
            Some(surplus) => (found.nth(surplus - 1).map_or(start, |left_out| left_out.position), false),
        }
    }

    /// Whether everything that a snapshot does not show, and that was streamed to a topic, is here.
    pub(super) fn complements(&self, snapshot: &Snapshot, topic: &Topic) -> bool {
        self.evicted.are_shown(snapshot)
            && self.emptied_of(topic).all(|emptied| {
                let before = self.channels.get(topic).into_iter().flat_map(|channel| channel.events.iter());
                let mut before = before.take_while(|kept| kept.position <= emptied.position);
                snapshot.shows(emptied.xid) && before.all(|kept| snapshot.shows(kept.xid))
            })
    }

    fn oldest_of(&self, id: Uuid) -> Option<&Kept> {
        let topic = self.organizations.get(&id)?.order.front()?;
        self.channels.get(topic)?.events.front()
    }

    /// False if there is none.
    fn evict_oldest_of(&mut self, id: Uuid) -> bool {
        let Some(organization) = self.organizations.get_mut(&id) else { return false };
        let Some(topic) = organization.order.pop_front() else { return false };
        let channel = self.channels.get_mut(&topic).expect("a topic in the order has events");
        let kept = channel.pop().expect("as many as the order names it");
        if channel.events.is_empty() && !std::mem::replace(&mut channel.is_quiet, true) {
            self.fall_quiet(id, topic, kept.position);
        }
        self.event_count -= 1;
        self.evicted.note(kept.xid);
        self.find_oldest_of(id);
        self.resize(id, |size| size - kept.bytes());
        true
    }

    /// The last event of a topic has left: what is known of it is where it was.
    fn fall_quiet(&mut self, id: Uuid, topic: Topic, floor: Position) {
        let bytes = topic_bytes(&topic);
        let Some(organization) = self.organizations.get_mut(&id) else { return };
        if organization.quiet.is_empty() {
            self.by_quiet.insert((floor, id));
        }
        organization.quiet.push_back((floor, topic));
        organization.quiet_bytes += bytes;
        self.quiet_bytes += bytes;
    }

    /// Forgets the topic of an organization that has been without events for longest, unless it has some again. From
    /// here on its floor is that of all topics of the organization that are not known. False if there is none.
    fn forget_quietest_of(&mut self, id: Uuid) -> bool {
        let Some(organization) = self.organizations.get_mut(&id) else { return false };
        let Some((since, topic)) = organization.quiet.pop_front() else { return false };
        let bytes = topic_bytes(&topic);
        organization.quiet_bytes -= bytes;
        self.quiet_bytes -= bytes;
        self.by_quiet.remove(&(since, id));
        if let Some((next, _)) = organization.quiet.front() {
            self.by_quiet.insert((*next, id));
        }
        if let Some(channel) = self.channels.get_mut(&topic) {
            channel.is_quiet = false;
            if channel.events.is_empty() {
                organization.floor = organization.floor.max(channel.floor);
                self.channels.remove(&topic);
                self.find_oldest_of(id);
                self.resize(id, |size| size - bytes);
            }
        }
        self.forget_organization(id);
        true
    }

    /// Forgets an organization of which nothing is left. Its floor is from here on that of all that are not known.
    fn forget_organization(&mut self, id: Uuid) {
        let is_over = |known: &Organization| known.order.is_empty() && known.quiet.is_empty();
        if self.organizations.get(&id).is_some_and(is_over)
            && let Some(Organization { bytes, rank, floor, .. }) = self.organizations.remove(&id)
        {
            self.bytes -= bytes;
            self.by_rank.remove(&(rank, id));
            self.unknown_floor = self.unknown_floor.max(floor);
        }
    }

    /// False if there is none.
    fn forget_oldest_commit(&mut self) -> bool {
        let Some(commit) = self.commits.pop_front() else { return false };
        self.floor = commit.position;
        self.floor_at = Some(commit.committed_at);
        self.bytes -= COMMIT_BYTES;
        true
    }

    fn resize(&mut self, id: Uuid, size: impl FnOnce(usize) -> usize) {
        let Some(organization) = self.organizations.get_mut(&id) else { return };
        let before = organization.bytes;
        organization.bytes = size(before);
        self.bytes = self.bytes - before + organization.bytes;
        let rank = (organization.bytes.max(1).ilog2(), Reverse(organization.oldest));
        if rank != organization.rank {
            self.by_rank.remove(&(organization.rank, id));
            organization.rank = rank;
        }
        self.by_rank.insert((rank, id));
    }

    /// Looks again for the oldest of what an organization has: an event, or else a topic without any.
    fn find_oldest_of(&mut self, id: Uuid) {
        let event = self.oldest_of(id).map(|kept| kept.position);
        if let Some(organization) = self.organizations.get_mut(&id) {
            let quiet = || organization.quiet.front().map(|(since, _)| *since);
            organization.oldest = event.or_else(quiet).unwrap_or_default();
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn event_count(&self) -> usize {
        self.event_count
    }
}

fn topic_bytes(topic: &Topic) -> usize {
    match topic {
        Topic::Other(name) => TOPIC_BYTES + shared_bytes(name.len()),
        _ => TOPIC_BYTES,
    }
}

/// Makes a map smaller that has become nearly empty.
fn give_back<K: Eq + Hash, V>(map: &mut HashMap<K, V>) {
    if map.capacity() > SPARSE_MIN && map.len() < map.capacity() / 4 {
        map.shrink_to(2 * map.len());
    }
}

/// Channels outside `org:` share one account.
fn organization_of(topic: &Topic) -> Uuid {
    topic.organization().unwrap_or(Uuid::nil())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::Lsn;

    const LIMITS: WindowLimits = WindowLimits {
        age_max: Duration::from_secs(300),
        bytes_max: 100_000,
        organization_bytes_max: 60_000,
    };

    fn at(lsn: u64) -> Position {
        Position { timeline: 1, commit_lsn: Lsn(lsn), change: 0 }
    }

    fn seconds(seconds: i64) -> Timestamp {
        Timestamp(seconds * 1_000_000)
    }

    fn topic(organization: u128) -> Topic {
        Topic::channel_organization(Uuid::from_u128(organization))
    }

    /// A window that began just before LSN 1.
    fn window() -> Window {
        let mut window = Window::new(LIMITS);
        window.start_at(Position::before(1, Lsn(1)));
        window
    }

    const LARGER: WindowLimits =
        WindowLimits { bytes_max: 600_000, organization_bytes_max: 400_000, ..LIMITS };

    fn larger_window() -> Window {
        let mut window = Window::new(LARGER);
        window.start_at(Position::before(1, Lsn(1)));
        window
    }

    /// A transaction that commits at second `lsn` with one event of a topic.
    fn commit(window: &mut Window, lsn: u64, topic: &Topic, bytes: usize) {
        window.witness(Xid(lsn as u32));
        window.advance(at(lsn), seconds(lsn as i64));
        let payload = vec![b'x'; bytes].into();
        let event = Event { topic: topic.clone(), event: "e".into(), payload, message: None };
        let meta = b"{}".as_slice().into();
        window.keep(topic, Kept::new(at(lsn), Xid(lsn as u32), &event, &meta, 1));
    }

    fn lsns(window: &Window, topic: &Topic, after: Position) -> Vec<u64> {
        window.after(topic, after).map(|kept| kept.position.commit_lsn.0).collect()
    }

    #[test]
    fn what_came_after_a_position_is_found() {
        let mut window = window();
        for lsn in 1..=6 {
            commit(&mut window, lsn, &topic(lsn as u128 % 2), 10);
        }
        assert_eq!(lsns(&window, &topic(1), at(0)), [1, 3, 5]);
        assert_eq!(lsns(&window, &topic(1), at(2)), [3, 5]);
        assert_eq!(lsns(&window, &topic(1), at(3)), [5]);
        assert_eq!(lsns(&window, &topic(1), at(5)), [0; 0]);
        assert_eq!(lsns(&window, &topic(7), at(0)), [0; 0]);
        assert_eq!(window.head(), at(6));
    }

    #[test]
    fn only_positions_that_were_given_out_are_good_to_go_on_from() {
        let mut window = window();
        let start = window.head();
        assert_eq!(window.check(&topic(1), start), Ok(()));
        for lsn in [10, 20, 30] {
            commit(&mut window, lsn, &topic(1), 10);
        }
        for position in [start, at(10), at(20), at(30)] {
            assert_eq!(window.check(&topic(1), position), Ok(()), "{position:?}");
        }
        assert_eq!(window.check(&topic(1), at(15)), Err(Gap::UnknownCommit));
        assert_eq!(window.check(&topic(1), at(31)), Err(Gap::AboveHead));
        assert_eq!(window.check(&topic(1), Position::default()), Err(Gap::BelowFloor));
    }

    #[test]
    fn a_position_of_a_history_that_was_left_is_unknown() {
        let on = |timeline, lsn| Position { timeline, ..at(lsn) };
        let mut window = window();
        window.advance(on(1, 50), seconds(50));
        window.advance(on(2, 100), seconds(100));
        assert_eq!(window.check(&topic(1), on(1, 50)), Ok(()));
        assert_eq!(window.check(&topic(1), on(2, 100)), Ok(()));
        assert_eq!(window.check(&topic(1), on(1, 100)), Err(Gap::UnknownCommit));
        assert_eq!(window.check(&topic(1), on(2, 50)), Err(Gap::UnknownCommit));
        // The floor is a position of one timeline too.
        window.advance(on(3, 500), seconds(500));
        window.expire(seconds(450));
        assert_eq!(window.check(&topic(1), on(2, 100)), Ok(()));
        window.start_at(on(2, 600));
        assert_eq!(window.check(&topic(1), on(2, 600)), Ok(()));
        window.advance(on(3, 700), seconds(700));
        assert_eq!(window.check(&topic(1), on(3, 600)), Err(Gap::UnknownCommit));
    }

    #[test]
    fn a_transaction_without_events_is_a_position_too() {
        let mut window = window();
        commit(&mut window, 10, &topic(1), 10);
        window.advance(at(20), seconds(20));
        assert_eq!(window.head(), at(20));
        assert_eq!(window.check(&topic(1), at(20)), Ok(()));
    }

    #[test]
    fn what_is_too_old_leaves_and_raises_the_floor() {
        let mut window = window();
        for lsn in [10, 20, 300, 310] {
            commit(&mut window, lsn, &topic(1), 10);
        }
        window.expire(seconds(310));
        assert_eq!(lsns(&window, &topic(1), at(0)), [10, 20, 300, 310]);
        window.expire(seconds(311));
        assert_eq!(lsns(&window, &topic(1), at(0)), [20, 300, 310]);
        assert_eq!(window.check(&topic(1), at(10)), Ok(()), "everything after it is still there");
        assert_eq!(window.check(&topic(1), Position::before(1, Lsn(1))), Err(Gap::BelowFloor));
        window.expire(seconds(10_000));
        assert_eq!((window.event_count(), window.bytes()), (0, 0));
        assert!(window.channels.is_empty() && window.organizations.is_empty() && window.by_rank.is_empty());
        assert_eq!(window.check(&topic(1), window.head()), Ok(()), "a quiet channel has a position too");
        assert_eq!(window.check(&topic(1), at(300)), Err(Gap::BelowFloor));
    }

    #[test]
    fn one_organizations_import_evicts_its_own_history_only() {
        let mut window = window();
        commit(&mut window, 1, &topic(1), 1_000);
        for lsn in 2..200 {
            commit(&mut window, lsn, &topic(2), 1_000);
        }
        assert!(window.bytes() <= LIMITS.bytes_max);
        assert_eq!(lsns(&window, &topic(1), at(0)), [1]);
        assert_eq!(window.check(&topic(1), Position::before(1, Lsn(1))), Ok(()));
        assert_eq!(window.check(&topic(2), at(2)), Err(Gap::BelowFloor));
        assert_eq!(window.check(&topic(2), at(199)), Ok(()));
        let kept = lsns(&window, &topic(2), at(0));
        let (floor, first) = (window.floor_of(&topic(2)), kept[0]);
        assert_eq!(floor, at(first - 1));
        assert_eq!(kept, (first..200).collect::<Vec<_>>());
    }

    #[test]
    fn the_largest_gives_way_when_all_is_full() {
        let mut window = window();
        let mut lsn = 0;
        let mut next = |window: &mut Window, organization: u128, bytes| {
            lsn += 1;
            commit(window, lsn, &topic(organization), bytes);
        };
        for _ in 0..20 {
            next(&mut window, 1, 2_000);
        }
        for _ in 0..24 {
            next(&mut window, 2, 1_000);
            next(&mut window, 3, 1_000);
        }
        assert!(window.bytes() <= LIMITS.bytes_max);
        assert_eq!(lsns(&window, &topic(2), at(0)).len(), 24);
        assert_eq!(lsns(&window, &topic(3), at(0)).len(), 24);
        assert!(lsns(&window, &topic(1), at(0)).len() < 20);
    }

    #[test]
    fn topics_without_events_are_bounded_and_no_position_below_them_is_good() {
        let mut window = larger_window();
        let conversation =
            |number: u64| Topic::channel_conversation(Uuid::from_u128(7), Uuid::from_u128(number.into()));
        for lsn in 1..2_000 {
            commit(&mut window, lsn, &conversation(lsn), 10);
        }
        assert!(window.bytes() <= LARGER.bytes_max, "{}", window.bytes());
        assert!(window.event_count() > 250 && window.event_count() < 1_000, "{}", window.event_count());
        // Whatever is said to be whole is.
        for lsn in 1..2_000 {
            let is_kept = lsns(&window, &conversation(lsn), at(0)) == [lsn];
            if lsn > 1 {
                assert!(is_kept || window.check(&conversation(lsn), at(lsn - 1)).is_err(), "{lsn}");
            }
            assert_eq!(window.overtakes(&conversation(lsn), at(lsn - 1)), !is_kept, "{lsn}");
            let (start, complete) = window.since(&conversation(lsn), seconds(lsn as i64), 10);
            assert!(!complete || !lsns(&window, &conversation(lsn), start).is_empty(), "{lsn}");
        }
        assert_eq!(window.check(&conversation(1), window.head()), Ok(()));
        window.expire(seconds(1_000_000));
        assert_eq!((window.event_count(), window.bytes()), (0, 0));
        assert!(window.channels.is_empty() && window.organizations.is_empty() && window.by_quiet.is_empty());
    }

    #[test]
    fn organizations_without_events_are_bounded_too() {
        let mut window = larger_window();
        for lsn in 1..2_000 {
            commit(&mut window, lsn, &topic(lsn.into()), 10);
        }
        assert!(window.bytes() <= LARGER.bytes_max, "{}", window.bytes());
        assert!(window.event_count() > 250 && window.event_count() < 1_000, "{}", window.event_count());
        for lsn in 2..2_000_u64 {
            let is_kept = lsns(&window, &topic(lsn.into()), at(0)) == [lsn];
            assert!(is_kept || window.check(&topic(lsn.into()), at(lsn - 1)).is_err(), "{lsn}");
        }
        // One that comes back has lost what it had.
        let is_gone = |lsn: &u64| lsns(&window, &topic(u128::from(*lsn)), at(0)).is_empty();
        let back = (2..2_000).find(is_gone).unwrap();
        commit(&mut window, 2_000, &topic(back.into()), 10);
        assert!(window.check(&topic(back.into()), at(back - 1)).is_err());
        assert_eq!(window.check(&topic(back.into()), at(1_999)), Ok(()));
        window.expire(seconds(1_000_000));
        assert_eq!((window.event_count(), window.bytes()), (0, 0));
        assert!(window.channels.is_empty() && window.organizations.is_empty() && window.by_quiet.is_empty());
    }

    #[test]
    fn rows_are_found_where_they_are_and_serializations_counted() {
        let mut window = window();
        let topic = Topic::Other("room".into());
        let row = |number: u64| Uuid::from_u128(number.into());
        for lsn in 1..=600_u64 {
            window.advance(at(lsn), seconds(lsn as i64));
            let message = Some(RealtimeMessage { id: row(lsn % 500), private: true, binary: lsn % 3 == 0 });
            let event =
                Event { topic: topic.clone(), event: "e".into(), payload: vec![b'x'; 10].into(), message };
            let meta = b"{}".as_slice().into();
            window.keep(&topic, Kept::new(at(lsn), Xid(lsn as u32), &event, &meta, 1));
        }
        let kept = lsns(&window, &topic, at(0));
        let (first, floor) = (kept[0], window.floor_of(&topic));
        assert!(first > 250 && first < 500, "{first}");
        for number in 0..500 {
            let last = if number <= 100 { number + 500 } else { number };
            let expected = (at(last) > floor).then_some(at(last));
            assert_eq!(window.position_of(&topic, row(number)), expected, "{number}");
        }
        for after in [at(0), floor, at(first), at(first + 1), at(599), at(600)] {
            let events = || window.after(&topic, after);
            let of_v1 = events().filter(|kept| kept.encoding.is_for(Vsn::V1)).count();
            assert_eq!(window.count_after(&topic, after, Vsn::V1), of_v1, "{after:?}");
            assert_eq!(window.count_after(&topic, after, Vsn::V2), events().count());
        }
    }

    #[test]
    fn clocks_that_go_back_hide_nothing() {
        let mut window = window();
        for (lsn, second) in [(10, 100), (20, 105), (30, 103), (40, 90), (50, 106), (60, 104)] {
            window.advance(at(lsn), seconds(second));
        }
        let check = |second, expected: u64| {
            let before = if expected == 0 { window.floor } else { at(expected) };
            assert_eq!(window.since(&topic(1), seconds(second), 10).0, before, "{second}");
        };
        for (second, expected) in [(90, 0), (100, 0), (101, 10), (105, 10), (106, 40), (107, 60)] {
            check(second, expected);
        }
    }

    #[test]
    fn a_snapshot_is_complemented_from_where_it_may_lack_something() {
        let mut window = window();
        for (lsn, xid) in [(10, 10), (20, 12), (30, 11), (40, 15), (50, 14), (60, 16)] {
            window.advance(at(lsn), seconds(lsn as i64));
            let event = Event { topic: topic(1), event: "e".into(), payload: "{}".into(), message: None };
            window.keep(&topic(1), Kept::new(at(lsn), Xid(xid), &event, &b"{}".as_slice().into(), 1));
        }
        let check = |snapshot: &str, expected| {
            assert_eq!(window.shown_up_to(&topic(1), &snapshot.parse().unwrap()), expected, "{snapshot}");
        };
        let floor = window.floor_of(&topic(1));
        check("17:17:", at(60));
        check("16:16:", at(50));
        check("15:17:15", at(30));
        check("12:17:12,14", at(10));
        check("10:17:10", floor);
        check("10:10:", floor);
        assert_eq!(window.shown_up_to(&topic(2), &"17:17:".parse().unwrap()), floor);
    }

    #[test]
    fn commits_without_events_are_bounded_too() {
        let mut window = window();
        commit(&mut window, 1, &topic(1), 10);
        for lsn in 2..20_000 {
            window.advance(at(lsn), seconds(1));
        }
        assert!(window.bytes() <= LIMITS.bytes_max, "{}", window.bytes());
    }

    #[test]
    fn since_gives_the_newest_and_says_whether_that_is_all() {
        let mut window = window();
        for lsn in [10, 20, 30, 40] {
            commit(&mut window, lsn, &topic(1), 10);
        }
        let check = |since, limit, expected: &[u64], complete| {
            let (start, is_complete) = window.since(&topic(1), seconds(since), limit);
            assert_eq!(lsns(&window, &topic(1), start), expected, "since {since}, {limit}");
            assert_eq!(is_complete, complete, "since {since}, {limit}");
        };
        check(20, 10, &[20, 30, 40], true);
        check(20, 3, &[20, 30, 40], true);
        check(20, 2, &[30, 40], false);
        check(41, 10, &[], true);
        // Nobody knows what was before the window began.
        check(5, 10, &[10, 20, 30, 40], false);
        window.expire(seconds(311));
        let (start, complete) = window.since(&topic(1), seconds(15), 10);
        assert_eq!((lsns(&window, &topic(1), start), complete), (vec![20, 30, 40], true));
    }

    #[test]
    fn since_is_not_complete_where_the_channel_has_lost_events() {
        let mut window = window();
        for lsn in 10..200 {
            commit(&mut window, lsn, &topic(1), 1_000);
        }
        window.advance(at(200), seconds(200));
        let floor = window.floor_of(&topic(1));
        assert!(floor > at(100), "{floor:?}");
        let check = |lsn: u64, expected: (Position, bool)| {
            assert_eq!(window.since(&topic(1), seconds(lsn as i64), 1_000), expected, "since {lsn}");
        };
        check(100, (floor, false));
        check(floor.commit_lsn.0, (floor, false));
        check(floor.commit_lsn.0 + 1, (floor, true));
        check(200, (at(199), true));
        // Another topic has lost nothing.
        assert_eq!(window.since(&topic(2), seconds(100), 10), (at(99), true));
    }

    #[test]
    fn a_snapshot_that_does_not_show_what_was_evicted_is_not_complemented() {
        let mut window = window();
        for lsn in 10..=20 {
            commit(&mut window, lsn, &topic(1), 10);
        }
        let complements =
            |window: &Window, snapshot: &str| window.complements(&snapshot.parse().unwrap(), &topic(1));
        assert!(complements(&window, "1:1:"), "nothing was evicted");
        window.expire(seconds(312));
        assert!(complements(&window, "21:21:"));
        assert!(complements(&window, "12:21:12,15"), "what it does not show is still here");
        assert!(!complements(&window, "11:21:11"), "the evicted one waits for a standby");
        assert!(!complements(&window, "11:11:"));
        assert!(
            complements(&window, "5:21:5"),
            "an old transaction that goes on is not one that was streamed"
        );
        for lsn in 21..40_000 {
            commit(&mut window, lsn, &topic(1), 1_000);
        }
        assert!(complements(&window, "40000:40000:"));
        assert!(!complements(&window, "5:40000:5"), "it may be one of those that were forgotten");
    }

    #[test]
    fn what_was_evicted_is_no_loss_however_many_transactions_came_since() {
        let mut window = window();
        for lsn in 10..40_000 {
            commit(&mut window, lsn, &topic(1), 1_000);
        }
        window.expire(seconds(100_000));
        let complements =
            |window: &Window, snapshot: &str| window.complements(&snapshot.parse().unwrap(), &topic(1));
        assert!(complements(&window, "40000:40000:"));
        for later in [1 << 31, (1 << 31) + 20_000, 1 << 32, 5 << 31, 1_u64 << 40] {
            let snapshot = format!("{0}:{0}:", later + 40_000);
            assert!(complements(&window, &snapshot), "{snapshot}");
            // And what is evicted then is looked at as before.
        }
    }

    #[test]
    fn starting_over_forgets_everything() {
        let mut window = window();
        commit(&mut window, 10, &topic(1), 10);
        window.start_at(Position::before(1, Lsn(50)));
        assert_eq!(window.check(&topic(1), at(10)), Err(Gap::BelowFloor));
        assert_eq!((window.event_count(), window.bytes()), (0, 0));
    }
}
