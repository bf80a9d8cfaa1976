//! The messages of a request to broadcast, and the channels that their topics mean.

use axum::body::Bytes;
use axum::http::StatusCode;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::refusal::{Refusal, TOO_LONG};
use crate::fanout::HttpBroadcast;
use crate::http::Shared;
use crate::protocol::json::{is_null, members, string};
use crate::protocol::{EVENT_BYTES_MAX, Encoding, Reason, UserBroadcast, is_relayable};
use crate::route::{OPTIONAL_PREFIX, Topic, WIRE_PREFIX};

/// Reads `{"messages": [{"topic", "event", "payload", "private"?, "id"?}, …]}`.
pub(super) fn parse_batch(shared: &Shared, body: &[u8]) -> Result<Vec<HttpBroadcast>, Refusal> {
    let malformed = || Refusal::message(StatusCode::BAD_REQUEST, "Malformed JSON");
    let body = str::from_utf8(body).map_err(|_| malformed())?;
    if !is_relayable(body.as_bytes()) {
        return Err(malformed());
    }
    let messages = members(body, ["messages"]).and_then(|[messages]| messages);
    let Some(messages) = messages.filter(|messages| !is_null(messages)) else {
        return Err(Refusal::invalid(json!({ "messages": [BLANK] })));
    };
    let Ok(messages) = serde_json::from_str::<Vec<&RawValue>>(messages.get()) else {
        return Err(Refusal::invalid(json!({ "messages": [INVALID] })));
    };
    if messages.is_empty() {
        return Err(Refusal::invalid(json!({ "messages": [BLANK] })));
    }
    let mut broadcasts = Vec::with_capacity(messages.len());
    let mut errors = Vec::with_capacity(messages.len());
    for message in messages {
        let names = ["topic", "event", "payload", "private", "id"];
        let Some(fields) = members(message.get(), names) else {
            return Err(Refusal::invalid(json!({ "messages": [INVALID] })));
        };
        match parse_message(shared, fields) {
            Ok(broadcast) => {
                broadcasts.push(broadcast);
                errors.push(Map::new());
            }
            Err(found) => errors.push(found),
        }
    }
    if broadcasts.len() == errors.len() {
        Ok(broadcasts)
    } else {
        Err(Refusal::invalid(json!({ "messages": errors })))
    }
}

const BLANK: &str = "can't be blank";
const INVALID: &str = "is invalid";

/// The channel that a topic over HTTP means. Most clients write its name; some write it as on the wire, with `realtime:`
/// in front. But a channel may itself be called so, if an application put the prefix into the name: then nobody can tell,
/// and both are meant.
///
/// # Errors
/// What is wrong, and with which topic.
pub(super) fn channels(topic: &str) -> Result<(Topic, Option<Topic>), String> {
    let invalid = |error| format!("{INVALID}: {}: {error}", shortened(topic));
    let bare = topic.strip_prefix(OPTIONAL_PREFIX).unwrap_or(topic);
    let prefix = bare.get(..WIRE_PREFIX.len());
    if !prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(WIRE_PREFIX)) {
        return Ok((Topic::parse(topic).map_err(invalid)?, None));
    }
    let named = Topic::parse(&bare[WIRE_PREFIX.len()..]).map_err(invalid)?;
    let literal = Topic::parse(topic).ok().filter(|_| named.organization().is_none());
    Ok((named, literal))
}

/// A client's own text, for an answer.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(100) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn parse_message(
    shared: &Shared,
    [topic, event, payload, private, id]: [Option<&RawValue>; 5],
) -> Result<HttpBroadcast, Map<String, Value>> {
    let mut errors = Map::new();
    let mut wrong = |name: &str, problem: &str| drop(errors.insert(name.to_owned(), json!([problem])));
    let mut text = |name: &str, value: Option<&RawValue>| {
        let Some(value) = value.filter(|value| !is_null(value)) else {
            wrong(name, BLANK);
            return None;
        };
        match string(value) {
            Some(text) if text.trim().is_empty() => wrong(name, BLANK),
            Some(text) if name == "event" && text.len() > EVENT_BYTES_MAX => wrong(name, TOO_LONG),
            Some(text) => return Some(text),
            None => wrong(name, INVALID),
        }
        None
    };
    let topic = text("topic", topic);
    let event = text("event", event);
    let topic = topic.and_then(|topic| channels(&topic).map_err(|problem| wrong("topic", &problem)).ok());
    let payload = match payload.filter(|payload| !is_null(payload)) {
        None => {
            wrong("payload", BLANK);
            None
        }
        Some(payload) if !payload.get().starts_with('{') => {
            wrong("payload", INVALID);
            None
        }
        Some(payload) if payload.get().len() > shared.hub_settings.payload_bytes_max => {
            wrong("payload", "Payload size exceeds tenant limit");
            None
        }
        Some(payload) => Some(Bytes::copy_from_slice(payload.get().as_bytes())),
    };
    let private = match private.map(|private| private.get()) {
        None | Some("null" | "false" | "\"false\"") => false,
        Some("true" | "\"true\"") => true,
        Some(_) => {
            wrong("private", INVALID);
            false
        }
    };
    let id = id.filter(|id| !is_null(id)).and_then(|id| {
        let text = string(id);
        match &text {
            Some(text) if text.len() > EVENT_BYTES_MAX => wrong("id", TOO_LONG),
            Some(_) => {}
            None => wrong("id", INVALID),
        }
        text
    });
    if let Some((topic, _)) = &topic
        && !(private || shared.hub_settings.public_channels || topic.organization().is_some())
    {
        wrong(
            "topic",
            &format!("{} is closed: {}", shortened(&topic.to_string()), Reason::PrivateOnly.message()),
        );
    }
    match (topic, event, payload) {
        (Some((topic, also)), Some(event), Some(payload)) if errors.is_empty() => {
            let broadcast = UserBroadcast { event, encoding: Encoding::Json, payload };
            Ok(HttpBroadcast { topic, also, private, broadcast, id, is_granted: false })
        }
        _ => Err(errors),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(topic: &str, named: &str, also: Option<&str>) {
        let (topic, literal) = channels(topic).unwrap();
        let names = (topic.to_string(), literal.map(|topic| topic.to_string()));
        assert_eq!(names, (named.to_owned(), also.map(str::to_owned)));
    }

    #[test]
    fn a_topic_may_have_the_prefix_of_the_wire() {
        const ORG: &str = "org:6ba7b810-9dad-11d1-80b4-00c04fd430c8";
        check("room1", "room1", None);
        check("bcast:room1", "room1", None);
        check("realtime:room1", "room1", Some("realtime:room1"));
        check("Realtime:room1", "room1", Some("Realtime:room1"));
        check("realtime:bcast:room1", "room1", Some("realtime:bcast:room1"));
        check("bcast:realtime:room1", "room1", Some("realtime:room1"));
        check("realtime:realtime:room1", "realtime:room1", Some("realtime:realtime:room1"));
        check(&format!("realtime:{ORG}"), ORG, None);
        check(&format!("realtime:bcast:{ORG}"), ORG, None);
        check("realtimes:room1", "realtimes:room1", None);
        check("ü", "ü", None);
    }

    #[test]
    fn what_is_no_channel_is_told_by_its_name() {
        for topic in ["org:7", "realtime:org:7", "bcast:ORG:7", "realtime:", "realtime:bcast:", "org"] {
            let error = channels(topic).unwrap_err();
            assert!(error.starts_with("is invalid: ") && error.contains(topic), "{error}");
        }
        let error = channels(&"ü".repeat(2000)).unwrap_err();
        assert!(error.len() < 400, "{error}");
    }
}
