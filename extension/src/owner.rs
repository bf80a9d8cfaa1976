//! What the owner of a table may do with it, though the registries belong to the extension.
//!
//! Functions here are not SECURITY DEFINER: they look at who calls, which a definer's function cannot see, and only then
//! change role. Statements on the table run as its owner even for a superuser, because expressions, policies and
//! triggers on the way are the owner's. Hazard: what they leave behind for the end of the transaction (a deferred trigger,
//! a cursor, a temporary table) would run as the caller; so for a caller who is not the owner they can leave nothing.

use std::ffi::CStr;

use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::panic::{CaughtError, ErrorReport, ErrorReportable};
use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;
use pgrx::{JsonB, PgRelation, PgTryBuilder};

use crate::error::Error;
use crate::spi::{as_owner, qualified_name};

const RESTRICTIONS: u32 = pg_sys::SECURITY_LOCAL_USERID_CHANGE;

/// A table whose owner, or a member of that role, is calling.
pub(crate) struct Source {
    pub(crate) relation: Oid,
    owner: Oid,
    /// Not the owner but a superuser, or a member of that role.
    is_for_another: bool,
}

impl Source {
    /// Locks the table for reading. 42501 for all others, 42P01 if it is gone.
    pub(crate) fn owned_by_caller(relation: Oid) -> Self {
        // SAFETY: the lock is one that reading takes anyway; a missing relation is raised as a Postgres error.
        let opened = unsafe { PgRelation::with_lock(relation, pg_sys::AccessShareLock as i32) };
        // SAFETY: the relation is open; the rest reads variables and the catalog.
        let (owner, caller, is_allowed) = unsafe {
            let (owner, caller) = ((*opened.rd_rel).relowner, pg_sys::GetUserId());
            (owner, caller, pg_sys::has_privs_of_role(caller, owner))
        };
        if !is_allowed {
            let table = qualified_name(relation).expect("the relation is open");
            Err::<(), _>(ErrorReport::from(Error::NotOwner { table })).unwrap_or_report();
        }
        Self { relation, owner, is_for_another: caller != owner }
    }

    /// As the owner, with nothing that could outlast the call.
    pub(crate) fn restricted<R>(&self, work: impl FnOnce() -> R) -> R {
        as_owner(self.owner, RESTRICTIONS | pg_sys::SECURITY_RESTRICTED_OPERATION, work)
    }

    /// Rows of one column of type jsonb. A forced row security is an error here, never a row less. A deferred trigger of
    /// the owner's is queued for the owner alone, and an error for others: it would run as them when they commit.
    fn query(&self, statement: &str) -> Vec<JsonB> {
        let settings = [(c"search_path", c"pg_catalog, pg_temp"), (c"row_security", c"off")];
        let run = || {
            with_settings(&settings, || {
                Spi::connect_mut(|client| {
                    let rows = client.update(statement, None, &[]).unwrap_or_report();
                    rows.filter_map(|row| row.get::<JsonB>(1).unwrap_or_report()).collect()
                })
            })
        };
        if !self.is_for_another {
            return as_owner(self.owner, RESTRICTIONS, run);
        }
        PgTryBuilder::new(std::panic::AssertUnwindSafe(|| self.restricted(run)))
            .catch_when(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, |error| match error {
                CaughtError::PostgresError(report) if report.hint().is_none() => {
                    let report = ErrorReport::new(
                        PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
                        report.message().to_owned(),
                        "campfire",
                    );
                    Err(report.set_hint(self.advice())).unwrap_or_report()
                }
                other => other.rethrow(),
            })
            .execute()
    }

    /// How to be the owner oneself.
    fn advice(&self) -> String {
        // SAFETY: the name is allocated in the current context; null for a role that is gone.
        let owner = unsafe {
            let name = pg_sys::GetUserNameFromId(self.owner, true);
            if name.is_null() { "...".into() } else { CStr::from_ptr(name).to_string_lossy() }
        };
        let owner = pgrx::spi::quote_identifier(&*owner);
        format!(
            "It ran as the owner of the table, for another role. To run it as that role: set role {owner};"
        )
    }
}

/// Runs one statement as the owner of a table, for the owner of the table: rows of one column of type jsonb.
#[pg_extern(sql = r#"
create function campfire.query_as_owner(source regclass, statement text) returns setof jsonb
language c volatile strict
as '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
"#)]
fn query_as_owner(source: Oid, statement: &str) -> SetOfIterator<'static, JsonB> {
    SetOfIterator::new(Source::owned_by_caller(source).query(statement))
}

