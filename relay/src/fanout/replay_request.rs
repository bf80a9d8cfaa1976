//! What a joining client wants to have again, and where that begins.

use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::rows::RowsWanted;
use super::views::Viewer;
use super::window::Window;
use crate::postgres::Timestamp;
use crate::protocol::Reason;
use crate::route::{DatabaseTag, Position, RoutedChannels, Scope, Topic};

/// Most events that `since` may ask for on a channel to which rows go.
const LIMIT_MAX: i64 = 1_000;

/// The same elsewhere, and what `since` gives if it names no limit: as the reference has it.
const LIMIT_ELSEWHERE: i64 = 25;

/// Most messages, and conversations, that `snapshot` may ask for.
const SNAPSHOT_ROWS_MAX: u32 = 200;

/// `config.broadcast.replay` of a join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ReplayRequest {
    /// Everything after the event, or heartbeat, of this id.
    After { tag: DatabaseTag, position: Position },
    /// Everything after this row of `realtime.messages`.
    AfterRow(Uuid),
    /// The newest events that committed at or after this time.
    Since { since: Timestamp, limit: usize },
    /// The same of a private channel to which no rows go: its messages the database keeps for longer than the window.
    SentSince { since: Timestamp, limit: usize },
    /// Nothing, but say where we are.
    PositionOnly,
    /// The rows that the database shows, and everything after.
    Snapshot { rows_max: u32 },
}

/// From where on a channel is sent what the window holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) position: Position,
    /// Nothing is missing between what the client has and what it gets.
    pub(super) complete: bool,
    /// What is missing is so by the client's own limit, and needs no word beside the reply.
    pub(super) is_as_asked: bool,
}

impl Start {
    fn new(position: Position, complete: bool) -> Self {
        Self { position, complete, is_as_asked: false }
    }
}

/// How a channel that asked for a replay begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    Window(Start),
    /// With rows that are to be read first.
    Rows(RowsWanted),
}

#[derive(Deserialize)]
struct Parameters {
    after: Option<String>,
    since: Option<i64>,
    limit: Option<i64>,
    snapshot: Option<u32>,
}

impl ReplayRequest {
    /// What is asked of a topic, which has a history. None if nothing is.
    pub(super) fn parse(
        replay: Option<&RawValue>,
        topic: &Topic,
        routed: &RoutedChannels,
    ) -> Result<Option<Self>, Reason> {
        let is_of_organization = topic.organization().is_some();
        let has_rows = is_of_organization || routed.feed(topic);
        let Some(replay) = replay else { return Ok(None) };
        let parameters: Option<Parameters> =
            serde_json::from_str(replay.get()).map_err(|_| Reason::ReplayNotValid)?;
        let Some(Parameters { after, since, limit, snapshot }) = parameters else { return Ok(None) };
        match (after, since, limit, snapshot) {
            (Some(after), None, None, None) => match Position::parse_id(&after) {
                Some((tag, position)) => Ok(Some(Self::After { tag, position })),
                None if is_of_organization => Err(Reason::ReplayNotValid),
                None => Uuid::try_parse(&after)
                    .map(|row| Some(Self::AfterRow(row)))
                    .map_err(|_| Reason::ReplayNotValid),
            },
            (None, Some(millis), limit, None) => {
                let since = Timestamp::from_unix_millis(millis);
                let limit_max = if has_rows { LIMIT_MAX } else { LIMIT_ELSEWHERE };
                let limit = limit.unwrap_or(LIMIT_ELSEWHERE).clamp(1, limit_max) as usize;
                match has_rows {
                    true => Ok(Some(Self::Since { since, limit })),
                    false => Ok(Some(Self::SentSince { since, limit })),
                }
            }
            (None, None, None, Some(rows)) if has_rows && rows <= SNAPSHOT_ROWS_MAX => {
                Ok(Some(Self::Snapshot { rows_max: rows.max(1) }))
            }
            (None, None, None, None) if has_rows => Ok(Some(Self::PositionOnly)),
            _ => Err(Reason::ReplayNotValid),
        }
    }

