//! How the slot fares: what it holds back, and what bounds that.

use tokio_postgres::Client;
use tracing::warn;

use crate::postgres::{Lsn, PostgresError};

/// A row of pg_replication_slots, as far as it tells of danger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// WAL that the server keeps for the slot.
    pub retained_bytes: u64,
    /// reserved, extended, unreserved, lost.
    pub wal_status: Option<String>,
    /// WAL that may still be written before the slot is in danger; without `max_slot_wal_keep_size` there is none.
    pub safe_wal_bytes: Option<i64>,
}

/// None if there is no such slot.
pub async fn health(sql: &Client, slot_name: &str) -> Result<Option<Health>, PostgresError> {
    let row = sql
        .query_opt(
            "select greatest(coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0), 0)::int8,
                 wal_status, safe_wal_size
             from pg_replication_slots where slot_name = $1::text",
            &[&slot_name],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Health {
        retained_bytes: row.try_get::<_, i64>(0)?.unsigned_abs(),
        wal_status: row.try_get(1)?,
        safe_wal_bytes: row.try_get(2)?,
    }))
}

/// Writes a message into the WAL behind everything that has committed, so that the stream passes that point even if
/// nobody else writes what is published. Returns where it stands. Waits for no standby: one that is dead must not keep
/// the relay from its work.
pub async fn send_heartbeat(sql: &Client) -> Result<Lsn, PostgresError> {
    let query = "select pg_logical_emit_message(true, 'campfire.heartbeat', '')::text,
                        set_config('synchronous_commit', 'local', true)";
    let row = sql.query_one(query, &[]).await?;
    Ok(row.try_get::<_, &str>(0)?.parse::<Lsn>()?)
}

/// Warns, at the first attach, of settings under which a relay that is down fills the disk, or loses its slot.
pub async fn warn_of_missing_bounds(sql: &Client) -> Result<(), PostgresError> {
    let row = sql
        .query_one(
            "select current_setting('max_slot_wal_keep_size') = '-1',
                 -- Not current_setting(): without a guard it would show what stands in postgresql.conf all the same.
                 coalesce((select setting::int8 from pg_settings where name = 'campfire.slot_max_retained'), 0) <= 0,
                 (select setting::int8 from pg_settings where name = 'idle_replication_slot_timeout')",
            &[],
        )
        .await?;
    let (is_unbounded, is_unguarded, idle_timeout): (bool, bool, Option<i64>) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    if is_unbounded && is_unguarded {
        warn!(
            "nothing bounds the WAL that the slot holds back while no relay runs; in postgresql.conf, add campfire to \
             shared_preload_libraries, or set max_slot_wal_keep_size"
        );
    }
    if let Some(idle_timeout @ 1..) = idle_timeout {
        warn!(
            idle_timeout,
            "idle_replication_slot_timeout is set: a relay that is down that long loses its slot"
        );
    }
    Ok(())
}
