//! What must come of a change: the table of channels and events in `docs/events.md`, spelled out.
//!
//! Deliberately not the relay's way (routes read from the database): a route that says something else than the table
//! is a violation, not the truth. Only whether a route is switched on is taken from the WAL.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;
use uuid::Uuid;

use crate::pgoutput::{Change, Row, Table, Value};

/// An event that every subscriber of the channel must get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub channel: String,
    pub name: String,
    /// A JSON object, keys sorted.
    pub payload: String,
}

/// What a change means for those who listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// None: the row is gone.
    Agent {
        organization: Uuid,
        user: Uuid,
        active: Option<bool>,
    },
    ConversationGone {
        organization: Uuid,
        conversation: Uuid,
    },
}

const MESSAGE: [&str; 8] = [
    "id",
    "conversation_id",
    "organization_id",
    "content",
    "sender_type",
    "sender_name",
    "sender_email",
    "created_at",
];
const VISITOR_MESSAGE: [&str; 7] =
    ["id", "conversation_id", "organization_id", "content", "sender_type", "sender_name", "created_at"];
const MIRROR: [&str; 9] = [
    "id",
    "organization_id",
    "customer_name",
    "customer_email",
    "status",
    "priority",
    "assignee_id",
    "created_at",
    "updated_at",
];
const VISITOR_CONVERSATION: [&str; 4] = ["id", "organization_id", "status", "updated_at"];
const GONE: [&str; 2] = ["id", "organization_id"];
const MESSAGE_GONE: [&str; 3] = ["id", "conversation_id", "organization_id"];
const ORDER: [&str; 3] = ["id", "version", "note"];
const ORDER_GONE: [&str; 2] = ["id", "version"];
const RECEIPT: [&str; 4] = ["conversation_id", "reader_type", "last_read_message_id", "read_at"];

/// What writers name a message that they made up a signature for.
pub const FORGED: &str = "forged";

/// Events that are off unless somebody switches them on, as in `campfire.routes`.
pub const SWITCHED: [&str; 2] = ["message:updated", "message:deleted"];

const TIMESTAMPTZ: u32 = 1184;
const NUMBERS: [u32; 2] = [20, 23];

/// The table, and which of the switched events are on, on which channels.
#[derive(Clone, Debug, Default)]
pub struct Model {
    on: BTreeSet<(String, String)>,
}

impl Model {
    /// With every event that can be switched on all its channels.
    pub fn all_on() -> Self {
        let on =
            |event: &str| ["conversations", "conv", "widget"].map(|form| (event.to_owned(), form.to_owned()));
        Self { on: SWITCHED.into_iter().flat_map(on).collect() }
    }

    /// The events of a change, and what it decides.
    pub fn apply(&mut self, change: &Change) -> (Vec<Event>, Vec<Control>) {
        match change {
            Change::Insert { table, new } => self.insert(table, new),
            Change::Update { table, old, new } => self.update(table, old.as_ref(), new),
            Change::Delete { table, old } => self.delete(table, old),
            Change::Truncate { .. } => (Vec::new(), Vec::new()),
            Change::Message { prefix, content } => (self.message(prefix, content), Vec::new()),
        }
    }

    fn insert(&self, table: &Table, new: &Row) -> (Vec<Event>, Vec<Control>) {
        let out = Out { table, row: new };
        let events = match table.name.as_str() {
            "messages" => out.message("message:created", &MESSAGE, &VISITOR_MESSAGE, |_| true),
            "realtime_conversations" => out.conversation_created(),
            "read_receipts" => out.receipt(),
            "orders" => vec![out.order("order:created", &ORDER)],
            "agents" => return (Vec::new(), agent(new)),
            _ => Vec::new(),
        };
        (events, Vec::new())
    }

    fn update(&self, table: &Table, old: Option<&Row>, new: &Row) -> (Vec<Event>, Vec<Control>) {
        // A value that was not sent has not changed.
        let mut whole = new.clone();
        for (name, value) in &mut whole {
            if let (Value::Absent, Some(old)) = (&*value, old) {
                *value = old[name].clone();
            }
        }
        let new = &whole;
        let differs = |column: &str| {
            old.is_some_and(|old| {
                old[column] != Value::Absent && new[column] != Value::Absent && old[column] != new[column]
            })
        };
        let out = Out { table, row: new };
        let events = match table.name.as_str() {
            "messages" if differs("organization_id") || differs("conversation_id") => Vec::new(),
            "messages" => out.message("message:updated", &MESSAGE, &VISITOR_MESSAGE, |form| {
                self.is_on("message:updated", form)
            }),
            "realtime_conversations" if differs("organization_id") => {
                let old = old.expect("a difference is to an old row");
                let mut events = Out { table, row: old }.conversation_deleted();
                events.extend(out.conversation_created());
                return (events, gone(old));
            }
            "realtime_conversations" => {
                let really = MIRROR.iter().any(|column| *column != "updated_at" && differs(column));
                out.conversation_updated(really)
            }
            "orders" if differs("shop") => {
                let old = old.expect("a difference is to an old row");
                let left = Out { table, row: old }.order("order:deleted", &ORDER_GONE);
                vec![left, out.order("order:created", &ORDER)]
            }
            "orders" => vec![out.order("order:updated", &ORDER)],
            "read_receipts" if differs("organization_id") || differs("conversation_id") => Vec::new(),
            "read_receipts" if differs("last_read_message_id") || differs("read_at") => out.receipt(),
            "agents" => return (Vec::new(), agent(new)),
            _ => Vec::new(),
        };
        (events, Vec::new())
    }