    /// Where to start in the window. What is not all there is given as far as it is.
    pub(super) fn opening(
        &self,
        topic: &Topic,
        window: &Window,
        ours: DatabaseTag,
        routed: &RoutedChannels,
        viewer: &mut Viewer<'_>,
    ) -> Result<Opening, Reason> {
        let start = match *self {
            Self::Snapshot { rows_max } => {
                return match topic.scope() {
                    Some(Scope::Conversation | Scope::Conversations) => {
                        Ok(Opening::Rows(RowsWanted::Latest { rows_max }))
                    }
                    None if routed.have_rows(topic) => Ok(Opening::Rows(RowsWanted::Latest { rows_max })),
                    _ => Err(Reason::ReplayNotValid),
                };
            }
            Self::After { tag, .. } if tag != ours => Start::new(window.head(), false),
            Self::After { position, .. } => match window.check(topic, position) {
                Ok(()) => Start::new(position, true),
                Err(_) => Start::new(position.max(window.floor_of(topic)).min(window.head()), false),
            },
            Self::AfterRow(row) => match window.position_of(topic, row) {
                Some(position) => Start::new(position, true),
                None => Start::new(window.floor_of(topic), false),
            },
            Self::Since { since, limit } => {
                let (position, complete) = window.since(topic, since, limit, viewer);
                Start::new(position, complete)
            }
            Self::SentSince { since, limit } => {
                let (position, complete) = window.since(topic, since, limit, viewer);
                let windowed = window.after(topic, position).filter(|kept| viewer.sees(&kept.sight));
                if !complete && windowed.count() < limit {
                    return Ok(Opening::Rows(RowsWanted::SentSince { since, limit }));
                }
                Start { is_as_asked: true, ..Start::new(position, complete) }
            }
            Self::PositionOnly => Start::new(window.head(), true),
        };
        Ok(Opening::Window(start))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fanout::window::WindowLimits;
    use crate::route::{Operation, Route, Template};

    const ROW: Uuid = Uuid::from_u128(7);

    fn organization() -> Topic {
        Topic::channel_organization(Uuid::from_u128(1))
    }

    fn elsewhere() -> Topic {
        Topic::parse("room:7").unwrap()
    }

    /// To `shop:7` go rows, to `shop:7:gone` only what tells that they are gone.
    fn routed() -> RoutedChannels {
        let route = |operation, channel| Route {
            id: 1,
            schema: "public".to_owned(),
            table: "orders".to_owned(),
            relation: Some(1),
            operation,
            on_move: false,
            channel: Template::parse(channel).unwrap(),
            event: "e".to_owned(),
            columns: vec!["id".to_owned()],
            when_changed: None,
            public: false,
            snapshot_by: None,
            gate: None,
        };
        RoutedChannels::new(&[route(Operation::Insert, "shop:7"), route(Operation::Delete, "shop:7:gone")])
    }

    fn check(topic: &Topic, replay: &str, expected: Result<Option<ReplayRequest>, Reason>) {
        let replay_value = serde_json::from_str(replay).unwrap();
        let routed = routed();
        assert_eq!(ReplayRequest::parse(Some(replay_value), topic, &routed), expected, "{replay}");
    }

    #[test]
    fn every_form_is_read() {
        let check = |replay: &str, expected| check(&organization(), replay, Ok(Some(expected)));
        let tag = DatabaseTag::new(1, 2);
        let position = Position { timeline: 1, commit_lsn: crate::postgres::Lsn(7), change: 0 };
        let since = |limit| ReplayRequest::Since { since: Timestamp::from_unix_millis(1000), limit };
        let after = format!(r#"{{"after":"{}"}}"#, position.id(tag));
        check(&after, ReplayRequest::After { tag, position });
        check(r#"{"since":1000,"limit":10}"#, since(10));
        check(r#"{"since":1000}"#, since(25));
        check(r#"{"since":1000,"limit":0}"#, since(1));
        check(r#"{"since":1000,"limit":-7}"#, since(1));
        check(r#"{"since":1000,"limit":5000}"#, since(1000));
        check("{}", ReplayRequest::PositionOnly);
        check(r#"{"snapshot":50}"#, ReplayRequest::Snapshot { rows_max: 50 });
        check(r#"{"snapshot":0}"#, ReplayRequest::Snapshot { rows_max: 1 });
        check(r#"{"snapshot":200}"#, ReplayRequest::Snapshot { rows_max: 200 });
    }

    #[test]
    fn private_channels_elsewhere_have_the_references_form_and_after() {
        let check = |replay: &str, expected| check(&elsewhere(), replay, Ok(Some(expected)));
        let tag = DatabaseTag::new(1, 2);
        let position = Position { timeline: 1, commit_lsn: crate::postgres::Lsn(7), change: 0 };
        let since = |limit| ReplayRequest::SentSince { since: Timestamp::from_unix_millis(-1000), limit };
        check(r#"{"since":-1000}"#, since(25));
        check(r#"{"since":-1000,"limit":3}"#, since(3));
        check(r#"{"since":-1000,"limit":0}"#, since(1));
        check(r#"{"since":-1000,"limit":26}"#, since(25));
        check(&format!(r#"{{"after":"{}"}}"#, position.id(tag)), ReplayRequest::After { tag, position });
        check(&format!(r#"{{"after":"{ROW}"}}"#), ReplayRequest::AfterRow(ROW));
    }

    #[test]
    fn private_channels_to_which_rows_go_have_the_forms_of_organizations_too() {
        let topic = Topic::parse("shop:7").unwrap();
        let check = |replay: &str, expected| check(&topic, replay, Ok(Some(expected)));
        check(&format!(r#"{{"after":"{ROW}"}}"#), ReplayRequest::AfterRow(ROW));
        let since = Timestamp::from_unix_millis(1000);
        check(r#"{"since":1000,"limit":5000}"#, ReplayRequest::Since { since, limit: 1000 });
        check("{}", ReplayRequest::PositionOnly);
        check(r#"{"snapshot":50}"#, ReplayRequest::Snapshot { rows_max: 50 });
    }

    #[test]
    fn only_channels_that_get_new_rows_have_snapshots() {
        let window = Window::new(WindowLimits {
            age_max: Duration::from_secs(1),
            bytes_max: 1,
            organization_bytes_max: 1,
        });
        let check = |topic: &str, expected| {
            let snapshot = ReplayRequest::Snapshot { rows_max: 5 };
            let topic = Topic::parse(topic).unwrap();
            let found =
                snapshot.opening(&topic, &window, DatabaseTag::new(1, 2), &routed(), &mut Viewer::new(None));
            assert_eq!(found, expected, "{topic}");
        };
        check("shop:7", Ok(Opening::Rows(RowsWanted::Latest { rows_max: 5 })));
        check("shop:7:gone", Err(Reason::ReplayNotValid));
        check(&organization().to_string(), Err(Reason::ReplayNotValid));
    }

    #[test]
    fn null_asks_for_nothing() {
        for topic in [organization(), elsewhere()] {
            check(&topic, "null", Ok(None));
            assert_eq!(ReplayRequest::parse(None, &topic, &routed()), Ok(None));
        }
    }

    #[test]
    fn what_is_no_form_is_refused() {
        let refused = |topic: &Topic, replay: &str| check(topic, replay, Err(Reason::ReplayNotValid));
        for replay in [
            r#"{"after":"nonsense"}"#,
            r#"{"after":7}"#,
            r#"{"since":"yesterday"}"#,
            r#"{"since":1.5}"#,
            r#"{"since":1,"limit":"many"}"#,
            r#"{"limit":1}"#,
            r#"{"after":"x","since":1}"#,
            r#"{"snapshot":-1}"#,
            r#"{"snapshot":201}"#,
            r#"{"snapshot":500}"#,
            r#"{"snapshot":"all"}"#,
            r#"{"snapshot":1,"limit":1}"#,
            "[]",
            "7",
        ] {
            refused(&organization(), replay);
            refused(&elsewhere(), replay);
        }
        refused(&organization(), &format!(r#"{{"after":"{ROW}"}}"#));
        refused(&elsewhere(), "{}");
        refused(&elsewhere(), r#"{"snapshot":50}"#);
    }
}
