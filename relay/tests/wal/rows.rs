//! What statements look like when they arrive.

use campfire_relay::postgres::Lsn;

use crate::cluster::Cluster;
use crate::reader::Reader;

const NOTES: &str = "create table notes (id int primary key, body text);
    create publication campfire for table notes;";

/// Runs `statements` as one transaction (a simple query) and compares its changes.
async fn check(setup: &str, statements: &str, expected: &[&str]) {
    let (cluster, sql) = Cluster::boot(setup).await;
    let mut reader = Reader::attach(&cluster.wal(&["campfire"]), &sql).await;
    sql.batch_execute(statements).await.expect("the statements");
    assert_eq!(reader.transaction().await.changes, expected);
}

#[tokio::test]
async fn a_transaction_arrives_whole_and_a_rolled_back_one_never() {
    let (cluster, sql) = Cluster::boot(NOTES).await;
    let mut reader = Reader::attach(&cluster.wal(&["campfire"]), &sql).await;
    sql.batch_execute("begin; insert into notes values (1, 'gone'); rollback").await.expect("rolled back");
    sql.batch_execute(
        "begin; insert into notes values (2, 'a'); savepoint s; insert into notes values (3, 'gone');
         rollback to s; insert into notes values (4, null); commit",
    )
    .await
    .expect("committed");
    assert_eq!(
        reader.transaction().await.changes,
        ["0 insert notes (id=2 body=a)", "1 insert notes (id=4 body=null)"]
    );
}

#[tokio::test]
async fn an_old_key_comes_only_when_the_key_changed() {
    check(
        NOTES,
        "insert into notes values (1, 'a'); update notes set body = 'b'; update notes set id = 2; delete from notes",
        &[
            "0 insert notes (id=1 body=a)",
            "1 update notes (id=1 body=b)",
            "2 update notes key(id=1 body=unchanged) -> (id=2 body=b)",
            "3 delete notes key(id=2 body=unchanged)",
        ],
    )
    .await;
}

#[tokio::test]
async fn replica_identity_full_brings_the_old_row() {
    check(
        &format!("{NOTES} alter table notes replica identity full"),
        "insert into notes values (1, null); update notes set body = 'b'; delete from notes",
        &[
            "0 insert notes (id=1 body=null)",
            "1 update notes full(id=1 body=null) -> (id=1 body=b)",
            "2 delete notes full(id=1 body=b)",
        ],
    )
    .await;
}

#[tokio::test]
async fn unchanged_toast_is_in_the_old_row_under_full_and_nowhere_else() {
    let toast = "create table notes (id int primary key, body text, title text);
        alter table notes alter body set storage external;
        create publication campfire for table notes;
        insert into notes values (1, repeat('x', 12800), 'a');";
    let update = "update notes set title = 'b'";
    check(toast, update, &["0 update notes (id=1 body=unchanged title=b)"]).await;
    check(
        &format!("{toast} alter table notes replica identity full"),
        update,
        &["0 update notes full(id=1 body=12800 bytes title=a) -> (id=1 body=unchanged title=b)"],
    )
    .await;
}

#[tokio::test]
async fn ddl_in_the_middle_of_a_transaction_changes_the_rows_after_it() {
    check(
        NOTES,
        "insert into notes values (1, 'a'); alter table notes add extra int default 7;
         insert into notes values (2, 'b'); alter table notes rename body to content; alter table notes drop extra;
         alter table notes alter content type varchar(20); insert into notes values (3, 'c')",
        // Changing the type rewrites the table, which is no change of its rows.
        &[
            "0 insert notes (id=1 body=a)",
            "1 insert notes (id=2 body=b extra=7)",
            "2 insert notes (id=3 content=c)",
        ],
    )
    .await;
}

#[tokio::test]
async fn truncate_of_several_tables_is_one_change() {
    check(
        "create table notes (id int primary key); create table tags (id int primary key);
         create publication campfire for table notes, tags;",
        "insert into notes values (1); truncate notes, tags restart identity cascade; insert into notes values (1)",
        &[
            "0 insert notes (id=1)",
            "1 truncate notes,tags cascade=true restart=true",
            "2 insert notes (id=1)",
        ],
    )
    .await;
}

