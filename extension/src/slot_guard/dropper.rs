//! Drops one slot, from its database, and writes down that it did.
//!
//! It connects as superuser to a database that may be anybody's. So it takes no setting of that database for its own,
//! and writes to no table but one that the extension made.

use pgrx::bgworkers::{BackgroundWorker, BackgroundWorkerBuilder};
use pgrx::datum::DatumWithOid;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::prelude::*;
use pgrx::spi::SpiError;

use super::slots::Slot;

/// What `alter database ... set` may have changed, as the dropper must have it.
const SETTINGS: [(&std::ffi::CStr, &std::ffi::CStr); 6] = [
    (c"role", c"none"),
    (c"search_path", c"pg_catalog, pg_temp"),
    (c"default_transaction_read_only", c"off"),
    // A synchronous standby that does not answer must not keep the dropper.
    (c"synchronous_commit", c"local"),
    // Nor somebody who locks the table of events.
    (c"lock_timeout", c"5s"),
    (c"row_security", c"off"),
];

/// One row if the extension is in this database, and with it the table of events.
const EXTENSION: &str = "select true from pg_extension where extname = 'campfire'";

/// One row if the slot was dropped. Somebody may read it or drop it between the two looks: that is 55006 or 42704.
const DROP: &str = "
    with idle as materialized (
        select s.slot_name, s.restart_lsn, s.confirmed_flush_lsn, pg_current_wal_flush_lsn() - s.restart_lsn as retained
        from pg_replication_slots as s
        where s.slot_name = $1 and s.slot_type = 'logical' and s.plugin = 'pgoutput' and not s.temporary and not s.active
          and s.database = current_database() and pg_current_wal_flush_lsn() - s.restart_lsn > $2
    )
    select restart_lsn::text, confirmed_flush_lsn::text, retained::int8, pg_size_pretty(retained), pg_size_pretty($2),
      pg_drop_replication_slot(slot_name)::text
    from idle";

const NOTE: &str = "
    insert into campfire.slot_events
      (slot_name, event, restart_lsn, confirmed_flush_lsn, retained_bytes, retained_bytes_max)
    values ($1::name, 'dropped', $2::pg_lsn, $3::pg_lsn, $4, $5)";

/// Starts a dropper for this slot. Its name is looked up again, and everything else too.
pub(super) fn start(slot: &Slot) {
    let started = BackgroundWorkerBuilder::new("campfire slot guard: drop")
        .set_type("campfire slot guard")
        .set_library("campfire")
        .set_function("campfire_slot_guard_drop")
        .enable_spi_access()
        .set_argument(slot.database.into_datum())
        .set_extra(&slot.name)
        .load_dynamic();
    if started.is_err() {
        let message =
            format!("the slot guard cannot drop slot \"{}\": no background worker is free", slot.name);
        ErrorReport::new(PgSqlErrorCode::ERRCODE_CONFIGURATION_LIMIT_EXCEEDED, message, "campfire")
            .set_hint("Raise max_worker_processes.")
            .report(PgLogLevel::WARNING);
    }
}

/// The dropper.
#[pg_guard]
#[unsafe(no_mangle)]
pub extern "C-unwind" fn campfire_slot_guard_drop(database: Datum) {
    attach_to(Oid::from(database.value() as u32));
    let name = BackgroundWorker::get_extra();
    let Some(max) = super::retained_max() else {
        return;
    };
    let dropped = PgTryBuilder::new(|| BackgroundWorker::transaction(|| drop_slot(name, max)))
        .catch_when(PgSqlErrorCode::ERRCODE_OBJECT_IN_USE, |_| None)
        .catch_when(PgSqlErrorCode::ERRCODE_UNDEFINED_OBJECT, |_| None)
        .execute();
    // Not in one transaction: a table that cannot be written, on a disk that is full, must not save the slot.
    if let Some(Dropped { restart_lsn, confirmed_flush_lsn, retained }) = dropped {
        BackgroundWorker::transaction(|| {
            let max = i64::try_from(max).unwrap_or(i64::MAX);
            let values: [DatumWithOid; 5] = [
                name.into(),
                restart_lsn.as_str().into(),
                confirmed_flush_lsn.as_deref().into(),
                retained.into(),
                max.into(),
            ];
            Spi::run_with_args(NOTE, &values).expect("SPI is connected");
        });
    }
}

fn attach_to(database: Oid) {
    // SAFETY: first of all that this process does, in the order that Postgres asks for. `end` only notes that we shall, and Postgres ends us where it is safe.
    unsafe {
        #[cfg(not(feature = "pg18"))]
        pg_sys::pqsignal(pg_sys::SIGTERM as i32, Some(end));
        #[cfg(feature = "pg18")]
        pg_sys::pqsignal_be(pg_sys::SIGTERM as i32, Some(end));
        pg_sys::BackgroundWorkerUnblockSignals();
        // Also to one that takes no connections: its WAL fills the disk all the same.
        pg_sys::BackgroundWorkerInitializeConnectionByOid(
            database,
            Oid::INVALID,
            pg_sys::BGWORKER_BYPASS_ALLOWCONN,
        );
        for (name, value) in SETTINGS {
            pg_sys::SetConfigOption(
                name.as_ptr(),
                value.as_ptr(),
                pg_sys::GucContext::PGC_SUSET,
                pg_sys::GucSource::PGC_S_OVERRIDE,
            );
        }
    }
}

unsafe extern "C-unwind" fn end(signal: i32) {
    // SAFETY: made to be called by a signal.
    unsafe { pg_sys::die(signal) }
}

struct Dropped {
    restart_lsn: String,
    confirmed_flush_lsn: Option<String>,
    retained: i64,
}

/// None if the database has no campfire, or the slot is not, or no longer, one to be dropped.
fn drop_slot(name: &str, max: u64) -> Option<Dropped> {
    let max = i64::try_from(max).unwrap_or(i64::MAX);
    Spi::connect_mut(|client| -> Result<Option<Dropped>, SpiError> {
        if client.select(EXTENSION, Some(1), &[])?.is_empty() {
            return Ok(None);
        }
        let rows = client.update(DROP, Some(1), &[name.into(), max.into()])?;
        if rows.is_empty() {
            return Ok(None);
        }
        let row = rows.first();
        let dropped = Dropped {
            restart_lsn: row.get(1)?.unwrap_or_default(),
            confirmed_flush_lsn: row.get(2)?,
            retained: row.get(3)?.unwrap_or_default(),
        };
        warn(name, row.get(4)?.unwrap_or_default(), row.get(5)?.unwrap_or_default());
        Ok(Some(dropped))
    })
    .expect("the statements have these columns")
}

fn warn(name: &str, retained: &str, max: &str) {
    let message = format!("the slot guard of campfire dropped replication slot \"{name}\"");
    ErrorReport::new(PgSqlErrorCode::ERRCODE_WARNING, message, "campfire")
        .set_detail(format!(
            "Nobody read it, and it held back {retained} of WAL; campfire.slot_max_retained is {max}."
        ))
        .set_hint("A relay that starts makes a new slot, and announces what is lost.")
        .report(PgLogLevel::WARNING);
}