/// Makes mirror, registration and triggers, for the owner of the source who may also create in its schema.
#[pg_extern(sql = r#"
create function campfire.start_projection(source regclass, items text[]) returns void
language c volatile
as '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
"#)]
fn start_projection(source: Option<Oid>, items: Option<Vec<String>>) {
    let Some(source) = source else {
        Err::<(), _>(ErrorReport::from(Error::NullArgument { function: "create_projection()" }))
            .unwrap_or_report();
        return;
    };
    let source = Source::owned_by_caller(source);
    // SAFETY: look-ups by oid.
    let (schema, may_create) = unsafe {
        let schema = pg_sys::get_rel_namespace(source.relation);
        (schema, may_create_in(schema))
    };
    if !may_create {
        // SAFETY: the schema of a locked relation exists; the name is allocated in the current context.
        let schema = unsafe { CStr::from_ptr(pg_sys::get_namespace_name(schema)) };
        let schema = pgrx::spi::quote_identifier(&*schema.to_string_lossy());
        // SAFETY: the role is the one that is running; the name is allocated in the current context.
        let role = unsafe { CStr::from_ptr(pg_sys::GetUserNameFromId(pg_sys::GetUserId(), false)) };
        let role = pgrx::spi::quote_identifier(&*role.to_string_lossy());
        Err::<(), _>(ErrorReport::from(Error::MayNotCreate { schema, role })).unwrap_or_report();
    }
    let columns = items_of(&source, items.clone());
    as_extension(
        "select campfire.make_projection($1, $2, $3)",
        &[source.relation.into(), columns.into(), items.is_none().into()],
    );
}

/// Gives the mirror of a projection other columns, for the owner of the source.
#[pg_extern(sql = r#"
create function campfire.change_projection(source regclass, items text[]) returns void
language c volatile strict
as '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
"#)]
fn change_projection(source: Oid, items: Vec<String>) {
    let source = Source::owned_by_caller(source);
    let columns = items_of(&source, Some(items));
    as_extension("select campfire.remake_projection($1, $2)", &[source.relation.into(), columns.into()]);
}

/// What `campfire.projection_columns` reads in items, by the caller's search_path: an array of objects. The default for
/// `None`.
fn items_of(source: &Source, items: Option<Vec<String>>) -> JsonB {
    let columns: Vec<JsonB> = Spi::connect_mut(|client| {
        let rows = client
            .update(
                // A type by its oid: its name depends on the search_path.
                "select pg_catalog.jsonb_build_object('column_name', c.column_name, 'definition', c.definition, \
                   'type', c.type::pg_catalog.oid, 'collation_id', c.collation_id) \
                 from campfire.projection_columns($1, coalesce($2, campfire.default_projection($1))) as c",
                None,
                &[source.relation.into(), items.into()],
            )
            .unwrap_or_report();
        rows.filter_map(|row| row.get::<JsonB>(1).unwrap_or_report()).collect()
    });
    JsonB(columns.into_iter().map(|column| column.0).collect())
}

/// Carries the next rows of the source to its mirror and says how many; 0 if all are there.
#[pg_extern(sql = r#"
create function campfire.backfill_batch(source regclass, batch_rows integer) returns bigint
language c volatile strict
as '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
"#)]
fn backfill_batch(source: Oid, batch_rows: i32) -> i64 {
    let source = Source::owned_by_caller(source);
    let statement = as_extension(
        "select campfire.backfill_statement($1, $2)",
        &[source.relation.into(), batch_rows.into()],
    );
    let Some(JsonB(serde_json::Value::String(statement))) = statement else {
        return 0;
    };
    let carried = source.query(&statement).pop().expect("the statement ends in an aggregate");
    let rows = carried.0["rows"].as_i64().expect("a count");
    as_extension("select campfire.note_backfill($1, $2)", &[source.relation.into(), carried.into()]);
    rows
}

/// Brings mirror, registration and triggers into order, not the rows; after those were mended, notes it.
#[pg_extern(sql = r#"
create function campfire.mend_projection(source regclass, rows_too boolean default false) returns void
language c volatile strict
as '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
"#)]
fn mend_projection(source: Oid, rows_too: bool) {
    let source = Source::owned_by_caller(source);
    let arguments = [source.relation.into()];
    match rows_too {
        false => as_extension("select campfire.mend_parts($1)", &arguments),
        true => as_extension("select campfire.note_repaired($1)", &arguments),
    };
}

