//! Text frames of clients, in both serializations, and what is in them: joins, tokens, broadcasts. What is understood
//! as a broadcast can be sent on, and is then valid JSON with the same payload.
#![no_main]

use campfire_relay::protocol::{
    Encoding, Frame, Incoming, JoinPayload, Meta, Payload, UserBroadcast, Vsn, access_token, encode_broadcast,
};
use libfuzzer_sys::fuzz_target;
use serde::Deserialize;
use serde_json::value::RawValue;

fuzz_target!(|text: &str| {
    for vsn in [Vsn::V1, Vsn::V2] {
        let Ok(incoming) = Incoming::parse_text(vsn, text) else { continue };
        // References are given back as they came.
        for reference in [&incoming.join_ref, &incoming.reference] {
            let _: &RawValue = serde_json::from_str(reference.as_json()).expect("JSON");
        }
        match incoming.payload {
            Payload::Json(payload) => {
                access_token(&payload);
                if let Ok(join) = JoinPayload::parse(&payload, false) {
                    assert!(join.presence_key.is_none_or(|key| !key.is_empty()));
                }
            }
            Payload::Broadcast(broadcast) => {
                assert_eq!(broadcast.encoding, Encoding::Json);
                let meta = Meta::of_sender("agent", None);
                for meta in [None, Some(&meta)] {
                    let stamped = broadcast.stamped(meta);
                    let Some(frame) = encode_broadcast(Vsn::V1, &incoming.topic, &stamped) else { continue };
                    check_sent(&frame, &incoming.topic, &broadcast);
                }
            }
        }
    }
});

/// What was sent on, in the serialization that is an object.
#[derive(Deserialize)]
struct Sent<'a> {
    topic: String,
    event: String,
    #[serde(borrow)]
    payload: SentPayload<'a>,
}

#[derive(Deserialize)]
struct SentPayload<'a> {
    event: String,
    /// Not a Value: JSON has numbers that no f64 can hold, and they go through as they are.
    #[serde(borrow)]
    payload: &'a RawValue,
}

fn check_sent(frame: &Frame, topic: &str, broadcast: &UserBroadcast) {
    assert!(frame.is_text(), "1.0.0 is text");
    let sent: Sent<'_> = serde_json::from_slice(frame.payload()).expect("JSON");
    assert_eq!((sent.topic.as_str(), sent.event.as_str()), (topic, "broadcast"));
    assert_eq!(sent.payload.event, broadcast.event);
    assert_eq!(sent.payload.payload.get().as_bytes(), broadcast.payload.trim_ascii());
}
