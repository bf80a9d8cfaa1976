//! Compares what each client saw with the truth. Pure, and after the fact: a slow machine changes no verdict.
//!
//! Along a stay runs a *mark*: everything of the channel up to it is accounted for. Events, heartbeats and the replies
//! of joins move it, and whatever the truth has in between must have come. A notice of a loss moves it too, to the position
//! that it names: that excuses what lies in between, and nothing else.

mod losses;
mod shop_snapshot;
mod snapshot;

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use campfire_tests::chat;
use uuid::Uuid;

use crate::client::has_rows;
use crate::faults::Loss;
use crate::journal::{Asked, End, Journal, Record, Reply, Stay};
use crate::plan::Who;
use crate::position::Position;
use crate::truth::{Expected, Truth};
use crate::writers::ROLLED_BACK;

/// What must never happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Gap,
    Reordered,
    Duplicate,
    /// An event of a channel that was not joined.
    Foreign,
    /// An event of work that was rolled back.
    RolledBack,
    /// An event that nothing in the WAL led to.
    Phantom,
    WrongPayload,
    /// An event at or after the place where the right to it ended.
    PastCut,
    /// A join that was admitted without the right to it.
    Unauthorized,
    /// A loss was announced to somebody who suffered none.
    FalseAlarm,
    /// The reply of a join promised another number of events.
    Count,
    /// A client never got to the end, although nothing is wrong any more.
    Stuck,
    /// A client that reads all the time was closed for not reading.
    Dropped,
    /// What no client may see, whatever happens.
    Scandal,
    /// The relay panicked, or ended by itself.
    Relay,
    /// The oracle does not agree with the database.
    Oracle,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Gap => "gap",
            Self::Reordered => "reordered",
            Self::Duplicate => "duplicate",
            Self::Foreign => "foreign event",
            Self::RolledBack => "rolled-back event",
            Self::Phantom => "phantom event",
            Self::WrongPayload => "wrong payload",
            Self::PastCut => "past an authorization cut",
            Self::Unauthorized => "unauthorized join",
            Self::FalseAlarm => "false alarm",
            Self::Count => "wrong count",
            Self::Stuck => "stuck",
            Self::Dropped => "dropped though it read",
            Self::Scandal => "scandal",
            Self::Relay => "relay",
            Self::Oracle => "oracle",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub kind: Kind,
    /// None for what is nobody's own.
    pub client: Option<usize>,
    pub channel: String,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, client, channel, what } = self;
        write!(f, "{}: ", kind.name())?;
        if let Some(client) = client {
            write!(f, "client {client}, {channel}: ")?;
        }
        f.write_str(what)
    }
}

/// What the checker found.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    pub violations: Vec<Violation>,
    /// Events that clients got.
    pub delivered: u64,
    /// Events that clients got again after they came back, and dropped.
    pub again: u64,
    pub stays: u64,
    pub sockets: u64,
    pub replays: u64,
    pub snapshots: u64,
    pub cuts: u64,
    /// Announcements of a loss, and the events that they stand for.
    pub announced: u64,
    pub lost: u64,
}

/// What the checker must know besides truth and journals.
#[derive(Clone, Debug, Default)]
pub struct Context {
    pub losses: Vec<Loss>,
    /// When relays started, and were ready.
    pub starts: Vec<(i64, i64)>,
    /// Microseconds that the replay window goes back, at least.
    pub window_micros: i64,
    /// The window is short of memory: events leave it earlier. What it remembers of commits it keeps for all that time.
    pub is_window_small: bool,
    /// The last event of each channel came, or should have.
    pub last_event: &'static str,
}

/// Checks one client after the other.
pub fn check(truth: &Truth, journals: &[Journal], context: &Context) -> Verdict {
    let mut verdict = Verdict::default();
    for journal in journals {
        verdict.sockets += journal.sockets;
        let violation = |kind| {
            let client = Some(journal.client.number);
            move |what: &String| Violation { kind, client, channel: "-".to_owned(), what: what.clone() }
        };
        verdict.violations.extend(journal.scandals.iter().map(violation(Kind::Scandal)));
        verdict.violations.extend(journal.dropped.iter().map(violation(Kind::Dropped)));
        for channel in &journal.client.channels {
            Walk::new(truth, context, journal, channel, &mut verdict).go();
        }
    }
    verdict
}

