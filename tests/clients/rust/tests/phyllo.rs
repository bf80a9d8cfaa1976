//! phyllo, which speaks serialization 2.0.0 and reads text alone: it joins, and is replayed rows, but live broadcasts come
//! in binary frames, which it passes over. Its URL has to end in `/websocket`.

use std::time::Duration;

use campfire_rust_clients::{environment, open_conversation, passed, room, socket, write};
use phyllo::channel::{ChannelBuilder, ChannelHandler};
use phyllo::message::{Event, Message, Payload};
use phyllo::socket::{SocketBuilder, SocketHandler};
use serde_json::{Value, json};
use tokio::sync::broadcast::Receiver;
use tokio::time::timeout;
use url::Url;

const WAIT: Duration = Duration::from_secs(20);

type Handler = ChannelHandler<String, String, Value, Value>;
type Events = Receiver<Message<String, String, Value, Value>>;

fn ok(feature: &str) {
    passed("phyllo (Rust)", "0.3.0", "2.0.0", feature);
}

async fn connect() -> SocketHandler<String> {
    let url = Url::parse_with_params(&socket(), [("apikey", environment("CAMPFIRE_API_KEY"))]).unwrap();
    SocketBuilder::new(url).build().await
}

async fn join(socket: &mut SocketHandler<String>, name: &str, config: Value) -> (Handler, Events) {
    let payload = json!({"config": config, "access_token": environment("CAMPFIRE_TOKEN")});
    let builder = ChannelBuilder::new(format!("realtime:{name}")).params(Some(payload));
    timeout(WAIT, socket.channel(builder)).await.expect("the join is answered").unwrap()
}

async fn next(events: &mut Events) -> (Event<String>, Value) {
    let message = timeout(WAIT, events.recv()).await.expect("a message comes").unwrap();
    let Some(Payload::Custom(payload)) = message.payload else { panic!("no payload") };
    (message.event, payload)
}

#[tokio::test(flavor = "multi_thread")]
async fn replayed_rows() {
    let conversation = open_conversation();
    write(&conversation, "hello");
    let mut socket = connect().await;
    let name = format!("org:{}:conv:{conversation}", environment("CAMPFIRE_ORGANIZATION"));
    let (_handler, mut events) =
        join(&mut socket, &name, json!({"broadcast": {"replay": {"snapshot": 2}}})).await;
    ok("channels: join");
    loop {
        let (event, payload) = next(&mut events).await;
        assert_eq!(event, Event::Event("broadcast".to_owned()));
        if payload["event"] == "message:created" {
            assert_eq!(payload["payload"]["content"], "hello");
            break;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn presence_and_pushes() {
    let mut socket = connect().await;
    let config =
        json!({"broadcast": {"ack": true, "self": true}, "presence": {"key": "ann", "enabled": true}});
    let (mut handler, mut events) = join(&mut socket, &room(), config).await;
    assert_eq!(next(&mut events).await, (Event::Event("presence_state".to_owned()), json!({})));
    ok("presence: nobody is there");
    let push = json!({"type": "broadcast", "event": "e", "payload": {"n": 1}});
    handler.send(Event::Event("broadcast".to_owned()), Payload::Custom(push)).await.unwrap();
}
