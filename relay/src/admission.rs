//! Who may come in: what is decided about a client before the hub decides, or beside it.
//!
//! Decides nothing about `org:*`: that is the hub's, by the claims that were verified here.

mod addresses;
mod jwks;
mod key_settings;
mod keys;
mod origin;
mod policies;
mod rate_limit;
mod rates;

use std::sync::Arc;

pub use self::addresses::AddressLimits;
pub(crate) use self::addresses::{Addresses, Full, Place};
pub use self::jwks::{Jwks, JwksError, JwksSource};
pub use self::key_settings::KeySettings;
pub use self::keys::Verifier;
pub(crate) use self::origin::Origin;
pub use self::policies::{Cause, Findings, HEADERS_BYTES_MAX, Headers, Policies, PolicyError, PolicyLimits};
pub(crate) use self::rate_limit::RateLimit;
pub use self::rates::MessageRate;
pub(crate) use self::rates::Rates;

/// All that admits sockets, requests and their messages.
pub struct Admission {
    pub verifier: Verifier,
    /// Decide about private channels outside `org:`.
    pub policies: Arc<Policies>,
    pub(crate) addresses: Addresses,
    pub address_limits: AddressLimits,
    pub(crate) rates: Rates,
    pub message_rate: MessageRate,
}
