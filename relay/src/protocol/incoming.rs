//! What a client says.

use std::fmt;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::binary::{self, Push};
use super::broadcast::{Encoding, UserBroadcast};
use super::json;
use super::reference::Ref;
use super::vsn::Vsn;

/// One message of a client, in either serialization.
#[derive(Clone, Debug)]
pub struct Incoming {
    pub join_ref: Ref,
    /// `ref`, which is a keyword of Rust.
    pub reference: Ref,
    /// As the client spells it, with `realtime:`.
    pub topic: String,
    pub event: String,
    pub payload: Payload,
}

/// The body of a message.
#[derive(Clone, Debug)]
pub enum Payload {
    /// Valid JSON, unparsed. Also a `broadcast` whose payload names no event, which nobody could listen to.
    Json(Box<RawValue>),
    /// A `broadcast`, from a binary or a text frame.
    Broadcast(UserBroadcast),
}

/// A frame that is not understood. It is dropped without a word and the socket is kept, as the reference does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("not a message of serialization 1.0.0")]
    TextV1,
    #[error("not a message of serialization 2.0.0")]
    TextV2,
    #[error("a binary frame of another kind, or cut off")]
    Binary,
    #[error("a broadcast whose payload is not JSON")]
    Payload,
    #[error("JSON that nests too deeply")]
    TooDeep,
}

impl Incoming {
    /// Parses a text frame.
    pub fn parse_text(vsn: Vsn, text: &str) -> Result<Self, Malformed> {
        if !json::is_shallow(text.as_bytes()) {
            return Err(Malformed::TooDeep);
        }
        match vsn {
            Vsn::V1 => Self::parse_object(text).ok_or(Malformed::TextV1),
            Vsn::V2 => Self::parse_array(text).ok_or(Malformed::TextV2),
        }
    }

    /// Parses a binary frame. Only sockets of 2.0.0 send any.
    pub fn parse_binary(vsn: Vsn, frame: &Bytes) -> Result<Self, Malformed> {
        match vsn {
            Vsn::V1 => Err(Malformed::Binary),
            Vsn::V2 => Self::from_push(binary::decode_push(frame).ok_or(Malformed::Binary)?),
        }
    }

    /// `{"topic","event","payload","ref"[,"join_ref"]}`; `ref` may be null, not absent.
    fn parse_object(text: &str) -> Option<Self> {
        let [join_ref, reference, topic, event, payload] =
            json::members(text, ["join_ref", "ref", "topic", "event", "payload"])?;
        let join_ref = join_ref.map_or(Some(Ref::Null), Ref::from_json)?;
        Self::from_parts(join_ref, reference?, topic?, event?, payload?)
    }

    /// `[join_ref, ref, topic, event, payload]`, and whatever a later version may append.
    fn parse_array(text: &str) -> Option<Self> {
        let Five([join_ref, reference, topic, event, payload]) = serde_json::from_str(text).ok()?;
        Self::from_parts(Ref::from_json(join_ref)?, reference, topic, event, payload)
    }

    fn from_push(push: Push) -> Result<Self, Malformed> {
        let Push { join_ref, reference, topic, event, encoding, payload } = push;
        if encoding == Encoding::Json && !json::is_relayable(&payload) {
            return Err(Malformed::Payload);
        }
        let payload = Payload::Broadcast(UserBroadcast { event, encoding, payload });
        Ok(Self { join_ref, reference, topic, event: "broadcast".to_owned(), payload })
    }

    fn from_parts(
        join_ref: Ref,
        reference: &RawValue,
        topic: &RawValue,
        event: &RawValue,
        payload: &RawValue,
    ) -> Option<Self> {
        let event = json::string(event)?;
        let broadcast = if event == "broadcast" { UserBroadcast::from_json(payload) } else { None };
        let payload = broadcast.map_or_else(|| Payload::Json(payload.to_owned()), Payload::Broadcast);
        Some(Self {
            join_ref,
            reference: Ref::from_json(reference)?,
            topic: json::string(topic)?,
            event,
            payload,
        })
    }
}

