//! The replay window: what was sent lately, so that a client that was away gets what it missed.
//!
//! In memory, and backed by the slot: the position confirmed to Postgres trails behind the window, so a relay that was
//! killed reads it again. Bounded by time and bytes. Its hazard is silence: every event that leaves raises a floor,
//! and whoever asks for something below the floor is told that it is incomplete.

mod evicted;
mod kept;
mod memory;
mod topic_events;

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, VecDeque, vec_deque};
use std::time::Duration;

use uuid::Uuid;

use self::evicted::Evicted;
pub(super) use self::kept::Kept;
use self::memory::{entry_bytes, give_back, shared_bytes};
use self::topic_events::TopicEvents;
use super::tight_queue::TightQueue;
use super::views::Viewer;
use crate::config::units;
use crate::postgres::{Snapshot, Timestamp, Xid};
use crate::protocol::{Encoding, Vsn};
use crate::route::{Position, Template, Topic};

/// Memory taken by a topic, in bytes: its entry, and its place among those that are quiet.
const TOPIC_BYTES: usize =
    entry_bytes::<(Topic, TopicEvents)>() + TightQueue::<(Position, Topic)>::ELEMENT_BYTES;

/// Memory taken by an organization, in bytes.
const ORGANIZATION_BYTES: usize =
    entry_bytes::<(Uuid, Organization)>() + 3 * size_of::<(Rank, Uuid)>() + 3 * size_of::<(Position, Uuid)>();

/// Memory taken by a commit that is remembered, in bytes.
const COMMIT_BYTES: usize = TightQueue::<Commit>::ELEMENT_BYTES;

/// Of the bound, what topics without events may take, for the sake of their floors: an eighth.
const QUIET_SHARE: usize = 8;

/// How much is kept.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Replay and snapshots")]
pub struct WindowLimits {
    /// Seconds by which the position confirmed to Postgres trails what was delivered; a restarted relay reads this part
    /// again.
    #[arg(id = "WINDOW_SECONDS", long = "window-seconds", env = "CAMPFIRE_WINDOW_SECONDS", default_value = "300", value_parser = units::seconds)]
    pub age_max: Duration,

    /// Bytes of memory that the replay window may take.
    #[arg(id = "WINDOW_BYTES", long = "window-bytes", env = "CAMPFIRE_WINDOW_BYTES", default_value_t = 256 << 20, value_parser = units::bytes::<usize>)]
    pub bytes_max: usize,

    // So that one's import does not evict another's history.
    /// Bytes of the replay window that one organization may take.
    #[arg(id = "WINDOW_ORG_BYTES", long = "window-org-bytes", env = "CAMPFIRE_WINDOW_ORG_BYTES", default_value_t = 64 << 20, value_parser = units::bytes::<usize>)]
    pub organization_bytes_max: usize,
}

#[derive(Clone, Copy, Debug)]
struct Commit {
    /// Of the transaction's last change.
    position: Position,
    committed_at: Timestamp,
    /// The latest time up to here: clocks go back, and times of commits overtake each other.
    latest: Timestamp,
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
    topics: HashMap<Topic, TopicEvents>,
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
    /// Everything above it is here, except where a topic's floor says otherwise.
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
            topics: HashMap::new(),
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
        for kept in old.topics.values().flat_map(|known| known.events.iter()) {
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
        let known = self.topics.entry(topic.clone()).or_insert_with(|| {
            bytes += topic_bytes(topic);
            TopicEvents::at(floor)
        });
        let transaction = self.evicted.whole_id(kept.xid);
        known.push(kept, transaction);
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
        give_back(&mut self.topics);
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
        let floor = self.floor_of_topic(topic).max(self.floor);
        self.emptied_of(topic).map(|known| known.position).fold(floor, Position::max)
    }

    /// The same but for the commits that were forgotten.
    fn floor_of_topic(&self, topic: &Topic) -> Position {
        let of_unknown = || {
            let organization = self.organizations.get(&organization_of(topic));
            organization.map_or(self.unknown_floor, |known| known.floor).max(self.floor)
        };
        self.topics.get(topic).map_or_else(of_unknown, |known| known.floor)
    }

    fn emptied_of(&self, topic: &Topic) -> impl Iterator<Item = &Emptied> {
        self.emptied.iter().filter(|known| known.channels.can_address(topic))
    }

    /// Whether the window has lost something of a topic above a position. Commits without events on it that have left
    /// are no loss, except where nothing of the topic is remembered.
    pub(super) fn overtakes(&self, topic: &Topic, position: Position) -> bool {
        position < self.floor_of_topic(topic) || self.emptied_of(topic).any(|known| position < known.position)
    }

