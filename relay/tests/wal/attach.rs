//! Which slot is taken, which is made, and which is refused.

use std::time::Duration;

use campfire_relay::postgres::PostgresError;
use campfire_relay::wal::{self, Blocker, WalConfig, WalError};
use tokio_postgres::Client;

use crate::cluster::Cluster;
use crate::reader::Reader;
use crate::wait::eventually;

const NOTES: &str = "create table notes (id int primary key, body text);
    create publication campfire for table notes;";

async fn refusal(config: &WalConfig, sql: &Client) -> WalError {
    wal::attach(config, sql).await.err().expect("attach is refused")
}

/// Attaches, and compares the error's text and whether it is worth another attempt.
async fn check(cluster: &Cluster, sql: &Client, is_retryable: bool, expected: &str) {
    let error = refusal(&cluster.wal(&["campfire"]), sql).await;
    assert_eq!(error.to_string(), expected);
    assert_eq!(error.is_retryable(), is_retryable, "{error}");
}

#[tokio::test]
async fn a_missing_slot_is_made_and_written_down() {
    let (cluster, sql) = Cluster::boot(NOTES).await;
    let config = cluster.wal(&["campfire"]);
    let reader = Reader::attach(&config, &sql).await;
    assert!(reader.attachment.slot_created);
    assert_eq!(reader.attachment.timeline, 1);
    let row = sql
        .query_one(
            "select system_identifier = (select system_identifier::text from pg_control_system())
                 and publication_names = '{campfire}' and timeline = 1
                 and publication_oids = array(select oid from pg_publication)
                 and publication_xmins = array(select xmin::text from pg_publication)
             from campfire.slots where slot_name = 'campfire'",
            &[],
        )
        .await
        .expect("one row");
    assert!(row.get::<_, bool>(0));
    let row =
        sql.query_one("select system_identifier::text from pg_control_system()", &[]).await.expect("a row");
    assert_eq!(reader.attachment.system_identifier.to_string(), row.get::<_, String>(0));
    let row =
        sql.query_one("select oid from pg_database where datname = 'postgres'", &[]).await.expect("a row");
    assert_eq!(reader.attachment.database_oid, row.get::<_, u32>(0));
    reader.stream.close().await;
    assert!(!Reader::attach(&config, &sql).await.attachment.slot_created);
}

#[tokio::test]
async fn a_slot_without_a_row_is_adopted() {
    let (cluster, sql) = Cluster::boot(NOTES).await;
    sql.batch_execute("select pg_create_logical_replication_slot('campfire', 'pgoutput')")
        .await
        .expect("made");
    let reader = Reader::attach(&cluster.wal(&["campfire"]), &sql).await;
    assert!(!reader.attachment.slot_created);
    assert_eq!(sql.query("select from campfire.slots", &[]).await.expect("rows").len(), 1);
}

#[tokio::test]
async fn an_active_slot_names_who_holds_it() {
    let (cluster, sql) = Cluster::boot(NOTES).await;
    let config = cluster.wal(&["campfire"]);
    let _reader = Reader::attach(&config, &sql).await;
    let holder: i32 =
        sql.query_one("select active_pid from pg_replication_slots", &[]).await.expect("the slot").get(0);
    let error = refusal(&config, &sql).await;
    assert!(matches!(error, WalError::SlotActive { pid: Some(pid), .. } if pid == holder), "{error}");
    assert!(error.is_retryable());
    assert_eq!(
        error.to_string(),
        format!(
            "slot \"campfire\" is in use by another relay (pid {holder}): stop that one, or take over when it goes with CAMPFIRE_STANDBY=wait"
        )
    );
}

#[tokio::test]
async fn wal_level_replica_is_refused() {
    let (cluster, sql) = Cluster::boot_with(&["wal_level = replica"], NOTES).await;
    let expected =
        "wal_level is \"replica\"; set wal_level = logical in postgresql.conf and restart Postgres";
    check(&cluster, &sql, false, expected).await;
}

#[tokio::test]
async fn a_missing_publication_is_refused_before_the_slot_is_made() {
    let (cluster, sql) = Cluster::boot("").await;
    let expected = "publication \"campfire\" does not exist in database \"postgres\"; run there: \
                    select campfire.create_publication('campfire');";
    check(&cluster, &sql, false, expected).await;
    assert!(sql.query("select from pg_replication_slots", &[]).await.expect("slots").is_empty());
}

#[tokio::test]
async fn a_database_without_campfire_is_refused() {
    let (cluster, sql) = Cluster::boot("drop schema campfire cascade").await;
    let expected = "campfire is not installed in database \"postgres\"; run there: \
                    create extension campfire; select campfire.install();";
    check(&cluster, &sql, false, expected).await;
}

