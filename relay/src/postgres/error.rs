//! What can go wrong between us and the server, one variant per thing that somebody would do about it.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use tokio_postgres::error::{DbError, SqlState};

#[derive(Debug, thiserror::Error)]
pub enum WalError {
    #[error("cannot connect to Postgres at {address}: {source}")]
    Connect { address: String, source: io::Error },

    #[error("Postgres at {address} did not answer within {} s", timeout.as_secs_f32())]
    ConnectTimeout { address: String, timeout: Duration },

    #[error(
        "Postgres did not answer within {} s: {what}; if a pooler (PgBouncer, Pgpool-II) stands in between, \
         CAMPFIRE_DATABASE_URL must have the address of Postgres itself",
        timeout.as_secs_f32()
    )]
    NoAnswer { what: &'static str, timeout: Duration },

    /// What only a pooler says to a connection like ours.
    #[error(
        "a pooler (PgBouncer, Pgpool-II or the like) answers instead of Postgres: {0}; replication needs a server process \
         of its own: put the address of Postgres itself into CAMPFIRE_DATABASE_URL"
    )]
    Pooler(ServerError),

    #[error("lost the replication connection: {0}")]
    ConnectionLost(#[source] io::Error),

    #[error("Postgres ended the stream, as it does when it shuts down")]
    StreamEnded,

    #[error("Postgres has been silent for {} s, though it was asked to answer", silence.as_secs())]
    Silent { silence: Duration },

    /// Starting up, shutting down, or in recovery after a crash.
    #[error("Postgres is not available: {0}")]
    Unavailable(ServerError),

    #[error(
        "slot \"{slot_name}\" is in use by another relay{}: stop that one, or take over when it goes with CAMPFIRE_STANDBY=wait",
        with_pid(*pid)
    )]
    SlotActive { slot_name: String, pid: Option<i32> },

    #[error("{0}; raise max_wal_senders or max_connections in postgresql.conf and restart Postgres")]
    TooManyConnections(ServerError),

    #[error(
        "making slot \"{slot_name}\" waited {} s for {blocker}; end that transaction, or wait for it",
        timeout.as_secs()
    )]
    CreateSlotTimeout { slot_name: String, timeout: Duration, blocker: Blocker },

    #[error("Postgres is a standby (in recovery); point campfire at the primary")]
    Standby,

    #[error("{0}; check user and password in CAMPFIRE_DATABASE_URL, and pg_hba.conf")]
    Authentication(ServerError),

    #[error(
        "Postgres asks for {method} authentication, which this version of campfire does not speak; use scram-sha-256 in pg_hba.conf"
    )]
    AuthenticationMethod { method: &'static str },

    #[error(
        "Postgres asks user \"{user}\" for a password and none was given; put it into CAMPFIRE_DATABASE_URL or PGPASSWORD"
    )]
    PasswordMissing { user: String },

    #[error("TLS with Postgres at {address} failed: {problem}")]
    Tls { address: String, problem: String },

    #[error(
        "Postgres at {address} does not speak TLS, which sslmode demands; set ssl = on there, or use sslmode=prefer"
    )]
    TlsUnavailable { address: String },

    #[error("{0}; check sslrootcert, sslcert and sslkey of CAMPFIRE_DATABASE_URL")]
    TlsSettings(String),

    #[error("channel_binding=require cannot be had from Postgres: {0}")]
    ChannelBinding(String),

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
        "{0}: at this point of the WAL there was none, so it was dropped, or made after the slot; make sure that it \
         exists, drop the slot and start again: what was not sent yet is lost"
    )]
    PublicationUnknown(ServerError),

    #[error(
        "{0}; raise max_replication_slots in postgresql.conf and restart Postgres, or drop a slot that nobody uses"
    )]
    TooManySlots(ServerError),

    #[error(
        "slot \"{slot_name}\" is lost: Postgres has removed WAL that it needs; what was not sent yet is gone; drop it \
         (select pg_drop_replication_slot('{slot_name}')) and start again"
    )]
    SlotLost { slot_name: String },

    #[error(
        "slot \"{slot_name}\" was dropped by somebody, and what it had not sent is gone; to go on with a new one \
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

    #[error("a message of {bytes} bytes is above the limit of {limit} bytes")]
    FrameTooLarge { bytes: usize, limit: usize },

    #[error("Postgres sent what is not the replication protocol: {0}")]
    Protocol(String),

    /// Any other error of the server, on either connection.
    #[error("Postgres reports: {0}")]
    Server(ServerError),

    /// An ordinary session failed, but not by the server's word.
    #[error("SQL session: {}", cause(.0))]
    Sql(#[source] tokio_postgres::Error),
}

