//! Phoenix channel frames, serializations 1.0.0 and 2.0.0: client bytes become an [`Incoming`], what the relay has
//! to say becomes a [`Frame`].
//!
//! Pure: no I/O, no clock, no knowledge of who may do what. Malformed input is an error, never a panic. Its hazard is
//! what a client sends and others receive: a payload is checked to be JSON before it may be put into a frame.

mod binary;
mod broadcast;
mod close;
mod frame;
mod incoming;
mod join;
pub(crate) mod json;
mod meta;
mod outgoing;
mod presence;
mod reason;
mod reference;
mod vsn;

pub use broadcast::{Broadcast, BroadcastPayload, EVENT_BYTES_MAX, Encoding, UserBroadcast};
pub use close::CloseReason;
pub use frame::{Account, Frame, Waiting};
pub use incoming::{Incoming, Malformed, Payload, access_token};
pub use join::JoinPayload;
pub(crate) use json::is_relayable;
pub use meta::Meta;
pub use outgoing::{Envelope, SystemStatus, encode_broadcast, heartbeat_reply, unmatched_topic};
pub use presence::PresenceCall;
pub use reason::{Reason, Retry, Word};
pub use reference::Ref;
pub use vsn::{UnsupportedVsn, Vsn};

/// The topic of heartbeats.
pub const PHOENIX: &str = "phoenix";
