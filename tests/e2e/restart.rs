//! Relay and Postgres go and come back, politely or not. Nothing is skipped, ids
//! stay what they were, and what is old is never sent as if it were new.
//!
//! What the relay decodes again is observed by the trace of its router: one line an
//! event, with its id. What clients get of it is `resume`'s.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use campfire_tests::fence::Fence;
use campfire_tests::socket::{Socket, Vsn};
use campfire_tests::{ORGANIZATION, Relay, chat, eventually};
use uuid::Uuid;

use crate::scene::{Scene, contents, numbered, scene_test, with_settings};

/// Ids that the relay's present run has routed to a channel until it had caught up, in order.
async fn routed(relay: &Relay, channel: &str) -> Vec<String> {
    relay.wait_for_log("caught up with Postgres").await;
    relay
        .log_of("campfire_relay::route")
        .iter()
        .map(|line| &line["fields"])
        .filter(|fields| fields["topic"] == channel)
        .filter_map(|fields| fields["id"].as_str().map(str::to_owned))
        .collect()
}

/// Where the slot would be read from again.
async fn confirmed(scene: &Scene) -> Result<u64> {
    let row = scene
        .database
        .query_one(
            "select (confirmed_flush_lsn - '0/0')::text from pg_replication_slots where slot_name = 'campfire'",
            &[],
        )
        .await?;
    Ok(row.get::<_, String>(0).parse()?)
}

/// The end of the WAL.
async fn head(scene: &Scene) -> Result<u64> {
    let row = scene.database.query_one("select (pg_current_wal_flush_lsn() - '0/0')::text", &[]).await?;
    Ok(row.get::<_, String>(0).parse()?)
}

async fn conversation_with_dashboard(scene: &Scene) -> Result<(Uuid, String, Socket)> {
    let conversation = scene.conversation().await?;
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    let dashboard = scene.dashboard(Vsn::V2, &[&conv]).await?;
    Ok((conversation, conv, dashboard))
}

