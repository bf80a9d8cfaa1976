//! Signs what the extension writes into the WAL.
//!
//! In Rust so that the key is never a variable or a parameter of SQL: pgaudit, for one, logs those of every statement
//! of PL/pgSQL, and then whoever reads the server log could sign as well.

use hmac::{Hmac, KeyInit, Mac};
use pgrx::pg_sys;
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::prelude::*;
use sha2::Sha256;

use crate::error::Error;

/// The newest key, by its number. As the caller: who may not read the keys cannot sign.
const NEWEST_KEY: &str =
    "select k.id, k.key from campfire.broadcast_keys as k order by k.id desc fetch first row only";

/// Writes a transactional logical message that the relay believes in this transaction of this database.
#[pg_extern(sql = r#"
create function campfire.emit(prefix text, body text) returns void
language c volatile strict set search_path = pg_catalog, pg_temp
as '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
"#)]
fn emit(prefix: &str, body: &str) {
    // SAFETY: reads a variable, and gives the transaction its xid if it has none.
    let (database, xid) = unsafe { (pg_sys::MyDatabaseId, pg_sys::GetTopTransactionId()) };
    let signed = format!("{prefix}\n{}\n{}\n{body}", database.to_u32(), xid.into_inner());
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

/// HMAC-SHA256 in lower-case hexadecimal.
fn tag(key: &[u8], message: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of HMAC may have any length");
    mac.update(message);
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}
