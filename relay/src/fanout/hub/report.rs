//! Gauges and watches: copies of the hub's state for others. The hub never reads them.

use super::Hub;

impl Hub {
    /// Sets the gauges of state that any input may change.
    pub(super) fn report(&self) {
        self.metrics.topics.set(gauge(self.rooms.len()));
        self.metrics.snapshot_bytes.set(gauge(self.rows_memory.bytes()));
    }

    pub(super) fn set_ready(&mut self, is_ready: bool) {
        self.is_ready = is_ready;
        self.metrics.ready.set(is_ready.into());
        self.ready.send_replace(is_ready);
    }

    pub(super) fn measure_window(&self) {
        self.metrics.window_bytes.set(gauge(self.window.bytes()));
        self.metrics.window_events.set(gauge(self.window.event_count()));
    }

    pub(super) fn measure_presence(&self) {
        self.metrics.presences.set(gauge(self.roster.len()));
        self.metrics.presence_bytes.set(gauge(self.roster.bytes()));
    }

    pub(super) fn measure_starved(&self) {
        self.metrics.replays_waiting.set(gauge(self.starved.len()));
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
