//! The connection under stress: stalled consumers, silent and vanished servers.

use campfire_relay::postgres::PostgresError;
use campfire_relay::wal::{self, WalError};

use crate::cluster::{Cluster, eventually_free, eventually_heard};
use crate::reader::Reader;
use crate::servers::version;

const NOTES: &str = "create table notes (id int primary key, body text);
    create publication campfire for table notes;";

/// Short, and long enough that a busy machine keeps nobody from answering within it.
const TIMEOUT: &str = "wal_sender_timeout = 10s";

/// More than come within that time, of which each is a third.
const UPDATES: usize = 5;

async fn walsender_pid(sql: &tokio_postgres::Client) -> i32 {
    sql.query_one("select pid from pg_stat_replication", &[]).await.expect("our walsender").get(0)
}

fn signal(pid: i32, name: &str) {
    // The shell's own kill: a small Debian has no program of that name.
    let sent = std::process::Command::new("sh").args(["-c", &format!("kill {name} {pid}")]).status();
    assert!(sent.is_ok_and(|status| status.success()));
}

#[tokio::test]
async fn a_stalled_consumer_keeps_its_connection() {
    let (cluster, sql) = Cluster::boot_with(&[TIMEOUT], NOTES).await;
    let mut reader = Reader::attach(&cluster.wal(&["campfire"]), &sql).await;
    let pid = walsender_pid(&sql).await;
    // Far more than the queue, the read buffer and the kernel's buffers hold.
    sql.batch_execute("insert into notes select n, repeat('x', 4000) from generate_series(1, 10000) n")
        .await
        .expect("inserted");
    eventually_heard(&sql, UPDATES).await;
    assert_eq!(walsender_pid(&sql).await, pid);
    assert_eq!(reader.transaction().await.changes.len(), 10_000);
    sql.batch_execute("insert into notes values (0, 'after')").await.expect("inserted");
    assert_eq!(reader.transaction().await.changes, ["0 insert notes (id=0 body=after)"]);
}

