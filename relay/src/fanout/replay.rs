//! What a joining client wants to have again, and where that begins.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::window::Window;
use crate::decode::Timestamp;
use crate::protocol::Reason;
use crate::route::{DatabaseTag, Position, Scope, Topic};

/// Most events that `since` may ask for.
const LIMIT_MAX: u64 = 1_000;

/// Events that `since` gives if it names no limit, as the reference has it.
const LIMIT_DEFAULT: u64 = 25;

/// Most messages, and conversations, that `snapshot` may ask for.
const SNAPSHOT_ROWS_MAX: u32 = 200;

/// `config.broadcast.replay` of a join to a channel of an organization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ReplayRequest {
    /// Everything after the event, or heartbeat, of this id.
    After { tag: DatabaseTag, position: Position },
    /// The newest events that committed at or after this time.
    Since { since: Timestamp, limit: usize },
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
}

/// How a channel that asked for a replay begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    Window(Start),
    /// With rows that are to be read first.
    Snapshot {
        rows_max: u32,
    },
}

#[derive(Deserialize)]
struct Parameters {
    after: Option<String>,
    since: Option<i64>,
    limit: Option<u64>,
    snapshot: Option<u32>,
}

impl ReplayRequest {
    /// None if nothing is asked for.
    pub(super) fn parse(replay: Option<&RawValue>) -> Result<Option<Self>, Reason> {
        let Some(replay) = replay else { return Ok(None) };
        let parameters: Option<Parameters> =
            serde_json::from_str(replay.get()).map_err(|_| Reason::ReplayNotValid)?;
        let Some(Parameters { after, since, limit, snapshot }) = parameters else { return Ok(None) };
        match (after, since, limit, snapshot) {
            (Some(after), None, None, None) => {
                let (tag, position) = Position::parse_id(&after).ok_or(Reason::ReplayNotValid)?;
                Ok(Some(Self::After { tag, position }))
            }
            (None, Some(millis), limit, None) => {
                let since = Timestamp::from_unix_millis(millis);
                let limit = limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX) as usize;
                Ok(Some(Self::Since { since, limit }))
            }
            (None, None, None, Some(rows)) => {
                Ok(Some(Self::Snapshot { rows_max: rows.clamp(1, SNAPSHOT_ROWS_MAX) }))
            }
            (None, None, None, None) => Ok(Some(Self::PositionOnly)),
            _ => Err(Reason::ReplayNotValid),
        }
    }

    /// Where to start in the window. What is not all there is given as far as it is.
    pub(super) fn opening(
        &self,
        topic: &Topic,
        window: &Window,
        ours: DatabaseTag,
    ) -> Result<Opening, Reason> {
        let start = match *self {
            Self::Snapshot { rows_max } => {
                return match topic.scope() {
                    Some(Scope::Conversation | Scope::Conversations) => Ok(Opening::Snapshot { rows_max }),
                    _ => Err(Reason::ReplayNotValid),
                };
            }
            Self::After { tag, .. } if tag != ours => Start { position: window.head(), complete: false },
            Self::After { position, .. } => match window.check(topic, position) {
                Ok(()) => Start { position, complete: true },
                Err(_) => Start {
                    position: position.max(window.floor_of(topic)).min(window.head()),
                    complete: false,
                },
            },
            Self::Since { since, limit } => {
                let (position, complete) = window.since(topic, since, limit);
                Start { position, complete }
            }
            Self::PositionOnly => Start { position: window.head(), complete: true },
        };
        Ok(Opening::Window(start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(replay: &str, expected: Result<Option<ReplayRequest>, Reason>) {
        assert_eq!(ReplayRequest::parse(Some(serde_json::from_str(replay).unwrap())), expected, "{replay}");
    }

    fn since(millis: i64, limit: usize) -> Result<Option<ReplayRequest>, Reason> {
        Ok(Some(ReplayRequest::Since { since: Timestamp::from_unix_millis(millis), limit }))
    }

    #[test]
    fn every_form_is_read() {
        let tag = DatabaseTag::new(1, 2);
        let position = Position { timeline: 1, commit_lsn: crate::wal::Lsn(7), change: 0 };
        let after = format!(r#"{{"after":"{}"}}"#, position.id(tag));
        check(&after, Ok(Some(ReplayRequest::After { tag, position })));
        check(r#"{"since":1000,"limit":10}"#, since(1000, 10));
        check(r#"{"since":1000}"#, since(1000, 25));
        check(r#"{"since":1000,"limit":0}"#, since(1000, 1));
        check(r#"{"since":1000,"limit":5000}"#, since(1000, 1000));
        check("{}", Ok(Some(ReplayRequest::PositionOnly)));
        check(r#"{"snapshot":50}"#, Ok(Some(ReplayRequest::Snapshot { rows_max: 50 })));
        check(r#"{"snapshot":0}"#, Ok(Some(ReplayRequest::Snapshot { rows_max: 1 })));
        check(r#"{"snapshot":5000}"#, Ok(Some(ReplayRequest::Snapshot { rows_max: 200 })));
        check("null", Ok(None));
        assert_eq!(ReplayRequest::parse(None), Ok(None));
    }

    #[test]
    fn what_is_no_form_is_refused() {
        for replay in [
            r#"{"after":"nonsense"}"#,
            r#"{"after":7}"#,
            r#"{"since":"yesterday"}"#,
            r#"{"since":1,"limit":"many"}"#,
            r#"{"limit":1}"#,
            r#"{"after":"x","since":1}"#,
            r#"{"snapshot":-1}"#,
            r#"{"snapshot":"all"}"#,
            r#"{"snapshot":1,"limit":1}"#,
            "[]",
            "7",
        ] {
            check(replay, Err(Reason::ReplayNotValid));
        }
    }
}
