//! One connection's stream: decodes what Postgres sends, opens signed messages, routes changes to events, and hands
//! them to the hub.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tracing::{debug, info, trace, warn};

use super::Ingest;
use super::history::{History, KnownRoutes};
use super::keyring::Keyring;
use super::routing::{Routing, Turn};
use crate::decode::{ChangeKind, Decoded, Decoder, Transaction};
use crate::fanout::{HubChange, HubInput};
use crate::metrics::Reason;
use crate::postgres::Lsn;
use crate::protocol::Meta;
use crate::route::{
    ControlChange, DatabaseTag, Misaddress, Position, Refused, Routed, Router, SignedMessage,
};
use crate::sql::{self, DbError};
use crate::wal::{Attachment, WalFrame, WalStream};

/// How often feedback is considered and catching up is reported.
const TICK: Duration = Duration::from_secs(1);
const CATCH_UP_REPORT: Duration = Duration::from_secs(5);

/// One connection's stream.
pub(super) struct Streaming<'a> {
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
    pub(super) progress: Lsn,
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
    pub(super) fn new(
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

    pub(super) async fn run(&mut self, mut stream: WalStream, history: &mut History) -> Result<(), DbError> {
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
                        self.ingest.metrics.changes.inc();
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
                        let message =
                            routed.events.iter().find_map(|event| event.message.map(|message| message.id));
                        let meta = Meta::of_event(&id, transaction.committed_at, message);
                        let committed_at = transaction.committed_at;
                        let xid = transaction.xid;
                        changes.push(HubChange { position, xid, committed_at, meta, routed });
                    }
                    Decoded::Commit { end_lsn, .. } => {
                        self.ingest.metrics.transactions.inc();
                        self.transactions.fetch_add(1, Ordering::Relaxed);
                        applied = Some(end_lsn);
                    }
                    Decoded::Relation(relation) if self.router.lacks_types(&relation) => {
                        // Made after we attached. Looked up rather than left for the next attach: else the same
                        // value would be a string now and a number when it is read again.
                        let sql = sql::connect(&self.ingest.wal.database).await?;
                        self.router.learn_types(sql::domains(&sql).await?, &relation);
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
                self.ingest.metrics.messages_refused.get_or_create(&Reason { reason }).inc();
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
            self.ingest.metrics.slot_stopped.set(0);
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
