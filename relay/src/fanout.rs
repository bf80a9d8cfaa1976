//! Stage 4: the hub of topics. Who listens to what, and one encoded frame for all who do.

mod away;
mod channel;
mod dashboards;
mod event_rate;
mod evicted;
mod expiry;
mod hub;
mod join;
mod outbox;
mod presence;
mod presence_memory;
mod publish;
mod replay;
mod resume;
mod room;
mod roster;
mod send;
mod shared_frames;
mod snapshot;
mod status;
#[cfg(test)]
mod tests;
mod tight_queue;
mod token_use;
mod typing;
mod unread;
mod window;

pub use hub::{ClientInput, Hub, HubChange, HubInput, HubSettings, Join, SocketId};
pub use outbox::{CloseReason, Closed, Outbox, OutboxLimits};
pub use presence::PresenceLimits;
pub use publish::{Publication, Publish};
pub use snapshot::{RowsWanted, SnapshotFailure, SnapshotRequest, SnapshotRow, SnapshotRows};
pub use unread::{Stall, Unread};
pub use window::WindowLimits;
