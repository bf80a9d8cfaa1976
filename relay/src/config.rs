//! How settings are written: what several parts of the relay take in the same form.

mod listen;
mod secret;
pub(crate) mod units;

pub use self::listen::{Group, ListenAddress, Mode};
pub use self::secret::Secret;
