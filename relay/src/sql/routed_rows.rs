//! The rows of a private channel outside `org:`: of each table with an INSERT route that leads there, the newest whose
//! columns make the channel's name. They are read with the role and the claims of the client that joins, so that
//! row-level security decides which there are.

use std::collections::HashMap;

use campfire_gate::{Gate, Type};
use tokio_postgres::Client;

use super::caller::{Mode, become_caller, begin};
use super::control::routes;
use super::rows::{RowsError, RowsQuery, base_type, look, read_events};
use crate::fanout::RowsRead;
use crate::postgres::{quote_identifier, quote_literal};
use crate::route::{OPTIONAL_PREFIX, Operation, Piece, Route, Template};

/// Ways to divide a name among the columns of a template. What has more is looked for without an index.
const DIVISIONS_MAX: usize = 16;

/// Type oid of char(n), whose padding is no part of a channel's name.
const BPCHAR: u32 = 1042;

/// Reads the rows of a private channel.
pub(super) async fn read_routed(client: &Client, query: RowsQuery<'_>) -> Result<RowsRead, RowsError> {
    begin(client, Mode::Snapshot, query.timeout).await?;
    let (snapshot, lsn) = look(client).await?;
    let (routes, _) = routes(client).await?;
    let leads_here = |route: &&Route| {
        let brings_rows = route.is_private() && route.operation == Operation::Insert;
        brings_rows && route.channel.can_address(query.topic)
    };
    let name = query.topic.to_string();
    let name = name.strip_prefix(OPTIONAL_PREFIX).unwrap_or(&name);
    let mut selections: Vec<Selection<'_>> = Vec::new();
    for route in routes.iter().filter(leads_here) {
        let Some(table) = Table::find(client, route, query.credential.role().name()).await? else { continue };
        let mut condition = table.condition(client, &route.channel, name).await?;
        if let Some(gate) = &table.gate {
            condition = format!("{condition} and {}", gate.to_sql("t", &query.credential.bind(gate)));
        }
        // A row is one event: that of the first route.
        let before = selections.iter().filter(|known| known.route.relation == route.relation);
        let first: String = before.map(|known| format!(" and ({}) is not true", known.condition)).collect();
        let sql = table.select(&format!("{condition}{first}"), query.rows_max);
        selections.push(Selection { route, columns: table.columns, condition, sql });
    }
    become_caller(client, query.credential, &[]).await?;
    let mut rows = Vec::new();
    let mut bytes_left = query.bytes_max;
    for Selection { route, columns, sql, .. } in &selections {
        let columns: Vec<&String> = columns.iter().collect();
        rows.extend(read_events(client, sql, &columns, &route.event, &mut bytes_left).await?);
    }
    client.batch_execute("commit").await?;
    Ok(RowsRead { snapshot, lsn, rows })
}

/// What is selected by one route.
struct Selection<'a> {
    route: &'a Route,
    columns: Vec<String>,
    /// Which rows make the channel's name, and may be seen by the client.
    condition: String,
    sql: String,
}

/// A routed table, as it is published.
struct Table {
    /// Quoted, with its schema.
    name: String,
    /// Of the route's columns those that are published.
    columns: Vec<String>,
    /// The newest first.
    order: Vec<String>,
    /// The row filter of the publication.
    filter: Option<String>,
    gate: Option<Gate>,
}

/// A column that is read, and whether it may be.
struct Needed {
    name: String,
    is_readable: bool,
    is_not_null: bool,
}

