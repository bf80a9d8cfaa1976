//! Stage 4: the hub of topics. Who listens to what, and one encoded frame for all who do.

mod agents;
mod agents_online;
mod attendance;
mod channel;
mod cursor;
mod cut;
mod event_rate;
mod expiries;
mod hub;
mod input;
mod metrics;
mod origin;
mod outbox;
mod replay_request;
mod room;
mod roster;
mod rows;
mod settings;
mod shared_frames;
mod socket_id;
mod tight_queue;
mod token_use;
mod typing;
mod unread;
mod views;
mod window;

pub use hub::Hub;
pub use input::{ClientInput, HttpBroadcast, HttpBroadcasts, HubChange, HubInput, Join};
pub use metrics::HubMetrics;
pub use outbox::{Outbox, OutboxLimits};
pub use roster::PresenceLimits;
pub use rows::{RowEvent, RowsFailure, RowsRead, RowsRequest, RowsWanted};
pub use settings::HubSettings;
pub use socket_id::SocketId;
pub use unread::{Stall, Unread};
pub use window::WindowLimits;
