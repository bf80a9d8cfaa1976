//! Transactions of which an event has left the window: a snapshot that does not show one of them misses something.

use std::collections::VecDeque;

use crate::postgres::{Snapshot, Xid};

/// How many are remembered.
const EVICTED_MAX: usize = 16_384;

/// As whole ids: they may be asked about when the lower halves have come round again.
#[derive(Debug, Default)]
pub(super) struct Evicted {
    /// Oldest first; neighbours that are equal are one.
    ids: VecDeque<u64>,
    /// The newest of those that are not remembered.
    forgotten: Option<u64>,
    /// Of all that there were.
    newest: Option<u64>,
    /// An id of about now, which tells the upper halves of those that the stream brings.
    now: u64,
}

impl Evicted {
    /// The database is about to give out this id.
    pub(super) fn learn(&mut self, id: u64) {
        self.now = id;
    }

    /// The stream has brought this transaction.
    pub(super) fn witness(&mut self, xid: Xid) {
        self.now = xid.widen(self.now);
    }

    /// The whole id of a transaction that the stream has brought.
    pub(super) fn whole_id(&self, xid: Xid) -> u64 {
        xid.widen(self.now)
    }

    /// An event of this transaction leaves.
    pub(super) fn note(&mut self, xid: Xid) {
        let id = self.whole_id(xid);
        self.newest = self.newest.max(Some(id));
        if self.ids.back() == Some(&id) {
            return;
        }
        self.ids.push_back(id);
        if self.ids.len() > EVICTED_MAX {
            self.forgotten = self.forgotten.max(self.ids.pop_front());
        }
    }

    /// Whether a snapshot shows all of them, for certain.
    pub(super) fn are_shown(&self, snapshot: &Snapshot) -> bool {
        // Of what is not remembered it is certain only if it ended before all that the snapshot left out.
        if self.newest.is_none_or(|newest| !snapshot.is_recent(newest)) {
            return true;
        }
        let may_have_forgotten = self.forgotten.is_some_and(|newest| snapshot.is_recent(newest));
        !may_have_forgotten && self.ids.iter().all(|id| snapshot.shows_id(*id))
    }

    /// Another history has begun, which may give out the same ids again.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(text: &str) -> Snapshot {
        text.parse().unwrap()
    }

    #[test]
    fn ids_keep_their_epoch() {
        const EPOCH: u64 = 1 << 32;
        let mut evicted = Evicted::default();
        evicted.learn(3 * EPOCH - 5);
        // The stream crosses into the next epoch, while an event of before leaves.
        evicted.witness(Xid(7));
        evicted.note(Xid(u32::MAX));
        let check = |evicted: &Evicted, snapshot_text: String, expected: bool| {
            assert_eq!(evicted.are_shown(&snapshot(&snapshot_text)), expected, "{snapshot_text}");
        };
        let waits = 3 * EPOCH - 1;
        check(&evicted, format!("{waits}:{}:{waits}", 3 * EPOCH + 10), false);
        check(&evicted, format!("{0}:{0}:", 3 * EPOCH + 10), true);
        // A transaction that commits at long last, when others have had its lower half since.
        check(&evicted, format!("{waits}:{}:{waits}", 5 * EPOCH), false);
        check(&evicted, format!("{0}:{0}:", 5 * EPOCH), true);
        evicted.note(Xid(8));
        check(&evicted, format!("{0}:{0}:", 3 * EPOCH + 8), false);
        evicted.clear();
        check(&evicted, "3:3:".to_owned(), true);
    }

    #[test]
    fn what_is_forgotten_counts_until_all_that_is_as_old_has_ended() {
        let mut evicted = Evicted::default();
        (10..20_000).for_each(|xid| {
            evicted.witness(Xid(xid));
            evicted.note(Xid(xid));
        });
        assert!(evicted.are_shown(&snapshot("20000:20000:")));
        assert!(!evicted.are_shown(&snapshot("5:20000:5")), "it may be one of those");
        assert!(evicted.are_shown(&snapshot("10000:20000:")));
        assert!(!evicted.are_shown(&snapshot("10000:20000:10000")));
    }
}