/// One client's way along one channel.
struct Walk<'a> {
    truth: &'a Truth,
    context: &'a Context,
    journal: &'a Journal,
    channel: &'a str,
    events: &'a [Expected],
    switched_off: &'a [Expected],
    seen: HashSet<Position>,
    verdict: &'a mut Verdict,
}

/// Where in a stay the checker is.
struct Mark {
    /// Everything up to here is accounted for.
    at: Position,
    /// What the relay has announced as missing, up to here, does not come any more.
    floor: Position,
    /// It began where a clock says that it must have: the relay may have been behind that.
    is_by_clock: bool,
    /// The join brought rows, and of the events before the mark only those that the rows do not show.
    from_snapshot: bool,
    /// Of the replay, what is still to come, and what is good once it has.
    pending: Option<(u64, Position)>,
    /// The last event of this stay.
    last: Option<Position>,
    /// Where the right to the channel ended: from here on nothing, or nothing after.
    cut: Option<(Position, bool)>,
    /// Events by routes that are off at their place: the relay must say that it knew no better.
    by_guess: Vec<Position>,
}

impl<'a> Walk<'a> {
    fn new(
        truth: &'a Truth,
        context: &'a Context,
        journal: &'a Journal,
        channel: &'a str,
        verdict: &'a mut Verdict,
    ) -> Self {
        let events = truth.of(channel);
        let switched_off = truth.switched_off.get(channel).map_or(&[][..], Vec::as_slice);
        Self { truth, context, journal, channel, events, switched_off, seen: HashSet::new(), verdict }
    }

    fn go(mut self) {
        let mut reached = None::<Position>;
        let mut finished = false;
        let (journal, channel) = (self.journal, self.channel);
        for stay in journal.stays.iter().filter(|stay| &*stay.channel == channel) {
            self.verdict.stays += 1;
            let known = self.verdict.violations.len();
            let mark = self.walk(stay, reached);
            for violation in &mut self.verdict.violations[known..] {
                let notices =
                    stay.records.iter().filter(|record| matches!(record, Record::Loss { .. })).count();
                violation.what += &format!(
                    " (asked {:?}, answered {:?}, {notices} notices of a loss among {} records)",
                    stay.asked,
                    stay.reply,
                    stay.records.len()
                );
            }
            finished |= stay.records.iter().any(
                |record| matches!(record, Record::Event { name, .. } if &**name == self.context.last_event),
            );
            reached = Some(reached.map_or(mark.at, |reached| reached.max(mark.at)));
        }
        if !finished {
            let ends: Vec<_> =
                self.journal.stays.iter().filter(|stay| &*stay.channel == self.channel).collect();
            let what = format!(
                "{} stays, and the last event of the run never came; the last stay ended {:?}",
                ends.len(),
                ends.last().map(|stay| &stay.end)
            );
            self.report(Kind::Stuck, what);
        }
    }

