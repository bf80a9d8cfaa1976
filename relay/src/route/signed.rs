//! Messages that the extension writes into the WAL: broadcasts of SQL, rows of `realtime.messages`, and routes that
//! changed.
//!
//! `pg_logical_emit_message` is open to every role, so only what is signed under a key of this database counts, and
//! only in the transaction it was signed for: what somebody copies out of the WAL is worth nothing elsewhere.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use ring::hmac;
use serde::Deserialize;
use serde_json::value::RawValue;
use subtle::ConstantTimeEq;
use uuid::Uuid;

use super::event::{Event, RealtimeMessage};
use super::event_name::is_reserved;
use super::rule::{Operation, Route};
use super::template::Template;
use super::topic::Topic;

const BROADCAST: &[u8] = b"campfire.broadcast";
const REALTIME: &[u8] = b"campfire.realtime";
const ROUTES: &[u8] = b"campfire.routes";
const KEYS: &[u8] = b"campfire.keys";

/// The keys of `campfire.broadcast_keys`, by number.
#[derive(Debug, Default)]
pub struct MessageKeys {
    database_oid: u32,
    keys: HashMap<i64, hmac::Key>,
}

/// A message that is what it says.
#[derive(Debug)]
pub enum SignedMessage {
    /// Of `campfire.broadcast()`, or a row of `realtime.messages`.
    Broadcast(Event),
    /// All routes that are enabled from here on, and the schemas of installations.
    Routes { routes: Vec<Route>, schemas: Vec<String> },
    /// A key was made, by which later ones may be signed.
    Keys,
}

/// A message under a name of ours that is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Perhaps a key that was made since the keys were read.
    #[error("signed under key {0}, which is unknown")]
    UnknownKey(i64),
    #[error("not signed for this transaction of this database")]
    Forged,
    #[error("signed, and not understood by this version")]
    Malformed,
}

impl MessageKeys {
    pub fn new(database_oid: u32, keys: impl IntoIterator<Item = (i64, Vec<u8>)>) -> Self {
        let key = |(id, key): (i64, Vec<u8>)| (id, hmac::Key::new(hmac::HMAC_SHA256, &key));
        Self { database_oid, keys: keys.into_iter().map(key).collect() }
    }

    /// Reads a transactional logical message: `v1 KEY HMAC`, a line feed, the body. None if it is not one of ours.
    pub fn open(&self, xid: u64, prefix: &[u8], content: &[u8]) -> Result<Option<SignedMessage>, Refused> {
        if ![BROADCAST, REALTIME, ROUTES, KEYS].contains(&prefix) {
            return Ok(None);
        }
        let content = str::from_utf8(content).map_err(|_| Refused::Forged)?;
        let (head, body) = content.split_once('\n').ok_or(Refused::Forged)?;
        let mut head = head.split(' ');
        let (Some("v1"), Some(key), Some(tag), None) = (head.next(), head.next(), head.next(), head.next())
        else {
            return Err(Refused::Forged);
        };
        let id = key.parse().map_err(|_| Refused::Forged)?;
        let key = self.keys.get(&id).ok_or(Refused::UnknownKey(id))?;
        let tag = from_hex(tag).ok_or(Refused::Forged)?;
        // In pieces: anybody may write a message as long as he likes, and none is copied before it is believed.
        let mut signature = hmac::Context::with_key(key);
        signature.update(prefix);
        signature.update(format!("\n{}\n{xid}\n", self.database_oid).as_bytes());
        signature.update(body.as_bytes());
        if !bool::from(signature.sign().as_ref().ct_eq(&tag)) {
            return Err(Refused::Forged);
        }
        let message = match prefix {
            BROADCAST => broadcast(body),
            REALTIME => realtime(body),
            KEYS => Some(SignedMessage::Keys),
            _ => routes(body),
        };
        message.map(Some).ok_or(Refused::Malformed)
    }
}

/// Channel, event and payload, each on a line; the payload is the rest.
fn broadcast(body: &str) -> Option<SignedMessage> {
    let (channel, rest) = body.split_once('\n')?;
    let (event, payload) = rest.split_once('\n')?;
    let payload = Bytes::copy_from_slice(payload.as_bytes());
    let topic = Topic::parse(channel).ok()?;
    // SQL refuses it as well, by the same function.
    if topic.organization().is_some() && is_reserved(event) {
        return None;
    }
    Some(SignedMessage::Broadcast(Event {
        topic,
        event: event.into(),
        payload,
        private: false,
        sight: None,
        message: None,
    }))
}

/// A row of `realtime.messages`, as JSON.
#[derive(Deserialize)]
struct RealtimeRow<'a> {
    id: Uuid,
    topic: String,
    event: String,
    private: bool,
    /// Absent from a row with bytes, and where it is null.
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    /// In base64.
    binary: Option<String>,
}

