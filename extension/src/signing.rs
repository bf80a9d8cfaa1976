//! Signs what the extension writes into the WAL.
//!
//! In Rust so that the key is never a variable or a parameter of SQL: pgaudit, for one, logs those of every statement
//! of PL/pgSQL, and then every reader of the server log could sign as well.

use hmac::{Hmac, KeyInit, Mac};
use pgrx::pg_sys;
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::prelude::*;
use sha2::Sha256;

use crate::error::Error;
use crate::event_name;

/// The relay throws away what is longer, whoever wrote it (`relay/src/decode/oversized.rs`).
const BODY_BYTES_MAX: usize = 16 << 20;

/// The newest key, by its number. As the caller: a role that cannot read the keys cannot sign.
const NEWEST_KEY: &str =
    "select k.id, k.key from campfire.broadcast_keys as k order by k.id desc fetch first row only";

/// Writes a transactional logical message that the relay believes in this transaction of this database.
#[pg_extern(sql = r#"
create function campfire.emit(prefix text, body text) returns void
language c volatile strict set search_path = pg_catalog, pg_temp
as '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
"#)]
fn emit(prefix: &str, body: &str) {
    if body.len() > BODY_BYTES_MAX {
        let error = Error::MessageTooLong { bytes: body.len(), limit: BODY_BYTES_MAX };
        Err::<(), _>(ErrorReport::from(error)).unwrap_or_report();
    }
    // SAFETY: reads a variable, and gives the transaction its xid if it has none. In 64 bits, of which the stream has
    // the lower half: else a message could be repeated once that comes again.
    let (database, xid) = unsafe { (pg_sys::MyDatabaseId, pg_sys::GetTopFullTransactionId()) };
    let signed = format!("{prefix}\n{}\n{}\n{body}", database.to_u32(), xid.value);
    let (number, tag) = Spi::connect(|client| {
        let keys = client.select(NEWEST_KEY, Some(1), &[]).unwrap_or_report();
        let key = keys.first();
        // Of no row there is no column to get.
        let number = key.get::<i32>(1).unwrap_or(None);
        let secret = key.get::<&[u8]>(2).unwrap_or(None);
        let signed = |(number, secret)| (number, tag(secret, signed.as_bytes()));
        number.zip(secret).map(signed).ok_or(Error::NoKey)
    })
    .map_err(ErrorReport::from)
    .unwrap_or_report();
    let message = format!("v1 {number} {tag}\n{body}");
    Spi::run_with_args(
        "select pg_catalog.pg_logical_emit_message(true, $1, $2)",
        &[prefix.into(), message.as_str().into()],
    )
    .unwrap_or_report();
}

/// Whether nobody but the database and the relay may say an event of this name on channels of an organization.
#[pg_extern(sql = r#"
create function campfire.is_reserved_event(event text) returns boolean
language c immutable strict parallel safe
as '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
"#)]
fn is_reserved_event(event: &str) -> bool {
    event_name::is_reserved(event)
}

/// The name with all that clients ignore taken away.
#[pg_extern(sql = r#"
create function campfire.folded_event(event text) returns text
language c immutable strict parallel safe
as '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
"#)]
fn folded_event(event: &str) -> String {
    event_name::fold(event)
}

/// HMAC-SHA256 in lower-case hexadecimal.
fn tag(key: &[u8], message: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of HMAC may have any length");
    mac.update(message);
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}
