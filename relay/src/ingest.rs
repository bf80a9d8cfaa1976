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

impl Ingest {
    /// Runs until stopped, or until an error that only a person can mend.
    pub async fn run(mut self) -> Result<(), DbError> {
        let mut backoff = Backoff::default();
        let mut attached_before = false;
        let stop = self.stop.clone();
        while let Some(outcome) =
            stop.run_until_cancelled(self.session(&mut attached_before, &mut backoff)).await
        {
            let Err(cause) = outcome else { continue };
            self.hub.send(HubInput::Detached).await.ok();
            match &cause {
                DbError::Wal(WalError::SlotActive { .. }) if self.config.standby == Standby::Exit => {
                    return Err(cause);
                }
                DbError::Wal(WalError::SlotLost { .. })
                    if self.config.on_lost_slot == OnLostSlot::Recreate =>
                {
                    self.replace_lost_slot().await?;
                }
                // What worked once may work again: a password rotates, a publication is made anew.
                _ if !cause.is_retryable() && !attached_before => return Err(cause),
                _ => {}
            }
            let delay = backoff.next_delay();
            warn!(error = %cause, retry_in_ms = delay.as_millis() as u64, "not attached to the slot");
            if stop.run_until_cancelled(tokio::time::sleep(delay)).await.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// Attaches and streams until the connection ends, which it always does with an error.
    async fn session(&mut self, attached_before: &mut bool, backoff: &mut Backoff) -> Result<(), DbError> {
        let mut sql = db::connect(&self.wal.database).await?;
        db::check_publications(&sql, &self.wal.publications).await?;
        let (attachment, stream) = wal::attach(&self.wal, &sql).await?;
        // After START_REPLICATION, so that no change can fall between what is loaded and what is streamed.
        let control = db::load_control(&mut sql).await?;
        db::send_fence(&sql).await?;
        *self.shared.claim_paths.write().unwrap_or_else(PoisonError::into_inner) = control.claim_paths;
        info!(
            slot = %self.wal.slot_name,
            slot_created = attachment.slot_created,
            timeline = attachment.timeline,
            lsn = %attachment.confirmed_flush_lsn,
            routes = control.routes.len(),
            "attached to the slot"
        );
        if std::mem::replace(attached_before, true) {
            self.shared.metrics.slot_reconnects.inc();
            if attachment.slot_created {
                self.announce_loss("the replication slot had to be made anew").await;
            }
        }
        let attached = HubInput::Attached { agents: control.agents };
        self.hub.send(attached).await.ok();
        backoff.reset();
        let router = Router::new(control.routes, control.schemas);
        Streaming::new(self, &attachment, router).run(stream).await
    }

    async fn replace_lost_slot(&self) -> Result<(), DbError> {
        let sql = db::connect(&self.wal.database).await?;
        wal::drop_slot(&sql, &self.wal.slot_name).await?;
        self.announce_loss("the replication slot was invalidated").await;
        Ok(())
    }

    /// Tells everybody that events are missing which cannot be had any more.
    async fn announce_loss(&self, cause: &'static str) {
        error!(slot = %self.wal.slot_name, cause, "events were lost");
        self.shared.metrics.slot_losses.inc();
        self.hub.send(HubInput::Loss { cause }).await.ok();
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

    async fn run(mut self, mut stream: WalStream) -> Result<(), DbError> {
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                biased;
                batch = stream.next() => {
                    let (changes, applied) = self.decode(batch?)?;
                    self.ingest.hub.send(HubInput::Changes { changes, applied }).await.ok();
                    if let Some(end) = applied {
                        self.advance_catch_up(end).await;
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
                        changes.push(HubChange { position, meta, routed });
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

    async fn advance_catch_up(&mut self, end: Lsn) {
        let Some(catch_up) = &mut self.catch_up else { return };
        catch_up.last = end;
        let first = *catch_up.first.get_or_insert(end);
        let elapsed = catch_up.started_at.elapsed();
        if end >= catch_up.fence {
            info!(lsn = %end, elapsed_ms = elapsed.as_millis() as u64, "caught up with Postgres");
            self.catch_up = None;
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
