//! The rows of a channel, and what exactly the transaction that read them saw.
//!
//! Those of an organization's channel are read with the role and the claims of the client that joins, so that row-level
//! security decides which there are. Routes, as they stand in the same snapshot, say which columns and under which event.
//! Those of a private channel are messages that SQL has sent there; a client that policies let join may have them.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_util::{TryStreamExt, pin_mut};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{Kind, ToSql, Type};
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};
use uuid::Uuid;

use super::caller::{Mode, become_caller, begin};
use super::control::{bad_answer, parse_snapshot, routes};
use super::error::SqlError;
use crate::auth::Credential;
use crate::decode;
use crate::fanout::{RowEvent, RowsRead};
use crate::postgres::{Lsn, Snapshot, Timestamp, quote_identifier};
use crate::protocol::Encoding;
use crate::route::{Operation, Route, Scope, Topic};

/// The end of the year 9999: later is as good as never, and earlier than what Postgres takes.
const UNIX_MICROS_MAX: i64 = 253_402_300_799_999_999;

/// Which rows, for whom, and within which bounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowsQuery<'a> {
    pub(super) topic: &'a Topic,
    /// Most rows of each table.
    pub(super) rows_max: u32,
    pub(super) credential: &'a Credential,
    pub(super) bytes_max: usize,
    /// For one statement; the caller bounds the whole.
    pub(super) timeout: Duration,
}

/// There are no rows. The session is in no state to be used again.
#[derive(Debug, thiserror::Error)]
pub(super) enum RowsError {
    #[error("the rows take too much memory")]
    TooLarge,
    #[error("the statement took too long")]
    Timeout,
    /// The client's role may not read them: what would let it.
    #[error("the client's role may not read the rows: {0}")]
    Denied(String),
    #[error(transparent)]
    Sql(#[from] SqlError),
}

impl From<tokio_postgres::Error> for RowsError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.code() {
            Some(&SqlState::QUERY_CANCELED) => Self::Timeout,
            _ => Self::Sql(error.into()),
        }
    }
}

/// The tables of an installation that a snapshot shows, in the order in which it shows them.
#[derive(Clone, Copy)]
enum Table {
    Conversations,
    Messages,
    Receipts,
}

impl Table {
    const ALL: [Self; 3] = [Self::Conversations, Self::Messages, Self::Receipts];

    fn name(self) -> &'static str {
        match self {
            Self::Conversations => "realtime_conversations",
            Self::Messages => "messages",
            Self::Receipts => "read_receipts",
        }
    }

    /// Columns by which its rows are found and ordered, besides those of the channel.
    fn needed(self, scope: Scope) -> Vec<&'static str> {
        match (self, scope) {
            (Self::Conversations, Scope::Conversations) => vec!["id", "updated_at"],
            (Self::Conversations, _) => Vec::new(),
            (Self::Messages, Scope::Conversations) => vec!["id", "created_at", "conversation_id"],
            (Self::Messages, _) => vec!["id", "created_at"],
            (Self::Receipts, _) => vec!["read_at"],
        }
    }
}

/// What the transaction sees, which has asked nothing yet; and where the WAL ends that it may have seen.
pub(super) async fn look(client: &Client) -> Result<(Snapshot, Lsn), RowsError> {
    // The snapshot is taken before the statement runs, so the LSN is later. Of inserted WAL, not of flushed: an
    // asynchronous commit is seen before it is flushed.
    let seen = "select pg_catalog.pg_current_snapshot()::text, pg_catalog.pg_current_wal_insert_lsn()::text";
    let seen = client.query_one(seen, &[]).await?;
    let lsn = seen.try_get::<_, &str>(1)?.parse().map_err(|_| bad_answer())?;
    Ok((parse_snapshot(seen.try_get(0)?)?, lsn))
}

/// Reads the newest messages that SQL has sent to a private channel since then, at most `limit`.
pub(super) async fn read_sent(
    client: &Client,
    topic: &str,
    since: Timestamp,
    limit: usize,
    mut bytes_left: usize,
    timeout: Duration,
) -> Result<RowsRead, RowsError> {
    begin(client, Mode::Snapshot, timeout).await?;
    let (snapshot, lsn) = look(client).await?;
    let seconds = since.unix_micros().clamp(0, UNIX_MICROS_MAX) as f64 / 1e6;
    let limit = i32::try_from(limit).unwrap_or(i32::MAX);
    let query = "select id, event, payload, binary_payload
                 from campfire.realtime_history($1, to_timestamp($2), $3)";
    let parameters: [&(dyn ToSql + Sync); 3] = [&topic, &seconds, &limit];
    let answer = client.query_raw(query, parameters).await?;
    pin_mut!(answer);
    let mut rows = Vec::new();
    while let Some(row) = answer.try_next().await? {
        let (encoding, payload) =
            match (row.try_get::<_, Option<&str>>(2)?, row.try_get::<_, Option<&[u8]>>(3)?) {
                // Binary wins, as it does live.
                (_, Some(bytes)) => (Encoding::Binary, bytes),
                (json, None) => (Encoding::Json, json.unwrap_or("null").as_bytes()),
            };
        bytes_left = bytes_left.checked_sub(payload.len()).ok_or(RowsError::TooLarge)?;
        let payload = payload.to_vec().into();
        let event = row.try_get::<_, &str>(1)?.into();
        rows.push(RowEvent { id: Some(row.try_get(0)?), event, encoding, payload });
    }
    client.batch_execute("commit").await?;
    Ok(RowsRead { snapshot, lsn, rows })
}

