//! Broadcasts: events on a channel, from the write-ahead log or from another client.

use bytes::Bytes;
use serde_json::value::RawValue;

use super::json;
use super::meta::Meta;
use super::vsn::Vsn;

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
    /// None leaves it out.
    pub meta: Option<&'a Meta>,
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
    pub fn stamped<'a>(&'a self, meta: Option<&'a Meta>) -> Broadcast<'a> {
        Broadcast { event: &self.event, payload: BroadcastPayload::new(self.encoding, &self.payload), meta }
    }
}

#[cfg(test)]
mod tests {
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
}
