//! The cut between the rows of a snapshot and the events of the stream.

use super::window::Kept;
use crate::postgres::{Lsn, Snapshot};

/// Where a snapshot ends and the stream begins.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) snapshot: Snapshot,
    /// Once the stream has passed it, nothing that comes is shown by the snapshot.
    pub(super) lsn: Lsn,
}

impl Cut {
    /// Whether the rows show an event. A transaction that committed behind the end may have the lower half of an id that
    /// they do show, where the client is slow enough.
    pub(super) fn shows(&self, kept: &Kept) -> bool {
        kept.position.commit_lsn < self.lsn && self.snapshot.shows(kept.xid)
    }
}
