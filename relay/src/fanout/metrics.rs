//! Figures of the hub.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::metrics::{ByReason, Completeness, Registry};

/// What the hub counts.
#[derive(Clone, Debug, Default)]
pub struct HubMetrics {
    pub channels: Gauge,
    pub topics: Gauge,
    pub joins_refused: ByReason,
    pub changes_skipped: Counter,
    pub events: Counter,
    pub events_collided: Counter,
    pub events_unaddressed: Counter,
    pub events_unheard: Counter,
    pub deliveries: Counter,
    pub client_messages: Counter,
    pub client_messages_dropped: ByReason,
    pub presences: Gauge,
    pub presence_bytes: Gauge,
    pub presence_differences: Counter,
    pub replays: Family<Completeness, Counter>,
    pub replayed_events: Counter,
    pub channels_lagged: Counter,
    pub replays_overtaken: Counter,
    pub replays_waiting: Gauge,
    pub snapshots: Counter,
    pub snapshots_refused: ByReason,
    pub snapshot_bytes: Gauge,
    pub window_bytes: Gauge,
    pub window_events: Gauge,
    pub ready: Gauge,
    pub applied_lsn: Gauge<u64, AtomicU64>,
}

impl HubMetrics {
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        // By name, so that none is forgotten.
        let Self {
            channels,
            topics,
            joins_refused,
            changes_skipped,
            events,
            events_collided,
            events_unaddressed,
            events_unheard,
            deliveries,
            client_messages,
            client_messages_dropped,
            presences,
            presence_bytes,
            presence_differences,
            replays,
            replayed_events,
            channels_lagged,
            replays_overtaken,
            replays_waiting,
            snapshots,
            snapshots_refused,
            snapshot_bytes,
            window_bytes,
            window_events,
            ready,
            applied_lsn,
        } = &metrics;
        registry.register("channels", "Channels joined now", channels.clone());
        registry.register("topics", "Topics with at least one channel now", topics.clone());
        joins_refused.register(registry, "joins_refused", "Joins refused, by reason");
        registry.register(
            "changes_skipped",
            "Changes read again after a reconnect, and skipped",
            changes_skipped.clone(),
        );
        registry.register("events", "Events routed from changes to topics", events.clone());
        registry.register(
            "events_collided",
            "Events not sent because another route had sent one for the same change to the same channel",
            events_collided.clone(),
        );
        registry.register(
            "events_unaddressed",
            "Events not sent because their channel name could not be built",
            events_unaddressed.clone(),
        );
        registry.register(
            "events_unheard",
            "Events for public channels outside org:, which nobody can join while they are denied",
            events_unheard.clone(),
        );
        registry.register("deliveries", "Broadcast frames queued for sockets", deliveries.clone());
        registry.register("client_messages", "Broadcasts accepted from clients", client_messages.clone());
        client_messages_dropped.register(
            registry,
            "client_messages_dropped",
            "Messages of clients dropped, by reason",
        );
        registry.register("presences", "Channels that are present in a room now", presences.clone());
        registry.register("presence_bytes", "Memory taken by what is tracked", presence_bytes.clone());
        registry.register(
            "presence_differences",
            "Times a room was told who came and went",
            presence_differences.clone(),
        );
        registry.register(
            "replays",
            "Joins that asked for a replay, by whether all was there",
            replays.clone(),
        );
        registry.register("replayed_events", "Events sent again out of the window", replayed_events.clone());
        registry.register(
            "channels_lagged",
            "Times a live channel went on from the window because its socket had no room",
            channels_lagged.clone(),
        );
        registry.register(
            "replays_overtaken",
            "Times the window had lost what a channel was still to be sent, and the client was told",
            replays_overtaken.clone(),
        );
        registry.register("replays_waiting", "Sockets now to which the window's events are not sent, because unread frames take all the memory they may", replays_waiting.clone());
        registry.register("snapshots", "Joins that got a snapshot", snapshots.clone());
        snapshots_refused.register(
            registry,
            "snapshots_refused",
            "Joins that asked for a snapshot and got none, by reason",
        );
        registry.register(
            "snapshot_bytes",
            "Memory taken by rows of snapshots that sockets have yet to read",
            snapshot_bytes.clone(),
        );
        registry.register("window_bytes", "Memory taken by the replay window", window_bytes.clone());
        registry.register("window_events", "Events in the replay window", window_events.clone());
        registry.register("ready", "1 while caught up with Postgres", ready.clone());
        registry.register(
            "applied_lsn",
            "End of the last transaction delivered, as a WAL position in bytes",
            applied_lsn.clone(),
        );
        metrics
    }
}
