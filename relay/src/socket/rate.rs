//! How fast one socket may send.

use std::time::{Duration, Instant};

/// A token bucket: `burst` messages at once, refilled at `per_second`.
#[derive(Debug)]
pub struct RateLimit {
    interval: Duration,
    tolerance: Duration,
    /// When the bucket will be full again (the generic cell rate algorithm keeps just this one moment).
    full_at: Instant,
}

impl RateLimit {
    /// A rate of zero admits everything.
    pub fn new(per_second: u32, burst: u32, now: Instant) -> Self {
        let interval = Duration::from_secs(1).checked_div(per_second).unwrap_or_default();
        Self { interval, tolerance: interval * burst.max(1), full_at: now }
    }

    /// Takes one message's worth, if there is.
    pub fn admit(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + self.interval;
        let admitted = full_at <= now + self.tolerance;
        if admitted {
            self.full_at = full_at;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_admitted_then_the_rate() {
        let start = Instant::now();
        let mut limit = RateLimit::new(10, 5, start);
        let admitted = |limit: &mut RateLimit, millis: u64| {
            let now = start + Duration::from_millis(millis);
            (0..100).take_while(|_| limit.admit(now)).count()
        };
        assert_eq!(admitted(&mut limit, 0), 5);
        assert_eq!(admitted(&mut limit, 99), 0);
        assert_eq!(admitted(&mut limit, 100), 1);
        assert_eq!(admitted(&mut limit, 400), 3);
        assert_eq!(admitted(&mut limit, 60_000), 5);
    }

    #[test]
    fn a_rate_of_zero_is_no_limit() {
        let start = Instant::now();
        let mut limit = RateLimit::new(0, 1, start);
        assert!((0..10_000).all(|_| limit.admit(start)));
    }
}
