//! Figures of the hub's state.

use super::Hub;

impl Hub {
    pub(super) fn measure_window(&self) {
        self.metrics.window_bytes.set(i64::try_from(self.window.bytes()).unwrap_or(i64::MAX));
        self.metrics.window_events.set(i64::try_from(self.window.event_count()).unwrap_or(i64::MAX));
    }

    pub(super) fn measure_presence(&self) {
        self.metrics.presences.set(i64::try_from(self.roster.len()).unwrap_or(i64::MAX));
        self.metrics.presence_bytes.set(i64::try_from(self.roster.bytes()).unwrap_or(i64::MAX));
    }

    pub(super) fn measure_starved(&self) {
        self.metrics.replays_waiting.set(i64::try_from(self.starved.len()).unwrap_or(i64::MAX));
    }
}
