//! Rows that a join gets before its events: the question, its answer, and the wait between them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

use super::socket_id::SocketId;
use crate::auth::{Credential, Payer};
use crate::postgres::{Lsn, Snapshot, Timestamp};
use crate::protocol::{Encoding, Reason, Ref};
use crate::route::{Position, Topic};

/// A join that waits for its rows.
#[derive(Debug)]
pub struct RowsRequest {
    pub socket: SocketId,
    /// Tells it from an earlier join of the same socket.
    pub ticket: u64,
    pub topic: Topic,
    pub wanted: RowsWanted,
    /// Whose rights decide which rows there are.
    pub credential: Credential,
    /// On whose account they are read.
    pub payer: Payer,
    pub requested_at: Instant,
    /// Nobody waits for the rows any more.
    pub cancelled: CancellationToken,
}

/// Which rows a join asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowsWanted {
    /// What a conversation, an organization's conversations, or the tables that are routed to a private channel look
    /// like: at most so many rows of each table.
    Latest { rows_max: u32 },
    /// The newest messages that SQL has sent to a private channel since then. Whoever may join may have them.
    SentSince { since: Timestamp, limit: usize },
}

impl RowsWanted {
    /// What a client is told that cannot have them.
    pub(super) fn unavailable(self, failure: &RowsFailure) -> Reason {
        match (self, failure) {
            (Self::Latest { .. }, RowsFailure::Denied { grant }) => {
                Reason::SnapshotDenied { grant: grant.to_string() }
            }
            (Self::Latest { .. }, _) => Reason::SnapshotUnavailable,
            (Self::SentSince { .. }, _) => Reason::ReplayUnavailable,
        }
    }
}

/// What the database showed.
#[derive(Debug)]
pub struct RowsRead {
    pub snapshot: Snapshot,
    /// Where the WAL ended after the snapshot was taken: all that it shows committed before.
    pub lsn: Lsn,
    /// Oldest first.
    pub rows: Vec<RowEvent>,
}

/// A row, as the event that its route makes of it, or as which it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowEvent {
    /// Of a row of `realtime.messages`.
    pub id: Option<Uuid>,
    pub event: Arc<str>,
    pub encoding: Encoding,
    pub payload: Bytes,
}

/// Why there are no rows. The client is told that there are none now, unless it may not have them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowsFailure {
    /// Too many joins wait for theirs.
    Busy,
    /// It took too long.
    Timeout,
    /// The database refused.
    Query,
    /// Its role may not read the table: what would let it.
    Denied { grant: Arc<str> },
    /// The rows, or those that wait for all sockets, take too much memory.
    TooLarge,
    /// Events that came meanwhile have left the window.
    Evicted,
    /// Committed events are missing from the stream.
    Loss,
}

impl RowsFailure {
    /// The label of metrics and logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Timeout => "timeout",
            Self::Query => "query",
            Self::Denied { .. } => "denied",
            Self::TooLarge => "too_large",
            Self::Evicted => "evicted",
            Self::Loss => "loss",
        }
    }
}

/// A channel's wait for its rows.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) ticket: u64,
    pub(super) wanted: RowsWanted,
    /// Of the join that is to be answered.
    pub(super) reference: Ref,
    /// The head when it began.
    pub(super) since: Position,
    /// The channel's end, whatever it is, takes the request back.
    pub(super) _cancels: DropGuard,
}

/// Memory that the rows of all joins take until sockets have read them.
#[derive(Debug, Default)]
pub(super) struct RowsMemory(Arc<AtomicUsize>);

/// Rows that wait for a socket to read; their memory is given back when this is dropped.
#[derive(Debug)]
pub(super) struct Undelivered {
    bytes: usize,
    total: Arc<AtomicUsize>,
}

impl RowsMemory {
    pub(super) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn count(&self, rows: &[RowEvent]) -> Undelivered {
        let bytes = rows.iter().map(|row| size_of::<RowEvent>() + row.payload.len()).sum();
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Undelivered { bytes, total: Arc::clone(&self.0) }
    }
}

impl Drop for Undelivered {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
