//! From connection settings to a socket that is ready for a startup packet: TCP with or without TLS, or unix.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream, lookup_host};

use super::tls;
use crate::postgres::PostgresError;
use crate::postgres::conninfo::{Conninfo, Host, HostAddress, SslMode};

/// A host that vanished is found after 10 + 3 × 5 s, and one that leaves our bytes unacknowledged after 30 s. The
/// kernel's defaults are hours.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
const USER_TIMEOUT: Duration = Duration::from_secs(30);

pub(in crate::postgres) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A way to the server, before anybody has logged in.
pub(in crate::postgres) struct Line {
    pub(in crate::postgres) socket: Box<dyn Duplex>,
    pub(in crate::postgres) is_tls: bool,
    /// The server's `tls-server-end-point`, if its certificate has one.
    pub(in crate::postgres) binding: Option<Vec<u8>>,
}

/// One address to try, and whether to ask for TLS there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::postgres) struct Attempt {
    pub(in crate::postgres) host: Host,
    address: Address,
    asks_tls: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// What is left to try, and what went wrong so far.
pub(in crate::postgres) struct Attempts {
    left: std::vec::IntoIter<Attempt>,
    current: Option<Attempt>,
    error: Option<PostgresError>,
}

impl Attempts {
    /// All addresses, in the order of the hosts and of the resolver, each as often as `sslmode` has ways to it.
    pub(in crate::postgres) async fn new(conninfo: &Conninfo) -> Attempts {
        let (mut attempts, mut error) = (Vec::new(), None);
        for host in &conninfo.hosts {
            let ways: &[bool] = match (&host.address, conninfo.ssl_mode) {
                (HostAddress::Unix(_), _) | (_, SslMode::Disable) => &[false],
                (_, SslMode::Allow) => &[false, true],
                (_, SslMode::Prefer) => &[true, false],
                (_, SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull) => &[true],
            };
            match addresses(host).await {
                Ok(addresses) => {
                    for address in addresses {
                        for &asks_tls in ways {
                            attempts.push(Attempt { host: host.clone(), address: address.clone(), asks_tls });
                        }
                    }
                }
                Err(unresolved) => error = Some(unresolved),
            }
        }
        Attempts { left: attempts.into_iter(), current: None, error }
    }

    pub(in crate::postgres) fn next(&mut self) -> Option<Attempt> {
        let next = self.left.next()?;
        // The other way to the same address is worth it only if this one failed by being what it is (`failed`).
        self.current = Some(next.clone());
        Some(next)
    }

    /// Goes on after a failure that another attempt may not have. A refusal of the password is final; hosts after it
    /// are not asked.
    pub(in crate::postgres) fn failed(&mut self, error: PostgresError) -> Result<(), PostgresError> {
        let is_of_this_way = matches!(&error, PostgresError::Tls { .. })
            || matches!(&error, PostgresError::Authentication(server) if server.code == "28000");
        let other_way = match (&self.current, self.left.as_slice().first()) {
            (Some(current), Some(next)) => current.address == next.address,
            _ => false,
        };
        if other_way && !is_of_this_way {
            self.left.next();
        }
        if error.is_retryable() || (other_way && is_of_this_way) {
            // Of two refusals by the same host the first is the one that was meant.
            self.error.get_or_insert(error);
            return Ok(());
        }
        Err(match self.error.take() {
            Some(first) if is_of_this_way => first,
            _ => error,
        })
    }

    pub(in crate::postgres) fn into_error(self) -> PostgresError {
        self.error.unwrap_or_else(|| {
            let source = io::Error::new(io::ErrorKind::NotFound, "no address to connect to");
            PostgresError::Connect { address: "(none)".to_owned(), source }
        })
    }
}

impl Attempt {
    pub(in crate::postgres) async fn dial(&self, conninfo: &Conninfo) -> Result<Line, PostgresError> {
        let failed = |source| PostgresError::Connect { address: self.to_string(), source };
        let plain = |socket| Line { socket, is_tls: false, binding: None };
        match &self.address {
            Address::Unix(path) => Ok(plain(Box::new(UnixStream::connect(path).await.map_err(failed)?))),
            Address::Tcp(address) => {
                let mut stream = connect(*address, conninfo).await.map_err(failed)?;
                if !self.asks_tls {
                    return Ok(plain(Box::new(stream)));
                }
                if !offers_tls(&mut stream).await.map_err(failed)? {
                    return if conninfo.ssl_mode >= SslMode::Require {
                        Err(PostgresError::TlsUnavailable { address: self.to_string() })
                    } else {
                        Ok(plain(Box::new(stream)))
                    };
                }
                let HostAddress::Tcp { name, .. } = &self.host.address else {
                    return Ok(plain(Box::new(stream)));
                };
                let secured = tls::secure(conninfo, name, &self.to_string(), stream).await?;
                Ok(Line { socket: Box::new(secured.stream), is_tls: true, binding: secured.binding })
            }
        }
    }
}

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(path) => path.display().fmt(f),
        }
    }
}

