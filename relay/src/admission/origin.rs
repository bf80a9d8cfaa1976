//! Where clients come from, as far as it is told apart.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// Whose sockets, connections and messages are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Origin {
    /// This machine, without a proxy in between: the operator, or the application. Any number of sockets.
    Local,
    /// An address of IPv4, or a network of IPv6: a customer of a provider has at least a /64 and chooses within it.
    Network(IpAddr),
    /// Behind proxies that did not say where it comes from, over a unix socket. All these are one.
    Untold,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("this machine"),
            Self::Network(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Network(IpAddr::V6(network)) => write!(f, "{network}/64"),
            Self::Untold => f.write_str("untold"),
        }
    }
}

impl Origin {
    /// Of a client that is not behind a trusted proxy; None: on a unix socket.
    pub(crate) fn of_connection(address: Option<IpAddr>) -> Self {
        match address.map(|address| address.to_canonical()) {
            None => Self::Local,
            Some(address) if address.is_loopback() => Self::Local,
            Some(address) => Self::network(address),
        }
    }

    /// None: this machine, or not told.
    pub(crate) fn address(self) -> Option<IpAddr> {
        match self {
            Self::Network(address) => Some(address),
            Self::Local | Self::Untold => None,
        }
    }

    pub(crate) fn network(address: IpAddr) -> Self {
        Self::Network(match address.to_canonical() {
            IpAddr::V6(address) => {
                let mut segments = address.segments();
                segments[4..].fill(0);
                Ipv6Addr::from(segments).into()
            }
            address => address,
        })
    }
}
