//! Keeps the slot from harm while it is read: heartbeats when nothing else moves it, and a look at what it holds back
//! and at the publications it is read with. And has tomorrow's partition of `realtime.messages` made.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};
use tokio_postgres::Client;
use tracing::{debug, warn};

use super::Ingest;
use super::inspection::Inspection;
use crate::postgres::{self, Conninfo};
use crate::sql::{self, SqlError, SupabaseProblem};
use crate::wal::{self, Health, WalConfig, WalError};

const HEALTH_INTERVAL: Duration = Duration::from_secs(10);

/// Partitions are made days ahead, so that nothing is late if some of these fail.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(3600);

pub(super) struct Keeper<'a> {
    ingest: &'a Ingest,
    /// Commits that the stream has brought.
    transactions: &'a AtomicU64,
    /// Opened when it is needed again.
    sql: Option<Client>,
    inspection: &'a mut Inspection,
}

impl<'a> Keeper<'a> {
    pub(super) fn new(
        ingest: &'a Ingest,
        transactions: &'a AtomicU64,
        sql: Client,
        inspection: &'a mut Inspection,
    ) -> Self {
        Self { ingest, transactions, sql: Some(sql), inspection }
    }

    /// Runs beside the stream, until the slot holds back more than it may, or rows would be missing in silence.
    pub(super) async fn run(mut self) -> SqlError {
        let heartbeat = self.ingest.settings.heartbeat;
        let mut health = interval(HEALTH_INTERVAL);
        health.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let beat_every = heartbeat.max(Duration::from_secs(1));
        let mut beat = interval_at(Instant::now() + beat_every, beat_every);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut maintenance = interval(MAINTENANCE_INTERVAL);
        maintenance.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = self.transactions.load(Ordering::Relaxed);
        loop {
            let done = tokio::select! {
                _ = health.tick() => self.look().await,
                _ = maintenance.tick() => self.maintain().await,
                _ = beat.tick(), if !heartbeat.is_zero() => {
                    let brought = self.transactions.load(Ordering::Relaxed);
                    // A commit moves the slot as well as a heartbeat would.
                    if brought == std::mem::replace(&mut seen, brought) { self.beat().await } else { Ok(()) }
                }
            };
            match done {
                Ok(()) => {}
                Err(
                    error @ (SqlError::Wal(
                        WalError::SlotTooLarge { .. } | WalError::PublicationMissing { .. },
                    )
                    | SqlError::AgentsToRead { .. }),
                ) => {
                    return error;
                }
                Err(error) => {
                    // The stream, on its own connection, decides whether Postgres is there.
                    debug!(%error, "the slot could not be looked after");
                    self.sql = None;
                }
            }
        }
    }

    async fn beat(&mut self) -> Result<(), SqlError> {
        wal::send_heartbeat(self.sql().await?).await?;
        Ok(())
    }

    async fn maintain(&mut self) -> Result<(), SqlError> {
        match sql::maintain_supabase_api(self.sql().await?).await {
            Ok(problems) => {
                for SupabaseProblem { problem, fix } in problems {
                    warn!(problem, fix, "schema realtime needs repair");
                }
                Ok(())
            }
            Err(error) => {
                warn!(%error, "could not make or drop partitions of realtime.messages");
                Err(error)
            }
        }
    }

    async fn look(&mut self) -> Result<(), SqlError> {
        let WalConfig { settings, publications, database, .. } = &self.ingest.wal;
        let slot_name = &settings.slot_name;
        if let Some(publication) = wal::publication_gone(self.sql().await?, slot_name, publications).await? {
            let database = database.database().to_owned();
            return Err(WalError::PublicationMissing { publication, database }.into());
        }
        let Some(Health { retained_bytes, wal_status, safe_wal_bytes }) =
            wal::health(self.sql().await?, slot_name).await?
        else {
            return self.inspect().await;
        };
        self.ingest.metrics.slot_retained_bytes.set(retained_bytes);
        if wal_status.as_deref() == Some("unreserved") {
            warn!(
                retained_bytes,
                safe_wal_bytes, "slot is about to be lost: it holds back more than max_slot_wal_keep_size"
            );
        }
        let limit = self.ingest.settings.slot_max_bytes;
        if limit > 0 && retained_bytes > limit {
            let slot_name = slot_name.clone();
            return Err(WalError::SlotTooLarge { slot_name, retained_bytes, limit }.into());
        }
        self.inspect().await
    }

    async fn inspect(&mut self) -> Result<(), SqlError> {
        let ingest = self.ingest;
        let sql = opened(&mut self.sql, &ingest.wal.database).await?;
        self.inspection.look(sql, &ingest.wal.publications, &ingest.metrics, &ingest.status).await
    }

    async fn sql(&mut self) -> Result<&Client, SqlError> {
        opened(&mut self.sql, &self.ingest.wal.database).await
    }
}

async fn opened<'a>(sql: &'a mut Option<Client>, database: &Conninfo) -> Result<&'a Client, SqlError> {
    match sql.take().filter(|client| !client.is_closed()) {
        Some(client) => Ok(sql.insert(client)),
        None => Ok(sql.insert(postgres::connect(database).await?)),
    }
}