/// Chooses what becomes of the rows of partitions that are dropped or detached.
#[pg_extern(sql = r#"
create function campfire.choose_dropped_partitions(source regclass, dropped_partitions text) returns void
language c volatile strict
as '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
"#)]
fn choose_dropped_partitions(source: Oid, dropped_partitions: &str) {
    let source = Source::owned_by_caller(source);
    as_extension(
        "select campfire.set_dropped_partitions($1, $2)",
        &[source.relation.into(), dropped_partitions.into()],
    );
}

/// Drops mirror, registration and triggers.
#[pg_extern(sql = r#"
create function campfire.drop_projection(source regclass, unpublish boolean default false) returns void
language c volatile strict
as '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
"#)]
fn drop_projection(source: Oid, unpublish: bool) {
    let source = Source::owned_by_caller(source);
    as_extension("select campfire.unmake_projection($1, $2)", &[source.relation.into(), unpublish.into()]);
}

/// Plans a statement as a role, for a member of it, and runs nothing. Functions that planning evaluates are those of
/// whoever wrote a policy, and must not find the rights of the caller: they cannot change role back.
#[pg_extern(sql = r#"
create function campfire.plan_as(role oid, statement text) returns void
language c volatile strict
as '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
"#)]
fn plan_as(role: Oid, statement: &str) {
    // SAFETY: look-ups by oid; the name is allocated in the current context, null for a role that is gone.
    let (is_member, name) = unsafe {
        let name = pg_sys::GetUserNameFromId(role, true);
        let name = if name.is_null() { "...".into() } else { CStr::from_ptr(name).to_string_lossy() };
        (pg_sys::has_privs_of_role(pg_sys::GetUserId(), role), name.into_owned())
    };
    if !is_member {
        Err::<(), _>(ErrorReport::from(Error::NotMember { role: name })).unwrap_or_report();
    }
    as_owner(role, RESTRICTIONS | pg_sys::SECURITY_RESTRICTED_OPERATION, || {
        with_safe_path(|| Spi::run(&format!("explain {statement}")).unwrap_or_report());
    });
}

/// 2D000 inside a transaction block, where a procedure cannot commit.
#[pg_extern(sql = r#"
create function campfire.require_no_transaction(action text) returns void
language c volatile strict
as '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
"#)]
fn require_no_transaction(action: &str) {
    // SAFETY: both read a variable.
    if unsafe { pg_sys::IsTransactionBlock() || pg_sys::IsSubTransaction() } {
        let error = Error::InTransaction { action: action.to_owned() };
        Err::<(), _>(ErrorReport::from(error)).unwrap_or_report();
    }
}

/// Runs a statement of ours as the owner of the extension.
fn as_extension(statement: &str, arguments: &[DatumWithOid<'_>]) -> Option<JsonB> {
    as_extension_owner(|| {
        Spi::connect_mut(|client| {
            let rows = client.update(statement, Some(1), arguments).unwrap_or_report();
            rows.first().get::<JsonB>(1).unwrap_or(None)
        })
    })
}

/// As the owner of the extension, with a search_path on which nobody else can put anything.
pub(crate) fn as_extension_owner<R>(work: impl FnOnce() -> R) -> R {
    let owner: Oid = Spi::get_one(
        "select extowner from pg_catalog.pg_extension where extname operator(pg_catalog.=) 'campfire'",
    )
    .unwrap_or_report()
    .expect("this is the extension");
    as_owner(owner, RESTRICTIONS, || with_safe_path(work))
}

/// With a search_path on which nobody else can put anything.
pub(crate) fn with_safe_path<R>(work: impl FnOnce() -> R) -> R {
    with_settings(&[(c"search_path", c"pg_catalog, pg_temp")], work)
}

fn may_create_in(schema: Oid) -> bool {
    Spi::get_one_with_args("select pg_catalog.has_schema_privilege($1, 'CREATE')", &[schema.into()])
        .unwrap_or_report()
        .unwrap_or(false)
}

/// Runs `work` under settings that hold for it alone. An error ends the (sub)transaction, which takes them back.
pub(crate) fn with_settings<R>(settings: &[(&CStr, &CStr)], work: impl FnOnce() -> R) -> R {
    // SAFETY: names and values end with NUL and are copied; the level is closed below or by the end of the transaction.
    unsafe {
        let level = pg_sys::NewGUCNestLevel();
        for (name, value) in settings {
            pg_sys::set_config_option(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_USERSET,
                pg_sys::GucSource::PGC_S_SESSION,
                pg_sys::GucAction::GUC_ACTION_SAVE,
                true,
                0,
                false,
            );
        }
        let result = work();
        pg_sys::AtEOXact_GUC(true, level);
        result
    }
}
