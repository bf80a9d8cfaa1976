//! supabase-realtime-rs, which speaks serialization 1.0.0. Its URL has to end in `/websocket`; it does not wait for the
//! reply to a join, so a refusal goes unnoticed, and its way over HTTP takes the socket's address and finds nothing.
//! Presence is left out: a state that comes before its call to join has returned is dropped, and with it what follows.

use std::sync::Arc;
use std::time::Duration;

use campfire_rust_clients::{environment, open_conversation, passed, room, socket, write};
use serde_json::{Value, json};
use supabase_realtime_rs::channel::{EventPayload, RealtimeChannelOptions};
use supabase_realtime_rs::{ChannelEvent, RealtimeChannel, RealtimeClient, RealtimeClientOptions};
use tokio::time::{sleep, timeout};

const WAIT: Duration = Duration::from_secs(20);

fn ok(feature: &str) {
    passed("supabase-realtime-rs (Rust)", "0.1.2", "1.0.0", feature);
}

async fn connect(heartbeat_ms: Option<u64>) -> RealtimeClient {
    let options = RealtimeClientOptions {
        api_key: environment("CAMPFIRE_API_KEY"),
        access_token: Some(environment("CAMPFIRE_TOKEN")),
        heartbeat_interval: heartbeat_ms,
        ..Default::default()
    };
    let client = RealtimeClient::new(socket(), options).unwrap();
    client.connect().await.unwrap();
    client
}

/// Joins, and waits until the relay has answered: the client tells nobody, but its own broadcast comes back.
async fn join(client: &RealtimeClient, name: &str) -> Arc<RealtimeChannel> {
    let options = RealtimeChannelOptions { broadcast_self: true, ..Default::default() };
    let channel = client.channel(name, options).await;
    let mut echo = channel.on(ChannelEvent::broadcast("ready")).await;
    channel.subscribe().await.unwrap();
    channel.send(ChannelEvent::broadcast("ready"), json!({})).await.unwrap();
    timeout(WAIT, echo.recv()).await.expect("the join is answered").unwrap();
    channel
}

async fn next(receiver: &mut tokio::sync::mpsc::Receiver<EventPayload>) -> Value {
    match timeout(WAIT, receiver.recv()).await.expect("an event comes").unwrap() {
        EventPayload::Broadcast(message) => message,
        other => panic!("not a broadcast: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows() {
    let conversation = open_conversation();
    let client = connect(None).await;
    let name = format!("org:{}:conv:{conversation}", environment("CAMPFIRE_ORGANIZATION"));
    let channel = join(&client, &name).await;
    ok("channels: join");
    let mut created = channel.on(ChannelEvent::broadcast("message:created")).await;
    write(&conversation, "hello");
    let event = next(&mut created).await;
    assert_eq!(event["payload"]["content"], "hello");
    assert!(event["meta"]["id"].is_string());
    ok("rows: events");
}

#[tokio::test(flavor = "multi_thread")]
async fn broadcasts() {
    let (ann, bob, name) = (connect(None).await, connect(None).await, room());
    let hearing = join(&ann, &name).await;
    let mut events = hearing.on(ChannelEvent::broadcast("e")).await;
    let speaking = join(&bob, &name).await;
    speaking.send(ChannelEvent::broadcast("e"), json!({"n": 1})).await.unwrap();
    assert_eq!(next(&mut events).await["payload"]["n"], 1);
    ok("broadcast: from client to client");
    hearing.unsubscribe().await.unwrap();
    let again = join(&ann, &name).await;
    let mut events = again.on(ChannelEvent::broadcast("e")).await;
    speaking.send(ChannelEvent::broadcast("e"), json!({"n": 2})).await.unwrap();
    assert_eq!(next(&mut events).await["payload"]["n"], 2);
    ok("channels: leave and join again");
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats() {
    let client = connect(Some(3_000)).await;
    join(&client, &room()).await;
    // One that goes unanswered ends the connection before the next; the passing of time is what is tested.
    sleep(Duration::from_secs(7)).await;
    assert!(client.is_connected().await);
    ok("channels: heartbeats are answered");
}
