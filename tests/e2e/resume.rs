//! Nothing lost: a client that comes back with its last position gets what it missed, in order, once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use campfire_tests::socket::{Event, Reply, Socket, Vsn, default_config};
use campfire_tests::wait::DEADLINE;
use campfire_tests::{ORGANIZATION, chat, eventually, server};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::scene::{Scene, contents, numbered, scene_test, with_settings};

/// The default join, with a replay.
fn replay(replay: Value) -> Value {
    let mut config = default_config();
    config["broadcast"]["replay"] = replay;
    config
}

/// Joins as the seeded agent and returns what the reply says of the replay.
pub(crate) async fn resume(scene: &Scene, socket: &mut Socket, channel: &str, from: Value) -> Result<Value> {
    let reply = socket.try_join(channel, Some(&scene.agent()), replay(from)).await?;
    ensure!(reply.is_ok(), "{reply:?}");
    Ok(reply.response["replay"].clone())
}

#[scene_test]
async fn a_client_that_was_away_gets_what_it_missed_in_order_and_once(scene: &mut Scene) -> Result<()> {
    let conversation = scene.conversation().await?;
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    for vsn in Vsn::BOTH {
        let mut socket = scene.dashboard(vsn, &[&conv]).await?;
        scene.write_messages(conversation, &numbered("seen", 3)).await?;
        let seen = socket.next_events(3).await?;
        drop(socket);
        scene.write_messages(conversation, &numbered("missed", 30)).await?;
        scene.settle().await?;

        let mut socket = scene.socket(vsn).await?;
        let after = json!({"after": seen[2].id()});
        let replay = resume(scene, &mut socket, &conv, after).await?;
        ensure!(replay["complete"] == true && replay["count"] == 30, "{replay}");
        let missed = socket.next_events(30).await?;
        ensure!(contents(&missed) == numbered("missed", 30), "{missed:?}");
        ensure!(missed.iter().all(|event| event.meta["replayed"] == true), "{missed:?}");
        scene.write_messages(conversation, &numbered("live", 3)).await?;
        let live = socket.next_events(3).await?;
        ensure!(contents(&live) == numbered("live", 3), "{live:?}");
        ensure!(live.iter().all(|event| event.meta["replayed"].is_null()), "{live:?}");
    }
    Ok(())
}

