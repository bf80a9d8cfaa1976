//! Transactions on behalf of a client: with limits, and from some point on with its role and its claims, so that
//! row-level security decides.

use std::time::Duration;

use serde_json::json;
use tokio_postgres::{Client, Error};

use crate::auth::{Claims, Credential};

/// What a transaction may do, and what it sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    ReadWrite,
    /// Reads alone, and all of it at one moment.
    Snapshot,
}

/// Begins a transaction in which no statement outlives `limit`. It has taken no snapshot yet.
pub(crate) async fn begin(session: &Client, mode: Mode, limit: Duration) -> Result<(), Error> {
    let mode = match mode {
        Mode::ReadWrite => "isolation level read committed read write",
        Mode::Snapshot => "isolation level repeatable read read only",
    };
    // Zero would mean none.
    let limit = limit.as_millis().max(1);
    session.batch_execute(&format!("begin {mode}; set local statement_timeout = {limit}")).await
}

/// From here on the transaction is the caller, as PostgREST would make it. `settings` are told to it besides.
pub(crate) async fn become_caller(
    session: &Client,
    credential: &Credential,
    settings: &[(&str, &str)],
) -> Result<(), Error> {
    let (role, claims) = (credential.role().name(), credential.claims());
    // An API key proves a role and nothing more.
    let all_claims =
        claims.map_or_else(|| json!({ "role": role }).to_string(), |claims| claims.raw.get().to_owned());
    let subject = claims.and_then(Claims::sub).unwrap_or_default();
    let caller = [
        ("request.jwt.claims", &*all_claims),
        ("request.jwt.claim.sub", &subject),
        ("request.jwt.claim.role", role),
        ("role", role),
    ];
    let (names, values): (Vec<&str>, Vec<&str>) = settings.iter().chain(&caller).copied().unzip();
    let set = "select pg_catalog.set_config(name, value, true)
               from rows from (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) as setting (name, value)";
    session.execute(set, &[&names, &values]).await?;
    Ok(())
}