    /// The events of a topic above a position, oldest first.
    pub(super) fn after(&self, topic: &Topic, after: Position) -> vec_deque::Iter<'_, Kept> {
        const NONE: &VecDeque<Kept> = &VecDeque::new();
        let events = self.topics.get(topic).map_or(NONE, |known| &*known.events);
        events.range(events.partition_point(|kept| kept.position <= after)..)
    }

    /// How many of them there are for a client, by its serialization.
    pub(super) fn count_after(
        &self,
        topic: &Topic,
        after: Position,
        vsn: Vsn,
        viewer: &mut Viewer<'_>,
    ) -> usize {
        let events = self.after(topic, after);
        if has_gated(events.clone()) {
            return events.filter(|kept| kept.encoding.is_for(vsn) && viewer.sees(&kept.sight)).count();
        }
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
        let Some(known) = self.topics.get(topic) else { return floor };
        let shown = known.events.partition_point(|kept| !snapshot.is_recent(kept.newest));
        let last = shown.checked_sub(1).and_then(|last| known.events.get(last));
        last.map_or(floor, |kept| kept.position.max(floor))
    }

    /// Where a row of `realtime.messages` was sent to a topic.
    pub(super) fn position_of(&self, topic: &Topic, row: Uuid) -> Option<Position> {
        let found = self.topics.get(topic)?.rows.as_ref()?.0.get(&row).copied();
        found.filter(|position| *position >= self.floor_of(topic))
    }

    /// Where to begin so that everything committed at or after `since` follows, at most `limit` events for a client; and
    /// whether that is everything.
    pub(super) fn since(
        &self,
        topic: &Topic,
        since: Timestamp,
        limit: usize,
        viewer: &mut Viewer<'_>,
    ) -> (Position, bool) {
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
        if has_gated(found.clone()) {
            let mut seen = found.rev().filter(|kept| viewer.sees(&kept.sight));
            return match seen.nth(limit) {
                Some(left_out) => (left_out.position, false),
                None => (start, complete),
            };
        }
        match found.len().checked_sub(limit) {
            None | Some(0) => (start, complete),
            Some(surplus) => (found.nth(surplus - 1).map_or(start, |left_out| left_out.position), false),
        }
    }

    /// Whether everything that a snapshot does not show, and that was streamed to a topic, is here.
    pub(super) fn complements(&self, snapshot: &Snapshot, topic: &Topic) -> bool {
        self.evicted.are_shown(snapshot)
            && self.emptied_of(topic).all(|emptied| {
                let before = self.topics.get(topic).into_iter().flat_map(|known| known.events.iter());
                let mut before = before.take_while(|kept| kept.position <= emptied.position);
                snapshot.shows(emptied.xid) && before.all(|kept| snapshot.shows(kept.xid))
            })
    }

    fn oldest_of(&self, id: Uuid) -> Option<&Kept> {
        let topic = self.organizations.get(&id)?.order.front()?;
        self.topics.get(topic)?.events.front()
    }

    /// False if there is none.
    fn evict_oldest_of(&mut self, id: Uuid) -> bool {
        let Some(organization) = self.organizations.get_mut(&id) else { return false };
        let Some(topic) = organization.order.pop_front() else { return false };
        let known = self.topics.get_mut(&topic).expect("a topic in the order has events");
        let kept = known.pop().expect("as many as the order names it");
        if known.events.is_empty() && !std::mem::replace(&mut known.is_quiet, true) {
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
        if let Some(known) = self.topics.get_mut(&topic) {
            known.is_quiet = false;
            if known.events.is_empty() {
                organization.floor = organization.floor.max(known.floor);
                self.topics.remove(&topic);
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

/// Whether one of a topic's events, which follow each other, is not for all.
fn has_gated(events: vec_deque::Iter<'_, Kept>) -> bool {
    match (events.clone().next(), events.clone().next_back()) {
        (Some(first), Some(last)) => first.sight.is_some() || first.gated != last.gated,
        _ => false,
    }
}

fn topic_bytes(topic: &Topic) -> usize {
    match topic {
        Topic::Other(name) => TOPIC_BYTES + shared_bytes(name.len()),
        _ => TOPIC_BYTES,
    }
}

/// Channels outside `org:` share one account.
fn organization_of(topic: &Topic) -> Uuid {
    topic.organization().unwrap_or(Uuid::nil())
}

#[cfg(test)]
mod tests;
