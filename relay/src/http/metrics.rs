//! Figures of connections and requests before they are sockets.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use crate::metrics::{ByReason, Registry};

/// What the edge counts.
#[derive(Clone, Debug, Default)]
pub struct HttpMetrics {
    pub connections: Gauge,
    pub connections_closed: ByReason,
    pub accept_failures: Counter,
    pub handshakes_refused: ByReason,
    pub requests_refused: ByReason,
    pub tasks: Gauge,
}

impl HttpMetrics {
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        // By name, so that none is forgotten.
        let Self {
            connections,
            connections_closed,
            accept_failures,
            handshakes_refused,
            requests_refused,
            tasks,
        } = &metrics;
        registry.register(
            "connections",
            "Connections open now that are no WebSocket, or not yet",
            connections.clone(),
        );
        connections_closed.register(registry, "connections_closed", "Connections closed before they were a WebSocket, because the relay waited too long or had no room");
        registry.register(
            "accept_failures",
            "Times a connection could not be accepted, as for want of file descriptors",
            accept_failures.clone(),
        );
        handshakes_refused.register(
            registry,
            "handshakes_refused",
            "WebSocket handshakes refused, by reason",
        );
        requests_refused.register(
            registry,
            "requests_refused",
            "Requests to broadcast over HTTP refused, by reason",
        );
        registry.register("tasks", "Asynchronous tasks alive now", tasks.clone());
        metrics
    }
}
