//! What proxies say of where a request comes from: `X-Forwarded-For`, and `Forwarded` (RFC 7239).
//!
//! Each proxy appends the address it heard, so entries are counted from the right: the last of them was written by the
//! proxy next to the relay. What stands left of the trusted ones is the client's own, and must not change how the rest
//! is read, whatever bytes it has.

use std::net::{IpAddr, Ipv6Addr};

use axum::http::HeaderMap;
use axum::http::header::FORWARDED;

use crate::config::units;

/// The proxies in front of the relay.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Connections")]
pub struct ProxySettings {
    /// Number of proxies in front of the relay, each of which appends to X-Forwarded-For. 0: a client's address is that
    /// of its connection.
    #[arg(long, env = "CAMPFIRE_TRUSTED_PROXIES", default_value_t = 0, value_parser = units::count::<usize>)]
    pub trusted_proxies: usize,

    /// Header that these proxies write. `Forwarded` is also read if a request has no X-Forwarded-For.
    #[arg(long, env = "CAMPFIRE_FORWARDED_HEADER", value_enum, default_value_t = ForwardedHeader::XForwardedFor)]
    pub forwarded_header: ForwardedHeader,
}

/// Which header the proxies in front of the relay write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`; `Forwarded` where a request has none.
    XForwardedFor,
    /// `Forwarded` alone.
    Forwarded,
}

/// Why the headers do not tell the client's address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Doubt {
    #[error("the request names fewer proxies than CAMPFIRE_TRUSTED_PROXIES counts")]
    TooFewHops,
    #[error("a trusted proxy wrote no address but {0:?}")]
    NoAddress(String),
}

/// The address that the outermost of so many trusted proxies saw.
pub(super) fn client(
    headers: &HeaderMap,
    header: ForwardedHeader,
    trusted_proxies: usize,
) -> Result<IpAddr, Doubt> {
    const X_FORWARDED_FOR: &str = "x-forwarded-for";
    let is_plain = header == ForwardedHeader::XForwardedFor && headers.contains_key(X_FORWARDED_FOR);
    let name = if is_plain { X_FORWARDED_FOR } else { FORWARDED.as_str() };
    let mut hops: Vec<&[u8]> = Vec::new();
    for list in headers.get_all(name).iter().map(|list| list.as_bytes()) {
        hops.extend(if is_plain { hops_of_list(list) } else { hops_of_elements(list) });
    }
    let hop = hops.len().checked_sub(trusted_proxies.max(1)).map(|index| hops[index]);
    let hop = hop.ok_or(Doubt::TooFewHops)?;
    let address = if is_plain { parse_hop(hop) } else { for_parameter(hop).as_deref().and_then(parse_hop) };
    address.ok_or_else(|| Doubt::NoAddress(String::from_utf8_lossy(&hop[..hop.len().min(100)]).into_owned()))
}

/// The entries of `X-Forwarded-For`. Empty ones are none, as in every list of HTTP.
fn hops_of_list(list: &[u8]) -> Vec<&[u8]> {
    list.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|hop| !hop.is_empty()).collect()
}

/// The elements of `Forwarded`, split where a comma stands outside quotes. Read from the right, so that a quote which a
/// client opened and did not close takes nothing of what proxies appended.
fn hops_of_elements(list: &[u8]) -> Vec<&[u8]> {
    let mut hops = split_outside_quotes(list, b',');
    hops.retain(|hop| !hop.is_empty());
    hops
}

fn split_outside_quotes(text: &[u8], separator: u8) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let mut end = text.len();
    let mut is_quoted = false;
    for index in (0..text.len()).rev() {
        let is_escaped = index > 0 && text[index - 1] == b'\\';
        if text[index] == b'"' && !is_escaped {
            is_quoted = !is_quoted;
        } else if text[index] == separator && !is_quoted {
            parts.push(text[index + 1..end].trim_ascii());
            end = index;
        }
    }
    parts.push(text[..end].trim_ascii());
    parts.reverse();
    parts
}

/// The value of `for` in an element such as `for="[2001:db8::1]:443";proto=https`.
fn for_parameter(element: &[u8]) -> Option<Vec<u8>> {
    split_outside_quotes(element, b';').into_iter().find_map(|pair| {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (pair[..equals].trim_ascii(), pair[equals + 1..].trim_ascii());
        name.eq_ignore_ascii_case(b"for")
            .then(|| value.iter().copied().filter(|byte| *byte != b'\\').collect())
    })
}

/// An address in a form that proxies write: with a port, in brackets, in quotes, with a zone. None for `unknown`,
/// for names that hide an address (`_hidden`), and for nonsense.
fn parse_hop(hop: &[u8]) -> Option<IpAddr> {
    let hop = std::str::from_utf8(hop).ok()?.trim();
    let hop = hop.strip_prefix('"').and_then(|hop| hop.strip_suffix('"')).unwrap_or(hop);
    if let Some(rest) = hop.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return without_zone(address).parse::<Ipv6Addr>().ok().filter(|_| is_port).map(IpAddr::V6);
    }
    let whole = without_zone(hop).parse().ok();
    whole.or_else(|| {
        let (address, port) = hop.rsplit_once(':')?;
        without_zone(address).parse().ok().filter(|_| is_port(port))
    })
}