#[scene_test]
async fn a_quiet_channel_resumes_by_the_position_of_a_heartbeat(scene: &mut Scene) -> Result<()> {
    let conversation = scene.conversation().await?;
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    let mut socket = scene.socket(Vsn::V2).await?;
    let joined = resume(scene, &mut socket, &conv, json!({})).await?;
    ensure!(joined["complete"] == true && joined["count"] == 0, "{joined}");
    // Elsewhere in the organization much happens.
    let other = scene.conversation().await?;
    scene.write_messages(other, &numbered("elsewhere", 5)).await?;
    scene.settle().await?;
    let beat = socket.heartbeat().await?;
    let position = beat.response["position"].as_str().context("a position")?.to_owned();
    ensure!(position.as_str() > joined["position"].as_str().unwrap_or_default(), "{beat:?} {joined}");
    drop(socket);

    scene.relay.kill_9().await?;
    scene.write_messages(conversation, &numbered("missed", 2)).await?;
    scene.relay.start_again().await?;
    let mut socket = scene.socket(Vsn::V2).await?;
    let replay = resume(scene, &mut socket, &conv, json!({"after": position})).await?;
    ensure!(replay["complete"] == true && replay["count"] == 2, "{replay}");
    ensure!(contents(&socket.next_events(2).await?) == numbered("missed", 2));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_left_the_window_is_said_to_be_missing() {
    let short = |settings: campfire_tests::relay::Settings| settings.env("CAMPFIRE_WINDOW_SECONDS", "1");
    with_settings(short, async |scene| {
        let conversation = scene.conversation().await?;
        let conv = chat::conversation_channel(ORGANIZATION, conversation);
        let mut socket = scene.dashboard(Vsn::V2, &[&conv]).await?;
        scene.write_messages(conversation, &numbered("seen", 1)).await?;
        let seen = socket.next_event().await?;
        drop(socket);
        scene.write_messages(conversation, &numbered("missed", 3)).await?;
        scene.settle().await?;
        eventually("the window has emptied", async || {
            scene.relay.metric("campfire_window_events").await.ok().flatten().filter(|events| *events == 0.0)
        })
        .await;

        let mut socket = scene.socket(Vsn::V2).await?;
        let replay = resume(scene, &mut socket, &conv, json!({"after": seen.id()})).await?;
        ensure!(replay["complete"] == false && replay["count"] == 0, "{replay}");
        let notice = socket.frame_where("the notice", |frame| frame.event == "system").await?;
        let message = notice.payload["message"].as_str().unwrap_or_default();
        ensure!(notice.payload["status"] == "ok" && message.starts_with("ReplayIncomplete"), "{notice:?}");
        // From here on it is complete again, unless the window passes that position as well before the client is back.
        eventually("it is complete again", async || {
            let mut socket = scene.socket(Vsn::V2).await.ok()?;
            resume(scene, &mut socket, &conv, json!({})).await.ok()?;
            let position = socket.heartbeat().await.ok()?.response["position"].clone();
            drop(socket);
            let mut socket = scene.socket(Vsn::V2).await.ok()?;
            let replay = resume(scene, &mut socket, &conv, json!({"after": position})).await.ok()?;
            (replay["complete"] == true).then_some(())
        })
        .await;
        Ok(())
    })
    .await;
}

/// A relay that starts reads old rows by the routes of today, and cannot know what they led to then.
#[scene_test]
async fn what_other_routes_sent_before_a_restart_is_said_to_be_missing(scene: &mut Scene) -> Result<()> {
    let conversation = scene.conversation().await?;
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    let mut socket = scene.socket(Vsn::V2).await?;
    let joined = resume(scene, &mut socket, &conv, json!({})).await?;
    drop(socket);
    let switch = |on: bool| {
        format!("select campfire.enable_route(id, {on}) from campfire.routes where event = 'message:deleted'")
    };
    scene.database.batch_execute(&switch(true)).await?;
    scene.write_messages(conversation, &numbered("short-lived", 1)).await?;
    scene.database.batch_execute("delete from messages").await?;
    scene.database.batch_execute(&switch(false)).await?;
    scene.settle().await?;
    let mut socket = scene.socket(Vsn::V2).await?;
    let replay = resume(scene, &mut socket, &conv, json!({"after": joined["position"]})).await?;
    ensure!(replay["complete"] == true && replay["count"] == 2, "{replay}");
    drop(socket);

    scene.relay.kill_9().await?;
    scene.relay.start_again().await?;
    let mut socket = scene.socket(Vsn::V2).await?;
    let replay = resume(scene, &mut socket, &conv, json!({"after": joined["position"]})).await?;
    ensure!(replay["complete"] == false, "{replay}");
    // What came after the last change of routes is all there.
    scene.write_messages(conversation, &numbered("later", 2)).await?;
    let mut later = socket.next_events(2).await?;
    drop(socket);
    scene.relay.kill_9().await?;
    scene.relay.start_again().await?;
    let mut socket = scene.socket(Vsn::V2).await?;
    let replay = resume(scene, &mut socket, &conv, json!({"after": later.remove(0).id()})).await?;
    ensure!(replay["complete"] == true && replay["count"] == 1, "{replay}");
    Ok(())
}

#[scene_test]
async fn since_gives_the_newest_events_of_a_time(scene: &mut Scene) -> Result<()> {
    let conversation = scene.conversation().await?;
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    scene.write_messages(conversation, &numbered("message", 10)).await?;
    scene.settle().await?;
    let mut socket = scene.socket(Vsn::V1).await?;
    let replay = resume(scene, &mut socket, &conv, json!({"since": 0, "limit": 4})).await?;
    ensure!(replay["count"] == 4 && replay["complete"] == false, "{replay}");
    ensure!(contents(&socket.next_events(4).await?) == numbered("message", 10)[6..]);
    Ok(())
}

/// A client as an application would write it: remembers its position, comes back, drops what it has.
struct Reader {
    address: String,
    api_key: String,
    vsn: Vsn,
    channel: String,
    token: String,
    position: Option<String>,
    events: Vec<Event>,
    sessions: u32,
    duplicates: u32,
    incomplete: u32,
}

impl Reader {
    /// The first session: from here on nothing may be missed.
    async fn join(&mut self) -> Result<Socket> {
        let connected = Socket::try_connect(&self.address, &self.api_key, self.vsn).await?;
        let Ok(mut socket) = connected else { bail!("refused") };
        let from = self.position.as_ref().map_or(json!({}), |position| json!({"after": position}));
        let reply: Reply = socket.try_join(&self.channel, Some(&self.token), replay(from)).await?;
        ensure!(reply.is_ok(), "{reply:?}");
        let said = &reply.response["replay"];
        self.sessions += 1;
        self.incomplete += u32::from(said["complete"] != true);
        // With events to come, only the last of them proves that all came.
        if said["count"] == 0 {
            self.position = said["position"].as_str().map(str::to_owned);
        }
        Ok(socket)
    }

    /// Reads over as many connections as it takes, until the last message.
    async fn read_until(mut self, mut socket: Socket, last: String) -> Result<Self> {
        loop {
            match socket.next_event().await {
                Ok(event) => {
                    if self.events.last().is_some_and(|known| known.id() >= event.id()) {
                        self.duplicates += 1;
                        continue;
                    }
                    self.position = Some(event.id().to_owned());
                    let is_last = event.payload["content"] == last;
                    self.events.push(event);
                    if is_last {
                        return Ok(self);
                    }
                }
                Err(_) => {
                    socket = loop {
                        match self.join().await {
                            Ok(socket) => break socket,
                            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                        }
                    };
                }
            }
        }
    }
}

#[scene_test]
async fn two_hundred_clients_survive_a_relay_killed_with_9_under_load(scene: &mut Scene) -> Result<()> {
    const CLIENTS: usize = 200;
    const CONVERSATIONS: usize = 10;
    const MESSAGES: usize = 1000;
    const KILLS: usize = 3;
    let mut conversations = Vec::new();
    for _ in 0..CONVERSATIONS {
        conversations.push(scene.conversation().await?);
    }
    let contents_wanted = numbered("message", MESSAGES);
    let last = contents_wanted.last().context("messages")?.clone();
    let mut readers = Vec::new();
    for index in 0..CLIENTS {
        let mut reader = Reader {
            address: scene.relay.address(),
            api_key: scene.cluster.credentials.api_key.clone(),
            vsn: Vsn::BOTH[index / CONVERSATIONS % 2],
            channel: chat::conversation_channel(ORGANIZATION, conversations[index % CONVERSATIONS]),
            token: scene.agent(),
            position: None,
            events: Vec::new(),
            sessions: 0,
            duplicates: 0,
            incomplete: 0,
        };
        let socket = reader.join().await?;
        readers.push(tokio::spawn(reader.read_until(socket, last.clone())));
    }

    let written = Arc::new(AtomicUsize::new(0));
    let database = scene.cluster.connect().await?;
    let writing = write(database, conversations, contents_wanted.clone(), Arc::clone(&written));
    let writer = tokio::spawn(writing);
    for kill in 1..=KILLS {
        // Spread over the writing, which goes on all the while.
        eventually("enough was written for the next kill", async || {
            (written.load(Ordering::Relaxed) >= kill * MESSAGES / (KILLS + 1)).then_some(())
        })
        .await;
        scene.relay.kill_9().await?;
        scene.relay.start_again().await?;
    }
    writer.await??;

    let (mut sessions, mut duplicates) = (0, 0);
    for reader in readers {
        let reader = tokio::time::timeout(DEADLINE, reader)
            .await
            .context("a client never got the last message")???;
        ensure!(
            contents(&reader.events) == contents_wanted,
            "{}: {:?}",
            reader.channel,
            contents(&reader.events)
        );
        ensure!(reader.incomplete == 0, "{}: announced {} losses", reader.channel, reader.incomplete);
        sessions += reader.sessions;
        duplicates += reader.duplicates;
    }
    println!(
        "{CLIENTS} clients, {sessions} sessions, {KILLS} kills, {MESSAGES} messages each: gaps 0, duplicates before de-duplication {duplicates}"
    );
    ensure!(sessions as usize > CLIENTS, "nobody had to come back");
    Ok(())
}

/// One transaction a message, round and round the conversations.
async fn write(
    database: tokio_postgres::Client,
    conversations: Vec<Uuid>,
    contents: Vec<String>,
    written: Arc<AtomicUsize>,
) -> Result<()> {
    let statement = database
        .prepare("insert into messages (organization_id, conversation_id, content, sender_type) values ($1, $2, $3, 'visitor')")
        .await?;
    for content in &contents {
        for conversation in &conversations {
            database.execute(&statement, &[&ORGANIZATION, conversation, content]).await?;
        }
        written.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_open_socket_is_found_and_one_that_beats_is_kept() {
    let impatient = |settings: campfire_tests::relay::Settings| settings.env("CAMPFIRE_IDLE_SECONDS", "15");
    with_settings(impatient, async |scene| {
        let conversation = scene.conversation().await?;
        let conv = chat::conversation_channel(ORGANIZATION, conversation);
        // As one whose network is gone: it neither sends nor closes. Events still go out to it.
        let mut half_open = scene.dashboard(Vsn::V2, &[&conv]).await?;
        let mut alive = scene.dashboard(Vsn::V1, &[&conv]).await?;
        let closed = async {
            let code = half_open.wait_for_close().await?;
            ensure!(code == Some(1000), "{code:?}");
            anyhow::Ok(())
        };
        let beating = async {
            loop {
                alive.heartbeat().await?;
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        };
        tokio::select! {
            outcome = closed => outcome?,
            beat = beating => { let never: Result<()> = beat; never? },
        }
        eventually("its channel is gone, the other's is not", async || {
            scene.relay.metric("campfire_channels").await.ok().flatten().filter(|channels| *channels == 1.0)
        })
        .await;
        scene.write_messages(conversation, &numbered("still", 1)).await?;
        ensure!(contents(&alive.next_events(1).await?) == numbered("still", 1));
        Ok(())
    })
    .await;
}

#[scene_test]
async fn a_slot_that_is_dropped_is_announced_to_every_channel_and_made_anew(scene: &mut Scene) -> Result<()> {
    scene.relay.expect_log("not attached to the slot");
    scene.relay.expect_log("events are missing");
    let conversation = scene.conversation().await?;
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    let mut dashboard = scene.dashboard(Vsn::V2, &[&conv]).await?;
    scene.write_messages(conversation, &numbered("before", 1)).await?;
    let before = dashboard.next_event().await?;

    // As a DBA does who needs the disk: whoever holds the slot is sent away first.
    let drop_it = "select pg_drop_replication_slot('campfire')";
    scene.with_free_slot(async |database| Ok(database.batch_execute(drop_it).await?)).await?;
    let notice = dashboard.frame_where("the announcement", |frame| frame.event == "system").await?;
    let message = notice.payload["message"].as_str().unwrap_or_default();
    ensure!(notice.payload["status"] == "ok" && message.starts_with("ReplayIncomplete"), "{notice:?}");
    scene.relay.wait_until_ready().await?;
    scene.write_messages(conversation, &numbered("after", 2)).await?;
    ensure!(contents(&dashboard.next_events(2).await?) == numbered("after", 2));
    ensure!(scene.relay.metric("campfire_slot_losses_total").await? == Some(1.0));

    let mut late = scene.socket(Vsn::V2).await?;
    let replay = resume(scene, &mut late, &conv, json!({"after": before.id()})).await?;
    ensure!(replay["complete"] == false, "{replay}");
    // Nothing is missing from where the notices say, of then and of now.
    let of_now = late.frame_where("the notice", |frame| frame.event == "system").await?;
    for notice in [notice, of_now] {
        let mut back = scene.socket(Vsn::V2).await?;
        let after = notice.payload["position"].clone();
        let replay = resume(scene, &mut back, &conv, json!({"after": after})).await?;
        ensure!(replay["complete"] == true && replay["count"] == 2, "{notice:?}: {replay}");
        ensure!(contents(&back.next_events(2).await?) == numbered("after", 2));
    }
    Ok(())
}

#[scene_test]
async fn a_promotion_to_a_new_timeline_keeps_ids_and_positions(scene: &mut Scene) -> Result<()> {
    scene.relay.expect_log("not attached to the slot");
    let conversation = scene.conversation().await?;
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    let mut dashboard = scene.dashboard(Vsn::V2, &[&conv]).await?;
    scene.write_messages(conversation, &numbered("before", 3)).await?;
    let before = dashboard.next_events(3).await?;

    // The data directory becomes a standby's, and is promoted: the same WAL goes on as timeline 2.
    scene.cluster.stop("fast")?;
    std::fs::write(scene.cluster.data().join("standby.signal"), "")?;
    scene.cluster.start()?;
    scene.database = scene.cluster.connect().await?;
    scene.database.execute("select pg_promote(true, 60)", &[]).await?;
    scene.write_messages(conversation, &numbered("after", 3)).await?;
    let after = dashboard.next_events(3).await.context("the socket outlives the promotion")?;
    ensure!(contents(&after) == numbered("after", 3), "{after:?}");
    let timelines = |events: &[Event]| {
        events.iter().map(|event| event.id().split('.').nth(1).map(str::to_owned)).collect::<Vec<_>>()
    };
    ensure!(timelines(&before) == vec![Some("00000001".to_owned()); 3], "{before:?}");
    ensure!(timelines(&after) == vec![Some("00000002".to_owned()); 3], "{after:?}");

    // Both the relay that lived through it and one that starts anew know the old positions.
    for _ in 0..2 {
        let mut socket = scene.socket(Vsn::V2).await?;
        let replay = resume(scene, &mut socket, &conv, json!({"after": before[0].id()})).await?;
        ensure!(replay["complete"] == true && replay["count"] == 5, "{replay}");
        let ids = |events: &[Event]| events.iter().map(|event| event.id().to_owned()).collect::<Vec<_>>();
        let again = socket.next_events(5).await?;
        ensure!(ids(&again) == [ids(&before[1..]), ids(&after)].concat(), "{again:?}");
        scene.relay.kill_9().await?;
        scene.relay.start_again().await?;
    }
    Ok(())
}

/// What commits on the new primary before the relay comes goes by the routes that were in force then.
#[scene_test]
async fn a_promotion_leaves_routes_their_places_in_the_wal(scene: &mut Scene) -> Result<()> {
    scene.relay.expect_log("not attached to the slot");
    let switch = |on: bool| {
        format!("select campfire.enable_route(id, {on}) from campfire.routes where event = 'message:deleted'")
    };
    scene.database.batch_execute(&switch(true)).await?;
    let conversation = scene.conversation().await?;
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    let mut dashboard = scene.dashboard(Vsn::V2, &[&conv]).await?;
    scene.write_messages(conversation, &numbered("before", 1)).await?;
    dashboard.next_event().await?;

    scene.cluster.stop("fast")?;
    server::signal(scene.relay.pid(), "STOP");
    std::fs::write(scene.cluster.data().join("standby.signal"), "")?;
    scene.cluster.start()?;
    scene.database = scene.cluster.connect().await?;
    scene.database.execute("select pg_promote(true, 60)", &[]).await?;
    scene.write_messages(conversation, &numbered("short-lived", 1)).await?;
    scene.database.batch_execute("delete from messages where content like 'short-lived%'").await?;
    scene.database.batch_execute(&switch(false)).await?;
    scene.write_messages(conversation, &numbered("after", 1)).await?;
    scene.database.batch_execute("delete from messages").await?;
    scene.write_messages(conversation, &numbered("last", 1)).await?;
    server::signal(scene.relay.pid(), "CONT");

    let heard = dashboard.next_events(4).await?;
    let names: Vec<&str> = heard.iter().map(|event| event.name.as_str()).collect();
    let created = "message:created";
    ensure!(names == [created, "message:deleted", created, created], "{heard:?}");
    ensure!(heard[3].payload["content"] == numbered("last", 1)[0].as_str(), "{heard:?}");
    Ok(())
}

#[scene_test]
async fn a_slot_advanced_by_hand_while_no_relay_ran_is_not_passed_over_in_silence(
    scene: &mut Scene,
) -> Result<()> {
    let conversation = scene.conversation().await?;
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    let mut dashboard = scene.dashboard(Vsn::V2, &[&conv]).await?;
    scene.write_messages(conversation, &numbered("before", 1)).await?;
    let before = dashboard.next_event().await?;
    scene.relay.kill_9().await?;
    scene.write_messages(conversation, &numbered("passed over", 2)).await?;
    eventually("the slot is advanced", async || {
        let advance = "select pg_replication_slot_advance('campfire', pg_current_wal_lsn())";
        scene.database.execute(advance, &[]).await.ok()
    })
    .await;
    scene.relay.start_again().await?;
    let mut socket = scene.socket(Vsn::V2).await?;
    let replay = resume(scene, &mut socket, &conv, json!({"after": before.id()})).await?;
    ensure!(replay["complete"] == false && replay["count"] == 0, "{replay}");
    Ok(())
}
