//! Errors of the event triggers, without the stack of functions they were found in.
//!
//! A refused command gets a message, a detail and SQL that mends it. The lines that plpgsql adds for each of its functions
//! are about campfire, not about the command, and hide the rest.

use pgrx::pg_sys;
use pgrx::pg_sys::panic::ErrorReport;
use pgrx::prelude::*;

/// Raises an error without CONTEXT.
#[pg_extern(sql = r#"
create function campfire.refuse_command(sqlstate text, message text, detail text, hint text) returns void
language c volatile
as '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
"#)]
fn refuse_command(sqlstate: Option<&str>, message: Option<&str>, detail: Option<&str>, hint: Option<&str>) {
    let mut report = ErrorReport::new(code(sqlstate), message.unwrap_or_default().to_owned(), "campfire");
    if let Some(detail) = detail {
        report = report.set_detail(detail);
    }
    if let Some(hint) = hint {
        report = report.set_hint(hint);
    }
    // SAFETY: a variable of this single-threaded process. The error leaves every function that put itself there, and what
    // catches it sets the stack as it was.
    unsafe { pg_sys::error_context_stack = std::ptr::null_mut() };
    report.report(PgLogLevel::ERROR);
}

/// Of five characters, as Postgres packs them: six bits each.
fn code(sqlstate: Option<&str>) -> PgSqlErrorCode {
    match sqlstate {
        Some(state) if state.len() == 5 => {
            let packed = state
                .bytes()
                .rev()
                .fold(0, |packed, byte| packed << 6 | i32::from(byte.wrapping_sub(b'0') & 0x3f));
            PgSqlErrorCode::from(packed)
        }
        _ => PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
    }
}
