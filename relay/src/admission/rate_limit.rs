//! How fast one socket may send.

use std::time::{Duration, Instant};

/// A token bucket: `burst` messages at once, refilled at `per_second`.
#[derive(Debug)]
pub(crate) struct RateLimit {
    interval: Duration,
    tolerance: Duration,
    /// When the bucket will be full again (the generic cell rate algorithm keeps just this one moment).
    full_at: Instant,
}

impl RateLimit {
    /// A rate of zero admits everything.
    pub(crate) fn new(per_second: u32, burst: u32, now: Instant) -> Self {
        let interval = Duration::from_secs(1).checked_div(per_second).unwrap_or_default();
        Self { interval, tolerance: interval * burst.max(1), full_at: now }
    }

    /// Takes one message's worth, if there is.
    pub(crate) fn admit(&mut self, now: Instant) -> bool {
        self.admit_many(1, now)
    }

    /// Takes the worth of several messages, or nothing.
    pub(crate) fn admit_many(&mut self, messages: u32, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + self.interval * messages;
        let admitted = full_at <= now + self.tolerance;
        if admitted {
            self.full_at = full_at;
        }
        admitted
    }

    /// Takes one message's worth that there is not yet, and tells when there will be.
    pub(crate) fn reserve(&mut self, now: Instant) -> Instant {
        self.full_at = self.full_at.max(now) + self.interval;
        // Not before the clock's beginning, which a machine that was just started is near.
        self.full_at.checked_sub(self.tolerance).unwrap_or(now)
    }

    /// Messages that would be admitted at this moment.
    pub(crate) fn remaining(&self, now: Instant) -> u32 {
        let owed = self.full_at.saturating_duration_since(now);
        let left = self.tolerance.saturating_sub(owed).as_nanos();
        left.checked_div(self.interval.as_nanos())
            .map_or(u32::MAX, |left| u32::try_from(left).unwrap_or(u32::MAX))
    }

    /// Whether nothing is owed, so that a new limit would be the same.
    pub(crate) fn is_full(&self, now: Instant) -> bool {
        self.full_at <= now
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
    fn several_are_admitted_together_or_not_at_all() {
        let now = Instant::now();
        let mut limit = RateLimit::new(10, 5, now);
        assert!(limit.is_full(now) && !limit.admit_many(6, now));
        assert_eq!(limit.remaining(now), 5);
        assert!(limit.admit_many(3, now) && !limit.admit_many(3, now));
        assert_eq!((limit.remaining(now), limit.is_full(now)), (2, false));
        assert!(limit.is_full(now + Duration::from_millis(300)));
    }

    #[test]
    fn what_may_wait_is_told_until_when() {
        let start = Instant::now();
        let mut limit = RateLimit::new(10, 2, start);
        assert!(limit.admit(start) && limit.admit(start) && !limit.admit(start));
        let due = limit.reserve(start);
        assert_eq!(due, start + Duration::from_millis(100));
        assert!(!limit.admit(due) && limit.admit(due + Duration::from_millis(100)));
    }

    #[test]
    fn a_rate_of_zero_is_no_limit() {
        let start = Instant::now();
        let mut limit = RateLimit::new(0, 1, start);
        assert!((0..10_000).all(|_| limit.admit(start)));
    }
}