#[tokio::test]
async fn a_publication_made_after_the_slot_is_refused() {
    let (cluster, sql) = Cluster::boot(NOTES).await;
    let config = cluster.wal(&["campfire"]);
    Reader::attach(&config, &sql).await.stream.close().await;
    sql.batch_execute("drop publication campfire; create publication campfire for table notes")
        .await
        .expect("made anew");
    let error = refusal_when_free(&config, &sql).await;
    assert!(matches!(error, WalError::PublicationNewerThanSlot { .. }), "{error}");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_publication_added_to_the_settings_must_be_older_than_the_slot() {
    let (cluster, sql) =
        Cluster::boot(&format!("{NOTES} create publication campfire_control for table campfire.slots")).await;
    Reader::attach(&cluster.wal(&["campfire"]), &sql).await.stream.close().await;
    sql.batch_execute("create publication campfire_late").await.expect("made");
    let both = cluster.wal(&["campfire", "campfire_control"]);
    let late = cluster.wal(&["campfire", "campfire_late"]);
    assert!(matches!(refusal_when_free(&late, &sql).await, WalError::PublicationNewerThanSlot { .. }));
    Reader::attach(&both, &sql).await;
    let row = sql.query_one("select publication_names::text from campfire.slots", &[]).await.expect("a row");
    assert_eq!(row.get::<_, String>(0), "{campfire,campfire_control}");
}

/// The refusal after the server has noticed that the last stream was closed.
async fn refusal_when_free(config: &WalConfig, sql: &Client) -> WalError {
    eventually("the slot is free", async || match refusal(config, sql).await {
        WalError::SlotActive { .. } => None,
        error => Some(error),
    })
    .await
}

#[tokio::test]
async fn another_cluster_is_refused() {
    let (cluster, sql) = Cluster::boot(NOTES).await;
    let config = cluster.wal(&["campfire"]);
    Reader::attach(&config, &sql).await.stream.close().await;
    sql.batch_execute("update campfire.slots set system_identifier = '7'").await.expect("updated");
    let error = refusal_when_free(&config, &sql).await;
    assert!(matches!(&error, WalError::OtherSystem { expected, .. } if expected == "7"), "{error}");
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn slots_of_another_kind_are_refused() {
    let (cluster, sql) = Cluster::boot(NOTES).await;
    sql.batch_execute("create database other").await.expect("made");
    let other = cluster.sql_in("other").await;
    let drop = "select pg_drop_replication_slot('campfire')";
    let cases = [
        (&sql, "select pg_create_physical_replication_slot('campfire')", "it is a physical slot"),
        (
            &sql,
            "select pg_create_logical_replication_slot('campfire', 'pgoutput', false, true)",
            "it was made with two_phase",
        ),
        (
            &other,
            "select pg_create_logical_replication_slot('campfire', 'pgoutput')",
            "it belongs to database \"other\", not \"postgres\"",
        ),
    ];
    for (session, create, reason) in cases {
        session.batch_execute(create).await.expect("made");
        let expected = format!(
            "slot \"campfire\" cannot be used: {reason}; choose another name with CAMPFIRE_SLOT, or drop it"
        );
        check(&cluster, &sql, false, &expected).await;
        session.batch_execute(drop).await.expect("dropped");
    }
}

#[tokio::test]
async fn a_lost_slot_is_told_and_can_be_dropped() {
    let settings = ["max_slot_wal_keep_size = 1MB", "min_wal_size = 32MB", "max_wal_size = 32MB"];
    let (cluster, sql) = Cluster::boot_with(&settings, NOTES).await;
    let config = cluster.wal(&["campfire"]);
    Reader::attach(&config, &sql).await.stream.close().await;
    for _ in 0..3 {
        sql.batch_execute("select pg_switch_wal(); create table x (); drop table x; checkpoint")
            .await
            .expect("done");
    }
    let error = refusal_when_free(&config, &sql).await;
    assert!(matches!(error, WalError::SlotLost { .. }), "{error}");
    assert!(!error.is_retryable());
    wal::drop_slot(&sql, "campfire").await.expect("dropped");
    wal::drop_slot(&sql, "campfire").await.expect("nothing left to drop");
    assert!(Reader::attach(&config, &sql).await.attachment.slot_created);
}

#[tokio::test]
async fn making_a_slot_gives_up_on_an_open_transaction_and_leaves_nothing() {
    let (cluster, sql) = Cluster::boot(NOTES).await;
    let writer = cluster.sql().await;
    writer.batch_execute("begin; insert into notes values (1, 'a')").await.expect("open");
    let writer_pid: i32 = writer.query_one("select pg_backend_pid()", &[]).await.expect("a pid").get(0);
    let mut config = cluster.wal(&["campfire"]);
    config.settings.create_slot_timeout = Duration::from_millis(700);
    let error = refusal(&config, &sql).await;
    let WalError::CreateSlotTimeout { blocker: Blocker::Backend { pid, .. }, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(*pid, writer_pid);
    assert!(error.is_retryable());
    assert!(sql.query("select from pg_replication_slots", &[]).await.expect("slots").is_empty());
    writer.batch_execute("commit").await.expect("committed");
    assert!(Reader::attach(&config, &sql).await.attachment.slot_created);
}

#[tokio::test]
async fn servers_without_room_are_told_apart() {
    let (cluster, sql) =
        Cluster::boot_with(&["max_wal_senders = 1", "max_replication_slots = 1"], NOTES).await;
    let config = cluster.wal(&["campfire"]);
    let reader = Reader::attach(&config, &sql).await;
    let mut other = config;
    other.settings.slot_name = "campfire_2".to_owned();
    let error = refusal(&other, &sql).await;
    assert!(matches!(error, WalError::Postgres(PostgresError::TooManyConnections(_))), "{error}");
    assert!(error.is_retryable());
    reader.stream.close().await;
    let error = eventually("there is a walsender to spare", async || match refusal(&other, &sql).await {
        WalError::Postgres(PostgresError::TooManyConnections(_)) => None,
        error => Some(error),
    })
    .await;
    assert!(matches!(error, WalError::TooManySlots(_)), "{error}");
    assert!(!error.is_retryable());
}
