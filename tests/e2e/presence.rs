//! Presence under crowds and accidents; what single frames look like is in `conformance_presence`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use campfire_tests::relay::Settings;
use campfire_tests::socket::{Vsn, default_config};
use campfire_tests::wait::DEADLINE;
use campfire_tests::{ORGANIZATION, Socket, chat, eventually};
use serde_json::{Value, json};

use crate::scene::{Scene, scene_test, with_settings};

/// The config of a join that asks for presence.
pub(crate) fn presence_config(key: &str) -> Value {
    let mut config = default_config();
    config["presence"] = json!({"key": key, "enabled": true});
    config
}

/// Tracks, and insists on the ok.
pub(crate) async fn track(socket: &mut Socket, channel: &str, tracked: Value) -> Result<()> {
    let call = json!({"type": "presence", "event": "track", "payload": tracked});
    let reply = socket.request(channel, "presence", call).await?;
    ensure!(reply.is_ok() && reply.response == json!({}), "{reply:?}");
    Ok(())
}

/// The next presence frame: `presence_state` or `presence_diff`.
pub(crate) async fn next_presence(socket: &mut Socket, event: &str) -> Result<Value> {
    Ok(socket.frame_where(event, |frame| frame.event == event).await?.payload)
}

fn public(settings: Settings) -> Settings {
    settings.env("CAMPFIRE_PUBLIC_CHANNELS", "allow")
}

