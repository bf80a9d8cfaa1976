//! The installations of the chat tables, and what the extension finds wrong with them and with everything else that is
//! published. Whatever has become of one of them must not keep the relay from serving the others.

use tokio_postgres::{Client, Row, Transaction};
use tracing::warn;
use uuid::Uuid;

use super::columns::line;
use super::error::SqlError;
use crate::postgres::quote_identifier;

/// A schema made by `campfire.install()`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    pub schema: String,
    /// Its table of agents, by oid; None where it is not fit to decide who is one: gone, or its changes would not come.
    pub agents: Option<u32>,
    /// When it was made, as Postgres writes it: one of the same name may have been there before.
    pub made_at: String,
    /// Whether agents' names are published.
    has_names: bool,
}

/// Organization, user, whether active, and the name that others see.
pub(super) struct Agent {
    pub organization: Uuid,
    pub user: Uuid,
    pub active: bool,
    pub display_name: Option<String>,
}

/// All installations, as the control publication carries their agents.
pub async fn installations(sql: &Client, control: &str) -> Result<Vec<Installation>, SqlError> {
    // What may not be read is not fit either. In an inner CASE, because asking for a column that is not there is an error.
    let query = "select i.schema_name::text,
             case when r.prqual is null and t.published @> '{organization_id,user_id,active}' then
                 case when pg_catalog.has_schema_privilege(n.oid, 'usage') and (
                     select bool_and(pg_catalog.has_column_privilege(t.relation, c, 'select'))
                     from unnest('{organization_id,user_id,active}'::text[]) as c) then t.relation::oid end end,
             i.installed_at::text,
             -- Null if the table is dropped while this is asked.
             coalesce(case when t.published @> '{display_name}'
                 then pg_catalog.has_column_privilege(t.relation, 'display_name', 'select') end, false)
         from campfire.installations as i
         left join pg_catalog.pg_namespace as n on n.nspname = i.schema_name
         left join campfire.standard_tables($1::text::name, true) as t
             on t.qualified = pg_catalog.format('%I.%I', i.schema_name, 'agents')
         left join pg_catalog.pg_publication as p on p.pubname = $1::text::name
         left join pg_catalog.pg_publication_rel as r on r.prpubid = p.oid and r.prrelid = t.relation
         order by 1";
    let rows = sql.query(query, &[&control]).await?;
    let installation = |row: &Row| {
        Ok(Installation {
            schema: row.try_get(0)?,
            agents: row.try_get(1)?,
            made_at: row.try_get(2)?,
            has_names: row.try_get(3)?,
        })
    };
    rows.iter().map(installation).collect()
}

impl Installation {
    /// Its agents, if they can be read. A user that is not read is no agent: access is never a guess.
    pub(super) async fn read_agents(
        &self,
        transaction: &mut Transaction<'_>,
    ) -> Result<Vec<Agent>, SqlError> {
        if self.agents.is_none() {
            warn!(
                schema = self.schema,
                "nobody is an agent of this installation: its table agents is missing, or not published as needed"
            );
            return Ok(Vec::new());
        }
        let display_name = if self.has_names { "display_name" } else { "null::text" };
        let query = format!(
            "select organization_id, user_id, active, {display_name} from {}.agents",
            quote_identifier(&self.schema)
        );
        // An error ends only this.
        let savepoint = transaction.savepoint("agents").await?;
        let rows = match savepoint.query(&query, &[]).await {
            Ok(rows) => rows,
            Err(error) if error.as_db_error().is_some() && !savepoint.client().is_closed() => {
                savepoint.rollback().await?;
                let error = SqlError::from(error);
                warn!(schema = self.schema, %error, "nobody is an agent of this installation: its table agents cannot be read");
                return Ok(Vec::new());
            }
            Err(error) => return Err(error.into()),
        };
        savepoint.commit().await?;
        let agent = |row: &Row| {
            Ok(Agent {
                organization: row.try_get(0)?,
                user: row.try_get(1)?,
                active: row.try_get(2)?,
                display_name: row.try_get(3)?,
            })
        };
        // Columns of other types are not those of campfire.
        match rows.iter().map(agent).collect::<Result<_, tokio_postgres::Error>>() {
            Ok(agents) => Ok(agents),
            Err(error) => {
                warn!(schema = self.schema, %error, "nobody is an agent of this installation: its table agents cannot be read");
                Ok(Vec::new())
            }
        }
    }
}

/// What `campfire.check_publication()` says of these publications: each problem, and SQL that mends it.
pub async fn problems(sql: &Client, publications: &[String]) -> Result<Vec<(String, String)>, SqlError> {
    // It looks at partitions, and would wait for a transaction that alters one.
    let bound = "select pg_catalog.set_config('statement_timeout', '5s', false)";
    let unbound = "reset statement_timeout";
    sql.execute(bound, &[]).await?;
    let query = "select distinct problem, fix from unnest($1::text[]) as p (name)
         cross join lateral campfire.check_publication(p.name::name) where problem is not null order by 1";
    let rows = sql.query(query, &[&publications]).await?;
    sql.batch_execute(unbound).await?;
    rows.iter().map(|row| Ok((line(row, 0)?, line(row, 1)?))).collect()
}
