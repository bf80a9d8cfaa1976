//! What Prometheus reads at `/metrics`. Names and labels stand here and nowhere else.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Handles to count with; cheap to clone, safe to share.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    pub connections: Gauge,
    pub connections_closed: Family<Reason, Counter>,
    pub accept_failures: Counter,
    pub handshakes_refused: Family<Reason, Counter>,
    pub requests_refused: Family<Reason, Counter>,
    pub sockets: Gauge,
    pub sockets_opened: Counter,
    pub sockets_closed: Family<Reason, Counter>,
    pub channels: Gauge,
    pub topics: Gauge,
    pub tasks: Gauge,
    pub joins_refused: Family<Reason, Counter>,
    pub transactions: Counter,
    pub changes: Counter,
    pub changes_skipped: Counter,
    pub events: Counter,
    pub events_collided: Counter,
    pub events_unaddressed: Counter,
    pub events_unheard: Counter,
    pub deliveries: Counter,
    pub messages_refused: Family<Reason, Counter>,
    pub client_messages: Counter,
    pub client_messages_dropped: Family<Reason, Counter>,
    pub policy_askers: Gauge,
    pub policy_questions: Counter,
    pub policy_failures: Counter,
    pub presences: Gauge,
    pub presence_bytes: Gauge,
    pub presence_differences: Counter,
    pub replays: Family<Completeness, Counter>,
    pub replayed_events: Counter,
    pub channels_lagged: Counter,
    pub replays_overtaken: Counter,
    pub replays_waiting: Gauge,
    pub unread_bytes: Gauge,
    pub unfinished_bytes: Gauge,
    pub snapshots: Counter,
    pub snapshots_refused: Family<Reason, Counter>,
    pub snapshot_seconds: Seconds,
    pub snapshot_bytes: Gauge,
    pub window_bytes: Gauge,
    pub window_events: Gauge,
    pub ready: Gauge,
    pub problems: Gauge,
    pub slot_reconnects: Counter,
    pub slot_losses: Counter,
    pub slot_retained_bytes: Gauge<u64, AtomicU64>,
    pub slot_stopped: Gauge,
    pub applied_lsn: Gauge<u64, AtomicU64>,
}

/// Why something was closed, dropped or refused: a word of a fixed vocabulary.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reason {
    pub reason: &'static str,
}

/// Whether a replay had everything that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Completeness {
    pub complete: bool,
}

/// A histogram of short waits, in seconds.
#[derive(Clone, Debug)]
pub struct Seconds(pub Histogram);

impl Default for Seconds {
    fn default() -> Self {
        Self(Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0]))
    }
}

