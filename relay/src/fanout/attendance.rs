//! What a channel has to do with presence.

use std::sync::Arc;
use std::time::Instant;

use uuid::Uuid;

use super::room::Hears;
use super::roster::{PresenceId, PresenceLimits, Progress};
use crate::auth::Identity;

/// What a channel has to do with presence.
#[derive(Debug, Default)]
pub(super) struct Attendance {
    /// Asked for by the client, or made up by us.
    pub(super) key: Option<Arc<str>>,
    /// What it tracks.
    pub(super) tracked: Option<PresenceId>,
    /// That its visitor is there, on the conversation's channel.
    pub(super) visit: Option<PresenceId>,
    /// It asked to be told who is there.
    pub(super) enabled: bool,
    /// What it is told of who comes and goes.
    pub(super) hears: Hears,
    /// It is to be told who is there, once it is live and there is room.
    pub(super) state_due: bool,
    /// How far it has been told, if that is not all.
    pub(super) told: Option<Progress>,
    /// A widget that was told whether an agent is there.
    pub(super) knows_status: bool,
    calls: u32,
    calls_since: Option<Instant>,
}

impl Attendance {
    /// The key is kept only where it may name somebody.
    pub(super) fn new(key: Option<&str>, identity: Option<&Identity>, enabled: bool) -> Self {
        let is_named = !matches!(identity, Some(Identity::Agent { .. } | Identity::Visitor { .. }));
        let key = key.filter(|_| is_named).map(Arc::from);
        Self { key, enabled, state_due: enabled, ..Self::default() }
    }

    /// Counts a call. False: that is one too many.
    pub(super) fn admit(&mut self, limits: &PresenceLimits, now: Instant) -> bool {
        let since = *self.calls_since.get_or_insert(now);
        if now.duration_since(since) >= limits.calls_time {
            (self.calls, self.calls_since) = (0, Some(now));
        }
        self.calls += 1;
        limits.calls_max == 0 || self.calls <= limits.calls_max
    }

    /// Under which key the channel is present. Agents are present as who they are, whatever they ask for: nobody is
    /// believed about that on an organization's channels.
    pub(super) fn key(&mut self, identity: Option<&Identity>) -> Arc<str> {
        if let Some(Identity::Agent { user, .. }) = identity {
            return user.to_string().into();
        }
        Arc::clone(self.key.get_or_insert_with(|| Uuid::new_v4().to_string().into()))
    }
}