fn realtime(body: &str) -> Option<SignedMessage> {
    let row: RealtimeRow<'_> = serde_json::from_str(body).ok()?;
    let topic = Topic::parse(&row.topic).ok()?;
    // The trigger refuses them as well: who may speak there is not decided by policies.
    if topic.organization().is_some() {
        return None;
    }
    let payload = match &row.binary {
        Some(binary) => STANDARD.decode(binary).ok()?.into_boxed_slice().into(),
        None => Bytes::copy_from_slice(row.payload.map_or("null", RawValue::get).as_bytes()),
    };
    let message = RealtimeMessage { id: row.id, binary: row.binary.is_some() };
    let event = row.event.into();
    let private = row.private;
    Some(SignedMessage::Broadcast(Event {
        topic,
        event,
        payload,
        private,
        sight: None,
        message: Some(message),
    }))
}

#[derive(Deserialize)]
struct Routes {
    routes: Vec<RouteRow>,
    schemas: Vec<String>,
}

/// A row of the view `campfire.routes`, as JSON.
#[derive(Deserialize)]
struct RouteRow {
    id: i64,
    schema_name: String,
    table_name: String,
    relation: Option<u32>,
    operation: String,
    on_move: bool,
    channel: String,
    event: String,
    columns: Vec<String>,
    when_changed: Option<Vec<String>>,
    public: bool,
    snapshot_by: Option<String>,
    gate: Option<String>,
}