impl Table {
    /// None if it is not published, or not with the columns that name the channel and those of the gate: then it has no
    /// events either.
    async fn find(client: &Client, route: &Route, role: &str) -> Result<Option<Self>, RowsError> {
        let Some(relation) = route.relation else { return Ok(None) };
        let facts = "select pg_catalog.has_schema_privilege($2::text, c.relnamespace, 'usage'),
                 carrier.columns::text[],
                 coalesce(campfire.filter_columns(carrier.publication, c.oid)::text[], '{}'),
                 pg_catalog.pg_get_expr(r.prqual, r.prrelid),
                 array(
                     select a.attname::text
                     from (
                         select i.indrelid, i.indkey, i.indnkeyatts from pg_catalog.pg_index as i
                         where i.indrelid = c.oid and (i.indisprimary or i.indisreplident) and i.indisvalid
                         order by i.indisprimary desc limit 1) as i
                     cross join lateral unnest(i.indkey::int2[]) with ordinality as k (attnum, n)
                     join pg_catalog.pg_attribute as a on a.attrelid = i.indrelid and a.attnum = k.attnum
                     where k.n <= i.indnkeyatts order by k.n)
             from pg_catalog.pg_class as c
             cross join lateral campfire.carried_columns(c.oid) as carrier
             join pg_catalog.pg_publication as p on p.pubname = carrier.publication
             join pg_catalog.pg_publication_rel as r on r.prpubid = p.oid and r.prrelid = c.oid
             where c.oid = $1";
        let Some(facts) = client.query_opt(facts, &[&relation, &role]).await? else { return Ok(None) };
        let (may_enter, carried): (bool, Vec<String>) = (facts.try_get(0)?, facts.try_get(1)?);
        let (filtered, filter): (Vec<String>, Option<String>) = (facts.try_get(2)?, facts.try_get(3)?);
        let key: Vec<String> = facts.try_get(4)?;

        let columns: Vec<String> =
            route.columns.iter().filter(|column| carried.contains(*column)).cloned().collect();
        let named: Vec<String> = named_columns(&route.channel).cloned().collect();
        if columns.is_empty() || !named.iter().all(|column| carried.contains(column)) {
            return Ok(None);
        }
        let name = format!("{}.{}", quote_identifier(&route.schema), quote_identifier(&route.table));
        let gate = match &route.gate {
            Some(text) => match read_gate(client, text, relation, &carried).await? {
                Some(gate) => Some(gate),
                None => return Ok(None),
            },
            None => None,
        };
        let gated: Vec<String> = gate.iter().flat_map(Gate::columns).map(str::to_owned).collect();
        let newest = route.snapshot_by.as_ref();
        let mut order: Vec<String> = newest.into_iter().cloned().collect();
        order.extend(key.into_iter().filter(|column| Some(column) != newest));
        let needed = [&columns, &named, &gated, &order, &filtered].into_iter().flatten().cloned().collect();
        let needed = Needed::find(client, relation, role, needed).await?;
        if !may_enter {
            let schema = quote_identifier(&route.schema);
            return Err(RowsError::Denied(format!("grant usage on schema {schema} to {role}")));
        }
        if let Some(columns) = Needed::lacking(&needed) {
            return Err(RowsError::Denied(format!("grant select{columns} on {name} to {role}")));
        }
        let order = order.iter().filter_map(|column| {
            // One that is gone says nothing.
            let known = needed.iter().find(|known| known.name == *column)?;
            // An index has nulls last only where there are none.
            let nulls = if known.is_not_null { "" } else { " nulls last" };
            Some(format!("t.{} desc{nulls}", quote_identifier(column)))
        });
        Ok(Some(Self { name, columns, order: order.collect(), filter, gate }))
    }

    fn select(&self, condition: &str, rows_max: u32) -> String {
        let columns: Vec<String> =
            self.columns.iter().map(|column| format!("t.{}", quote_identifier(column))).collect();
        let filter = self.filter.as_ref().map_or(String::new(), |filter| format!(" and ({filter})"));
        let order = match self.order.as_slice() {
            [] => String::new(),
            order => format!(" order by {}", order.join(", ")),
        };
        let (columns, name) = (columns.join(", "), &self.name);
        format!("select {columns} from {name} as t where {condition}{filter}{order} limit {rows_max}")
    }

    /// Which rows make the channel's name: those whose values, as text, do. Before that, what an index can answer: the
    /// values that they can only have, where there are few ways to divide the name.
    async fn condition(&self, client: &Client, channel: &Template, name: &str) -> Result<String, RowsError> {
        if name.contains('\0') {
            return Ok("false".to_owned());
        }
        let columns: Vec<String> =
            named_columns(channel).map(|column| format!("t.{}", quote_identifier(column))).collect();
        let types = self.types(client, &columns).await?;
        let mut listed = columns.iter().zip(&types);
        let made: Vec<String> = channel
            .canonical_pieces()
            .filter_map(|piece| match piece {
                Piece::Literal(text) => Some(quote_literal(&text)),
                Piece::Column(_) => listed.next().map(|(column, (oid, _))| match *oid {
                    BPCHAR => format!("{column}::text"),
                    // As the stream has it: a cast to text makes something else of a boolean.
                    _ => column.clone(),
                }),
            })
            .collect();
        let mut exact =
            format!("pg_catalog.concat({}) collate \"C\" = {}", made.join(", "), quote_literal(name));
        for column in &columns {
            exact += &format!(" and {column} is not null");
        }
        let Some(divisions) = channel.divisions(name, DIVISIONS_MAX) else { return Ok(exact) };
        let mut possible = Vec::new();
        for values in divisions {
            let values: Vec<String> = values.into_iter().map(quote_literal).collect();
            if are_values(client, &values, &types).await? {
                let equal = columns.iter().zip(&values).map(|(column, value)| format!("{column} = {value}"));
                possible
                    .push(format!("({})", equal.chain([exact.clone()]).collect::<Vec<_>>().join(" and ")));
            }
        }
        Ok(if possible.is_empty() { "false".to_owned() } else { format!("({})", possible.join(" or ")) })
    }

