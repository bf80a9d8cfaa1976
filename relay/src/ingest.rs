//! Joins the stages that turn WAL into events: attaches to the slot, decodes, routes, and feeds the hub; comes back
//! after whatever ends the connection.
//!
//! Confirms to Postgres only what the hub has applied, and that only once it is older than the replay window.

mod history;
mod inspection;
mod keeper;
mod keyring;
mod routing;

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, trace, warn};

use self::history::{History, KnownRoutes};
use self::keeper::Keeper;
use self::keyring::Keyring;
use self::routing::{Routing, Turn};
use crate::config::{Config, OnLostSlot, PublicChannels, Standby};
use crate::db::{self, DbError};
use crate::decode::{ChangeKind, Decoded, Decoder, Transaction};
use crate::fanout::{HubChange, HubInput};
use crate::http::Shared;
use crate::metrics::Reason;
use crate::postgres::{self, Lsn, Timestamp};
use crate::route::{
    ControlChange, DatabaseTag, Misaddress, Position, RealtimeMessage, Refused, Routed, Router, SignedMessage,
};
use crate::wal::{self, Attachment, WalConfig, WalError, WalFrame, WalStream};

/// How often feedback is considered and catching up is reported.
const TICK: Duration = Duration::from_secs(1);
const CATCH_UP_REPORT: Duration = Duration::from_secs(5);

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
    pub config: Arc<Config>,
    pub wal: WalConfig,
    pub hub: mpsc::Sender<HubInput>,
    /// End LSN of what the hub has applied.
    pub applied: Arc<watch::Sender<Lsn>>,
    pub shared: Arc<Shared>,
    pub stop: CancellationToken,
}

