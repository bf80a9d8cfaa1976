//! What a trigger that keeps the mirror costs the application: inserts and updates on conversations.
//!
//! Three installations side by side: without trigger (the floor), with ours, and with an equivalent one in PL/pgSQL. They
//! take turns within each round, so that a busy machine slows all of them alike. Goals: ours adds at most 0.65 of what
//! PL/pgSQL adds, and at most a tenth to the round trip of an update that changes nothing of the mirror.

use std::time::Instant;

use anyhow::{Context, Result};
use campfire_tests::{Cluster, seed};
use serde_json::{Map, Value, json};
use tokio_postgres::{Client, Statement};
use uuid::Uuid;

use crate::step;

/// Each measures every operation on every installation.
const ROUNDS: usize = 40;

/// Statements of one operation on one installation in a round, each with a round trip and a commit of its own.
const STATEMENTS: usize = 100;

/// Rows of the one statement that is timed inside the server.
const ROWS: i64 = 1_000;

/// Schemas of the installations, the floor first.
const SCHEMAS: [&str; 3] = ["bare", "ours", "plpgsql"];

const PLPGSQL: &str = "
    create function plpgsql.sync() returns trigger
    language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
    begin
      if tg_op = 'UPDATE' then
        if (new.id, new.organization_id, new.customer_name, new.customer_email, new.status, new.priority,
              new.assignee_id, new.created_at, new.updated_at)
            is not distinct from
           (old.id, old.organization_id, old.customer_name, old.customer_email, old.status, old.priority,
              old.assignee_id, old.created_at, old.updated_at) then
          return null;
        end if;
        if new.id <> old.id then
          delete from plpgsql.realtime_conversations where id = old.id;
        end if;
      elsif tg_op = 'DELETE' then
        delete from plpgsql.realtime_conversations where id = old.id;
        return null;
      end if;
      insert into plpgsql.realtime_conversations (id, organization_id, customer_name, customer_email, status, priority,
        assignee_id, created_at, updated_at)
      values (new.id, new.organization_id, new.customer_name, new.customer_email, new.status::text, new.priority::text,
        new.assignee_id, new.created_at, new.updated_at)
      on conflict (id) do update set organization_id = excluded.organization_id, customer_name = excluded.customer_name,
        customer_email = excluded.customer_email, status = excluded.status, priority = excluded.priority,
        assignee_id = excluded.assignee_id, created_at = excluded.created_at, updated_at = excluded.updated_at;
      return null;
    end $$;
    create trigger sync after insert or update or delete on plpgsql.conversations
      for each row execute function plpgsql.sync();
    alter table plpgsql.conversations disable trigger sync_realtime_conversations_trigger;
    alter table bare.conversations disable trigger sync_realtime_conversations_trigger;";

/// What the application does.
#[derive(Clone, Copy)]
enum Operation {
    Insert,
    Update,
    /// Changes a column that the mirror does not have.
    NoOp,
}

impl Operation {
    const ALL: [Self; 3] = [Self::Insert, Self::Update, Self::NoOp];

    fn name(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::NoOp => "no-op update",
        }
    }

    fn assignment(self, schema: &str) -> String {
        match self {
            Self::NoOp => "metadata = '{\"page\": 1}'".to_owned(),
            _ => format!(
                "status = (case status when 'open' then 'pending' else 'open' end)::{schema}.conversation_status"
            ),
        }
    }

    /// One row, by its id.
    fn statement(self, schema: &str) -> String {
        match self {
            Self::Insert => format!(
                "insert into {schema}.conversations (id, organization_id, customer_name, customer_email)
                 select $1, id, 'Vera Visitor', 'vera@example.com' from {schema}.organizations"
            ),
            _ => format!("update {schema}.conversations set {} where id = $1", self.assignment(schema)),
        }
    }

    /// Many rows, timed by the server.
    fn statement_of_many(self, schema: &str) -> String {
        let statement = match self {
            Self::Insert => format!(
                "insert into {schema}.conversations (organization_id, customer_name, customer_email)
                 select id, 'Vera Visitor', 'vera@example.com'
                 from {schema}.organizations, generate_series(1, {ROWS})"
            ),
            _ => format!(
                "update {schema}.conversations set {} where id in (select id from {schema}.conversations limit {ROWS})",
                self.assignment(schema)
            ),
        };
        format!("explain (analyze, timing off, format json) {statement}")
    }
}

