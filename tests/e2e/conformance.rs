//! The checks of the protocol's reference that are about handshakes, frames, joins and broadcasts, each by its name
//! there (`h1` to `b5`), on both serializations and under the reference's settings. Presence is in
//! `conformance_presence`; a1 to a6 in `policies`, a7 and a8 in `tokens`, r1 to r6 in `rest_broadcast`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use campfire_tests::frame::{self, Frame};
use campfire_tests::relay::Settings;
use campfire_tests::socket::{Vsn, ack_config, default_config};
use campfire_tests::{Socket, token};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::scene::{Scene, scene_test, with_settings};

/// The reference's settings, where they differ from ours.
pub(crate) fn reference(settings: Settings) -> Settings {
    settings
        .env("CAMPFIRE_PUBLIC_CHANNELS", "allow")
        .env("CAMPFIRE_PRESENCE_CALLS", "5")
        .env("CAMPFIRE_PRESENCE_CALLS_SECONDS", "30")
}

pub(crate) async fn joined(scene: &Scene, vsn: Vsn, channel: &str, config: Value) -> Result<Socket> {
    let mut socket = scene.socket(vsn).await?;
    let reply = socket.try_join(channel, None, config).await?;
    ensure!(reply.is_ok(), "{reply:?}");
    Ok(socket)
}

/// Fails if anything waits that was not asked for; a heartbeat is the fence.
pub(crate) async fn silent(socket: &mut Socket) -> Result<()> {
    ensure!(socket.heartbeat().await?.is_ok());
    let heard = tokio::time::timeout(Duration::ZERO, socket.frame_where("anything", |_| true)).await;
    ensure!(heard.is_err(), "{heard:?}");
    Ok(())
}

fn config(change: impl FnOnce(&mut Value)) -> Value {
    let mut config = default_config();
    change(&mut config);
    config
}

