//! Where the relay is reached: addresses of TCP, and unix sockets with the mode and group that a proxy needs.

use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixSocket, UnixStream};
use tokio_util::either::Either;
use tracing::info;

use super::listen_address::{Group, ListenAddress, Mode};

/// Connections that may wait to be accepted, unless the system allows fewer (`net.core.somaxconn`).
const BACKLOG: u32 = 4_096;

/// What the system takes of us and has not sent: of a client that does not read it would be up to 4 MiB
/// (`net.ipv4.tcp_wmem`), which no bound of the relay's counts. What is on its way is not bounded by this.
const UNSENT_BYTES_MAX: u32 = 128 << 10;

/// Where the relay is to be reached.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Serving")]
pub struct ListenSettings {
    /// Addresses to serve on, comma-separated: HOST:PORT or unix:PATH.
    #[arg(long, env = "CAMPFIRE_LISTEN", default_value = "127.0.0.1:8080", value_delimiter = ',')]
    pub listen: Vec<ListenAddress>,

    /// Addresses that serve /healthz, /readyz and /metrics alone, comma-separated. If set, no other address serves
    /// these paths.
    #[arg(long, env = "CAMPFIRE_METRICS_LISTEN", value_delimiter = ',')]
    pub metrics_listen: Vec<ListenAddress>,

    /// Permissions of the unix sockets, in octal as for chmod: 660. If unset, the umask decides.
    #[arg(long, env = "CAMPFIRE_UNIX_MODE")]
    pub unix_mode: Option<Mode>,

    /// Group of the unix sockets, by name or number. If unset, the relay's own.
    #[arg(long, env = "CAMPFIRE_UNIX_GROUP")]
    pub unix_group: Option<Group>,
}

/// What is bound, by what it serves.
pub(crate) struct Listeners {
    pub(crate) clients: Vec<Listener>,
    /// Health and metrics alone; if there are none, the others serve these too.
    pub(crate) metrics: Vec<Listener>,
}

impl ListenSettings {
    /// Binds all addresses.
    pub(crate) async fn bind(&self) -> Result<Listeners> {
        let bind = async |addresses: &[ListenAddress], setting: &str| {
            let mut listeners = Vec::new();
            for address in addresses {
                let (mode, group) = (self.unix_mode, self.unix_group.as_ref());
                listeners.push(Listener::bind(address, setting, mode, group).await?);
            }
            anyhow::Ok(listeners)
        };
        Ok(Listeners {
            clients: bind(&self.listen, "CAMPFIRE_LISTEN").await?,
            metrics: bind(&self.metrics_listen, "CAMPFIRE_METRICS_LISTEN").await?,
        })
    }
}

/// A bound address.
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

pub(super) type Stream = Either<TcpStream, UnixStream>;

impl Listener {
    /// Binds an address. `setting` is named if that fails; mode and group are a unix socket's.
    async fn bind(
        address: &ListenAddress,
        setting: &str,
        mode: Option<Mode>,
        group: Option<&Group>,
    ) -> Result<Self> {
        match address {
            ListenAddress::Tcp(address) => {
                let listener = bind_tcp(address)
                    .await
                    .with_context(|| format!("cannot listen on {address}; choose another with {setting}"))?;
                info!(address = %listener.local_addr()?, "listening");
                Ok(Self::Tcp(listener))
            }
            ListenAddress::Unix(path) => {
                let listener = bind_unix(path, mode, group)
                    .with_context(|| format!("cannot listen on unix:{}", path.display()))?;
                info!(path = %path.display(), "listening");
                Ok(Self::Unix(listener))
            }
        }
    }

    /// Where it is reached, for people.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Tcp(listener) => {
                listener.local_addr().map(|address| address.to_string()).unwrap_or_default()
            }
            Self::Unix(listener) => {
                let address = listener.local_addr().ok();
                let path = address.as_ref().and_then(|address| address.as_pathname());
                path.map(|path| format!("unix:{}", path.display())).unwrap_or_default()
            }
        }
    }

    /// The next connection, and where it comes from: None on a unix socket.
    pub(super) async fn accept(&self) -> io::Result<(Stream, Option<IpAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // A frame is a whole message: waiting to fill a segment only adds latency.
                stream.set_nodelay(true).ok();
                SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_BYTES_MAX).ok();
                Ok((Either::Left(stream), Some(address.ip())))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Either::Right(stream), None))
            }
        }
    }
}

/// As [`TcpListener::bind`], with room for all clients that come back at once.
async fn bind_tcp(address: &str) -> io::Result<TcpListener> {
    let mut failure = io::Error::new(io::ErrorKind::InvalidInput, "the name has no address");
    for address in tokio::net::lookup_host(address).await? {
        let bind = || {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            // A relay that was just stopped has left connections behind that the system has yet to forget.
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            socket.listen(BACKLOG)
        };
        match bind() {
            Ok(listener) => return Ok(listener),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn bind_unix(path: &Path, mode: Option<Mode>, group: Option<&Group>) -> Result<UnixListener> {
    // A socket file that nobody serves is left over from a relay that was killed.
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    if is_socket && std::os::unix::net::UnixStream::connect(path).is_err() {
        std::fs::remove_file(path).context("cannot replace what is left of another relay")?;
    }
    let socket = UnixSocket::new_stream()?;
    socket.bind(path)?;
    // Before anybody can connect.
    if let Some(group) = group {
        std::os::unix::fs::chown(path, None, Some(group.id())).with_context(|| {
            format!("cannot give it to group {group} (CAMPFIRE_UNIX_GROUP): the relay's user has to be a member of it")
        })?;
    }
    if let Some(mode) = mode {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode.bits()))
            .with_context(|| format!("cannot set mode {mode} (CAMPFIRE_UNIX_MODE)"))?;
    }
    Ok(socket.listen(BACKLOG)?)
}
