//! Stage 3: a row change becomes events on topics. No I/O.

mod plan;
mod position;
mod router;
mod signed;
mod template;
mod topic;

pub use position::{DatabaseTag, Position};
pub use router::{ControlChange, Event, Misaddress, Operation, RealtimeMessage, Route, Routed, Router};
pub use signed::{MessageKeys, Refused, SignedMessage};
pub use template::{Template, TemplateError};
pub use topic::*;
