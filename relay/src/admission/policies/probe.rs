//! Tries in one transaction what a credential may do, and takes everything back.

use std::time::Duration;

use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::Findings;
use super::failure::{Failure, Step, is_denial};
use super::question::Question;
use crate::auth::{Grants, Role};
use crate::sql::{self, Lease, Mode};

/// Whose policies decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Table {
    /// Of schema `realtime`, if that is installed.
    Messages,
    /// The extension's own otherwise.
    PrivateChannels,
}

impl Table {
    fn name(self) -> &'static str {
        match self {
            Self::Messages => "realtime.messages",
            Self::PrivateChannels => "campfire.private_channels",
        }
    }

    /// The function that writes the rows to look for, as the table's owner, whom no policy binds.
    fn probe(self) -> &'static str {
        match self {
            Self::Messages => "campfire.realtime_probe",
            Self::PrivateChannels => "campfire.private_channels_probe",
        }
    }
}

const BROADCAST: &str = "broadcast";
const PRESENCE: &str = "presence";

/// What was found, and what failed on the way.
#[derive(Debug)]
pub(super) struct Probed {
    grants: Grants,
    pub(super) write_failure: Option<Failure>,
}

impl Probed {
    pub(super) fn findings(self) -> Findings {
        let write_failed = self.write_failure.and_then(Failure::into_cause);
        Findings { grants: self.grants, write_failed }
    }
}

pub(super) async fn probe(session: Lease, question: &Question, timeout: Duration) -> Result<Probed, Failure> {
    let at = |step| move |error: tokio_postgres::Error| Failure::of(step, &error);
    // A statement ends before its join does, so that the session can be used again.
    sql::begin(&session, Mode::ReadWrite, timeout * 4 / 5).await.map_err(at(Step::Become))?;
    let answer = try_all(&session, question).await;
    // Nothing of it may become visible or be replicated.
    session.batch_execute("rollback").await.map_err(at(Step::Become))?;
    session.give_back();
    answer
}

async fn try_all(client: &Client, question: &Question) -> Result<Probed, Failure> {
    let at = |step| move |error: tokio_postgres::Error| Failure::of(step, &error);
    let table = client.query_one("select campfire.policies_table() = 'realtime.messages'", &[]).await;
    let is_messages = table.and_then(|row| row.try_get(0)).map_err(at(Step::Require))?;
    let table = if is_messages { Table::Messages } else { Table::PrivateChannels };
    if table == Table::PrivateChannels && question.role() == Role::ServiceRole {
        // By a policy of install_supabase_api() elsewhere. Here there can be none: see sql/private_channels.sql.
        return Ok(Probed { grants: Grants::ALL, write_failure: None });
    }
    let probes = client
        .query(
            &format!("select extension, id from {}($1, $2)", table.probe()),
            &[&question.topic, &[BROADCAST, PRESENCE].as_slice()],
        )
        .await
        .map_err(at(if is_messages { Step::Probe } else { Step::Require }))?;
    let pair = |row: &Row| Ok((row.try_get(0)?, row.try_get(1)?));
    let probes: Vec<(String, Uuid)> =
        probes.iter().map(pair).collect::<Result<_, _>>().map_err(at(Step::Probe))?;
    let settings = [("realtime.topic", &*question.topic), ("request.headers", &*question.headers)];
    let became = sql::become_caller(client, &question.credential, &settings).await;
    became.map_err(at(Step::Become))?;
    let (may_select, may_insert) = table_grants(client, table).await.map_err(at(Step::Become))?;
    let ids: Vec<Uuid> = probes.iter().map(|(_, id)| *id).collect();
    let look = format!("select id from {} where id = any($1)", table.name());
    let visible = client.query(&look, &[&ids]).await;
    let read = Step::Read { granted: may_select };
    let visible: Vec<Uuid> = match visible {
        Ok(rows) => rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().map_err(at(read))?,
        // The role may not select at all: as good as no policy.
        Err(error) if is_denial(read, &error) => {
            return Ok(Probed { grants: Grants::default(), write_failure: None });
        }
        Err(error) => return Err(Failure::of(read, &error)),
    };
    let reads =
        |extension: &str| probes.iter().any(|(probed, id)| probed == extension && visible.contains(id));
    let (read_broadcast, read_presence) = (reads(BROADCAST), reads(PRESENCE));
    let mut write_failure = None;
    let mut writes = async |extension| {
        let write = Step::Write { granted: may_insert };
        match try_to_write(client, table, &question.topic, extension).await.map_err(at(write))? {
            Ok(_) => Ok(true),
            Err(error) if is_denial(write, &error) => Ok(false),
            Err(error) => {
                let failure = Failure::of(write, &error);
                if !failure.is_of_policy() {
                    return Err(failure);
                }
                write_failure = Some(failure);
                Ok(false)
            }
        }
    };
    let (write_broadcast, write_presence) = (writes(BROADCAST).await?, writes(PRESENCE).await?);
    let grants = Grants { read_broadcast, read_presence, write_broadcast, write_presence };
    Ok(Probed { grants, write_failure })
}

/// Whether the caller may select from the table and insert into it, whatever its policies say. By these a missing grant
/// on the table, which is a no, is told from one on a table that a policy reads, which is a policy that fails.
async fn table_grants(client: &Client, table: Table) -> Result<(bool, bool), tokio_postgres::Error> {
    let grants = "select has_schema_privilege(n.oid, 'usage') and has_any_column_privilege(c.oid, 'select'),
                         has_schema_privilege(n.oid, 'usage') and has_any_column_privilege(c.oid, 'insert')
                  from pg_catalog.pg_class as c join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
                  where n.nspname || '.' || c.relname = $1";
    let row = client.query_one(grants, &[&table.name()]).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

/// Without RETURNING, which would need the right to read.
async fn try_to_write(
    client: &Client,
    table: Table,
    topic: &str,
    extension: &str,
) -> Result<Result<u64, tokio_postgres::Error>, tokio_postgres::Error> {
    client.batch_execute("savepoint write").await?;
    let insert = format!(
        "insert into {} (topic, extension, inserted_at, updated_at) values ($1, $2, now(), now())",
        table.name()
    );
    let outcome = client.execute(&insert, &[&topic, &extension]).await;
    client.batch_execute("rollback to savepoint write").await?;
    Ok(outcome)
}
