//! What Postgres does that one would not guess, by the numbers of the project's notes on replication. Those that belong
//! to another file's subject stand there.

use campfire_relay::postgres::{self, PostgresError};
use campfire_relay::wal::{WalConfig, WalError};

use crate::cluster::Cluster;
use crate::reader::{Reader, current_wal_lsn};
use crate::servers::version;

const NOTES: &str = "create table notes (id int primary key, body text);
    create publication campfire for table notes;";

/// Runs `statements` as one transaction (a simple query) and compares its changes.
async fn check(setup: &str, statements: &str, expected: &[&str]) {
    let (cluster, sql) = Cluster::boot(setup).await;
    let mut reader = Reader::attach(&cluster.wal(&["campfire"]), &sql).await;
    sql.batch_execute(statements).await.expect("the statements");
    assert_eq!(reader.transaction().await.changes, expected);
}

/// The server finds out when it comes to the first row. The extension's own check refuses such a pair before.
#[tokio::test]
async fn two_column_lists_for_one_table_end_the_stream() {
    let (cluster, sql) = Cluster::boot(
        "create table notes (id int primary key, body text);
         create publication campfire for table notes (id);
         create publication campfire_control for table notes (id, body);",
    )
    .await;
    let mut reader = Reader::attach(&cluster.wal(&["campfire", "campfire_control"]), &sql).await;
    sql.batch_execute("insert into notes values (1, 'a')").await.expect("inserted");
    let (error, change_count) = reader.end().await;
    assert!(
        matches!(&error, WalError::Postgres(PostgresError::Server(server)) if server.code == "0A000"),
        "{error}"
    );
    assert_eq!((change_count, error.is_retryable()), (0, false));
}

#[tokio::test]
async fn a_row_that_moves_across_a_filter_comes_as_insert_or_delete() {
    check(
        "create table notes (id int primary key, body text);
         alter table notes replica identity full;
         create publication campfire for table notes where (body <> 'hidden');",
        "insert into notes values (1, 'hidden'); update notes set body = 'a'; update notes set body = 'hidden'",
        &["0 insert notes (id=1 body=a)", "1 delete notes full(id=1 body=a)"],
    )
    .await;
}

#[tokio::test]
async fn the_index_of_an_identity_names_the_old_columns() {
    check(
        "create table notes (id int primary key, org int not null, body text);
         create unique index identity on notes (id, org);
         alter table notes replica identity using index identity;
         create publication campfire for table notes;",
        "insert into notes values (1, 7, 'a'); update notes set org = 8; delete from notes",
        &[
            "0 insert notes (id=1 org=7 body=a)",
            "1 update notes key(id=1 org=7 body=unchanged) -> (id=1 org=8 body=a)",
            "2 delete notes key(id=1 org=8 body=unchanged)",
        ],
    )
    .await;
}

/// Not from the catalog: only the stream knows which columns it sends.
#[tokio::test]
async fn generated_columns_are_not_sent_unless_asked_for() {
    check(
        "create table notes (id int primary key, twice int generated always as (id * 2) stored);
         create publication campfire for table notes;",
        "insert into notes values (1)",
        &["0 insert notes (id=1)"],
    )
    .await;
    if version() >= 18 {
        check(
            "create table notes (id int primary key, twice int generated always as (id * 2) stored);
             create publication campfire for table notes with (publish_generated_columns = stored);",
            "insert into notes values (1)",
            &["0 insert notes (id=1 twice=2)"],
        )
        .await;
    }
}

const PARTITIONED: &str =
    "create table notes (id int, part int, primary key (id, part)) partition by list (part);
    create table notes_1 partition of notes for values in (1);
    create table notes_2 partition of notes for values in (2);
    create publication campfire for table notes with (publish_via_partition_root = true);";