impl WalError {
    /// Whether the same attempt may succeed later without anybody doing anything about it here.
    pub fn is_retryable(&self) -> bool {
        match self {
            WalError::Connect { .. }
            | WalError::ConnectTimeout { .. }
            | WalError::NoAnswer { .. }
            | WalError::ConnectionLost(_)
            | WalError::StreamEnded
            | WalError::Silent { .. }
            | WalError::Unavailable(_)
            | WalError::SlotActive { .. }
            | WalError::TooManyConnections(_)
            | WalError::CreateSlotTimeout { .. }
            // In a fail-over the standby that answers becomes the primary.
            | WalError::Standby => true,
            // Without a cause it is a closed connection or a time-out; any cause but I/O is a mistake of ours, or
            // of the connection string.
            WalError::Sql(error) => error.source().is_none_or(|cause| cause.is::<io::Error>()),
            WalError::Server(error) => error.is_transient(),
            WalError::Pooler(_)
            | WalError::Authentication { .. }
            | WalError::AuthenticationMethod { .. }
            | WalError::PasswordMissing { .. }
            | WalError::Tls { .. }
            | WalError::TlsUnavailable { .. }
            | WalError::TlsSettings(_)
            | WalError::ChannelBinding(_)
            | WalError::NotReplicationRole { .. }
            | WalError::WalLevel { .. }
            | WalError::ExtensionMissing { .. }
            | WalError::PublicationMissing { .. }
            | WalError::PublicationNewerThanSlot { .. }
            | WalError::PublicationUnknown(_)
            | WalError::TooManySlots(_)
            | WalError::SlotLost { .. }
            | WalError::SlotDropped { .. }
            | WalError::SlotTooLarge { .. }
            | WalError::Stopped
            | WalError::SlotUnsuitable { .. }
            | WalError::OtherSystem { .. }
            | WalError::FrameTooLarge { .. }
            | WalError::Protocol(_) => false,
        }
    }
}

/// What the server says of itself, wherever it says it.
impl From<ServerError> for WalError {
    fn from(error: ServerError) -> WalError {
        match error.code.as_str() {
            "57P01" | "57P02" | "57P03" => WalError::Unavailable(error),
            "28P01" | "28000" => WalError::Authentication(error),
            "53300" => WalError::TooManyConnections(error),
            // Postgres knows all that we ask for at the start of a session.
            "08P01" if error.message.starts_with("unsupported startup parameter") => WalError::Pooler(error),
            _ => WalError::Server(error),
        }
    }
}

impl From<tokio_postgres::Error> for WalError {
    fn from(error: tokio_postgres::Error) -> WalError {
        match error.as_db_error() {
            Some(server) => ServerError::from(server).into(),
            None => WalError::Sql(error),
        }
    }
}

impl From<&DbError> for ServerError {
    fn from(error: &DbError) -> ServerError {
        ServerError {
            code: error.code().code().to_owned(),
            message: error.message().to_owned(),
            hint: error.hint().map(str::to_owned),
        }
    }
}

/// An error of an ordinary session with its cause: SQLSTATE and message where the server reports it, which the client's
/// own text, "db error", leaves out.
pub fn cause(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), error.source()) {
        (Some(server), _) => ServerError::from(server).to_string(),
        (None, Some(cause)) => format!("{error}: {cause}"),
        (None, None) => error.to_string(),
    }
}

/// An ErrorResponse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerError {
    /// The SQLSTATE.
    pub code: String,
    pub message: String,
    pub hint: Option<String>,
}

impl ServerError {
    pub(crate) fn is(&self, state: &SqlState) -> bool {
        self.code == state.code()
    }

    /// Connection exceptions, resources that run out and come back, and an operator who steps in.
    fn is_transient(&self) -> bool {
        ["08", "40", "53", "57P"].iter().any(|class| self.code.starts_with(class))
    }
}

/// One line, whatever the server wrote.
impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = self.message.replace('\n', " ");
        write!(f, "{message} (SQLSTATE {})", self.code)?;
        match &self.hint {
            Some(hint) => write!(f, ": {}", hint.replace('\n', " ")),
            None => Ok(()),
        }
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
