//! The payload of `phx_join`: every field optional, booleans that may be strings, wrong types forgiven.

use serde::de::IgnoredAny;
use serde_json::Number;
use serde_json::value::RawValue;

use super::json::{is_null, members, string};
use super::reason::Reason;

/// Longest `presence.key`: a channel keeps it, and every member of the room is told.
const PRESENCE_KEY_BYTES_MAX: usize = 255;

/// What a client asks for when it joins a topic.
#[derive(Clone, Debug, Default)]
pub struct JoinPayload {
    /// `broadcast.ack`: reply to broadcasts that were accepted.
    pub ack: bool,
    /// `broadcast.self`: send the channel its own broadcasts back.
    pub echo: bool,
    /// `broadcast.replay` as it came, null included: its mere presence matters on public channels.
    pub replay: Option<Box<RawValue>>,
    /// `broadcast.replication_ready`: say so, once the database's changes stream.
    pub replication_ready: bool,
    /// `presence.enabled`: wants `presence_state`. Older clients do not say.
    pub presence_enabled: bool,
    /// `presence.key`; None: the relay makes one up.
    pub presence_key: Option<String>,
    pub private: bool,
    /// The channel's own token. None: it runs with the connection's. Never an `sb_` key.
    pub access_token: Option<String>,
    /// Fields that have a type they must not have and were taken as absent. For the log.
    pub ill_typed: Vec<&'static str>,
}

impl JoinPayload {
    /// Reads the payload, `presence_default` being what counts where it does not say whether presence is wanted. Only
    /// what could never do what the client expects is an error.
    pub fn parse(payload: &RawValue, presence_default: bool) -> Result<Self, Reason> {
        let mut reader = Reader { ill_typed: Vec::new() };
        let [config, access_token, user_token] =
            reader.object("payload", Some(payload), ["config", "access_token", "user_token"]);
        let [broadcast, presence, private, postgres_changes] =
            reader.object("config", config, ["broadcast", "presence", "private", "postgres_changes"]);
        let [ack, echo, replay, replication_ready] =
            reader.object("broadcast", broadcast, ["ack", "self", "replay", "replication_ready"]);
        let [key, enabled] = reader.object("presence", presence, ["key", "enabled"]);
        if reader.has_elements("postgres_changes", postgres_changes) {
            return Err(Reason::PostgresChangesNotSupported);
        }
        // A user's number is as good a key as a name.
        let as_key = |key: &RawValue| {
            string(key).or_else(|| serde_json::from_str::<Number>(key.get()).ok().map(|key| key.to_string()))
        };
        let presence_key = reader.read("presence.key", key, as_key).filter(|key| !key.is_empty());
        if presence_key.as_deref() == Some("ids") {
            return Err(Reason::InvalidPresenceKey);
        }
        if presence_key.as_ref().is_some_and(|key| key.len() > PRESENCE_KEY_BYTES_MAX) {
            return Err(Reason::PresenceKeyTooLong);
        }
        // Both are read, so that both are reported. The alias wins if both are texts.
        let (access_token, user_token) =
            (reader.text("access_token", access_token), reader.text("user_token", user_token));
        Ok(Self {
            ack: reader.boolean("broadcast.ack", ack, false),
            echo: reader.boolean("broadcast.self", echo, false),
            replay: replay.map(ToOwned::to_owned),
            replication_ready: reader.boolean("broadcast.replication_ready", replication_ready, false),
            presence_enabled: reader.boolean("presence.enabled", enabled, presence_default),
            presence_key,
            private: reader.boolean("private", private, false),
            access_token: user_token.or(access_token).filter(|token| !token.starts_with("sb_")),
            ill_typed: reader.ill_typed,
        })
    }
}

/// Reads fields, taking what has the wrong type as absent. Null is absent too, everywhere.
struct Reader {
    ill_typed: Vec<&'static str>,
}

