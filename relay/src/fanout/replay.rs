//! What a joining client wants to have again, and where that begins.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::window::Window;
use crate::decode::Timestamp;
use crate::protocol::Reason;
use crate::route::{DatabaseTag, Position, Topic};

/// Most events that `since` may ask for.
const LIMIT_MAX: u64 = 1_000;

/// Events that `since` gives if it names no limit, as the reference has it.
const LIMIT_DEFAULT: u64 = 25;

/// `config.broadcast.replay` of a join to a channel of an organization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ReplayRequest {
    /// Everything after the event, or heartbeat, of this id.
    After { tag: DatabaseTag, position: Position },
    /// The newest events that committed at or after this time.
    Since { since: Timestamp, limit: usize },
    /// Nothing, but say where we are.
    PositionOnly,
}

/// From where on a channel is sent what the window holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) position: Position,
    /// Nothing is missing between what the client has and what it gets.
    pub(super) complete: bool,
}

#[derive(Deserialize)]
struct Parameters {
    after: Option<String>,
    since: Option<i64>,
    limit: Option<u64>,
}

impl ReplayRequest {
    /// None if nothing is asked for.
    pub(super) fn parse(replay: Option<&RawValue>) -> Result<Option<Self>, Reason> {
        let Some(replay) = replay else { return Ok(None) };
        let parameters: Option<Parameters> =
            serde_json::from_str(replay.get()).map_err(|_| Reason::ReplayNotValid)?;
        let Some(Parameters { after, since, limit }) = parameters else { return Ok(None) };
        match (after, since, limit) {
            (Some(after), None, None) => {
                let (tag, position) = Position::parse_id(&after).ok_or(Reason::ReplayNotValid)?;
                Ok(Some(Self::After { tag, position }))
            }
            (None, Some(millis), limit) => {
                let since = Timestamp::from_unix_millis(millis);
                let limit = limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX) as usize;
                Ok(Some(Self::Since { since, limit }))
            }
            (None, None, None) => Ok(Some(Self::PositionOnly)),
            _ => Err(Reason::ReplayNotValid),
        }
    }

    /// Where to start in the window. What is not all there is given as far as it is.
    pub(super) fn start(&self, topic: &Topic, window: &Window, ours: DatabaseTag) -> Start {
        match *self {
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
        }
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
            "[]",
            "7",
        ] {
            check(replay, Err(Reason::ReplayNotValid));
        }
    }
}
