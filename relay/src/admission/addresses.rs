//! How much comes from where: sockets of an address, and messages of a caller over HTTP.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::Origin;
use super::rate_limit::RateLimit;
use crate::auth::{Credential, Fingerprint};

/// Callers whose rates are remembered at most, before those that are quiet are forgotten.
const CALLERS_KEPT: usize = 10_000;

/// Sockets open, in all and from each address.
#[derive(Clone, Default)]
pub(crate) struct Addresses {
    open: Arc<Mutex<Open>>,
}

#[derive(Default)]
struct Open {
    sockets: usize,
    by_origin: HashMap<Origin, usize>,
}

/// One socket's place among all, and among those of its address; given back when dropped.
pub(crate) struct Place {
    addresses: Addresses,
    origin: Origin,
}

/// Which bound is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    Relay,
    Address,
}

impl Addresses {
    /// `of_origin_max` 0: any number.
    pub(crate) fn take(
        &self,
        origin: Origin,
        sockets_max: usize,
        of_origin_max: usize,
    ) -> Result<Place, Full> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.sockets >= sockets_max {
            return Err(Full::Relay);
        }
        if origin != Origin::Local {
            let count = open.by_origin.entry(origin).or_default();
            if of_origin_max > 0 && *count >= of_origin_max {
                return Err(Full::Address);
            }
            *count += 1;
        }
        open.sockets += 1;
        Ok(Place { addresses: self.clone(), origin })
    }
}

impl Place {
    /// Where its socket comes from.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.origin.address()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.addresses.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.sockets -= 1;
        if let Some(count) = open.by_origin.get_mut(&self.origin) {
            *count -= 1;
            if *count == 0 {
                open.by_origin.remove(&self.origin);
            }
        }
    }
}

/// Whose messages are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Caller {
    Token(Fingerprint),
    /// Everybody there with an API key.
    Origin(Origin),
}

/// How fast each caller sends over HTTP.
#[derive(Default)]
pub(crate) struct Rates {
    limits: Mutex<HashMap<Caller, RateLimit>>,
}

/// What is left to a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowance {
    pub(crate) is_admitted: bool,
    pub(crate) remaining: u32,
}

impl Rates {
    /// Takes the worth of so many messages, if there is.
    pub(crate) fn admit(
        &self,
        credential: &Credential,
        origin: Origin,
        fresh: impl FnOnce() -> RateLimit,
        messages: u32,
        now: Instant,
    ) -> Allowance {
        let caller = match credential {
            Credential::Token(claims) => Caller::Token(claims.fingerprint),
            Credential::ApiKey(_) => Caller::Origin(origin),
        };
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        if limits.len() >= CALLERS_KEPT {
            limits.retain(|_, limit| !limit.is_full(now));
        }
        let limit = limits.entry(caller).or_insert_with(fresh);
        let is_admitted = limit.admit_many(messages, now);
        Allowance { is_admitted, remaining: limit.remaining(now) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back() {
        let addresses = Addresses::default();
        let here = Origin::Network([10, 0, 0, 1].into());
        let first = addresses.take(here, 9, 2).ok();
        let second = addresses.take(here, 9, 2).ok();
        assert!(first.is_some() && second.is_some());
        assert_eq!(addresses.take(here, 9, 2).err(), Some(Full::Address));
        assert!(addresses.take(Origin::Network([10, 0, 0, 2].into()), 9, 2).is_ok());
        assert!(addresses.take(Origin::Local, 9, 0).is_ok() && addresses.take(here, 9, 0).is_ok());
        drop(second);
        assert!(addresses.take(here, 9, 2).is_ok());
        drop(first);
        let open = addresses.open.lock().unwrap();
        assert!(open.by_origin.is_empty() && open.sockets == 0);
    }

    #[test]
    fn all_places_are_bounded_too() {
        let addresses = Addresses::default();
        let places: Vec<_> = (0..2).filter_map(|_| addresses.take(Origin::Local, 2, 1).ok()).collect();
        assert_eq!(places.len(), 2);
        assert_eq!(addresses.take(Origin::Untold, 2, 1).err(), Some(Full::Relay));
        drop(places);
        assert!(addresses.take(Origin::Untold, 2, 1).is_ok());
    }
}
