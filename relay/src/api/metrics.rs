//! Figures of the API.

use crate::metrics::{ByReason, Registry, Seconds};

/// What the API counts.
#[derive(Clone, Debug, Default)]
pub struct ApiMetrics {
    pub requests: ByReason,
    pub seconds: Seconds,
}

impl ApiMetrics {
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let Self { requests, seconds } = &metrics;
        requests.register(
            registry,
            "api_requests",
            "Requests to the API answered, by reason: ok, or the code of the error",
        );
        registry.register("api_seconds", "From a request to the API to its answer", seconds.0.clone());
        metrics
    }
}
