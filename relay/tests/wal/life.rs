//! The life of a slot: made, moved, bounded, handed over, lost.

use std::time::{Duration, Instant};

use campfire_relay::postgres::{Lsn, PostgresError};
use campfire_relay::wal::{self, HolderWatch, OnLostSlot, WalConfig, WalError};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::cluster::{Cluster, eventually_free, eventually_heard};
use crate::reader::{Reader, current_wal_lsn, eventually_confirmed};
use crate::servers::version;
use crate::wait::{DEADLINE, eventually};

const NOTES: &str = "create table notes (id int primary key, body text);
    create table unpublished (body text);
    create publication campfire for table notes;";

/// A stop while CREATE_REPLICATION_SLOT waits must not leave it to the server, which would finish it alone.
#[tokio::test]
async fn a_stop_takes_back_a_slot_that_is_being_made() {
    let (cluster, sql) = Cluster::boot(NOTES).await;
    let (writer, watcher) = (cluster.sql().await, cluster.sql().await);
    writer.batch_execute("begin; insert into notes values (1, 'a')").await.expect("open");
    let stop = CancellationToken::new();
    let mut config = WalConfig { stop: stop.clone(), ..cluster.wal(&["campfire"]) };
    config.settings.create_slot_timeout = Duration::from_secs(3600);
    let stopping = async {
        eventually("the slot is being made", async || {
            let waits =
                "select from pg_stat_activity where backend_type = 'walsender' and wait_event_type = 'Lock'";
            watcher.query_opt(waits, &[]).await.expect("sessions")
        })
        .await;
        stop.cancel();
    };
    let attaching = timeout(DEADLINE, wal::attach(&config, &sql));
    let (attached, ()) = tokio::join!(attaching, stopping);
    let error = attached.expect("stopped in time").err().expect("stopped");
    assert!(matches!(error, WalError::Stopped), "{error}");
    writer.batch_execute("commit").await.expect("committed");
    eventually("the server is through with it", async || {
        let walsenders = "select from pg_stat_activity where backend_type = 'walsender'";
        sql.query(walsenders, &[]).await.expect("sessions").is_empty().then_some(())
    })
    .await;
    assert!(sql.query("select from pg_replication_slots", &[]).await.expect("slots").is_empty());
}

/// Postgres 17 and later. Earlier ones make a slot that no standby gets.
#[tokio::test]
async fn slots_are_made_for_failover_where_the_server_can() {
    let (cluster, sql) = Cluster::boot(NOTES).await;
    let reader = Reader::attach(&cluster.wal(&["campfire"]), &sql).await;
    assert!(reader.attachment.slot_created);
    if version() >= 17 {
        let row = sql.query_one("select failover from pg_replication_slots", &[]).await.expect("the slot");
        assert!(row.get::<_, bool>(0));
    }
}

/// Promotion makes timeline 2; without a synchronized slot the new primary has none, and that is a loss.
#[tokio::test]
async fn a_standby_is_refused_and_after_promotion_tells_its_history() {
    let (mut cluster, sql) = Cluster::boot(NOTES).await;
    let config = cluster.wal(&["campfire"]);
    let reader = Reader::attach(&config, &sql).await;
    assert_eq!(reader.attachment.timeline_history, []);
    reader.stream.close().await;
    drop(sql);
    cluster.stop("fast");
    cluster.make_standby();
    cluster.start();
    let sql = cluster.sql().await;
    let error = wal::attach(&config, &sql).await.err().expect("a standby");
    assert!(matches!(error, WalError::Postgres(PostgresError::Standby)) && error.is_retryable(), "{error}");
    sql.batch_execute("select pg_promote()").await.expect("promoted");
    let reader = Reader::attach(&config, &sql).await;
    assert_eq!(reader.attachment.timeline, 2);
    let [(1, switched_at)] = reader.attachment.timeline_history[..] else {
        panic!("{:?}", reader.attachment.timeline_history)
    };
    assert!(switched_at <= wal::send_heartbeat(&sql).await.expect("written"));
}

