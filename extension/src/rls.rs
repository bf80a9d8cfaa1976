//! What the policies ask: claims, and whether the caller is an agent.

use pgrx::PgRelation;
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;
use serde_json::Value;

use crate::cache::RelationCache;
use crate::error::Error;
use crate::spi::{Access, Plan, as_owner, qualified_name};

thread_local! {
    static AGENTS: RelationCache<Agents> = RelationCache::new();
}

/// The text at a dot separated path of a JSON document. In Rust because Postgres 15 can only try a document, which
/// costs a subtransaction a query: malformed claims must be no rows, not an error.
#[pg_extern(sql = r#"
create function campfire.claim_from_json(document text, path text) returns text
language c immutable strict parallel safe
as '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
"#)]
fn claim_from_json(document: &str, path: &str) -> Option<String> {
    let document: Value = serde_json::from_str(document).ok()?;
    let found = path.split('.').try_fold(&document, |value, name| value.as_object()?.get(name))?;
    // Postgres has no text with a NUL in it.
    found.as_str().filter(|text| !text.contains('\0')).map(str::to_owned)
}

/// Whether the claimed subject is an active agent of the claimed organization by this table of agents, read as the
/// owner of the table. 42809 for anything but a table: a view could run code.
#[pg_extern(sql = r#"
create function campfire.is_agent(agents regclass) returns boolean
language c stable strict parallel restricted security definer set search_path = pg_catalog, pg_temp
as '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
"#)]
fn is_agent(agents: Oid) -> bool {
    let found = Spi::connect(|_| -> Result<u64, Error> {
        let agents = AGENTS.with(|known| known.get(agents, |_| Agents::load(agents)))?;
        Ok(as_owner(agents.owner, pg_sys::SECURITY_LOCAL_USERID_CHANGE, || {
            agents.find.execute(&[], Access::ReadOnly)
        }))
    });
    found.map_err(ErrorReport::from).unwrap_or_report() > 0
}

struct Agents {
    owner: Oid,
    find: Plan,
}

impl Agents {
    /// Inside `Spi::connect`.
    fn load(agents: Oid) -> Result<Self, Error> {
        // SAFETY: the lock is one that reading takes anyway; a missing relation is raised as a Postgres error.
        let relation = unsafe { PgRelation::with_lock(agents, pg_sys::AccessShareLock as i32) };
        let table = qualified_name(agents).expect("the relation is open");
        if !(relation.is_table() || relation.is_partitioned_table()) {
            return Err(Error::NotATable { relation: table });
        }
        // SAFETY: the relation is open.
        let owner = unsafe { (*relation.rd_rel).relowner };
        let find = Plan::prepare(
            &format!(
                "select from {table} as a
                 where a.organization_id = campfire.claim_organization() and a.user_id = campfire.claim_subject()
                   and a.active"
            ),
            &[],
        );
        Ok(Self { owner, find })
    }
}
