//! Joins that get the database's rows first, and then exactly the events that those rows do not show.
//!
//! The rows are read elsewhere, and the hub does not wait for them: the channel is pending, and the window keeps what
//! comes meanwhile. What the snapshot's transaction saw is told by transaction ids, never by LSNs: the two disagree.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use prometheus_client::metrics::gauge::Gauge;
use tracing::debug;

use super::channel::Stage;
use super::hub::{Hub, SocketId};
use super::resume::{Cursor, replay_response};
use super::room::Gate;
use crate::auth::Credential;
use crate::metrics;
use crate::protocol::{Reason, Ref};
use crate::route::{Position, Topic};
use crate::wal::{Lsn, Snapshot};

/// A join that waits for its rows.
#[derive(Debug)]
pub struct SnapshotRequest {
    pub socket: SocketId,
    /// Tells it from an earlier join of the same socket.
    pub ticket: u64,
    /// A conversation's, or an organization's conversations.
    pub topic: Topic,
    pub rows_max: u32,
    /// Whose rights decide which rows there are.
    pub credential: Credential,
    pub requested_at: Instant,
}

/// What the database showed.
#[derive(Debug)]
pub struct SnapshotRows {
    pub snapshot: Snapshot,
    /// Where the WAL ended after the snapshot was taken: all that it shows committed before.
    pub lsn: Lsn,
    /// Oldest first.
    pub rows: Vec<SnapshotRow>,
}

/// A row, as the event that its route makes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRow {
    pub event: Arc<str>,
    /// A JSON object.
    pub payload: Bytes,
}

/// Why there are no rows. The client is told [`Reason::SnapshotUnavailable`], whatever the cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotFailure {
    /// Too many joins wait for theirs.
    Busy,
    /// It took too long.
    Timeout,
    /// The database refused.
    Query,
    /// The rows, or those that wait for all sockets, take too much memory.
    TooLarge,
    /// Events that came meanwhile have left the window.
    Evicted,
    /// Committed events are missing from the stream.
    Loss,
}

impl SnapshotFailure {
    /// The label of metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Timeout => "timeout",
            Self::Query => "query",
            Self::TooLarge => "too_large",
            Self::Evicted => "evicted",
            Self::Loss => "loss",
        }
    }
}

/// A channel's wait for its rows.
#[derive(Debug)]
pub(super) struct Pending {
    ticket: u64,
    /// Of the join that is to be answered.
    pub(super) reference: Ref,
    /// The head when it began.
    since: Position,
}

/// Where a snapshot ends and the stream begins.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) snapshot: Snapshot,
    /// Once the stream has passed it, nothing that comes is shown by the snapshot.
    pub(super) lsn: Lsn,
}

/// Memory of rows that wait for a socket to read; given back when dropped.
#[derive(Debug)]
pub(super) struct Undelivered {
    bytes: i64,
    total: Gauge,
}

impl Undelivered {
    fn new(rows: &[SnapshotRow], total: &Gauge) -> Self {
        let bytes = rows.iter().map(|row| size_of::<SnapshotRow>() + row.payload.len()).sum::<usize>();
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        total.inc_by(bytes);
        Self { bytes, total: total.clone() }
    }
}

impl Drop for Undelivered {
    fn drop(&mut self) {
        self.total.dec_by(self.bytes);
    }
}

impl Hub {
    /// Asks for the rows of a join.
    pub(super) fn request_snapshot(
        &mut self,
        socket: SocketId,
        reference: Ref,
        topic: Topic,
        rows_max: u32,
        credential: Credential,
    ) -> Result<Pending, Reason> {
        self.tickets += 1;
        let ticket = self.tickets;
        let requested_at = Instant::now();
        let request = SnapshotRequest { socket, ticket, topic, rows_max, credential, requested_at };
        self.snapshots.try_send(request).map_err(|_| {
            self.count_failure(SnapshotFailure::Busy);
            Reason::SnapshotUnavailable
        })?;
        Ok(Pending { ticket, reference, since: self.window.head() })
    }