async fn addresses(host: &Host) -> Result<Vec<Address>, PostgresError> {
    match &host.address {
        HostAddress::Unix(directory) => {
            Ok(vec![Address::Unix(directory.join(format!(".s.PGSQL.{}", host.port)))])
        }
        HostAddress::Tcp { ip: Some(ip), .. } => Ok(vec![Address::Tcp(SocketAddr::new(*ip, host.port))]),
        HostAddress::Tcp { name, ip: None } => match lookup_host((name.as_str(), host.port)).await {
            Ok(addresses) => Ok(addresses.map(Address::Tcp).collect()),
            Err(source) => Err(PostgresError::Connect { address: format!("{name}:{}", host.port), source }),
        },
    }
}

async fn connect(address: SocketAddr, conninfo: &Conninfo) -> io::Result<TcpStream> {
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
    socket.set_tcp_user_timeout(Some(conninfo.tcp_user_timeout.unwrap_or(USER_TIMEOUT)))?;
    Ok(stream)
}

/// Asks by SSLRequest. Reads one byte and no more: what somebody between us and the server put behind it must not be
/// taken for the server's.
async fn offers_tls(stream: &mut TcpStream) -> io::Result<bool> {
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    stream.write_all(&request).await?;
    match stream.read_u8().await? {
        b'S' => Ok(true),
        b'N' => Ok(false),
        // An error, whose text nobody has vouched for.
        _ => Err(io::Error::new(
            io::ErrorKind::ConnectionRefused,
            "the server refused before TLS; see its log",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::ServerError;

    async fn check(text: &str, expected: &[&str]) {
        let conninfo = Conninfo::parse(text, |_| None).expect("a connection string");
        let attempts = Attempts::new(&conninfo).await;
        let show = |attempt: Attempt| format!("{attempt}{}", if attempt.asks_tls { " tls" } else { "" });
        let shown: Vec<String> = attempts.left.map(show).collect();
        assert_eq!(shown, expected, "{text}");
    }

    #[tokio::test]
    async fn every_host_is_tried_in_the_ways_of_its_sslmode() {
        check("host=127.0.0.1 user=u", &["127.0.0.1:5432 tls", "127.0.0.1:5432"]).await;
        check("host=127.0.0.1 user=u sslmode=allow", &["127.0.0.1:5432", "127.0.0.1:5432 tls"]).await;
        check(
            "host=/tmp,127.0.0.1 port=6000,6001 user=u sslmode=require",
            &["/tmp/.s.PGSQL.6000", "127.0.0.1:6001 tls"],
        )
        .await;
        check("host=a hostaddr=127.0.0.2 user=u sslmode=disable", &["127.0.0.2:5432"]).await;
    }

    #[tokio::test]
    async fn the_other_way_is_tried_only_after_a_refusal_of_this_one() {
        let conninfo = Conninfo::parse("host=127.0.0.1,127.0.0.2 user=u", |_| None).expect("parsed");
        let refused = || {
            let error = ServerError { code: "28000".into(), message: "no entry".into(), hint: None };
            PostgresError::Authentication(error)
        };
        let mut attempts = Attempts::new(&conninfo).await;
        assert_eq!(attempts.next().map(|attempt| attempt.asks_tls), Some(true));
        attempts.failed(refused()).expect("the other way is left");
        assert_eq!(attempts.next().map(|attempt| attempt.asks_tls), Some(false));
        assert!(attempts.failed(refused()).is_err(), "both ways are refused");

        let mut attempts = Attempts::new(&conninfo).await;
        attempts.next();
        attempts.failed(PostgresError::Standby).expect("another host is left");
        assert_eq!(attempts.next().map(|attempt| attempt.to_string()).as_deref(), Some("127.0.0.2:5432"));
    }
}