/// Reads the rows of a conversation's channel, or of an organization's conversations.
pub(super) async fn read_latest(client: &Client, query: RowsQuery<'_>) -> Result<RowsRead, RowsError> {
    begin(client, Mode::Snapshot, query.timeout).await?;
    let (snapshot, lsn) = look(client).await?;
    let shapes = shapes(client).await?;
    let (routes, _) = routes(client).await?;

    become_caller(client, query.credential, &[]).await?;
    let mut rows = Vec::new();
    let mut bytes_left = query.bytes_max;
    let mut broken: Option<(&str, RowsError)> = None;
    for table in Table::ALL {
        for (schema, shape) in &shapes {
            let is_of = |route: &&Route| route.schema == *schema && route.table == table.name();
            let selection = Selection::new(routes.iter().filter(is_of), table, shape, &query);
            let Some(selection) = selection else { continue };
            // An error there is one installation's, and only its own organizations' trouble.
            if shapes.len() > 1 {
                client.batch_execute("savepoint installation").await?;
            }
            match selection.read(client, &mut bytes_left).await {
                Ok(read) => rows.extend(read),
                Err(error @ RowsError::Sql(_)) if shapes.len() > 1 && !client.is_closed() => {
                    client.batch_execute("rollback to installation").await?;
                    broken = Some((schema, error));
                }
                Err(error) => return Err(error),
            }
        }
    }
    if let Some((schema, error)) = broken
        && rows.is_empty()
        && !is_known_elsewhere(client, &shapes, schema, &query).await?
    {
        return Err(error);
    }
    client.batch_execute("commit").await?;
    Ok(RowsRead { snapshot, lsn, rows })
}

/// Whether the organization is one of another installation than that: then no rows are all there are.
async fn is_known_elsewhere(
    client: &Client,
    shapes: &[(String, Shape)],
    broken: &str,
    query: &RowsQuery<'_>,
) -> Result<bool, RowsError> {
    let Some(organization) = query.topic.organization() else { return Ok(false) };
    // As the relay itself, which may read who is an agent.
    client.batch_execute("set local role none").await?;
    for (schema, _) in shapes.iter().filter(|(schema, _)| schema != broken) {
        let schema = quote_identifier(schema);
        let exists = format!("select exists (select from {schema}.agents where organization_id = $1)");
        client.batch_execute("savepoint installation").await?;
        match client.query_one(&exists, &[&organization]).await {
            Ok(row) => {
                if row.try_get(0)? {
                    return Ok(true);
                }
            }
            Err(_) => client.batch_execute("rollback to installation").await?,
        }
    }
    Ok(false)
}

/// The columns that an installation's tables have, by table.
type Shape = HashMap<String, HashSet<String>>;

/// What there is of each installation, in the order in which they were made. One whose tables are gone, or have not
/// got what it takes to find and order their rows, shows less and keeps no other from anything.
async fn shapes(client: &Client) -> Result<Vec<(String, Shape)>, RowsError> {
    let query = "select i.schema_name::text, c.relname::text, array_agg(a.attname::text)
         from campfire.installations as i
         join pg_catalog.pg_namespace as n on n.nspname = i.schema_name
         join pg_catalog.pg_class as c on c.relnamespace = n.oid and c.relkind in ('r', 'p')
             and c.relname = any ('{conversations,realtime_conversations,messages,read_receipts}')
         join pg_catalog.pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
         group by i.number, i.schema_name, c.relname order by i.number";
    let mut shapes: Vec<(String, Shape)> = Vec::new();
    for row in client.query(query, &[]).await? {
        let (schema, table): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        let columns = row.try_get::<_, Vec<String>>(2)?.into_iter().collect();
        match shapes.last_mut().filter(|(known, _)| *known == schema) {
            Some((_, shape)) => drop(shape.insert(table, columns)),
            None => shapes.push((schema, HashMap::from([(table, columns)]))),
        }
    }
    Ok(shapes)
}

/// What is selected of one table.
struct Selection<'a> {
    route: &'a Route,
    /// Those of the route's that the table has.
    columns: Vec<&'a String>,
    sql: String,
}

