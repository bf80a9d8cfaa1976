//! How far readers have read: each one's bookmark goes forward alone.

use serde::Deserialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::database::{Failure, Transaction};
use super::error::Code;

/// Most receipts that are told of a conversation.
pub(super) const READERS_MAX: u32 = 200;

/// What somebody has read.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReadRequest {
    pub(super) last_read_message_id: Uuid,
}

/// Whose bookmark it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader {
    pub(super) organization: Uuid,
    pub(super) conversation: Uuid,
    /// `visitor` or `agent`.
    pub(super) kind: &'static str,
    pub(super) id: Uuid,
}

/// Puts a bookmark at a message, unless it is at a later one: a trigger of the table keeps it from going back, whatever
/// other devices of the reader write at the same time.
pub(super) async fn read_up_to(sql: &Transaction, reader: Reader, message: Uuid) -> Result<(), Failure> {
    let schema = &sql.schema;
    let Reader { organization, conversation, kind, id } = reader;
    let is_there = format!(
        "select from {schema}.messages as m
         where m.organization_id = $1 and m.conversation_id = $2 and m.id = $3"
    );
    let row = sql.query_opt(&is_there, &[&organization, &conversation, &message]).await?;
    row.ok_or(Code::MessageNotFound)?;
    let insert = format!(
        "insert into {schema}.read_receipts
           (organization_id, conversation_id, reader_type, reader_id, last_read_message_id)
         values ($1, $2, $3, $4, $5) on conflict do nothing"
    );
    if sql.execute(&insert, &[&organization, &conversation, &kind, &id, &message]).await? == 1 {
        return Ok(());
    }
    // Policies show a visitor no other bookmark of its kind, but not the reader's id: so it is not asked for.
    let theirs = match kind {
        "visitor" => "r.reader_type = 'visitor'".to_owned(),
        _ => format!("r.reader_type = 'agent' and r.reader_id = '{id}'"),
    };
    let update = format!(
        "update {schema}.read_receipts as r
         set last_read_message_id = $3, read_at = pg_catalog.clock_timestamp()
         where r.organization_id = $1 and r.conversation_id = $2 and {theirs}
           and r.last_read_message_id is distinct from $3"
    );
    sql.execute(&update, &[&organization, &conversation, &message]).await?;
    Ok(())
}