fn without_zone(address: &str) -> &str {
    address.split_once('%').map_or(address, |(address, _)| address)
}

/// A number, or a name that hides one (RFC 7239, section 6).
fn is_port(port: &str) -> bool {
    let is_hidden = port.len() > 1 && port.starts_with('_');
    is_hidden || (!port.is_empty() && port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    const X: ForwardedHeader = ForwardedHeader::XForwardedFor;

    fn read(
        lists: &[(&'static str, &[u8])],
        header: ForwardedHeader,
        trusted: usize,
    ) -> Result<IpAddr, Doubt> {
        let mut headers = HeaderMap::new();
        for (name, list) in lists {
            headers.append(*name, HeaderValue::from_bytes(list).unwrap());
        }
        client(&headers, header, trusted)
    }

    fn check(lists: &[(&'static str, &str)], trusted: usize, expected: &str) {
        let lists: Vec<_> = lists.iter().map(|(name, list)| (*name, list.as_bytes())).collect();
        assert_eq!(read(&lists, X, trusted), Ok(expected.parse().unwrap()), "{lists:?}");
    }

    fn check_doubtful(name: &'static str, list: &str) {
        let address = read(&[(name, list.as_bytes())], X, 1);
        assert!(matches!(address, Err(Doubt::NoAddress(_))), "{list}: {address:?}");
    }

    #[test]
    fn every_form_of_an_address_is_read() {
        for (hop, expected) in [
            ("203.0.113.7", "203.0.113.7"),
            ("203.0.113.7:51234", "203.0.113.7"),
            (" 203.0.113.7 ", "203.0.113.7"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:DB8::1]:443", "2001:db8::1"),
            ("2001:db8:1:2:3:4:5:6:51234", "2001:db8:1:2:3:4:5:6"),
            ("\"[2001:db8::1]:443\"", "2001:db8::1"),
            ("fe80::1%eth0", "fe80::1"),
            ("[fe80::1%25eth0]:80", "fe80::1"),
            ("::ffff:203.0.113.7", "::ffff:203.0.113.7"),
        ] {
            check(&[("x-forwarded-for", hop)], 1, expected);
        }
        for (element, expected) in [
            ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
            ("For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            ("by=10.0.0.1;host=\"a,b;for=9.9.9.9\";for=192.0.2.60:80", "192.0.2.60"),
            ("for=\"192.0.2.60:_hidden\"", "192.0.2.60"),
            ("for = \"192\\.0.2.60\"", "192.0.2.60"),
        ] {
            check(&[("forwarded", element)], 1, expected);
        }
    }

    #[test]
    fn what_is_no_address_is_said_to_be_none() {
        for hop in [
            "unknown",
            "_hidden",
            "unix:",
            "nonsense",
            "1.2.3",
            "1.2.3.4:port",
            "[1.2.3.4]",
            "[::1]x",
            "café",
        ] {
            check_doubtful("x-forwarded-for", hop);
        }
        for element in
            ["for=unknown", "for=_gazonk", "for=\"_x:80\"", "proto=https", "for=", "192.0.2.1", "for=\"\""]
        {
            check_doubtful("forwarded", element);
        }
        assert_eq!(read(&[], X, 1), Err(Doubt::TooFewHops));
        assert_eq!(read(&[("x-forwarded-for", b"1.2.3.4")], X, 2), Err(Doubt::TooFewHops));
        assert_eq!(read(&[("x-forwarded-for", b" , ,")], X, 1), Err(Doubt::TooFewHops));
    }

    #[test]
    fn hops_count_from_the_right_over_all_lines() {
        let name = "x-forwarded-for";
        check(&[(name, "9.9.9.9, 1.2.3.4")], 1, "1.2.3.4");
        check(&[(name, "9.9.9.9"), (name, "1.2.3.4,10.0.0.2")], 2, "1.2.3.4");
        check(&[(name, "9.9.9.9,, ,1.2.3.4,")], 1, "1.2.3.4");
        check(&[("forwarded", "for=9.9.9.9, for=1.2.3.4"), ("forwarded", "for=10.0.0.2")], 2, "1.2.3.4");
    }

    #[test]
    fn what_a_client_writes_itself_changes_nothing() {
        for own in [&b"\xff\xfe"[..], b"\"", b"unknown", b"", b",,,", "ü".as_bytes(), b"for=\"", b"\\"] {
            let list = [own, b", 1.2.3.4"].concat();
            assert_eq!(read(&[("x-forwarded-for", &list)], X, 1), Ok([1, 2, 3, 4].into()), "{own:?}");
            let list = [own, b", for=\"1.2.3.4:80\""].concat();
            assert_eq!(read(&[("forwarded", &list)], X, 1), Ok([1, 2, 3, 4].into()), "{own:?}");
        }
    }

    #[test]
    fn one_header_is_believed_and_not_the_other() {
        let lists: [(&'static str, &[u8]); 2] =
            [("x-forwarded-for", b"1.1.1.1"), ("forwarded", b"for=2.2.2.2")];
        assert_eq!(read(&lists, X, 1), Ok([1, 1, 1, 1].into()));
        assert_eq!(read(&lists, ForwardedHeader::Forwarded, 1), Ok([2, 2, 2, 2].into()));
        assert_eq!(read(&lists[..1], ForwardedHeader::Forwarded, 1), Err(Doubt::TooFewHops));
    }
}
