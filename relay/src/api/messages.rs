//! The messages of a conversation, a page at a time.

use tokio_postgres::Row;
use uuid::Uuid;

use super::database::{Failure, Transaction};
use super::page::{CONTENT_BYTES_MAX, Cursor};

/// Messages, oldest first, and where those before them end.
pub(super) struct Page<M> {
    pub(super) messages: Vec<M>,
    pub(super) cursor: Option<String>,
}

/// A message as somebody may see it.
pub(super) trait Message: Sized {
    const COLUMNS: &'static str;

    /// Of a row with these columns.
    fn read(row: &Row) -> Result<Self, tokio_postgres::Error>;

    /// Its place in the conversation.
    fn place(&self) -> Cursor;
}

/// The newest messages before a place that fit into a page.
pub(super) async fn page<M: Message>(
    sql: &Transaction,
    organization: Uuid,
    conversation: Uuid,
    before: Option<Cursor>,
    limit: u32,
) -> Result<Page<M>, Failure> {
    let columns = M::COLUMNS;
    // One more tells whether there are more.
    let query = format!(
        "select {columns}, found from (
           select {columns}, row_number() over newest as number, count(*) over () as found,
                  sum(octet_length(content)) over newest as bytes
           from (select {columns} from {}.messages as m
                 where m.organization_id = $1 and m.conversation_id = $2
                   and (m.created_at, m.id) < ($3, $4)
                 order by m.created_at desc, m.id desc limit $5) as latest
           window newest as (order by created_at desc, id desc)
         ) as counted where number = 1 or bytes <= {CONTENT_BYTES_MAX} order by number",
        sql.schema
    );
    let Cursor { time, id } = before.unwrap_or(Cursor::END);
    let rows =
        sql.query(&query, &[&organization, &conversation, &time, &id, &(i64::from(limit) + 1)]).await?;
    let found: i64 = rows.first().map(|row| row.try_get("found")).transpose()?.unwrap_or_default();
    let mut messages = rows.iter().take(limit as usize).map(M::read).collect::<Result<Vec<_>, _>>()?;
    let has_more = i64::try_from(messages.len()).unwrap_or(i64::MAX) < found;
    let oldest = messages.last().map(M::place);
    messages.reverse();
    Ok(Page { messages, cursor: oldest.filter(|_| has_more).map(Cursor::to_text) })
}
