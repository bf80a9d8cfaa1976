//! Broadcasts: events on a channel, from the write-ahead log or from another client.

use bytes::Bytes;
use serde_json::value::RawValue;

use super::frame::Frame;
use super::outgoing::Envelope;
use super::reference::Ref;
use super::vsn::Vsn;
use super::{binary, json};

/// Longest name of an event that a client or SQL may send: every member gets it. As long as the binary frames of 2.0.0
/// can say.
pub const EVENT_BYTES_MAX: usize = 255;

/// A broadcast as a client sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserBroadcast {
    pub event: String,
    pub encoding: Encoding,
    /// With [`Encoding::Json`] valid JSON, otherwise anything. The bytes that came.
    pub payload: Bytes,
}

/// What the bytes of a broadcast's payload are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Json,
    Binary,
}

impl Encoding {
    /// Whether a serialization can carry it: 1.0.0 has no binary frames.
    pub fn is_for(self, vsn: Vsn) -> bool {
        self == Self::Json || vsn == Vsn::V2
    }
}

/// A broadcast to be delivered.
#[derive(Clone, Copy, Debug)]
pub struct Broadcast<'a> {
    pub event: &'a str,
    pub payload: BroadcastPayload<'a>,
    /// A JSON object. None leaves it out.
    pub meta: Option<&'a [u8]>,
}

#[derive(Clone, Copy, Debug)]
pub enum BroadcastPayload<'a> {
    /// Valid JSON.
    Json(&'a [u8]),
    Binary(&'a [u8]),
}

impl<'a> BroadcastPayload<'a> {
    pub fn new(encoding: Encoding, bytes: &'a [u8]) -> Self {
        match encoding {
            Encoding::Json => Self::Json(bytes),
            Encoding::Binary => Self::Binary(bytes),
        }
    }
}

impl UserBroadcast {
    /// Reads the payload of a text push, `{"type":"broadcast","event":E,"payload":P}`. None unless `event` is text.
    ///
    /// Only event and payload are taken. Passing the object on whole, as the reference does, lets its sender forge
    /// `meta`, or break every JavaScript receiver with a member `ids`.
    pub(super) fn from_json(payload: &RawValue) -> Option<Self> {
        let [event, payload] = json::members(payload.get(), ["event", "payload"])?;
        let event = json::string(event?)?;
        let payload = payload.map_or("{}", RawValue::get);
        Some(Self { event, encoding: Encoding::Json, payload: Bytes::copy_from_slice(payload.as_bytes()) })
    }

    /// As it goes to others, with the metadata that the relay stamps on it.
    pub fn stamped<'a>(&'a self, meta: Option<&'a [u8]>) -> Broadcast<'a> {
        Broadcast { event: &self.event, payload: BroadcastPayload::new(self.encoding, &self.payload), meta }
    }
}

/// The frame of a broadcast for all sockets of a serialization that joined under one spelling of the topic.
///
/// None if it cannot be told to them: a binary payload to 1.0.0, or one that needs a longer header than a binary frame
/// has. A JSON payload with such a header goes as text instead.
pub fn encode_broadcast(vsn: Vsn, wire_topic: &str, broadcast: &Broadcast<'_>) -> Option<Frame> {
    let Broadcast { event, payload, meta } = *broadcast;
    if vsn == Vsn::V2 {
        let (encoding, bytes) = match payload {
            BroadcastPayload::Json(json) => (Encoding::Json, json),
            BroadcastPayload::Binary(bytes) => (Encoding::Binary, bytes),
        };
        let metadata = meta.unwrap_or_default();
        if let Some(frame) = binary::encode_broadcast(wire_topic, event, metadata, encoding, bytes) {
            return Some(Frame::binary(frame));
        }
    }
    let BroadcastPayload::Json(payload) = payload else { return None };
    encode_text(vsn, &Ref::Null, wire_topic, event, payload, meta)
}

impl Envelope<'_> {
    /// The frame of a broadcast that one channel gets again. Text where that can hold it, with the join's ref:
    /// JavaScript then drops what was meant for an earlier join. None as for [`encode_broadcast`].
    pub fn replayed(&self, broadcast: &Broadcast<'_>) -> Option<Frame> {
        let BroadcastPayload::Json(payload) = broadcast.payload else {
            return encode_broadcast(self.vsn, self.topic, broadcast);
        };
        encode_text(self.vsn, self.join_ref, self.topic, broadcast.event, payload, broadcast.meta)
    }
}

