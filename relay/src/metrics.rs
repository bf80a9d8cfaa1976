//! What Prometheus reads at `/metrics`: the forms of figures, and the registry that all parts of the relay fill at the
//! start, each with its own.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
pub use prometheus_client::registry::Registry;

/// A registry that nobody has filled.
pub fn registry() -> Registry {
    Registry::with_prefix("campfire")
}

/// The text that Prometheus scrapes (OpenMetrics 1.0).
pub fn render(registry: &Registry) -> String {
    let mut text = String::new();
    encode(&mut text, registry).expect("writing to a String cannot fail");
    text
}

/// A counter for each reason: a word of a fixed vocabulary.
#[derive(Clone, Debug, Default)]
pub struct ByReason(Family<Reason, Counter>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

impl ByReason {
    /// Counts one more.
    pub fn count(&self, reason: &'static str) {
        self.of(reason).inc();
    }

    /// How many there were.
    pub fn get(&self, reason: &'static str) -> u64 {
        self.of(reason).get()
    }

    fn of(&self, reason: &'static str) -> Counter {
        self.0.get_or_create(&Reason { reason }).clone()
    }

    /// Registers it under this name.
    pub fn register(&self, registry: &mut Registry, name: &str, help: &str) {
        registry.register(name, help, self.0.clone());
    }
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
