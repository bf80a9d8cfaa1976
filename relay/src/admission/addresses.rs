//! How many sockets are open from where.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::Origin;

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