fn routes(body: &str) -> Option<SignedMessage> {
    let Routes { routes, schemas } = serde_json::from_str(body).ok()?;
    let route = |row: RouteRow| {
        Some(Route {
            id: row.id,
            schema: row.schema_name,
            table: row.table_name,
            relation: row.relation,
            operation: Operation::parse(&row.operation)?,
            on_move: row.on_move,
            channel: Template::parse(&row.channel).ok()?,
            event: row.event,
            columns: row.columns,
            when_changed: row.when_changed,
            public: row.public,
            snapshot_by: row.snapshot_by,
            gate: row.gate,
        })
    };
    let routes = routes.into_iter().map(route).collect::<Option<_>>()?;
    Some(SignedMessage::Routes { routes, schemas })
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    digits.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];
    const XID: u64 = 4711;

    fn sign(prefix: &str, database_oid: u32, xid: u64, body: &str) -> Vec<u8> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &KEY);
        let tag = hmac::sign(&key, format!("{prefix}\n{database_oid}\n{xid}\n{body}").as_bytes());
        let tag: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("v1 3 {tag}\n{body}").into_bytes()
    }

    fn open(prefix: &str, content: &[u8]) -> Result<Option<SignedMessage>, Refused> {
        MessageKeys::new(5, [(3, KEY.to_vec())]).open(XID, prefix.as_bytes(), content)
    }

    #[test]
    fn what_is_signed_for_this_transaction_is_believed() {
        let body = "lobby\nhello\n{\"text\": \"two\\nlines\"}";
        let content = sign("campfire.broadcast", 5, XID, body);
        let Ok(Some(SignedMessage::Broadcast(event))) = open("campfire.broadcast", &content) else {
            panic!()
        };
        assert_eq!((event.topic.to_string().as_str(), &*event.event), ("lobby", "hello"));
        assert_eq!(event.payload, "{\"text\": \"two\\nlines\"}");
        assert!(matches!(open("campfire.heartbeat", b""), Ok(None)));
    }

    #[test]
    fn forged_copied_and_foreign_messages_are_refused() {
        let body = "lobby\nhello\n{}";
        let refused = |prefix: &str, content: &[u8]| open(prefix, content).expect_err("refused");
        let prefix = "campfire.broadcast";
        assert_eq!(refused(prefix, &sign(prefix, 5, 4712, body)), Refused::Forged, "another transaction's");
        assert_eq!(
            refused(prefix, &sign(prefix, 5, XID + (1 << 32), body)),
            Refused::Forged,
            "one that had the same lower half of its id"
        );
        assert_eq!(refused(prefix, &sign(prefix, 6, XID, body)), Refused::Forged, "another database's");
        assert_eq!(
            refused(prefix, &sign("campfire.routes", 5, XID, body)),
            Refused::Forged,
            "another purpose"
        );
        let mut changed = sign(prefix, 5, XID, body);
        *changed.last_mut().expect("bytes") = b']';
        assert_eq!(refused(prefix, &changed), Refused::Forged);
        for content in
            [&b""[..], b"v1", b"v1 3 00", b"v1 3 zz\n", b"v1 x 00\n", b"v2 3 00\n", b"v1 3 00 0\n", b"\xff\n"]
        {
            assert_eq!(refused(prefix, content), Refused::Forged, "{content:?}");
        }
        assert_eq!(refused(prefix, b"v1 9 00\nlobby"), Refused::UnknownKey(9));
        assert_eq!(refused(prefix, &sign(prefix, 5, XID, "org:x\nhello\n{}")), Refused::Malformed);
    }

    #[test]
    fn reserved_names_are_not_believed_on_channels_of_organizations() {
        let organization = format!("org:{}", Uuid::from_u128(0xa));
        let send = |channel: &str, event: &str| {
            let content = sign("campfire.broadcast", 5, XID, &format!("{channel}\n{event}\n{{}}"));
            open("campfire.broadcast", &content).map(drop)
        };
        assert_eq!(send(&organization, "Message:created"), Err(Refused::Malformed));
        assert_eq!(send(&organization, "note:created"), Ok(()));
        assert_eq!(send("news", "Message:created"), Ok(()));
    }

    #[test]
    fn a_new_key_is_told_of_under_the_one_before() {
        let content = sign("campfire.keys", 5, XID, "");
        assert!(matches!(open("campfire.keys", &content), Ok(Some(SignedMessage::Keys))));
        assert_eq!(open("campfire.keys", b"v1 3 00\n").map(drop), Err(Refused::Forged));
    }

    fn realtime_event(body: &str) -> Result<Event, Refused> {
        let content = sign("campfire.realtime", 5, XID, body);
        match open("campfire.realtime", &content)? {
            Some(SignedMessage::Broadcast(event)) => Ok(event),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn rows_of_realtime_messages_keep_id_room_and_bytes() {
        let id = "10000000-0000-4000-8000-000000000003";
        let json = realtime_event(&format!(
            r#"{{"id": "{id}", "event": "e", "topic": "room:\"7\"", "payload": {{"v": "ü"}}, "private": true}}"#
        ))
        .expect("an event");
        assert_eq!((json.topic.to_string().as_str(), &*json.event), (r#"room:"7""#, "e"));
        assert_eq!(json.payload, r#"{"v": "ü"}"#.as_bytes());
        let id: Uuid = id.parse().expect("a uuid");
        assert_eq!((json.private, json.message), (true, Some(RealtimeMessage { id, binary: false })));
        let binary = realtime_event(&format!(
            r#"{{"id": "{id}", "event": "e", "topic": "r", "binary": "3q0A", "private": false}}"#
        ))
        .expect("an event");
        assert_eq!(binary.payload, [0xde, 0xad, 0].as_slice());
        assert_eq!((binary.private, binary.message), (false, Some(RealtimeMessage { id, binary: true })));
    }

    #[test]
    fn rows_of_realtime_messages_do_not_speak_for_organizations() {
        let body = |topic: &str, more: &str| {
            let id = Uuid::from_u128(1);
            format!(
                r#"{{"id": "{id}", "event": "message:created", "topic": "{topic}", "private": true{more}}}"#
            )
        };
        let organization = format!("org:{}", Uuid::from_u128(0xa));
        for topic in [organization.as_str(), &format!("bcast:{organization}"), "org:7", ""] {
            assert_eq!(realtime_event(&body(topic, "")), Err(Refused::Malformed), "{topic}");
        }
        assert_eq!(realtime_event(&body("r", r#", "binary": "no base64""#)), Err(Refused::Malformed));
        assert_eq!(realtime_event(&body("r", "")).map(|event| event.payload), Ok("null".into()));
    }

    #[test]
    fn routes_are_read_as_the_view_has_them() {
        let body = r#"{"schemas": ["public"], "routes": [{"id": 1, "schema_name": "public", "table_name": "orders", "operation": "INSERT",
            "on_move": false, "channel": "orders:{id}", "event": "made", "columns": ["id"], "when_changed": null,
            "public": false, "snapshot_by": "at", "gate": null}]}"#;
        let Ok(Some(SignedMessage::Routes { routes, schemas })) =
            open("campfire.routes", &sign("campfire.routes", 5, XID, body))
        else {
            panic!()
        };
        assert_eq!((routes.len(), routes[0].id, routes[0].operation), (1, 1, Operation::Insert));
        assert_eq!((routes[0].public, routes[0].snapshot_by.as_deref()), (false, Some("at")));
        assert_eq!(schemas, ["public"]);
        let unknown = body.replace("INSERT", "UPSERT");
        let refused =
            open("campfire.routes", &sign("campfire.routes", 5, XID, &unknown)).expect_err("refused");
        assert_eq!(refused, Refused::Malformed);
    }
}
