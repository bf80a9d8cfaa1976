//! Rates of many callers, of whom only those that owe something are remembered.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Instant;

use super::rate_limit::RateLimit;

/// Callers that are remembered before those are forgotten who owe nothing any more.
const KEPT: usize = 10_000;

/// A rate for each caller.
pub(super) struct Buckets<Caller> {
    limits: HashMap<Caller, RateLimit>,
    /// How many there must be before they are looked through again: so often, that this costs each newcomer little.
    look_at: usize,
}

impl<Caller> Default for Buckets<Caller> {
    fn default() -> Self {
        Self { limits: HashMap::new(), look_at: KEPT }
    }
}

impl<Caller: Hash + Eq> Buckets<Caller> {
    /// A caller that is known.
    pub(super) fn get(&self, caller: &Caller) -> Option<&RateLimit> {
        self.limits.get(caller)
    }

    /// A caller's rate; `fresh` if it owes nothing.
    pub(super) fn entry(
        &mut self,
        caller: Caller,
        fresh: impl FnOnce() -> RateLimit,
        now: Instant,
    ) -> &mut RateLimit {
        if self.limits.len() >= self.look_at {
            self.limits.retain(|_, limit| !limit.is_full(now));
            self.look_at = KEPT.max(2 * self.limits.len());
        }
        self.limits.entry(caller).or_insert_with(fresh)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_owes_nothing_is_forgotten() {
        let start = Instant::now();
        let mut buckets = Buckets::default();
        let take = |buckets: &mut Buckets<usize>, caller, now| {
            buckets.entry(caller, || RateLimit::new(1, 1, now), now).admit(now)
        };
        let count = 2 * KEPT;
        assert!((0..count).all(|caller| take(&mut buckets, caller, start)));
        assert!(!take(&mut buckets, 1, start) && buckets.limits.len() == count);
        // All are looked at once for as many that are new.
        assert!(buckets.look_at >= count);
        let later = start + Duration::from_secs(1);
        assert!((count..4 * count).all(|caller| take(&mut buckets, caller, later)));
        assert!(buckets.get(&1).is_none() && buckets.limits.len() == 3 * count);
    }
}
