//! The name of a presence.

/// Names what one channel tracks, for as long as it does, and while it is away. The later the higher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::fanout) struct PresenceId(pub(super) u64);
