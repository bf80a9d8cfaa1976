//! The slot and what it stands on, as SQL tells it; making and dropping it.

use std::pin::pin;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::{Blocker, WalConfig, WalError};
use crate::postgres::{Connection, Lsn, PostgresError, quote_identifier};

/// A canceled CREATE_REPLICATION_SLOT answers at once; longer than this means that the server has other troubles.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);

/// A walsender lets go of its slot when it next writes to a socket that is closed.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);
const RELEASE_POLL: Duration = Duration::from_millis(50);

/// From this version on a slot can be handed to a standby.
const FAILOVER_VERSION: u32 = 170_000;

pub(super) struct Server {
    pub(super) version_num: u32,
    pub(super) database: String,
    pub(super) database_oid: u32,
}

/// Asks what every later step needs, most fundamental first, so that the first error is the one to mend.
pub(super) async fn server(sql: &Client) -> Result<Server, WalError> {
    let row = sql
        .query_one(
            "select current_setting('server_version_num')::int4, pg_is_in_recovery(), current_setting('wal_level'),
                 current_database()::text, session_user::text,
                 (select oid from pg_database where datname = current_database()),
                 (select rolsuper or rolreplication from pg_roles where rolname = session_user),
                 exists (select from pg_class where relname = 'slots' and relnamespace =
                     (select oid from pg_namespace where nspname = 'campfire'))",
            &[],
        )
        .await?;
    let (version_num, in_recovery, wal_level): (i32, bool, String) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let (database, user, database_oid): (String, String, u32) =
        (row.try_get(3)?, row.try_get(4)?, row.try_get(5)?);
    let (may_replicate, is_installed): (bool, bool) = (row.try_get(6)?, row.try_get(7)?);
    if in_recovery {
        return Err(PostgresError::Standby.into());
    }
    if wal_level != "logical" {
        return Err(WalError::WalLevel { wal_level });
    }
    if !is_installed {
        return Err(WalError::ExtensionMissing { database });
    }
    if !may_replicate {
        return Err(WalError::NotReplicationRole { user });
    }
    let version_num = u32::try_from(version_num).expect("a server's version is positive");
    Ok(Server { version_num, database, database_oid })
}

/// A row of pg_replication_slots.
pub(super) struct Slot {
    name: String,
    plugin: Option<String>,
    database: Option<String>,
    two_phase: bool,
    active_pid: Option<i32>,
    wal_status: Option<String>,
    pub(super) confirmed_flush_lsn: Lsn,
}

