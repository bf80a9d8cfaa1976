//! What the server is told: the standby status update, and when the slot may move. Pure; `stream` owns the clock.
//!
//! Every update carries write = what was received and flush = 0, which leaves the slot alone. To move the slot, one
//! update carries flush = X and the next one 0 again at once. A flush that stayed would make a fast shutdown of
//! Postgres wait until it equals the end of the WAL, which behind a window is never; with flush = 0 the shutdown looks
//! at write.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{BufMut, BytesMut};

use crate::postgres::Lsn;

/// Postgres counts microseconds from 2000-01-01.
const UNIX_SECONDS_AT_2000: u64 = 946_684_800;

/// Finds the newest LSN that was applied at least a window ago. Fed once a second, it holds an entry for each second
/// of the window in which something was applied.
#[derive(Debug)]
pub(super) struct Feedback {
    window: Duration,
    window_wal_bytes: u64,
    /// Samples of what was applied, both columns rising.
    ring: VecDeque<(Instant, Lsn)>,
    confirmed: Lsn,
}

impl Feedback {
    pub(super) fn new(window: Duration, window_wal_bytes: u64, confirmed_flush_lsn: Lsn) -> Feedback {
        Feedback { window, window_wal_bytes, ring: VecDeque::new(), confirmed: confirmed_flush_lsn }
    }

    /// What the slot stands at, as far as we moved it.
    pub(super) fn confirmed(&self) -> Lsn {
        self.confirmed
    }

    /// Takes what is received and applied at `now` and gives the LSN to confirm, if the slot is to move: what was
    /// applied a window ago, and more of it while too much WAL is held back.
    pub(super) fn sample(&mut self, now: Instant, received: Lsn, applied: Lsn) -> Option<Lsn> {
        let newest = self.ring.back().map_or(self.confirmed, |&(_, lsn)| lsn);
        if applied > newest {
            self.ring.push_back((now, applied));
        }
        let mut due = None;
        while let Some(&(sampled_at, lsn)) = self.ring.front()
            && (now.saturating_duration_since(sampled_at) >= self.window
                || received.bytes_since(due.unwrap_or(self.confirmed)) > self.window_wal_bytes)
        {
            due = Some(lsn);
            self.ring.pop_front();
        }
        self.confirmed = due.unwrap_or(self.confirmed);
        due
    }
}

/// A standby status update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Status {
    /// Everything received, a keepalive's end included: a shutdown waits for it.
    pub(super) write: Lsn,
    /// `Lsn::INVALID` except in the one update that moves the slot.
    pub(super) flush: Lsn,
    pub(super) reply_requested: bool,
}

impl Status {
    /// Appends the update as a CopyData frame.
    pub(super) fn encode(self, now: SystemTime, out: &mut BytesMut) {
        const LENGTH: u32 = 4 + 1 + 8 + 8 + 8 + 8 + 1;
        let since_2000 =
            now.duration_since(UNIX_EPOCH + Duration::from_secs(UNIX_SECONDS_AT_2000)).unwrap_or_default();
        out.put_u8(b'd');
        out.put_u32(LENGTH);
        out.put_u8(b'r');
        out.put_u64(self.write.0);
        out.put_u64(self.flush.0);
        // Apply: means something for physical standbys only.
        out.put_u64(0);
        out.put_i64(i64::try_from(since_2000.as_micros()).unwrap_or(i64::MAX));
        out.put_u8(u8::from(self.reply_requested));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `(second, applied)` and compares what is confirmed at each.
    fn check(window_seconds: u64, steps: &[(u64, u64, Option<u64>)]) {
        let start = Instant::now();
        let mut feedback = Feedback::new(Duration::from_secs(window_seconds), 1000, Lsn(100));
        for &(second, applied, expected) in steps {
            let now = start + Duration::from_secs(second);
            let due = feedback.sample(now, Lsn(applied.max(100)), Lsn(applied));
            assert_eq!(due, expected.map(Lsn), "at second {second}");
        }
    }

    #[test]
    fn confirms_only_what_was_applied_a_window_ago() {
        check(3, &[(0, 110, None), (1, 120, None), (2, 120, None), (3, 130, Some(110)), (4, 130, Some(120))]);
    }

    #[test]
    fn confirms_the_newest_of_several_that_are_due() {
        check(
            3,
            &[(0, 110, None), (1, 120, None), (9, 130, Some(120)), (12, 130, Some(130)), (20, 130, None)],
        );
    }

    #[test]
    fn a_window_of_zero_confirms_at_the_next_sample() {
        check(0, &[(0, 110, Some(110)), (1, 110, None), (2, 111, Some(111))]);
    }

    #[test]
    fn too_much_wal_cuts_the_window_short_and_by_no_more_than_it_must() {
        check(
            300,
            &[
                (0, 600, None),
                (1, 900, None),
                (2, 1100, None),
                (3, 1101, Some(600)),
                (4, 1700, Some(900)),
                (5, 9000, Some(9000)),
                (6, 9001, None),
            ],
        );
    }

    #[test]
    fn what_is_received_and_not_applied_counts_but_is_never_confirmed() {
        let start = Instant::now();
        let mut feedback = Feedback::new(Duration::from_secs(300), 1000, Lsn(100));
        assert_eq!(feedback.sample(start, Lsn(50_000), Lsn(100)), None);
        assert_eq!(feedback.sample(start, Lsn(60_000), Lsn(200)), Some(Lsn(200)));
        assert_eq!(feedback.confirmed(), Lsn(200));
    }

    #[test]
    fn never_goes_back_nor_repeats_itself() {
        check(0, &[(0, 0, None), (1, 100, None), (2, 99, None), (3, 101, Some(101)), (4, 50, None)]);
    }

    #[test]
    fn the_ring_holds_one_entry_a_second_at_most() {
        let start = Instant::now();
        let mut feedback = Feedback::new(Duration::from_secs(300), u64::MAX, Lsn(0));
        for second in 0..10_000 {
            feedback.sample(start + Duration::from_secs(second), Lsn(second), Lsn(second));
        }
        assert!(feedback.ring.len() <= 300, "{}", feedback.ring.len());
    }

    #[test]
    fn a_status_update_is_laid_out_as_the_manual_says() {
        let mut out = BytesMut::new();
        let now = UNIX_EPOCH + Duration::from_secs(UNIX_SECONDS_AT_2000) + Duration::from_micros(7);
        Status { write: Lsn(0x0102), flush: Lsn::INVALID, reply_requested: true }.encode(now, &mut out);
        let mut expected = vec![b'd', 0, 0, 0, 38, b'r'];
        expected.extend([0, 0, 0, 0, 0, 0, 1, 2]);
        expected.extend([0; 16]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 7, 1]);
        assert_eq!(out, expected);
    }
}