impl Metrics {
    /// The text that Prometheus scrapes (OpenMetrics 1.0).
    pub fn render(&self) -> String {
        let mut registry = Registry::with_prefix("campfire");
        let mut text = String::new();
        registry.register(
            "connections",
            "Connections open now that are no WebSocket, or not yet",
            self.connections.clone(),
        );
        registry.register(
            "connections_closed",
            "Connections closed before they were a WebSocket, because the relay waited too long or had no room",
            self.connections_closed.clone(),
        );
        registry.register(
            "accept_failures",
            "Times a connection could not be accepted, as for want of file descriptors",
            self.accept_failures.clone(),
        );
        registry.register(
            "handshakes_refused",
            "WebSocket handshakes refused, by reason",
            self.handshakes_refused.clone(),
        );
        registry.register(
            "requests_refused",
            "Requests to broadcast over HTTP refused, by reason",
            self.requests_refused.clone(),
        );
        registry.register("sockets", "WebSockets open now", self.sockets.clone());
        registry.register("sockets_opened", "WebSockets opened", self.sockets_opened.clone());
        registry.register(
            "sockets_closed",
            "WebSockets closed, by who or what ended them",
            self.sockets_closed.clone(),
        );
        registry.register("channels", "Channels joined now", self.channels.clone());
        registry.register("topics", "Topics with at least one channel now", self.topics.clone());
        registry.register("tasks", "Asynchronous tasks alive now", self.tasks.clone());
        registry.register("joins_refused", "Joins refused, by reason", self.joins_refused.clone());
        registry.register(
            "transactions",
            "Committed transactions read from the slot",
            self.transactions.clone(),
        );
        registry.register("changes", "Changes read from the slot", self.changes.clone());
        registry.register(
            "changes_skipped",
            "Changes read again after a reconnect, and skipped",
            self.changes_skipped.clone(),
        );
        registry.register("events", "Events routed from changes to topics", self.events.clone());
        registry.register(
            "events_collided",
            "Events not sent because another route had sent one for the same change to the same channel",
            self.events_collided.clone(),
        );
        registry.register(
            "events_unaddressed",
            "Events not sent because their channel name could not be built",
            self.events_unaddressed.clone(),
        );
        registry.register(
            "events_unheard",
            "Events for public channels outside org:, which nobody can join while they are denied",
            self.events_unheard.clone(),
        );
        registry.register(
            "messages_refused",
            "Logical messages under a name of campfire's that were not believed, by reason",
            self.messages_refused.clone(),
        );
        registry.register("deliveries", "Broadcast frames queued for sockets", self.deliveries.clone());
        registry.register(
            "client_messages",
            "Broadcasts accepted from clients",
            self.client_messages.clone(),
        );
        registry.register(
            "client_messages_dropped",
            "Messages of clients dropped, by reason",
            self.client_messages_dropped.clone(),
        );
        registry.register(
            "policy_askers",
            "Joins and requests that wait for an answer of policies now",
            self.policy_askers.clone(),
        );
        registry.register(
            "policy_questions",
            "Times the database's policies were asked about a private channel",
            self.policy_questions.clone(),
        );
        registry.register(
            "policy_failures",
            "Questions to the policies that ended in an error of the database; the log has its SQLSTATE",
            self.policy_failures.clone(),
        );
        registry.register("presences", "Channels that are present in a room now", self.presences.clone());
        registry.register("presence_bytes", "Memory taken by what is tracked", self.presence_bytes.clone());
        registry.register(
            "presence_differences",
            "Times a room was told who came and went",
            self.presence_differences.clone(),
        );
        registry.register(
            "replays",
            "Joins that asked for a replay, by whether all was there",
            self.replays.clone(),
        );
        registry.register(
            "replayed_events",
            "Events sent again out of the window",
            self.replayed_events.clone(),
        );
        registry.register(
            "channels_lagged",
            "Times a live channel went on from the window because its socket had no room",
            self.channels_lagged.clone(),
        );
        registry.register(
            "replays_overtaken",
            "Times the window had lost what a channel was still to be sent, and the client was told",
            self.replays_overtaken.clone(),
        );
        registry.register(
            "replays_waiting",
            "Sockets now to which the window's events are not sent, because unread frames take all the memory they may",
            self.replays_waiting.clone(),
        );
        registry.register(
            "unread_bytes",
            "Memory taken by frames that sockets have yet to read, each counted once",
            self.unread_bytes.clone(),
        );
        registry.register(
            "unfinished_bytes",
            "Memory taken by messages of clients that are not whole, or wait for the hub",
            self.unfinished_bytes.clone(),
        );
        registry.register("snapshots", "Joins that got a snapshot", self.snapshots.clone());
        registry.register(
            "snapshots_refused",
            "Joins that asked for a snapshot and got none, by reason",
            self.snapshots_refused.clone(),
        );
        registry.register(
            "snapshot_seconds",
            "From a join to the rows of its snapshot",
            self.snapshot_seconds.0.clone(),
        );
        registry.register(
            "snapshot_bytes",
            "Memory taken by rows of snapshots that sockets have yet to read",
            self.snapshot_bytes.clone(),
        );
        registry.register("window_bytes", "Memory taken by the replay window", self.window_bytes.clone());
        registry.register("window_events", "Events in the replay window", self.window_events.clone());
        registry.register("ready", "1 while caught up with Postgres", self.ready.clone());
        registry.register(
            "problems",
            "What campfire.check_publication() finds wrong; not 0: /readyz says degraded",
            self.problems.clone(),
        );
        registry.register(
            "slot_reconnects",
            "Connections to the slot after the first",
            self.slot_reconnects.clone(),
        );
        registry.register(
            "slot_losses",
            "Times the slot was lost, and events with it",
            self.slot_losses.clone(),
        );
        registry.register(
            "slot_retained_bytes",
            "WAL that Postgres keeps for the slot",
            self.slot_retained_bytes.clone(),
        );
        registry.register(
            "slot_stopped",
            "1 while the stream fails at the same place each time",
            self.slot_stopped.clone(),
        );
        registry.register(
            "applied_lsn",
            "End of the last transaction delivered, as a WAL position in bytes",
            self.applied_lsn.clone(),
        );
        encode(&mut text, &registry).expect("writing to a String cannot fail");
        text
    }

    /// Counts a connection that the relay ends.
    pub fn close_connection(&self, reason: &'static str) {
        self.connections_closed.get_or_create(&Reason { reason }).inc();
    }

    /// Counts a join that is refused.
    pub fn refuse_join(&self, reason: &'static str) {
        self.joins_refused.get_or_create(&Reason { reason }).inc();
    }

    /// Counts a dropped message of a client.
    pub fn drop_message(&self, reason: &'static str) {
        self.client_messages_dropped.get_or_create(&Reason { reason }).inc();
    }
}
