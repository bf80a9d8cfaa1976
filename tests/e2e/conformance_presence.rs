//! The checks of the protocol's reference about presence, `p1` to `p7`, under its settings.

use anyhow::{Result, ensure};
use campfire_tests::Socket;
use campfire_tests::frame::{self, Frame};
use campfire_tests::socket::{Vsn, default_config};
use serde_json::{Value, json};

use crate::conformance::{joined, reference, silent};
use crate::presence::{next_presence, presence_config, track};
use crate::scene::{Scene, scene_test, with_settings};

/// The metas of a key in one side of a difference, or in a state.
fn metas<'a>(side: &'a Value, key: &str) -> &'a [Value] {
    side[key]["metas"].as_array().map(Vec::as_slice).unwrap_or_default()
}

async fn diff(socket: &mut Socket) -> Result<Value> {
    next_presence(socket, "presence_diff").await
}

#[scene_test(reference)]
async fn p1_a_state_follows_the_join(scene: &mut Scene) -> Result<()> {
    for vsn in Vsn::BOTH {
        let mut socket = joined(scene, vsn, "r", presence_config("ann")).await?;
        let state: Frame = socket.frame_where("the next frame", |_| true).await?;
        ensure!(state.event == "presence_state" && state.payload == json!({}), "{state:?}");
        ensure!(state.reference.is_none(), "{state:?}");
        ensure!(vsn == Vsn::V1 || state.join_ref.as_deref() == Some("1"), "{state:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_say_gets_a_state_where_that_is_the_default() {
    for default in [true, false] {
        let settings = |settings| reference(settings).env("CAMPFIRE_PRESENCE_DEFAULT", &default.to_string());
        with_settings(settings, async |scene| {
            for vsn in Vsn::BOTH {
                for (presence, wanted) in [(json!({"key": ""}), default), (json!({"enabled": false}), false)]
                {
                    let mut config = default_config();
                    config["presence"] = presence;
                    let mut socket = joined(scene, vsn, "r", config).await?;
                    if wanted {
                        next_presence(&mut socket, "presence_state").await?;
                    }
                    silent(&mut socket).await?;
                }
            }
            Ok(())
        })
        .await;
    }
}

#[scene_test(reference)]
async fn p2_and_p3_tracking_changing_and_tracking_the_same(scene: &mut Scene) -> Result<()> {
    for vsn in Vsn::BOTH {
        let room = format!("r {vsn:?}");
        let mut ann = joined(scene, vsn, &room, presence_config("ann")).await?;
        let mut bob = joined(scene, vsn, &room, presence_config("bob")).await?;
        track(&mut ann, &room, json!({"name": "Ann", "phx_ref": "forged"})).await?;
        let mut first = Value::Null;
        for socket in [&mut ann, &mut bob] {
            let told = diff(socket).await?;
            ensure!(told["leaves"] == json!({}) && metas(&told["joins"], "ann").len() == 1, "{told}");
            let meta = &metas(&told["joins"], "ann")[0];
            ensure!(meta["name"] == "Ann" && meta["phx_ref"].is_string(), "{meta}");
            ensure!(meta["phx_ref"] != "forged" && meta.get("phx_ref_prev").is_none(), "{meta}");
            first = meta["phx_ref"].clone();
        }
        // p3
        track(&mut ann, &room, json!({"name": "Ann B"})).await?;
        let told = diff(&mut bob).await?;
        let (joined_meta, left_meta) = (&metas(&told["joins"], "ann")[0], &metas(&told["leaves"], "ann")[0]);
        ensure!(joined_meta["name"] == "Ann B" && joined_meta["phx_ref_prev"] == first, "{told}");
        ensure!(left_meta["name"] == "Ann" && left_meta["phx_ref"] == first, "{told}");
        track(&mut ann, &room, json!({"name": "Ann B"})).await?;
        track(&mut bob, &room, json!({"name": "Bob"})).await?;
        let told = diff(&mut bob).await?;
        ensure!(told["joins"].get("ann").is_none(), "what is the same again is no news: {told}");
        // Untracking takes it away, twice is no error.
        for _ in 0..2 {
            let reply = ann.request(&room, "presence", json!({"event": "untrack"})).await?;
            ensure!(reply.is_ok(), "{reply:?}");
        }
        let told = diff(&mut bob).await?;
        ensure!(told["joins"] == json!({}) && metas(&told["leaves"], "ann")[0]["name"] == "Ann B", "{told}");
    }
    Ok(())
}

#[scene_test(|settings| reference(settings).env("CAMPFIRE_PRESENCE_GRACE_SECONDS", "1"))]
async fn p4_two_devices_of_one_key(scene: &mut Scene) -> Result<()> {
    for vsn in Vsn::BOTH {
        let room = format!("r {vsn:?}");
        let mut phone = joined(scene, vsn, &room, presence_config("ann")).await?;
        let mut desk = joined(scene, vsn, &room, presence_config("ann")).await?;
        track(&mut phone, &room, json!({"on": "phone"})).await?;
        track(&mut desk, &room, json!({"on": "desk"})).await?;
        let mut known = 0;
        while known < 2 {
            known += metas(&diff(&mut desk).await?["joins"], "ann").len();
        }
        let mut watcher = joined(scene, vsn, &room, presence_config("watcher")).await?;
        let state = next_presence(&mut watcher, "presence_state").await?;
        ensure!(metas(&state, "ann").len() == 2, "{state}");
        drop(phone);
        let told = diff(&mut watcher).await?;
        ensure!(told["joins"] == json!({}) && metas(&told["leaves"], "ann").len() == 1, "{told}");
        ensure!(metas(&told["leaves"], "ann")[0]["on"] == "phone", "{told}");
    }
    Ok(())
}

#[scene_test(reference)]
async fn p5_who_did_not_ask_for_presence_is_seen_without_a_state(scene: &mut Scene) -> Result<()> {
    for vsn in Vsn::BOTH {
        let room = format!("r {vsn:?}");
        let mut watcher = joined(scene, vsn, &room, presence_config("watcher")).await?;
        let mut config = default_config();
        config["presence"]["key"] = "quiet".into();
        let mut quiet = joined(scene, vsn, &room, config).await?;
        track(&mut quiet, &room, json!({"n": 1})).await?;
        ensure!(metas(&diff(&mut watcher).await?["joins"], "quiet").len() == 1);
        // Its own difference comes too, as on every public channel; a state never does.
        ensure!(metas(&diff(&mut quiet).await?["joins"], "quiet").len() == 1);
        silent(&mut quiet).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn p6_and_p7_what_is_no_map_and_too_many_calls() {
    // However long six calls take.
    let settings = |settings| reference(settings).env("CAMPFIRE_PRESENCE_CALLS_SECONDS", "3600");
    with_settings(settings, async |scene| {
        for vsn in Vsn::BOTH {
            let mut socket = joined(scene, vsn, "r", default_config()).await?;
            let call = json!({"type": "presence", "event": "track", "payload": "text"});
            let reply = socket.request("r", "presence", call).await?;
            ensure!(
                reply.reason() == "Presence track payload must be a map" && reply.status == "error",
                "{reply:?}"
            );
            for _ in 0..4 {
                let reply = socket.request("r", "presence", json!({"event": "untrack"})).await?;
                ensure!(reply.is_ok(), "{reply:?}");
            }
            let sixth =
                Frame::push(Some("1"), Some("60"), "realtime:r", "presence", json!({"event": "untrack"}));
            socket.send_raw(frame::encode(&sixth, vsn)).await?;
            let system = socket.frame_where("the system message", |frame| frame.event == "system").await?;
            ensure!(system.payload["message"] == "Client presence rate limit exceeded", "{system:?}");
            socket.frame_where("the close", |frame| frame.event == "phx_close").await?;
            // No answer to the sixth call either.
            silent(&mut socket).await?;
        }
        Ok(())
    })
    .await;
}
