//! The payload of a `presence` push: who a client says that it is.

use serde_json::value::RawValue;

use super::json;

/// Members that the relay writes; a client's own of these names are left out.
const OURS: [&str; 2] = ["phx_ref", "phx_ref_prev"];

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PresenceCall {
    /// Be present with these members, JSON text without its braces.
    Track(Box<str>),
    Untrack,
    /// A push that names no event: allowed, and nothing to do.
    Nothing,
    /// `track` with something other than an object.
    NotAnObject,
    /// Another event, or a payload that is none.
    Unknown,
}

impl PresenceCall {
    /// Reads `{"type":"presence","event":"track","payload":{…}}`. Python leaves `type` out; events in any case.
    pub fn parse(payload: &RawValue) -> Self {
        let Some([event, tracked]) = json::members(payload.get(), ["event", "payload"]) else {
            return Self::Unknown;
        };
        let Some(event) = event.filter(|event| !json::is_null(event)) else { return Self::Nothing };
        match json::string(event).map(|event| event.to_lowercase()).as_deref() {
            Some("track") => match json::members_without(tracked.map_or("{}", RawValue::get), &OURS) {
                Some(members) => Self::Track(members.into()),
                None => Self::NotAnObject,
            },
            Some("untrack") => Self::Untrack,
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(payload: &str, expected: PresenceCall) {
        assert_eq!(PresenceCall::parse(serde_json::from_str(payload).unwrap()), expected, "{payload}");
    }

    #[test]
    fn calls_are_read_as_both_clients_write_them() {
        let track = |members: &str| PresenceCall::Track(members.into());
        check(r#"{"type":"presence","event":"track","payload":{"name": "Ann"}}"#, track(r#""name":"Ann""#));
        check(
            r#"{"event":"TRACK","payload":{"n":1.50,"deep":{"phx_ref":1}}}"#,
            track(r#""n":1.50,"deep":{"phx_ref":1}"#),
        );
        check(r#"{"event":"track"}"#, track(""));
        check(r#"{"event":"Untrack"}"#, PresenceCall::Untrack);
        check(r#"{"type":"presence"}"#, PresenceCall::Nothing);
    }

    #[test]
    fn the_relays_own_members_are_left_out() {
        let payload = r#"{"event":"track","payload":{"phx_ref":"x","a":1,"phx_ref_prev":"y","b":2}}"#;
        check(payload, PresenceCall::Track(r#""a":1,"b":2"#.into()));
    }

    #[test]
    fn what_is_no_call_is_told_apart() {
        for tracked in ["\"x\"", "7", "null", "[]"] {
            check(&format!(r#"{{"event":"track","payload":{tracked}}}"#), PresenceCall::NotAnObject);
        }
        for payload in [r#"{"event":"dance"}"#, r#"{"event":7}"#, "[]", "null"] {
            check(payload, PresenceCall::Unknown);
        }
    }

    proptest! {
        #[test]
        fn what_is_tracked_is_json_again(names in prop::collection::vec("\\PC{0,8}", 0..5)) {
            let object: serde_json::Map<_, _> = names.iter().map(|name| (name.clone(), 7.into())).collect();
            let payload = serde_json::json!({"event": "track", "payload": object}).to_string();
            let PresenceCall::Track(members) = PresenceCall::parse(serde_json::from_str(&payload).unwrap()) else {
                panic!("not a track")
            };
            let read: serde_json::Map<String, serde_json::Value> =
                serde_json::from_str(&format!("{{{members}}}")).unwrap();
            prop_assert_eq!(read, object);
        }
    }
}
