//! What can go wrong here, each with its SQLSTATE and a hint.

use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The trigger hangs on a table that is not registered: 55000, a warning.
    #[error("{table} has no projection: its changes are carried to no mirror")]
    NotProjected { table: String },
    /// The mirror was dropped: 55000, a warning.
    #[error("the mirror of {table} does not exist: its changes are carried nowhere")]
    MirrorMissing { table: String },
    /// A projected column was dropped or renamed: 42703.
    #[error("column {table}.{column} does not exist, but is projected")]
    ColumnMissing { table: String, column: String },
    /// An item of a projection is not an expression over one row: 0A000.
    #[error("{table}: cannot project \"{item}\"")]
    NotARowExpression { table: String, item: String, problem: &'static str },
    /// An item of a projection may give another value for the same row: 42P17.
    #[error("{table}: cannot project \"{item}\"")]
    NotImmutable { table: String, item: String },
    /// The registry was edited by hand: 55000.
    #[error("the projection of {table} is malformed")]
    MalformedDefinition { table: String },
    /// An expression raised an error on a row: the SQLSTATE of that error.
    #[error("projected column \"{column}\": {message}")]
    ExpressionFailed { column: String, definition: String, sqlstate: PgSqlErrorCode, message: String },
    /// Somebody else's table: 42501.
    #[error("must be owner of table {table}")]
    NotOwner { table: String },
    /// The caller may not act as the role: 42501.
    #[error("must be a member of role {role}")]
    NotMember { role: String },
    /// The caller may not make a table beside the source: 42501.
    #[error("permission denied for schema {schema}")]
    MayNotCreate { schema: String, role: String },
    /// A procedure that commits was called where it cannot: 2D000.
    #[error("{action} cannot run inside a transaction block")]
    InTransaction { action: String },
    /// 22004.
    #[error("{function} needs a table")]
    NullArgument { function: &'static str },
    /// The trigger was created for another event, time or level than it serves: 55000.
    #[error("trigger \"{trigger}\" on {table} must be {wanted}")]
    WrongTrigger { trigger: String, table: String, wanted: &'static str },
    /// There is no table of conversations beside the messages: 42P01.
    #[error("{table} does not exist")]
    ConversationsMissing { table: String },
    /// Something that is not a table was given as the table of agents: 42809.
    #[error("{relation} is not a table")]
    NotATable { relation: String },
    /// The keys were deleted by hand: 55000.
    #[error("campfire.broadcast_keys is empty: nothing can be signed")]
    NoKey,
    /// More than the relay reads: 54000.
    #[error("the message has {bytes} bytes, more than the {limit} that the relay reads")]
    MessageTooLong { bytes: usize, limit: usize },
}

impl Error {
    fn sqlstate(&self) -> PgSqlErrorCode {
        match self {
            Self::NotProjected { .. }
            | Self::MirrorMissing { .. }
            | Self::MalformedDefinition { .. }
            | Self::WrongTrigger { .. }
            | Self::NoKey => PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            Self::NotARowExpression { .. } => PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
            Self::NotImmutable { .. } => PgSqlErrorCode::ERRCODE_INVALID_OBJECT_DEFINITION,
            Self::ExpressionFailed { sqlstate, .. } => *sqlstate,
            Self::NotOwner { .. } | Self::NotMember { .. } | Self::MayNotCreate { .. } => {
                PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE
            }
            Self::InTransaction { .. } => PgSqlErrorCode::ERRCODE_INVALID_TRANSACTION_TERMINATION,
            Self::NullArgument { .. } => PgSqlErrorCode::ERRCODE_NULL_VALUE_NOT_ALLOWED,
            Self::ColumnMissing { .. } => PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN,
            Self::ConversationsMissing { .. } => PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
            Self::NotATable { .. } => PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
            Self::MessageTooLong { .. } => PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotProjected { table } => {
                Some(format!("call campfire.repair_projection({});", quoted(table)))
            }
            Self::ColumnMissing { column, .. } => {
                Some(format!("Bring column {column} back; the mirror needs it."))
            }
            Self::NotARowExpression { problem, .. } => Some(format!(
                "An item is a column or an expression over one row, such as customer->>'plan' as plan; {problem}."
            )),
            Self::NotImmutable { .. } => Some(
                "The value must depend on the row alone, as in an index; a timestamp, say, is projected as it is."
                    .to_owned(),
            ),
            Self::MalformedDefinition { table } | Self::MirrorMissing { table } => Some(format!(
                "select campfire.drop_projection({0}, unpublish => true); call campfire.create_projection({0});",
                quoted(table)
            )),
            Self::ExpressionFailed { definition, .. } => Some(format!(
                "The projection evaluates {definition} for each row. Project an expression that holds for every row, or mend the row."
            )),
            Self::NotOwner { .. } | Self::NotMember { .. } => None,
            Self::MayNotCreate { schema, role } => Some(format!("grant create on schema {schema} to {role};")),
            Self::InTransaction { .. } => {
                Some("It commits as it goes: CALL it by itself, outside BEGIN and COMMIT.".to_owned())
            }
            Self::NullArgument { .. } => None,
            Self::WrongTrigger { .. } => Some("See the triggers that campfire.install() makes.".to_owned()),
            Self::ConversationsMissing { .. } => {
                Some("Messages and conversations must be in one schema.".to_owned())
            }
            Self::NotATable { .. } => None,
            Self::MessageTooLong { .. } => Some("Send a reference to it.".to_owned()),
            Self::NoKey => Some("select campfire.rotate_broadcast_key();".to_owned()),
        }
    }
}

/// As a literal of SQL.
fn quoted(name: &str) -> String {
    pgrx::spi::quote_literal(name)
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