    fn delete(&self, table: &Table, old: &Row) -> (Vec<Event>, Vec<Control>) {
        let out = Out { table, row: old };
        match table.name.as_str() {
            "messages" => {
                let on = |form: &str| self.is_on("message:deleted", form);
                (out.message("message:deleted", &MESSAGE_GONE, &MESSAGE_GONE, on), Vec::new())
            }
            "realtime_conversations" => (out.conversation_deleted(), gone(old)),
            "orders" => (vec![out.order("order:deleted", &ORDER_GONE)], Vec::new()),
            "agents" => {
                let (organization, user) = (id(old, "organization_id"), id(old, "user_id"));
                (Vec::new(), vec![Control::Agent { organization, user, active: None }])
            }
            _ => (Vec::new(), Vec::new()),
        }
    }

    fn is_on(&self, event: &str, form: &str) -> bool {
        self.on.contains(&(event.to_owned(), form.to_owned()))
    }

    /// `v1 KEY HMAC`, a line feed, and the body. The HMAC is not checked: forgers name their events so.
    fn message(&mut self, prefix: &str, content: &str) -> Vec<Event> {
        let Some((_, body)) = content.split_once('\n') else { return Vec::new() };
        match prefix {
            "campfire.routes" => {
                let routes: Json = serde_json::from_str(body).unwrap_or_default();
                self.on = routes["routes"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|route| {
                        Some((route["event"].as_str()?.to_owned(), form(route["channel"].as_str()?)))
                    })
                    .filter(|(event, _)| SWITCHED.contains(&event.as_str()))
                    .collect();
                Vec::new()
            }
            "campfire.broadcast" => {
                let mut lines = body.splitn(3, '\n');
                let (Some(channel), Some(name), Some(payload)) = (lines.next(), lines.next(), lines.next())
                else {
                    return Vec::new();
                };
                if name.starts_with(FORGED) {
                    return Vec::new();
                }
                let payload = serde_json::from_str(payload).unwrap_or_default();
                vec![Event {
                    channel: channel.to_owned(),
                    name: name.to_owned(),
                    payload: canonical(&payload),
                }]
            }
            // A row of realtime.messages, as its trigger writes it.
            "campfire.realtime" => {
                let row: Json = serde_json::from_str(body).unwrap_or_default();
                let (Some(topic), Some(name)) = (row["topic"].as_str(), row["event"].as_str()) else {
                    return Vec::new();
                };
                // The private and the public channel of one name are two.
                let channel =
                    if row["private"] == true { topic.to_owned() } else { format!("public {topic}") };
                vec![Event { channel, name: name.to_owned(), payload: canonical(&row["payload"]) }]
            }
            _ => Vec::new(),
        }
    }
}

/// Which of an organization's channels a template makes: `conversations`, `conv` or `widget`.
fn form(template: &str) -> String {
    template.split(':').nth(2).unwrap_or("org").to_owned()
}

/// A row on its way to channels.
struct Out<'a> {
    table: &'a Table,
    row: &'a Row,
}