impl Reader {
    fn read<T>(
        &mut self,
        name: &'static str,
        value: Option<&RawValue>,
        read: impl FnOnce(&RawValue) -> Option<T>,
    ) -> Option<T> {
        let value = value.filter(|value| !is_null(value))?;
        let read = read(value);
        if read.is_none() {
            self.ill_typed.push(name);
        }
        read
    }

    fn object<'a, const N: usize>(
        &mut self,
        name: &'static str,
        value: Option<&'a RawValue>,
        names: [&str; N],
    ) -> [Option<&'a RawValue>; N] {
        let value = value.filter(|value| !is_null(value));
        let found = value.map(|value| members(value.get(), names));
        if matches!(found, Some(None)) {
            self.ill_typed.push(name);
        }
        found.flatten().unwrap_or([None; N])
    }

    /// Also `"true"` and `"false"` in any case, which some applications pass on from their own configuration.
    fn boolean(&mut self, name: &'static str, value: Option<&RawValue>, default: bool) -> bool {
        let read = |value: &RawValue| match value.get() {
            "true" => Some(true),
            "false" => Some(false),
            _ => match string(value)?.to_ascii_lowercase().as_str() {
                "true" => Some(true),
                "false" => Some(false),
                _ => None,
            },
        };
        self.read(name, value, read).unwrap_or(default)
    }

    fn text(&mut self, name: &'static str, value: Option<&RawValue>) -> Option<String> {
        self.read(name, value, string)
    }

    fn has_elements(&mut self, name: &'static str, value: Option<&RawValue>) -> bool {
        let read = |value: &RawValue| serde_json::from_str::<Vec<IgnoredAny>>(value.get()).ok();
        self.read(name, value, read).is_some_and(|elements| !elements.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(payload: &str) -> Result<JoinPayload, Reason> {
        JoinPayload::parse(serde_json::from_str(payload).unwrap(), false)
    }

    #[test]
    fn every_field_is_read() {
        let join = parse(
            r#"{"config":{"broadcast":{"ack":true,"self":true,"replay":{"since":1,"limit":10},"replication_ready":true},
                "presence":{"key":"user-1","enabled":true},"postgres_changes":[],"private":true},
                "access_token":"eyJ","version":"realtime-js/2.119.1"}"#,
        )
        .unwrap();
        assert!(join.ack && join.echo && join.replication_ready && join.presence_enabled && join.private);
        assert_eq!(join.replay.unwrap().get(), r#"{"since":1,"limit":10}"#);
        assert_eq!(join.presence_key.as_deref(), Some("user-1"));
        assert_eq!(join.access_token.as_deref(), Some("eyJ"));
        assert!(join.ill_typed.is_empty());
    }

    #[test]
    fn presence_is_wanted_by_default_only_where_the_join_does_not_say() {
        let wanted = |payload: &str| {
            JoinPayload::parse(serde_json::from_str(payload).unwrap(), true).unwrap().presence_enabled
        };
        assert!(wanted("{}") && wanted(r#"{"config":{"presence":{"key":"","enabled":null}}}"#));
        assert!(!wanted(r#"{"config":{"presence":{"enabled":false}}}"#));
    }

    #[test]
    fn absent_and_null_fields_have_defaults() {
        for payload in [
            "{}",
            "null",
            r#"{"config":{}}"#,
            r#"{"config":null,"access_token":null}"#,
            r#"{"config":{"broadcast":null,"presence":null,"postgres_changes":null,"private":null}}"#,
            r#"{"config":{"broadcast":{"ack":null},"presence":{"key":"","enabled":null}}}"#,
            r#"{"config":{"postgres_changes":[],"postgres_changes_options":{"x":1}},"version":7}"#,
        ] {
            let join = parse(payload).unwrap();
            assert!(
                !(join.ack || join.echo || join.replication_ready || join.presence_enabled || join.private)
            );
            assert!(join.replay.is_none() && join.presence_key.is_none() && join.access_token.is_none());
            assert!(join.ill_typed.is_empty(), "{payload}");
        }
    }

    #[test]
    fn booleans_may_be_texts() {
        let join =
            parse(r#"{"config":{"broadcast":{"ack":"TRUE","self":"false"},"private":"True"}}"#).unwrap();
        assert_eq!((join.ack, join.echo, join.private), (true, false, true));
        assert!(join.ill_typed.is_empty());
    }

    fn check_ill_typed(payload: &str, expected: &[&str]) {
        assert_eq!(parse(payload).unwrap().ill_typed, expected, "{payload}");
    }

    #[test]
    fn wrong_types_are_reported_and_defaulted() {
        check_ill_typed("[]", &["payload"]);
        check_ill_typed(r#"{"config":7,"access_token":7}"#, &["config", "access_token"]);
        check_ill_typed(
            r#"{"config":{"broadcast":"x","presence":[],"private":1}}"#,
            &["broadcast", "presence", "private"],
        );
        check_ill_typed(
            r#"{"config":{"broadcast":{"ack":"yes"},"postgres_changes":{}}}"#,
            &["postgres_changes", "broadcast.ack"],
        );
        check_ill_typed(r#"{"config":{"presence":{"key":{}}}}"#, &["presence.key"]);
    }

    #[test]
    fn replay_is_kept_even_if_null() {
        let replay = |payload| parse(payload).unwrap().replay.map(|replay| replay.get().to_owned());
        assert_eq!(replay(r#"{"config":{"broadcast":{"replay":null}}}"#).as_deref(), Some("null"));
        assert_eq!(replay(r#"{"config":{"broadcast":{}}}"#), None);
    }

    fn check_token(payload: &str, expected: Option<&str>) {
        assert_eq!(parse(payload).unwrap().access_token.as_deref(), expected, "{payload}");
    }

    #[test]
    fn tokens_come_under_two_names_and_api_keys_are_none() {
        check_token(r#"{"access_token":"a"}"#, Some("a"));
        check_token(r#"{"user_token":"u"}"#, Some("u"));
        check_token(r#"{"access_token":"a","user_token":"u"}"#, Some("u"));
        check_token(r#"{"access_token":"a","user_token":null}"#, Some("a"));
        check_token(r#"{"access_token":"sb_publishable_x"}"#, None);
    }

    #[test]
    fn change_feeds_are_refused_by_name() {
        let refused = parse(r#"{"config":{"postgres_changes":[{"event":"*","schema":"public"}]}}"#);
        assert_eq!(refused.unwrap_err(), Reason::PostgresChangesNotSupported);
        assert!(Reason::PostgresChangesNotSupported.to_string().starts_with("PostgresChangesNotSupported: "));
    }

    #[test]
    fn a_presence_key_may_be_a_number() {
        let join = parse(r#"{"config":{"presence":{"key":17}}}"#).unwrap();
        assert_eq!(join.presence_key.as_deref(), Some("17"));
    }

    #[test]
    fn a_presence_key_that_breaks_clients_is_refused() {
        assert_eq!(
            parse(r#"{"config":{"presence":{"key":"ids"}}}"#).unwrap_err(),
            Reason::InvalidPresenceKey
        );
    }

    #[test]
    fn a_presence_key_is_bounded() {
        let key = |key: &str| parse(&serde_json::json!({"config": {"presence": {"key": key}}}).to_string());
        let longest = "k".repeat(255);
        assert_eq!(key(&longest).unwrap().presence_key, Some(longest));
        for long in ["k".repeat(256), "é".repeat(128), "\n".repeat(3_000_000)] {
            assert_eq!(key(&long).unwrap_err(), Reason::PresenceKeyTooLong);
        }
        let text = "PresenceKeyTooLong: A presence key has at most 255 bytes";
        assert_eq!(Reason::PresenceKeyTooLong.to_string(), text);
    }

    proptest! {
        #[test]
        fn no_payload_panics(value in "\\{\"config\":[\\[\\]{}\":,a-z0-9]{0,60}\\}|\\PC{0,40}") {
            if let Ok(raw) = serde_json::from_str::<&RawValue>(&value) {
                let _ = JoinPayload::parse(raw, false);
            }
        }
    }
}
