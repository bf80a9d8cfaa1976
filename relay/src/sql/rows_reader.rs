//! Reads the rows of joins that ask for a snapshot.
//!
//! The hub asks and goes on; the answer is an input like any other. However many clients join at once, no more
//! statements run than there are sessions, and a join that waits too long is refused. Sessions are taken by turns, one at
//! a time for a socket and channel; rows for which no join waits any longer are not read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::error::SqlError;
use super::routed_rows::read_routed;
use super::rows::{RowsError, RowsQuery, read_latest, read_sent};
use super::sessions::Sessions;
use super::turns::{Full, Place, TurnLimits, Turns};
use crate::config::units;
use crate::fanout::{HubInput, RowsFailure, RowsRead, RowsRequest, RowsWanted, SocketId};
use crate::metrics::{Registry, Seconds};
use crate::postgres::{Lsn, Purpose};
use crate::route::Topic;
use crate::wal;

/// The part of the memory for rows that one snapshot may take.
const SHARE_OF_BYTES: usize = 16;

/// What reading rows may cost.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Replay and snapshots")]
pub struct RowsSettings {
    /// SQL sessions that read the rows for joins with `snapshot`.
    #[arg(id = "SNAPSHOT_SESSIONS", long = "snapshot-sessions", env = "CAMPFIRE_SNAPSHOT_SESSIONS", default_value_t = 4, value_parser = units::some::<u16>)]
    pub sessions: u16,

    /// Joins with `snapshot` that may wait for a session; more are refused with SnapshotUnavailable.
    #[arg(id = "SNAPSHOT_QUEUE", long = "snapshot-queue", env = "CAMPFIRE_SNAPSHOT_QUEUE", default_value_t = 256, value_parser = units::some::<u16>)]
    pub queue: u16,

    /// Seconds that a snapshot may take, including the wait for a session.
    #[arg(id = "SNAPSHOT_SECONDS", long = "snapshot-seconds", env = "CAMPFIRE_SNAPSHOT_SECONDS", default_value = "5", value_parser = units::some_seconds)]
    pub timeout: Duration,
}

/// What reading rows takes.
#[derive(Clone, Debug, Default)]
pub struct RowsMetrics {
    snapshot_seconds: Seconds,
}

impl RowsMetrics {
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let Self { snapshot_seconds } = &metrics;
        registry.register(
            "snapshot_seconds",
            "From a join to the rows of its snapshot",
            snapshot_seconds.0.clone(),
        );
        metrics
    }
}

/// The task that answers requests for snapshots.
pub struct RowsReader {
    pub requests: mpsc::Receiver<RowsRequest>,
    pub answering: Answering,
    pub stop: CancellationToken,
}

/// What it takes to answer a request.
#[derive(Clone)]
pub struct Answering {
    pub sessions: Arc<Sessions>,
    pub hub: mpsc::Sender<HubInput>,
    pub metrics: RowsMetrics,
    pub settings: RowsSettings,
    /// Memory for the rows of all snapshots that sockets have yet to read.
    pub bytes_max: usize,
    /// End LSN of what the hub has applied.
    pub applied: watch::Receiver<Lsn>,
}

/// Of a socket and channel one question is asked at a time, however often it joins.
type Asker = (SocketId, Topic);

impl RowsReader {
    /// Runs until stopped.
    pub async fn run(self) {
        let Self { mut requests, answering, stop } = self;
        let RowsSettings { sessions: at_once, queue, .. } = answering.settings;
        let crowd = usize::from(at_once) + usize::from(queue);
        let turns = Turns::<Asker>::new(TurnLimits { at_once: at_once.into(), crowd });
        let mut answers = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                Some(_) = answers.join_next() => {}
                Some(request) = requests.recv() => {
                    // At once, so that they stand in the order in which they came.
                    let place = turns.line_up(request.payer, (request.socket, request.topic.clone()));
                    let answering = answering.clone();
                    answers.spawn(async move { answering.answer(request, place).await });
                }
            }
        }
    }
}

