//! Joins the stages that turn WAL into events: attaches to the slot, decodes, routes, and feeds the hub; comes back
//! after whatever ends the connection.
//!
//! Confirms to Postgres only what the hub has applied, and that only once it is older than the replay window.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, trace, warn};

use crate::config::{Config, OnLostSlot, Standby};
use crate::db::{self, DbError};
use crate::decode::{ChangeKind, DecodeError, Decoded, Decoder, Timestamp};
use crate::fanout::{HubChange, HubInput};
use crate::http::Shared;
use crate::route::{DatabaseTag, Position, Router};
use crate::wal::{self, Attachment, Backoff, Lsn, WalConfig, WalError, WalFrame, WalStream};

/// How often feedback is considered and catching up is reported.
const TICK: Duration = Duration::from_secs(1);
const CATCH_UP_REPORT: Duration = Duration::from_secs(5);

/// How often a standby looks whether the slot is free.
const STANDBY_POLL: Duration = Duration::from_millis(500);

/// The task that feeds the hub from the slot.
pub struct Ingest {
    pub config: Arc<Config>,
    pub wal: WalConfig,
    pub hub: mpsc::Sender<HubInput>,
    /// End LSN of what the hub has applied.
    pub applied: Arc<AtomicU64>,
    pub shared: Arc<Shared>,
    pub stop: CancellationToken,
}

/// What is known from one connection to the next.
#[derive(Debug, Default)]
struct History {
    backoff: Backoff,
    attached_before: bool,
    /// We dropped an invalidated slot: what it held is lost.
    slot_lost: bool,
    /// Another relay was found on the slot, and that was logged.
    standing_by: bool,
}

impl Ingest {
    /// Runs until stopped, or until an error that only a person can mend.
    pub async fn run(self) -> Result<(), DbError> {
        let mut history = History::default();
        while let Some(outcome) = self.stop.run_until_cancelled(self.session(&mut history)).await {
            let Err(cause) = outcome else { continue };
            self.hub.send(HubInput::Detached).await.ok();
            let delay = self.recover(cause, &mut history).await?;
            if self.stop.run_until_cancelled(tokio::time::sleep(delay)).await.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Decides what the end of a connection means. Returns how long to wait before the next.
    async fn recover(&self, cause: DbError, history: &mut History) -> Result<Duration, DbError> {
        match &cause {
            DbError::Wal(WalError::SlotActive { pid, .. }) if self.config.standby == Standby::Wait => {
                if !std::mem::replace(&mut history.standing_by, true) {
                    info!(pid, "another relay reads the slot; waiting to take over");
                }
                return Ok(STANDBY_POLL);
            }
            DbError::Wal(WalError::SlotActive { .. }) => return Err(cause),
            DbError::Wal(WalError::SlotLost { .. }) if self.config.on_lost_slot == OnLostSlot::Recreate => {
                match self.drop_lost_slot().await {
                    Ok(()) => history.slot_lost = true,
                    Err(error) => warn!(%error, "the lost slot could not be dropped"),
                }
            }
            // What worked once may work again: a password rotates, a publication is made anew.
            _ if !cause.is_retryable() && !history.attached_before => return Err(cause),
            _ => {}
        }
        let delay = history.backoff.next_delay();
        warn!(error = %cause, retry_in_ms = delay.as_millis() as u64, "not attached to the slot");
        Ok(delay)
    }

    async fn drop_lost_slot(&self) -> Result<(), DbError> {
        let sql = db::connect(&self.wal.database).await?;
        Ok(wal::drop_slot(&sql, &self.wal.slot_name).await?)
    }

    /// Attaches and streams until the connection ends, which it always does with an error.
    async fn session(&self, history: &mut History) -> Result<(), DbError> {
        let mut sql = db::connect(&self.wal.database).await?;
        db::check_publications(&sql, &self.wal.publications).await?;
        let (attachment, stream) = wal::attach(&self.wal, &sql).await?;
        // After START_REPLICATION, so that no change can fall between what is loaded and what is streamed.
        let control = db::load_control(&mut sql).await?;
        db::send_fence(&sql).await?;
        *self.shared.claim_paths.write().unwrap_or_else(PoisonError::into_inner) = control.claim_paths;
        info!(
            slot_created = attachment.slot_created,
            timeline = attachment.timeline,
            lsn = %attachment.confirmed_flush_lsn,
            fence = %attachment.wal_flush_lsn,
            routes = control.routes.len(),
            "attached to the slot"
        );
        history.standing_by = false;
        let reattached = std::mem::replace(&mut history.attached_before, true);
        if reattached {
            self.shared.metrics.slot_reconnects.inc();
        }
        if std::mem::take(&mut history.slot_lost) || (reattached && attachment.slot_created) {
            error!("the slot was lost, and with it the events between");
            self.shared.metrics.slot_losses.inc();
            self.hub.send(HubInput::Loss { cause: "the replication slot was lost" }).await.ok();
        }
        let attached = HubInput::Attached {
            agents: control.agents,
            tag: DatabaseTag::new(attachment.system_identifier, attachment.database_oid),
            timeline: attachment.timeline,
            confirmed_flush_lsn: attachment.confirmed_flush_lsn,
        };
        self.hub.send(attached).await.ok();
        // The stream needs no second session.
        drop(sql);
        let router = Router::new(control.routes, control.schemas);
        Streaming::new(self, &attachment, router).run(stream, &mut history.backoff).await
    }
}

/// One connection's stream.
struct Streaming<'a> {
    ingest: &'a Ingest,
    decoder: Decoder,
    router: Router,
    tag: DatabaseTag,
    timeline: u32,
    catch_up: Option<CatchUp>,
}

/// What remains to be read before clients are let in: everything that had been flushed when we attached. Otherwise
/// rows from before a restart would look live.
struct CatchUp {
    fence: Lsn,
    started_at: Instant,
    reported_at: Instant,
    first: Option<Lsn>,
    last: Lsn,
}

impl<'a> Streaming<'a> {
    fn new(ingest: &'a Ingest, attachment: &Attachment, router: Router) -> Self {
        let now = Instant::now();
        let fence = attachment.wal_flush_lsn;
        Self {
            ingest,
            decoder: Decoder::new(),
            router,
            tag: DatabaseTag::new(attachment.system_identifier, attachment.database_oid),
            timeline: attachment.timeline,
            catch_up: Some(CatchUp {
                fence,
                started_at: now,
                reported_at: now,
                first: None,
                last: Lsn::INVALID,
            }),
        }
    }

