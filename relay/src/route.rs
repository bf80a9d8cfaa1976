//! Stage 3: a row change becomes events on topics. No I/O.

mod event;
/// SQL refuses the same names: `campfire.broadcast()`.
#[path = "../../extension/src/event_name.rs"]
mod event_name;
mod plan;
mod position;
mod routed_channels;
mod router;
mod rule;
mod sight;
mod signed;
mod template;
mod topic;

pub use event::{ControlChange, Event, Misaddress, RealtimeMessage, Routed};
pub(crate) use event_name::is_reserved;
pub use position::{DatabaseTag, Position};
pub use routed_channels::RoutedChannels;
pub use router::Router;
pub use rule::{Operation, Route};
pub use sight::{Asked, Sight};
pub use signed::{MessageKeys, Refused, SignedMessage};
pub use template::{Piece, Template, TemplateError};
pub use topic::*;
