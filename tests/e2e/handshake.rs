//! The socket's start, its small talk, and its end.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use campfire_tests::fence::Fence;
use campfire_tests::relay::Settings;
use campfire_tests::socket::{Socket, Vsn, default_config};
use campfire_tests::{ORGANIZATION, Relay, chat, eventually, token};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::scene::{Scene, is_logged_seldom, scene_test, with_scene, with_settings};

#[scene_test]
async fn a_handshake_needs_a_key_that_is_known(scene: &mut Scene) -> Result<()> {
    let address = scene.relay.address();
    for (key, status) in [("", 401), ("cf_publishable_wrong", 401)] {
        match Socket::try_connect(&address, key, Vsn::V2).await? {
            Ok(_) => anyhow::bail!("key {key:?} opened a socket"),
            Err(refused) => ensure!(refused.status == status, "{key:?}: {refused:?}"),
        }
    }
    // A token signed with our secret is a key too; an expired one is not.
    let secret = scene.secret();
    let fresh = token::mint(secret, &json!({"role": "anon", "exp": token::in_an_hour()}));
    let stale = token::mint(secret, &json!({"role": "anon", "exp": token::now() - 60}));
    ensure!(Socket::try_connect(&address, &fresh, Vsn::V2).await?.is_ok());
    let refused = Socket::try_connect(&address, &stale, Vsn::V2).await?;
    ensure!(refused.is_err_and(|refused| refused.status == 401));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_handshakes_are_counted_by_reason_and_logged_now_and_then() {
    let settings = |settings: Settings| settings.env("CAMPFIRE_MAX_SOCKETS", "1");
    let began = Instant::now();
    with_settings(settings, async |scene| {
        let address = scene.relay.address();
        let key = scene.cluster.credentials.api_key.clone();
        let stale = token::mint(scene.secret(), &json!({"role": "anon", "exp": token::now() - 60}));
        for wrong in ["", "wrong", "wrong", "wrong", &stale] {
            ensure!(Socket::try_connect(&address, wrong, Vsn::V2).await?.is_err());
        }
        let only = Socket::connect(&scene.relay, &key, Vsn::V2).await?;
        ensure!(
            Socket::try_connect(&address, &key, Vsn::V2).await?.is_err_and(|refused| refused.status == 429)
        );
        drop(only);
        let path = format!("/realtime/v1/websocket?apikey={key}");
        eventually("the place is free", async || {
            scene.relay.get(&path).await.ok().filter(|answer| answer.status == 400)
        })
        .await;
        // A relay that is not ready refuses as well.
        let standby = Settings::of(&scene.cluster)?.spawn()?;
        eventually("the standby refuses", async || {
            Socket::try_connect(&standby.address(), &key, Vsn::V2).await.ok()?.err()
        })
        .await;
        let counted = async |relay: &Relay, reason: &str| {
            let text = relay.get("/metrics").await?.body;
            let line = format!("campfire_handshakes_refused_total{{reason=\"{reason}\"}} ");
            let count = text.lines().find_map(|found| found.strip_prefix(&line)?.parse::<u32>().ok());
            anyhow::Ok(count.unwrap_or_default())
        };
        for (reason, count) in
            [("key_missing", 1), ("key_or_token_refused", 3), ("token_expired", 1), ("no_websocket", 1)]
        {
            let found = counted(&scene.relay, reason).await?;
            ensure!(found == count, "{reason}: {found}");
        }
        ensure!(counted(&scene.relay, "too_many_sockets").await? >= 1);
        ensure!(counted(&standby, "not_ready").await? >= 1);
        // One line each, not one for each attempt.
        is_logged_seldom(&scene.relay, "key_or_token_refused", began, Duration::from_secs(10)).await?;
        ensure!(!scene.relay.log_text().contains(&stale), "a token is in the log");
        let body = json!({"messages": []});
        ensure!(scene.relay.post("/api/broadcast", &[("apikey", "wrong")], &body).await?.status == 401);
        let text = scene.relay.get("/metrics").await?.body;
        ensure!(text.contains("campfire_requests_refused_total{reason=\"unauthorized\"} 1"), "{text}");
        Ok(())
    })
    .await;
}

#[scene_test]
async fn joins_leaves_and_heartbeats_are_answered(scene: &mut Scene) -> Result<()> {
    let conversation = scene.conversation().await?;
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    for vsn in Vsn::BOTH {
        let mut socket = scene.socket(vsn).await?;
        ensure!(socket.heartbeat().await?.is_ok());
        let reply = socket.try_join(&conv, Some(&scene.agent()), default_config()).await?;
        // Absent would do for JS; an object it must be, or JS never subscribes.
        ensure!(reply.is_ok() && reply.response.is_object(), "{reply:?}");
        ensure!(socket.heartbeat().await?.is_ok());
        ensure!(socket.leave(&conv).await?.is_ok());

        // After the leave nothing comes on it, while the socket lives on.
        let list = chat::conversations_channel(ORGANIZATION);
        socket.join(&list, &scene.agent()).await?;
        let fence = Fence::message(&scene.database, ORGANIZATION, conversation).await?;
        let events = socket.events_before(&fence, &list).await?;
        ensure!(events.iter().all(|event| event.channel == list), "{events:?}");
        let reply = socket.request(&conv, "nonsense", json!({})).await?;
        ensure!(reply.reason() == "unmatched topic", "{reply:?}");
    }
    Ok(())
}

#[scene_test]
async fn malformed_frames_are_ignored_and_the_socket_lives_on(scene: &mut Scene) -> Result<()> {
    for vsn in Vsn::BOTH {
        let mut socket = scene.socket(vsn).await?;
        for message in [
            Message::text(""),
            Message::text("not json"),
            Message::text("[]"),
            Message::text("{}"),
            Message::text("[1,2,3]"),
            Message::binary(vec![]),
            Message::binary(vec![9, 9, 9]),
            Message::binary(vec![3, 255, 255, 255, 255, 255, 1]),
        ] {
            socket.send_raw(message).await?;
        }
        ensure!(socket.heartbeat().await?.is_ok());
    }
    Ok(())
}

#[scene_test]
async fn change_feeds_are_refused_with_a_reason_instead_of_a_mismatch(scene: &mut Scene) -> Result<()> {
    let org = chat::organization_channel(ORGANIZATION);
    let mut socket = scene.socket(Vsn::V2).await?;
    let mut config = default_config();
    config["postgres_changes"] = json!([{"event": "*", "schema": "public", "table": "messages"}]);
    let reply = socket.try_join(&org, Some(&scene.agent()), config).await?;
    ensure!(reply.status == "error", "{reply:?}");
    ensure!(reply.reason().starts_with("PostgresChangesNotSupported"), "{reply:?}");
    Ok(())
}

#[scene_test]
async fn sigterm_says_goodbye_to_sockets_and_exits_with_zero(scene: &mut Scene) -> Result<()> {
    let org = chat::organization_channel(ORGANIZATION);
    let mut socket = scene.dashboard(Vsn::V2, &[&org]).await?;
    let (status, code) = tokio::join!(scene.relay.terminate(), socket.wait_for_close());
    ensure!(status?.success(), "SIGTERM is a success");
    ensure!(code? == Some(1012), "a drain closes with 1012, service restart");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_readiness_and_metrics_are_served() -> Result<()> {
    with_scene(async |scene| {
        for path in ["/healthz", "/readyz", "/metrics"] {
            let response = scene.relay.get(path).await?;
            ensure!(response.status == 200, "{path}: {response:?}");
        }
        let org = chat::organization_channel(ORGANIZATION);
        let socket = scene.dashboard(Vsn::V2, &[&org]).await?;
        for (gauge, wanted) in [("campfire_sockets", 1.0), ("campfire_channels", 1.0)] {
            let value = scene.relay.metric(gauge).await?;
            ensure!(value == Some(wanted), "{gauge}: {value:?}");
        }
        ensure!(scene.relay.metric("campfire_tasks").await?.is_some());
        drop(socket);
        Ok(())
    })
    .await;
    Ok(())
}
