//! What any role of the database may write into the WAL: logical messages of any number, length and name. The stream, which
//! is everybody's, goes on.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use campfire_tests::cluster::Options;
use campfire_tests::fence::Fence;
use campfire_tests::relay::Settings;
use campfire_tests::server::as_server_user;
use campfire_tests::socket::Vsn;
use campfire_tests::{Cluster, ORGANIZATION, Relay, chat, server};

use crate::scene::{Scene, scene_test, with_cluster};

const FORGED: u32 = 5_000;
/// Sessions that the relay opens for other reasons meanwhile.
const OTHER_SESSIONS: usize = 20;
/// What the relay may take besides: batches, read buffers, the allocator's slack.
const SLACK_BYTES: u64 = 64 << 20;

/// Sessions of the relay's role since the server started.
fn sessions(cluster: &Cluster) -> Result<usize> {
    let log = std::fs::read_to_string(cluster.log_path())?;
    Ok(log.lines().filter(|line| line.contains("connection authorized: user=relay ")).count())
}

async fn broadcast(scene: &Scene, channel: &str, event: &str) -> Result<()> {
    let send = format!(
        "set role service_role; select campfire.broadcast('{channel}', '{event}', '{{}}'); reset role"
    );
    Ok(scene.database.batch_execute(&send).await?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invented_keys_are_looked_up_once_a_second_and_true_ones_at_once() {
    let settings = vec![("log_connections".to_owned(), "on".to_owned())];
    with_cluster(Options { settings, ..Options::default() }, |settings| settings, async |scene| {
        let conversation = scene.conversation().await?;
        let conv = chat::conversation_channel(ORGANIZATION, conversation);
        let mut dashboard = scene.dashboard(Vsn::V2, &[&conv]).await?;
        let (before, started_at) = (sessions(&scene.cluster)?, Instant::now());
        ensure!(before > 0, "the server logs who connects");
        // Numbers that nobody has given, no two the same in a row.
        let forge = format!(
            "set role anon;
             select count(pg_logical_emit_message(true, 'campfire.broadcast', E'v1 ' || 1000 + n % 97 || E' 00\\nx'))
             from generate_series(1, {FORGED}) n;
             reset role"
        );
        scene.database.batch_execute(&forge).await?;
        let fence = Fence::message(&scene.database, ORGANIZATION, conversation).await?;
        let events = dashboard.events_before(&fence, &conv).await?;
        ensure!(events.is_empty(), "{events:?}");
        let looked_up = sessions(&scene.cluster)? - before;
        let allowed = usize::try_from(started_at.elapsed().as_secs())? + OTHER_SESSIONS;
        ensure!(looked_up <= allowed, "{looked_up} sessions for {FORGED} messages, {allowed} were to be expected");
        let refused = scene.relay.metric("campfire_messages_refused_total").await?;
        ensure!(refused == Some(f64::from(FORGED)), "{refused:?}");

        // However often keys change right after that, nothing that is signed under them is lost.
        for round in 1..=5 {
            scene.database.batch_execute(&forge).await?;
            scene.database.batch_execute("select campfire.rotate_broadcast_key()").await?;
            let event = format!("note:{round}");
            broadcast(scene, &conv, &event).await?;
            let told = dashboard.next_event().await?;
            ensure!(told.name == event, "{told:?} instead of {event}");
        }
        // In one transaction, too.
        let send = format!(
            "begin; select campfire.rotate_broadcast_key(), campfire.rotate_broadcast_key();
             select campfire.broadcast('{conv}', 'note:last', '{{}}'); commit"
        );
        scene.database.batch_execute(&send).await?;
        ensure!(dashboard.next_event().await?.name == "note:last");
        Ok(())
    })
    .await;
}

/// The most memory that the relay has ever had, in bytes.
fn peak_bytes(relay: &Relay) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", relay.pid()))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM in /proc")?;
    let kilobytes: u64 = peak.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes << 10)
}

#[scene_test]
async fn a_message_too_long_to_be_ours_is_thrown_away_as_it_comes(scene: &mut Scene) -> Result<()> {
    let conversation = scene.conversation().await?;
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    let mut dashboard = scene.dashboard(Vsn::V2, &[&conv]).await?;
    let before = peak_bytes(&scene.relay)?;
    // A signature that is as well-formed as any, a message of somebody else, one outside its transaction, and a name
    // without end.
    scene
        .database
        .batch_execute(
            "set role anon;
             select pg_logical_emit_message(true, 'campfire.broadcast', E'v1 1 ' || repeat('0', 64) || E'\\n' || repeat('x', 200 << 20));
             select pg_logical_emit_message(true, 'theirs', repeat('x', 80 << 20));
             select pg_logical_emit_message(false, 'campfire.routes', repeat('x', 80 << 20));
             select pg_logical_emit_message(true, repeat('campfire.', 8 << 20), 'x');
             reset role",
        )
        .await?;
    let fence = Fence::message(&scene.database, ORGANIZATION, conversation).await?;
    let events = dashboard.events_before(&fence, &conv).await?;
    ensure!(events.is_empty(), "{events:?}");
    let peak = peak_bytes(&scene.relay)?;
    ensure!(peak < before + SLACK_BYTES, "from {before} to {peak} bytes");
    let refused = scene.relay.metric("campfire_messages_refused_total").await?;
    ensure!(refused == Some(1.0), "{refused:?}");
    // As long as our own may be is read.
    scene
        .database
        .batch_execute(
            "update campfire.settings set value = '16000000' where name = 'broadcast_organization_bytes_max'",
        )
        .await?;
    let send = format!(
        "set role service_role; select campfire.broadcast('{conv}', 'note:long', to_jsonb(repeat('x', 900000))); reset role"
    );
    scene.database.batch_execute(&send).await?;
    let long = dashboard.next_event().await?;
    ensure!(long.name == "note:long", "{}", long.name);
    Ok(())
}

/// The stream tells the lower half of a transaction's id; what SQL signs is the whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_sql_signs_is_believed_in_later_epochs_too() -> Result<()> {
    let mut cluster = Cluster::boot()?;
    cluster.stop("fast")?;
    let mut reset = as_server_user(cluster.server.program("pg_resetwal"));
    server::run(reset.args(["-e", "3", "-D"]).arg(cluster.data()))?;
    cluster.start()?;
    let relay = Settings::of(&cluster)?.start().await?;
    let database = cluster.connect().await?;
    let scene = Scene { relay, database, cluster };
    let row = scene.database.query_one("select pg_current_xact_id()::text::bigint >> 32", &[]).await?;
    ensure!(row.get::<_, i64>(0) == 3, "the epoch was set");
    let conversation = scene.conversation().await?;
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    let mut dashboard = scene.dashboard(Vsn::V2, &[&conv]).await?;
    broadcast(&scene, &conv, "note:made").await?;
    let event = dashboard.next_event().await?;
    ensure!(event.name == "note:made", "{event:?}");
    ensure!(scene.relay.metric("campfire_messages_refused_total").await?.unwrap_or_default() == 0.0);
    Ok(())
}
