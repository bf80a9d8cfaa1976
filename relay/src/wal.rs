//! Stage 1: the write-ahead log. Slot, stream and standby status (what we may confirm).
//!
//! Knows nothing of what the bytes mean: it hands out pgoutput messages and takes back the LSN up to which they were
//! applied. The one hazard: confirming too much loses data for ever, so `feedback` alone decides what is confirmed.

mod attach;
mod backoff;
mod error;
mod feedback;
mod health;
mod holder;
mod publication;
mod registry;
mod settings;
mod slot;
mod stream;
mod timeline;

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::postgres::{Conninfo, Excerpt, Lsn};

pub use attach::attach;
pub use backoff::Backoff;
pub use error::{Blocker, WalError};
pub use health::{Health, health, send_heartbeat, warn_of_missing_bounds};
pub use holder::HolderWatch;
pub use registry::publication_gone;
pub use settings::{OnLostSlot, WalSettings};
pub use slot::drop_slot;
pub use stream::{Batch, WalFrame, WalStream};

/// Time that a status update to Postgres may take to come round; the server's own limit is wal_sender_timeout.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);

/// Where the stream comes from, and how it is kept.
#[derive(Debug, Clone)]
pub struct WalConfig {
    pub settings: WalSettings,
    pub database: Conninfo,
    pub publications: Vec<String>,
    /// How long what was applied stays unconfirmed, so that the server would send it again. Zero: not at all.
    pub window: Duration,
    /// Status updates come at least this often; the server's `wal_sender_timeout` may shorten it.
    pub status_interval: Duration,
    /// Of a long message, what need not be read whole.
    pub excerpt: Excerpt,
    /// Ends the making of a slot, so that the server does not finish it alone.
    pub stop: CancellationToken,
}

impl WalConfig {
    /// `window`: how long what was applied stays unconfirmed. `excerpt`: of a long message, what need not be read whole.
    pub fn new(
        settings: WalSettings,
        database: Conninfo,
        window: Duration,
        excerpt: Excerpt,
        stop: CancellationToken,
    ) -> Self {
        let publication = &settings.publication;
        let publications = vec![publication.clone(), format!("{publication}_control")];
        Self { settings, database, publications, window, status_interval: STATUS_INTERVAL, excerpt, stop }
    }
}

/// What `attach` found.
#[derive(Debug, Clone)]
pub struct Attachment {
    pub system_identifier: u64,
    pub timeline: u32,
    pub database_oid: u32,
    /// Where the stream starts: transactions that committed before it do not come.
    pub confirmed_flush_lsn: Lsn,
    pub slot_created: bool,
    /// There had been one of that name, which somebody dropped: what it held is lost.
    pub slot_replaced: bool,
    /// Earlier timelines, and the LSN at which each was left. What was read beyond it does not exist any more.
    pub timeline_history: Vec<(u32, Lsn)>,
    pub server_version_num: u32,
}

impl Attachment {
    /// The timeline that a commit belongs to: the one on which it was written, not the one on which it is read, so
    /// that it has the same id before a fail-over and after.
    pub fn timeline_at(&self, commit_lsn: Lsn) -> u32 {
        let earlier = self.timeline_history.iter().find(|(_, left_at)| commit_lsn < *left_at);
        earlier.map_or(self.timeline, |(timeline, _)| *timeline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_keep_their_timeline() {
        let attachment = Attachment {
            system_identifier: 1,
            timeline: 5,
            database_oid: 1,
            confirmed_flush_lsn: Lsn(0),
            slot_created: false,
            slot_replaced: false,
            timeline_history: vec![(1, Lsn(100)), (3, Lsn(200))],
            server_version_num: 170_000,
        };
        let timelines = [0, 99, 100, 199, 200, 1000].map(|lsn| attachment.timeline_at(Lsn(lsn)));
        assert_eq!(timelines, [1, 1, 3, 3, 5, 5]);
    }
}
