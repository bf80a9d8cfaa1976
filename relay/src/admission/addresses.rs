//! How many sockets are open from where.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::Origin;
use crate::config::units;

/// How many sockets may be open.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Connections")]
pub struct AddressLimits {
    /// Sockets that may be open at once; lowered to what the open-file limit leaves, with a warning.
    #[arg(long = "max-sockets", env = "CAMPFIRE_MAX_SOCKETS", default_value_t = 50_000, value_parser = units::count::<usize>)]
    pub sockets_max: usize,

    /// Sockets that may be open at once from one address (IPv6: one /64). Addresses of this machine have no limit
    /// unless proxies are declared (CAMPFIRE_TRUSTED_PROXIES). 0: no limit.
    #[arg(long = "max-sockets-per-ip", env = "CAMPFIRE_MAX_SOCKETS_PER_IP", default_value_t = 1_000, value_parser = units::count::<usize>)]
    pub sockets_per_ip_max: usize,
}

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
    pub(crate) fn take(&self, origin: Origin, limits: AddressLimits) -> Result<Place, Full> {
        let AddressLimits { sockets_max, sockets_per_ip_max } = limits;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.sockets >= sockets_max {
            return Err(Full::Relay);
        }
        if origin != Origin::Local {
            let count = open.by_origin.entry(origin).or_default();
            if sockets_per_ip_max > 0 && *count >= sockets_per_ip_max {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn take(
        addresses: &Addresses,
        origin: Origin,
        sockets_max: usize,
        sockets_per_ip_max: usize,
    ) -> Result<Place, Full> {
        addresses.take(origin, AddressLimits { sockets_max, sockets_per_ip_max })
    }

    #[test]
    fn places_are_given_back() {
        let addresses = Addresses::default();
        let here = Origin::Network([10, 0, 0, 1].into());
        let first = take(&addresses, here, 9, 2).ok();
        let second = take(&addresses, here, 9, 2).ok();
        assert!(first.is_some() && second.is_some());
        assert_eq!(take(&addresses, here, 9, 2).err(), Some(Full::Address));
        assert!(take(&addresses, Origin::Network([10, 0, 0, 2].into()), 9, 2).is_ok());
        assert!(take(&addresses, Origin::Local, 9, 0).is_ok() && take(&addresses, here, 9, 0).is_ok());
        drop(second);
        assert!(take(&addresses, here, 9, 2).is_ok());
        drop(first);
        let open = addresses.open.lock().unwrap();
        assert!(open.by_origin.is_empty() && open.sockets == 0);
    }

    #[test]
    fn all_places_are_bounded_too() {
        let addresses = Addresses::default();
        let places: Vec<_> = (0..2).filter_map(|_| take(&addresses, Origin::Local, 2, 1).ok()).collect();
        assert_eq!(places.len(), 2);
        assert_eq!(take(&addresses, Origin::Untold, 2, 1).err(), Some(Full::Relay));
        drop(places);
        assert!(take(&addresses, Origin::Untold, 2, 1).is_ok());
    }
}
