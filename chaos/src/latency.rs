//! How long honest clients wait while somebody else attacks, and how long they waited just before.
//!
//! Deliveries count by the time of their commit, so that one that an attack delays beyond its own end still counts.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::journal::now;

/// What is going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Calm,
    Attack,
}

/// One kind of waiting, by phase.
pub struct Latency {
    /// Microseconds since 1970 at which the calm begins, the attack begins, and the attack ends; the end of time until known.
    bounds: [AtomicI64; 3],
    waits: Mutex<[Vec<u64>; 2]>,
}

impl Default for Latency {
    fn default() -> Self {
        Self { bounds: [const { AtomicI64::new(i64::MAX) }; 3], waits: Mutex::default() }
    }
}

impl Latency {
    /// From now on it is calm (0), attacked (1), over (2).
    pub fn begin(&self, bound: usize) {
        self.bounds[bound].store(now(), Ordering::Relaxed);
    }

    fn phase(&self, at: i64) -> Option<Phase> {
        let [calm, attack, end] = [0, 1, 2].map(|bound| self.bounds[bound].load(Ordering::Relaxed));
        match at {
            _ if at < calm || at >= end => None,
            _ if at < attack => Some(Phase::Calm),
            _ => Some(Phase::Attack),
        }
    }

    /// Somebody waited since a time.
    pub fn note(&self, since: i64) {
        let Some(phase) = self.phase(since) else { return };
        let waited = u64::try_from(now() - since).unwrap_or_default();
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)[phase as usize].push(waited);
    }

    pub fn spread(&self, phase: Phase) -> Spread {
        Spread::of(self.waits.lock().unwrap_or_else(PoisonError::into_inner)[phase as usize].clone())
    }
}

/// Many waits in three numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    pub count: usize,
    pub half: Duration,
    pub p99: Duration,
    pub most: Duration,
}

impl Spread {
    fn of(mut micros: Vec<u64>) -> Self {
        micros.sort_unstable();
        let at = |share: usize| {
            let index = (micros.len() * share / 100).min(micros.len().saturating_sub(1));
            Duration::from_micros(micros.get(index).copied().unwrap_or_default())
        };
        Self { count: micros.len(), half: at(50), p99: at(99), most: at(100) }
    }

    pub fn to_json(self) -> Value {
        let ms = |time: Duration| (time.as_secs_f64() * 100_000.0).round() / 100.0;
        json!({"count": self.count, "p50_ms": ms(self.half), "p99_ms": ms(self.p99), "most_ms": ms(self.most)})
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} / {:.1}", self.half.as_secs_f64() * 1e3, self.p99.as_secs_f64() * 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_counts_by_when_it_began() {
        let latency = Latency::default();
        latency.note(now());
        latency.begin(0);
        let in_the_calm = now();
        latency.note(in_the_calm);
        std::thread::sleep(Duration::from_millis(2));
        latency.begin(1);
        // Begun in the calm, and long.
        latency.note(in_the_calm);
        let attacked = now();
        std::thread::sleep(Duration::from_millis(2));
        latency.begin(2);
        latency.note(attacked);
        latency.note(now());
        let (calm, attack) = (latency.spread(Phase::Calm), latency.spread(Phase::Attack));
        assert_eq!((calm.count, attack.count), (2, 1));
        assert!(calm.most >= Duration::from_millis(2) && attack.most >= Duration::from_millis(2));
    }

    #[test]
    fn percentiles_are_of_the_sorted_waits() {
        let spread = Spread::of((1..=200).rev().collect());
        assert_eq!(
            (spread.half, spread.p99, spread.most),
            (Duration::from_micros(101), Duration::from_micros(199), Duration::from_micros(200))
        );
        assert_eq!(Spread::of(Vec::new()), Spread::default());
    }
}