/// Of one leaf's TRUNCATE nothing is told; the root's is.
#[tokio::test]
async fn truncate_of_a_partition_is_silent() {
    check(
        PARTITIONED,
        "insert into notes values (1, 1); truncate notes_1; insert into notes values (2, 1); truncate notes",
        &[
            "0 insert notes (id=1 part=1)",
            "1 insert notes (id=2 part=1)",
            "2 truncate notes cascade=false restart=false",
        ],
    )
    .await;
}

#[tokio::test]
async fn a_row_that_changes_its_partition_is_deleted_and_inserted() {
    check(
        PARTITIONED,
        "insert into notes values (1, 1); update notes set part = 2",
        &["0 insert notes (id=1 part=1)", "1 delete notes key(id=1 part=1)", "2 insert notes (id=1 part=2)"],
    )
    .await;
}

#[tokio::test]
async fn a_prepared_transaction_comes_when_it_commits() {
    let (cluster, sql) = Cluster::boot_with(&["max_prepared_transactions = 2"], NOTES).await;
    let mut reader = Reader::attach(&cluster.wal(&["campfire"]), &sql).await;
    for statement in [
        "begin; insert into notes values (1, 'prepared'); prepare transaction 'a'",
        "begin; insert into notes values (2, 'gone'); prepare transaction 'b'",
        "insert into notes values (3, 'first')",
        "commit prepared 'a'",
        "rollback prepared 'b'",
        "insert into notes values (4, 'last')",
    ] {
        sql.batch_execute(statement).await.expect("the statement");
    }
    for expected in ["(id=3 body=first)", "(id=1 body=prepared)", "(id=4 body=last)"] {
        assert_eq!(reader.transaction().await.changes, [format!("0 insert notes {expected}")]);
    }
}

/// The server starts at the later of what is asked for and what is confirmed, and says nothing of it.
#[tokio::test]
async fn a_slot_advanced_by_hand_shows_in_the_attachment() {
    let (cluster, sql) = Cluster::boot(NOTES).await;
    let config = cluster.wal(&["campfire"]);
    let mut reader = Reader::attach(&config, &sql).await;
    sql.batch_execute("insert into notes values (1, 'a')").await.expect("inserted");
    let first = reader.unconfirmed_transaction().await;
    sql.batch_execute("insert into notes values (2, 'skipped')").await.expect("inserted");
    reader.stream.close().await;
    let head = current_wal_lsn(&sql).await;
    let advance = format!("select pg_replication_slot_advance('campfire', '{head}')");
    while sql.batch_execute(&advance).await.is_err() {}
    let mut reader = Reader::attach(&config, &sql).await;
    assert!(reader.attachment.confirmed_flush_lsn > first.end_lsn);
    sql.batch_execute("insert into notes values (3, 'b')").await.expect("inserted");
    assert_eq!(reader.transaction().await.changes, ["0 insert notes (id=3 body=b)"]);
}

#[tokio::test]
async fn a_transaction_that_is_spilled_comes_whole() {
    let (cluster, sql) = Cluster::boot_with(&["logical_decoding_work_mem = 64kB"], NOTES).await;
    let mut reader = Reader::attach(&cluster.wal(&["campfire"]), &sql).await;
    sql.batch_execute("insert into notes select n, repeat('x', 100) from generate_series(1, 5000) n")
        .await
        .expect("inserted");
    assert_eq!(reader.transaction().await.changes.len(), 5000);
}

/// So the relay decides who may see what, and its password opens everything that is published.
#[tokio::test]
async fn replication_asks_neither_for_grants_nor_for_row_level_security() {
    let (cluster, sql) = Cluster::boot(&format!(
        "{NOTES} alter table notes enable row level security; alter table notes force row level security;
         create role relay login replication; grant usage on schema campfire to relay;
         grant select, insert, update, delete on campfire.slots to relay;"
    ))
    .await;
    cluster.authenticate_tcp("host all relay 127.0.0.1/32 trust");
    let config = WalConfig { database: cluster.tcp("relay", None), ..cluster.wal(&["campfire"]) };
    let relay = postgres::connect(&config.database).await.expect("a session");
    assert!(relay.query("select from notes", &[]).await.is_err(), "no grant");
    let mut reader = Reader::attach(&config, &relay).await;
    sql.batch_execute("insert into notes values (1, 'seen')").await.expect("inserted");
    assert_eq!(reader.transaction().await.changes, ["0 insert notes (id=1 body=seen)"]);
}

