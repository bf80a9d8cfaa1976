//! What the relay says, apart from broadcasts: replies, `system`, `phx_close`, `phx_error`, presence.
//!
//! 1.0.0 never sees a `join_ref`, and always a `ref`. JavaScript drops what carries another join's `join_ref`, and obeys
//! a close without one, so each kind of message has its own rule about the two.

use super::PHOENIX;
use super::frame::Frame;
use super::json;
use super::reason::Reason;
use super::reference::Ref;
use super::vsn::Vsn;
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

    /// Breaks the channel: clients rejoin after a second. The refs are as those of [`Envelope::close`].
    pub fn error(&self) -> Frame {
        self.message(self.join_ref, self.join_ref, "phx_error", &[r#"{"reason":"channel_crash"}"#])
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

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

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
        check(
            |channel| channel.error(),
            r#"{"topic":"realtime:room:7","event":"phx_error","payload":{"reason":"channel_crash"},"ref":"4"}"#,
            r#"["4","4","realtime:room:7","phx_error",{"reason":"channel_crash"}]"#,
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
}
