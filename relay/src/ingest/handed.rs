//! How far one connection's stream has been handed to the hub, and what of that may be confirmed. Pure.

use std::collections::VecDeque;

use crate::postgres::Lsn;

#[derive(Debug)]
pub(super) struct Handed {
    end: Lsn,
    /// The ends that the hub has not reported as applied. What it reports besides is left over from an earlier
    /// connection, perhaps to another history, and must not be confirmed to this one.
    unreported: VecDeque<Lsn>,
}

impl Handed {
    /// Nothing yet: the stream begins here.
    pub(super) fn new(start: Lsn) -> Self {
        Self { end: start, unreported: VecDeque::new() }
    }

    /// The end of what was handed over whole.
    pub(super) fn end(&self) -> Lsn {
        self.end
    }

    pub(super) fn push(&mut self, end: Lsn) {
        self.end = end;
        self.unreported.push_back(end);
    }

    /// What can be confirmed once the hub reports this as applied.
    pub(super) fn confirmable(&mut self, reported: Lsn) -> Option<Lsn> {
        let index = self.unreported.iter().position(|end| *end == reported)?;
        self.unreported.drain(..=index);
        Some(reported)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_handed_on_over_this_connection_is_confirmed() {
        let mut handed = Handed::new(Lsn(50));
        assert_eq!(handed.confirmable(Lsn(900)), None, "a report from before");
        assert_eq!((handed.confirmable(Lsn(50)), handed.end()), (None, Lsn(50)));
        [100, 200, 300].into_iter().for_each(|end| handed.push(Lsn(end)));
        assert_eq!(handed.end(), Lsn(300));
        assert_eq!(handed.confirmable(Lsn(900)), None);
        assert_eq!(handed.confirmable(Lsn(200)), Some(Lsn(200)));
        assert_eq!(handed.confirmable(Lsn(100)), None);
        assert_eq!(handed.confirmable(Lsn(300)), Some(Lsn(300)));
    }
}