/// Microseconds a row, of one operation on one installation.
#[derive(Default)]
struct Times {
    round_trip: Vec<f64>,
    server: Vec<f64>,
}

/// Runs the scenario once.
pub(super) async fn measure() -> Result<Value> {
    let cluster = Cluster::boot()?;
    let database = campfire_tests::cluster::connect(&cluster.superuser_url(seed::DATABASE)).await?;
    for schema in SCHEMAS {
        let install = format!(
            "create schema {schema}; select campfire.install('{schema}');
             insert into {schema}.organizations (name) values ('A');"
        );
        database.batch_execute(&install).await?;
    }
    database.batch_execute(PLPGSQL).await?;

    step::announce(&format!(
        "{ROUNDS} rounds of {STATEMENTS} statements and one of {ROWS} rows, three installations"
    ));
    let mut statements = Vec::new();
    for operation in Operation::ALL {
        for schema in SCHEMAS {
            statements.push(database.prepare(&operation.statement(schema)).await?);
        }
    }
    let mut times: Vec<Times> = statements.iter().map(|_| Times::default()).collect();
    for round in 0..ROUNDS {
        // Whoever goes first meets colder caches: everybody does, in turn.
        for turn in 0..SCHEMAS.len() {
            let which = (round + turn) % SCHEMAS.len();
            let ids: Vec<Uuid> = (0..STATEMENTS).map(|_| Uuid::new_v4()).collect();
            for (index, operation) in Operation::ALL.into_iter().enumerate() {
                let cell = index * SCHEMAS.len() + which;
                run(&database, &statements[cell], &ids, &mut times[cell].round_trip).await?;
                let many = operation.statement_of_many(SCHEMAS[which]);
                times[cell].server.push(execution(&database, &many).await? / ROWS as f64);
            }
        }
        // A table that only grows would measure its growth.
        for schema in SCHEMAS {
            let shrink =
                format!("truncate {schema}.conversations cascade; truncate {schema}.realtime_conversations");
            database.batch_execute(&shrink).await?;
        }
    }

    let mut result = Map::from_iter([("scenario".to_owned(), json!("trigger"))]);
    for (index, operation) in Operation::ALL.into_iter().enumerate() {
        let cells = &mut times[index * SCHEMAS.len()..(index + 1) * SCHEMAS.len()];
        for (way, pick) in [
            ("round trip", (|times: &mut Times| median(&mut times.round_trip)) as fn(&mut Times) -> f64),
            ("server", |times| median(&mut times.server)),
        ] {
            let [bare, ours, plpgsql] = [0, 1, 2].map(|which| pick(&mut cells[which]));
            let name = operation.name();
            result.insert(format!("{name}, {way}: floor, us"), rounded(bare));
            result.insert(format!("{name}, {way}: ours adds, us"), rounded(ours - bare));
            result.insert(format!("{name}, {way}: PL/pgSQL adds, us"), rounded(plpgsql - bare));
            result
                .insert(format!("{name}, {way}: ours / PL/pgSQL"), rounded((ours - bare) / (plpgsql - bare)));
            result.insert(format!("{name}, {way}: with ours / floor"), rounded(ours / bare));
        }
    }
    Ok(Value::Object(result))
}

/// One statement for each id; notes how long each took the client.
async fn run(database: &Client, statement: &Statement, ids: &[Uuid], times: &mut Vec<f64>) -> Result<()> {
    for id in ids {
        let began = Instant::now();
        database.execute(statement, &[id]).await?;
        times.push(began.elapsed().as_secs_f64() * 1e6);
    }
    Ok(())
}

/// How many microseconds the server took, triggers included.
async fn execution(database: &Client, statement: &str) -> Result<f64> {
    let plan: Value = database.query_one(statement, &[]).await?.get(0);
    let milliseconds = plan[0]["Execution Time"].as_f64().context("EXPLAIN ANALYZE tells the time")?;
    Ok(milliseconds * 1e3)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn rounded(value: f64) -> Value {
    json!((value * 100.0).round() / 100.0)
}