/// A member that has joined and been told who is there.
async fn member(scene: &Scene, vsn: Vsn, channel: &str, key: &str) -> Result<(Socket, Value)> {
    let mut socket = scene.socket(vsn).await?;
    let reply = socket.try_join(channel, None, presence_config(key)).await?;
    ensure!(reply.is_ok(), "{reply:?}");
    let state = next_presence(&mut socket, "presence_state").await?;
    Ok((socket, state))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reconnects_within_the_grace_was_never_away() {
    let settings = |settings| public(settings).env("CAMPFIRE_PRESENCE_GRACE_SECONDS", "3600");
    with_settings(settings, async |scene| {
        for vsn in Vsn::BOTH {
            let room = format!("lobby {vsn:?}");
            let (mut watcher, _) = member(scene, vsn, &room, "watcher").await?;
            let (mut ann, _) = member(scene, vsn, &room, "ann").await?;
            track(&mut ann, &room, json!({"name": "Ann"})).await?;
            let diff = next_presence(&mut watcher, "presence_diff").await?;
            ensure!(diff["joins"]["ann"]["metas"][0]["name"] == "Ann", "{diff}");
            // The connection breaks; no leave, no close frame. Once that is noticed, she is on her way back, not a second
            // device.
            let sockets = async || scene.relay.metric("campfire_sockets").await.ok().flatten();
            let before = sockets().await.context("a count of sockets")?;
            drop(ann);
            let noticed = async || (sockets().await? < before).then_some(());
            eventually("the relay notices", noticed).await;
            let (mut ann, state) = member(scene, vsn, &room, "ann").await?;
            ensure!(state["ann"]["metas"].as_array().is_some_and(|metas| metas.len() == 1), "{state}");
            track(&mut ann, &room, json!({"name": "Ann"})).await?;
            // Somebody else's coming is what the watcher hears of next: the flap was no news.
            let (mut bob, _) = member(scene, vsn, &room, "bob").await?;
            track(&mut bob, &room, json!({"name": "Bob"})).await?;
            let diff = next_presence(&mut watcher, "presence_diff").await?;
            ensure!(diff["joins"].get("ann").is_none() && diff["leaves"] == json!({}), "{diff}");
            ensure!(diff["joins"]["bob"]["metas"][0]["name"] == "Bob", "{diff}");
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_open_socket_leaves_no_ghost() {
    let settings = |settings| {
        public(settings).env("CAMPFIRE_IDLE_SECONDS", "15").env("CAMPFIRE_PRESENCE_GRACE_SECONDS", "1")
    };
    with_settings(settings, async |scene| {
        let (mut watcher, _) = member(scene, Vsn::V2, "lobby", "watcher").await?;
        let (mut ann, _) = member(scene, Vsn::V2, "lobby", "ann").await?;
        track(&mut ann, "lobby", json!({"name": "Ann"})).await?;
        next_presence(&mut watcher, "presence_diff").await?;
        // Ann's machine sleeps: the connection stays, and nothing comes on it. The watcher beats on.
        let beating = async {
            loop {
                watcher.heartbeat().await?;
                let told = tokio::time::timeout(
                    Duration::from_millis(500),
                    next_presence(&mut watcher, "presence_diff"),
                );
                if let Ok(diff) = told.await {
                    return diff;
                }
            }
        };
        let diff = tokio::time::timeout(DEADLINE, beating).await.context("a ghost")??;
        ensure!(diff["leaves"]["ann"]["metas"][0]["name"] == "Ann" && diff["joins"] == json!({}), "{diff}");
        ensure!(ann.wait_for_close().await? == Some(1000));
        Ok(())
    })
    .await;
}

#[scene_test(public)]
async fn a_relay_that_was_killed_forgets_everybody_and_refs_do_not_repeat(scene: &mut Scene) -> Result<()> {
    let (mut ann, _) = member(scene, Vsn::V2, "lobby", "ann").await?;
    track(&mut ann, "lobby", json!({"name": "Ann"})).await?;
    let before = next_presence(&mut ann, "presence_diff").await?;
    scene.relay.kill_9().await?;
    scene.relay.start_again().await?;
    let (mut ann, state) = member(scene, Vsn::V2, "lobby", "ann").await?;
    ensure!(state == json!({}), "{state}");
    track(&mut ann, "lobby", json!({"name": "Ann"})).await?;
    let after = next_presence(&mut ann, "presence_diff").await?;
    let phx_ref = |diff: &Value| diff["joins"]["ann"]["metas"][0]["phx_ref"].clone();
    ensure!(phx_ref(&before) != phx_ref(&after), "clients compare refs across a reconnect");
    Ok(())
}

/// Merges as clients do, and fails on what they could not merge.
fn merge(seen: &mut std::collections::BTreeMap<String, String>, diff: &Value) {
    for (key, value) in diff["joins"].as_object().expect("joins") {
        seen.insert(key.clone(), value["metas"][0]["phx_ref"].to_string());
    }
    for (key, value) in diff["leaves"].as_object().expect("leaves") {
        let gone = value["metas"][0]["phx_ref"].to_string();
        assert_eq!(seen.remove(key), Some(gone), "{key} left and had not come");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_members_see_each_other_for_a_few_frames_each() {
    const MEMBERS: usize = 1_000;
    let settings = |settings| public(settings).env("CAMPFIRE_MAX_SOCKETS", "1100");
    with_settings(settings, async |scene| {
        let (mut watcher, _) = member(scene, Vsn::V2, "hall", "watcher").await?;
        let mut members = Vec::with_capacity(MEMBERS);
        for _ in 0..MEMBERS {
            members.push(scene.socket(Vsn::V2).await?);
        }
        let started = Instant::now();
        for (number, socket) in members.iter_mut().enumerate() {
            let reply = socket.try_join("hall", None, presence_config(&format!("user {number}"))).await?;
            ensure!(reply.is_ok(), "{reply:?}");
            track(socket, "hall", json!({"number": number})).await?;
        }
        let mut seen = std::collections::BTreeMap::new();
        while seen.len() < MEMBERS {
            merge(&mut seen, &next_presence(&mut watcher, "presence_diff").await?);
        }
        let differences =
            scene.relay.metric("campfire_presence_differences_total").await?.context("metric")?;
        println!("{MEMBERS} members came in {:?}, told in {differences} differences", started.elapsed());
        // A difference every 50 ms at most, whatever the number of changes; a slow machine has more time for them.
        let most = started.elapsed().as_millis() as f64 / 50.0 + 2.0;
        ensure!(differences <= most, "{differences} differences in {:?}", started.elapsed());
        // All of them go at once.
        drop(members);
        while !seen.is_empty() {
            watcher.heartbeat().await?;
            merge(&mut seen, &next_presence(&mut watcher, "presence_diff").await?);
        }
        let gone = async || (scene.relay.metric("campfire_presences").await.ok()?? == 0.0).then_some(());
        eventually("nobody is present", gone).await;
        Ok(())
    })
    .await;
}

#[scene_test(public)]
async fn visitors_take_no_part_and_agents_are_who_their_token_says(scene: &mut Scene) -> Result<()> {
    let conversation = scene.conversation().await?;
    let channel = chat::conversation_channel(ORGANIZATION, conversation);
    let mut visitor = scene.socket(Vsn::V2).await?;
    let token = scene.visitor(conversation);
    ensure!(visitor.try_join(&channel, Some(&token), presence_config("v")).await?.is_ok());
    let mut agent = scene.socket(Vsn::V2).await?;
    ensure!(agent.try_join(&channel, Some(&scene.agent()), presence_config("boss")).await?.is_ok());
    let there = |state: &Value| state.as_object().map(|state| state.keys().cloned().collect::<Vec<_>>());
    let mut state = next_presence(&mut agent, "presence_state").await?;
    if state == json!({}) {
        state = next_presence(&mut agent, "presence_diff").await?["joins"].take();
    }
    ensure!(there(&state) == Some(vec![conversation.to_string()]), "{state}");
    let call = json!({"type": "presence", "event": "track", "payload": {}});
    let reply = visitor.request(&channel, "presence", call).await?;
    ensure!(reply.status == "error" && reply.response == json!({}), "{reply:?}");
    track(&mut agent, &channel, json!({"name": "Ada"})).await?;
    let diff = next_presence(&mut agent, "presence_diff").await?;
    ensure!(diff["joins"].as_object().is_some_and(|joins| joins.len() == 1), "{diff}");
    ensure!(diff["joins"][campfire_tests::AGENT.to_string()]["metas"][0]["name"] == "Ada", "{diff}");
    // What the agent sends next reaches the visitor, and nothing of presence before it.
    agent.broadcast(&channel, "typing:start", json!({})).await?;
    let first = visitor.frame_where("anything", |frame| frame.event != "phx_reply").await?;
    ensure!(first.event == "broadcast", "{first:?}");
    Ok(())
}

/// A visitor's sockets come and go, in whatever way; an agent who has the conversation open is told by presence.
#[scene_test(|settings| settings.env("CAMPFIRE_PRESENCE_GRACE_SECONDS", "1"))]
async fn agents_see_whether_a_visitor_is_there(scene: &mut Scene) -> Result<()> {
    for vsn in Vsn::BOTH {
        let (conversation, other) = (scene.conversation().await?, scene.conversation().await?);
        let channel = chat::conversation_channel(ORGANIZATION, conversation);
        let mut agent = scene.socket(vsn).await?;
        ensure!(agent.try_join(&channel, Some(&scene.agent()), presence_config("")).await?.is_ok());
        ensure!(next_presence(&mut agent, "presence_state").await? == json!({}));
        let key = conversation.to_string();
        let pages = |metas: &Value| metas[&key]["metas"].as_array().map_or(0, Vec::len);

        // Of another conversation, which is nobody's business here.
        let elsewhere = scene.widget(vsn, other).await?;
        let phone = scene.widget(vsn, conversation).await?;
        let diff = next_presence(&mut agent, "presence_diff").await?;
        ensure!(pages(&diff["joins"]) == 1 && diff["leaves"] == json!({}), "{diff}");
        let meta = &diff["joins"][&key]["metas"][0];
        ensure!(meta["type"] == "visitor" && meta.as_object().is_some_and(|meta| meta.len() == 2), "{meta}");
        let laptop = scene.widget(vsn, conversation).await?;
        let diff = next_presence(&mut agent, "presence_diff").await?;
        ensure!(pages(&diff["joins"]) == 1, "{diff}");
        // Who opens the conversation now is told.
        let mut late = scene.socket(vsn).await?;
        ensure!(late.try_join(&channel, Some(&scene.agent()), presence_config("")).await?.is_ok());
        let state = next_presence(&mut late, "presence_state").await?;
        ensure!(pages(&state) == 2 && state.as_object().is_some_and(|state| state.len() == 1), "{state}");

        // One breaks, one says good-bye; the visitor is there until both are gone.
        drop(phone);
        laptop.close().await?;
        let mut gone = 0;
        while gone < 2 {
            let diff = next_presence(&mut agent, "presence_diff").await?;
            ensure!(diff["joins"] == json!({}), "{diff}");
            gone += pages(&diff["leaves"]);
        }
        let _back = scene.widget(vsn, conversation).await?;
        let diff = next_presence(&mut agent, "presence_diff").await?;
        ensure!(pages(&diff["joins"]) == 1, "{diff}");
        drop(elsewhere);
    }
    Ok(())
}

/// What a thousand members of 64 KiB each track would be a frame of 64 MB for everybody who joins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_room_of_large_presences_is_bounded_and_told_in_pieces() {
    const ROOM_BYTES: usize = 4 << 20;
    let settings = |settings: Settings| {
        // Members that do not read may be closed meanwhile, and are present all the same.
        public(settings)
            .env("CAMPFIRE_MAX_PRESENCE_ROOM_BYTES", &ROOM_BYTES.to_string())
            .env("CAMPFIRE_PRESENCE_GRACE_SECONDS", "3600")
    };
    with_settings(settings, async |scene| {
        let tracked = json!({"name": "x".repeat(60_000)});
        let mut members = Vec::new();
        let mut refused = 0;
        for number in 0..50 {
            let (mut socket, _) = member(scene, Vsn::V2, "hall", &format!("user {number}")).await?;
            let call = json!({"type": "presence", "event": "track", "payload": tracked});
            let reply = socket.request("hall", "presence", call).await?;
            if reply.is_ok() {
                members.push(socket);
            } else {
                ensure!(reply.reason().starts_with("PresenceChannelFull: "), "{reply:?}");
                refused += 1;
            }
        }
        ensure!(refused > 0 && members.len() == ROOM_BYTES / (2 * (60_000 + 16) + 512), "{}", members.len());
        for vsn in Vsn::BOTH {
            let (mut joiner, state) = member(scene, vsn, "hall", "joiner").await?;
            let mut known = std::collections::BTreeSet::new();
            let mut longest = state.to_string().len();
            known.extend(state.as_object().context("a state")?.keys().cloned());
            while known.len() < members.len() {
                let diff = next_presence(&mut joiner, "presence_diff").await?;
                longest = longest.max(diff.to_string().len());
                known.extend(diff["joins"].as_object().context("joins")?.keys().cloned());
            }
            ensure!(longest < 3 * 64 * 1024, "a frame of {longest} bytes");
        }
        Ok(())
    })
    .await;
}
