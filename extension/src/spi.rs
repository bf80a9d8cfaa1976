//! Plans that outlive a statement, and running as a table's owner.
//!
//! pgrx's own plans choose between read-only and not by whether the transaction has an xid; a function that policies
//! call must always read by its query's snapshot, so plans are run here.

use std::ffi::{CStr, CString, c_char};
use std::ptr::NonNull;

use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::prelude::*;

/// Whether a plan may write, and by which snapshot it reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// By the snapshot of the calling query.
    ReadOnly,
    /// By a new snapshot, which sees what this transaction wrote before.
    ReadWrite,
}

/// A prepared statement kept for the session. Postgres plans it again by itself when a table in it changes.
pub(crate) struct Plan(NonNull<pg_sys::_SPI_plan>);

impl Plan {
    /// Must be called inside `Spi::connect`.
    pub(crate) fn prepare(sql: &str, parameter_types: &[Oid]) -> Plan {
        let sql = CString::new(sql).expect("SQL built from names has no NUL");
        let mut types = parameter_types.to_vec();
        // SAFETY: the text ends with NUL, and there are as many types as we say. SPI copies both.
        let plan = unsafe { pg_sys::SPI_prepare(sql.as_ptr(), types.len() as i32, types.as_mut_ptr()) };
        // A syntax or name error was raised as a Postgres error; null is for misuse of SPI only.
        let plan = NonNull::new(plan).expect("SPI is connected and the statement is no COPY");
        // SAFETY: the plan is valid and not yet kept.
        unsafe { pg_sys::SPI_keepplan(plan.as_ptr()) };
        Plan(plan)
    }

    /// Runs the plan and returns how many rows it wrote or found. Must be called inside `Spi::connect`, with one value
    /// for each parameter; `None` is NULL.
    pub(crate) fn execute(&self, values: &[Option<Datum>], access: Access) -> u64 {
        let mut nulls: Vec<c_char> =
            values.iter().map(|value| if value.is_none() { b'n' } else { b' ' } as c_char).collect();
        let mut datums: Vec<Datum> = values.iter().map(|value| value.unwrap_or(Datum::null())).collect();
        // SAFETY: the plan is kept; the arrays are as long as its parameters, which callers see to.
        let status = unsafe {
            assert_eq!(pg_sys::SPI_getargcount(self.0.as_ptr()) as usize, values.len());
            pg_sys::SPI_execute_plan(
                self.0.as_ptr(),
                datums.as_mut_ptr(),
                nulls.as_mut_ptr(),
                access == Access::ReadOnly,
                0,
            )
        };
        Spi::check_status(status).expect("SPI is connected and the plan has one statement");
        // SAFETY: a plain variable of this single-threaded process.
        unsafe { pg_sys::SPI_processed }
    }
}

/// A value of the first row that the last plan found; `None` for NULL. Inside the same `Spi::connect`.
pub(crate) fn found<T: FromDatum>(column: i32) -> Option<T> {
    // SAFETY: a plan that found a row has left its table, whose first row is read; a column that is not there is NULL.
    unsafe {
        let table = &*pg_sys::SPI_tuptable;
        let mut is_null = true;
        let value = pg_sys::SPI_getbinval(*table.vals, table.tupdesc, column, &mut is_null);
        T::from_datum(value, is_null)
    }
}

/// Plans that only read see what has committed until now, in transactions of every isolation level.
pub(crate) fn with_latest_snapshot<R>(work: impl FnOnce() -> R) -> R {
    // SAFETY: what is pushed is popped here, or by the end of the (sub)transaction if `work` fails.
    unsafe {
        pg_sys::PushActiveSnapshot(pg_sys::GetLatestSnapshot());
        let result = work();
        pg_sys::PopActiveSnapshot();
        result
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: kept by `prepare` and freed only here.
        unsafe { pg_sys::SPI_freeplan(self.0.as_ptr()) };
    }
}

/// Runs `work` with the rights of `owner`. The caller's are restored on every way out: an error unwinds through here.
pub(crate) fn as_owner<R>(owner: Oid, restrictions: u32, work: impl FnOnce() -> R) -> R {
    struct Restore {
        user: Oid,
        context: i32,
    }
    impl Drop for Restore {
        fn drop(&mut self) {
            // SAFETY: sets two variables, to what they were before.
            unsafe { pg_sys::SetUserIdAndSecContext(self.user, self.context) };
        }
    }

    let mut before = Restore { user: Oid::INVALID, context: 0 };
    // SAFETY: reads and sets two variables.
    unsafe {
        pg_sys::GetUserIdAndSecContext(&mut before.user, &mut before.context);
        pg_sys::SetUserIdAndSecContext(owner, before.context | restrictions as i32);
    }
    let result = work();
    drop(before);
    result
}

/// Schema and name of a relation, quoted; `None` if there is no such relation.
pub(crate) fn qualified_name(relation: Oid) -> Option<String> {
    // SAFETY: look-ups by oid that return null, or a string allocated in the current context.
    unsafe {
        let name = pg_sys::get_rel_name(relation);
        if name.is_null() {
            return None;
        }
        let schema = pg_sys::get_namespace_name(pg_sys::get_rel_namespace(relation));
        let qualified = pg_sys::quote_qualified_identifier(schema, name);
        Some(CStr::from_ptr(qualified).to_string_lossy().into_owned())
    }
}
