//! Sockets that do not read, do not finish or do not stop: what they cost, and whom.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use campfire_tests::relay::Settings;
use campfire_tests::socket::{Vsn, ack_config, default_config};
use campfire_tests::{ORGANIZATION, Socket, chat, eventually};
use serde_json::{Value, json};

use crate::scene::{Scene, scene_test, with_settings};

const MIB: u64 = 1 << 20;

/// As large as a payload outside `org:` may be.
const LARGE: usize = 2_900_000;

fn public(settings: Settings) -> Settings {
    settings.env("CAMPFIRE_PUBLIC_CHANNELS", "allow")
}

/// A socket that takes little of what is written to it unless somebody reads it.
async fn narrow(scene: &Scene) -> Result<Socket> {
    Socket::connect_narrow(&scene.relay, &scene.cluster.credentials.api_key, Vsn::V2).await
}

async fn is_closed_for(scene: &Scene, reason: &str) -> bool {
    let label = format!("campfire_sockets_closed_total{{reason=\"{reason}\"}}");
    scene.relay.get("/metrics").await.is_ok_and(|answer| answer.body.contains(&label))
}

/// Most that the relay takes while something goes on, beyond what it took before.
async fn growth<T>(scene: &Scene, work: impl Future<Output = Result<T>>) -> Result<(T, u64)> {
    let before = scene.relay.resident_bytes()?;
    let mut most = before;
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => {
                most = most.max(scene.relay.resident_bytes()?);
                println!("RSS {} MiB, at most {} MiB", before / MIB, most / MIB);
                return Ok((done?, most - before));
            }
            () = tokio::time::sleep(Duration::from_millis(20)) => {
                most = most.max(scene.relay.resident_bytes()?);
            }
        }
    }
}

/// An agent's socket that nothing may disturb, and what it is sent.
struct Honest {
    socket: Socket,
    conversation: uuid::Uuid,
    channel: String,
}

impl Honest {
    async fn join(scene: &Scene) -> Result<Self> {
        let conversation = scene.conversation().await?;
        let channel = chat::conversation_channel(ORGANIZATION, conversation);
        let socket = scene.dashboard(Vsn::V2, &[&channel]).await?;
        Ok(Self { socket, conversation, channel })
    }

    async fn is_served(&mut self, scene: &Scene) -> Result<()> {
        scene.write_messages(self.conversation, &["hello".to_owned()]).await?;
        self.socket.expect(&self.channel, "message:created").await?;
        ensure!(self.socket.heartbeat().await?.is_ok());
        Ok(())
    }
}

