//! When the tokens of channels end, soonest first.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::socket_id::SocketId;
use crate::protocol::Reason;

/// One entry for each channel that runs with a token.
#[derive(Debug, Default)]
pub(super) struct Expiries(BTreeSet<(SystemTime, SocketId, Arc<str>)>);

impl Expiries {
    pub(super) fn insert(&mut self, at: Option<SystemTime>, id: SocketId, wire_topic: &Arc<str>) {
        self.0.extend(at.map(|at| (at, id, Arc::clone(wire_topic))));
    }

    pub(super) fn remove(&mut self, at: Option<SystemTime>, id: SocketId, wire_topic: &Arc<str>) {
        at.map(|at| self.0.remove(&(at, id, Arc::clone(wire_topic))));
    }

    /// When the next token ends, by the clock of timers as it is now.
    pub(super) fn next(&self) -> Option<Instant> {
        let (at, ..) = self.0.first()?;
        Instant::now().checked_add(at.duration_since(SystemTime::now()).unwrap_or_default())
    }

    pub(super) fn pop_due(&mut self, now: SystemTime) -> Option<(SystemTime, SocketId, Arc<str>)> {
        self.0.first().is_some_and(|(at, ..)| *at <= now).then(|| self.0.pop_first()).flatten()
    }
}

/// What a refusal says of a token that ended at a time, if it has.
pub(super) fn expired(at: Option<SystemTime>, now: SystemTime) -> Option<Reason> {
    let ago = now.duration_since(at?).ok()?;
    Some(Reason::TokenExpired { seconds_ago: ago.as_secs() })
}
