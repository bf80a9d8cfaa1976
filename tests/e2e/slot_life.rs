//! What may become of the slot under a running relay, and what the relay makes of it.

use anyhow::{Result, ensure};
use campfire_tests::relay::Settings;
use campfire_tests::socket::Vsn;
use campfire_tests::{ORGANIZATION, chat, eventually, server};

use crate::scene::{Scene, numbered, scene_test, with_settings};

async fn metric(scene: &Scene, name: &str) -> f64 {
    scene.relay.metric(name).await.ok().flatten().unwrap_or_default()
}

/// The poison is a row that is larger than the relay accepts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poison_row_stops_the_stream_by_name_and_is_never_skipped() {
    let settings = |settings: Settings| {
        settings.env("CAMPFIRE_WAL_FRAME_BYTES", "100000").env("CAMPFIRE_STOP_AFTER_FAILURES", "3")
    };
    with_settings(settings, async |scene| {
        let alarms = ["not attached to the slot", "stopped: the stream fails at this position each time"];
        alarms.into_iter().for_each(|text| scene.relay.expect_log(text));
        let conversation = scene.conversation().await?;
        scene.write_messages(conversation, &["x".repeat(200_000)]).await?;
        eventually("the stream is stopped", async || {
            (metric(scene, "campfire_slot_stopped").await == 1.0).then_some(())
        })
        .await;
        let pid = scene.relay.pid();
        ensure!(scene.relay.get("/readyz").await?.status == 503);
        ensure!(scene.relay.get("/healthz").await?.status == 200, "the process lives");
        let count = |text: &str| {
            let said = scene.relay.log_of("campfire_relay::ingest");
            let messages = said.iter().filter_map(|line| line["fields"]["message"].as_str());
            messages.filter(|message| message.starts_with(text)).count()
        };
        eventually("it is told", async || (count("stopped: the stream") > 0).then_some(())).await;
        // As often as CAMPFIRE_STOP_AFTER_FAILURES says, then once a minute. A failure before the conversation was handed on
        // was at another place, and does not count.
        ensure!(count("attached to the slot") >= 3 && count("stopped: the stream") == 1);
        scene.relay.wait_for_log(r#""failures":3"#).await;
        scene.relay.wait_for_log(r#""retry_in_seconds":60"#).await;
        ensure!(scene.relay.pid() == pid);

        // One of the operator's choices.
        scene.relay.terminate().await?;
        let advance = "select pg_replication_slot_advance('campfire', pg_current_wal_lsn())";
        scene.database.execute(advance, &[]).await?;
        scene.relay.start_again().await?;
        ensure!(metric(scene, "campfire_slot_stopped").await == 0.0);
        Ok(())
    })
    .await;
}

/// `CAMPFIRE_SLOT_MAX_BYTES`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_holds_back_too_much_is_dropped_and_the_loss_announced() {
    let settings = |settings: Settings| settings.env("CAMPFIRE_SLOT_MAX_BYTES", "30000000");
    with_settings(settings, async |scene| {
        for text in ["holds back", "events are missing"] {
            scene.relay.expect_log(text);
        }
        let list = chat::conversations_channel(ORGANIZATION);
        let _dashboard = scene.dashboard(Vsn::V2, &[&list]).await?;
        scene.database.batch_execute("create table bulk (filler text)").await?;
        let filler = "insert into bulk select repeat('x', 1000) from generate_series(1, 40000)";
        scene.database.batch_execute(filler).await?;
        eventually("the loss is announced", async || {
            (metric(scene, "campfire_slot_losses_total").await == 1.0).then_some(())
        })
        .await;
        scene.relay.wait_until_ready().await?;
        let held = "select (pg_current_wal_lsn() - restart_lsn)::int8 from pg_replication_slots";
        let held: i64 = scene.database.query_one(held, &[]).await?.get(0);
        ensure!(held < 30_000_000, "the new slot holds back {held} bytes");
        Ok(())
    })
    .await;
}

/// Somebody else moves the slot.
#[scene_test]
async fn a_slot_advanced_by_hand_is_announced_as_a_loss(scene: &mut Scene) -> Result<()> {
    for text in ["not attached to the slot", "events are missing"] {
        scene.relay.expect_log(text);
    }
    let conversation = scene.conversation().await?;
    // The relay is kept from the slot while it is moved beyond what was delivered.
    scene
        .with_free_slot(async |database| {
            scene.write_messages(conversation, &numbered("skipped", 1)).await?;
            let advance = "select pg_replication_slot_advance('campfire', pg_current_wal_lsn())";
            database.execute(advance, &[]).await?;
            Ok(())
        })
        .await?;
    eventually("the loss is announced", async || {
        (metric(scene, "campfire_slot_losses_total").await == 1.0).then_some(())
    })
    .await;
    scene.relay.wait_for_log("advanced by somebody else").await;
    scene.relay.wait_until_ready().await
}

#[scene_test]
async fn a_slot_dropped_by_hand_before_a_start_is_explained_and_no_error(scene: &mut Scene) -> Result<()> {
    scene.relay.terminate().await?;
    eventually("the slot is dropped", async || {
        scene.database.batch_execute("select pg_drop_replication_slot('campfire')").await.ok()
    })
    .await;
    scene.relay.expect_log("If the old one was dropped on purpose, this is as expected");
    scene.relay.start_again().await?;
    ensure!(!scene.relay.log_text().contains(r#""level":"ERROR""#), "{}", scene.relay.log_text());
    ensure!(metric(scene, "campfire_slot_losses_total").await == 1.0);
    // Told once: the slot is the relay's own from here on.
    scene.relay.terminate().await?;
    scene.relay.start_again().await?;
    ensure!(metric(scene, "campfire_slot_losses_total").await == 0.0);
    Ok(())
}

/// A relay that hangs holds the slot without end if `wal_sender_timeout` is off.
#[scene_test]
async fn a_standby_takes_over_from_a_relay_that_hangs(scene: &mut Scene) -> Result<()> {
    scene.relay.expect_log("not attached to the slot");
    let role = "alter system set wal_sender_timeout = 0";
    scene.database.batch_execute(role).await?;
    scene.database.batch_execute("select pg_reload_conf()").await?;
    ensure!(server::signal(scene.relay.pid(), "STOP"));
    let standby = Settings::of(&scene.cluster)?.env("CAMPFIRE_TAKEOVER_SECONDS", "4").spawn();
    let outcome = async {
        let mut standby = standby?;
        standby.expect_log("the relay on the slot hangs");
        standby.wait_until_ready().await
    }
    .await;
    ensure!(server::signal(scene.relay.pid(), "CONT"));
    outcome
}
