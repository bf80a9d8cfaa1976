//! Stage 5: WebSockets. One task a socket.

mod message;
mod session;
mod unfinished;
mod wire;

pub use session::Session;
pub use unfinished::Unfinished;
