//! What the relay says: replies, `system`, `phx_close`, `phx_error`, presence, broadcasts.
//!
//! 1.0.0 never sees a `join_ref`, and always a `ref`. JavaScript drops what carries another join's `join_ref`, and obeys
//! a close without one, so each kind of message has its own rule about the two.

use super::PHOENIX;
use super::broadcast::{Broadcast, BroadcastPayload, Encoding};
use super::frame::Frame;
use super::meta::Meta;
use super::reason::Reason;
use super::reference::Ref;
use super::vsn::Vsn;
use super::{binary, json};
use crate::route::strip_wire_prefix;

/// Where a message belongs: a topic as one socket joined it.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    pub vsn: Vsn,
    /// As the client spelled it, with `realtime:`.
    pub topic: &'a str,
    /// Of the join that the channel stands on; null where there is no channel.
    pub join_ref: &'a Ref,
}

/// Whether a `system` message is good news. Python takes `error` for a broken channel and rejoins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SystemStatus {
    Ok,
    Error,
}

/// Replies to a heartbeat with a JSON object, usually `{}`.
pub fn heartbeat_reply(vsn: Vsn, reference: &Ref, response: &str) -> Frame {
    Envelope { vsn, topic: PHOENIX, join_ref: &Ref::Null }.reply_ok(reference, response)
}

/// Replies to a push on a topic that is not joined, or that is no channel.
pub fn unmatched_topic(vsn: Vsn, topic: &str, reference: &Ref) -> Frame {
    Envelope { vsn, topic, join_ref: &Ref::Null }.reply_error(reference, &Reason::UnmatchedTopic)
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
        let metadata = meta.map_or("", Meta::as_str).as_bytes();
        if let Some(frame) = binary::encode_broadcast(wire_topic, event, metadata, encoding, bytes) {
            return Some(Frame::binary(frame));
        }
    }
    let BroadcastPayload::Json(payload) = payload else { return None };
    encode_text(vsn, &Ref::Null, wire_topic, event, payload, meta)
}

