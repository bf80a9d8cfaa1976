//! What the slot confirms, and when.

use std::time::{Duration, Instant};

use campfire_relay::postgres::PostgresError;
use campfire_relay::wal::{WalConfig, WalError};

use crate::cluster::Cluster;
use crate::reader::{Reader, eventually_confirmed};

const NOTES: &str = "create table notes (id int primary key, body text);
    create table unpublished (body text);
    create publication campfire for table notes;";

#[tokio::test]
async fn the_slot_trails_behind_by_the_window() {
    let (cluster, sql) = Cluster::boot(NOTES).await;
    let window = Duration::from_secs(3);
    let mut reader = Reader::attach(&WalConfig { window, ..cluster.wal(&["campfire"]) }, &sql).await;
    sql.batch_execute("insert into notes values (1, 'a')").await.expect("inserted");
    let end_lsn = reader.unconfirmed_transaction().await.end_lsn;
    let applied_at = Instant::now();
    reader.stream.confirm_applied(end_lsn);
    let confirmed = reader.idle(eventually_confirmed(&sql, |lsn| lsn >= end_lsn)).await;
    assert!(applied_at.elapsed() >= window, "confirmed after {:?}", applied_at.elapsed());
    reader.stream.close().await;

    let reader = Reader::attach(&cluster.wal(&["campfire"]), &sql).await;
    assert_eq!(reader.attachment.confirmed_flush_lsn, confirmed, "the stream starts there");
}

#[tokio::test]
async fn what_is_not_applied_is_not_confirmed() {
    let (cluster, sql) = Cluster::boot(NOTES).await;
    let mut reader = Reader::attach(&cluster.wal(&["campfire"]), &sql).await;
    sql.batch_execute("insert into notes values (1, 'a')").await.expect("inserted");
    sql.batch_execute("insert into notes values (2, 'b')").await.expect("inserted");
    let first = reader.unconfirmed_transaction().await;
    let second = reader.unconfirmed_transaction().await;
    reader.stream.confirm_applied(first.end_lsn);
    let confirmed = eventually_confirmed(&sql, |lsn| lsn >= first.end_lsn).await;
    assert!(confirmed <= second.commit_lsn, "{confirmed} is beyond what is applied, {}", first.end_lsn);
    reader.stream.confirm_applied(second.end_lsn);
    eventually_confirmed(&sql, |lsn| lsn == second.end_lsn).await;
}

#[tokio::test]
async fn the_server_never_keeps_a_flush_position() {
    let (cluster, sql) = Cluster::boot(NOTES).await;
    let mut reader = Reader::attach(&cluster.wal(&["campfire"]), &sql).await;
    sql.batch_execute("insert into notes values (1, 'a')").await.expect("inserted");
    let end_lsn = reader.transaction().await.end_lsn;
    eventually_confirmed(&sql, |lsn| lsn >= end_lsn).await;
    let query = "select write_lsn::text, flush_lsn::text, replay_lsn::text from pg_stat_replication";
    let row = sql.query_one(query, &[]).await.expect("our walsender");
    let [write, flush, replay] = [0, 1, 2].map(|column| row.get::<_, Option<String>>(column));
    assert!(write.is_some_and(|lsn| lsn.parse().is_ok_and(|lsn| end_lsn <= lsn)));
    assert_eq!((flush, replay), (None, None));
}

/// Postgres waits at a fast shutdown until its walsenders have sent everything, and we have said so.
#[tokio::test]
async fn a_fast_shutdown_does_not_wait_for_the_window() {
    let (cluster, sql) = Cluster::boot(NOTES).await;
    let window = Duration::from_secs(300);
    let mut reader = Reader::attach(&WalConfig { window, ..cluster.wal(&["campfire"]) }, &sql).await;
    for id in 0..20 {
        sql.batch_execute(&format!("insert into notes values ({id}, 'a')")).await.expect("inserted");
    }
    // The WAL's end is then told by a keepalive only.
    sql.batch_execute("insert into unpublished values ('x')").await.expect("inserted");
    let first = reader.transaction().await;
    let (cluster, took, error, change_count) = stop_fast(cluster, &mut reader).await;
    println!("fast shutdown with a full window took {took:?}, and the stream ended with: {error}");
    assert!(
        matches!(error, WalError::StreamEnded | WalError::Postgres(PostgresError::ConnectionLost(_))),
        "{error}"
    );
    assert!(error.is_retryable());
    assert_eq!(change_count, 19, "what was committed came before the end");

    cluster.start();
    let sql = cluster.sql().await;
    let mut reader = Reader::attach(&cluster.wal(&["campfire"]), &sql).await;
    assert_eq!(reader.transaction().await, first, "nothing was confirmed");
}

/// A flush position that stayed would be what the shutdown waits for.
#[tokio::test]
async fn a_fast_shutdown_does_not_wait_after_the_slot_has_moved() {
    let (cluster, sql) = Cluster::boot(NOTES).await;
    let mut reader = Reader::attach(&cluster.wal(&["campfire"]), &sql).await;
    sql.batch_execute("insert into notes values (1, 'a')").await.expect("inserted");
    let first = reader.transaction().await.end_lsn;
    eventually_confirmed(&sql, |lsn| lsn >= first).await;
    sql.batch_execute("insert into notes values (2, 'b')").await.expect("inserted");
    // And so never confirmed, as long as the server might wait.
    reader.unconfirmed_transaction().await;
    let (_cluster, took, _, _) = stop_fast(cluster, &mut reader).await;
    println!("fast shutdown after the slot has moved took {took:?}");
}

/// Stops the server while the stream is read, and gives why the stream ended and how many changes came before. Fails if
/// the server waits for something that does not happen.
async fn stop_fast(cluster: Cluster, reader: &mut Reader) -> (Cluster, Duration, WalError, usize) {
    let stopping = tokio::task::spawn_blocking(move || {
        let started_at = Instant::now();
        cluster.stop("fast");
        (cluster, started_at.elapsed())
    });
    let (error, change_count) = reader.end().await;
    let (cluster, took) = stopping.await.expect("stopped");
    (cluster, took, error, change_count)
}
