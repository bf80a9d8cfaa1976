//! What the policies ask: claims, and whether the caller is an agent.

use std::borrow::Cow;

use pgrx::PgRelation;
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;

use crate::cache::RelationCache;
use crate::claims;
use crate::error::Error;
use crate::spi::{Access, Plan, as_owner, qualified_name};

/// Nothing of the owner's may outlast the call: a type of the owner's comes with casts of the owner's.
const RESTRICTIONS: u32 = pg_sys::SECURITY_LOCAL_USERID_CHANGE | pg_sys::SECURITY_RESTRICTED_OPERATION;

thread_local! {
    static AGENTS: RelationCache<Agents> = RelationCache::new();
}

/// What no token has for its claims: it travels in headers and in joins.
const CLAIMS_BYTES_MAX: usize = 1 << 20;

/// The text or integer at a dot separated path of a JSON document. In Rust because Postgres 15 can only try a document, which
/// costs a subtransaction a query: malformed claims must be no rows, not an error. Any role may ask, with any document:
/// one that is too long for claims is malformed, and what is not on the path is checked and never kept.
#[pg_extern(sql = r#"
create function campfire.claim_from_json(document text, path text) returns text
language c immutable strict parallel safe
as '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
"#)]
fn claim_from_json(document: &str, path: &str) -> Option<String> {
    pgrx::check_for_interrupts!();
    if document.len() > CLAIMS_BYTES_MAX {
        return None;
    }
    claims::text_at(document, path).map(Cow::into_owned)
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
        Ok(as_owner(agents.owner, RESTRICTIONS, || agents.find.execute(&[], Access::ReadOnly)))
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