#[scene_test]
async fn a_relay_killed_with_9_decodes_again_what_was_unconfirmed_with_the_same_ids(
    scene: &mut Scene,
) -> Result<()> {
    // The window of 300 s trails behind all of this: nothing is confirmed yet.
    let (conversation, conv, mut dashboard) = conversation_with_dashboard(scene).await?;
    scene.write_messages(conversation, &numbered("before", 20)).await?;
    let seen: Vec<String> =
        dashboard.next_events(20).await?.iter().map(|event| event.id().to_owned()).collect();

    scene.relay.kill_9().await?;
    scene.write_messages(conversation, &numbered("while down", 5)).await?;
    scene.relay.start_again().await?;

    let again = routed(&scene.relay, &conv).await;
    ensure!(again.len() == 25, "{} events instead of 25: {again:?}", again.len());
    ensure!(again[..20] == seen[..], "other ids: {again:?} {seen:?}");
    ensure!(again.is_sorted_by(|earlier, later| earlier < later), "{again:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_begins_at_the_first_unconfirmed_transaction() {
    let short = |settings: campfire_tests::relay::Settings| settings.env("CAMPFIRE_WINDOW_SECONDS", "1");
    with_settings(short, async |scene| {
        let (conversation, conv, mut dashboard) = conversation_with_dashboard(scene).await?;
        scene.write_messages(conversation, &numbered("confirmed", 3)).await?;
        let confirmed_ids: Vec<String> =
            dashboard.next_events(3).await?.iter().map(|event| event.id().to_owned()).collect();
        let end = head(scene).await?;
        eventually("the slot passes what has left the window", async || {
            confirmed(scene).await.ok().filter(|lsn| *lsn >= end)
        })
        .await;

        // From here on nothing leaves the window, however long the rest takes.
        scene.relay.kill_9().await?;
        scene.relay.set("CAMPFIRE_WINDOW_SECONDS", "3600");
        scene.relay.start_again().await?;
        let mut dashboard = scene.dashboard(Vsn::V2, &[&conv]).await?;
        scene.write_messages(conversation, &numbered("unconfirmed", 3)).await?;
        let unconfirmed_ids: Vec<String> =
            dashboard.next_events(3).await?.iter().map(|event| event.id().to_owned()).collect();
        scene.relay.kill_9().await?;
        scene.relay.start_again().await?;

        let again = routed(&scene.relay, &conv).await;
        ensure!(again == unconfirmed_ids, "{again:?} {unconfirmed_ids:?}");
        ensure!(confirmed_ids.iter().all(|id| !again.contains(id)));
        Ok(())
    })
    .await;
}

#[scene_test]
async fn a_restart_never_sends_old_rows_as_live(scene: &mut Scene) -> Result<()> {
    let conversation = scene.conversation().await?;
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    scene.relay.kill_9().await?;
    scene
        .database
        .execute(
            "insert into messages (organization_id, conversation_id, content, sender_type)
             select $1, $2, 'old ' || n, 'visitor' from generate_series(1, 20000) n",
            &[&ORGANIZATION, &conversation],
        )
        .await?;

    let key = scene.cluster.credentials.api_key.clone();
    let address = scene.relay.address();
    // Until it has the agents the relay cannot be through, so that somebody can try and come in meanwhile.
    let mut locker = scene.cluster.connect().await?;
    let lock = locker.transaction().await?;
    lock.batch_execute("lock table agents in access exclusive mode").await?;
    let knock = async {
        let mut lock = Some(lock);
        loop {
            // Nobody listens at first; then the answer is 503; then a socket.
            match Socket::try_connect(&address, &key, Vsn::V2).await {
                Ok(Ok(socket)) => {
                    ensure!(lock.is_none(), "a socket is let in although there are no agents");
                    return Ok(socket);
                }
                Ok(Err(answer)) => {
                    ensure!(answer.status == 503, "{answer:?}");
                    if let Some(lock) = lock.take() {
                        lock.rollback().await?;
                    }
                }
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let (started, knocked) = tokio::join!(scene.relay.start_again(), knock);
    started?;
    let mut dashboard = knocked?;
    dashboard.join(&conv, &scene.agent()).await?;
    let fence = Fence::message(&scene.database, ORGANIZATION, conversation).await?;
    let events = dashboard.events_before(&fence, &conv).await?;
    ensure!(events.is_empty(), "{} old rows as live", events.len());
    Ok(())
}

#[scene_test]
async fn a_terminated_relay_confirms_nothing_that_is_in_the_window(scene: &mut Scene) -> Result<()> {
    let (conversation, conv, mut dashboard) = conversation_with_dashboard(scene).await?;
    scene.write_messages(conversation, &numbered("before", 4)).await?;
    dashboard.next_events(4).await?;
    let before = confirmed(scene).await?;
    let status = scene.relay.terminate().await?;
    ensure!(status.success(), "{status}");
    let after = confirmed(scene).await?;
    ensure!(after == before, "SIGTERM confirmed up to {after}, from {before}");
    scene.relay.start_again().await?;
    ensure!(routed(&scene.relay, &conv).await.len() == 4);
    Ok(())
}

#[scene_test]
async fn a_fast_shutdown_of_postgres_does_not_wait_for_the_relay(scene: &mut Scene) -> Result<()> {
    expect_outage(&mut scene.relay);
    let (conversation, conv, mut dashboard) = conversation_with_dashboard(scene).await?;
    scene.write_messages(conversation, &numbered("before", 50)).await?;
    dashboard.next_events(50).await?;

    // Fails if it has to wait for the window: that is longer than the harness waits for anything.
    let took = scene.cluster.stop("fast")?;
    println!("fast shutdown with the relay attached: {took:?}");

    come_back(scene, conversation, &conv, &mut dashboard).await
}

#[scene_test]
async fn postgres_killed_with_9_loses_nothing_and_doubles_nothing(scene: &mut Scene) -> Result<()> {
    expect_outage(&mut scene.relay);
    let (conversation, conv, mut dashboard) = conversation_with_dashboard(scene).await?;
    scene.write_messages(conversation, &numbered("before", 50)).await?;
    dashboard.next_events(50).await?;
    scene.cluster.kill_9()?;
    come_back(scene, conversation, &conv, &mut dashboard).await
}

/// Postgres starts again; the socket that outlived it hears what is new, once.
async fn come_back(scene: &mut Scene, conversation: Uuid, conv: &str, dashboard: &mut Socket) -> Result<()> {
    scene.cluster.start()?;
    scene.database = scene.cluster.connect().await?;
    scene.write_messages(conversation, &numbered("after", 5)).await?;
    let events = dashboard.next_events(5).await.context("after the restart")?;
    ensure!(contents(&events) == numbered("after", 5), "{events:?}");
    let fence = Fence::message(&scene.database, ORGANIZATION, conversation).await?;
    let surplus = dashboard.events_before(&fence, conv).await?;
    ensure!(surplus.is_empty(), "{surplus:?}");
    scene.relay.wait_until_ready().await
}

/// An outage is worth a warning, and a test that makes one declares it.
fn expect_outage(relay: &mut Relay) {
    relay.expect_log("not attached to the slot");
}

#[scene_test]
async fn a_relay_starts_while_a_synchronous_standby_is_dead(scene: &mut Scene) -> Result<()> {
    let conversation = scene.conversation().await?;
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    scene.name_dead_standby().await?;
    scene.relay.kill_9().await?;
    scene.relay.start_again().await?;
    let mut dashboard = scene.dashboard(Vsn::V2, &[&conv]).await?;
    scene.write_messages(conversation, &numbered("while it is dead", 1)).await?;
    ensure!(contents(&[dashboard.next_event().await?]) == ["while it is dead 1"]);
    Ok(())
}
