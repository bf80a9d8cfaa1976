//! What Postgres sends: pgoutput, routes, and signed messages.

use bytes::Bytes;
use campfire_relay::decode::{ChangeKind, Decoded, Decoder, Domains};
use campfire_relay::route::{MessageKeys, Operation, Route, Routed, Router, SignedMessage, Template};
use campfire_relay::wal::Xid;
use ring::hmac;
use serde_json::Value;

const KEY: [u8; 32] = [7; 32];

/// Messages one after the other, each behind its length in two bytes; what is decoded is routed.
pub fn pgoutput(data: &[u8]) {
    let mut decoder = Decoder::new();
    let mut router = Router::new(routes(), vec!["public".to_owned()], Domains::default());
    let keys = MessageKeys::new(1, [(1, KEY.to_vec())]);
    let mut rest = data;
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
        let (message, after) = after.split_at(length);
        rest = after;
        let Ok(decoded) = decoder.decode(Bytes::copy_from_slice(message)) else { return };
        let Decoded::Change(change) = decoded else { continue };
        if let ChangeKind::Message { prefix, content } = &change.kind {
            let _ = keys.open(change.transaction.xid, prefix, content);
        }
        check(&router.route(&change));
    }
}

fn check(routed: &Routed) {
    for (index, event) in routed.events.iter().enumerate() {
        let payload: Value = serde_json::from_slice(&event.payload).expect("a payload is JSON");
        assert!(payload.is_object());
        let twice = routed.events[..index].iter().any(|other| other.topic == event.topic);
        assert!(!twice, "a change leads to at most one event a channel");
    }
}

/// Some of the standard routes, and one that is nobody's.
fn routes() -> Vec<Route> {
    let route = |id, table: &str, operation, on_move, channel: &str, columns: &[&str]| Route {
        id,
        schema: "public".to_owned(),
        table: table.to_owned(),
        operation,
        on_move,
        channel: Template::parse(channel).expect("a template"),
        event: "happened".to_owned(),
        columns: columns.iter().map(|column| (*column).to_owned()).collect(),
        when_changed: (operation == Operation::Update).then(|| vec!["status".to_owned()]),
    };
    use Operation::{Delete, Insert, Update};
    vec![
        route(
            1,
            "messages",
            Insert,
            false,
            "org:{organization_id}:conv:{conversation_id}",
            &["id", "content"],
        ),
        route(2, "realtime_conversations", Insert, true, "org:{organization_id}", &["id", "status"]),
        route(3, "realtime_conversations", Update, false, "org:{organization_id}", &["id", "status"]),
        route(4, "realtime_conversations", Delete, true, "org:{organization_id}", &["id"]),
        route(5, "messages", Insert, false, "x{content}", &["content"]),
    ]
}

/// A template, and a message that is signed, whatever it says.
pub fn route(data: &[u8]) {
    let Some((choice, body)) = data.split_first() else { return };
    if let Ok(text) = str::from_utf8(body)
        && let Ok(template) = Template::parse(text)
    {
        assert!(!template.pieces().is_empty() && text.len() >= template.pieces().len(), "{text:?}");
    }
    let prefix: &[u8] = if choice.is_multiple_of(2) { b"campfire.broadcast" } else { b"campfire.routes" };
    let xid = Xid(9);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &KEY);
    let tag = hmac::sign(&key, &[prefix, b"\n1\n9\n", body].concat());
    let tag: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let content = [format!("v1 1 {tag}\n").as_bytes(), body].concat();
    let keys = MessageKeys::new(1, [(1, KEY.to_vec())]);
    match keys.open(xid, prefix, &content) {
        Ok(Some(SignedMessage::Routes(routes))) => {
            Router::default().set_routes(routes);
        }
        Ok(Some(SignedMessage::Broadcast(event))) => assert!(!event.topic.to_string().is_empty()),
        Ok(None) => panic!("one of ours is not taken for one"),
        // Signed by the book, so never a forgery, unless it is no text.
        Err(refused) => assert!(
            str::from_utf8(body).is_err() || refused == campfire_relay::route::Refused::Malformed,
            "{refused}"
        ),
    }
    // Unsigned, nothing is believed.
    assert!(!matches!(keys.open(xid, prefix, body), Ok(Some(_))));
}