    /// What columns come down to: the oid, and the name as a cast has it.
    async fn types(&self, client: &Client, columns: &[String]) -> Result<Vec<(u32, String)>, RowsError> {
        if columns.is_empty() {
            return Ok(Vec::new());
        }
        let statement = format!("select {} from {} as t", columns.join(", "), self.name);
        let statement = client.prepare(&statement).await?;
        let oids: Vec<u32> = statement.columns().iter().map(|column| base_type(column.type_())).collect();
        let names = "select pg_catalog.format_type(o.oid, null)
             from unnest($1::oid[]) with ordinality as o (oid, n) order by o.n";
        let mut types = Vec::with_capacity(oids.len());
        for (oid, row) in oids.iter().zip(client.query(names, &[&oids]).await?) {
            types.push((*oid, row.try_get(0)?));
        }
        Ok(types)
    }
}

impl Needed {
    async fn find(
        client: &Client,
        relation: u32,
        role: &str,
        columns: Vec<String>,
    ) -> Result<Vec<Self>, RowsError> {
        let query = "select a.attname::text,
                 pg_catalog.has_column_privilege($3::text, a.attrelid, a.attnum, 'select'), a.attnotnull
             from pg_catalog.pg_attribute as a
             where a.attrelid = $1 and a.attname::text = any ($2) and a.attnum > 0 and not a.attisdropped
             order by a.attnum";
        let found = client.query(query, &[&relation, &columns, &role]).await?;
        let mut needed = Vec::new();
        for row in found {
            let (name, is_readable, is_not_null) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            needed.push(Self { name, is_readable, is_not_null });
        }
        Ok(needed)
    }

    /// Columns that may not be read, as GRANT lists them: none if it is all of them.
    fn lacking(needed: &[Self]) -> Option<String> {
        let lacking = needed.iter().filter(|column| !column.is_readable);
        let lacking: Vec<String> = lacking.map(|column| quote_identifier(&column.name)).collect();
        match lacking.len() {
            0 => None,
            count if count == needed.len() => Some(String::new()),
            _ => Some(format!(" ({})", lacking.join(", "))),
        }
    }
}

/// The gate of a route on a table, from which these columns are published. None if it cannot be read.
async fn read_gate(
    client: &Client,
    text: &str,
    relation: u32,
    carried: &[String],
) -> Result<Option<Gate>, RowsError> {
    let types = "with recursive based (attname, oid) as (
             select a.attname, a.atttypid from pg_catalog.pg_attribute as a
             where a.attrelid = $1 and a.attname::text = any ($2) and a.attnum > 0 and not a.attisdropped
             union all
             select b.attname, t.typbasetype
             from based as b join pg_catalog.pg_type as t on t.oid = b.oid where t.typtype = 'd')
         select b.attname::text, b.oid
         from based as b join pg_catalog.pg_type as t on t.oid = b.oid where t.typtype <> 'd'";
    let mut types_by_name = HashMap::new();
    for row in client.query(types, &[&relation, &carried]).await? {
        types_by_name.insert(row.try_get::<_, String>(0)?, row.try_get::<_, u32>(1)?);
    }
    Ok(Gate::new(text, |name| types_by_name.get(name).map(|oid| Type::of_oid(*oid))).ok())
}

fn named_columns(channel: &Template) -> impl Iterator<Item = &String> {
    channel.pieces().iter().filter_map(|piece| match piece {
        Piece::Column(column) => Some(column),
        Piece::Literal(_) => None,
    })
}

/// Whether columns of these types can have these values, which are literals.
async fn are_values(client: &Client, values: &[String], types: &[(u32, String)]) -> Result<bool, RowsError> {
    let casts = values.iter().zip(types).map(|(value, (_, name))| format!("{value}::{name}"));
    let casts = casts.collect::<Vec<_>>().join(", ");
    match client.batch_execute(&format!("savepoint cast_; select {casts}; release cast_")).await {
        Ok(()) => Ok(true),
        // A data exception: the text is no value of the type.
        Err(error) if error.code().is_some_and(|code| code.code().starts_with("22")) => {
            client.batch_execute("rollback to savepoint cast_").await?;
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}
