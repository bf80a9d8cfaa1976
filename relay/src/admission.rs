//! Who may come in: what is decided about a client before the hub decides, or beside it.
//!
//! Decides nothing about `org:*`: that is the hub's, by the claims that were verified here.

mod addresses;
mod jwks;
mod origin;
mod policies;
mod rate_limit;

pub(crate) use self::addresses::{Addresses, Full, Place, Rates};
pub use self::jwks::{Jwks, JwksError, JwksSource};
pub(crate) use self::origin::Origin;
pub use self::policies::{Cause, Findings, HEADERS_BYTES_MAX, Headers, Policies, PolicyError, PolicyLimits};
pub(crate) use self::rate_limit::RateLimit;
