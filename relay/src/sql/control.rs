//! Control state and whatever else the relay must know of the database before and while it streams.

use tokio_postgres::{Client, IsolationLevel, Row};
use tracing::warn;
use uuid::Uuid;

use super::columns::{line, pairs};
use super::error::SqlError;
use super::installations::{Installation, installations};
use crate::auth::ClaimPaths;
use crate::decode::Domains;
use crate::postgres::{PostgresError, Snapshot};
use crate::route::{MessageKeys, Operation, Route, Template};

/// Refuses a user without the rights of campfire_relay. Where there is no such role, what comes next says more.
pub async fn check_role(sql: &Client) -> Result<(), SqlError> {
    let query = "select session_user::text, pg_catalog.quote_ident(session_user),
                        pg_catalog.pg_has_role(session_user, oid, 'MEMBER'), pg_catalog.pg_has_role(session_user, oid, 'USAGE')
                 from pg_catalog.pg_roles where rolname = 'campfire_relay'";
    let Some(row) = sql.query_opt(query, &[]).await? else { return Ok(()) };
    let (user, quoted): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    match (row.try_get(2)?, row.try_get(3)?) {
        (_, true) => Ok(()),
        (true, false) => Err(SqlError::NotRelayRole {
            user,
            problem: "is a member of campfire_relay and does not inherit its rights",
            fix: format!(
                "alter role {quoted} inherit; revoke campfire_relay from {quoted}; grant campfire_relay to {quoted};"
            ),
        }),
        (false, false) => Err(SqlError::NotRelayRole {
            user,
            problem: "is no member of campfire_relay",
            fix: format!("grant campfire_relay to {quoted};"),
        }),
    }
}

/// Refuses publications that are missing, or carry what clients must not see; the extension judges. What is wrong with
/// single tables stops nobody: see [`problems`].
pub async fn check_publications(sql: &Client, publications: &[String]) -> Result<(), SqlError> {
    for publication in publications {
        let query = "select problem, fix,
                 exists (select from campfire.managed_publications), exists (select from pg_catalog.pg_publication
                     where pubname = $1::text::name)
             from campfire.publication_refusal($1::text::name)";
        if let Some(row) = sql.query(query, &[publication]).await?.first() {
            let (is_anything_managed, exists): (bool, bool) = (row.try_get(2)?, row.try_get(3)?);
            if !is_anything_managed && !exists {
                return Err(SqlError::NothingPublished);
            }
            return Err(SqlError::UnfitPublication {
                publication: publication.clone(),
                problem: line(row, 0)?,
                fix: line(row, 1)?,
            });
        }
    }
    Ok(())
}

/// The state that decides who may join and what goes where, as one snapshot shows it.
#[derive(Debug)]
pub struct Control {
    /// What the rest is seen by.
    pub snapshot: Snapshot,
    pub installations: Vec<Installation>,
    pub routes: Vec<Route>,
    /// (organization, user, active)
    pub agents: Vec<(Uuid, Uuid, bool)>,
    /// (organization, user, display name)
    pub agent_names: Vec<(Uuid, Uuid, String)>,
    pub claim_paths: ClaimPaths,
    pub domains: Domains,
}

impl Control {
    /// Schemas made by `campfire.install()`.
    pub fn schemas(&self) -> Vec<String> {
        self.installations.iter().map(|installation| installation.schema.clone()).collect()
    }
}

/// Reads control state under one snapshot; agents as far as the control publication carries them.
pub async fn load_control(sql: &mut Client, control_publication: &str) -> Result<Control, SqlError> {
    let mut transaction = sql
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await?;
    let snapshot = transaction.query_one("select pg_catalog.pg_current_snapshot()::text", &[]).await?;
    let snapshot = parse_snapshot(snapshot.try_get(0)?)?;
    let (routes, unusable) = routes(transaction.client()).await?;
    for problem in unusable {
        warn!(problem, "route is unusable and is left out");
    }
    let installations = installations(transaction.client(), control_publication).await?;
    let (mut agents, mut agent_names) = (Vec::new(), Vec::new());
    for installation in &installations {
        for agent in installation.read_agents(&mut transaction).await? {
            agents.push((agent.organization, agent.user, agent.active));
            agent_names.extend(agent.display_name.map(|name| (agent.organization, agent.user, name)));
        }
    }
    let mut claim_paths = ClaimPaths::default();
    for row in transaction.query("select name::text, value from campfire.settings", &[]).await? {
        match row.try_get(0)? {
            "claim_organization" => claim_paths.organization = row.try_get(1)?,
            "claim_conversation" => claim_paths.conversation = row.try_get(1)?,
            _ => {}
        }
    }
    let domains = domains(transaction.client()).await?;
    transaction.commit().await?;
    Ok(Control { snapshot, installations, routes, agents, agent_names, claim_paths, domains })
}

