//! The `meta` of a broadcast: what the relay says of an event besides its payload.

use std::sync::Arc;

use uuid::Uuid;

use super::json;
use crate::postgres::Timestamp;

/// A `meta`, shared by the events that have it in common. This file alone knows how one is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta(
    /// A JSON object that is not empty.
    Arc<str>,
);

impl Meta {
    /// Of an event from the WAL. Applications know a row of `realtime.messages` by its own id; the position stands beside
    /// it.
    pub fn of_event(position: &str, committed_at: Timestamp, message: Option<Uuid>) -> Self {
        let committed_at = committed_at.to_rfc3339();
        Self::written(match message {
            None => format!(r#"{{"id":"{position}","committed_at":"{committed_at}"}}"#),
            Some(id) => format!(r#"{{"id":"{id}","position":"{position}","committed_at":"{committed_at}"}}"#),
        })
    }

    /// Of a row of `realtime.messages` that is read from there, instead of from the window.
    pub fn of_message(id: Uuid) -> Self {
        Self::written(format!(r#"{{"id":"{id}","replayed":true}}"#))
    }

    /// Of a snapshot's row: it has neither id nor position.
    pub fn of_row() -> Self {
        Self::written(r#"{"replayed":true,"snapshot":true}"#)
    }

    /// Of what came over HTTP with an id.
    pub fn of_http(id: &str) -> Self {
        Self::written(format!(r#"{{"id":{}}}"#, json::quoted(id)))
    }

    /// Of what a client sent: as what it is known, and who it is, if receivers may know.
    pub fn of_sender(kind: &str, id: Option<Uuid>) -> Self {
        Self::written(match id {
            Some(id) => format!(r#"{{"sender":{{"type":"{kind}","id":"{id}"}}}}"#),
            None => format!(r#"{{"sender":{{"type":"{kind}","id":null}}}}"#),
        })
    }

    /// The same of an event that is sent again.
    pub fn replayed(&self) -> Self {
        let open = self.0.strip_suffix('}').unwrap_or(&self.0);
        Self::written([open, r#","replayed":true}"#].concat())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn written(json: impl Into<Arc<str>>) -> Self {
        Self(json.into())
    }
}

#[cfg(test)]
impl From<&str> for Meta {
    fn from(json: &str) -> Self {
        Self::written(json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Uuid = Uuid::from_u128(7);

    #[track_caller]
    fn check(meta: &Meta, expected: &str) {
        assert_eq!(meta.as_str(), expected);
        serde_json::from_str::<serde_json::Map<_, _>>(expected).expect("an object");
    }

    #[test]
    fn events_have_a_position_and_say_that_they_are_sent_again() {
        let event = Meta::of_event("f7fe.00000001", Timestamp(0), None);
        check(&event, r#"{"id":"f7fe.00000001","committed_at":"2000-01-01T00:00:00.000000Z"}"#);
        check(
            &event.replayed(),
            r#"{"id":"f7fe.00000001","committed_at":"2000-01-01T00:00:00.000000Z","replayed":true}"#,
        );
    }

    #[test]
    fn messages_of_sql_have_their_own_id() {
        check(
            &Meta::of_event("f7fe.00000001", Timestamp(0), Some(ID)),
            r#"{"id":"00000000-0000-0000-0000-000000000007","position":"f7fe.00000001","committed_at":"2000-01-01T00:00:00.000000Z"}"#,
        );
        check(&Meta::of_message(ID), r#"{"id":"00000000-0000-0000-0000-000000000007","replayed":true}"#);
    }

    #[test]
    fn what_has_no_place_in_the_wal_has_no_position() {
        check(&Meta::of_row(), r#"{"replayed":true,"snapshot":true}"#);
        check(&Meta::of_http("a\"1"), r#"{"id":"a\"1"}"#);
        check(&Meta::of_sender("service", None), r#"{"sender":{"type":"service","id":null}}"#);
    }
}