impl Out<'_> {
    fn organization(&self) -> String {
        format!("org:{}", id(self.row, "organization_id"))
    }

    fn message(
        &self,
        name: &str,
        agents: &[&str],
        visitors: &[&str],
        on: impl Fn(&str) -> bool,
    ) -> Vec<Event> {
        let organization = self.organization();
        let conversation = id(self.row, "conversation_id");
        let all = [
            ("conversations", format!("{organization}:conversations"), agents),
            ("conv", format!("{organization}:conv:{conversation}"), visitors),
            ("widget", format!("{organization}:widget:{conversation}"), visitors),
        ];
        let chosen = all.into_iter().filter(|(form, _, _)| on(form));
        chosen.map(|(_, channel, columns)| self.event(channel, name, columns)).collect()
    }

    fn conversation_created(&self) -> Vec<Event> {
        let organization = self.organization();
        let list = format!("{organization}:conversations");
        [organization, list].map(|channel| self.event(channel, "conversation:created", &MIRROR)).into()
    }

    fn conversation_updated(&self, really: bool) -> Vec<Event> {
        const NAME: &str = "conversation:updated";
        let organization = self.organization();
        let conversation = id(self.row, "id");
        let mut events = vec![self.event(organization.clone(), NAME, &MIRROR)];
        if really {
            events.push(self.event(format!("{organization}:conversations"), NAME, &MIRROR));
            for scope in ["conv", "widget"] {
                let channel = format!("{organization}:{scope}:{conversation}");
                events.push(self.event(channel, NAME, &VISITOR_CONVERSATION));
            }
        }
        events
    }

    fn conversation_deleted(&self) -> Vec<Event> {
        let organization = self.organization();
        let conversation = id(self.row, "id");
        let channels = [
            organization.clone(),
            format!("{organization}:conversations"),
            format!("{organization}:conv:{conversation}"),
            format!("{organization}:widget:{conversation}"),
        ];
        channels.map(|channel| self.event(channel, "conversation:deleted", &GONE)).into()
    }

    /// On the private channel of its shop.
    fn order(&self, name: &str, columns: &[&str]) -> Event {
        self.event(format!("shop:{}", id(self.row, "shop")), name, columns)
    }

    fn receipt(&self) -> Vec<Event> {
        let organization = self.organization();
        let conversation = id(self.row, "conversation_id");
        let channel = |scope| format!("{organization}:{scope}:{conversation}");
        ["conv", "widget"].map(|scope| self.event(channel(scope), "read:receipt", &RECEIPT)).into()
    }

    fn event(&self, channel: String, name: &str, columns: &[&str]) -> Event {
        let mut payload = BTreeMap::new();
        for column in columns {
            let type_oid = self.table.columns.iter().find(|(name, _)| name == column).map(|(_, oid)| *oid);
            let value = match &self.row[*column] {
                Value::Absent => continue,
                Value::Null => Json::Null,
                Value::Text(text) if type_oid == Some(TIMESTAMPTZ) => rfc3339(text).into(),
                Value::Text(text) if type_oid.is_some_and(|oid| NUMBERS.contains(&oid)) => {
                    serde_json::from_str(text).expect("an integer is JSON")
                }
                Value::Text(text) => text.as_str().into(),
            };
            payload.insert((*column).to_owned(), value);
        }
        let payload = serde_json::to_string(&payload).expect("a map of JSON can be written");
        Event { channel, name: name.to_owned(), payload }
    }
}

/// An object's text with its keys sorted, whatever order the parser keeps.
pub fn canonical(payload: &Json) -> String {
    match payload.as_object() {
        Some(object) => {
            let sorted: BTreeMap<_, _> = object.iter().collect();
            serde_json::to_string(&sorted).expect("JSON can be written")
        }
        None => payload.to_string(),
    }
}

/// `2026-11-22 21:51:51.12+00` as events carry it.
fn rfc3339(text: &str) -> String {
    let time = text.strip_suffix("+00").unwrap_or(text).replace(' ', "T");
    let (seconds, fraction) = time.split_once('.').unwrap_or((&time, ""));
    format!("{seconds}.{fraction:0<6}Z")
}

fn id(row: &Row, column: &str) -> Uuid {
    match &row[column] {
        Value::Text(text) => text.parse().expect("a uuid column holds a uuid"),
        other => panic!("{column} is {other:?}"),
    }
}

fn agent(new: &Row) -> Vec<Control> {
    let active = Some(new["active"] == Value::Text("t".to_owned()));
    vec![Control::Agent { organization: id(new, "organization_id"), user: id(new, "user_id"), active }]
}

fn gone(old: &Row) -> Vec<Control> {
    vec![Control::ConversationGone { organization: id(old, "organization_id"), conversation: id(old, "id") }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_have_six_digits() {
        assert_eq!(rfc3339("2026-11-22 21:51:51.12+00"), "2026-11-22T21:51:51.120000Z");
        assert_eq!(rfc3339("2026-11-22 21:51:51+00"), "2026-11-22T21:51:51.000000Z");
    }

    #[test]
    fn broadcasts_are_events_unless_forged() {
        let mut model = Model::default();
        let mut say = |name: &str| {
            let content = format!("v1 1 00\norg:x\n{name}\n{{\"b\":1,\"a\":2}}");
            model.apply(&Change::Message { prefix: "campfire.broadcast".to_owned(), content }).0
        };
        assert_eq!(say("news")[0].payload, r#"{"a":2,"b":1}"#);
        assert!(say("forged:news").is_empty());
    }

    #[test]
    fn rows_of_private_and_public_channels_of_one_name_are_apart() {
        let mut model = Model::default();
        let mut say = |private: bool| {
            let row =
                serde_json::json!({"topic": "t", "event": "e", "private": private, "payload": {"n": 1}});
            let content = format!("v1 1 00\n{row}");
            model.apply(&Change::Message { prefix: "campfire.realtime".to_owned(), content }).0
        };
        let event = |channel: &str| {
            let payload = r#"{"n":1}"#.to_owned();
            Event { channel: channel.to_owned(), name: "e".to_owned(), payload }
        };
        assert_eq!(say(true), [event("t")]);
        assert_eq!(say(false), [event("public t")]);
    }

    #[test]
    fn switches_follow_the_wal() {
        let mut model = Model::default();
        let routes = r#"{"routes":[{"event":"message:deleted","channel":"org:{organization_id}:conv:{conversation_id}"}]}"#;
        let content = format!("v1 1 00\n{routes}");
        model.apply(&Change::Message { prefix: "campfire.routes".to_owned(), content });
        assert!(model.is_on("message:deleted", "conv"));
        assert!(!model.is_on("message:deleted", "widget") && !model.is_on("message:updated", "conv"));
    }
}