impl Answering {
    /// Answers one request, unless it is taken back before it has its turn.
    async fn answer(&self, request: RowsRequest, place: Result<Place<Asker>, Full>) {
        let left = || self.settings.timeout.saturating_sub(request.requested_at.elapsed());
        let turn = async {
            match tokio::time::timeout(left(), place?.turn()).await {
                Ok(turn) => Ok(turn?),
                Err(_) => Err(RowsFailure::Timeout),
            }
        };
        let turn = tokio::select! {
            biased;
            () = request.cancelled.cancelled() => return,
            turn = turn => turn,
        };
        let outcome = match turn {
            Ok(_turn) => match tokio::time::timeout(left(), self.read(&request, left())).await {
                Ok(outcome) => outcome.map_err(|error| failure(&error)),
                Err(_) => Err(RowsFailure::Timeout),
            },
            Err(failure) => Err(failure),
        };
        if outcome.as_ref().err() != Some(&RowsFailure::Busy) {
            self.metrics.snapshot_seconds.0.observe(request.requested_at.elapsed().as_secs_f64());
        }
        if !request.cancelled.is_cancelled() {
            let RowsRequest { socket, ticket, .. } = request;
            self.hub.send(HubInput::Rows { socket, ticket, outcome }).await.ok();
        }
    }

    /// A session is good for the next one only if nothing went wrong with it.
    async fn read(&self, request: &RowsRequest, left: Duration) -> Result<RowsRead, RowsError> {
        let began = Instant::now();
        let session = self.sessions.take(Purpose::Rows).await.map_err(SqlError::from)?;
        let bytes_max = self.bytes_max / SHARE_OF_BYTES;
        let timeout = left.saturating_sub(began.elapsed());
        let rows = match request.wanted {
            RowsWanted::Latest { rows_max } => {
                let RowsRequest { topic, credential, .. } = request;
                let query = RowsQuery { topic, rows_max, credential, bytes_max, timeout };
                match topic.organization() {
                    Some(_) => read_latest(&session, query).await?,
                    None => read_routed(&session, query).await?,
                }
            }
            RowsWanted::SentSince { since, limit } => {
                // One more tells whether there are more.
                let limit = limit.saturating_add(1);
                let topic = request.topic.to_string();
                let rows = read_sent(&session, &topic, since, limit, bytes_max, timeout).await?;
                self.wait_for(rows.lsn, &session).await?;
                rows
            }
        };
        session.give_back();
        Ok(rows)
    }

    /// Waits until the hub has applied everything before an LSN.
    async fn wait_for(&self, lsn: Lsn, session: &Client) -> Result<(), RowsError> {
        let mut applied = self.applied.clone();
        if *applied.borrow_and_update() < lsn {
            // Without a commit after it Postgres may take its time to tell that there is nothing more.
            wal::send_heartbeat(session).await.map_err(SqlError::from)?;
        }
        applied.wait_for(|applied| *applied >= lsn).await.map(drop).map_err(|_| RowsError::Timeout)
    }
}

impl From<Full> for RowsFailure {
    fn from(_: Full) -> Self {
        Self::Busy
    }
}

fn failure(error: &RowsError) -> RowsFailure {
    match error {
        RowsError::TooLarge => RowsFailure::TooLarge,
        RowsError::Timeout => RowsFailure::Timeout,
        RowsError::Denied(grant) => {
            debug!(grant, "a client's role may not read the rows of its channel");
            RowsFailure::Denied { grant: grant.as_str().into() }
        }
        RowsError::Sql(error @ (SqlError::Privilege(_) | SqlError::ExtensionMissing)) => {
            warn!(%error, "the database refused a snapshot");
            RowsFailure::Query
        }
        RowsError::Sql(error) => {
            debug!(%error, "a snapshot could not be read");
            RowsFailure::Query
        }
    }
}