pub(super) async fn find(sql: &Client, slot_name: &str) -> Result<Option<Slot>, PostgresError> {
    let row = sql
        .query_opt(
            "select slot_name::text, plugin::text, database::text, two_phase, active_pid, wal_status,
                 confirmed_flush_lsn::text
             from pg_replication_slots where slot_name = $1::text",
            &[&slot_name],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    let confirmed: Option<&str> = row.try_get(6)?;
    Ok(Some(Slot {
        name: row.try_get(0)?,
        plugin: row.try_get(1)?,
        database: row.try_get(2)?,
        two_phase: row.try_get::<_, Option<bool>>(3)?.unwrap_or(false),
        active_pid: row.try_get(4)?,
        wal_status: row.try_get(5)?,
        confirmed_flush_lsn: confirmed.map_or(Ok(Lsn::INVALID), str::parse)?,
    }))
}

impl Slot {
    /// Whether the stream can be started from it in this database.
    pub(super) fn check(&self, database: &str) -> Result<(), WalError> {
        let slot_name = self.name.clone();
        let unsuitable = |reason: String| WalError::SlotUnsuitable { slot_name: self.name.clone(), reason };
        match self.plugin.as_deref() {
            Some("pgoutput") => {}
            Some(other) => return Err(unsuitable(format!("its plugin is {other}, not pgoutput"))),
            None => return Err(unsuitable("it is a physical slot".to_owned())),
        }
        if let Some(other) = self.database.as_deref().filter(|&other| other != database) {
            return Err(unsuitable(format!("it belongs to database \"{other}\", not \"{database}\"")));
        }
        if self.two_phase {
            // Rows would come at PREPARE, also to a session that did not ask for that.
            return Err(unsuitable("it was made with two_phase".to_owned()));
        }
        // Of `unreserved` the ingest's keeper warns, with numbers.
        if self.wal_status.as_deref() == Some("lost") {
            return Err(WalError::SlotLost { slot_name });
        }
        match self.active_pid {
            Some(pid) => Err(WalError::SlotActive { slot_name, pid: Some(pid) }),
            None => Ok(()),
        }
    }
}

/// Makes the slot; false if another made it first. Waits for every transaction in the cluster that is writing, as
/// long as the settings allow.
pub(super) async fn create(
    connection: &mut Connection,
    config: &WalConfig,
    sql: &Client,
    version_num: u32,
) -> Result<bool, WalError> {
    // So that a standby that synchronizes slots can go on after a fail-over. A physical standby that does not knows
    // nothing of it.
    let failover = if version_num >= FAILOVER_VERSION { ", FAILOVER true" } else { "" };
    let command = format!(
        "CREATE_REPLICATION_SLOT {} LOGICAL pgoutput (SNAPSHOT 'nothing'{failover})",
        quote_identifier(&config.settings.slot_name)
    );
    let pid = connection.pid;
    let mut create = pin!(connection.query(&command));
    let limit = config.settings.create_slot_timeout;
    let given_up = |blocker| WalError::CreateSlotTimeout {
        slot_name: config.settings.slot_name.clone(),
        timeout: limit,
        blocker,
    };
    let waited = config.stop.run_until_cancelled(timeout(limit, &mut create)).await;
    let answer = match waited {
        Some(Ok(answer)) => answer,
        Some(Err(_)) | None => {
            let reason = match waited {
                Some(_) => given_up(blocker(sql, pid).await?),
                None => WalError::Stopped,
            };
            sql.execute("select pg_cancel_backend($1)", &[&pid]).await?;
            match timeout(CANCEL_TIMEOUT, create).await {
                // The blocker ended in the same moment.
                Ok(Ok(made)) => Ok(made),
                Ok(Err(PostgresError::Server(error))) if !error.is(&SqlState::QUERY_CANCELED) => {
                    Err(PostgresError::Server(error))
                }
                _ => return Err(reason),
            }
        }
    };
    match answer {
        Ok(_) => Ok(true),
        Err(PostgresError::Server(error)) if error.is(&SqlState::DUPLICATE_OBJECT) => Ok(false),
        Err(PostgresError::Server(error)) if error.is(&SqlState::CONFIGURATION_LIMIT_EXCEEDED) => {
            Err(WalError::TooManySlots(error))
        }
        Err(error) => Err(error.into()),
    }
}

/// Drops a slot that nobody streams from, and what was known of it. Whatever it had not sent is lost. A stream that
/// has just ended gets some time to let go.
pub async fn drop_slot(sql: &Client, slot_name: &str) -> Result<(), PostgresError> {
    let drop =
        "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = $1::text";
    let deadline = Instant::now() + RELEASE_TIMEOUT;
    while let Err(error) = sql.execute(drop, &[&slot_name]).await {
        if error.code() != Some(&SqlState::OBJECT_IN_USE) || Instant::now() > deadline {
            return Err(error.into());
        }
        sleep(RELEASE_POLL).await;
    }
    sql.execute("delete from campfire.slots where slot_name = $1::text", &[&slot_name]).await?;
    Ok(())
}

/// The same for a slot just made, by the connection that made it.
pub(super) async fn drop(connection: &mut Connection, slot_name: &str) -> Result<(), PostgresError> {
    connection.query(&format!("DROP_REPLICATION_SLOT {}", quote_identifier(slot_name))).await?;
    Ok(())
}

/// Says why START_REPLICATION failed, by the slot's own row: the server's texts differ between versions.
pub(super) async fn explain_refusal(
    sql: &Client,
    slot_name: &str,
    database: &str,
    error: PostgresError,
) -> WalError {
    let PostgresError::Server(server) = &error else { return error.into() };
    let in_use = server.is(&SqlState::OBJECT_IN_USE);
    match find(sql, slot_name).await {
        Ok(Some(slot)) => match slot.check(database) {
            Err(reason) => reason,
            // Whoever used it has gone since.
            Ok(()) if in_use => WalError::SlotActive { slot_name: slot_name.to_owned(), pid: None },
            Ok(()) => error.into(),
        },
        _ => error.into(),
    }
}

/// The oldest transaction that is writing, prepared ones included.
async fn blocker(sql: &Client, own_pid: i32) -> Result<Blocker, PostgresError> {
    let row = sql
        .query_opt(
            "select pid, gid, extract(epoch from clock_timestamp() - since)::float8 from (
                 select pid, null as gid, xact_start as since from pg_stat_activity
                 where backend_xid is not null and pid <> $1
                 union all select null, gid, prepared from pg_prepared_xacts) as writing
             order by since limit 1",
            &[&own_pid],
        )
        .await?;
    let Some(row) = row else { return Ok(Blocker::Unknown) };
    let seconds: Option<f64> = row.try_get(2)?;
    let open_for = Duration::try_from_secs_f64(seconds.unwrap_or_default()).unwrap_or_default();
    Ok(match (row.try_get(0)?, row.try_get(1)?) {
        (Some(pid), _) => Blocker::Backend { pid, open_for },
        (None, Some(gid)) => Blocker::PreparedTransaction { gid },
        (None, None) => Blocker::Unknown,
    })
}
