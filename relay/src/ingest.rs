//! Joins the stages that turn WAL into events: attaches to the slot, decodes, routes, and feeds the hub; comes back
//! after whatever ends the connection.
//!
//! Confirms to Postgres only what the hub has applied, and that only once it is older than the replay window.

mod catalog;
mod catch_up;
mod handed;
mod history;
mod inspection;
mod keeper;
mod keyring;
mod metrics;
mod routing;
mod settings;
mod streaming;
mod translator;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use self::catalog::Catalog;
use self::history::{Arrival, History, KnownRoutes};
use self::keeper::Keeper;
use self::keyring::Keyring;
pub use self::metrics::IngestMetrics;
use self::routing::Routing;
pub use self::settings::IngestSettings;
use self::settings::Standby;
use self::streaming::Streaming;
use self::translator::Translator;
use crate::auth::ClaimPaths;
use crate::fanout::HubInput;
use crate::postgres::{self, Lsn};
use crate::route::{DatabaseTag, MessageKeys, Router};
use crate::sql::{self, Control, SqlError};
use crate::wal::{self, Attachment, OnLostSlot, WalConfig, WalError};

/// How often a standby looks whether the slot is free.
const STANDBY_POLL: Duration = Duration::from_millis(500);

/// How often a standby looks whether the relay on the slot is alive, at most.
const HOLDER_LOOK_MAX: Duration = Duration::from_secs(5);

/// How often a relay looks whether something is published that finds nothing at all.
const NOTHING_PUBLISHED_POLL: Duration = Duration::from_secs(1);

/// How often a stream is tried that failed at the same place again and again.
const STOPPED_RETRY: Duration = Duration::from_secs(60);

/// The task that feeds the hub from the slot.
pub struct Ingest {
    pub settings: IngestSettings,
    /// Whether channels outside `org:` may be joined without authorization.
    pub public_channels: bool,
    pub wal: WalConfig,
    pub hub: mpsc::Sender<HubInput>,
    /// End LSN of what the hub has applied.
    pub applied: Arc<watch::Sender<Lsn>>,
    pub metrics: IngestMetrics,
    /// Where tokens keep the organization and the conversation goes here, as each attach finds it.
    pub claim_paths: watch::Sender<ClaimPaths>,
    pub status: watch::Sender<Status>,
    pub stop: CancellationToken,
}

/// How the slot and what is published fare, for health checks.
#[derive(Clone, Copy, Debug, Default)]
pub struct Status {
    /// Whether another relay reads the slot, and this one waits to take over.
    pub standing_by: bool,
    /// How much `campfire.check_publication()` finds wrong.
    pub problems: usize,
}

impl Ingest {
    /// Runs until stopped, or until an error that only a person can mend.
    pub async fn run(self) -> Result<(), SqlError> {
        let mut history = History::default();
        loop {
            // Not dropped when it is time to stop: it may be making a slot, and knows how to end that.
            let outcome = self.attach_and_stream(&mut history).await;
            if self.stop.is_cancelled() {
                return Ok(());
            }
            let Err(cause) = outcome else { continue };
            self.hub.send(HubInput::Detached).await.ok();
            let delay = match self.recover(cause, &mut history).await {
                Ok(delay) => delay,
                Err(cause) => {
                    self.take_back_slot(&history).await;
                    return Err(cause);
                }
            };
            if self.stop.run_until_cancelled(tokio::time::sleep(delay)).await.is_none() {
                return Ok(());
            }
        }
    }

