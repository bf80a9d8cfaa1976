//! The slot guard: what it drops when no relay is alive, and all that it leaves alone.

use anyhow::{Context, Result, ensure};
use campfire_tests::cluster::{self, Options};
use campfire_tests::relay::Settings;
use campfire_tests::seed::DATABASE;
use campfire_tests::socket::Vsn;
use campfire_tests::{Cluster, ORGANIZATION, chat, eventually};
use serde_json::json;
use tokio_postgres::Client;

use crate::resume::resume;
use crate::scene::{Scene, numbered};

/// Hours: what a test that never waits that long calls never.
const NEVER: &str = "100h";

/// A cluster whose guard drops at once what holds back more than a megabyte.
fn guarded(settings: &[(&str, &str)]) -> Result<Cluster> {
    let defaults = [
        ("shared_preload_libraries", "campfire"),
        ("max_slot_wal_keep_size", "-1"),
        ("campfire.slot_max_retained", "1MB"),
        ("campfire.slot_guard_grace", "0"),
        ("campfire.slot_guard_interval", "1s"),
        // Shows each look of the guard.
        ("log_min_messages", "debug1"),
    ];
    let settings = defaults.iter().chain(settings).map(|(name, value)| ((*name).into(), (*value).into()));
    Cluster::boot_with(Options { settings: settings.collect(), ..Options::default() })
}

/// A slot of campfire's kind that nobody reads.
async fn make_slot(database: &Client, name: &str) -> Result<()> {
    database.execute("select pg_create_logical_replication_slot($1, 'pgoutput')", &[&name]).await?;
    Ok(())
}

/// Moves the end of the WAL by whole segments, 16 MB each.
async fn write_wal(database: &Client, segments: usize) -> Result<()> {
    for _ in 0..segments {
        let script = "select pg_logical_emit_message(false, 'test', 'x'); select pg_switch_wal()";
        database.batch_execute(script).await?;
    }
    Ok(())
}

async fn slots(database: &Client) -> Result<Vec<String>> {
    let query = "select slot_name::text from pg_replication_slots order by slot_name collate \"C\"";
    Ok(database.query(query, &[]).await?.iter().map(|row| row.get(0)).collect())
}

async fn wait_until_gone(database: &Client, slot: &str) {
    eventually(&format!("slot {slot} is gone"), async || {
        let slots = slots(database).await.ok()?;
        (!slots.iter().any(|name| name == slot)).then_some(())
    })
    .await;
}

/// Lines of the server's log so far that contain all of these.
fn logged(cluster: &Cluster, texts: &[&str]) -> usize {
    let log = std::fs::read(cluster.log_path()).unwrap_or_default();
    String::from_utf8_lossy(&log).lines().filter(|line| texts.iter().all(|text| line.contains(text))).count()
}

/// Waits until the guard has looked at a slot once more, from beginning to end.
async fn another_look(cluster: &Cluster, slot: &str) {
    logged_again(cluster, &["holds back", &format!("\"{slot}\"")]).await;
}

/// Waits until the guard has said once more what it says at each look.
async fn logged_again(cluster: &Cluster, texts: &[&str]) {
    let before = logged(cluster, texts);
    // The look that is being taken may have begun before.
    eventually("the guard looks again", async || (logged(cluster, texts) >= before + 2).then_some(())).await;
}

