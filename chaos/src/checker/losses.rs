//! What the relay said is missing: whether it must be.

use super::{Kind, Mark, Walk, some};
use crate::client::is_private;
use crate::journal::{Asked, Record, Stay};
use crate::position::Position;
use crate::truth::Expected;

impl Walk<'_> {
    /// The relay says that events up to a position are missing. That excuses them; but it must be so.
    pub(super) fn notice(
        &mut self,
        stay: &Stay,
        mark: &mut Mark,
        at: i64,
        up_to: Position,
        is_of_the_answer: bool,
    ) {
        let missing = self.between(mark.at, up_to);
        let by_limit = is_of_the_answer && matches!(stay.asked, Asked::Since { .. });
        self.verdict.lost += if by_limit { 0 } else { missing.len() as u64 };
        if !is_of_the_answer {
            self.verdict.announced += 1;
            // The slot's loss is announced to all, also to those who had everything.
            let losses = self.context.losses.iter();
            let end = losses.filter(|loss| loss.began_at <= at && stay.asked_at <= loss.ended_at);
            let end = end.map(|loss| loss.up_to_lsn).max();
            // After one, what is read up to a change of routes may have been routed otherwise.
            let is_guessed = self.truth.routes.iter().any(|(changed, _)| *changed == up_to);
            let is_covered =
                |event: &&Expected| end.is_some_and(|end| is_guessed || event.position.commit_lsn < end);
            let uncovered: Vec<Expected> =
                missing.iter().filter(|event| !is_covered(event)).cloned().collect();
            let may_be_shown = mark.is_by_clock && up_to <= mark.at;
            if self.context.is_window_small {
                if end.is_none() && missing.is_empty() && !may_be_shown {
                    let what =
                        format!("a loss was announced up to {up_to}, and nothing up to there is missing");
                    self.report(Kind::FalseAlarm, what);
                }
            } else if end.is_none() {
                self.report(Kind::FalseAlarm, "a loss was announced, and nothing was lost".to_owned());
            } else if !uncovered.is_empty() {
                let what = format!(
                    "{} events were announced as missing up to {up_to} that were not lost: {}",
                    uncovered.len(),
                    some(&uncovered)
                );
                self.report(Kind::Gap, what);
            }
        }
        mark.floor = mark.floor.max(up_to);
        mark.at = mark.at.max(up_to);
        if self.truth.routes.iter().any(|(changed, _)| *changed == up_to) {
            mark.by_guess.retain(|guessed| *guessed > up_to);
        }
    }

    /// After a loss the relay sends by the routes that it finds, and where they turn out to have changed, it says so. An
    /// event by a route that was off is excused until then, and by that alone. `index`: of the record that came last.
    pub(super) fn judge_guesses(&mut self, stay: &Stay, mark: &mut Mark, index: usize) {
        let record = stay.records.get(index);
        let reached = match record {
            Some(Record::Event { position, .. } | Record::Head(position)) => *position,
            _ => return,
        };
        let is_lost = self.context.losses.iter().any(|loss| stay.asked_at <= loss.ended_at);
        let is_open = |guessed: &Position| {
            let next = self.truth.routes.iter().find(|(changed, _)| changed > guessed);
            is_lost && next.is_some_and(|(changed, _)| reached <= *changed)
        };
        let wrong = mark.by_guess.iter().copied().find(|guessed| !is_open(guessed));
        if let Some(guessed) = wrong {
            mark.by_guess.clear();
            let what = format!("{guessed} came by a route that was off there, and no notice tells of that");
            self.report(Kind::Phantom, what);
        }
    }

    /// Whether a place is among those that the relay may have lost during a stay.
    pub(super) fn is_lost(&self, stay: &Stay, position: Position) -> bool {
        let mut losses = self.context.losses.iter();
        losses.any(|loss| position.commit_lsn < loss.up_to_lsn && stay.asked_at <= loss.ended_at)
    }

    /// Whether a position was lost to a stay, and at that time the relay had yet to see what the database showed then.
    pub(super) fn is_lost_until(&self, stay: &Stay, position: Position, at: i64) -> bool {
        let mut losses = self.context.losses.iter();
        losses.any(|loss| {
            position.commit_lsn < loss.up_to_lsn && stay.asked_at <= loss.ended_at && at <= loss.ended_at
        })
    }

    /// Whether it is right that a position cannot be gone on from.
    pub(super) fn is_out_of_reach(&self, position: Position, asked_at: i64) -> bool {
        let lost = self
            .context
            .losses
            .iter()
            .any(|loss| loss.began_at <= asked_at && position.commit_lsn < loss.up_to_lsn);
        // A change of routes that some relay read anew, as one does that has just started.
        let rerouted = self.truth.routes.iter().any(|(changed, changed_at)| {
            let mut starts = self.context.starts.iter();
            let started = starts.any(|(began_at, ready_at)| changed_at <= ready_at && *began_at <= asked_at);
            let mut losses = self.context.losses.iter();
            let lost = losses.any(|loss| *changed_at <= loss.ended_at && loss.began_at <= asked_at);
            *changed > position && (started || lost)
        });
        let commit = self.truth.commits.partition_point(|(commit, _)| *commit < position);
        let committed_at = self.truth.commits.get(commit).map_or(i64::MAX, |(_, at)| *at);
        lost || rerouted || committed_at < asked_at - self.context.window_micros
    }

    /// Whether a position may have left a small window, where the notice says from where on nothing is missing. Events leave
    /// it, transactions also where they have no event of this channel, and what is not remembered cannot be gone on from. The
    /// id of a row leaves with its event. Without a notice nobody knows.
    pub(super) fn is_forgotten(&self, position: Position, up_to: Option<Position>) -> bool {
        let commits = &self.truth.commits;
        let next = commits.get(commits.partition_point(|(commit, _)| *commit <= position));
        let has_left = |up_to: Position| {
            !self.between(position, up_to).is_empty()
                || next.is_some_and(|(commit, _)| *commit <= up_to)
                || is_private(self.channel) && position <= up_to
        };
        self.context.is_window_small && up_to.is_none_or(has_left)
    }
}
