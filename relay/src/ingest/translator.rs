//! Turns what Postgres sends into what the hub applies: decodes, opens signed messages, and routes changes to events by
//! the routes that are in force at each point of the stream.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::{debug, info, trace, warn};

use super::catalog::Catalog;
use super::history::KnownRoutes;
use super::keyring::Keyring;
use super::metrics::IngestMetrics;
use super::routing::{Routing, Turn};
use crate::decode::{Change, ChangeKind, Decoded, Decoder, Transaction};
use crate::fanout::HubChange;
use crate::postgres::Lsn;
use crate::protocol::Meta;
use crate::route::{
    ControlChange, DatabaseTag, Misaddress, Position, Refused, Routed, Router, SignedMessage,
};
use crate::sql::SqlError;
use crate::wal::{Attachment, WalFrame};

pub(super) struct Translator<'a> {
    metrics: &'a IngestMetrics,
    pub(super) attachment: &'a Attachment,
    decoder: Decoder,
    router: Router,
    routing: Routing,
    keys: Keyring<'a>,
    catalog: Catalog<'a>,
    /// Commits that have come.
    transactions: &'a AtomicU64,
    /// Tables of which a row named no channel.
    unaddressed: HashSet<String>,
}

impl<'a> Translator<'a> {
    pub(super) fn new(
        metrics: &'a IngestMetrics,
        attachment: &'a Attachment,
        router: Router,
        routing: Routing,
        keys: Keyring<'a>,
        catalog: Catalog<'a>,
        transactions: &'a AtomicU64,
    ) -> Self {
        let (decoder, unaddressed) = (Decoder::new(), HashSet::new());
        Self { metrics, attachment, decoder, router, routing, keys, catalog, transactions, unaddressed }
    }

    /// Translates what arrived together. Returns the changes, and the end up to which all is told.
    pub(super) async fn translate(
        &mut self,
        batch: Vec<WalFrame>,
    ) -> Result<(Vec<HubChange>, Option<Lsn>), SqlError> {
        let mut changes = Vec::new();
        let mut told = None;
        for frame in batch {
            let bytes = match frame {
                WalFrame::Data(bytes) => bytes,
                WalFrame::Keepalive { end } => {
                    if !self.decoder.in_transaction() {
                        told = Some(end);
                    }
                    continue;
                }
            };
            match self.decoder.decode(bytes)? {
                Decoded::Change(change) => changes.push(self.change(&change).await?),
                Decoded::Commit { end_lsn, .. } => {
                    self.metrics.transactions.inc();
                    self.transactions.fetch_add(1, Ordering::Relaxed);
                    told = Some(end_lsn);
                }
                // Made after we attached. Looked up rather than left for the next attach: else the same value would be
                // a string now and a number when it is read again.
                Decoded::Relation(relation) if self.router.lacks_types(&relation) => {
                    self.router.learn_types(self.catalog.domains().await?, &relation);
                }
                Decoded::Relation(_)
                | Decoded::Begin(_)
                | Decoded::NonTransactionalMessage { .. }
                | Decoded::Nothing => {}
            }
        }
        Ok((changes, told))
    }

    /// The routes that are in force where the stream is, if they have changed since they were last asked for or
    /// nobody knows them.
    pub(super) fn new_routes(&mut self, are_known: bool) -> Option<KnownRoutes> {
        (self.routing.is_sure() && (!are_known || self.routing.take_changed())).then(|| {
            let (routes, schemas) = self.router.routes();
            KnownRoutes { routes: routes.to_vec(), schemas: schemas.to_vec() }
        })
    }

    /// The stream has passed all that was loaded.
    pub(super) fn catch_up(&mut self) {
        self.routing.catch_up();
    }

    async fn change(&mut self, change: &Change) -> Result<HubChange, SqlError> {
        self.metrics.changes.inc();
        let Transaction { xid, commit_lsn, committed_at, .. } = change.transaction;
        let timeline = self.attachment.timeline_at(commit_lsn);
        let position = Position { timeline, commit_lsn, change: change.index };
        self.report_misfits(&change.kind);
        let routed = match &change.kind {
            ChangeKind::Message { prefix, content } => {
                self.open(&change.transaction, prefix, content).await?
            }
            _ => self.router.route(change),
        };
        self.report_misaddress(&change.kind, routed.misaddress.as_ref());
        let &Attachment { system_identifier, database_oid, .. } = self.attachment;
        let id = position.id(DatabaseTag::new(system_identifier, database_oid)).to_string();
        for event in &routed.events {
            trace!(target: "campfire_relay::route", %id, event = %event.event, topic = %event.topic, "routed");
        }
        let message = routed.events.iter().find_map(|event| event.message.map(|message| message.id));
        let meta = Meta::of_event(&id, committed_at, message);
        Ok(HubChange { position, xid, committed_at, meta, routed })
    }

    /// What a logical message leads to: a broadcast of SQL, other routes from here on, or nothing.
    async fn open(
        &mut self,
        transaction: &Transaction,
        prefix: &[u8],
        content: &[u8],
    ) -> Result<Routed, SqlError> {
        let Transaction { xid, commit_lsn, .. } = *transaction;
        let opened = self.keys.open(transaction, prefix, content).await?;
        match opened {
            // SQL refuses it too, unless the route was made in between.
            Ok(Some(SignedMessage::Broadcast(event)))
                if self.router.channels().reserves(&event.topic, &event.event) =>
            {
                self.metrics.messages_refused.count("reserved");
                debug!(%xid, topic = %event.topic, event = %event.event, "SQL sends what is a route's to send");
            }
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
                    let control = vec![ControlChange::Rerouted(Arc::clone(self.router.channels()))];
                    return Ok(Routed { control, ..Routed::default() });
                }
            },
            Ok(Some(SignedMessage::Keys) | None) => {}
            Err(refused) => {
                let reason = match refused {
                    Refused::UnknownKey(_) => "unknown_key",
                    Refused::Forged => "forged",
                    Refused::Malformed => "malformed",
                };
                self.metrics.messages_refused.count(reason);
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
                route, problem, "a row names no channel; further such rows of this table are only counted"
            );
            self.unaddressed.insert(table);
        }
    }
}
