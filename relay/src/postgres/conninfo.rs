//! Where Postgres is and how to get in, as libpq understands it: a URL or `key=value` pairs, and PG* variables for
//! what they leave out. One type for both connections, the replicating one and ordinary SQL, so that they cannot differ.

mod parse;
mod passfile;

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// libpq waits for ever; a relay that does helps nobody.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub struct Conninfo {
    /// In the order in which they are tried; never empty.
    pub(super) hosts: Vec<Host>,
    pub(super) user: String,
    pub(super) database: String,
    password: Option<String>,
    /// Read at each connect, so that a rotated password needs no restart.
    passfile: Option<PathBuf>,
    pub(super) application_name: String,
    pub(super) options: Option<String>,
    pub(super) connect_timeout: Duration,
    pub(super) tcp_user_timeout: Option<Duration>,
    pub(super) ssl_mode: SslMode,
    pub(super) root_certificates: Roots,
    pub(super) client_certificate: Option<ClientCertificate>,
    pub(super) channel_binding: ChannelBinding,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    pub(super) address: HostAddress,
    pub(super) port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HostAddress {
    /// The directory of the socket.
    Unix(PathBuf),
    /// The name is what the certificate must carry; `ip` saves asking the resolver for it (`hostaddr`).
    Tcp { name: String, ip: Option<IpAddr> },
}

/// libpq's. Over a unix socket there is never TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SslMode {
    Disable,
    Allow,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// What a server's certificate is held against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Roots {
    /// A file that may be missing where nothing is to be verified (libpq's `~/.postgresql/root.crt`).
    File(PathBuf),
    /// The operating system's.
    System,
    None,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ClientCertificate {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    /// libpq's default files, which are used only if they are there.
    pub(super) is_optional: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChannelBinding {
    Disable,
    Prefer,
    Require,
}

impl Conninfo {
    /// Reads a connection URL or string; `lookup` gives environment variables.
    ///
    /// # Errors
    /// A sentence that names the parameter, and never quotes the text, which may hold a password.
    pub fn parse(text: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<Conninfo, String> {
        parse::parse(text, &lookup)
    }

    /// What the text alone says, by libpq's names of parameters: without variables, and before anything is made of it.
    ///
    /// # Errors
    /// As [`Conninfo::parse`].
    pub fn parameters(text: &str) -> Result<HashMap<String, String>, String> {
        parse::parameters(text)
    }

    pub fn user(&self) -> &str {
        &self.user
    }

    pub fn database(&self) -> &str {
        &self.database
    }

    /// For a session in another database of the same server.
    #[must_use]
    pub fn with_database(mut self, database: &str) -> Conninfo {
        database.clone_into(&mut self.database);
        self
    }

    /// Given directly, or what the passfile has for this host.
    pub(super) fn password(&self, host: &Host) -> Option<String> {
        self.password.clone().or_else(|| {
            let file = self.passfile.as_ref()?;
            passfile::password(file, host, &self.database, &self.user)
        })
    }
}

impl fmt::Debug for Conninfo {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conninfo")
            .field("hosts", &self.hosts)
            .field("user", &self.user)
            .field("database", &self.database)
            .field("ssl_mode", &self.ssl_mode)
            .field("root_certificates", &self.root_certificates)
            .field("channel_binding", &self.channel_binding)
            .finish_non_exhaustive()
    }
}