impl<'a> Selection<'a> {
    /// By the route that brings new rows to the channel; where there is none, by the one that brings changed ones.
    fn new(
        routes: impl Iterator<Item = &'a Route> + Clone,
        table: Table,
        shape: &Shape,
        query: &RowsQuery<'_>,
    ) -> Option<Self> {
        let scope = query.topic.scope()?;
        let organization = query.topic.organization()?;
        let find = |operation| {
            let mut found = routes.clone().filter(|route: &&Route| route.operation == operation);
            found.find_map(|route| {
                let (known, organization, conversation) = route.channel.of_organization()?;
                (known == scope).then_some((route, organization, conversation))
            })
        };
        let (route, organization_column, conversation_column) =
            find(Operation::Insert).or_else(|| find(Operation::Update))?;
        let has = |table: &str, columns: &[&str]| {
            shape.get(table).is_some_and(|known| columns.iter().all(|column| known.contains(*column)))
        };
        let needed = table.needed(scope);
        if !has(table.name(), &needed)
            || !has(table.name(), &[&[organization_column], conversation_column.as_slice()].concat())
            || (scope == Scope::Conversations
                && !has("conversations", &["id", "organization_id", "updated_at"]))
        {
            return None;
        }
        let known = shape.get(table.name())?;
        let columns: Vec<&String> = route.columns.iter().filter(|column| known.contains(*column)).collect();
        let selected: Vec<String> =
            columns.iter().map(|column| format!("t.{}", quote_identifier(column))).collect();
        let selected = selected.join(", ");
        let schema = quote_identifier(&route.schema);
        let from = format!("{schema}.{}", quote_identifier(table.name()));
        let is = |column: &str, value: Uuid| format!("t.{} = '{value}'", quote_identifier(column));
        let mut condition = is(organization_column, organization);
        if let (Some(column), Some(conversation)) = (conversation_column, query.topic.conversation()) {
            condition = format!("{condition} and {}", is(column, conversation));
        }
        let limit = query.rows_max;
        let latest = format!(
            "(select c.id from {schema}.conversations as c where c.organization_id = '{organization}'
              order by c.updated_at desc, c.id limit {limit}) as c"
        );
        let sql = match (scope, table) {
            (Scope::Conversation, Table::Conversations) => {
                format!("select {selected} from {from} as t where {condition}")
            }
            (Scope::Conversation, Table::Messages) => format!(
                "select {selected} from {from} as t where {condition}
                 order by t.created_at desc, t.id desc limit {limit}"
            ),
            (Scope::Conversation, Table::Receipts) => format!(
                "select {selected} from {from} as t where {condition} order by t.read_at desc limit {limit}"
            ),
            (Scope::Conversations, Table::Conversations) => format!(
                "select {selected} from {latest} join {from} as t on t.id = c.id where {condition}
                 order by t.updated_at desc, t.id limit {limit}"
            ),
            // A message touches its conversation: the last ones are in those that were touched last.
            (Scope::Conversations, Table::Messages) => format!(
                "select {selected} from {latest} cross join lateral (
                   select * from {from} as t where t.conversation_id = c.id and {condition}
                   order by t.created_at desc, t.id desc limit {limit}) as t
                 order by t.created_at desc, t.id desc limit {limit}"
            ),
            _ => return None,
        };
        Some(Self { route, columns, sql })
    }

    /// The rows as the stream would tell them, oldest first.
    async fn read(&self, client: &Client, bytes_left: &mut usize) -> Result<Vec<RowEvent>, RowsError> {
        read_events(client, &self.sql, &self.columns, &self.route.event, bytes_left).await
    }
}

/// Reads rows, the newest first, as the stream would tell them. Gives the oldest first.
pub(super) async fn read_events(
    client: &Client,
    sql: &str,
    columns: &[&String],
    event: &str,
    bytes_left: &mut usize,
) -> Result<Vec<RowEvent>, RowsError> {
    // The values come as text, as in the stream, and so without types: those are asked for.
    let statement = client.prepare(sql).await?;
    let mut fields = Vec::with_capacity(columns.len());
    for (name, column) in columns.iter().zip(statement.columns()) {
        let mut key = Vec::new();
        decode::write_json_string(&mut key, name.as_bytes());
        key.push(b':');
        fields.push((key, base_type(column.type_())));
    }
    let mut rows = Vec::new();
    let event = event.into();
    let answer = client.simple_query_raw(sql).await?;
    pin_mut!(answer);
    while let Some(message) = answer.try_next().await? {
        let SimpleQueryMessage::Row(row) = message else { continue };
        let payload = payload(&fields, &row);
        *bytes_left = bytes_left.checked_sub(payload.len()).ok_or(RowsError::TooLarge)?;
        let event = std::sync::Arc::clone(&event);
        rows.push(RowEvent { id: None, event, encoding: Encoding::Json, payload: payload.into() });
    }
    rows.reverse();
    Ok(rows)
}

fn payload(fields: &[(Vec<u8>, u32)], row: &SimpleQueryRow) -> Vec<u8> {
    let mut json = vec![b'{'];
    for (index, (key, type_oid)) in fields.iter().enumerate() {
        if index > 0 {
            json.push(b',');
        }
        json.extend_from_slice(key);
        match row.get(index) {
            Some(text) => decode::write_json(&mut json, *type_oid, text.as_bytes()),
            None => json.extend_from_slice(b"null"),
        }
    }
    json.push(b'}');
    json
}

/// What a domain comes down to; any other type itself.
pub(super) fn base_type(known: &Type) -> u32 {
    match known.kind() {
        Kind::Domain(base) => base_type(base),
        _ => known.oid(),
    }
}