impl Ingest {
    /// Runs until stopped, or until an error that only a person can mend.
    pub async fn run(self) -> Result<(), DbError> {
        let mut history = History::default();
        loop {
            // Not dropped when it is time to stop: it may be making a slot, and knows how to end that.
            let outcome = self.session(&mut history).await;
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
    async fn recover(&self, cause: DbError, history: &mut History) -> Result<Duration, DbError> {
        match &cause {
            DbError::Wal(WalError::SlotActive { pid, .. }) if self.config.standby == Standby::Wait => {
                if !std::mem::replace(&mut history.standing_by, true) {
                    self.shared.standing_by.store(true, Ordering::Relaxed);
                    info!(pid, "another relay reads the slot; waiting to take over");
                }
                self.watch_holder(history).await;
                return Ok(STANDBY_POLL);
            }
            DbError::Wal(WalError::SlotActive { .. }) => return Err(cause),
            DbError::Wal(WalError::SlotLost { .. } | WalError::SlotTooLarge { .. }) => {
                if self.config.on_lost_slot == OnLostSlot::Stop {
                    return Err(cause);
                }
                match self.drop_lost_slot().await {
                    Ok(()) => history.slot_lost = true,
                    Err(error) => warn!(%error, "the lost slot could not be dropped"),
                }
            }
            DbError::Wal(WalError::SlotDropped { .. }) => return Err(cause),
            DbError::NothingPublished => {
                if !std::mem::replace(&mut history.nothing_published, true) {
                    warn!("{cause}; waiting for it");
                }
                return Ok(NOTHING_PUBLISHED_POLL);
            }
            DbError::AgentsToRead { schema } => {
                info!(schema, "agents of this installation are read anew");
                return Ok(Duration::ZERO);
            }
            // What worked once may work again: a password rotates, a publication is made anew.
            _ if !cause.is_retryable() && !history.attached_before => return Err(cause),
            _ => {}
        }
        if history.is_stopped(self.config.stop_after_failures) {
            return Ok(STOPPED_RETRY);
        }
        let delay = history.backoff.next_delay();
        warn!(error = %cause, retry_in_ms = delay.as_millis() as u64, "not attached to the slot");
        Ok(delay)
    }

    async fn drop_lost_slot(&self) -> Result<(), DbError> {
        let sql = db::connect(&self.wal.database).await?;
        Ok(wal::drop_slot(&sql, &self.wal.slot_name).await?)
    }

    /// A start that fails leaves no slot behind: it would hold back WAL that nobody reads.
    async fn take_back_slot(&self, history: &History) {
        if !history.slot_is_new {
            return;
        }
        match self.drop_lost_slot().await {
            Ok(()) => info!("the slot is taken back, because the start failed"),
            Err(error) => warn!(%error, "the slot is left behind, although the start failed"),
        }
    }

    /// Ends the walsender of a relay that only hangs; the next attempt then finds the slot free.
    async fn watch_holder(&self, history: &mut History) {
        let limit = Duration::from_secs(self.config.takeover_seconds);
        let look_every = (limit / 4).min(HOLDER_LOOK_MAX);
        if limit.is_zero() || history.looked_at.is_some_and(|looked_at| looked_at.elapsed() < look_every) {
            return;
        }
        history.looked_at = Some(Instant::now());
        let watch = async {
            let sql = db::connect(&self.wal.database).await?;
            history.holder.take_over(&sql, &self.wal.slot_name, limit).await.map_err(DbError::from)
        };
        if let Err(error) = watch.await {
            warn!(%error, "cannot tell whether the relay on the slot is alive");
        }
    }

    /// Attaches and streams until the connection ends, which it always does with an error.
    async fn session(&self, history: &mut History) -> Result<(), DbError> {
        let mut sql = db::connect(&self.wal.database).await?;
        db::check_role(&sql).await?;
        db::check_publications(&sql, &self.wal.publications).await?;
        let control_publication = self.wal.publications.last().map_or("", String::as_str);
        if !history.attached_before {
            wal::warn_of_missing_bounds(&sql).await?;
            // What cannot be read is said before there is a slot.
            let control = db::load_control(&mut sql, control_publication).await?;
            debug!(routes = control.routes.len(), "everything can be read");
            db::message_keys(&sql, 0).await?;
        }
        let (attachment, stream) = wal::attach(&self.wal, &sql).await?;
        let public_channels = self.config.public_channels == PublicChannels::Allow;
        db::tell_public_channels(&sql, &self.wal.slot_name, public_channels).await?;
        history.slot_is_new |= attachment.slot_created && !history.attached_before;
        // After START_REPLICATION, so that no change can fall between what is loaded and what is streamed.
        let load = async {
            let what = "the tables of agents and routes, which somebody may have locked";
            let loaded = db::load_control(&mut sql, control_publication);
            let control = postgres::answered(&self.wal.database, what, loaded).await?;
            // Behind all that was loaded: who is let in before the stream has passed it would get what committed in
            // between by routes that were loaded and were not in force yet.
            let fence =
                postgres::answered(&self.wal.database, "a message into the WAL", wal::send_heartbeat(&sql))
                    .await?;
            let keys = db::message_keys(&sql, attachment.database_oid);
            Ok::<_, DbError>((
                control,
                fence,
                postgres::answered(&self.wal.database, "the keys of broadcasts", keys).await?,
            ))
        };
        let Some(loaded) = self.stop.run_until_cancelled(load).await else { return Ok(()) };
        let (control, fence, keys) = loaded?;
        let schemas = control.schemas();
        let next_xid = control.snapshot.xmax();
        let keys = Keyring::new(&self.wal.database, attachment.database_oid, keys, next_xid);
        *self.shared.claim_paths.write().unwrap_or_else(PoisonError::into_inner) = control.claim_paths;
        info!(
            slot_created = attachment.slot_created,
            timeline = attachment.timeline,
            lsn = %attachment.confirmed_flush_lsn,
            %fence,
            routes = control.routes.len(),
            "attached to the slot"
        );
        history.standing_by = false;
        self.shared.standing_by.store(false, Ordering::Relaxed);
        history.nothing_published = false;
        history.inspection.load(control.installations);
        let arrival = history.arrive(&attachment);
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
                    "a new slot is read; clients that come back from before it are told that events are missing. If the \
                     old one was dropped on purpose, nothing is wrong"
                );
            }
            self.shared.metrics.slot_losses.inc();
        }
        if std::mem::replace(&mut history.attached_before, true) {
            self.shared.metrics.slot_reconnects.inc();
        }
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
        // Where the hub has got to, routes are as they were then; what follows tells how they changed.
        let (KnownRoutes { routes, schemas }, routing) = match history.routes.clone() {
            Some(known) => (known, Routing::known(history.handed())),
            None => (KnownRoutes { routes: control.routes, schemas }, Routing::loaded(control.snapshot)),
        };
        let router = Router::new(routes, schemas, control.domains);
        let transactions = AtomicU64::new(0);
        let mut streaming = Streaming::new(self, &attachment, fence, router, routing, keys, &transactions);
        let mut inspection = std::mem::take(&mut history.inspection);
        let outcome = tokio::select! {
            biased;
            () = self.stop.cancelled() => Ok(()),
            error = Keeper::new(self, &transactions, sql, &mut inspection).run() => Err(error),
            outcome = streaming.run(stream, history) => outcome,
        };
        history.inspection = inspection;
        if let Err(error) = &outcome {
            let at = streaming.progress;
            let failures = history.fail(error, at);
            if failures == self.config.stop_after_failures {
                self.shared.metrics.slot_stopped.set(1);
                error!(
                    %error, lsn = %at, failures, retry_in_seconds = STOPPED_RETRY.as_secs(),
                    "stopped: the stream ends behind this position each time, and nothing is ever skipped unasked; \
                     leave out the column by a column list and make the slot anew, or advance the slot past it by \
                     pg_replication_slot_advance, which is announced as a loss (docs/postgres.md)"
                );
            }
        }
        outcome
    }
}

