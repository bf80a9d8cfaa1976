//! What can go wrong with the slot and its stream, one variant per thing that somebody would do about it.

use std::fmt;
use std::time::Duration;

use crate::postgres::{PostgresError, ServerError};

#[derive(Debug, thiserror::Error)]
pub enum WalError {
    #[error(transparent)]
    Postgres(#[from] PostgresError),

    #[error("Postgres ended the stream, as it does when it shuts down")]
    StreamEnded,

    #[error("Postgres has sent nothing for {} s, although the relay asked it to reply", silence.as_secs())]
    Silent { silence: Duration },

    #[error(
        "slot \"{slot_name}\" is in use by another relay{}: stop that one, or take over when it goes with CAMPFIRE_STANDBY=wait",
        with_pid(*pid)
    )]
    SlotActive { slot_name: String, pid: Option<i32> },

    #[error(
        "making slot \"{slot_name}\" waited {} s for {blocker}; end that transaction, or wait for it",
        timeout.as_secs()
    )]
    CreateSlotTimeout { slot_name: String, timeout: Duration, blocker: Blocker },

    #[error("user \"{user}\" may not replicate; run: alter role \"{user}\" replication")]
    NotReplicationRole { user: String },

    #[error("wal_level is \"{wal_level}\"; set wal_level = logical in postgresql.conf and restart Postgres")]
    WalLevel { wal_level: String },

    #[error(
        "campfire is not installed in database \"{database}\"; run there: create extension campfire; select campfire.install();"
    )]
    ExtensionMissing { database: String },

    #[error(
        "publication \"{publication}\" does not exist in database \"{database}\"; run there: select campfire.create_publication('{}');",
        main_publication(publication)
    )]
    PublicationMissing { publication: String, database: String },

    /// Decoding looks publications up as they were at each point of the WAL; before it was made there is none, and
    /// Postgres 18 then skips rows without a word.
    #[error(
        "publication \"{publication}\" was made after slot \"{slot_name}\"; drop the slot \
         (select pg_drop_replication_slot('{slot_name}')) and start again: the relay makes a new one, and what was not sent yet is lost"
    )]
    PublicationNewerThanSlot { publication: String, slot_name: String },

    /// Came while decoding, so it was there when the stream was started.
    #[error(
        "{0}: the publication did not exist at this point of the WAL; it was dropped, or made after the slot. Make sure that it \
         exists, drop the slot and start again: what was not sent yet is lost"
    )]
    PublicationUnknown(ServerError),

    #[error(
        "{0}; raise max_replication_slots in postgresql.conf and restart Postgres, or drop a slot that nobody uses"
    )]
    TooManySlots(ServerError),

    #[error(
        "slot \"{slot_name}\" is lost: Postgres has removed WAL that it needs; what was not sent yet is lost; drop it \
         (select pg_drop_replication_slot('{slot_name}')) and start again"
    )]
    SlotLost { slot_name: String },

    #[error(
        "slot \"{slot_name}\" was dropped, and what it had not sent is lost; to continue with a new one \
         delete its row from campfire.slots, or set CAMPFIRE_ON_LOST_SLOT=recreate"
    )]
    SlotDropped { slot_name: String },

    #[error(
        "slot \"{slot_name}\" holds back {retained_bytes} bytes of WAL, more than CAMPFIRE_SLOT_MAX_BYTES={limit}; \
         drop it (select pg_drop_replication_slot('{slot_name}')), or raise the limit"
    )]
    SlotTooLarge { slot_name: String, retained_bytes: u64, limit: u64 },

    /// By us, while waiting.
    #[error("stopped")]
    Stopped,

    #[error(
        "slot \"{slot_name}\" cannot be used: {reason}; choose another name with CAMPFIRE_SLOT, or drop it"
    )]
    SlotUnsuitable { slot_name: String, reason: String },

    #[error(
        "slot \"{slot_name}\" was made in the cluster with system identifier {expected}, and this is {found}; \
         point campfire at the right server, or drop the slot"
    )]
    OtherSystem { slot_name: String, expected: String, found: String },
}

impl WalError {
    /// Whether the same attempt may succeed later without anybody doing anything about it here.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Postgres(error) => error.is_retryable(),
            Self::StreamEnded
            | Self::Silent { .. }
            | Self::SlotActive { .. }
            | Self::CreateSlotTimeout { .. } => true,
            Self::NotReplicationRole { .. }
            | Self::WalLevel { .. }
            | Self::ExtensionMissing { .. }
            | Self::PublicationMissing { .. }
            | Self::PublicationNewerThanSlot { .. }
            | Self::PublicationUnknown(_)
            | Self::TooManySlots(_)
            | Self::SlotLost { .. }
            | Self::SlotDropped { .. }
            | Self::SlotTooLarge { .. }
            | Self::Stopped
            | Self::SlotUnsuitable { .. }
            | Self::OtherSystem { .. } => false,
        }
    }
}

impl From<tokio_postgres::Error> for WalError {
    fn from(error: tokio_postgres::Error) -> WalError {
        PostgresError::from(error).into()
    }
}

/// Whose open transaction a new slot waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blocker {
    Backend { pid: i32, open_for: Duration },
    PreparedTransaction { gid: String },
    Unknown,
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Blocker::Backend { pid, open_for } => {
                write!(f, "the transaction of pid {pid}, open for {} s", open_for.as_secs())
            }
            Blocker::PreparedTransaction { gid } => write!(f, "the prepared transaction '{gid}'"),
            Blocker::Unknown => f.write_str("a transaction that is not shown in pg_stat_activity"),
        }
    }
}

fn with_pid(pid: Option<i32>) -> String {
    pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

/// `create_publication` makes the `_control` twin along with the publication it is given.
fn main_publication(publication: &str) -> &str {
    publication.strip_suffix("_control").unwrap_or(publication)
}
