//! How the routes that are in force relate to what is read. Pure.

use crate::postgres::{Lsn, Snapshot, Xid};

#[derive(Debug)]
pub(super) struct Routing {
    /// What showed the routes, if they were loaded: then they are those of today, and what is read again may have been
    /// routed by others before.
    shown: Option<Snapshot>,
    /// What changed them in transactions that committed before this is in them.
    known_until: Lsn,
    /// They have changed since they were last noted.
    changed: bool,
}

/// What a change of routes in the stream means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It was applied over an earlier connection.
    Known,
    /// It is in the routes that were loaded. What lies before was routed by them too, and perhaps by others when it was
    /// told.
    Loaded,
    /// From here on these routes hold.
    New,
}

impl Routing {
    /// Goes on with the routes of an earlier connection, whose stream had come so far.
    pub(super) fn known(until: Lsn) -> Self {
        Self { shown: None, known_until: until, changed: false }
    }

    /// Begins with routes that were loaded under a snapshot.
    pub(super) fn loaded(snapshot: Snapshot) -> Self {
        Self { shown: Some(snapshot), known_until: Lsn::INVALID, changed: false }
    }

    pub(super) fn meet(&mut self, xid: Xid, commit_lsn: Lsn) -> Turn {
        if commit_lsn < self.known_until {
            return Turn::Known;
        }
        if self.shown.as_ref().is_some_and(|shown| shown.shows(xid)) {
            return Turn::Loaded;
        }
        self.changed = true;
        Turn::New
    }

    /// All that showed the routes has been read. It is forgotten, because the lower halves of transaction ids come round
    /// again.
    pub(super) fn catch_up(&mut self) {
        self.shown = None;
    }

    /// Whether the routes are those that were in force where the stream is, rather than those of today.
    pub(super) fn is_sure(&self) -> bool {
        self.shown.is_none()
    }

    /// Whether they have changed since this was asked last.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_count_however_many_transactions_came_since_routes_were_loaded() {
        // 2^32 + 10.
        let mut routing = Routing::loaded("4294967306:4294967306:".parse().unwrap());
        assert_eq!(routing.meet(Xid(9), Lsn(100)), Turn::Loaded);
        assert_eq!(routing.meet(Xid(10), Lsn(200)), Turn::New, "it was not shown");
        assert!(!routing.is_sure() && routing.take_changed() && !routing.take_changed());
        routing.catch_up();
        for later in [11, (1 << 31) + 11, u32::MAX, 9] {
            assert_eq!(routing.meet(Xid(later), Lsn(300)), Turn::New, "{later}");
        }
        assert!(routing.is_sure() && routing.take_changed());
    }

    #[test]
    fn what_was_read_before_does_not_count_twice() {
        let mut routing = Routing::known(Lsn(500));
        assert_eq!(routing.meet(Xid(9), Lsn(499)), Turn::Known);
        assert!(!routing.take_changed());
        assert_eq!(routing.meet(Xid(9), Lsn(500)), Turn::New);
        assert!(routing.is_sure() && routing.take_changed());
    }
}
