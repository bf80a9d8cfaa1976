//! What can go wrong on a line to the server, one variant per thing that somebody would do about it.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use tokio_postgres::error::{DbError, SqlState};

use super::ParseLsnError;

#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
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

    /// Starting up, shutting down, or in recovery after a crash.
    #[error("Postgres is not available: {0}")]
    Unavailable(ServerError),

    #[error("{0}; raise max_wal_senders or max_connections in postgresql.conf and restart Postgres")]
    TooManyConnections(ServerError),

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

    #[error("channel_binding=require cannot be met by Postgres: {0}")]
    ChannelBinding(String),

    #[error("a message of {bytes} bytes is above the limit of {limit} bytes")]
    FrameTooLarge { bytes: usize, limit: usize },

    #[error("Postgres sent a message outside the replication protocol: {0}")]
    Protocol(String),

    /// Any other error of the server, on either connection.
    #[error("Postgres reports: {0}")]
    Server(ServerError),

    /// An ordinary session failed, but not by the server's word.
    #[error("SQL session: {}", cause(.0))]
    Sql(#[source] tokio_postgres::Error),
}

impl PostgresError {
    /// Whether the same attempt may succeed later without anybody doing anything about it here.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::ConnectTimeout { .. }
            | Self::NoAnswer { .. }
            | Self::ConnectionLost(_)
            | Self::Unavailable(_)
            | Self::TooManyConnections(_)
            // In a fail-over the standby that answers becomes the primary.
            | Self::Standby => true,
            // Without a cause it is a closed connection or a time-out; any cause but I/O is a mistake of ours, or
            // of the connection string.
            Self::Sql(error) => error.source().is_none_or(|cause| cause.is::<io::Error>()),
            Self::Server(error) => error.is_transient(),
            Self::Pooler(_)
            | Self::Authentication(_)
            | Self::AuthenticationMethod { .. }
            | Self::PasswordMissing { .. }
            | Self::Tls { .. }
            | Self::TlsUnavailable { .. }
            | Self::TlsSettings(_)
            | Self::ChannelBinding(_)
            | Self::FrameTooLarge { .. }
            | Self::Protocol(_) => false,
        }
    }
}

/// What the server says of itself, wherever it says it.
impl From<ServerError> for PostgresError {
    fn from(error: ServerError) -> PostgresError {
        match error.code.as_str() {
            "57P01" | "57P02" | "57P03" => PostgresError::Unavailable(error),
            "28P01" | "28000" => PostgresError::Authentication(error),
            "53300" => PostgresError::TooManyConnections(error),
            // Postgres knows all that we ask for at the start of a session.
            "08P01" if error.message.starts_with("unsupported startup parameter") => {
                PostgresError::Pooler(error)
            }
            _ => PostgresError::Server(error),
        }
    }
}

impl From<tokio_postgres::Error> for PostgresError {
    fn from(error: tokio_postgres::Error) -> PostgresError {
        match error.as_db_error() {
            Some(server) => ServerError::from(server).into(),
            None => PostgresError::Sql(error),
        }
    }
}

impl From<ParseLsnError> for PostgresError {
    fn from(error: ParseLsnError) -> PostgresError {
        PostgresError::Protocol(error.to_string())
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