async fn guard_pid(database: &Client) -> Option<i32> {
    let query =
        "select pid from pg_stat_activity where backend_type = 'campfire slot guard' and datid is null";
    Some(database.query_opt(query, &[]).await.ok()??.get(0))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_no_relay_alive_the_slot_is_dropped_and_the_next_relay_announces_the_loss() {
    let cluster = guarded(&[("campfire.slot_max_retained", "32MB")]).expect("a guarded cluster");
    // A full set of sessions of all kinds on a server that preloads the library.
    let relay = Settings::of(&cluster).expect("settings").start().await.expect("a relay that is ready");
    let database = cluster.connect().await.expect("a superuser's session");
    let mut scene = Scene { relay, database, cluster };
    if let Err(error) = lose_and_recover(&mut scene).await {
        panic!("{error:#}");
    }
}

async fn lose_and_recover(scene: &mut Scene) -> Result<()> {
    let conversation = scene.conversation().await?;
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    let mut dashboard = scene.dashboard(Vsn::V2, &[&conv]).await?;
    scene.write_messages(conversation, &numbered("before", 1)).await?;
    let before = dashboard.next_event().await?;

    // A slot that is read may hold back what it needs to.
    write_wal(&scene.database, 4).await?;
    make_slot(&scene.database, "campfire_marker").await?;
    another_look(&scene.cluster, "campfire_marker").await;
    ensure!(slots(&scene.database).await? == ["campfire", "campfire_marker"]);

    scene.relay.kill_9().await?;
    scene.write_messages(conversation, &numbered("lost", 2)).await?;
    write_wal(&scene.database, 3).await?;
    wait_until_gone(&scene.database, "campfire").await;

    // The relay may read of it, and so may a monitor.
    let monitor = cluster::connect(&scene.cluster.relay_url()).await?;
    let query = "select event, retained_bytes, retained_bytes_max, restart_lsn < pg_current_wal_lsn(),
            confirmed_flush_lsn is not null
        from campfire.slot_events where slot_name = 'campfire'";
    let event = eventually("the event is written", async || monitor.query_opt(query, &[]).await.ok()?).await;
    ensure!(event.get::<_, &str>(0) == "dropped" && event.get::<_, bool>(3) && event.get::<_, bool>(4));
    let (retained, max): (i64, i64) = (event.get(1), event.get(2));
    ensure!(max == 32 << 20 && retained > max, "{retained} of {max}");
    let warning = ["WARNING:", "the slot guard of campfire dropped replication slot \"campfire\""];
    ensure!(logged(&scene.cluster, &warning) == 1);

    scene.relay.expect_log("an earlier slot of this name was dropped");
    scene.relay.start_again().await?;
    ensure!(slots(&scene.database).await?.contains(&"campfire".to_owned()), "the slot is made again");
    ensure!(
        scene.relay.metric("campfire_slot_losses_total").await? == Some(1.0),
        "{}",
        scene.relay.log_text()
    );
    ensure!(
        !scene.relay.log_text().contains("nothing bounds the WAL"),
        "the guard is a bound that the relay knows"
    );
    let mut late = scene.socket(Vsn::V2).await?;
    let reply = resume(scene, &mut late, &conv, json!({"after": before.id()})).await?;
    ensure!(reply["complete"] == false, "{reply}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_else_is_ever_dropped() -> Result<()> {
    let cluster = guarded(&[])?;
    let database = cluster.connect().await?;
    database.batch_execute("create database plain").await?;
    database.batch_execute("create database second").await?;
    let plain = cluster::connect(&cluster.superuser_url("plain")).await?;
    let second = cluster::connect(&cluster.superuser_url("second")).await?;
    // An owner of a database must not get hold of the guard's rights, nor keep it from its work.
    cluster.psql(
        "plain",
        "create schema campfire;
         create table campfire.slot_events (slot_name name, event text);
         alter database second set default_transaction_read_only = on;
         alter database second set role = 'campfire_relay';
         alter database second set search_path = 'public'",
    )?;
    second.batch_execute("set client_min_messages = warning; create extension campfire").await?;

    make_slot(&plain, "campfire_of_nobody").await?;
    make_slot(&database, "campfires").await?;
    make_slot(&database, "my_campfire").await?;
    database
        .batch_execute(
            "select pg_create_physical_replication_slot('campfire_physical', true);
             select pg_create_logical_replication_slot('campfire_test', 'test_decoding');
             select pg_create_logical_replication_slot('campfire_temporary', 'pgoutput', true)",
        )
        .await?;
    let kept = [
        "campfire_of_nobody",
        "campfire_physical",
        "campfire_temporary",
        "campfire_test",
        "campfires",
        "my_campfire",
    ];

    // Twice: the whole look that takes the second one has seen all others over the limit.
    for round in 1..=2 {
        for (database, slot) in [(&database, "campfire"), (&second, "campfire_2")] {
            make_slot(database, slot).await?;
            write_wal(database, 1).await?;
            wait_until_gone(database, slot).await;
            let query = "select count(*) from campfire.slot_events where slot_name = $1";
            eventually("the event is where the slot was", async || {
                let row = database.query_one(query, &[&slot]).await.ok()?;
                (row.get::<_, i64>(0) == round).then_some(())
            })
            .await;
        }
        ensure!(slots(&database).await? == kept, "{:?}", slots(&database).await?);
    }
    let query = "select count(*) from campfire.slot_events";
    ensure!(plain.query_one(query, &[]).await?.get::<_, i64>(0) == 0, "it wrote to somebody else's table");
    ensure!(logged(&cluster, &["dropped replication slot"]) == 4);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_has_its_grace_and_settings_are_reloaded() -> Result<()> {
    let mut cluster = guarded(&[("campfire.slot_guard_grace", NEVER)])?;
    let database = cluster.connect().await?;
    make_slot(&database, "campfire").await?;
    write_wal(&database, 1).await?;
    another_look(&cluster, "campfire").await;
    ensure!(slots(&database).await? == ["campfire"]);
    drop(database);

    // It has been inactive all the while; still it has its grace after a start.
    cluster.restart("fast")?;
    let database = cluster.connect().await?;
    another_look(&cluster, "campfire").await;
    ensure!(slots(&database).await? == ["campfire"]);

    // Off, whatever is inactive for how long.
    for off in ["0", "-1"] {
        database.batch_execute(&format!("alter system set campfire.slot_max_retained = '{off}'")).await?;
        database.batch_execute("alter system set campfire.slot_guard_grace = 0").await?;
        database.batch_execute("select pg_reload_conf()").await?;
        logged_again(&cluster, &["the slot guard of campfire is off"]).await;
        ensure!(slots(&database).await? == ["campfire"]);
    }
    database.batch_execute("alter system set campfire.slot_max_retained = '1MB'").await?;
    database.batch_execute("select pg_reload_conf()").await?;
    wait_until_gone(&database, "campfire").await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_guard_is_in_nobodys_way_and_comes_back() -> Result<()> {
    // It sleeps through the test, but for what wakes it.
    let mut cluster = guarded(&[("campfire.slot_guard_interval", "1d")])?;
    let database = cluster.connect().await?;
    let first = eventually("the guard runs", async || guard_pid(&database).await).await;

    // Each asks every process to let go of files, and waits until all have.
    database.batch_execute("set statement_timeout = '20s'").await?;
    for statement in [
        "create database copy template campfire_template strategy file_copy",
        "drop database copy",
        "drop database campfire_template",
    ] {
        if statement.starts_with("create") {
            database.batch_execute("create database campfire_template").await?;
        }
        database.batch_execute(statement).await.context(statement)?;
    }

    // Neither has the guard's process a statement to cancel.
    database.execute("select pg_cancel_backend($1)", &[&first]).await?;
    database.execute("select pg_terminate_backend($1)", &[&first]).await?;
    let second = eventually("the guard is started again", async || {
        guard_pid(&database).await.filter(|pid| *pid != first)
    })
    .await;
    ensure!(logged(&cluster, &["canceling statement"]) == 0);
    drop(database);

    for mode in ["fast", "immediate"] {
        // Fails if it takes half a minute: the guard would sleep for a day.
        cluster.stop(mode)?;
        cluster.start()?;
        let database = cluster.connect().await?;
        eventually("the guard runs", async || guard_pid(&database).await.filter(|pid| *pid != second)).await;
    }

    // A slot of a database without the extension, and one whose database goes away.
    cluster.set("campfire.slot_guard_interval", "1s");
    cluster.restart("fast")?;
    let database = cluster.connect().await?;
    database.batch_execute("set client_min_messages = warning; drop extension campfire cascade").await?;
    make_slot(&database, "campfire").await?;
    database.batch_execute("create database going").await?;
    let going = cluster::connect(&cluster.superuser_url("going")).await?;
    make_slot(&going, "campfire_going").await?;
    write_wal(&database, 1).await?;
    another_look(&cluster, "campfire_going").await;
    drop(going);
    eventually("the database can be dropped", async || {
        database.batch_execute("drop database going").await.ok()
    })
    .await;
    another_look(&cluster, "campfire").await;
    ensure!(slots(&database).await? == ["campfire"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_standby_there_is_no_guard() -> Result<()> {
    let mut cluster = guarded(&[])?;
    cluster.stop("fast")?;
    std::fs::write(cluster.data().join("standby.signal"), "")?;
    cluster.start()?;
    let database = cluster.connect().await?;
    ensure!(guard_pid(&database).await.is_none());
    database.execute("select pg_promote(true, 60)", &[]).await?;
    eventually("the guard runs", async || guard_pid(&database).await).await;
    make_slot(&database, "campfire").await?;
    write_wal(&database, 1).await?;
    wait_until_gone(&database, "campfire").await;
    Ok(())
}

/// The server preloads the library by one name, and the extension's functions call it by another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_has_the_preloaded_library_and_no_second_one() -> Result<()> {
    let cluster = guarded(&[])?;
    let database = cluster.connect().await?;
    chat::open_conversation(&database, ORGANIZATION, "Vera Visitor").await?;
    let pid: i32 = database.query_one("select pg_backend_pid()", &[]).await?.get(0);
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let mut libraries: Vec<&str> = maps
        .lines()
        .filter_map(|line| line.split_whitespace().nth(5))
        .filter(|path| path.contains("/campfire"))
        .collect();
    libraries.dedup();
    ensure!(libraries.len() == 1, "{libraries:?}");
    let query = "select name from pg_settings where name like 'campfire.%'";
    ensure!(database.query(query, &[]).await?.len() == 3);

    // Without preloading there is no such setting, whatever stands in postgresql.conf.
    let other = Cluster::boot_with(Options {
        settings: vec![("campfire.slot_max_retained".into(), "1GB".into())],
        ..Options::default()
    })?;
    let database = cluster::connect(&other.superuser_url(DATABASE)).await?;
    chat::open_conversation(&database, ORGANIZATION, "Vera Visitor").await?;
    ensure!(database.query(query, &[]).await?.is_empty());
    Ok(())
}
