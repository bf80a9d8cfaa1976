//! Which servers there are to try.

use std::net::IpAddr;
use std::path::PathBuf;

use super::parameters::{ENCODE, Parameters};

const SOCKET_DIRECTORY: &str = "/var/run/postgresql";
const PORT: u16 = 5432;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::postgres) struct Host {
    pub(in crate::postgres) address: HostAddress,
    pub(in crate::postgres) port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::postgres) enum HostAddress {
    /// The directory of the socket.
    Unix(PathBuf),
    /// The name is what the certificate must carry; `ip` saves asking the resolver for it (`hostaddr`).
    Tcp { name: String, ip: Option<IpAddr> },
}

/// Hosts, addresses and ports are lists that go together; one port may serve all.
pub(super) fn hosts(given: &Parameters) -> Result<Vec<Host>, String> {
    let list = |name: &str| -> Vec<&str> {
        given.get(name).map(|text| text.split(',').map(str::trim).collect()).unwrap_or_default()
    };
    let (names, addresses, ports) = (list("host"), list("hostaddr"), list("port"));
    let count = names.len().max(addresses.len()).max(1);
    if !names.is_empty() && !addresses.is_empty() && names.len() != addresses.len() {
        return Err("host and hostaddr must be as many".to_owned());
    }
    if ports.len() > 1 && ports.len() != count {
        return Err("there must be one port, or one for each host".to_owned());
    }
    let host = |index: usize| {
        let port = match ports.get(index).or(ports.first()) {
            Some(&"") | None => PORT,
            Some(port) => port.parse().map_err(|_| format!("port is not a port number; {ENCODE}"))?,
        };
        let name = names.get(index).copied().unwrap_or_default();
        let ip: Option<IpAddr> = match addresses.get(index).copied().unwrap_or_default() {
            "" => None,
            address => Some(address.parse().map_err(|_| "hostaddr is not an IP address".to_owned())?),
        };
        let address = match (name, ip) {
            ("", None) => HostAddress::Unix(SOCKET_DIRECTORY.into()),
            ("", Some(ip)) => HostAddress::Tcp { name: ip.to_string(), ip: Some(ip) },
            (name, None) if name.starts_with('/') => HostAddress::Unix(name.into()),
            (name, ip) => HostAddress::Tcp { name: name.to_owned(), ip },
        };
        Ok(Host { address, port })
    };
    (0..count).map(host).collect()
}
