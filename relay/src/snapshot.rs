//! Reads the rows of joins that ask for a snapshot, in a few SQL sessions of their own.
//!
//! The hub asks and goes on; the answer is an input like any other. However many join at once, no more statements run
//! than there are sessions, and who waits too long is refused rather than kept.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::db::{self, DbError, RowsError, SnapshotQuery};
use crate::fanout::{HubInput, RowsWanted, SnapshotFailure, SnapshotRequest, SnapshotRows};
use crate::metrics::Metrics;
use crate::wal::{self, Conninfo, Lsn, Purpose};

/// For a few rows each it only costs time.
const SETTINGS: &str = "set jit = off";

/// The part of the memory for rows that one snapshot may take.
const SHARE_OF_BYTES: usize = 16;

/// The task that answers requests for snapshots.
pub struct SnapshotReader {
    pub requests: mpsc::Receiver<SnapshotRequest>,
    pub hub: mpsc::Sender<HubInput>,
    pub sessions: Sessions,
    pub sessions_max: usize,
    pub stop: CancellationToken,
}

/// How sessions are made, and what bounds their work.
#[derive(Clone)]
pub struct Sessions {
    pub database: Arc<Conninfo>,
    pub metrics: Metrics,
    /// From the join to its rows.
    pub timeout: Duration,
    /// Memory for the rows of all snapshots that sockets have yet to read.
    pub bytes_max: usize,
    /// End LSN of what the hub has applied.
    pub applied: watch::Receiver<Lsn>,
}

impl SnapshotReader {
    /// Runs until stopped.
    pub async fn run(mut self) {
        let mut reading = JoinSet::new();
        let mut idle: Vec<Client> = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                Some(done) = reading.join_next() => idle.extend(done.ok().flatten()),
                Some(request) = self.requests.recv(), if reading.len() < self.sessions_max => {
                    let (sessions, hub, session) = (self.sessions.clone(), self.hub.clone(), idle.pop());
                    reading.spawn(async move { sessions.answer(session, request, &hub).await });
                }
            }
        }
    }
}

impl Sessions {
    /// Answers one request; returns the session if it can be used again.
    async fn answer(
        &self,
        session: Option<Client>,
        request: SnapshotRequest,
        hub: &mpsc::Sender<HubInput>,
    ) -> Option<Client> {
        let left = self.timeout.saturating_sub(request.requested_at.elapsed());
        let read = tokio::time::timeout(left, self.read(session, &request, left)).await;
        let (outcome, session) = match read {
            Ok(Ok((rows, session))) => (Ok(rows), Some(session)),
            Ok(Err(error)) => (Err(failure(&error)), None),
            Err(_) => (Err(SnapshotFailure::Timeout), None),
        };
        self.metrics.snapshot_seconds.0.observe(request.requested_at.elapsed().as_secs_f64());
        let SnapshotRequest { socket, ticket, .. } = request;
        hub.send(HubInput::Snapshot { socket, ticket, outcome }).await.ok();
        session
    }

    async fn read(
        &self,
        session: Option<Client>,
        request: &SnapshotRequest,
        left: Duration,
    ) -> Result<(SnapshotRows, Client), RowsError> {
        let began = Instant::now();
        let mut session = match session.filter(|session| !session.is_closed()) {
            Some(session) => session,
            None => {
                let session = db::connect_for(&self.database, Purpose::Rows).await?;
                session.batch_execute(SETTINGS).await?;
                session
            }
        };
        let bytes_max = self.bytes_max / SHARE_OF_BYTES;
        // Zero would mean none.
        let timeout = left.saturating_sub(began.elapsed()).max(Duration::from_millis(1));
        let rows = match request.wanted {
            RowsWanted::Latest { rows_max } => {
                let SnapshotRequest { topic, credential, .. } = request;
                let query = SnapshotQuery { topic, rows_max, credential, bytes_max, timeout };
                db::read_snapshot(&mut session, query).await?
            }
            RowsWanted::SentSince { since, limit } => {
                // One more tells whether there are more.
                let limit = limit.saturating_add(1);
                let topic = request.topic.to_string();
                let rows = db::read_sent(&mut session, &topic, since, limit, bytes_max, timeout).await?;
                self.wait_for(rows.lsn, &session).await?;
                rows
            }
        };
        Ok((rows, session))
    }

    /// Waits until the hub has applied everything before an LSN.
    async fn wait_for(&self, lsn: Lsn, session: &Client) -> Result<(), RowsError> {
        let mut applied = self.applied.clone();
        if *applied.borrow_and_update() < lsn {
            // Without a commit after it Postgres may take its time to tell that there is nothing more.
            wal::send_heartbeat(session).await.map_err(DbError::from)?;
        }
        applied.wait_for(|applied| *applied >= lsn).await.map(drop).map_err(|_| RowsError::Timeout)
    }
}

fn failure(error: &RowsError) -> SnapshotFailure {
    match error {
        RowsError::TooLarge => SnapshotFailure::TooLarge,
        RowsError::Timeout => SnapshotFailure::Timeout,
        RowsError::Db(error @ (DbError::Privilege(_) | DbError::ExtensionMissing)) => {
            warn!(%error, "a snapshot is refused by the database");
            SnapshotFailure::Query
        }
        RowsError::Db(error) => {
            debug!(%error, "a snapshot could not be read");
            SnapshotFailure::Query
        }
    }
}