/// Rows that came from elsewhere are rows, too; what stands before them is passed over.
#[tokio::test]
async fn rows_of_another_origin_are_read() {
    let (cluster, sql) =
        Cluster::boot(&format!("{NOTES} select pg_replication_origin_create('elsewhere')")).await;
    let mut reader = Reader::attach(&cluster.wal(&["campfire"]), &sql).await;
    sql.batch_execute("select pg_replication_origin_session_setup('elsewhere')").await.expect("set");
    sql.batch_execute(
        "begin; select pg_replication_origin_xact_setup('0/AA', now()); insert into notes values (1, 'a'); commit",
    )
    .await
    .expect("committed");
    assert_eq!(reader.transaction().await.changes, ["0 insert notes (id=1 body=a)"]);
}

#[tokio::test]
async fn values_that_json_has_no_word_for_arrive_as_text() {
    check(
        "create table odd (id int primary key, d date, t timestamptz, n numeric, f float8);
         create publication campfire for table odd;",
        "insert into odd values (1, 'infinity', '-infinity', 'NaN', 'Infinity'),
             (2, '0044-03-15 BC', '0044-03-15 12:00:00+00 BC', '-Infinity', 'NaN')",
        &[
            "0 insert odd (id=1 d=infinity t=-infinity n=NaN f=Infinity)",
            "1 insert odd (id=2 d=0044-03-15 BC t=0044-03-15 12:00:00+00 BC n=-Infinity f=NaN)",
        ],
    )
    .await;
}

/// Bytes that are no UTF-8 pass the server unseen there, and must not end the stream.
#[tokio::test]
async fn a_sql_ascii_database_sends_any_bytes() {
    let (cluster, sql) = Cluster::boot("").await;
    sql.batch_execute("create database bytes encoding 'SQL_ASCII' template template0 locale 'C'")
        .await
        .expect("made");
    let bytes = cluster.sql_in("bytes").await;
    bytes.batch_execute(crate::cluster::SLOTS_TABLE).await.expect("campfire.slots");
    bytes.batch_execute(NOTES).await.expect("made");
    let config = WalConfig { database: cluster.database("bytes"), ..cluster.wal(&["campfire"]) };
    let mut reader = Reader::attach(&config, &bytes).await;
    bytes.batch_execute(r"insert into notes values (1, E'caf\xe9')").await.expect("inserted");
    assert_eq!(reader.transaction().await.changes, ["0 insert notes (id=1 body=caf\u{FFFD})"]);
}

/// The stream names a column's domain; only the catalog knows that it is an integer, and so a JSON number.
#[tokio::test]
async fn domains_come_down_to_their_base_types() {
    let (_cluster, sql) = Cluster::boot(
        "create domain positive as int check (value > 0); create domain small as positive check (value < 10);
         create domain words as text[];",
    )
    .await;
    let oid = async |name: &str| -> u32 {
        sql.query_one("select oid from pg_type where typname = $1", &[&name]).await.expect("a type").get(0)
    };
    let domains = campfire_relay::sql::domains(&sql).await.expect("read");
    for (name, base) in [("positive", "int4"), ("small", "int4"), ("words", "_text")] {
        let type_oid = oid(name).await;
        assert!(domains.knows(type_oid), "{name}");
        assert_eq!(domains.base_type(type_oid), oid(base).await, "{name}");
    }
    sql.batch_execute("create domain late as bool").await.expect("made");
    assert!(!domains.knows(oid("late").await), "made after the catalog was read");
}
