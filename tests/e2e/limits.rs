//! What one client, one address or one token may take.

use anyhow::{Context, Result, ensure};
use campfire_tests::relay::Settings;
use campfire_tests::socket::{Refused, Vsn, ack_config, default_config};
use campfire_tests::{ORGANIZATION, Socket, chat, eventually};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::scene::{Scene, with_settings};

fn public(settings: Settings) -> Settings {
    settings.env("CAMPFIRE_PUBLIC_CHANNELS", "allow")
}

async fn connect_from(scene: &Scene, forwarded: &str) -> Result<Result<Socket, Refused>> {
    let path = format!("/realtime/v1/websocket?apikey={}&vsn=2.0.0", scene.cluster.credentials.api_key);
    let headers = [("x-forwarded-for", forwarded)];
    Socket::handshake(&scene.relay.address(), &path, &headers, Vsn::V2).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_has_so_many_sockets_and_gets_a_place_back() {
    let settings = |settings: Settings| {
        settings.env("CAMPFIRE_MAX_SOCKETS_PER_IP", "2").env("CAMPFIRE_TRUSTED_PROXIES", "1")
    };
    with_settings(settings, async |scene| {
        let first = connect_from(scene, "203.0.113.7").await?.ok().context("the first")?;
        // What stands left of the trusted proxy's word is the client's own invention.
        let _second = connect_from(scene, "198.51.100.1, 203.0.113.7").await?.ok().context("the second")?;
        let refused = connect_from(scene, "192.0.2.9, 203.0.113.7").await?.err().context("the third")?;
        ensure!(refused.status == 429, "{refused:?}");
        ensure!(refused.body.contains("Too many connected users"), "{refused:?}");
        let _other = connect_from(scene, "203.0.113.8").await?.ok().context("another address")?;
        first.close().await?;
        let again = async || connect_from(scene, "203.0.113.7").await.ok()?.ok();
        let _third = eventually("the place is free again", again).await;
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_opens_so_many_sockets_and_an_api_key_any_number() {
    let settings = |settings| public(settings).env("CAMPFIRE_MAX_SOCKETS_PER_TOKEN", "2");
    with_settings(settings, async |scene| {
        let token = scene.agent();
        let channel = chat::organization_channel(ORGANIZATION);
        let mut sockets = Vec::new();
        for _ in 0..2 {
            let mut socket = scene.socket(Vsn::V1).await?;
            socket.join(&channel, &token).await?;
            socket.join(&chat::conversations_channel(ORGANIZATION), &token).await?;
            sockets.push(socket);
        }
        let mut third = scene.socket(Vsn::V1).await?;
        let reply = third.try_join(&channel, Some(&token), default_config()).await?;
        ensure!(reply.reason() == "ConnectionRateLimitReached: Too many connected users", "{reply:?}");
        ensure!(third.try_join("room", None, default_config()).await?.is_ok(), "the API key is everybody's");
        drop(sockets.pop());
        let again = async || {
            third.try_join(&channel, Some(&token), default_config()).await.ok()?.is_ok().then_some(())
        };
        eventually("the place is free again", again).await;
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_has_so_many_channels() {
    let settings = |settings| public(settings).env("CAMPFIRE_MAX_CHANNELS_PER_SOCKET", "2");
    with_settings(settings, async |scene| {
        for vsn in Vsn::BOTH {
            let mut socket = scene.socket(vsn).await?;
            for room in ["a", "b", "a"] {
                ensure!(socket.try_join(room, None, default_config()).await?.is_ok());
            }
            let reply = socket.try_join("c", None, default_config()).await?;
            ensure!(reply.reason() == "ChannelRateLimitReached: Too many channels", "{reply:?}");
            ensure!(socket.leave("a").await?.is_ok());
            ensure!(socket.try_join("c", None, default_config()).await?.is_ok());
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_too_fast_is_told_and_nobody_else_suffers() {
    const PUSHES: usize = 60;
    let settings = |settings| {
        public(settings)
            .env("CAMPFIRE_CLIENT_MESSAGES_PER_SECOND", "1")
            .env("CAMPFIRE_CLIENT_MESSAGES_BURST", "10")
    };
    with_settings(settings, async |scene| {
        for vsn in Vsn::BOTH {
            let mut fast = scene.socket(vsn).await?;
            let mut other = scene.socket(vsn).await?;
            for socket in [&mut fast, &mut other] {
                ensure!(socket.try_join("room", None, ack_config()).await?.is_ok());
            }
            // Sent all at once: the relay reads them faster than one a second, whatever else the machine does. Joins
            // count too.
            let mut pushes = Vec::new();
            for number in 0..PUSHES {
                pushes.push(fast.broadcast("room", "e", json!({"n": number})).await?);
            }
            let mut joins = Vec::new();
            for number in 0..PUSHES {
                joins.push(fast.send_join(&format!("room {number}"), None, default_config()).await?);
            }
            for (references, reason) in [
                (pushes, "MessagePerSecondRateLimitReached: Too many messages per second"),
                (joins, "ClientJoinRateLimitReached: Too many joins per second"),
            ] {
                let mut refused = 0;
                for reference in references {
                    let reply = fast.reply(&reference).await?;
                    ensure!(reply.is_ok() || reply.reason() == reason, "{reply:?}");
                    refused += usize::from(!reply.is_ok());
                }
                ensure!(refused > 0, "all of {PUSHES} went through");
            }
            let push = other.broadcast("room", "mine", json!({})).await?;
            ensure!(other.reply(&push).await?.is_ok());
            fast.expect("room", "mine").await?;
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_to_be_read_ends_its_socket_with_the_reason() {
    let settings = |settings| public(settings).env("CAMPFIRE_MAX_FRAME_BYTES", "100000");
    with_settings(settings, async |scene| {
        for vsn in Vsn::BOTH {
            let mut socket = scene.socket(vsn).await?;
            let mut other = scene.socket(vsn).await?;
            let largest = " ".repeat(100_000);
            socket.send_raw(Message::text(largest.clone())).await?;
            ensure!(socket.heartbeat().await?.is_ok(), "it is malformed, and short enough");
            // Far more than what is in flight when the relay stops reading.
            socket.send_raw(Message::text(largest.repeat(30))).await.ok();
            ensure!(socket.wait_for_close().await? == Some(1009));
            // A text that is not UTF-8, which no library sends: a frame with mask 0.
            other.send_bytes(&[0x81, 0x81, 0, 0, 0, 0, 0xff]).await?;
            ensure!(other.wait_for_close().await? == Some(1007));
            let mut other = scene.socket(vsn).await?;
            // Reserved bits.
            other.send_bytes(&[0xf1, 0x80, 0, 0, 0, 0]).await?;
            ensure!(other.wait_for_close().await? == Some(1002));
        }
        // Counted when the connection is gone, which is after the client has the close frame.
        let closed = async || {
            let closed = scene.relay.metric("campfire_sockets_closed_total").await.ok()??;
            (closed >= 6.0).then_some(())
        };
        eventually("six closed sockets", closed).await;
        Ok(())
    })
    .await;
}
