//! Whom a request is counted with.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::{Extensions, HeaderMap};

use super::forwarded::{self, Doubt, ForwardedHeader};
use super::lobby::Seat;
use crate::admission::Origin;

/// The connection that a request came over.
#[derive(Clone)]
pub(super) struct Connected {
    /// None on unix sockets.
    pub(super) address: Option<IpAddr>,
    pub(super) seat: Arc<Seat>,
}

/// Where a request comes from. Behind proxies it is what the outermost trusted one saw. If that is not known, the
/// request counts with all others of its connection's address, also on this machine: never as exempt.
pub(super) fn origin(
    extensions: &Extensions,
    headers: &HeaderMap,
    trusted_proxies: usize,
    header: ForwardedHeader,
) -> (Origin, Option<Doubt>) {
    let connected = extensions.get::<Connected>().and_then(|connected| connected.address);
    if trusted_proxies == 0 {
        return (Origin::of_connection(connected), None);
    }
    match forwarded::client(headers, header, trusted_proxies) {
        Ok(address) => (Origin::network(address), None),
        Err(doubt) => (connected.map_or(Origin::Untold, Origin::network), Some(doubt)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(connected: Option<&str>, forwarded: &[&str], trusted: usize, expected: Origin) {
        let mut extensions = Extensions::new();
        let address = connected.map(|address| address.parse().unwrap());
        extensions.insert(Connected { address, seat: Seat::for_tests() });
        let mut headers = HeaderMap::new();
        for list in forwarded {
            headers.append("x-forwarded-for", list.parse().unwrap());
        }
        let (origin, _) = origin(&extensions, &headers, trusted, ForwardedHeader::XForwardedFor);
        assert_eq!(origin, expected, "{forwarded:?} by {trusted}");
    }

    fn network(address: &str) -> Origin {
        Origin::Network(address.parse().unwrap())
    }

    #[test]
    fn only_what_trusted_proxies_say_is_believed() {
        check(Some("10.0.0.1"), &["1.2.3.4"], 0, network("10.0.0.1"));
        check(Some("10.0.0.1"), &["9.9.9.9, 1.2.3.4"], 1, network("1.2.3.4"));
        check(Some("10.0.0.1"), &["9.9.9.9", "1.2.3.4,10.0.0.2"], 2, network("1.2.3.4"));
        check(None, &["1.2.3.4:80"], 1, network("1.2.3.4"));
    }

    #[test]
    fn what_is_not_known_is_counted_and_never_exempt() {
        check(Some("10.0.0.1"), &["1.2.3.4"], 2, network("10.0.0.1"));
        check(Some("10.0.0.1"), &["nonsense"], 1, network("10.0.0.1"));
        check(Some("127.0.0.1"), &["nonsense"], 1, network("127.0.0.1"));
        check(Some("127.0.0.1"), &[], 1, network("127.0.0.1"));
        check(Some("10.0.0.1"), &["127.0.0.1"], 1, network("127.0.0.1"));
        check(None, &["unix:"], 1, Origin::Untold);
    }

    #[test]
    fn this_machine_is_exempt_and_mapped_addresses_are_plain() {
        check(Some("127.0.0.1"), &[], 0, Origin::Local);
        check(Some("::1"), &["1.2.3.4"], 0, Origin::Local);
        check(Some("::ffff:127.0.0.1"), &[], 0, Origin::Local);
        check(None, &[], 0, Origin::Local);
        check(Some("::ffff:10.0.0.1"), &[], 0, network("10.0.0.1"));
        check(Some("10.0.0.1"), &["::ffff:10.0.0.2"], 1, network("10.0.0.2"));
    }

    #[test]
    fn a_network_of_ipv6_is_one() {
        check(Some("2001:db8:1:2:3:4:5:6"), &[], 0, network("2001:db8:1:2::"));
        check(Some("10.0.0.1"), &["[2001:db8:1:2::9]:443"], 1, network("2001:db8:1:2::"));
        check(Some("10.0.0.1"), &["2001:db8:1:3::9"], 1, network("2001:db8:1:3::"));
        assert_eq!(network("2001:db8:1:3::").to_string(), "2001:db8:1:3::/64");
        assert_eq!(network("10.0.0.1").to_string(), "10.0.0.1");
    }
}
