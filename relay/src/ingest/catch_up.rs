//! What remains to be read before clients are let in: everything that had been flushed when the relay attached. Otherwise
//! rows from before a restart would look live.

use std::time::{Duration, Instant};

use tracing::info;

use crate::postgres::Lsn;

/// How often progress is logged.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

pub(super) struct CatchUp {
    fence: Lsn,
    started_at: Instant,
    reported_at: Instant,
    /// Where the stream was when it first told.
    first: Option<Lsn>,
}

impl CatchUp {
    pub(super) fn new(fence: Lsn) -> Self {
        let now = Instant::now();
        Self { fence, started_at: now, reported_at: now, first: None }
    }

    /// Whether the stream, which has come to this end, has passed the fence. Logs that, and how far it is now and then.
    pub(super) fn is_over(&mut self, end: Lsn) -> bool {
        let first = *self.first.get_or_insert(end);
        let elapsed = self.started_at.elapsed();
        if end >= self.fence {
            info!(lsn = %end, elapsed_ms = elapsed.as_millis() as u64, "caught up with Postgres");
            return true;
        }
        if self.reported_at.elapsed() >= REPORT_INTERVAL {
            self.reported_at = Instant::now();
            let remaining_bytes = self.fence.bytes_since(end);
            let bytes_per_second = end.bytes_since(first) as f64 / elapsed.as_secs_f64();
            let eta_seconds = (remaining_bytes as f64 / bytes_per_second.max(1.0)).ceil() as u64;
            info!(lsn = %end, fence = %self.fence, remaining_bytes, eta_seconds, "catching up with Postgres");
        }
        false
    }
}