impl Envelope<'_> {
    /// Replies ok with a JSON object: `{}` where there is nothing to say, since clients choke on null.
    pub fn reply_ok(&self, reference: &Ref, response: &str) -> Frame {
        self.message(self.join_ref, reference, "phx_reply", &[r#"{"status":"ok","response":"#, response, "}"])
    }

    /// Replies error. JavaScript shows the reason's text.
    pub fn reply_error(&self, reference: &Ref, reason: &Reason) -> Frame {
        let reason = json::quoted(&reason.to_string());
        let payload = [r#"{"status":"error","response":{"reason":"#, &reason, "}}"];
        self.message(self.join_ref, reference, "phx_reply", &payload)
    }

    /// Replies error without a word why, as the reference answers presence that is not allowed.
    pub fn reply_refused(&self, reference: &Ref) -> Frame {
        self.message(self.join_ref, reference, "phx_reply", &[r#"{"status":"error","response":{}}"#])
    }

    /// Tells the channel about itself.
    pub fn system(&self, status: SystemStatus, message: &str) -> Frame {
        self.system_with(status, message, "")
    }

    /// Tells the channel that events are missing before this place, and the position from which on none is. Status ok,
    /// because an error would make the Python client rejoin.
    pub fn replay_incomplete(&self, cause: &str, position: &str) -> Frame {
        let message = format!("ReplayIncomplete: {cause}");
        self.system_with(SystemStatus::Ok, &message, &format!(r#","position":{}"#, json::quoted(position)))
    }

    /// `members` of the payload come last, each behind a comma.
    fn system_with(&self, status: SystemStatus, message: &str, members: &str) -> Frame {
        let status = match status {
            SystemStatus::Ok => r#""ok""#,
            SystemStatus::Error => r#""error""#,
        };
        let message = json::quoted(message);
        let channel = json::quoted(strip_wire_prefix(self.topic).unwrap_or(self.topic));
        let payload = [
            r#"{"extension":"system","status":"#,
            status,
            r#","message":"#,
            &message,
            r#","channel":"#,
            &channel,
            members,
            "}",
        ];
        self.message(self.join_ref, &Ref::Null, "system", &payload)
    }

    /// Ends the channel for good: clients do not rejoin. Both refs are the join's, by which a client that has joined
    /// again meanwhile knows that another channel is meant.
    pub fn close(&self) -> Frame {
        self.message(self.join_ref, self.join_ref, "phx_close", &["{}"])
    }

    /// Everybody who is present, once a join, as a JSON object of key to metas.
    pub fn presence_state(&self, state: &str) -> Frame {
        self.message(self.join_ref, &Ref::Null, "presence_state", &[state])
    }

    /// Who came and went: JSON objects of key to metas, `{}` where nobody did. Goes to all members alike, so it
    /// carries no join's ref.
    pub fn presence_diff(&self, joins: &str, leaves: &str) -> Frame {
        let payload = [r#"{"joins":"#, joins, r#","leaves":"#, leaves, "}"];
        self.message(&Ref::Null, &Ref::Null, "presence_diff", &payload)
    }

    /// The frame of a broadcast that one channel gets again. Text where that can hold it, with the join's ref:
    /// JavaScript then drops what was meant for an earlier join. None as for [`encode_broadcast`].
    pub fn replayed(&self, broadcast: &Broadcast<'_>) -> Option<Frame> {
        let BroadcastPayload::Json(payload) = broadcast.payload else {
            return encode_broadcast(self.vsn, self.topic, broadcast);
        };
        encode_text(self.vsn, self.join_ref, self.topic, broadcast.event, payload, broadcast.meta)
    }

    fn message(&self, join_ref: &Ref, reference: &Ref, event: &str, payload: &[&str]) -> Frame {
        let (join_ref, reference, topic) =
            (join_ref.as_json(), reference.as_json(), json::quoted(self.topic));
        let (before, after): (&[&str], &[&str]) = match self.vsn {
            Vsn::V1 => (
                &[r#"{"topic":"#, &topic, r#","event":""#, event, r#"","payload":"#],
                &[r#","ref":"#, reference, "}"],
            ),
            Vsn::V2 => (&["[", join_ref, ",", reference, ",", &topic, r#",""#, event, r#"","#], &["]"]),
        };
        Frame::text([before, payload, after].concat().concat())
    }
}

/// None if the payload is not UTF-8, hence no JSON.
fn encode_text(
    vsn: Vsn,
    join_ref: &Ref,
    wire_topic: &str,
    event: &str,
    payload: &[u8],
    meta: Option<&Meta>,
) -> Option<Frame> {
    // The fixed parts have about 100 bytes; escapes may still make it grow.
    let capacity =
        128 + wire_topic.len() + event.len() + payload.len() + meta.map_or(0, |meta| meta.as_str().len());
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
        text.extend_from_slice(meta.as_str().as_bytes());
    }
    match vsn {
        Vsn::V1 => text.extend_from_slice(br#"},"ref":null}"#),
        Vsn::V2 => text.extend_from_slice(b"}]"),
    }
    Frame::from_utf8(text)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use serde_json::value::RawValue;
    use serde_json::{Value, json};

    use super::*;

    const TOPIC: &str = "realtime:room:7";

    fn reference(token: &str) -> Ref {
        Ref::from_json(serde_json::from_str::<&RawValue>(token).unwrap()).unwrap()
    }

    fn check(say: impl Fn(Envelope<'_>) -> Frame, v1: &str, v2: &str) {
        let join_ref = reference(r#""4""#);
        for (vsn, expected) in [(Vsn::V1, v1), (Vsn::V2, v2)] {
            assert_eq!(say(Envelope { vsn, topic: TOPIC, join_ref: &join_ref }), Frame::text(expected));
        }
    }

    #[test]
    fn replies_echo_the_ref() {
        check(
            |channel| channel.reply_ok(&reference(r#""9""#), r#"{"postgres_changes":[]}"#),
            r#"{"topic":"realtime:room:7","event":"phx_reply","payload":{"status":"ok","response":{"postgres_changes":[]}},"ref":"9"}"#,
            r#"["4","9","realtime:room:7","phx_reply",{"status":"ok","response":{"postgres_changes":[]}}]"#,
        );
        check(
            |channel| channel.reply_error(&reference("10"), &Reason::Unauthorized { topic: "room:7".into() }),
            r#"{"topic":"realtime:room:7","event":"phx_reply","payload":{"status":"error","response":{"reason":"Unauthorized: You do not have permissions to read from this Channel topic: room:7"}},"ref":10}"#,
            r#"["4",10,"realtime:room:7","phx_reply",{"status":"error","response":{"reason":"Unauthorized: You do not have permissions to read from this Channel topic: room:7"}}]"#,
        );
    }

    #[test]
    fn heartbeats_are_answered_even_without_ref() {
        let reply = heartbeat_reply(Vsn::V1, &Ref::Null, "{}");
        let expected =
            r#"{"topic":"phoenix","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":null}"#;
        assert_eq!(reply, Frame::text(expected));
        let reply = heartbeat_reply(Vsn::V2, &reference(r#""5""#), "{}");
        assert_eq!(reply, Frame::text(r#"[null,"5","phoenix","phx_reply",{"status":"ok","response":{}}]"#));
    }

    #[test]
    fn unmatched_topics_have_no_join() {
        let reply = unmatched_topic(Vsn::V2, "f\"oo", &reference(r#""5""#));
        let expected =
            r#"[null,"5","f\"oo","phx_reply",{"status":"error","response":{"reason":"unmatched topic"}}]"#;
        assert_eq!(reply, Frame::text(expected));
    }

    #[test]
    fn closes_carry_the_join_ref_twice() {
        check(
            |channel| channel.close(),
            r#"{"topic":"realtime:room:7","event":"phx_close","payload":{},"ref":"4"}"#,
            r#"["4","4","realtime:room:7","phx_close",{}]"#,
        );
    }

    #[test]
    fn pushes_have_a_null_ref() {
        check(
            |channel| channel.system(SystemStatus::Ok, "all \"well\""),
            r#"{"topic":"realtime:room:7","event":"system","payload":{"extension":"system","status":"ok","message":"all \"well\"","channel":"room:7"},"ref":null}"#,
            r#"["4",null,"realtime:room:7","system",{"extension":"system","status":"ok","message":"all \"well\"","channel":"room:7"}]"#,
        );
        check(
            |channel| channel.replay_incomplete("fetch anew", "f7fe.00000001"),
            r#"{"topic":"realtime:room:7","event":"system","payload":{"extension":"system","status":"ok","message":"ReplayIncomplete: fetch anew","channel":"room:7","position":"f7fe.00000001"},"ref":null}"#,
            r#"["4",null,"realtime:room:7","system",{"extension":"system","status":"ok","message":"ReplayIncomplete: fetch anew","channel":"room:7","position":"f7fe.00000001"}]"#,
        );
        check(
            |channel| channel.presence_state("{}"),
            r#"{"topic":"realtime:room:7","event":"presence_state","payload":{},"ref":null}"#,
            r#"["4",null,"realtime:room:7","presence_state",{}]"#,
        );
        check(
            |channel| channel.presence_diff("{}", "{}"),
            r#"{"topic":"realtime:room:7","event":"presence_diff","payload":{"joins":{},"leaves":{}},"ref":null}"#,
            r#"[null,null,"realtime:room:7","presence_diff",{"joins":{},"leaves":{}}]"#,
        );
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
        check_text(
            Vsn::V1,
            &Broadcast { meta: Some(&r#"{"id":"a"}"#.into()), ..broadcast },
            "realtime:r",
            expected,
        );
    }

    #[test]
    fn broadcasts_to_2_0_0_are_binary_and_text_when_a_field_is_too_long() {
        let meta = "{}".into();
        let broadcast = Broadcast { event: "e", payload: BroadcastPayload::Json(b"1"), meta: Some(&meta) };
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
            let meta = r#"{"id":"a"}"#.into();
            let frame = encode_text(vsn, &Ref::Null, &topic, &event, &payload_json, Some(&meta)).unwrap();
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
