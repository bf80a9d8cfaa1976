//! Figures of the questions to policies.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use crate::metrics::Registry;

/// What asking policies takes.
#[derive(Clone, Debug, Default)]
pub struct PolicyMetrics {
    pub policy_askers: Gauge,
    pub policy_questions: Counter,
    pub policy_failures: Counter,
}

impl PolicyMetrics {
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        // By name, so that none is forgotten.
        let Self { policy_askers, policy_questions, policy_failures } = &metrics;
        registry.register(
            "policy_askers",
            "Joins and requests that wait for an answer of policies now",
            policy_askers.clone(),
        );
        registry.register(
            "policy_questions",
            "Times the database's policies were asked about a private channel",
            policy_questions.clone(),
        );
        registry.register(
            "policy_failures",
            "Questions to the policies that ended in an error of the database; the log has its SQLSTATE",
            policy_failures.clone(),
        );
        metrics
    }
}