#[scene_test(public)]
async fn a_large_broadcast_to_sockets_that_do_not_read_is_in_memory_once(scene: &mut Scene) -> Result<()> {
    const SOCKETS: usize = 100;
    let mut sender = scene.socket(Vsn::V2).await?;
    ensure!(sender.try_join("room", None, ack_config()).await?.is_ok());
    let mut silent = Vec::new();
    for _ in 0..SOCKETS {
        let mut socket = narrow(scene).await?;
        ensure!(socket.try_join("room", None, default_config()).await?.is_ok());
        silent.push(socket);
    }
    // The last one that it is sent to.
    let mut witness = scene.socket(Vsn::V2).await?;
    ensure!(witness.try_join("room", None, default_config()).await?.is_ok());
    let sending = async {
        let push = sender.broadcast("room", "large", json!("x".repeat(LARGE))).await?;
        ensure!(sender.reply(&push).await?.is_ok());
        witness.expect("room", "large").await?;
        Ok(())
    };
    let ((), grown) = growth(scene, sending).await?;
    ensure!(grown < 60 * MIB, "{SOCKETS} sockets that do not read took {} MiB", grown / MIB);
    // It is theirs all the same.
    for socket in silent.iter_mut().take(3) {
        let event = socket.expect("room", "large").await?;
        ensure!(event.payload.as_str().is_some_and(|text| text.len() == LARGE));
    }
    // Memory of those that have it is not kept for the next time.
    drop(silent);
    eventually("what was unread is forgotten", async || {
        let unread = scene.relay.metric("campfire_unread_bytes").await.ok()??;
        (unread == 0.0).then_some(())
    })
    .await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unread_frames_of_all_sockets_are_bounded_and_cost_those_that_do_not_read() {
    const SOCKETS: usize = 50;
    let settings = |settings| public(settings).env("CAMPFIRE_MAX_UNREAD_BYTES", "32MiB");
    with_settings(settings, async |scene| {
        let mut honest = Honest::join(scene).await?;
        let scene: &Scene = scene;
        let attack = async {
            let mut silent = Vec::new();
            let mut own = default_config();
            own["broadcast"]["self"] = true.into();
            for number in 0..SOCKETS {
                let room = format!("room {number}");
                let mut socket = narrow(scene).await?;
                ensure!(socket.try_join(&room, None, own.clone()).await?.is_ok());
                socket.broadcast(&room, "large", json!("x".repeat(LARGE))).await?;
                silent.push(socket);
                if number % 10 == 9 {
                    honest.is_served(scene).await?;
                }
            }
            eventually("those that do not read are closed", async || {
                let unread = scene.relay.metric("campfire_unread_bytes").await.ok()??;
                (is_closed_for(scene, "memory").await && unread <= 36.0 * MIB as f64).then_some(())
            })
            .await;
            honest.is_served(scene).await?;
            Ok(silent)
        };
        let (_silent, grown) = growth(scene, attack).await?;
        ensure!(grown < 80 * MIB, "{SOCKETS} sockets took {} MiB", grown / MIB);
        Ok(())
    })
    .await;
}

#[scene_test(public)]
async fn a_socket_takes_little_and_keeps_nothing_of_what_it_sent_and_read(scene: &mut Scene) -> Result<()> {
    const SOCKETS: usize = 200;
    let scene: &Scene = scene;
    let joining = async {
        let mut sockets = Vec::new();
        for number in 0..SOCKETS {
            let mut socket = scene.socket(Vsn::BOTH[number % 2]).await?;
            let room = format!("room {number}");
            let mut own = ack_config();
            own["broadcast"]["self"] = true.into();
            ensure!(socket.try_join(&room, None, own).await?.is_ok());
            sockets.push((socket, room));
        }
        Ok(sockets)
    };
    let (mut sockets, joined) = growth(scene, joining).await?;
    println!("{} bytes for a socket with a channel", joined / SOCKETS as u64);
    ensure!(joined < SOCKETS as u64 * 40 * 1024, "{SOCKETS} sockets took {} KiB", joined / 1024);
    let speaking = async {
        for (socket, room) in &mut sockets {
            let push = socket.broadcast(room, "large", json!("x".repeat(1_000_000))).await?;
            ensure!(socket.reply(&push).await?.is_ok());
            socket.expect(room, "large").await?;
        }
        Ok(())
    };
    let ((), spoken) = growth(scene, speaking).await?;
    ensure!(spoken < 40 * MIB, "{SOCKETS} sockets that are idle again took {} MiB", spoken / MIB);
    Ok(())
}

/// The beginning of a binary message of this length, with a mask that changes nothing, and some of its payload.
fn begun(length: usize, come: usize) -> Vec<u8> {
    let mut bytes = vec![0x82, 0xff];
    bytes.extend_from_slice(&(length as u64).to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.resize(bytes.len() + come, 1);
    bytes
}

#[scene_test(public)]
async fn before_a_channel_outside_org_is_joined_messages_are_small(scene: &mut Scene) -> Result<()> {
    const SOCKETS: usize = 40;
    let scene: &Scene = scene;
    let mut honest = Honest::join(scene).await?;
    let attack = async {
        for number in 0..SOCKETS {
            let mut socket = scene.socket(Vsn::V2).await?;
            if number % 2 == 0 {
                // A channel of an organization changes nothing.
                let channel = chat::organization_channel(ORGANIZATION);
                socket.join(&channel, &scene.agent()).await?;
            }
            // Some of it may be refused by then.
            socket.send_bytes(&begun(4_900_000, 4_800_000)).await.ok();
            ensure!(matches!(socket.wait_for_close().await?, Some(1009) | None));
        }
        Ok(())
    };
    let ((), grown) = growth(scene, attack).await?;
    ensure!(grown < 40 * MIB, "{SOCKETS} sockets took {} MiB", grown / MIB);
    ensure!(is_closed_for(scene, "frame_too_large").await);
    honest.is_served(scene).await?;
    // Whoever has joined one may send large messages, at once.
    let mut sender = scene.socket(Vsn::V2).await?;
    ensure!(sender.try_join("room", None, ack_config()).await?.is_ok());
    let push = sender.broadcast("room", "large", json!("x".repeat(LARGE))).await?;
    ensure!(sender.reply(&push).await?.is_ok());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unfinished_messages_of_all_sockets_are_bounded() {
    const SOCKETS: usize = 30;
    let settings = |settings| public(settings).env("CAMPFIRE_MAX_UNFINISHED_BYTES", "16MiB");
    with_settings(settings, async |scene| {
        let scene: &Scene = scene;
        let mut sender = scene.socket(Vsn::V2).await?;
        ensure!(sender.try_join("room", None, ack_config()).await?.is_ok());
        let attack = async {
            let mut unfinished = Vec::new();
            for _ in 0..SOCKETS {
                let mut socket = scene.socket(Vsn::V2).await?;
                ensure!(socket.try_join("room", None, default_config()).await?.is_ok());
                socket.send_bytes(&begun(4_900_000, 4_800_000)).await?;
                unfinished.push(socket);
            }
            for _ in 0..3 {
                let push = sender.broadcast("room", "large", json!("x".repeat(LARGE))).await?;
                ensure!(sender.reply(&push).await?.is_ok(), "who sends at once is not in the way");
            }
            // Five million bytes each: three have room at once.
            ensure!(unfinished[0].wait_for_close().await? == Some(1013));
            eventually("all but three are closed", async || {
                let taken = scene.relay.metric("campfire_unfinished_bytes").await.ok()??;
                (taken <= 16.0 * MIB as f64 && is_closed_for(scene, "unfinished_message").await).then_some(())
            })
            .await;
            Ok(unfinished)
        };
        let (_unfinished, grown) = growth(scene, attack).await?;
        ensure!(grown < 80 * MIB, "{SOCKETS} sockets took {} MiB", grown / MIB);
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_never_finished_ends_its_socket_whatever_else_is_said() {
    let settings = |settings: Settings| settings.env("CAMPFIRE_IDLE_SECONDS", "3");
    with_settings(settings, async |scene| {
        let mut silent = scene.socket(Vsn::V2).await?;
        let mut pinging = scene.socket(Vsn::V2).await?;
        silent.send_bytes(&begun(1_000, 500)).await?;
        // The first part of a message in pieces: others may come between.
        pinging.send_bytes(&[0x02, 0x81, 0, 0, 0, 0, b'{']).await?;
        let ping = async {
            // Until it is closed.
            while pinging.send_bytes(&[0x89, 0x80, 0, 0, 0, 0]).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Ok(())
        };
        let (closed, pinged): (_, Result<()>) = tokio::join!(silent.wait_for_close(), ping);
        pinged?;
        ensure!(matches!(closed?, Some(1013 | 1000)));
        eventually("both are closed", async || {
            (scene.relay.metric("campfire_sockets").await.ok()?? == 0.0).then_some(())
        })
        .await;
        ensure!(is_closed_for(scene, "unfinished_message").await);
        Ok(())
    })
    .await;
}

fn slow(settings: Settings) -> Settings {
    public(settings)
        .env("CAMPFIRE_CLIENT_MESSAGES_PER_SECOND", "10")
        .env("CAMPFIRE_CLIENT_MESSAGES_BURST", "10")
}

#[scene_test(slow)]
async fn heartbeats_leaves_and_tokens_are_counted_and_none_is_lost(scene: &mut Scene) -> Result<()> {
    for vsn in Vsn::BOTH {
        let mut socket = scene.socket(vsn).await?;
        let channel = chat::organization_channel(ORGANIZATION);
        socket.join(&channel, &scene.agent()).await?;
        let began = Instant::now();
        let mut beats = Vec::new();
        for _ in 0..30 {
            beats.push(socket.send_heartbeat().await?);
        }
        for beat in &beats {
            ensure!(socket.reply(beat).await?.is_ok());
        }
        // 31 messages, of which 10 at once and 10 a second.
        ensure!(began.elapsed() >= Duration::from_millis(1_900), "within {:?}", began.elapsed());
        let began = Instant::now();
        let mut leaves = Vec::new();
        for _ in 0..20 {
            leaves.push(socket.send_push("elsewhere", "phx_leave", json!({})).await?);
        }
        for leave in &leaves {
            ensure!(socket.reply(leave).await?.is_ok());
        }
        ensure!(began.elapsed() >= Duration::from_millis(900), "within {:?}", began.elapsed());
    }
    Ok(())
}

#[scene_test(public)]
async fn a_channel_takes_one_new_token_a_second_and_the_last_one_counts(scene: &mut Scene) -> Result<()> {
    let mut socket = scene.socket(Vsn::V2).await?;
    let channel = chat::organization_channel(ORGANIZATION);
    socket.join(&channel, &scene.agent()).await?;
    let began = Instant::now();
    for _ in 0..4 {
        socket.set_token(&channel, &scene.agent()).await?;
    }
    ensure!(socket.heartbeat().await?.is_ok());
    ensure!(began.elapsed() >= Duration::from_millis(2_900), "within {:?}", began.elapsed());
    // One for each of many channels, as clients do when a token was renewed: none waits for another.
    let lists: Vec<String> = (0..60).map(|number| format!("room {number}")).collect();
    for list in &lists {
        ensure!(socket.try_join(list, None, default_config()).await?.is_ok());
    }
    let began = Instant::now();
    for list in &lists {
        socket.set_token(list, &scene.agent()).await?;
    }
    ensure!(socket.heartbeat().await?.is_ok());
    ensure!(began.elapsed() < Duration::from_secs(30), "after {:?}", began.elapsed());
    // The last of several counts, though it has to wait.
    socket.set_token(&channel, &scene.agent()).await?;
    let expired = campfire_tests::token::mint(
        scene.secret(),
        &json!({"role": "authenticated", "exp": 1, "org_id": ORGANIZATION, "sub": campfire_tests::AGENT}),
    );
    socket.set_token(&channel, &expired).await?;
    let topic = format!("realtime:{channel}");
    let closed =
        socket.frame_where("the channel ends", |frame| frame.event == "phx_close" && frame.topic == topic);
    closed.await?;
    Ok(())
}

#[scene_test(slow)]
async fn who_goes_on_sending_over_its_rate_is_closed(scene: &mut Scene) -> Result<()> {
    for vsn in Vsn::BOTH {
        for what in ["joins", "broadcasts", "nonsense", "pings"] {
            let mut honest = scene.socket(vsn).await?;
            ensure!(honest.try_join("room", None, default_config()).await?.is_ok());
            let mut flood = scene.socket(vsn).await?;
            ensure!(flood.try_join("room", None, default_config()).await?.is_ok());
            for number in 0..4_000 {
                let sent = match what {
                    "joins" => {
                        flood.send_join(&format!("room {number}"), None, default_config()).await.map(drop)
                    }
                    "broadcasts" => flood.broadcast("room", "e", Value::Null).await.map(drop),
                    "nonsense" => flood.send_bytes(&[0x81, 0x81, 0, 0, 0, 0, b'?']).await,
                    _ => flood.send_bytes(&[0x89, 0x80, 0, 0, 0, 0]).await,
                };
                if sent.is_err() {
                    break;
                }
            }
            let code = flood.wait_for_close().await.with_context(|| format!("{what} on {vsn:?}"))?;
            // The connection may break under what is still being sent.
            ensure!(matches!(code, Some(1008) | None), "{what} on {vsn:?}: {code:?}");
            ensure!(honest.heartbeat().await?.is_ok());
        }
    }
    ensure!(is_closed_for(scene, "over_rate").await);
    Ok(())
}
