//! Stage 5: WebSockets. One task a socket.

mod message;
mod rate;
mod session;
mod unfinished;
mod wire;

pub use rate::RateLimit;
pub use session::Session;
pub use unfinished::Unfinished;
