//! Figures of the slot, and of what is read from it.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use crate::metrics::{ByReason, Registry};

/// What ingest counts.
#[derive(Clone, Debug, Default)]
pub struct IngestMetrics {
    pub transactions: Counter,
    pub changes: Counter,
    pub messages_refused: ByReason,
    pub problems: Gauge,
    pub slot_reconnects: Counter,
    pub slot_losses: Counter,
    pub slot_retained_bytes: Gauge<u64, AtomicU64>,
    pub slot_stopped: Gauge,
}

impl IngestMetrics {
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        // By name, so that none is forgotten.
        let Self {
            transactions,
            changes,
            messages_refused,
            problems,
            slot_reconnects,
            slot_losses,
            slot_retained_bytes,
            slot_stopped,
        } = &metrics;
        registry.register("transactions", "Committed transactions read from the slot", transactions.clone());
        registry.register("changes", "Changes read from the slot", changes.clone());
        messages_refused.register(
            registry,
            "messages_refused",
            "Logical messages under a name of campfire's that were not believed, by reason",
        );
        registry.register(
            "problems",
            "What campfire.check_publication() finds wrong; not 0: /readyz says degraded",
            problems.clone(),
        );
        registry.register(
            "slot_reconnects",
            "Connections to the slot after the first",
            slot_reconnects.clone(),
        );
        registry.register("slot_losses", "Times the slot was lost, and events with it", slot_losses.clone());
        registry.register(
            "slot_retained_bytes",
            "WAL that Postgres keeps for the slot",
            slot_retained_bytes.clone(),
        );
        registry.register(
            "slot_stopped",
            "1 while the stream fails at the same place each time",
            slot_stopped.clone(),
        );
        metrics
    }
}