    async fn run(mut self, mut stream: WalStream, backoff: &mut Backoff) -> Result<(), DbError> {
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                biased;
                batch = stream.next() => {
                    let (changes, applied) = self.decode(batch?)?;
                    self.ingest.hub.send(HubInput::Changes { changes, applied }).await.ok();
                    if let Some(end) = applied {
                        self.advance_catch_up(end, backoff).await;
                    }
                }
                _ = tick.tick() => {}
            }
            stream.confirm_applied(Lsn(self.ingest.applied.load(Ordering::Acquire)));
        }
    }

    /// Decodes and routes what arrived together. Returns the changes and the end up to which all is told.
    fn decode(&mut self, batch: Vec<WalFrame>) -> Result<(Vec<HubChange>, Option<Lsn>), DecodeError> {
        let mut changes = Vec::new();
        let mut applied = None;
        for frame in batch {
            match frame {
                WalFrame::Keepalive { end } if !self.decoder.in_transaction() => applied = Some(end),
                WalFrame::Keepalive { .. } => {}
                WalFrame::Data(bytes) => match self.decoder.decode(bytes)? {
                    Decoded::Change(change) => {
                        self.ingest.shared.metrics.changes.inc();
                        let transaction = change.transaction;
                        let commit_lsn = transaction.commit_lsn;
                        let position = Position { timeline: self.timeline, commit_lsn, change: change.index };
                        self.report_misfits(&change.kind);
                        let routed = self.router.route(&change);
                        let id = position.id(self.tag).to_string();
                        for event in &routed.events {
                            trace!(target: "campfire_relay::route", %id, event = %event.event, topic = %event.topic, "routed");
                        }
                        let meta = meta(&id, transaction.committed_at);
                        let committed_at = transaction.committed_at;
                        changes.push(HubChange { position, committed_at, meta, routed });
                    }
                    Decoded::Commit { end_lsn, .. } => {
                        self.ingest.shared.metrics.transactions.inc();
                        applied = Some(end_lsn);
                    }
                    Decoded::Begin(_) | Decoded::NonTransactionalMessage { .. } | Decoded::Nothing => {}
                },
            }
        }
        Ok((changes, applied))
    }

    fn report_misfits(&mut self, kind: &ChangeKind) {
        use ChangeKind::{Delete, Insert, Update};
        let (Insert { relation, .. } | Update { relation, .. } | Delete { relation, .. }) = kind else {
            return;
        };
        for (route, problem) in self.router.new_misfits(relation) {
            warn!(route, problem, "route does not fit its table and is left out");
        }
    }

    async fn advance_catch_up(&mut self, end: Lsn, backoff: &mut Backoff) {
        let Some(catch_up) = &mut self.catch_up else { return };
        catch_up.last = end;
        let first = *catch_up.first.get_or_insert(end);
        let elapsed = catch_up.started_at.elapsed();
        if end >= catch_up.fence {
            info!(lsn = %end, elapsed_ms = elapsed.as_millis() as u64, "caught up with Postgres");
            self.catch_up = None;
            // Not at the attach: a row that ends every connection at the same place must not be retried at full speed.
            backoff.reset();
            self.ingest.hub.send(HubInput::CaughtUp).await.ok();
        } else if catch_up.reported_at.elapsed() >= CATCH_UP_REPORT {
            catch_up.reported_at = Instant::now();
            let remaining_bytes = catch_up.fence.bytes_since(end);
            let bytes_per_second = end.bytes_since(first) as f64 / elapsed.as_secs_f64();
            let eta_seconds = (remaining_bytes as f64 / bytes_per_second.max(1.0)).ceil() as u64;
            info!(lsn = %end, fence = %catch_up.fence, remaining_bytes, eta_seconds, "catching up with Postgres");
        }
    }
}

/// The `meta` of an event, as JSON text.
fn meta(id: &str, committed_at: Timestamp) -> Arc<[u8]> {
    format!(r#"{{"id":"{id}","committed_at":"{}"}}"#, committed_at.to_rfc3339()).into_bytes().into()
}
