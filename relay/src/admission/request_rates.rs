//! How fast each client asks the API.

use std::hash::Hash;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::Origin;
use super::buckets::Buckets;
use super::rate_limit::RateLimit;
use crate::auth::Fingerprint;
use crate::config::units;

/// So many times as many as a second may come at once.
const BURST_SECONDS: u32 = 10;

/// How many requests to the API there may be.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "API")]
pub struct RequestRate {
    /// Requests to the API with one token a second, and ten times as many at once. 0: no limit.
    #[arg(id = "API_REQUESTS_PER_SECOND", long = "api-requests-per-second", env = "CAMPFIRE_API_REQUESTS_PER_SECOND", default_value_t = 20, value_parser = units::count::<u32>)]
    pub per_token: u32,

    /// Requests to the API from one address (IPv6: one /64) a second, and ten times as many at once. From this machine
    /// any number, unless proxies are declared (CAMPFIRE_TRUSTED_PROXIES). 0: no limit.
    #[arg(id = "API_REQUESTS_PER_IP_PER_SECOND", long = "api-requests-per-ip-per-second", env = "CAMPFIRE_API_REQUESTS_PER_IP_PER_SECOND", default_value_t = 100, value_parser = units::count::<u32>)]
    pub per_address: u32,

    /// The same for requests that may open a conversation, for which no token is needed.
    #[arg(id = "API_AUTHS_PER_IP_PER_SECOND", long = "api-auths-per-ip-per-second", env = "CAMPFIRE_API_AUTHS_PER_IP_PER_SECOND", default_value_t = 5, value_parser = units::count::<u32>)]
    pub auths_per_address: u32,
}

/// What each of them has left.
pub(crate) struct RequestRates {
    rate: RequestRate,
    tokens: Mutex<Buckets<Fingerprint>>,
    addresses: Mutex<Buckets<Origin>>,
    auths: Mutex<Buckets<Origin>>,
}

impl RequestRates {
    pub(crate) fn new(rate: RequestRate) -> Self {
        Self { rate, tokens: Mutex::default(), addresses: Mutex::default(), auths: Mutex::default() }
    }

    /// Takes a request's worth from an address, if there is.
    pub(crate) fn admit_address(&self, origin: Origin, now: Instant) -> bool {
        origin == Origin::Local || admit(&self.addresses, origin, self.rate.per_address, now)
    }

    /// The same of a request without a token that may open a conversation.
    pub(crate) fn admit_auth(&self, origin: Origin, now: Instant) -> bool {
        origin == Origin::Local || admit(&self.auths, origin, self.rate.auths_per_address, now)
    }

    /// Takes a request's worth from a token that was verified.
    pub(crate) fn admit_token(&self, token: Fingerprint, now: Instant) -> bool {
        admit(&self.tokens, token, self.rate.per_token, now)
    }
}

fn admit<C: Hash + Eq>(callers: &Mutex<Buckets<C>>, caller: C, per_second: u32, now: Instant) -> bool {
    if per_second == 0 {
        return true;
    }
    let mut callers = callers.lock().unwrap_or_else(PoisonError::into_inner);
    let fresh = || RateLimit::new(per_second, per_second.saturating_mul(BURST_SECONDS), now);
    callers.entry(caller, fresh, now).admit(now)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn tokens_and_addresses_have_rates_of_their_own() {
        let rates = RequestRates::new(RequestRate { per_token: 1, per_address: 2, auths_per_address: 3 });
        let [here, there] = [1, 2].map(|last| Origin::network([192, 0, 2, last].into()));
        let start = Instant::now();
        let count = |admit: &dyn Fn() -> bool| (0..100).take_while(|_| admit()).count();
        assert_eq!(count(&|| rates.admit_token(Fingerprint::default(), start)), 10);
        assert_eq!(count(&|| rates.admit_address(here, start)), 20);
        assert_eq!(count(&|| rates.admit_auth(here, start)), 30);
        assert!(rates.admit_address(there, start) && rates.admit_auth(there, start));
        let later = start + Duration::from_secs(1);
        assert_eq!(count(&|| rates.admit_address(here, later)), 2);
        assert_eq!(count(&|| rates.admit_address(Origin::Local, start)), 100);
        assert_eq!(count(&|| rates.admit_auth(Origin::Local, start)), 100);
    }

    #[test]
    fn zero_is_no_limit() {
        let rates = RequestRates::new(RequestRate { per_token: 0, per_address: 0, auths_per_address: 0 });
        let now = Instant::now();
        let is_admitted = |_| {
            rates.admit_token(Fingerprint::default(), now)
                && rates.admit_address(Origin::Untold, now)
                && rates.admit_auth(Origin::Untold, now)
        };
        assert!((0..1_000).all(is_admitted));
    }
}