/// The routes that are enabled, and what is wrong with those that mean nothing to this version.
pub(super) async fn routes(sql: &Client) -> Result<(Vec<Route>, Vec<String>), SqlError> {
    let query = "select id, schema_name::text, table_name::text, operation, on_move, channel, event,
                        columns::text[], when_changed::text[], relation::oid, public, snapshot_by::text, gate
                 from campfire.routes where enabled order by id";
    let (mut routes, mut unusable) = (Vec::new(), Vec::new());
    for row in sql.query(query, &[]).await? {
        match route(&row)? {
            Ok(route) => routes.push(route),
            Err(problem) => unusable.push(problem),
        }
    }
    Ok((routes, unusable))
}

pub(super) fn parse_snapshot(text: &str) -> Result<Snapshot, SqlError> {
    text.parse().map_err(|_| bad_answer())
}

pub(super) fn bad_answer() -> SqlError {
    PostgresError::Protocol("the answer to a query is not what it should be".to_owned()).into()
}

/// Every domain and the type it comes down to: the stream names a column's domain, and only the catalog says that it
/// is, say, an integer.
pub async fn domains(sql: &Client) -> Result<Domains, SqlError> {
    let query = "with recursive step (domain, base) as (
             select oid, typbasetype from pg_catalog.pg_type where typtype = 'd'
             union all
             select step.domain, pg_type.typbasetype
             from step join pg_catalog.pg_type on pg_type.oid = step.base where pg_type.typtype = 'd')
         select step.domain, step.base
         from step join pg_catalog.pg_type on pg_type.oid = step.base where pg_type.typtype <> 'd'";
    let rows = sql.query(query, &[]).await?;
    Ok(Domains::new(pairs(&rows)?))
}

/// The keys under which the extension signs its messages.
pub async fn message_keys(sql: &Client, database_oid: u32) -> Result<MessageKeys, SqlError> {
    let rows = sql.query("select id::bigint, key from campfire.broadcast_keys", &[]).await?;
    Ok(MessageKeys::new(database_oid, pairs(&rows)?))
}

/// Tells the database whether public channels can be joined, so that it can warn SQL that sends to one. The slot has to
/// be registered.
pub async fn tell_public_channels(sql: &Client, slot_name: &str, are_allowed: bool) -> Result<(), SqlError> {
    // A synchronous standby that is away must not keep the relay from its stream.
    let tell = "with waiting as materialized (select set_config('synchronous_commit', 'local', true))
                update campfire.slots as s set public_channels = $2 from waiting
                where s.slot_name = $1::text and s.public_channels is distinct from $2";
    sql.execute(tell, &[&slot_name, &are_allowed]).await?;
    Ok(())
}

/// What keeps schema `realtime` from working, and SQL that mends it.
#[derive(Debug)]
pub struct SupabaseProblem {
    pub problem: String,
    pub fix: String,
}

/// Has partitions of `realtime.messages` made and dropped, if the database has that schema, and says what is wrong with
/// it. After an error the session is of no use any more.
pub async fn maintain_supabase_api(sql: &Client) -> Result<Vec<SupabaseProblem>, SqlError> {
    // Somebody's lock must not keep the caller from its other work.
    let maintain = "begin; set local lock_timeout = '5s'; set local statement_timeout = '60s';
         select campfire.maintain_supabase_api(); commit";
    sql.batch_execute(maintain).await?;
    let problems = sql.query("select problem, fix from campfire.check_supabase_api()", &[]).await?;
    Ok(pairs(&problems)?.into_iter().map(|(problem, fix)| SupabaseProblem { problem, fix }).collect())
}

/// The route, or what is wrong with it.
fn route(row: &Row) -> Result<Result<Route, String>, tokio_postgres::Error> {
    let id = row.try_get(0)?;
    let (operation, channel): (&str, &str) = (row.try_get(3)?, row.try_get(5)?);
    let unusable = |problem: String| Ok(Err(format!("route {id}: {problem}")));
    let Some(operation) = Operation::parse(operation) else {
        return unusable(format!("unknown operation {operation:?}"));
    };
    let channel = match Template::parse(channel) {
        Ok(channel) => channel,
        Err(error) => return unusable(error.to_string()),
    };
    Ok(Ok(Route {
        id,
        schema: row.try_get(1)?,
        table: row.try_get(2)?,
        relation: row.try_get(9)?,
        operation,
        on_move: row.try_get(4)?,
        channel,
        event: row.try_get(6)?,
        columns: row.try_get(7)?,
        when_changed: row.try_get(8)?,
        public: row.try_get(10)?,
        snapshot_by: row.try_get(11)?,
        gate: row.try_get(12)?,
    }))
}
