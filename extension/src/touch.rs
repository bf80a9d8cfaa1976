//! The trigger by which new messages raise `updated_at` of their conversations.

use pgrx::heap_tuple::PgHeapTuple;
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::pg_sys::{self, Oid};
use pgrx::prelude::*;
use pgrx::spi::quote_qualified_identifier;

use crate::cache::{Dependencies, RelationCache};
use crate::error::Error;
use crate::spi::{Access, Plan, as_owner, qualified_name};

thread_local! {
    static PLANS: RelationCache<Plan> = RelationCache::new();
}

/// Touches the conversations of the messages a statement inserted, as the owner of the messages. 55000 for a trigger
/// that is not AFTER INSERT by statement with the new rows as `inserted`; 42P01 if there are no conversations.
#[pg_trigger(sql = r#"
create function campfire.touch_conversations() returns trigger
language c security definer set search_path = pg_catalog, pg_temp
as '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
"#)]
fn touch_conversations<'a>(
    trigger: &'a PgTrigger<'a>,
) -> Result<Option<PgHeapTuple<'a, AllocatedByPostgres>>, PgTriggerError> {
    touch(trigger).map_err(ErrorReport::from).unwrap_or_report();
    Ok(None)
}

fn touch(trigger: &PgTrigger<'_>) -> Result<(), Error> {
    let data = trigger.trigger_data();
    // SAFETY: Postgres keeps the relation open while its triggers run.
    let (messages, owner) = unsafe { ((*data.tg_relation).rd_id, (*(*data.tg_relation).rd_rel).relowner) };
    let event = trigger.event();
    if !(event.fired_after() && event.fired_for_statement() && event.fired_by_insert())
        || trigger.new_transition_table_name().unwrap_or_report() != Some("inserted")
    {
        return Err(Error::WrongTrigger {
            trigger: trigger.name().unwrap_or_report().to_owned(),
            table: qualified_name(messages).expect("the relation is open"),
            wanted: "an AFTER INSERT trigger for each statement, referencing new table as inserted",
        });
    }

    Spi::connect(|_| {
        // SAFETY: Postgres made the trigger data and keeps it until we return; SPI only reads it.
        let status = unsafe { pg_sys::SPI_register_trigger_data(std::ptr::from_ref(data).cast_mut()) };
        Spi::check_status(status).expect("SPI is connected and knows no other table inserted");
        let plan = PLANS.with(|plans| plans.get(messages, |dependencies| prepare(messages, dependencies)))?;
        // As Postgres runs its foreign keys: the owner may have deferred triggers on conversations, and a statement
        // restricted further could not queue them.
        as_owner(owner, pg_sys::SECURITY_LOCAL_USERID_CHANGE, || plan.execute(&[], Access::ReadWrite));
        Ok(())
    })
}

/// Inside `Spi::connect`, with the trigger data registered.
fn prepare(messages: Oid, dependencies: &mut Dependencies) -> Result<Plan, Error> {
    // SAFETY: look-ups; a missing relation is InvalidOid.
    let (schema, conversations) = unsafe {
        let schema = pg_sys::get_rel_namespace(messages);
        (schema, pg_sys::get_relname_relid(c"conversations".as_ptr(), schema))
    };
    if conversations == Oid::INVALID {
        // SAFETY: the schema of an open relation exists; the name is allocated in the current context.
        let schema = unsafe { std::ffi::CStr::from_ptr(pg_sys::get_namespace_name(schema)) };
        let table = quote_qualified_identifier(&*schema.to_string_lossy(), "conversations");
        return Err(Error::ConversationsMissing { table });
    }
    dependencies.add(conversations);
    let table = qualified_name(conversations).expect("the relation was just found");
    // Locked by a subquery, because only there is an order kept: two statements that touch the same conversations in
    // opposite orders would wait for each other. Rows that are new enough are not even locked.
    Ok(Plan::prepare(
        &format!(
            "with latest as (
               select i.conversation_id as id, max(i.created_at) as created_at
               from inserted as i group by i.conversation_id
             ), locked as (
               select c.id, latest.created_at
               from {table} as c join latest on latest.id = c.id
               where c.updated_at < least(latest.created_at, clock_timestamp())
               order by c.id
               for no key update of c
             )
             update {table} as c
             set updated_at = least(greatest(c.updated_at, locked.created_at), clock_timestamp())
             from locked
             where c.id = locked.id and c.updated_at < least(locked.created_at, clock_timestamp())"
        ),
        &[],
    ))
}
