//! Binary frames of clients. What is understood carries the payload's bytes untouched, to both serializations.
#![no_main]

use bytes::Bytes;
use campfire_relay::protocol::{Encoding, Incoming, Payload, Vsn, encode_broadcast};
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;

fuzz_target!(|data: &[u8]| {
    let frame = Bytes::copy_from_slice(data);
    assert!(Incoming::parse_binary(Vsn::V1, &frame).is_err());
    let Ok(incoming) = Incoming::parse_binary(Vsn::V2, &frame) else { return };
    let Payload::Broadcast(broadcast) = incoming.payload else { panic!("a binary frame is a broadcast") };
    assert!(data.ends_with(&broadcast.payload));
    if broadcast.encoding == Encoding::Json {
        // Not a Value: JSON has numbers that no f64 can hold, and they go through as they are.
        let _: &RawValue = serde_json::from_slice(&broadcast.payload).expect("JSON");
    }
    let stamped = broadcast.stamped(None);
    match encode_broadcast(Vsn::V2, &incoming.topic, &stamped) {
        Some(sent) if sent.is_text() => assert_eq!(broadcast.encoding, Encoding::Json),
        Some(sent) => assert!(sent.payload().ends_with(&broadcast.payload)),
        // A field that was Latin-1 may be too long as UTF-8.
        None => {}
    }
    let sent = encode_broadcast(Vsn::V1, &incoming.topic, &stamped);
    assert!(sent.is_none_or(|frame| frame.is_text()), "1.0.0 has no binary frames");
});
