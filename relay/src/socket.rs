//! Stage 5: WebSockets. One task a socket.

mod progress;
mod rate;
mod session;

pub use progress::Progress;
pub use rate::RateLimit;
pub use session::Session;