    /// Answers a join whose rows have come, or will not come. It may be gone: left, closed, joined anew.
    pub(super) fn apply_snapshot(
        &mut self,
        id: SocketId,
        ticket: u64,
        outcome: Result<SnapshotRows, SnapshotFailure>,
    ) {
        let waits = |stage: &Stage| matches!(stage, Stage::Pending(pending) if pending.ticket == ticket);
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        let Some(index) = socket.channels.iter().position(|channel| waits(&channel.stage)) else { return };
        let channel = &mut socket.channels[index];
        let wire_topic = Arc::clone(&channel.wire_topic);
        let Stage::Pending(pending) = &channel.stage else { return };
        let topic = &channel.room.topic;
        let floor = self.window.floor_of(topic);
        let held = outcome.and_then(|rows| {
            let undelivered = Undelivered::new(&rows.rows, &self.metrics.snapshot_bytes);
            let complete = self.window.complements(&rows.snapshot);
            let bytes_max = i64::try_from(self.settings.snapshot_bytes_max).unwrap_or(i64::MAX);
            if self.window_broken {
                Err(SnapshotFailure::Loss)
            } else if self.metrics.snapshot_bytes.get() > bytes_max {
                Err(SnapshotFailure::TooLarge)
            } else if !complete && floor > pending.since {
                Err(SnapshotFailure::Evicted)
            } else {
                Ok((rows, undelivered, complete))
            }
        });
        let (SnapshotRows { snapshot, lsn, rows }, undelivered, complete) = match held {
            Ok(held) => held,
            Err(failure) => {
                debug!(socket_id = id.0, %topic, reason = failure.label(), "no snapshot");
                self.count_failure(failure);
                return self.close_channel(id, &wire_topic, &Reason::SnapshotUnavailable);
            }
        };
        let missed = self.window.after(topic, floor).filter(|kept| !snapshot.shows(kept.xid)).count();
        let response = replay_response(complete, rows.len() + missed, &self.window, self.tag);
        let reference = pending.reference.clone();
        channel.stage = Stage::CatchingUp(Box::new(Cursor {
            rows: rows.into(),
            undelivered: Some(undelivered),
            position: floor,
            cut: Some(Arc::new(Cut { snapshot, lsn })),
        }));
        let frame = socket.envelope(&socket.channels[index]).reply_ok(&reference, &response);
        self.metrics.snapshots.inc();
        self.push(id, frame);
        self.begin_replay(id, &wire_topic, complete);
    }

    /// Forgets the snapshots that the stream has passed.
    pub(super) fn pass(&mut self, end: Lsn) {
        self.passed = self.passed.max(end);
        if self.behind.is_empty() {
            return;
        }
        let passed = self.passed;
        for (id, wire_topic, cut) in self.behind.extract_if(.., |(_, _, cut)| cut.lsn <= passed) {
            let Some(socket) = self.sockets.get_mut(&id) else { continue };
            let vsn = socket.vsn;
            // The channel may have been left, and joined anew.
            let is_it = |stage: &Stage| matches!(stage, Stage::Behind(known) if Arc::ptr_eq(known, &cut));
            let mut found = socket.channels.iter_mut();
            if let Some(channel) =
                found.find(|channel| channel.wire_topic == wire_topic && is_it(&channel.stage))
            {
                channel.stage = Stage::Live;
                self.rooms.set_gate(&channel.room, &channel.group(vsn), id, Gate::Open);
            }
        }
    }

    /// Another history begins: transaction ids and LSNs of the one before mean nothing in it.
    pub(super) fn forget_snapshots(&mut self, start: Lsn) {
        self.pass(Lsn(u64::MAX));
        self.passed = start;
        for channel in self.sockets.values_mut().flat_map(|socket| &mut socket.channels) {
            if let Stage::CatchingUp(cursor) = &mut channel.stage {
                cursor.cut = None;
            }
        }
    }

    /// Refuses all joins that wait: what they would get is not whole.
    pub(super) fn fail_pending(&mut self, failure: SnapshotFailure) {
        let mut pending = Vec::new();
        for (id, socket) in &self.sockets {
            for channel in &socket.channels {
                if matches!(channel.stage, Stage::Pending(_)) {
                    pending.push((*id, Arc::clone(&channel.wire_topic)));
                }
            }
        }
        for (id, wire_topic) in pending {
            self.count_failure(failure);
            self.close_channel(id, &wire_topic, &Reason::SnapshotUnavailable);
        }
    }

    fn count_failure(&self, failure: SnapshotFailure) {
        let reason = metrics::Reason { reason: failure.label() };
        self.metrics.snapshots_refused.get_or_create(&reason).inc();
    }
}
