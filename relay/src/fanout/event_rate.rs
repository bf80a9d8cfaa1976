//! The reference's limit on events a second, for those who want it: counts what clients send and every copy of it,
//! and ends the channels of receivers while there is too much. Off unless set; rows of the database never count.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Counted together.
const BUCKET: Duration = Duration::from_secs(5);

/// Over so many of them the mean is taken.
const BUCKETS: usize = 12;

#[derive(Debug)]
pub(super) struct EventRate {
    /// 0: no limit.
    per_second_max: u32,
    buckets: VecDeque<(Instant, u64)>,
}

impl EventRate {
    pub(super) fn new(per_second_max: u32) -> Self {
        Self { per_second_max, buckets: VecDeque::new() }
    }

    pub(super) fn add(&mut self, events: u64, now: Instant) {
        if self.per_second_max == 0 {
            return;
        }
        match self.buckets.back_mut() {
            Some((since, count)) if now.duration_since(*since) < BUCKET => *count += events,
            _ => {
                self.buckets.push_back((now, events));
                if self.buckets.len() > BUCKETS {
                    self.buckets.pop_front();
                }
            }
        }
    }

    pub(super) fn is_over(&mut self, now: Instant) -> bool {
        let age_max = BUCKET * BUCKETS as u32;
        while self.buckets.front().is_some_and(|(since, _)| now.duration_since(*since) >= age_max) {
            self.buckets.pop_front();
        }
        let Some((since, _)) = self.buckets.front() else { return false };
        let seconds = now.duration_since(*since).max(BUCKET).as_secs_f64();
        let count: u64 = self.buckets.iter().map(|(_, count)| count).sum();
        self.per_second_max > 0 && count as f64 / seconds > f64::from(self.per_second_max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_of_a_minute_counts() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut rate = EventRate::new(10);
        rate.add(50, at(0));
        assert!(!rate.is_over(at(0)), "fifty in five seconds are ten a second");
        rate.add(1, at(1));
        assert!(rate.is_over(at(1)));
        assert!(!rate.is_over(at(6)));
        rate.add(500, at(30));
        assert!(rate.is_over(at(30)));
        assert!(rate.is_over(at(54)) && !rate.is_over(at(56)));
        assert!(!rate.is_over(at(120)));
        let mut off = EventRate::new(0);
        off.add(1_000_000, start);
        assert!(!off.is_over(start));
    }
}