#[tokio::test]
async fn an_idle_connection_outlives_the_servers_timeout() {
    let (cluster, sql) = Cluster::boot_with(&[TIMEOUT], NOTES).await;
    let mut reader = Reader::attach(&cluster.wal(&["campfire"]), &sql).await;
    let pid = walsender_pid(&sql).await;
    reader.idle(eventually_heard(&sql, UPDATES)).await;
    assert_eq!(walsender_pid(&sql).await, pid);
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up() {
    let (cluster, sql) = Cluster::boot_with(&[TIMEOUT], NOTES).await;
    let mut reader = Reader::attach(&cluster.wal(&["campfire"]), &sql).await;
    let pid = walsender_pid(&sql).await;
    signal(pid, "-STOP");
    let (error, _) = reader.end().await;
    signal(pid, "-CONT");
    assert!(matches!(error, WalError::Silent { .. }), "{error}");
    assert!(error.is_retryable());
}

#[tokio::test]
async fn a_crash_of_the_server_is_retryable() {
    let (cluster, sql) = Cluster::boot(NOTES).await;
    let config = cluster.wal(&["campfire"]);
    let mut reader = Reader::attach(&config, &sql).await;
    cluster.stop("immediate");
    let (error, _) = reader.end().await;
    assert!(error.is_retryable(), "{error}");
    let error = campfire_relay::wal::attach(&config, &sql).await.err().expect("no server, no stream");
    assert!(error.is_retryable(), "{error}");

    cluster.start();
    let sql = cluster.sql().await;
    let mut reader = Reader::attach(&config, &sql).await;
    sql.batch_execute("insert into notes values (1, 'a')").await.expect("inserted");
    assert_eq!(reader.transaction().await.changes, ["0 insert notes (id=1 body=a)"]);
}

#[tokio::test]
async fn a_terminated_walsender_says_so() {
    let (cluster, sql) = Cluster::boot(NOTES).await;
    let mut reader = Reader::attach(&cluster.wal(&["campfire"]), &sql).await;
    let pid = walsender_pid(&sql).await;
    sql.execute("select pg_terminate_backend($1)", &[&pid]).await.expect("terminated");
    let (error, _) = reader.end().await;
    assert!(
        matches!(&error, WalError::Postgres(PostgresError::Unavailable(server)) if server.code == "57P01"),
        "{error}"
    );
    assert!(error.is_retryable());
}

#[tokio::test]
async fn a_message_above_the_limit_is_an_error_and_not_an_allocation() {
    let (cluster, sql) = Cluster::boot(NOTES).await;
    let mut config = cluster.wal(&["campfire"]);
    config.settings.frame_bytes_max = 100_000;
    let mut reader = Reader::attach(&config, &sql).await;
    sql.batch_execute("insert into notes values (1, repeat('x', 50000)), (2, repeat('x', 200000))")
        .await
        .expect("inserted");
    let (error, change_count) = reader.end().await;
    assert_eq!(change_count, 1);
    assert!(
        matches!(error, WalError::Postgres(PostgresError::FrameTooLarge { limit: 100_000, .. })),
        "{error}"
    );
    assert!(!error.is_retryable());
}

#[tokio::test]
async fn a_long_message_of_any_role_is_no_error_and_counts_as_the_same_change() {
    let (cluster, sql) = Cluster::boot(NOTES).await;
    let mut config = cluster.wal(&["campfire"]);
    config.settings.frame_bytes_max = 100_000;
    let mut reader = Reader::attach(&config, &sql).await;
    sql.batch_execute(
        "select pg_logical_emit_message(false, 'loose', repeat('x', 300000));
         begin; insert into notes values (1, 'a'); select pg_logical_emit_message(true, 'theirs', repeat('x', 70000));
         select pg_logical_emit_message(true, 'theirs', repeat('x', 30000000)), pg_logical_emit_message(true, 'short', 'hi');
         select pg_logical_emit_message(true, repeat('name', 100000), 'x'); insert into notes values (2, 'b'); commit",
    )
    .await
    .expect("the statements");
    assert_eq!(
        reader.transaction().await.changes,
        [
            "0 insert notes (id=1 body=a)",
            "1 message theirs: ",
            "2 message theirs: ",
            "3 message short: hi",
            "4 message : ",
            "5 insert notes (id=2 body=b)"
        ]
    );
    assert_eq!(reader.loose_messages, ["loose: "]);
}

#[tokio::test]
async fn a_large_message_within_the_limit_passes() {
    let (cluster, sql) = Cluster::boot(NOTES).await;
    let mut reader = Reader::attach(&cluster.wal(&["campfire"]), &sql).await;
    sql.batch_execute("insert into notes values (1, repeat('x', 20000000))").await.expect("inserted");
    assert_eq!(reader.transaction().await.changes, ["0 insert notes (id=1 body=20000000 bytes)"]);
}

#[tokio::test]
async fn a_publication_dropped_under_the_stream_is_named() {
    let (cluster, sql) = Cluster::boot(NOTES).await;
    let mut reader = Reader::attach(&cluster.wal(&["campfire"]), &sql).await;
    let there = wal::publication_gone(&sql, "campfire", &["campfire".to_owned()]).await.expect("asked");
    assert_eq!(there, None);
    sql.batch_execute("drop publication campfire").await.expect("dropped");
    sql.batch_execute("insert into notes values (1, 'a')").await.expect("inserted");
    let gone = wal::publication_gone(&sql, "campfire", &["campfire".to_owned()]).await.expect("asked");
    assert_eq!(gone.as_deref(), Some("campfire"));
    if version() >= 18 {
        // The server goes on without the rows, and without a word.
        let heartbeat = wal::send_heartbeat(&sql).await.expect("written");
        let next = reader.transaction().await;
        assert!(next.end_lsn > heartbeat && next.changes.len() == 1, "{next:?}");
        return;
    }
    let (error, _) = reader.end().await;
    assert!(matches!(error, WalError::PublicationUnknown(_)), "{error}");
    assert!(error.to_string().contains("\"campfire\""), "{error}");
}

#[tokio::test]
async fn closing_frees_the_slot_at_once() {
    // Otherwise the server would notice by and by that nobody answers.
    let (cluster, sql) = Cluster::boot_with(&["wal_sender_timeout = 0"], NOTES).await;
    let config = cluster.wal(&["campfire"]);
    for _ in 0..5 {
        let reader = Reader::attach(&config, &sql).await;
        reader.stream.close().await;
        eventually_free(&sql).await;
    }
}