    /// Decides what the end of a connection means. Returns how long to wait before the next.
    async fn recover(&self, cause: SqlError, history: &mut History) -> Result<Duration, SqlError> {
        match &cause {
            SqlError::Wal(WalError::SlotActive { pid, .. }) if self.settings.standby == Standby::Wait => {
                if !std::mem::replace(&mut history.standing_by, true) {
                    self.status.send_modify(|status| status.standing_by = true);
                    info!(pid, "another relay reads the slot; waiting to take over");
                }
                self.watch_holder(history).await;
                return Ok(STANDBY_POLL);
            }
            SqlError::Wal(WalError::SlotActive { .. }) => return Err(cause),
            SqlError::Wal(WalError::SlotLost { .. } | WalError::SlotTooLarge { .. }) => {
                if self.wal.settings.on_lost_slot == OnLostSlot::Stop {
                    return Err(cause);
                }
                match self.drop_lost_slot().await {
                    Ok(()) => history.slot_lost = true,
                    Err(error) => warn!(%error, "the lost slot could not be dropped"),
                }
            }
            SqlError::Wal(WalError::SlotDropped { .. }) => return Err(cause),
            SqlError::NothingPublished => {
                if !std::mem::replace(&mut history.nothing_published, true) {
                    warn!("{cause}; waiting for it");
                }
                return Ok(NOTHING_PUBLISHED_POLL);
            }
            SqlError::AgentsToRead { schema } => {
                info!(schema, "reading the agents of this installation again");
                return Ok(Duration::ZERO);
            }
            // What worked once may work again: a password rotates, a publication is made anew.
            _ if !cause.is_retryable() && !history.attached_before => return Err(cause),
            _ => {}
        }
        if history.is_stopped(self.settings.stop_after_failures) {
            return Ok(STOPPED_RETRY);
        }
        let delay = history.backoff.next_delay();
        warn!(error = %cause, retry_in_ms = delay.as_millis() as u64, "not attached to the slot");
        Ok(delay)
    }

    async fn drop_lost_slot(&self) -> Result<(), SqlError> {
        let sql = postgres::connect(&self.wal.database).await?;
        Ok(wal::drop_slot(&sql, &self.wal.settings.slot_name).await?)
    }

    /// A start that fails leaves no slot behind: it would hold back WAL that nobody reads.
    async fn take_back_slot(&self, history: &History) {
        if !history.slot_is_new {
            return;
        }
        match self.drop_lost_slot().await {
            Ok(()) => info!("the start failed, and the slot made for it is dropped again"),
            Err(error) => warn!(%error, "the start failed, and the slot made for it could not be dropped"),
        }
    }

    /// Ends the walsender of a relay that only hangs; the next attempt then finds the slot free.
    async fn watch_holder(&self, history: &mut History) {
        let limit = self.settings.takeover;
        let look_every = (limit / 4).min(HOLDER_LOOK_MAX);
        if limit.is_zero() || history.looked_at.is_some_and(|looked_at| looked_at.elapsed() < look_every) {
            return;
        }
        history.looked_at = Some(Instant::now());
        let watch = async {
            let sql = postgres::connect(&self.wal.database).await?;
            history.holder.take_over(&sql, &self.wal.settings.slot_name, limit).await.map_err(SqlError::from)
        };
        if let Err(error) = watch.await {
            warn!(%error, "cannot tell whether the relay on the slot is alive");
        }
    }

