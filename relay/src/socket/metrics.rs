//! Figures of all sockets.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use crate::metrics::{ByReason, Registry};

/// What sockets are, and what they take.
#[derive(Clone, Debug, Default)]
pub struct SocketMetrics {
    pub sockets: Gauge,
    pub sockets_opened: Counter,
    pub sockets_closed: ByReason,
    pub unread_bytes: Gauge,
    pub unfinished_bytes: Gauge,
}

impl SocketMetrics {
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        // By name, so that none is forgotten.
        let Self { sockets, sockets_opened, sockets_closed, unread_bytes, unfinished_bytes } = &metrics;
        registry.register("sockets", "WebSockets open now", sockets.clone());
        registry.register("sockets_opened", "WebSockets opened", sockets_opened.clone());
        sockets_closed.register(registry, "sockets_closed", "WebSockets closed, by who or what ended them");
        registry.register(
            "unread_bytes",
            "Memory taken by frames that sockets have yet to read, each counted once",
            unread_bytes.clone(),
        );
        registry.register(
            "unfinished_bytes",
            "Memory taken by messages of clients that are not whole, or wait for the hub",
            unfinished_bytes.clone(),
        );
        metrics
    }
}
