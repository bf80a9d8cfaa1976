//! What is known from one connection to the next, and what a new one means by it. Pure.

use std::time::Instant;

use super::inspection::Inspection;
use crate::postgres::{Lsn, PostgresError};
use crate::route::Route;
use crate::sql::SqlError;
use crate::wal::{Attachment, Backoff, HolderWatch, WalError};

#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) backoff: Backoff,
    pub(super) attached_before: bool,
    /// We dropped a slot that could not go on: what it held is lost.
    pub(super) slot_lost: bool,
    /// Another relay was found on the slot, and that was logged.
    pub(super) standing_by: bool,
    pub(super) holder: HolderWatch,
    pub(super) looked_at: Option<Instant>,
    /// The routes in force at the end of what was handed to the hub. Those in the database may be newer.
    pub(super) routes: Option<KnownRoutes>,
    /// We made the slot, and the stream has not got to its end yet: a start that fails takes it back.
    pub(super) slot_is_new: bool,
    /// Nothing was published when we looked, and that was logged.
    pub(super) nothing_published: bool,
    pub(super) inspection: Inspection,
    last: Option<Last>,
    failures: Option<Failures>,
}

/// Routes, and the schemas of the installations whose control tables go with them.
#[derive(Clone, Debug, Default)]
pub(super) struct KnownRoutes {
    pub(super) routes: Vec<Route>,
    pub(super) schemas: Vec<String>,
}

/// Where the last connection was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Last {
    system_identifier: u64,
    timeline: u32,
    /// The end of what was handed to the hub.
    handed: Lsn,
}

/// Equal errors at the same place of the WAL.
#[derive(Debug)]
struct Failures {
    error: String,
    at: Lsn,
    count: u32,
}

/// What a new connection means for what was told so far.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    /// What to announce, if events are missing.
    pub(super) loss: Option<&'static str>,
    /// Another server, or another history of it: LSNs beyond what was handed on mean something else.
    pub(super) is_elsewhere: bool,
}

impl History {
    /// Compares a new attachment with the last.
    pub(super) fn arrive(&mut self, attachment: &Attachment) -> Arrival {
        let &Attachment { system_identifier, timeline, confirmed_flush_lsn, .. } = attachment;
        let last = self.last;
        let is_elsewhere =
            last.is_some_and(|last| (last.system_identifier, last.timeline) != (system_identifier, timeline));
        let slot_gone =
            std::mem::take(&mut self.slot_lost) || (self.attached_before && attachment.slot_created);
        let loss = if slot_gone {
            Some("the replication slot was lost")
        } else if attachment.slot_replaced {
            Some("an earlier slot of this name was dropped after a relay had read it")
        } else {
            last.and_then(|last| last.loss(attachment))
        };
        if loss.is_some() {
            // They may have changed in what is not read.
            self.routes = None;
        }
        // A new primary that has all of it has it at the same LSNs.
        let handed = last.filter(|_| loss.is_none()).map_or(confirmed_flush_lsn, |last| last.handed);
        self.last = Some(Last { system_identifier, timeline, handed: handed.max(confirmed_flush_lsn) });
        Arrival { loss, is_elsewhere }
    }

    /// The end of what was handed to the hub.
    pub(super) fn handed(&self) -> Lsn {
        self.last.map_or(Lsn::INVALID, |last| last.handed)
    }

    /// All up to `end` was handed to the hub.
    pub(super) fn hand(&mut self, end: Lsn) {
        if let Some(last) = &mut self.last {
            last.handed = last.handed.max(end);
        }
    }

    /// Counts errors of the stream that come again at the same place, and gives how often this one has come. Errors
    /// of the network, and of a server that goes away, say nothing about the place.
    pub(super) fn fail(&mut self, error: &SqlError, at: Lsn) -> u32 {
        let is_of_this_place = match error {
            SqlError::Decode(_) | SqlError::Wal(WalError::PublicationUnknown(_)) => true,
            SqlError::Wal(WalError::Postgres(error)) => matches!(
                error,
                PostgresError::Server(_) | PostgresError::FrameTooLarge { .. } | PostgresError::Protocol(_)
            ),
            _ => false,
        };
        if !is_of_this_place {
            return 0;
        }
        let error = error.to_string();
        match &mut self.failures {
            Some(failures) if failures.at == at && failures.error == error => failures.count += 1,
            failures => *failures = Some(Failures { error, at, count: 1 }),
        }
        self.failures.as_ref().map_or(0, |failures| failures.count)
    }

    /// Whether the last failure was one too many.
    pub(super) fn is_stopped(&self, failures_max: u32) -> bool {
        failures_max > 0 && self.failures.as_ref().is_some_and(|failures| failures.count >= failures_max)
    }

    /// The stream has passed whatever it failed at.
    pub(super) fn pass(&mut self) {
        self.slot_is_new = false;
        self.failures = None;
    }
}

