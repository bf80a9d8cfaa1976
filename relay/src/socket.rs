//! Stage 5: WebSockets. One task a socket.

mod rate;
mod session;

pub use rate::RateLimit;
pub use session::Session;