/// The token in the payload of an `access_token` push. None if there is nothing to do: the token is null, missing, or
/// by its prefix an API key, which never replaces a token.
pub fn access_token(payload: &RawValue) -> Option<String> {
    let [token] = json::members(payload.get(), ["access_token"])?;
    token.and_then(json::string).filter(|token| !token.starts_with("sb_"))
}

/// The first five elements of an array.
struct Five<'a>([&'a RawValue; 5]);

impl<'de: 'a, 'a> Deserialize<'de> for Five<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(FiveVisitor).map(Self)
    }
}

struct FiveVisitor;

impl<'de> Visitor<'de> for FiveVisitor {
    type Value = [&'de RawValue; 5];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of at least five elements")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut five = [RawValue::NULL; 5];
        for (index, element) in five.iter_mut().enumerate() {
            *element =
                elements.next_element()?.ok_or_else(|| serde::de::Error::invalid_length(index, &self))?;
        }
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(five)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(vsn: Vsn, text: &str, refs: [&str; 2], topic: &str, event: &str, payload: &str) {
        let incoming = Incoming::parse_text(vsn, text).unwrap();
        assert_eq!([incoming.join_ref.as_json(), incoming.reference.as_json()], refs, "{text}");
        assert_eq!((incoming.topic.as_str(), incoming.event.as_str()), (topic, event), "{text}");
        match incoming.payload {
            Payload::Json(found) => assert_eq!(found.get(), payload, "{text}"),
            Payload::Broadcast(found) => {
                assert_eq!(
                    (found.encoding, found.payload),
                    (Encoding::Json, payload.to_owned().into()),
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn objects_of_1_0_0_are_read() {
        check(
            Vsn::V1,
            r#"{"topic":"realtime:room:7","event":"phx_join","payload":{"config":{}},"ref":"4","join_ref":"4"}"#,
            [r#""4""#, r#""4""#],
            "realtime:room:7",
            "phx_join",
            r#"{"config":{}}"#,
        );
        let heartbeat =
            r#"{"ref": null, "event":"heartbeat", "topic":"phoenix", "payload": {}, "more": [1]}"#;
        check(Vsn::V1, heartbeat, ["null", "null"], "phoenix", "heartbeat", "{}");
    }

    #[test]
    fn arrays_of_2_0_0_are_read() {
        let heartbeat = r#"[null,"5","phoenix","heartbeat",{}]"#;
        check(Vsn::V2, heartbeat, ["null", r#""5""#], "phoenix", "heartbeat", "{}");
        check(Vsn::V2, r#" [1, 2, "caf\u00e9", "e", null, "later", {}] "#, ["1", "2"], "café", "e", "null");
    }

    #[test]
    fn broadcasts_are_taken_apart() {
        let push =
            r#"["4","6","realtime:r","broadcast",{"type":"broadcast","event":"e","payload":{"x": 3}}]"#;
        check(Vsn::V2, push, [r#""4""#, r#""6""#], "realtime:r", "broadcast", r#"{"x": 3}"#);
        let unnamed = r#"["4","6","realtime:r","broadcast",{"event":7}]"#;
        check(Vsn::V2, unnamed, [r#""4""#, r#""6""#], "realtime:r", "broadcast", r#"{"event":7}"#);
    }

    fn check_malformed(text: &str) {
        for vsn in [Vsn::V1, Vsn::V2] {
            assert!(Incoming::parse_text(vsn, text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_message_is_malformed() {
        for text in ["", "{", "[]", "{}", "null", "\"x\"", "7"] {
            check_malformed(text);
        }
        check_malformed(r#"["1","2","t","e"]"#);
        check_malformed(r#"["1","2",7,"e",{}]"#);
        check_malformed(r#"["1","2","t",null,{}]"#);
        check_malformed(r#"[{},"2","t","e",{}]"#);
        check_malformed(r#"["1","2","t","e",{}] x"#);
        check_malformed(r#"{"topic":"t","event":"e","payload":{}}"#);
        check_malformed(r#"{"topic":"t","event":"e","ref":null}"#);
        check_malformed(r#"{"topic":7,"event":"e","payload":{},"ref":"1"}"#);
        check_malformed(r#"["1","2","\ud800","e",{}]"#);
    }

    #[test]
    fn each_serialization_knows_only_its_own() {
        assert!(Incoming::parse_text(Vsn::V1, r#"[null,"5","phoenix","heartbeat",{}]"#).is_err());
        let object = r#"{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"1"}"#;
        assert!(Incoming::parse_text(Vsn::V2, object).is_err());
        let push = Bytes::from_static(b"\x03\0\0\x01\x01\0\x01te1");
        let incoming = Incoming::parse_binary(Vsn::V2, &push).unwrap();
        assert_eq!((incoming.topic.as_str(), incoming.event.as_str()), ("t", "broadcast"));
        let Payload::Broadcast(broadcast) = incoming.payload else { panic!("not a broadcast") };
        assert_eq!((broadcast.event.as_str(), &broadcast.payload[..]), ("e", &b"1"[..]));
        assert_eq!(Incoming::parse_binary(Vsn::V1, &push).unwrap_err(), Malformed::Binary);
    }

    #[test]
    fn a_binary_frame_with_json_that_is_none_is_refused() {
        let parse = |encoding: u8, payload: &[u8]| {
            let push = [&b"\x03\0\0\x01\x01\0"[..], &[encoding], b"te", payload].concat();
            Incoming::parse_binary(Vsn::V2, &push.into())
        };
        for payload in [&b"{"[..], b""] {
            assert_eq!(parse(1, payload).unwrap_err(), Malformed::Payload);
            assert!(parse(0, payload).is_ok(), "bytes may be anything");
        }
    }

    #[test]
    fn deep_nesting_is_refused() {
        let text = format!(r#"["1","2","t","e",{}{}]"#, "[".repeat(1000), "]".repeat(1000));
        assert_eq!(Incoming::parse_text(Vsn::V2, &text).unwrap_err(), Malformed::TooDeep);
    }

    #[test]
    fn access_tokens_are_read() {
        let token = |payload| access_token(serde_json::from_str(payload).unwrap());
        assert_eq!(token(r#"{"access_token":"eyJ"}"#).as_deref(), Some("eyJ"));
        for payload in [r#"{"access_token":null}"#, r#"{"access_token":"sb_secret_x"}"#, "{}", "[]", "null"] {
            assert_eq!(token(payload), None);
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,80}|[\\[\\]{}\":,a-z0-9null\\\\ ]{0,80}", two: bool) {
            let _ = Incoming::parse_text(if two { Vsn::V2 } else { Vsn::V1 }, &text);
        }

        #[test]
        fn what_a_client_encodes_is_read_back(reference in 0_u32.., topic: String, event: String, payload: Vec<String>) {
            prop_assume!(event != "broadcast");
            let texts = [
                (Vsn::V1, serde_json::json!({"topic": topic, "event": event, "payload": payload, "ref": reference})),
                (Vsn::V2, serde_json::json!([null, reference, topic, event, payload])),
            ];
            for (vsn, text) in texts {
                let incoming = Incoming::parse_text(vsn, &text.to_string()).unwrap();
                prop_assert_eq!(incoming.reference.as_json(), reference.to_string());
                prop_assert_eq!((&incoming.topic, &incoming.event), (&topic, &event));
                let Payload::Json(found) = incoming.payload else { panic!("a broadcast") };
                prop_assert_eq!(serde_json::from_str::<Vec<String>>(found.get()).unwrap(), payload.clone());
            }
        }
    }
}