/// Others write, our tables are quiet: heartbeats and keepalives move both positions of the slot.
#[tokio::test]
async fn heartbeats_release_wal_in_an_idle_database() {
    let (cluster, sql) = Cluster::boot(NOTES).await;
    sql.batch_execute("create database other").await.expect("made");
    let other = cluster.sql_in("other").await;
    other.batch_execute("create table filler (body text)").await.expect("made");
    let mut reader = Reader::attach(&cluster.wal(&["campfire"]), &sql).await;
    let retained =
        async || wal::health(&sql, "campfire").await.expect("asked").expect("a slot").retained_bytes;
    let fill = "insert into filler select repeat('x', 1000) from generate_series(1, 5000)";
    other.batch_execute(fill).await.expect("filled");
    let held = retained().await;
    assert!(held > 5_000_000, "{held}");
    let started_at = Instant::now();
    let mut left = held;
    while left > 1_000_000 {
        assert!(started_at.elapsed() < DEADLINE, "the slot still holds back {left} of {held} bytes");
        // The background writer notes running transactions every 15 s; a checkpoint does so at once.
        sql.batch_execute("checkpoint").await.expect("done");
        let heartbeat = wal::send_heartbeat(&sql).await.expect("written");
        reader.transaction().await;
        eventually_confirmed(&sql, |lsn| lsn >= heartbeat).await;
        left = retained().await;
    }
    println!("an idle database: {held} bytes held back before heartbeats, {left} after");
}

/// A transaction that is never sent is confirmed by keepalives alone.
#[tokio::test]
async fn keepalives_confirm_what_is_not_published() {
    let (cluster, sql) = Cluster::boot(NOTES).await;
    let mut reader = Reader::attach(&cluster.wal(&["campfire"]), &sql).await;
    sql.batch_execute("insert into unpublished select repeat('x', 1000) from generate_series(1, 5000)")
        .await
        .expect("inserted");
    let head = current_wal_lsn(&sql).await;
    reader.idle(eventually_confirmed(&sql, |lsn| lsn >= head)).await;
    assert!(reader.stream.confirmed() >= head);
}

#[tokio::test]
async fn too_much_wal_cuts_the_window_short() {
    let (cluster, sql) = Cluster::boot(NOTES).await;
    let mut config = WalConfig {
        window: Duration::from_secs(300),
        status_interval: Duration::from_millis(100),
        ..cluster.wal(&["campfire"])
    };
    config.settings.window_wal_bytes = 2_000_000;
    let mut reader = Reader::attach(&config, &sql).await;
    sql.batch_execute("insert into notes values (1, 'kept')").await.expect("inserted");
    let kept = reader.transaction().await;
    // By then the position to confirm has been looked at, which is done once a second.
    reader.idle(eventually_heard(&sql, 20)).await;
    assert!(reader.stream.confirmed() < kept.end_lsn, "within the window nothing is confirmed");
    for id in 2..6 {
        let insert = format!(
            "insert into notes select {id}, string_agg(md5(n::text), '') from generate_series(1, 30000) n"
        );
        sql.batch_execute(&insert).await.expect("inserted");
        reader.transaction().await;
        reader.idle(eventually_heard(&sql, 12)).await;
    }
    let head = current_wal_lsn(&sql).await;
    let is_near = |lsn: Lsn| lsn >= kept.end_lsn && head.bytes_since(lsn) < 4_000_000;
    let confirmed = reader.idle(eventually_confirmed(&sql, is_near)).await;
    assert_eq!(reader.stream.confirmed(), confirmed);
}

#[tokio::test]
async fn a_dropped_slot_is_replaced_only_where_that_is_allowed() {
    let (cluster, sql) = Cluster::boot(NOTES).await;
    let config = cluster.wal(&["campfire"]);
    let reader = Reader::attach(&config, &sql).await;
    assert!(!reader.attachment.slot_replaced, "there had been none");
    reader.stream.close().await;
    eventually_free(&sql).await;
    sql.batch_execute("select pg_drop_replication_slot('campfire')").await.expect("dropped");
    let mut careful = config.clone();
    careful.settings.on_lost_slot = OnLostSlot::Stop;
    let error = wal::attach(&careful, &sql).await.err().expect("refused");
    assert!(matches!(error, WalError::SlotDropped { .. }) && !error.is_retryable(), "{error}");
    assert!(Reader::attach(&config, &sql).await.attachment.slot_replaced);
}

