//! What clients send: frames of both serializations, and the names of channels.

use bytes::Bytes;
use campfire_relay::protocol::{
    Frame, Incoming, JoinPayload, Payload, UserBroadcast, Vsn, access_token, encode_broadcast,
};
use campfire_relay::route::Topic;
use serde::de::IgnoredAny;
use serde_json::Value;

/// A text frame; the first byte chooses the serialization.
pub fn frame_text(data: &[u8]) {
    let Some((choice, text)) = data.split_first() else { return };
    let Ok(text) = str::from_utf8(text) else { return };
    let vsn = if choice.is_multiple_of(2) { Vsn::V1 } else { Vsn::V2 };
    let Ok(message) = Incoming::parse_text(vsn, text) else { return };
    match &message.payload {
        Payload::Json(payload) => {
            let _ = JoinPayload::parse(payload);
            let _ = access_token(payload);
        }
        Payload::Broadcast(broadcast) => {
            let json = serde_json::from_slice::<IgnoredAny>(&broadcast.payload);
            assert!(json.is_ok(), "what came as JSON is JSON");
            forward(&message.topic, broadcast);
        }
    }
}

/// A binary frame of 2.0.0.
pub fn frame_binary(data: &[u8]) {
    let frame = Bytes::copy_from_slice(data);
    if let Ok(Incoming { topic, payload: Payload::Broadcast(broadcast), .. }) =
        Incoming::parse_binary(Vsn::V2, &frame)
    {
        forward(&topic, &broadcast);
    }
}

/// What one client sends must not break another's parser.
fn forward(topic: &str, broadcast: &UserBroadcast) {
    let meta = br#"{"sender":{"type":"agent","id":null}}"#;
    for vsn in [Vsn::V1, Vsn::V2] {
        match encode_broadcast(vsn, topic, &broadcast.stamped(Some(meta))) {
            Some(Frame::Text(text)) => {
                assert!(serde_json::from_str::<IgnoredAny>(&text).is_ok(), "a text frame is JSON");
                // JSON has numbers that this parser has no room for, and JavaScript has.
                let Ok(frame) = serde_json::from_str::<Value>(&text) else { continue };
                let (payload, at) = if vsn == Vsn::V1 {
                    (&frame["payload"], &frame["topic"])
                } else {
                    (&frame[4], &frame[2])
                };
                assert_eq!(at, topic);
                assert_eq!(payload["event"], broadcast.event);
                assert_eq!(payload["meta"]["sender"]["type"], "agent");
            }
            Some(Frame::Binary(bytes)) => {
                assert_eq!(vsn, Vsn::V2, "1.0.0 has no binary frames");
                let lengths: usize = bytes[1..4].iter().map(|length| usize::from(*length)).sum();
                assert_eq!(bytes[0], 4);
                assert_eq!(
                    &bytes[5 + lengths..],
                    &broadcast.payload[..],
                    "the payload's bytes are not touched"
                );
            }
            None => {}
        }
    }
}

/// The name of a channel.
pub fn channel(data: &[u8]) {
    let Ok(name) = str::from_utf8(data) else { return };
    let Ok(topic) = Topic::parse(name) else { return };
    let written = topic.to_string();
    assert_eq!(Topic::parse(&written).as_ref(), Ok(&topic), "{name:?}");
    let bare = name.strip_prefix("bcast:").unwrap_or(name);
    let first = bare.split(':').next().unwrap_or_default();
    assert_eq!(first.eq_ignore_ascii_case("org"), topic.organization().is_some(), "{name:?}");
    if topic.organization().is_some() {
        assert_eq!(written, bare, "an organization's channel has one spelling");
    }
}
