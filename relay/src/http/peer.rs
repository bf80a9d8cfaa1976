//! Where a request comes from, and how much comes from there.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::extract::ConnectInfo;
use axum::http::{Extensions, HeaderMap};

use crate::auth::{Credential, Fingerprint};
use crate::socket::RateLimit;

/// Callers whose rates are remembered at most, before those that are quiet are forgotten.
const CALLERS_KEPT: usize = 10_000;

/// The client's address: the connection's, or behind proxies the one that the outermost trusted proxy saw. None on
/// unix sockets, and from this machine: what connects from there is a proxy, or the operator.
pub(super) fn address(
    extensions: &Extensions,
    headers: &HeaderMap,
    trusted_proxies: usize,
) -> Option<IpAddr> {
    let connected = extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(address)| address.ip());
    let forwarded = || {
        let lists = headers.get_all("x-forwarded-for").iter().filter_map(|list| list.to_str().ok());
        let hops: Vec<&str> = lists.flat_map(|list| list.split(',')).map(str::trim).collect();
        // Each proxy appends whom it heard; what stands further left is the client's own invention.
        hops.len().checked_sub(trusted_proxies).and_then(|index| hops[index].parse().ok())
    };
    let address = if trusted_proxies > 0 { forwarded().or(connected) } else { connected };
    address.map(|address| address.to_canonical()).filter(|address| !address.is_loopback())
}

/// Headers as policies see them: a JSON object of text. Of a repeated header the last counts.
pub(super) fn headers_as_json(headers: &HeaderMap, is_shown: impl Fn(&str) -> bool) -> String {
    let shown = headers.iter().filter(|(name, _)| is_shown(name.as_str()));
    let text = shown.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
    serde_json::to_string(&text.collect::<std::collections::BTreeMap<_, _>>()).expect("text is JSON")
}

/// Sockets open from each address.
#[derive(Clone, Default)]
pub(crate) struct Addresses {
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One socket's place among those of its address; given back when dropped.
pub(crate) struct Place {
    addresses: Addresses,
    address: Option<IpAddr>,
}

impl Addresses {
    /// None if the address has all the sockets that it may have. 0: any number.
    pub(super) fn take(&self, address: Option<IpAddr>, sockets_max: usize) -> Option<Place> {
        if let Some(address) = address {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            let count = open.entry(address).or_default();
            if sockets_max > 0 && *count >= sockets_max {
                return None;
            }
            *count += 1;
        }
        Some(Place { addresses: self.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        let mut open = self.addresses.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&address);
            }
        }
    }
}

/// Whose messages are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Caller {
    Token(Fingerprint),
    Address(IpAddr),
    /// Everybody with an API key whose address is not known.
    Unknown,
}

/// How fast each caller sends over HTTP.
#[derive(Default)]
pub(crate) struct Rates {
    limits: Mutex<HashMap<Caller, RateLimit>>,
}

/// What is left to a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allowance {
    pub(super) is_admitted: bool,
    pub(super) remaining: u32,
}

impl Rates {
    /// Takes the worth of so many messages, if there is.
    pub(super) fn admit(
        &self,
        credential: &Credential,
        address: Option<IpAddr>,
        fresh: impl FnOnce() -> RateLimit,
        messages: u32,
        now: Instant,
    ) -> Allowance {
        let caller = match (credential, address) {
            (Credential::Token(claims), _) => Caller::Token(claims.fingerprint),
            (Credential::ApiKey(_), Some(address)) => Caller::Address(address),
            (Credential::ApiKey(_), None) => Caller::Unknown,
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

    fn check(connected: Option<&str>, forwarded: &[&str], trusted: usize, expected: Option<&str>) {
        let mut extensions = Extensions::new();
        if let Some(connected) = connected {
            extensions.insert(ConnectInfo(SocketAddr::new(connected.parse().unwrap(), 1)));
        }
        let mut headers = HeaderMap::new();
        for list in forwarded {
            headers.append("x-forwarded-for", list.parse().unwrap());
        }
        let expected = expected.map(|address| address.parse().unwrap());
        assert_eq!(address(&extensions, &headers, trusted), expected, "{forwarded:?} by {trusted}");
    }

    #[test]
    fn only_what_trusted_proxies_say_is_believed() {
        check(Some("10.0.0.1"), &["1.2.3.4"], 0, Some("10.0.0.1"));
        check(Some("10.0.0.1"), &["9.9.9.9, 1.2.3.4"], 1, Some("1.2.3.4"));
        check(Some("10.0.0.1"), &["9.9.9.9", "1.2.3.4,10.0.0.2"], 2, Some("1.2.3.4"));
        check(Some("10.0.0.1"), &["1.2.3.4"], 2, Some("10.0.0.1"));
        check(Some("10.0.0.1"), &["nonsense"], 1, Some("10.0.0.1"));
        check(None, &["2001:db8::1"], 1, Some("2001:db8::1"));
    }

    #[test]
    fn this_machine_has_no_address_and_mapped_ones_are_plain() {
        check(Some("127.0.0.1"), &[], 0, None);
        check(Some("::1"), &["1.2.3.4"], 0, None);
        check(Some("127.0.0.1"), &["1.2.3.4"], 1, Some("1.2.3.4"));
        check(Some("::ffff:10.0.0.1"), &[], 0, Some("10.0.0.1"));
        check(None, &[], 0, None);
    }

    #[test]
    fn places_are_given_back() {
        let addresses = Addresses::default();
        let address = Some(IpAddr::from([10, 0, 0, 1]));
        let first = addresses.take(address, 2);
        let second = addresses.take(address, 2);
        assert!(first.is_some() && second.is_some() && addresses.take(address, 2).is_none());
        assert!(addresses.take(Some(IpAddr::from([10, 0, 0, 2])), 2).is_some());
        assert!(addresses.take(None, 0).is_some() && addresses.take(address, 0).is_some());
        drop(second);
        assert!(addresses.take(address, 2).is_some());
        drop(first);
        assert!(addresses.open.lock().unwrap().is_empty());
    }
}