async fn handshake(
    scene: &Scene,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<Result<Socket, (u16, String)>> {
    let outcome = Socket::handshake(&scene.relay.address(), path, headers, Vsn::V2).await?;
    Ok(outcome.map_err(|refused| (refused.status, refused.body)))
}

#[scene_test(reference)]
async fn h1_to_h5_handshakes(scene: &mut Scene) -> Result<()> {
    let key = scene.cluster.credentials.api_key.clone();
    let good = format!("apikey={key}&vsn=2.0.0");
    for path in ["/realtime/v1/websocket", "/socket/websocket"] {
        // h1
        let mut socket =
            handshake(scene, &format!("{path}?{good}&log_level=warn&x=y"), &[]).await?.ok().context("h1")?;
        ensure!(socket.heartbeat().await?.response == json!({}));
        // h3
        let refused = handshake(scene, &format!("{path}?apikey={key}&vsn=3.0.0"), &[]).await?.err();
        ensure!(refused == Some((403, String::new())), "{refused:?}");
        // h5
        let by_header =
            handshake(scene, &format!("{path}?apikey=garbage&vsn=2.0.0"), &[("x-api-key", &key)]).await?;
        ensure!(by_header.is_ok());
    }
    // h2
    let address = scene.relay.address();
    let path = format!("/realtime/v1/websocket?apikey={key}");
    let socket = Socket::handshake(&address, &path, &[], Vsn::V1).await?;
    let mut socket = socket.map_err(|refused| anyhow::anyhow!("{refused:?}"))?;
    ensure!(socket.try_join("r", None, default_config()).await?.is_ok());
    // h4
    let mint = |claims: Value| token::mint(scene.secret(), &claims);
    let forged = token::mint("another secret", &json!({"role": "anon", "exp": token::in_an_hour()}));
    for (key, error) in [
        (String::new(), "API key is missing"),
        ("garbage".to_owned(), "The token provided is not a valid JWT"),
        (mint(json!({"role": "anon", "exp": 1})), "Token has expired"),
        (mint(json!({"exp": token::in_an_hour()})), "Fields `role` and `exp` are required in JWT"),
        (mint(json!({"role": "anon"})), "Fields `role` and `exp` are required in JWT"),
        (forged, "Failed to validate JWT signature"),
    ] {
        let refused = handshake(scene, &format!("/socket/websocket?apikey={key}&vsn=2.0.0"), &[]).await?;
        let (status, body) = refused.err().context(error)?;
        ensure!(status == 401 && serde_json::from_str::<Value>(&body)? == json!({"error": error}), "{body}");
    }
    Ok(())
}

#[scene_test(reference)]
async fn what_is_no_handshake_is_400_once_the_key_is_good(scene: &mut Scene) -> Result<()> {
    let path = |key: &str| format!("/realtime/v1/websocket?apikey={key}&vsn=2.0.7");
    let good = path(&scene.cluster.credentials.api_key);
    for response in [scene.relay.get(&good).await?, scene.relay.post(&good, &[], &json!({})).await?] {
        ensure!(response.status == 400, "{response:?}");
    }
    ensure!(scene.relay.get(&path("garbage")).await?.status == 401, "the key is looked at first");
    ensure!(handshake(scene, &good, &[]).await?.is_ok(), "2.0.7 is 2.0.0");
    // What a copied token picks up on its way.
    let token = scene.agent();
    for mangled in [token.replace('.', "%252E"), format!("%20{token}%0A")] {
        ensure!(handshake(scene, &path(&mangled), &[]).await?.is_ok(), "{mangled}");
    }
    Ok(())
}

#[scene_test(reference)]
async fn h6_a_heartbeat_without_a_ref_is_answered_with_a_null_ref(scene: &mut Scene) -> Result<()> {
    for vsn in Vsn::BOTH {
        let mut socket = scene.socket(vsn).await?;
        let beat = Frame::push(None, None, "phoenix", "heartbeat", json!({}));
        socket.send_raw(frame::encode(&beat, vsn)).await?;
        // The harness insists that the key is there in 1.0.0.
        let reply = socket.frame_where("the answer", |frame| frame.topic == "phoenix").await?;
        ensure!(reply.reference.is_none() && reply.payload["status"] == "ok", "{reply:?}");
    }
    Ok(())
}

#[scene_test(reference)]
async fn f1_what_is_no_message_is_not_answered(scene: &mut Scene) -> Result<()> {
    for vsn in Vsn::BOTH {
        let mut socket = scene.socket(vsn).await?;
        for message in [
            Message::text("{\"x"),
            Message::text("[]"),
            Message::text("{}"),
            Message::binary(vec![7, 3, 250, 9]),
        ] {
            socket.send_raw(message).await?;
        }
        silent(&mut socket).await?;
    }
    Ok(())
}

/// A kind 3 frame with any encoding and metadata.
fn kind_3(event: &str, metadata: &str, encoding: u8, payload: &[u8]) -> Message {
    let topic = "realtime:r";
    let lengths = [1, 1, topic.len(), event.len(), metadata.len()].map(|length| length as u8);
    let head = [&[3][..], &lengths, &[encoding], b"1", b"9", topic.as_bytes()].concat();
    Message::binary([&head, event.as_bytes(), metadata.as_bytes(), payload].concat())
}

#[scene_test(reference)]
async fn f2_to_f6_broadcasts_between_the_serializations(scene: &mut Scene) -> Result<()> {
    let mut sender = joined(scene, Vsn::V2, "r", default_config()).await?;
    let mut old = joined(scene, Vsn::V1, "r", default_config()).await?;
    let mut new = joined(scene, Vsn::V2, "r", default_config()).await?;
    // f2, f3, f6: JSON, with and without metadata, which is ignored. The harness insists on the shapes of frames.
    for metadata in ["", r#"{"persist":true}"#] {
        sender.send_raw(kind_3("cursor", metadata, 1, br#"{"x": 3}"#)).await?;
        let expected = json!({"type": "broadcast", "event": "cursor", "payload": {"x": 3}});
        let frame = new.frame_where("kind 4", |_| true).await?;
        ensure!(frame.is_binary && frame.payload == expected, "{frame:?}");
        let frame = old.frame_where("an object", |_| true).await?;
        ensure!(!frame.is_binary && frame.payload == expected && frame.reference.is_none(), "{frame:?}");
    }
    // f4: bytes reach 2.0.0 alone.
    sender.send_raw(kind_3("blob", "", 0, b"\xde\xad\x00")).await?;
    let event = new.expect("r", "blob").await?;
    ensure!(event.payload == json!({"bytes": [0xde, 0xad, 0]}), "{event:?}");
    silent(&mut old).await?;
    // f5: text of 1.0.0.
    old.broadcast("r", "text", json!({"a": [1, {"b": null}]})).await?;
    let event = new.expect("r", "text").await?;
    ensure!(event.payload == json!({"a": [1, {"b": null}]}), "{event:?}");
    Ok(())
}

#[scene_test(reference)]
async fn j1_to_j4_joins_and_what_is_no_channel(scene: &mut Scene) -> Result<()> {
    for vsn in Vsn::BOTH {
        let mut socket = scene.socket(vsn).await?;
        let reply = socket.try_join("r", None, default_config()).await?;
        ensure!(reply.is_ok() && reply.response == json!({"postgres_changes": []}), "j1: {reply:?}");
        let reply = socket.try_join("", None, default_config()).await?;
        ensure!(reply.reason() == "TopicNameRequired: You must provide a topic name", "j2: {reply:?}");
        let join = Frame::push(Some("70"), Some("70"), "foo", "phx_join", json!({}));
        socket.send_raw(frame::encode(&join, vsn)).await?;
        ensure!(socket.reply("70").await?.reason() == "unmatched topic", "j2");
        // j3: strings for booleans, keys nobody knows, null for an object.
        let texts = json!({"broadcast": {"ack": "TRUE", "self": "true"}, "presence": {"enabled": "false"},
            "private": "false", "news": [1], "postgres_changes_options": {}});
        ensure!(socket.try_join("texts", None, texts).await?.is_ok(), "j3");
        let push = socket.broadcast("texts", "e", json!({})).await?;
        ensure!(socket.reply(&push).await?.is_ok(), "j3: ack");
        socket.expect("texts", "e").await?;
        let nulls = json!({"broadcast": null, "presence": null, "postgres_changes": null});
        ensure!(socket.try_join("nulls", None, nulls).await?.is_ok(), "j3: nulls");
        ensure!(socket.try_join("none", None, Value::Null).await?.is_ok(), "j3: no config");
        let push = socket.broadcast("never joined", "e", json!({})).await?;
        ensure!(socket.reply(&push).await?.reason() == "unmatched topic", "j4");
    }
    Ok(())
}

#[scene_test(reference)]
async fn j5_a_second_join_replaces_the_first(scene: &mut Scene) -> Result<()> {
    for vsn in Vsn::BOTH {
        let mut socket = joined(scene, vsn, "r", ack_config()).await?;
        ensure!(socket.try_join("r", None, ack_config()).await?.is_ok());
        if vsn == Vsn::V2 {
            // With the first join's refs, so that a client knows that not its new channel is meant.
            let close = socket.frame_where("the old one's close", |frame| frame.event == "phx_close").await?;
            ensure!(
                close.reference.as_deref() == Some("1") && close.join_ref.as_deref() == Some("1"),
                "{close:?}"
            );
        }
        let mut other = joined(scene, vsn, "r", default_config()).await?;
        other.broadcast("r", "once", json!({})).await?;
        socket.expect("r", "once").await?;
        let push = socket.broadcast("r", "mine", json!({})).await?;
        ensure!(socket.reply(&push).await?.is_ok());
        silent(&mut socket).await?;
    }
    Ok(())
}

#[scene_test(reference)]
async fn j6_and_j7_leaving(scene: &mut Scene) -> Result<()> {
    for vsn in Vsn::BOTH {
        let mut socket = joined(scene, vsn, "r", default_config()).await?;
        // j7 first: what is not joined is left without a close.
        let reply = socket.request("other", "phx_leave", json!({})).await?;
        ensure!(reply.is_ok(), "{reply:?}");
        silent(&mut socket).await?;
        let reply = socket.request("r", "phx_leave", json!({})).await?;
        ensure!(reply.is_ok(), "{reply:?}");
        let close = socket.frame_where("the close", |_| true).await?;
        ensure!(close.event == "phx_close" && close.reference.as_deref() == Some("1"), "{close:?}");
        ensure!(vsn == Vsn::V1 || close.join_ref.as_deref() == Some("1"), "{close:?}");
        let reply = socket.request("r", "presence", json!({})).await?;
        ensure!(reply.reason() == "unmatched topic", "{reply:?}");
    }
    Ok(())
}

#[scene_test(reference)]
async fn j8_and_j9_pushes_before_the_reply_and_with_refs_that_are_stale_or_missing(
    scene: &mut Scene,
) -> Result<()> {
    for vsn in Vsn::BOTH {
        let mut socket = scene.socket(vsn).await?;
        let join =
            Frame::push(Some("50"), Some("50"), "realtime:r", "phx_join", json!({"config": ack_config()}));
        socket.send_raw(frame::encode(&join, vsn)).await?;
        let body = json!({"type": "broadcast", "event": "e", "payload": {}});
        for (join_ref, reference) in [(Some("50"), "51"), (Some("3"), "52"), (None, "53")] {
            let push = Frame::push(join_ref, Some(reference), "realtime:r", "broadcast", body.clone());
            socket.send_raw(frame::encode(&push, vsn)).await?;
        }
        for expected in ["50", "51", "52", "53"] {
            let reply = socket.frame_where("the next answer", |_| true).await?;
            ensure!(reply.reference.as_deref() == Some(expected), "{reply:?}");
            ensure!(reply.payload["status"] == "ok", "{reply:?}");
        }
    }
    Ok(())
}

#[scene_test(reference)]
async fn j10_without_a_token_of_its_own_a_channel_runs_with_the_connections(scene: &mut Scene) -> Result<()> {
    let organization = campfire_tests::chat::organization_channel(campfire_tests::ORGANIZATION);
    let address = scene.relay.address();
    for vsn in Vsn::BOTH {
        let mut socket =
            Socket::try_connect(&address, &scene.agent(), vsn).await?.ok().context("a token is a key")?;
        for token in [None, Some("sb_publishable_x"), Some("")] {
            let reply = socket.try_join(&organization, token, default_config()).await?;
            ensure!(reply.is_ok(), "{token:?}: {reply:?}");
        }
        socket.set_token(&organization, "sb_secret_x").await?;
        ensure!(
            socket.request(&organization, "presence", json!({})).await?.is_ok(),
            "sb_ keys change nothing"
        );
        // Nor do others: supabase-js pushes the key it connected with over a token that was set by hand.
        let key = &scene.cluster.credentials.api_key;
        let mut socket = Socket::try_connect(&address, key, vsn).await?.ok().context("a key")?;
        let reply = socket.try_join(&organization, Some(&scene.agent()), default_config()).await?;
        ensure!(reply.is_ok(), "{reply:?}");
        socket.set_token(&organization, key).await?;
        ensure!(socket.request(&organization, "presence", json!({})).await?.is_ok(), "the key is no token");
    }
    Ok(())
}

#[scene_test(reference)]
async fn ack_and_self(scene: &mut Scene) -> Result<()> {
    for vsn in Vsn::BOTH {
        let mut echoed =
            joined(scene, vsn, "r", config(|config| config["broadcast"]["self"] = true.into())).await?;
        let mut acked = joined(scene, vsn, "r", ack_config()).await?;
        echoed.broadcast("r", "one", json!({})).await?;
        echoed.expect("r", "one").await?;
        acked.expect("r", "one").await?;
        let push = acked.broadcast("r", "two", json!({})).await?;
        let reply = acked.reply(&push).await?;
        ensure!(reply.is_ok() && reply.response == json!({}), "{reply:?}");
        echoed.expect("r", "two").await?;
        silent(&mut echoed).await?;
        silent(&mut acked).await?;
    }
    Ok(())
}

#[scene_test(|settings| reference(settings).env("CAMPFIRE_MAX_PAYLOAD_BYTES", "1000"))]
async fn a_payload_above_the_limit(scene: &mut Scene) -> Result<()> {
    for vsn in Vsn::BOTH {
        let mut acked = joined(scene, vsn, "r", ack_config()).await?;
        let mut quiet = joined(scene, vsn, "r", default_config()).await?;
        let large = json!({"x": "x".repeat(1000)});
        let push = acked.broadcast("r", "large", large.clone()).await?;
        let reply = acked.reply(&push).await?;
        ensure!(reply.response == json!({"reason": "payload_size_exceeded"}), "{reply:?}");
        quiet.broadcast("r", "large", large).await?;
        quiet.broadcast("r", "small", json!({})).await?;
        acked.expect("r", "small").await?;
        silent(&mut quiet).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_messages_a_second_end_the_receivers_channel() {
    with_settings(
        // The mean of a minute counts: sixty and their copies are too many, unless they take three minutes.
        |settings| reference(settings).env("CAMPFIRE_MAX_EVENTS_PER_SECOND", "1"),
        async |scene| {
            let mut sender = joined(scene, Vsn::V2, "r", default_config()).await?;
            let mut receivers = [
                joined(scene, Vsn::V1, "r", default_config()).await?,
                joined(scene, Vsn::V2, "r", default_config()).await?,
            ];
            for number in 0..60 {
                sender.broadcast("r", "e", json!({"n": number})).await?;
            }
            for receiver in &mut receivers {
                let system =
                    receiver.frame_where("the system message", |frame| frame.event == "system").await?;
                ensure!(system.payload["message"] == "Too many messages per second", "{system:?}");
                ensure!(
                    system.payload["status"] == "error" && system.payload["channel"] == "r",
                    "{system:?}"
                );
                receiver.frame_where("the close", |frame| frame.event == "phx_close").await?;
                ensure!(receiver.heartbeat().await?.is_ok(), "the socket stays");
            }
            Ok(())
        },
    )
    .await;
}

#[scene_test(reference)]
async fn replication_ready_is_told_between_the_reply_and_the_state(scene: &mut Scene) -> Result<()> {
    for vsn in Vsn::BOTH {
        let mut socket = scene.socket(vsn).await?;
        let asks = config(|config| {
            config["broadcast"]["replication_ready"] = true.into();
            config["presence"]["enabled"] = true.into();
        });
        ensure!(socket.try_join("r", None, asks).await?.is_ok());
        let system = socket.frame_where("the next frame", |_| true).await?;
        let expected = json!({"extension": "system", "status": "ok", "channel": "r",
            "message": "Replication connection established"});
        ensure!(
            system.event == "system" && system.payload == expected && system.reference.is_none(),
            "{system:?}"
        );
        let state = socket.frame_where("the next frame", |_| true).await?;
        ensure!(state.event == "presence_state", "{state:?}");
    }
    Ok(())
}