    fn walk(&mut self, stay: &Stay, reached: Option<Position>) -> Mark {
        let mut mark = self.begin(stay, reached);
        let mut replayed_so_far = 0;
        let mut is_live = false;
        let mut count_is_void = false;
        for (index, record) in stay.records.iter().enumerate() {
            let known = self.verdict.violations.len();
            match record {
                Record::Event { position, name, payload, committed_at, replayed } => {
                    self.verdict.delivered += 1;
                    // What happens while a replay goes on follows as part of it; once live is live.
                    let is_due = stay.reply.is_some_and(|reply| replayed_so_far < reply.count);
                    let fits = if *replayed { stay.reply.is_some() && !is_live } else { !is_due };
                    if !fits && !count_is_void {
                        let what = format!(
                            "{position} is {}, after {replayed_so_far} replayed events of {:?}",
                            if *replayed { "replayed" } else { "live" },
                            stay.reply.map(|reply| reply.count)
                        );
                        self.report(Kind::Count, what);
                        count_is_void = true;
                    }
                    replayed_so_far += u64::from(*replayed);
                    is_live |= !replayed;
                    self.event(&mut mark, *position, name, payload, *committed_at);
                }
                Record::Row { .. } => {
                    replayed_so_far += 1;
                    if let Some((left, _)) = &mut mark.pending {
                        *left = left.saturating_sub(1);
                    }
                }
                Record::Head(position) => {
                    // Of all the socket's channels it is that of the one furthest behind.
                    self.account(&mut mark, *position, true, "a heartbeat");
                    mark.at = mark.at.max(*position);
                }
                Record::Loss { at, up_to } => {
                    // A reply that is incomplete is said twice: once in itself.
                    let is_of_the_answer = index == 0 && stay.reply.is_some_and(|reply| !reply.complete);
                    self.notice(stay, &mut mark, *at, *up_to, is_of_the_answer);
                    if !is_of_the_answer {
                        mark.pending = None;
                        count_is_void = true;
                    }
                }
            }
            self.judge_guesses(stay, &mut mark, index);
            if let Some((0, position)) = mark.pending {
                mark.pending = None;
                self.account(&mut mark, position, true, "the position of a join");
                mark.at = mark.at.max(position);
            }
            for violation in &mut self.verdict.violations[known..] {
                let around = stay.records[index.saturating_sub(4)..].iter().take(6).map(brief);
                violation.what += &format!("; around it: {}", around.collect::<Vec<_>>().join(", "));
            }
        }
        if let Some((0, position)) = mark.pending {
            // The answer was all that came: nothing is missing that it did not tell of.
            mark.at = mark.at.max(position);
        }
        if let (Asked::Snapshot { rows }, Some(reply)) = (stay.asked, stay.reply) {
            match has_rows(self.channel) {
                true => self.shop_snapshot(stay, reply, rows, mark.at),
                false => self.snapshot(stay, reply, rows, mark.at),
            }
        }
        if let End::Closed(reason) = &stay.end
            && !reason.is_empty()
        {
            self.verdict.cuts += 1;
        }
        mark
    }

    /// What a join and its answer mean.
    fn begin(&mut self, stay: &Stay, reached: Option<Position>) -> Mark {
        let mut mark = Mark {
            at: Position::default(),
            floor: Position::default(),
            is_by_clock: stay.reply.is_none(),
            from_snapshot: false,
            pending: None,
            last: None,
            cut: None,
            by_guess: Vec::new(),
        };
        let Some(reply) = stay.reply else {
            // Who asked for nothing is live from the answer on: what committed later must come.
            mark.at = self.truth.before_time(stay.joined_at + 1).unwrap_or(LAST);
            mark.cut = self.cut_after(stay, self.first_event(stay).unwrap_or(mark.at));
            return mark;
        };
        self.verdict.replays += 1;
        self.authorized(stay, reply);
        mark.pending = Some((reply.count, reply.position));
        mark.cut = self.cut_after(stay, reply.position);
        match stay.asked {
            Asked::After(position) => {
                mark.at = position;
                if reached.is_none_or(|reached| reached < position) {
                    self.report(
                        Kind::Gap,
                        format!("went on from {position}, and had come to {reached:?} only"),
                    );
                }
            }
            Asked::Since { millis, .. } => {
                let start = self.truth.before_time(millis.saturating_mul(1000)).unwrap_or(reply.position);
                mark.at = start.min(reply.position);
            }
            Asked::Snapshot { .. } => {
                // What its rows show does not come again, wherever it stands in the stream.
                let sure = self.truth.before_time(stay.joined_at + 1).unwrap_or(LAST);
                mark.at = sure.max(reply.position);
                mark.is_by_clock = true;
                mark.from_snapshot = true;
            }
            Asked::PositionOnly | Asked::Nothing => mark.at = reply.position,
        }
        if !reply.complete {
            // By time, an answer is incomplete also where there is more than the limit.
            self.verdict.announced += u64::from(!matches!(stay.asked, Asked::Since { .. }));
            let up_to = match stay.records.first() {
                Some(Record::Loss { up_to, .. }) => Some(*up_to),
                Some(_) => {
                    let what = "the answer was incomplete, and no notice followed it".to_owned();
                    self.report(Kind::Gap, what);
                    None
                }
                None => None,
            };
            if let Asked::After(position) = stay.asked
                && !self.is_out_of_reach(position, stay.joined_at)
                && !self.is_forgotten(position, up_to)
            {
                self.report(
                    Kind::FalseAlarm,
                    format!("{position} is not too old to go on from, and was refused up to {up_to:?}"),
                );
            }
            if let Asked::PositionOnly = stay.asked {
                self.report(Kind::FalseAlarm, "nothing was asked for, and that was incomplete".to_owned());
            }
        }
        if reply.count == 0 && reply.complete {
            mark.pending = None;
            self.account(&mut mark, reply.position, true, "the position of a join");
            mark.at = mark.at.max(reply.position);
        }
        mark
    }