/// A walsender whose slot is invalidated is ended by the server; the next attempt knows why.
#[tokio::test]
async fn a_slot_invalidated_under_the_stream_is_lost() {
    // No checkpoint but the one asked for below.
    let settings = ["max_slot_wal_keep_size = 1MB", "min_wal_size = 32MB", "max_wal_size = 1GB"];
    let (cluster, sql) = Cluster::boot_with(&settings, NOTES).await;
    let config = WalConfig { window: Duration::from_secs(300), ..cluster.wal(&["campfire"]) };
    let mut reader = Reader::attach(&config, &sql).await;
    for _ in 0..3 {
        sql.batch_execute("select pg_switch_wal(); create table x (); drop table x").await.expect("done");
    }
    let health = wal::health(&sql, "campfire").await.expect("asked").expect("a slot");
    assert_eq!(health.wal_status.as_deref(), Some("unreserved"), "{health:?}");
    assert!(health.safe_wal_bytes.is_some_and(|bytes| bytes <= 0) && health.retained_bytes > 32 << 20);
    sql.batch_execute("checkpoint").await.expect("done");
    let (error, _) = reader.end().await;
    assert!(error.is_retryable(), "{error}");
    let error = wal::attach(&config, &sql).await.err().expect("refused");
    assert!(matches!(error, WalError::SlotLost { .. }), "{error}");
}

/// Its walsender reads no replies in the midst of a transaction, here one whose tables cannot be looked up.
#[tokio::test]
async fn a_holder_whose_walsender_is_busy_is_not_ended() {
    let (cluster, sql) = Cluster::boot_with(&["wal_sender_timeout = 0"], NOTES).await;
    let silent = WalConfig { status_interval: Duration::from_secs(3600), ..cluster.wal(&["campfire"]) };
    let mut reader = Reader::attach(&silent, &sql).await;
    let limit = Duration::from_millis(500);
    let locker = cluster.sql().await;
    locker
        .batch_execute("begin; lock table pg_publication_rel in access exclusive mode")
        .await
        .expect("locked");
    sql.batch_execute("insert into notes values (1, 'a')").await.expect("inserted");
    eventually("the walsender waits for the lock", async || {
        let waits =
            "select from pg_stat_activity where backend_type = 'walsender' and wait_event_type = 'Lock'";
        sql.query_opt(waits, &[]).await.expect("sessions")
    })
    .await;
    let mut watch = HolderWatch::default();
    let began = Instant::now();
    while began.elapsed() < 6 * limit {
        assert_eq!(watch.take_over(&sql, "campfire", limit).await.expect("asked"), None);
        tokio::time::sleep(limit / 10).await;
    }
    locker.batch_execute("commit").await.expect("unlocked");
    eventually("it is taken over", async || watch.take_over(&sql, "campfire", limit).await.expect("asked"))
        .await;
    let (error, _) = reader.end().await;
    assert!(matches!(error, WalError::Postgres(PostgresError::Unavailable(_))), "{error}");
}

/// By its `reply_time`, which must move; the other's clock is not believed.
#[tokio::test]
async fn only_a_holder_that_says_nothing_is_ended() {
    let (cluster, sql) = Cluster::boot_with(&["wal_sender_timeout = 0"], NOTES).await;
    let lively = WalConfig { status_interval: Duration::from_millis(200), ..cluster.wal(&["campfire"]) };
    let limit = Duration::from_secs(5);
    let mut watch = HolderWatch::default();
    let reader = Reader::attach(&lively, &sql).await;
    // For longer than the limit.
    let began = Instant::now();
    while began.elapsed() < limit + limit / 2 {
        assert_eq!(watch.take_over(&sql, "campfire", limit).await.expect("asked"), None);
        eventually_heard(&sql, 1).await;
    }
    reader.stream.close().await;
    eventually_free(&sql).await;
    let hung = WalConfig { status_interval: Duration::from_secs(3600), ..lively };
    let mut reader = Reader::attach(&hung, &sql).await;
    eventually("it is taken over", async || watch.take_over(&sql, "campfire", limit).await.expect("asked"))
        .await;
    let (error, _) = reader.end().await;
    assert!(matches!(error, WalError::Postgres(PostgresError::Unavailable(_))), "{error}");
}
