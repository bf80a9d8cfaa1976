//! Log lines that strangers can cause: one now and then, which says how many were left out.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A gate in front of one kind of log line.
#[derive(Debug)]
pub(crate) struct Seldom {
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    written_at: Option<Instant>,
    left_out: u64,
}

impl Seldom {
    /// At most one line in this time.
    pub(crate) const fn every(interval: Duration) -> Self {
        Self { interval, state: Mutex::new(State { written_at: None, left_out: 0 }) }
    }

    /// The number of lines left out since the last, if one may be written now.
    pub(crate) fn admit(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.written_at.is_some_and(|written_at| now.duration_since(written_at) < self.interval) {
            state.left_out += 1;
            return None;
        }
        state.written_at = Some(now);
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_now_and_then_counts_the_others() {
        let seldom = Seldom::every(Duration::from_secs(10));
        let start = Instant::now();
        let admit = |second: u64| seldom.admit(start + Duration::from_secs(second));
        assert_eq!(admit(0), Some(0));
        assert_eq!((admit(1), admit(9)), (None, None));
        assert_eq!(admit(10), Some(2));
        assert_eq!(admit(30), Some(0));
    }
}
