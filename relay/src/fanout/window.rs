//! The replay window: what was sent lately, so that a client that was away gets what it missed.
//!
//! In memory, and backed by the slot: the position confirmed to Postgres trails behind the window, so a relay that was
//! killed reads it again. Bounded by time and bytes. Its hazard is silence: every event that leaves raises a floor,
//! and whoever asks for something below the floor is told that it is incomplete.

use std::collections::{BTreeSet, HashMap, VecDeque, vec_deque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use super::evicted::Evicted;
use crate::decode::Timestamp;
use crate::protocol::Encoding;
use crate::route::{Position, Template, Topic};
use crate::wal::{Snapshot, Xid};

/// Memory taken by an event besides its payload, in bytes: the entry itself, and its share of map and queues.
const EVENT_OVERHEAD_BYTES: usize = 192;

/// Memory taken by a commit that is remembered, in bytes.
const COMMIT_BYTES: usize = size_of::<Commit>();

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
}

impl Kept {
    fn bytes(&self) -> usize {
        EVENT_OVERHEAD_BYTES + self.payload.len()
    }

    /// Whether it is this row of `realtime.messages`: then the `meta` begins with the row's id.
    pub(super) fn is_row(&self, id: Uuid) -> bool {
        self.meta.starts_with(format!(r#"{{"id":"{id}""#).as_bytes())
    }
}

#[derive(Clone, Copy, Debug)]
struct Commit {
    /// Of the transaction's last change.
    position: Position,
    committed_at: Timestamp,
}

#[derive(Debug)]
struct Channel {
    events: VecDeque<Kept>,
    /// Everything of this channel above it is here.
    floor: Position,
}

#[derive(Debug, Default)]
struct Organization {
    /// The topics of its events, in the order of the events.
    order: VecDeque<Topic>,
    bytes: usize,
}

/// What was sent lately, by topic.
#[derive(Debug)]
pub(super) struct Window {
    limits: WindowLimits,
    channels: HashMap<Topic, Channel>,
    organizations: HashMap<Uuid, Organization>,
    /// Organizations by what they take: the largest gives way first.
    by_size: BTreeSet<(usize, Uuid)>,
    /// Every commit, with or without events, in order: positions that a client may have, and when they were.
    commits: VecDeque<Commit>,
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
            by_size: BTreeSet::new(),
            commits: VecDeque::new(),
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
        for kept in old.channels.values().flat_map(|channel| &channel.events) {
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
                self.commits.push_back(Commit { position, committed_at });
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
        let bytes = kept.bytes();
        let floor = self.floor;
        let channel =
            self.channels.entry(topic.clone()).or_insert_with(|| Channel { events: VecDeque::new(), floor });
        channel.events.push_back(kept);
        self.event_count += 1;
        let id = organization_of(topic);
        self.organizations.entry(id).or_default().order.push_back(topic.clone());
        self.resize(id, |size| size + bytes);
        while self
            .organizations
            .get(&id)
            .is_some_and(|known| known.bytes > self.limits.organization_bytes_max)
        {
            self.evict_oldest_of(id);
        }
        self.shrink();
    }

    /// Keeps to the bound. Events go before commits, which only say which positions exist.
    fn shrink(&mut self) {
        while self.bytes > self.limits.bytes_max {
            match self.by_size.last() {
                Some((_, largest)) => self.evict_oldest_of(*largest),
                None => self.forget_oldest_commit(),
            }
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
        self.channels.retain(|_, channel| !channel.events.is_empty() || channel.floor > floor);
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
        let floor = self.channels.get(topic).map_or(self.floor, |channel| channel.floor.max(self.floor));
        self.emptied_of(topic).map(|known| known.position).fold(floor, Position::max)
    }

    fn emptied_of(&self, topic: &Topic) -> impl Iterator<Item = &Emptied> {
        self.emptied.iter().filter(|known| known.channels.can_address(topic))
    }

    /// Whether the window has lost something of a topic above a position. Commits without events on it that have left
    /// are no loss, except where nothing of the topic is remembered.
    pub(super) fn overtakes(&self, topic: &Topic, position: Position) -> bool {
        position < self.channels.get(topic).map_or(self.floor, |channel| channel.floor)
            || self.emptied_of(topic).any(|known| position < known.position)
    }

    /// The events of a topic above a position, oldest first.
    pub(super) fn after(&self, topic: &Topic, after: Position) -> vec_deque::Iter<'_, Kept> {
        const NONE: &VecDeque<Kept> = &VecDeque::new();
        let events = self.channels.get(topic).map_or(NONE, |channel| &channel.events);
        events.range(events.partition_point(|kept| kept.position <= after)..)
    }

    /// Where a row of `realtime.messages` was sent to a topic.
    pub(super) fn position_of(&self, topic: &Topic, row: Uuid) -> Option<Position> {
        // Clients come back with one of the last.
        let events = &self.channels.get(topic)?.events;
        let found = events.iter().rev().find(|kept| kept.is_row(row)).map(|kept| kept.position);
        found.filter(|position| *position >= self.floor_of(topic))
    }

    /// Where to begin so that everything committed at or after `since` follows, at most `limit` events; and whether
    /// that is everything.
    pub(super) fn since(&self, topic: &Topic, since: Timestamp, limit: usize) -> (Position, bool) {
        let floor = self.floor_of(topic);
        // Commits are in the order of their positions, their times only nearly: the first that is late enough counts.
        let before = match self.commits.iter().position(|commit| commit.committed_at >= since) {
            Some(0) => self.floor,
            Some(first) => self.commits[first - 1].position,
            None => self.head,
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
                let before = self.channels.get(topic).into_iter().flat_map(|channel| &channel.events);
                let mut before = before.take_while(|kept| kept.position <= emptied.position);
                snapshot.shows(emptied.xid) && before.all(|kept| snapshot.shows(kept.xid))
            })
    }

    fn oldest_of(&self, id: Uuid) -> Option<&Kept> {
        let topic = self.organizations.get(&id)?.order.front()?;
        self.channels.get(topic)?.events.front()
    }

    fn evict_oldest_of(&mut self, id: Uuid) {
        let Some(topic) = self.organizations.get_mut(&id).and_then(|known| known.order.pop_front()) else {
            return;
        };
        let channel = self.channels.get_mut(&topic).expect("a topic in the order has events");
        let kept = channel.events.pop_front().expect("as many as the order names it");
        channel.floor = kept.position;
        self.event_count -= 1;
        self.evicted.note(kept.xid);
        self.resize(id, |size| size - kept.bytes());
    }

    fn forget_oldest_commit(&mut self) {
        if let Some(commit) = self.commits.pop_front() {
            self.floor = commit.position;
            self.floor_at = Some(commit.committed_at);
            self.bytes -= COMMIT_BYTES;
        }
    }

    fn resize(&mut self, id: Uuid, size: impl FnOnce(usize) -> usize) {
        let Some(organization) = self.organizations.get_mut(&id) else { return };
        let before = organization.bytes;
        let after = size(before);
        organization.bytes = after;
        self.bytes = self.bytes - before + after;
        self.by_size.remove(&(before, id));
        if organization.order.is_empty() {
            self.organizations.remove(&id);
        } else {
            self.by_size.insert((after, id));
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn event_count(&self) -> usize {
        self.event_count
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

    /// A transaction that commits at second `lsn` with one event of a topic.
    fn commit(window: &mut Window, lsn: u64, topic: &Topic, bytes: usize) {
        window.witness(Xid(lsn as u32));
        window.advance(at(lsn), seconds(lsn as i64));
        let payload = vec![b'x'; bytes].into();
        window.keep(
            topic,
            Kept {
                position: at(lsn),
                xid: Xid(lsn as u32),
                event: "e".into(),
                encoding: Encoding::Json,
                payload,
                meta: b"{}".as_slice().into(),
            },
        );
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
        assert!(window.channels.is_empty() && window.organizations.is_empty() && window.by_size.is_empty());
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