/// One connection's stream.
struct Streaming<'a> {
    ingest: &'a Ingest,
    decoder: Decoder,
    router: Router,
    keys: Keyring<'a>,
    tag: DatabaseTag,
    attachment: &'a Attachment,
    catch_up: Option<CatchUp>,
    routing: Routing,
    transactions: &'a AtomicU64,
    handed: Handed,
    /// The end of what came whole.
    progress: Lsn,
    /// Tables of which a row named no channel.
    unaddressed: HashSet<String>,
}

/// The ends of what the hub was given on this connection and has not reported as applied. What it reports besides is
/// left over from an earlier connection, perhaps to another history, and must not be confirmed to this one.
#[derive(Debug, Default)]
struct Handed(VecDeque<Lsn>);

impl Handed {
    fn push(&mut self, end: Lsn) {
        self.0.push_back(end);
    }

    fn confirmable(&mut self, reported: Lsn) -> Option<Lsn> {
        let index = self.0.iter().position(|end| *end == reported)?;
        self.0.drain(..=index);
        Some(reported)
    }
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
    fn new(
        ingest: &'a Ingest,
        attachment: &'a Attachment,
        fence: Lsn,
        router: Router,
        routing: Routing,
        keys: Keyring<'a>,
        transactions: &'a AtomicU64,
    ) -> Self {
        let now = Instant::now();
        Self {
            ingest,
            decoder: Decoder::new(),
            router,
            keys,
            tag: DatabaseTag::new(attachment.system_identifier, attachment.database_oid),
            attachment,
            catch_up: Some(CatchUp {
                fence,
                started_at: now,
                reported_at: now,
                first: None,
                last: Lsn::INVALID,
            }),
            routing,
            transactions,
            handed: Handed::default(),
            progress: attachment.confirmed_flush_lsn,
            unaddressed: HashSet::new(),
        }
    }

