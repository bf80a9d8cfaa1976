//! What can go wrong with the database, one variant per thing that somebody would do about it.

use tokio_postgres::error::SqlState;

use crate::decode::DecodeError;
use crate::postgres::{self, PostgresError, ServerError};
use crate::wal::WalError;

/// The extension is missing something, or its registries hold something we cannot use.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    #[error(transparent)]
    Wal(#[from] WalError),
    /// The stream cannot be trusted any more; a new connection starts it afresh.
    #[error("cannot read what Postgres sent: {0}")]
    Decode(#[from] DecodeError),
    #[error(
        "the database has no campfire extension: run `create extension campfire; select campfire.install();` there"
    )]
    ExtensionMissing,
    #[error(
        "nothing is published yet: run `select campfire.install();`, or for tables of your own `select campfire.create_publication();`"
    )]
    NothingPublished,
    #[error("publication {publication:?} is not fit to stream: {problem}; fix: {fix}")]
    UnfitPublication { publication: String, problem: String, fix: String },
    #[error("user \"{user}\" {problem}; run: {fix}")]
    NotRelayRole { user: String, problem: &'static str, fix: String },
    /// Not by the user's membership in campfire_relay, which is looked at first.
    #[error("Postgres refuses what campfire_relay may do by itself, so somebody has revoked it: {0}")]
    Privilege(ServerError),
    /// Agents that were left out, or were read from another table, can be read now.
    #[error("agents of schema {schema:?} have to be read anew")]
    AgentsToRead { schema: String },
    #[error("query failed: {}", postgres::cause(.0))]
    Sql(tokio_postgres::Error),
}

impl SqlError {
    /// Whether trying again without anybody's help may succeed.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Wal(error) => error.is_retryable(),
            Self::Sql(_) | Self::Decode(_) | Self::AgentsToRead { .. } => true,
            _ => false,
        }
    }
}

impl From<PostgresError> for SqlError {
    fn from(error: PostgresError) -> Self {
        Self::Wal(error.into())
    }
}

impl From<tokio_postgres::Error> for SqlError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.code() {
            Some(
                &SqlState::UNDEFINED_FUNCTION | &SqlState::UNDEFINED_TABLE | &SqlState::INVALID_SCHEMA_NAME,
            ) => Self::ExtensionMissing,
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => match error.as_db_error() {
                Some(server) => Self::Privilege(server.into()),
                None => Self::Sql(error),
            },
            _ => Self::Sql(error),
        }
    }
}
