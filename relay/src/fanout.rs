//! Stage 4: the hub of topics. Who listens to what, and one encoded frame for all who do.

mod channel;
mod hub;
mod outbox;
mod replay;
mod resume;
mod room;
mod snapshot;
#[cfg(test)]
mod tests;
mod typing;
mod window;

pub use hub::{ClientInput, Hub, HubChange, HubInput, HubSettings, Join, SocketId};
pub use outbox::{CloseReason, Closed, Outbox, OutboxLimits};
pub use snapshot::{SnapshotFailure, SnapshotRequest, SnapshotRow, SnapshotRows};
pub use window::WindowLimits;