    async fn run(&mut self, mut stream: WalStream, history: &mut History) -> Result<(), DbError> {
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                biased;
                batch = stream.next() => {
                    let (changes, applied) = self.decode(batch?).await?;
                    self.ingest.hub.send(HubInput::Changes { changes, applied }).await.ok();
                    if let Some(end) = applied {
                        self.progress = end;
                        self.handed.push(end);
                        history.hand(end);
                        self.advance_catch_up(end, history).await;
                    }
                    self.note_routes(history);
                }
                _ = tick.tick() => {}
            }
            let reported = *self.ingest.applied.borrow();
            if let Some(end) = self.handed.confirmable(reported) {
                stream.confirm_applied(end);
            }
        }
    }

    /// Remembers routes for the next connection. Not before the hub was given what they routed: what was not handed on
    /// is read again, by the routes from before.
    fn note_routes(&mut self, history: &mut History) {
        if self.routing.is_sure() && (history.routes.is_none() || self.routing.take_changed()) {
            let (routes, schemas) = self.router.routes();
            history.routes = Some(KnownRoutes { routes: routes.to_vec(), schemas: schemas.to_vec() });
        }
    }

    /// Decodes and routes what arrived together. Returns the changes and the end up to which all is told.
    async fn decode(&mut self, batch: Vec<WalFrame>) -> Result<(Vec<HubChange>, Option<Lsn>), DbError> {
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
                        let timeline = self.attachment.timeline_at(commit_lsn);
                        let position = Position { timeline, commit_lsn, change: change.index };
                        self.report_misfits(&change.kind);
                        let routed = match &change.kind {
                            ChangeKind::Message { prefix, content } => {
                                self.open(&transaction, prefix, content).await?
                            }
                            _ => self.router.route(&change),
                        };
                        self.report_misaddress(&change.kind, routed.misaddress.as_ref());
                        let id = position.id(self.tag).to_string();
                        for event in &routed.events {
                            trace!(target: "campfire_relay::route", %id, event = %event.event, topic = %event.topic, "routed");
                        }
                        let message = routed.events.iter().find_map(|event| event.message);
                        let meta = meta(&id, transaction.committed_at, message);
                        let committed_at = transaction.committed_at;
                        let xid = transaction.xid;
                        changes.push(HubChange { position, xid, committed_at, meta, routed });
                    }
                    Decoded::Commit { end_lsn, .. } => {
                        self.ingest.shared.metrics.transactions.inc();
                        self.transactions.fetch_add(1, Ordering::Relaxed);
                        applied = Some(end_lsn);
                    }
                    Decoded::Relation(relation) if self.router.lacks_types(&relation) => {
                        // Made after we attached. Looked up rather than left for the next attach: else the same
                        // value would be a string now and a number when it is read again.
                        let sql = db::connect(&self.ingest.wal.database).await?;
                        self.router.learn_types(db::domains(&sql).await?, &relation);
                    }
                    Decoded::Relation(_) => {}
                    Decoded::Begin(_) | Decoded::NonTransactionalMessage { .. } | Decoded::Nothing => {}
                },
            }
        }
        Ok((changes, applied))
    }

    /// What a logical message leads to: a broadcast of SQL, other routes from here on, or nothing.
    async fn open(
        &mut self,
        transaction: &Transaction,
        prefix: &[u8],
        content: &[u8],
    ) -> Result<Routed, DbError> {
        let Transaction { xid, commit_lsn, .. } = *transaction;
        let opened = self.keys.open(transaction, prefix, content).await?;
        match opened {
            Ok(Some(SignedMessage::Broadcast(event))) => {
                return Ok(Routed { events: vec![event], ..Routed::default() });
            }
            Ok(Some(SignedMessage::Routes { routes, schemas })) => match self.routing.meet(xid, commit_lsn) {
                Turn::Known => {}
                Turn::Loaded => {
                    let control = vec![ControlChange::RoutedAnewUntilHere];
                    return Ok(Routed { control, ..Routed::default() });
                }
                Turn::New => {
                    info!(routes = routes.len(), "routes changed");
                    self.router.set_routes(routes, schemas);
                }
            },
            Ok(Some(SignedMessage::Keys) | None) => {}
            Err(refused) => {
                let reason = match refused {
                    Refused::UnknownKey(_) => "unknown_key",
                    Refused::Forged => "forged",
                    Refused::Malformed => "malformed",
                };
                self.ingest.shared.metrics.messages_refused.get_or_create(&Reason { reason }).inc();
                debug!(%xid, %refused, "a logical message is not believed");
            }
        }
        Ok(Routed::default())
    }

    fn report_misfits(&mut self, kind: &ChangeKind) {
        use ChangeKind::{Delete, Insert, Update};
        let (Insert { relation, .. } | Update { relation, .. } | Delete { relation, .. }) = kind else {
            return;
        };
        for (route, problem) in self.router.new_misfits(relation) {
            warn!(route, problem, "route does not fit its table");
        }
    }

    /// Says once a table that rows of it name no channel.
    fn report_misaddress(&mut self, kind: &ChangeKind, misaddress: Option<&Misaddress>) {
        use ChangeKind::{Delete, Insert, Update};
        let (Insert { relation, .. } | Update { relation, .. } | Delete { relation, .. }) = kind else {
            return;
        };
        let Some(Misaddress { route, problem }) = misaddress else { return };
        let table = format!("{}.{}", relation.namespace, relation.name);
        if !self.unaddressed.contains(&table) {
            warn!(
                table,
                route, problem, "a row names no channel; further ones of this table are only counted"
            );
            self.unaddressed.insert(table);
        }
    }

    async fn advance_catch_up(&mut self, end: Lsn, history: &mut History) {
        let Some(catch_up) = &mut self.catch_up else { return };
        catch_up.last = end;
        let first = *catch_up.first.get_or_insert(end);
        let elapsed = catch_up.started_at.elapsed();
        if end >= catch_up.fence {
            info!(lsn = %end, elapsed_ms = elapsed.as_millis() as u64, "caught up with Postgres");
            self.catch_up = None;
            self.routing.catch_up();
            // Not at the attach: a row that ends every connection at the same place must not be retried at full speed.
            history.backoff.reset();
            history.pass();
            self.ingest.shared.metrics.slot_stopped.set(0);
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

/// The `meta` of an event, as JSON text. Applications know a row of `realtime.messages` by its own id; the position
/// stands beside it.
fn meta(position: &str, committed_at: Timestamp, message: Option<RealtimeMessage>) -> Arc<[u8]> {
    let committed_at = committed_at.to_rfc3339();
    let json = match message {
        None => format!(r#"{{"id":"{position}","committed_at":"{committed_at}"}}"#),
        Some(RealtimeMessage { id, .. }) => {
            format!(r#"{{"id":"{id}","position":"{position}","committed_at":"{committed_at}"}}"#)
        }
    };
    json.into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_handed_on_over_this_connection_is_confirmed() {
        let mut handed = Handed::default();
        assert_eq!(handed.confirmable(Lsn(900)), None, "a report from before");
        [100, 200, 300].into_iter().for_each(|end| handed.push(Lsn(end)));
        assert_eq!(handed.confirmable(Lsn(900)), None);
        assert_eq!(handed.confirmable(Lsn(200)), Some(Lsn(200)));
        assert_eq!(handed.confirmable(Lsn(100)), None);
        assert_eq!(handed.confirmable(Lsn(300)), Some(Lsn(300)));
    }
}
