//! What can go wrong here, each with its SQLSTATE and a hint.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The trigger was attached to a table that nobody registered: 55000.
    #[error("{table} has no projection")]
    NotProjected { table: String },
    /// The mirror was dropped: 55000.
    #[error("the mirror of {table} does not exist")]
    MirrorMissing { table: String },
    /// A projected column was dropped or renamed: 42703.
    #[error("column {table}.{column} does not exist, but is projected")]
    ColumnMissing { table: String, column: String },
    /// The trigger was created for another event, time or level than it serves: 55000.
    #[error("trigger \"{trigger}\" on {table} must be {wanted}")]
    WrongTrigger { trigger: String, table: String, wanted: &'static str },
    /// There is no table of conversations beside the messages: 42P01.
    #[error("{table} does not exist")]
    ConversationsMissing { table: String },
    /// Something that is not a table was given as the table of agents: 42809.
    #[error("{relation} is not a table")]
    NotATable { relation: String },
}

impl Error {
    fn sqlstate(&self) -> PgSqlErrorCode {
        match self {
            Self::NotProjected { .. } | Self::MirrorMissing { .. } | Self::WrongTrigger { .. } => {
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE
            }
            Self::ColumnMissing { .. } => PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN,
            Self::ConversationsMissing { .. } => PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
            Self::NotATable { .. } => PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotProjected { .. } => {
                Some("Drop the trigger: the table is not in campfire.projections.".to_owned())
            }
            Self::MirrorMissing { table } => {
                Some(format!("Restore the mirror, or drop the triggers on {table} that keep it."))
            }
            Self::ColumnMissing { column, .. } => {
                Some(format!("Bring column {column} back; the mirror needs it."))
            }
            Self::WrongTrigger { .. } => Some("See the triggers that campfire.install() makes.".to_owned()),
            Self::ConversationsMissing { .. } => {
                Some("Messages and conversations must be in one schema.".to_owned())
            }
            Self::NotATable { .. } => None,
        }
    }
}

impl From<Error> for ErrorReport {
    fn from(error: Error) -> Self {
        let report = ErrorReport::new(error.sqlstate(), error.to_string(), "campfire");
        match error.hint() {
            Some(hint) => report.set_hint(hint),
            None => report,
        }
    }
}