#[tokio::test]
async fn only_transactional_messages_are_changes() {
    let (cluster, sql) = Cluster::boot(NOTES).await;
    let mut reader = Reader::attach(&cluster.wal(&["campfire"]), &sql).await;
    sql.batch_execute(
        "begin; select pg_logical_emit_message(true, 'gone', 'x'), pg_logical_emit_message(false, 'loose', 'early');
         rollback; begin; insert into notes values (1, 'a'); select pg_logical_emit_message(true, 'campfire', 'hi');
         insert into notes values (2, 'b'); commit",
    )
    .await
    .expect("the statements");
    assert_eq!(
        reader.transaction().await.changes,
        ["0 insert notes (id=1 body=a)", "1 message campfire: hi", "2 insert notes (id=2 body=b)"]
    );
    assert_eq!(reader.loose_messages, ["loose: early"]);
}

#[tokio::test]
async fn two_publications_are_one_stream() {
    let (cluster, sql) = Cluster::boot(
        "create table notes (id int primary key); create table agents (id int primary key, secret text);
         create table private (id int primary key);
         create publication campfire for table notes;
         create publication \"camp,\"\"fire'_control\" for table agents (id);",
    )
    .await;
    let mut reader = Reader::attach(&cluster.wal(&["campfire", "camp,\"fire'_control"]), &sql).await;
    sql.batch_execute(
        "insert into agents values (1, 's'); insert into private values (1); insert into notes values (2)",
    )
    .await
    .expect("the statements");
    assert_eq!(reader.transaction().await.changes, ["0 insert agents (id=1)", "1 insert notes (id=2)"]);
}

#[tokio::test]
async fn values_are_printed_the_same_whatever_the_role_prefers() {
    let (cluster, sql) = Cluster::boot(
        "create table notes (id int primary key, at timestamptz, took interval, share float8);
         create publication campfire for table notes;
         alter role postgres set datestyle = 'German'; alter role postgres set timezone = 'Asia/Tokyo';
         alter role postgres set extra_float_digits = 0; alter role postgres set intervalstyle = 'iso_8601';",
    )
    .await;
    let mut reader = Reader::attach(&cluster.wal(&["campfire"]), &sql).await;
    sql.batch_execute("insert into notes values (1, '2026-11-22 21:51:51.5+00', '1 day', 0.1::float8 + 0.2)")
        .await
        .expect("inserted");
    assert_eq!(
        reader.transaction().await.changes,
        ["0 insert notes (id=1 at=2026-11-22 21:51:51.5+00 took=1 day share=0.30000000000000004)"]
    );
}

#[tokio::test]
async fn what_was_not_confirmed_comes_again_under_the_same_ids() {
    let (cluster, sql) = Cluster::boot(NOTES).await;
    let config = cluster.wal(&["campfire"]);
    let mut reader = Reader::attach(&config, &sql).await;
    for statements in ["insert into notes values (1, 'a'), (2, 'b')", "delete from notes where id = 1"] {
        sql.batch_execute(statements).await.expect("the statement");
    }
    let first = [reader.unconfirmed_transaction().await, reader.unconfirmed_transaction().await];
    assert!(first[0].commit_lsn < first[1].commit_lsn);
    reader.stream.close().await;

    let mut reader = Reader::attach(&config, &sql).await;
    assert!(!reader.attachment.slot_created);
    let again = [reader.unconfirmed_transaction().await, reader.unconfirmed_transaction().await];
    assert_eq!(again, first);
    let fence = campfire_relay::wal::send_heartbeat(&sql).await.expect("written");
    assert!(fence >= first[1].commit_lsn, "the fence lies behind all of the past");
    assert_ne!(reader.attachment.confirmed_flush_lsn, Lsn::INVALID);
}