    /// Attaches and streams until the connection ends, which it always does with an error.
    async fn attach_and_stream(&self, history: &mut History) -> Result<(), SqlError> {
        let mut sql = postgres::connect(&self.wal.database).await?;
        self.check(&mut sql, history).await?;
        let (attachment, stream) = wal::attach(&self.wal, &sql).await?;
        sql::tell_public_channels(&sql, &self.wal.settings.slot_name, self.public_channels).await?;
        history.slot_is_new |= attachment.slot_created && !history.attached_before;
        // After START_REPLICATION, so that no change can fall between what is loaded and what is streamed.
        let load = self.load(&mut sql, attachment.database_oid);
        let Some(loaded) = self.stop.run_until_cancelled(load).await else { return Ok(()) };
        let Loaded { control, fence, keys } = loaded?;
        let schemas = control.schemas();
        info!(
            slot_created = attachment.slot_created,
            timeline = attachment.timeline,
            lsn = %attachment.confirmed_flush_lsn,
            %fence,
            routes = control.routes.len(),
            "attached to the slot"
        );
        self.claim_paths.send_replace(control.claim_paths);
        history.standing_by = false;
        self.status.send_modify(|status| status.standing_by = false);
        history.nothing_published = false;
        history.inspection.load(control.installations);
        let arrival = self.arrive(&attachment, history);
        // Where the hub has got to, routes are as they were then; what follows tells how they changed.
        let (KnownRoutes { routes, schemas }, routing) = match history.routes.clone() {
            Some(known) => (known, Routing::known(history.handed())),
            None => {
                (KnownRoutes { routes: control.routes, schemas }, Routing::loaded(control.snapshot.clone()))
            }
        };
        let router = Router::new(routes, schemas, control.domains);
        self.hub.send(HubInput::Rerouted(Arc::clone(router.channels()))).await.ok();
        let attached = HubInput::Attached {
            loss: arrival.loss,
            is_elsewhere: arrival.is_elsewhere,
            agents: control.agents,
            agent_names: control.agent_names,
            snapshot: control.snapshot.clone(),
            tag: DatabaseTag::new(attachment.system_identifier, attachment.database_oid),
            timeline: attachment.timeline_at(attachment.confirmed_flush_lsn),
            confirmed_flush_lsn: attachment.confirmed_flush_lsn,
        };
        self.hub.send(attached).await.ok();

        let catalog = Catalog::new(&self.wal.database, attachment.database_oid);
        let keys = Keyring::new(catalog, keys, control.snapshot.xmax());
        let transactions = AtomicU64::new(0);
        let translator =
            Translator::new(&self.metrics, &attachment, router, routing, keys, catalog, &transactions);
        let mut streaming = Streaming::new(self, translator, fence);
        let mut inspection = std::mem::take(&mut history.inspection);
        let outcome = tokio::select! {
            biased;
            () = self.stop.cancelled() => Ok(()),
            error = Keeper::new(self, &transactions, sql, &mut inspection).run() => Err(error),
            outcome = streaming.run(stream, history) => outcome,
        };
        history.inspection = inspection;
        let handed = streaming.handed();
        history.hand(handed);
        if let Err(error) = &outcome {
            let failures = history.fail(error, handed);
            if failures == self.settings.stop_after_failures {
                self.metrics.slot_stopped.set(1);
                error!(
                    %error, lsn = %handed, failures, retry_in_seconds = STOPPED_RETRY.as_secs(),
                    "stopped: the stream fails at this position each time, and the relay skips nothing by itself; \
                     leave the column out by a column list and make a new slot, or advance the slot past it with \
                     pg_replication_slot_advance, which is announced as a loss (docs/postgres.md)"
                );
            }
        }
        outcome
    }

    /// Refuses what cannot work. At the first time also reads all that will be read: what cannot be is said before there
    /// is a slot.
    async fn check(&self, sql: &mut Client, history: &History) -> Result<(), SqlError> {
        sql::check_role(sql).await?;
        sql::check_publications(sql, &self.wal.publications).await?;
        if !history.attached_before {
            wal::warn_of_missing_bounds(sql).await?;
            let control = sql::load_control(sql, self.control_publication()).await?;
            debug!(routes = control.routes.len(), "everything can be read");
            sql::message_keys(sql, 0).await?;
        }
        Ok(())
    }

    async fn load(&self, sql: &mut Client, database_oid: u32) -> Result<Loaded, SqlError> {
        let database = &self.wal.database;
        let what = "the tables of agents and routes, which somebody may have locked";
        let control = sql::load_control(sql, self.control_publication());
        let control = postgres::answered(database, what, control).await?;
        let fence = postgres::answered(database, "a message into the WAL", wal::send_heartbeat(sql)).await?;
        let keys = sql::message_keys(sql, database_oid);
        let keys = postgres::answered(database, "the keys of broadcasts", keys).await?;
        Ok(Loaded { control, fence, keys })
    }

    fn control_publication(&self) -> &str {
        self.wal.publications.last().map_or("", String::as_str)
    }

    /// Finds out what a new attachment means for what was told so far, and says if events are missing.
    fn arrive(&self, attachment: &Attachment, history: &mut History) -> Arrival {
        let arrival = history.arrive(attachment);
        if arrival.is_elsewhere {
            // What the hub reports until it has seen something new would confirm LSNs of another history.
            self.applied.send_replace(Lsn::INVALID);
        }
        if let Some(cause) = arrival.loss {
            if history.attached_before {
                error!(cause, "events are missing");
            } else {
                // Nobody is connected yet.
                warn!(
                    cause,
                    "reading a new slot; clients that resume from before it are told that events are missing. If the \
                     old one was dropped on purpose, this is as expected"
                );
            }
            self.metrics.slot_losses.inc();
        }
        if std::mem::replace(&mut history.attached_before, true) {
            self.metrics.slot_reconnects.inc();
        }
        arrival
    }
}

/// What is read once the stream has begun.
struct Loaded {
    control: Control,
    /// Behind all that was loaded: a client that is let in before the stream has passed it would get what committed in
    /// between by routes that were loaded and were not in force yet.
    fence: Lsn,
    keys: MessageKeys,
}