/// None if payload or metadata are not UTF-8, hence no JSON.
fn encode_text(
    vsn: Vsn,
    join_ref: &Ref,
    wire_topic: &str,
    event: &str,
    payload: &[u8],
    meta: Option<&[u8]>,
) -> Option<Frame> {
    // The fixed parts have about 100 bytes; escapes may still make it grow.
    let capacity = 128 + wire_topic.len() + event.len() + payload.len() + meta.map_or(0, <[u8]>::len);
    let mut text = Vec::with_capacity(capacity);
    match vsn {
        Vsn::V1 => text.extend_from_slice(br#"{"topic":"#),
        Vsn::V2 => [b"[", join_ref.as_json().as_bytes(), b",null,"]
            .iter()
            .for_each(|part| text.extend_from_slice(part)),
    }
    json::push_string(&mut text, wire_topic);
    match vsn {
        Vsn::V1 => text.extend_from_slice(br#","event":"broadcast","payload":"#),
        Vsn::V2 => text.extend_from_slice(br#","broadcast","#),
    }
    text.extend_from_slice(br#"{"type":"broadcast","event":"#);
    json::push_string(&mut text, event);
    text.extend_from_slice(br#","payload":"#);
    text.extend_from_slice(payload);
    if let Some(meta) = meta {
        text.extend_from_slice(br#","meta":"#);
        text.extend_from_slice(meta);
    }
    match vsn {
        Vsn::V1 => text.extend_from_slice(br#"},"ref":null}"#),
        Vsn::V2 => text.extend_from_slice(b"}]"),
    }
    Frame::from_utf8(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn check_push(payload: &str, expected: Option<(&str, &str)>) {
        let raw = serde_json::from_str(payload).unwrap();
        let broadcast = UserBroadcast::from_json(raw);
        let found =
            broadcast.as_ref().map(|found| (found.event.as_str(), str::from_utf8(&found.payload).unwrap()));
        assert_eq!(found, expected, "{payload}");
    }

    #[test]
    fn text_pushes_keep_event_and_payload_only() {
        check_push(r#"{"type":"broadcast","event":"e","payload":{"x": 3}}"#, Some(("e", r#"{"x": 3}"#)));
        check_push(r#"{"event":"e","payload":1,"meta":{"id":"forged"},"ids":[]}"#, Some(("e", "1")));
        check_push(r#"{"event":"e"}"#, Some(("e", "{}")));
        check_push(r#"{"event":"e","payload":null}"#, Some(("e", "null")));
    }

    #[test]
    fn text_pushes_without_event_are_no_broadcasts() {
        for payload in [r#"{"payload":{}}"#, r#"{"event":1,"payload":{}}"#, "[]", "null", "\"x\""] {
            check_push(payload, None);
        }
    }

    fn check_text(vsn: Vsn, broadcast: &Broadcast<'_>, topic: &str, expected: &str) {
        assert_eq!(encode_broadcast(vsn, topic, broadcast), Some(Frame::text(expected)));
    }

    #[test]
    fn broadcasts_to_1_0_0_are_objects() {
        let broadcast = Broadcast { event: "e", payload: BroadcastPayload::Json(br#"{"v": 1}"#), meta: None };
        let expected = r#"{"topic":"realtime:r","event":"broadcast","payload":{"type":"broadcast","event":"e","payload":{"v": 1}},"ref":null}"#;
        check_text(Vsn::V1, &broadcast, "realtime:r", expected);
        let expected = r#"{"topic":"realtime:r","event":"broadcast","payload":{"type":"broadcast","event":"e","payload":{"v": 1},"meta":{"id":"a"}},"ref":null}"#;
        check_text(Vsn::V1, &Broadcast { meta: Some(br#"{"id":"a"}"#), ..broadcast }, "realtime:r", expected);
    }

    #[test]
    fn broadcasts_to_2_0_0_are_binary_and_text_when_a_field_is_too_long() {
        let broadcast = Broadcast { event: "e", payload: BroadcastPayload::Json(b"1"), meta: Some(b"{}") };
        let frame = encode_broadcast(Vsn::V2, "realtime:r", &broadcast);
        assert_eq!(frame, Some(Frame::binary(Bytes::from_static(b"\x04\x0a\x01\x02\x01realtime:re{}1"))));
        let topic = format!("realtime:{}", "r".repeat(250));
        let expected = format!(
            r#"[null,null,"{topic}","broadcast",{{"type":"broadcast","event":"e","payload":1,"meta":{{}}}}]"#
        );
        check_text(Vsn::V2, &broadcast, &topic, &expected);
    }

    #[test]
    fn binary_payloads_are_never_text() {
        let broadcast = Broadcast { event: "e", payload: BroadcastPayload::Binary(b"\xde\xad"), meta: None };
        assert_eq!(encode_broadcast(Vsn::V1, "realtime:r", &broadcast), None);
        assert!(encode_broadcast(Vsn::V2, "realtime:r", &broadcast).is_some_and(|frame| !frame.is_text()));
        assert_eq!(encode_broadcast(Vsn::V2, &"r".repeat(256), &broadcast), None);
    }

    proptest! {
        #[test]
        fn text_broadcasts_read_back(topic: String, event: String, payload: String, two: bool) {
            let payload_json = serde_json::to_vec(&payload).unwrap();
            let vsn = if two { Vsn::V2 } else { Vsn::V1 };
            let meta = br#"{"id":"a"}"#;
            let frame = encode_text(vsn, &Ref::Null, &topic, &event, &payload_json, Some(meta)).unwrap();
            prop_assert!(frame.is_text());
            let body = json!({"type": "broadcast", "event": event, "payload": payload, "meta": {"id": "a"}});
            let expected = match vsn {
                Vsn::V1 => json!({"topic": topic, "event": "broadcast", "payload": body, "ref": null}),
                Vsn::V2 => json!([null, null, topic, "broadcast", body]),
            };
            prop_assert_eq!(serde_json::from_slice::<Value>(frame.payload()).unwrap(), expected);
        }
    }
}