    fn first_event(&self, stay: &Stay) -> Option<Position> {
        stay.records.iter().find_map(|record| match record {
            Record::Event { position, .. } => Some(*position),
            _ => None,
        })
    }

    fn event(&mut self, mark: &mut Mark, position: Position, name: &str, payload: &str, committed_at: i64) {
        if let Some((left, _)) = &mut mark.pending {
            *left = left.saturating_sub(1);
        }
        let by_guess = || find(self.switched_off, position).filter(|event| event.name == name);
        let expected = find(self.events, position).or_else(|| {
            let event = by_guess()?;
            mark.by_guess.push(position);
            Some(event)
        });
        let Some(expected) = expected else {
            let kind = if payload.contains(ROLLED_BACK) || name == ROLLED_BACK {
                Kind::RolledBack
            } else if self.truth.positions.contains(&position) {
                Kind::Foreign
            } else {
                Kind::Phantom
            };
            return self.report(kind, format!("{name} {position}: {payload:.300}"));
        };
        if expected.name != name || expected.payload != payload || expected.committed_at != committed_at {
            let what = format!(
                "at {position}, committed at {committed_at}: {name} {payload:.600} instead of {} {:.600} committed at {}",
                expected.name, expected.payload, expected.committed_at
            );
            self.report(Kind::WrongPayload, what);
        }
        if let Some((cut, inclusive)) = mark.cut
            && (position > cut || inclusive && position == cut)
        {
            self.report(Kind::PastCut, format!("{name} {position}, and the right to it ended at {cut}"));
        }
        if position <= mark.floor {
            let what = format!("{name} {position}, though all up to {} was announced as missing", mark.floor);
            self.report(Kind::Reordered, what);
        }
        match mark.last {
            Some(last) if position == last => self.report(Kind::Duplicate, format!("{name} {position}")),
            Some(last) if position < last => {
                self.report(Kind::Reordered, format!("{name} {position} after {last}"));
            }
            // Sent again although it said that it has it.
            None if position <= mark.at && mark.pending.is_some() && !mark.from_snapshot => {
                self.report(Kind::Duplicate, format!("{name} {position}, after {} was asked for", mark.at));
            }
            _ => {
                self.account(mark, position, false, "the next event");
            }
        }
        mark.last = Some(mark.last.map_or(position, |last| last.max(position)));
        mark.at = mark.at.max(position);
        if !self.seen.insert(position) {
            self.verdict.again += 1;
        }
    }

    /// Everything between the mark and `to` must have come. `inclusive`: up to `to` itself.
    fn account(&mut self, mark: &mut Mark, to: Position, inclusive: bool, by: &str) {
        let missing = self.between(mark.at, to);
        let missing = match missing.split_last() {
            Some((last, rest)) if !inclusive && last.position == to => rest,
            _ => missing,
        };
        if !missing.is_empty() {
            let what = format!("{} events are missing before {by} {to}: {}", missing.len(), some(missing));
            self.report(Kind::Gap, what);
        }
    }

