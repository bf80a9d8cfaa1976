//! What is refused or cut off at the edge: counted each time, logged now and then. What strangers cause is never more
//! than `info`: an alarm that anybody can ring is none.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{Extensions, HeaderMap};
use tracing::info;

use super::peer;
use super::seldom::Seldom;
use super::{ProxySettings, Shared};
use crate::admission::Origin;

/// At most one line for each reason in this time.
const INTERVAL: Duration = Duration::from_secs(10);

/// Gates of log lines, one for each kind and reason. Both are words of the program, so that there are few.
#[derive(Default)]
pub(crate) struct Refusals {
    gates: Mutex<HashMap<(&'static str, &'static str), Seldom>>,
}

impl Refusals {
    fn admit(&self, kind: &'static str, reason: &'static str) -> Option<u64> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        gates.entry((kind, reason)).or_insert_with(|| Seldom::every(INTERVAL)).admit(Instant::now())
    }
}

impl Shared {
    /// Whom a request is counted with.
    pub(crate) fn origin(&self, extensions: &Extensions, headers: &HeaderMap) -> Origin {
        let ProxySettings { trusted_proxies, forwarded_header } = self.proxies;
        let (origin, doubt) = peer::origin(extensions, headers, trusted_proxies, forwarded_header);
        if let Some(doubt) = doubt
            && let Some(others) = self.refusals.admit("origin", "untold")
        {
            info!(
                %doubt, others, counted_as = %origin,
                "the proxies do not say where a request comes from; all such requests count as one address"
            );
        }
        origin
    }

    /// Counts a refused handshake, and logs it.
    pub(super) fn note_refused_handshake(&self, reason: &'static str, text: &str, origin: Origin) {
        self.metrics.handshakes_refused.count(reason);
        if let Some(others) = self.refusals.admit("handshake", reason) {
            // A token's own words may stand in it.
            let text: String = text.chars().take(100).collect();
            info!(reason, others, %origin, text, "handshake refused");
        }
    }

    /// Counts a refused request to broadcast, and logs it.
    pub(super) fn note_refused_request(&self, reason: &'static str) {
        self.metrics.requests_refused.count(reason);
        if let Some(others) = self.refusals.admit("request", reason) {
            info!(reason, others, "request to broadcast refused");
        }
    }

    /// Logs a connection that was closed because its client kept the relay waiting.
    pub(super) fn note_closed(&self, reason: &'static str) {
        if let Some(others) = self.refusals.admit("connection", reason) {
            let why = if reason == "evicted" { "others need its place" } else { "its client took too long" };
            info!(reason, others, "closed a connection that is not a WebSocket: {why}");
        }
    }
}