impl Last {
    fn loss(&self, attachment: &Attachment) -> Option<&'static str> {
        if self.system_identifier != attachment.system_identifier {
            return Some("the database is another one than before");
        }
        let left_at = attachment.timeline_history.iter().find(|(timeline, _)| *timeline == self.timeline);
        if self.timeline != attachment.timeline && left_at.is_none_or(|&(_, lsn)| self.handed > lsn) {
            // Told to clients, and not in the database any more.
            return Some("the new primary does not have the last events");
        }
        (attachment.confirmed_flush_lsn > self.handed)
            .then_some("the replication slot was advanced by somebody else")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::ServerError;

    fn attachment(timeline: u32, confirmed: u64) -> Attachment {
        Attachment {
            system_identifier: 7,
            timeline,
            database_oid: 5,
            confirmed_flush_lsn: Lsn(confirmed),
            slot_created: false,
            slot_replaced: false,
            timeline_history: (1..timeline).map(|older| (older, Lsn(u64::from(older) * 1000))).collect(),
            server_version_num: 150_000,
        }
    }

    fn check(handed: u64, second: &Attachment, loss: Option<&str>, is_elsewhere: bool) {
        let mut history = History { attached_before: false, ..History::default() };
        assert_eq!(history.arrive(&attachment(1, 100)), Arrival { loss: None, is_elsewhere: false });
        history.attached_before = true;
        history.hand(Lsn(handed));
        let arrival = history.arrive(second);
        assert_eq!((arrival.loss, arrival.is_elsewhere), (loss, is_elsewhere));
    }

    #[test]
    fn coming_back_behind_what_was_handed_on_loses_nothing() {
        check(500, &attachment(1, 100), None, false);
        check(500, &attachment(1, 500), None, false);
    }

    #[test]
    fn a_slot_that_was_advanced_by_hand_is_a_loss() {
        check(500, &attachment(1, 501), Some("the replication slot was advanced by somebody else"), false);
    }

    #[test]
    fn a_new_timeline_loses_only_what_lies_beyond_its_beginning() {
        check(1000, &attachment(2, 400), None, true);
        check(1001, &attachment(2, 400), Some("the new primary does not have the last events"), true);
        let unknown = Attachment { timeline_history: Vec::new(), ..attachment(2, 400) };
        check(500, &unknown, Some("the new primary does not have the last events"), true);
    }

    #[test]
    fn a_new_slot_is_a_loss_unless_it_is_the_first() {
        let created = Attachment { slot_created: true, ..attachment(1, 900) };
        assert_eq!(History::default().arrive(&created).loss, None);
        check(500, &created, Some("the replication slot was lost"), false);
        let replaced = Attachment { slot_replaced: true, ..created };
        let dropped = "an earlier slot of this name was dropped after a relay had read it";
        assert_eq!(History::default().arrive(&replaced).loss, Some(dropped));
    }

    #[test]
    fn routes_are_remembered_until_something_may_have_been_missed() {
        let mut history = History::default();
        history.arrive(&attachment(1, 100));
        history.attached_before = true;
        history.hand(Lsn(500));
        history.routes = Some(KnownRoutes::default());
        history.arrive(&attachment(1, 400));
        assert!(history.routes.is_some());
        history.arrive(&attachment(1, 501));
        assert!(history.routes.is_none());
    }

    #[test]
    fn a_fail_over_that_loses_nothing_keeps_the_routes() {
        let mut history = History::default();
        history.arrive(&attachment(1, 100));
        history.attached_before = true;
        history.hand(Lsn(1000));
        history.routes = Some(KnownRoutes::default());
        assert_eq!(history.arrive(&attachment(2, 400)), Arrival { loss: None, is_elsewhere: true });
        assert!(history.routes.is_some());
        // What was told to clients stays told, and the routes are those of then.
        assert_eq!(history.handed(), Lsn(1000));
        // Slots that followed the first primary's lag behind what we have told by one distance or another.
        assert_eq!(history.arrive(&attachment(2, 500)).loss, None);
        let left_early = Attachment { timeline_history: vec![(1, Lsn(900))], ..attachment(3, 400) };
        assert!(history.arrive(&left_early).loss.is_some());
        assert!(history.routes.is_none());
        assert_eq!(history.handed(), Lsn(400));
    }

    #[test]
    fn another_system_is_a_loss() {
        let other = Attachment { system_identifier: 8, ..attachment(1, 100) };
        check(500, &other, Some("the database is another one than before"), true);
    }

    #[test]
    fn only_equal_errors_at_the_same_place_count_together() {
        let server = |message: &str| {
            let error = ServerError { code: "XX000".into(), message: message.into(), hint: None };
            PostgresError::Server(error).into()
        };
        let mut history = History::default();
        assert_eq!(history.fail(&server("a"), Lsn(1)), 1);
        assert_eq!(history.fail(&server("a"), Lsn(1)), 2);
        assert_eq!(history.fail(&SqlError::Wal(WalError::StreamEnded), Lsn(1)), 0, "a restart in between");
        assert_eq!(history.fail(&server("a"), Lsn(1)), 3);
        assert_eq!(history.fail(&server("b"), Lsn(1)), 1);
        assert_eq!(history.fail(&server("b"), Lsn(2)), 1);
        history.pass();
        assert_eq!(history.fail(&server("b"), Lsn(2)), 1);
    }
}