    /// The channel's events after a position, up to another.
    fn between(&self, after: Position, to: Position) -> &'a [Expected] {
        let first = self.events.partition_point(|event| event.position <= after);
        let end = self.events.partition_point(|event| event.position <= to);
        self.events.get(first..end).unwrap_or_default()
    }

    /// The first place after `from` where this client loses the channel.
    fn cut_after(&self, stay: &Stay, from: Position) -> Option<(Position, bool)> {
        let mut cuts = Vec::new();
        if let Who::Agent { organization, user } = self.journal.client.who {
            let history = self.truth.agents.get(&(organization, user)).map_or(&[][..], Vec::as_slice);
            for (index, (position, _, active)) in history.iter().enumerate() {
                let Some(position) = position.filter(|position| !active && *position > from) else {
                    continue;
                };
                // A relay that lost this place, or attached after it, finds this one active again; and a join may have
                // been decided by what a new attachment showed, ahead of the stream.
                let again = history[index..].iter().find(|(.., active)| *active);
                let is_known = again.is_some_and(|(again, at, _)| {
                    *at <= stay.joined_at
                        || again.is_some_and(|again| self.is_lost(stay, again))
                        || self.is_lost_until(stay, position, *at)
                });
                if !is_known {
                    cuts.push((position, true));
                }
            }
        }
        if let Some(conversation) = self.conversation() {
            let gone = self.truth.gone.get(&conversation).map_or(&[][..], Vec::as_slice);
            for position in gone.iter().copied().filter(|position| *position > from) {
                // Who heard it from the relay was heard; else the relay may never have come by.
                let heard = stay
                    .records
                    .iter()
                    .any(|record| matches!(record, Record::Event { position: at, .. } if *at == position));
                if heard || !self.is_lost(stay, position) {
                    // The channel still hears why it ends.
                    cuts.push((position, false));
                }
            }
        }
        cuts.into_iter().min()
    }

    /// Organization and conversation, if the channel is a conversation's.
    fn conversation(&self) -> Option<(Uuid, Uuid)> {
        let (Who::Agent { organization, .. } | Who::Visitor { organization, .. }) = self.journal.client.who;
        let conversation: Uuid = self.channel.rsplit(':').next()?.parse().ok()?;
        let is_one = self.channel != chat::organization_channel(organization);
        is_one.then_some((organization, conversation))
    }

    /// An agent is admitted only while active; one that was switched on a moment ago may be early.
    fn authorized(&mut self, stay: &Stay, reply: Reply) {
        let Who::Agent { organization, user } = self.journal.client.who else { return };
        let Some(history) = self.truth.agents.get(&(organization, user)) else { return };
        let was_active = history
            .iter()
            .rev()
            .find(|(position, ..)| position.is_none_or(|position| position <= reply.position))
            .is_some_and(|(_, _, active)| *active);
        let is_active_since = history.iter().any(|(position, at, active)| {
            *active && position.is_some_and(|position| position > reply.position) && *at <= stay.joined_at
        });
        if !was_active && !is_active_since {
            let what = format!("admitted at {}, where the agent was not active", reply.position);
            self.report(Kind::Unauthorized, what);
        }
    }

    fn report(&mut self, kind: Kind, what: String) {
        self.verdict.violations.push(Violation {
            kind,
            client: Some(self.journal.client.number),
            channel: self.channel.to_owned(),
            what,
        });
    }
}

fn find(events: &[Expected], position: Position) -> Option<&Expected> {
    let index = events.binary_search_by(|event| event.position.cmp(&position)).ok()?;
    events.get(index)
}

/// The first of some events.
fn some(events: &[Expected]) -> String {
    let names = events.iter().take(3).map(|event| format!("{} {}", event.name, event.position));
    names.collect::<Vec<_>>().join(", ")
}

/// A record in a few words.
fn brief(record: &Record) -> String {
    match record {
        Record::Event { position, name, replayed: true, .. } => format!("{name} {position} again"),
        Record::Event { position, name, .. } => format!("{name} {position}"),
        Record::Row { name, .. } => format!("row {name}"),
        Record::Head(position) => format!("heartbeat {position}"),
        Record::Loss { at, up_to } => format!("notice up to {up_to} at {at}"),
    }
}

/// After everything.
const LAST: Position = Position { timeline: u32::MAX, commit_lsn: u64::MAX, change: u32::MAX };

/// How many of each kind.
pub fn count(violations: &[Violation]) -> BTreeMap<Kind, usize> {
    let mut counts = BTreeMap::new();
    for violation in violations {
        *counts.entry(violation.kind).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests;
