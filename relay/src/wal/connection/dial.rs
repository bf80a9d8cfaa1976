//! From a connection string to a socket: TCP or unix.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio_postgres::Config;
use tokio_postgres::config::{ChannelBinding, Host, SslMode};

use crate::wal::WalError;

const PORT: u16 = 5432;
/// A host that vanished is found after 10 + 3 × 5 s, and one that leaves our bytes unacknowledged after 30 s. The
/// kernel's defaults are hours.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
const USER_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// One address to try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Endpoint {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Refuses a connection string that demands what we cannot give, rather than giving less in silence.
pub(super) fn check_tls(config: &Config) -> Result<(), WalError> {
    match (config.get_ssl_mode(), config.get_channel_binding()) {
        (SslMode::Require, _) => Err(WalError::TlsRequired { setting: "sslmode=require" }),
        (_, ChannelBinding::Require) => Err(WalError::TlsRequired { setting: "channel_binding=require" }),
        _ => Ok(()),
    }
}

impl Endpoint {
    /// All addresses, in the order of the hosts and of the resolver.
    pub(super) async fn all(config: &Config) -> Result<Vec<Endpoint>, WalError> {
        let mut endpoints = Vec::new();
        let mut unresolved = None;
        let addresses = config.get_hostaddrs();
        for index in 0..config.get_hosts().len().max(addresses.len()) {
            let port = port(config, index);
            match (addresses.get(index), config.get_hosts().get(index)) {
                (Some(&address), _) => endpoints.push(Endpoint::tcp(address, port)),
                (None, Some(Host::Tcp(name))) => match lookup_host((name.as_str(), port)).await {
                    Ok(resolved) => endpoints.extend(resolved.map(Endpoint::Tcp)),
                    Err(source) => {
                        unresolved = Some(WalError::Connect { address: format!("{name}:{port}"), source });
                    }
                },
                (None, Some(Host::Unix(directory))) => {
                    endpoints.push(Endpoint::Unix(directory.join(format!(".s.PGSQL.{port}"))));
                }
                (None, None) => {}
            }
        }
        match unresolved {
            Some(error) if endpoints.is_empty() => Err(error),
            _ => Ok(endpoints),
        }
    }

    fn tcp(address: IpAddr, port: u16) -> Endpoint {
        Endpoint::Tcp(SocketAddr::new(address, port))
    }

    pub(super) async fn dial(&self, config: &Config) -> io::Result<Box<dyn Duplex>> {
        match self {
            Endpoint::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
            Endpoint::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                // Status updates are small and must not wait for one another.
                stream.set_nodelay(true)?;
                let socket = SockRef::from(&stream);
                let keepalive = TcpKeepalive::new()
                    .with_time(KEEPALIVE_IDLE)
                    .with_interval(KEEPALIVE_INTERVAL)
                    .with_retries(KEEPALIVE_RETRIES);
                socket.set_tcp_keepalive(&keepalive)?;
                #[cfg(target_os = "linux")]
                socket.set_tcp_user_timeout(Some(
                    config.get_tcp_user_timeout().copied().unwrap_or(USER_TIMEOUT),
                ))?;
                Ok(Box::new(stream))
            }
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp(address) => address.fmt(f),
            Endpoint::Unix(path) => path.display().fmt(f),
        }
    }
}

/// A connection string has no port, one for all hosts, or one each.
fn port(config: &Config, index: usize) -> u16 {
    let ports = config.get_ports();
    ports.get(index).or(ports.first()).copied().unwrap_or(PORT)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(url: &str, expected: &[&str]) {
        let config: Config = url.parse().expect("a connection string");
        let endpoints = Endpoint::all(&config).await.expect("resolved");
        let shown: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
        assert_eq!(shown, expected, "{url}");
    }

    #[tokio::test]
    async fn every_host_gives_an_endpoint() {
        check("host=127.0.0.1 user=u", &["127.0.0.1:5432"]).await;
        check("host=/tmp,127.0.0.1 port=6000,6001", &["/tmp/.s.PGSQL.6000", "127.0.0.1:6001"]).await;
        check("host=127.0.0.1,127.0.0.2 port=6000", &["127.0.0.1:6000", "127.0.0.2:6000"]).await;
        check("host=db.example hostaddr=127.0.0.3", &["127.0.0.3:5432"]).await;
        check("postgres://u@%2Frun%2Fpg:7000/d", &["/run/pg/.s.PGSQL.7000"]).await;
    }

    #[test]
    fn tls_that_is_demanded_is_refused() {
        let check = |text: &str| check_tls(&text.parse().expect("a connection string")).is_ok();
        assert!(check("host=h"));
        assert!(check("host=h sslmode=disable"));
        assert!(!check("host=h sslmode=require"));
        assert!(!check("host=h channel_binding=require"));
    }
}
