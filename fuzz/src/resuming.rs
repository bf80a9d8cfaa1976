//! Positions, and what a join asks to have again, against a hub with some history.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Waker};
use std::time::{Duration, UNIX_EPOCH};

use campfire_relay::auth::{ApiKeys, ClaimPaths, Credential, Keys};
use campfire_relay::decode::Timestamp;
use campfire_relay::fanout::{
    ClientInput, Hub, HubChange, HubInput, HubSettings, Join, Outbox, OutboxLimits, SocketId, WindowLimits,
};
use campfire_relay::metrics::Metrics;
use campfire_relay::protocol::{Frame, Incoming, JoinPayload, Ref, Vsn};
use campfire_relay::route::{DatabaseTag, Event, Position, Routed, Topic};
use campfire_relay::wal::Lsn;
use serde_json::Value;
use tokio::sync::watch;
use uuid::Uuid;

const EVENTS: u64 = 20;

/// An id, and the value of `config.broadcast.replay`.
pub fn resume(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    if let Some((tag, position)) = Position::parse_id(text) {
        assert_eq!(position.id(tag).to_string(), text);
        join(&format!(r#"{{"after":"{text}"}}"#));
    }
    join(text);
}

fn join(replay: &str) {
    let payload = format!(r#"{{"config":{{"broadcast":{{"replay":{replay}}}}}}}"#);
    let Ok(payload) = serde_json::from_str(&payload) else { return };
    let topic = Topic::channel_organization(Uuid::from_u128(1));
    let mut hub = hub(&topic);
    let outbox = Arc::new(Outbox::new(OutboxLimits { bytes_max: 1 << 20, frames_max: 1024 }));
    let socket = SocketId(1);
    let connect = ClientInput::Connect { vsn: Vsn::V1, outbox: Arc::clone(&outbox) };
    hub.apply(HubInput::Client(socket, connect));
    let join = Join {
        wire_topic: format!("realtime:{topic}").into(),
        join_ref: reference(),
        reference: reference(),
        payload: JoinPayload::parse(payload),
        credential: Ok(service()),
        within_rate: true,
    };
    hub.apply(HubInput::Client(socket, ClientInput::Join(Box::new(join))));
    let frames = take(&outbox);
    let reply = &frames.first().expect("every join is answered")["payload"];
    let said = &reply["response"]["replay"];
    if reply["status"] != "ok" || said.is_null() {
        return;
    }
    let events: Vec<&str> =
        frames.iter().filter_map(|frame| frame["payload"]["meta"]["id"].as_str()).collect();
    assert_eq!(said["count"], events.len(), "{replay}");
    assert!(events.is_sorted() && events.len() <= EVENTS as usize, "{replay}");
    let incomplete = frames.iter().any(|frame| frame["event"] == "system");
    assert_eq!(said["complete"], !incomplete, "{replay}");
    assert!(events.iter().all(|id| Some(*id) <= said["position"].as_str()), "{replay}");
}

fn hub(topic: &Topic) -> Hub {
    let settings = HubSettings {
        channels_per_socket_max: 3,
        payload_bytes_max: 1000,
        org_payload_bytes_max: 1000,
        typing_timeout: Duration::from_secs(5),
        public_channels: false,
        // Too small for all of the history, so that some positions have left.
        window: WindowLimits {
            age_max: Duration::from_secs(300),
            bytes_max: 3_000,
            organization_bytes_max: 2_000,
        },
    };
    let (ready, _) = watch::channel(false);
    let mut hub = Hub::new(settings, Metrics::default(), Arc::new(AtomicU64::new(0)), ready);
    let tag = DatabaseTag::new(1, 2);
    hub.apply(HubInput::Attached { agents: Vec::new(), tag, timeline: 1, confirmed_flush_lsn: Lsn(8) });
    for number in 1..=EVENTS {
        let position = Position { timeline: 1, commit_lsn: Lsn(number * 8), change: 0 };
        let event = Event { topic: topic.clone(), event: "said".into(), payload: "{}".into() };
        let change = HubChange {
            position,
            committed_at: Timestamp::from_unix_millis(1_000 * number.cast_signed()),
            meta: format!(r#"{{"id":"{}"}}"#, position.id(tag)).into_bytes().into(),
            routed: Routed { events: vec![event], ..Routed::default() },
        };
        hub.apply(HubInput::Changes { changes: vec![change], applied: Some(Lsn(number * 8 + 1)) });
    }
    hub
}

fn reference() -> Ref {
    let heartbeat = r#"["1","1","phoenix","heartbeat",{}]"#;
    Incoming::parse_text(Vsn::V2, heartbeat).expect("a heartbeat").reference
}

fn service() -> Credential {
    let keys = Keys::from_secret(b"secret");
    let key = jsonwebtoken::EncodingKey::from_secret(b"secret");
    let claims = serde_json::json!({"role": "service_role", "exp": 100});
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("a token");
    keys.connect(&ApiKeys::default(), &ClaimPaths::default(), Some(&token), UNIX_EPOCH).expect("a credential")
}

fn take(outbox: &Outbox) -> Vec<Value> {
    let mut frames = Vec::new();
    {
        let mut taking = Box::pin(outbox.take(&mut frames));
        let _ = taking.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }
    let parse = |frame: Frame| match frame {
        Frame::Text(text) => serde_json::from_str(&text).expect("a text frame is JSON"),
        Frame::Binary(_) => panic!("1.0.0 has no binary frames"),
    };
    frames.into_iter().map(parse).collect()
}
