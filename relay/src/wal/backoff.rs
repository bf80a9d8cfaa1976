//! How long to wait before the next attempt. Pure: the caller sleeps.

use std::time::Duration;

use rand::Rng;

/// Doubles from `first` to `max`, and then takes a random part of it ("full jitter"), so that relays that lost the
/// same server do not come back together.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    ceiling: Duration,
}

impl Backoff {
    pub fn new(first: Duration, max: Duration) -> Backoff {
        Backoff { first, max, ceiling: first }
    }

    /// The wait after one more failure.
    pub fn next_delay(&mut self) -> Duration {
        let delay = rand::rng().random_range(Duration::ZERO..=self.ceiling);
        self.ceiling = self.ceiling.saturating_mul(2).min(self.max);
        delay
    }

    /// After a success: the next failure starts anew.
    pub fn reset(&mut self) {
        self.ceiling = self.first;
    }
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff::new(Duration::from_millis(100), Duration::from_secs(10))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_its_maximum_with_full_jitter() {
        let mut backoff = Backoff::default();
        let mut ceiling = Duration::from_millis(100);
        for _ in 0..20 {
            assert_eq!(backoff.ceiling, ceiling);
            assert!(backoff.next_delay() <= ceiling);
            ceiling = (ceiling * 2).min(Duration::from_secs(10));
        }
        assert_eq!(backoff.ceiling, Duration::from_secs(10));
    }

    #[test]
    fn delays_differ() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(1));
        let first = backoff.next_delay();
        assert!((0..20).any(|_| backoff.next_delay() != first));
    }

    #[test]
    fn starts_anew_after_success() {
        let mut backoff = Backoff::default();
        backoff.next_delay();
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_millis(100));
    }
}
