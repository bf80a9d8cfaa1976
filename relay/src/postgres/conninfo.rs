//! Where Postgres is and how to get in, as libpq understands it: a URL or `key=value` pairs, and PG* variables for
//! what they leave out. One type for both connections, the replicating one and ordinary SQL, so that they cannot differ.

mod host;
mod parameters;
mod passfile;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use self::parameters::{Parameters, number};

pub(super) use self::host::{Host, HostAddress};

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
        build(&parameters::with_variables(text, &lookup)?, &lookup)
    }

    /// What the text alone says, by libpq's names of parameters: without variables, and before anything is made of it.
    ///
    /// # Errors
    /// As [`Conninfo::parse`].
    pub fn parameters(text: &str) -> Result<HashMap<String, String>, String> {
        parameters::parse(text)
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

fn build(given: &Parameters, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Conninfo, String> {
    let text = |name: &str| given.get(name).cloned();
    let user = text("user")
        .or_else(|| lookup("USER"))
        .ok_or("no database user: put it into CAMPFIRE_DATABASE_URL or PGUSER")?;
    let home = |file: &str| lookup("HOME").map(|home| PathBuf::from(home).join(file));

    let is_system = text("sslrootcert").as_deref() == Some("system");
    let ssl_mode = match text("sslmode").as_deref() {
        Some("disable") => SslMode::Disable,
        Some("allow") => SslMode::Allow,
        Some("prefer") => SslMode::Prefer,
        Some("require") => SslMode::Require,
        Some("verify-ca") => SslMode::VerifyCa,
        Some("verify-full") => SslMode::VerifyFull,
        // Anybody can have a certificate that the system trusts, so only the name tells something.
        None if is_system => SslMode::VerifyFull,
        None => SslMode::Prefer,
        Some(_) => {
            return Err("sslmode is disable, allow, prefer, require, verify-ca or verify-full".to_owned());
        }
    };
    if is_system && ssl_mode != SslMode::VerifyFull {
        return Err("sslrootcert=system needs sslmode=verify-full".to_owned());
    }
    let root_certificates = match text("sslrootcert") {
        Some(_) if is_system => Roots::System,
        Some(path) => Roots::File(path.into()),
        None => home(".postgresql/root.crt").map_or(Roots::None, Roots::File),
    };
    let client_certificate = match (text("sslcert"), text("sslkey")) {
        (Some(certificate), Some(key)) => Some((certificate.into(), key.into(), false)),
        (None, None) => home(".postgresql/postgresql.crt")
            .zip(home(".postgresql/postgresql.key"))
            .map(|(certificate, key)| (certificate, key, true)),
        _ => return Err("sslcert and sslkey belong together".to_owned()),
    };
    let channel_binding = match text("channel_binding").as_deref() {
        Some("disable") => ChannelBinding::Disable,
        Some("prefer") | None => ChannelBinding::Prefer,
        Some("require") => ChannelBinding::Require,
        Some(_) => return Err("channel_binding is disable, prefer or require".to_owned()),
    };
    match text("target_session_attrs").as_deref() {
        // The relay writes, so hosts that are standbys are passed over in any case.
        None | Some("any" | "read-write" | "primary") => {}
        Some("read-only" | "standby" | "prefer-standby") => {
            return Err("target_session_attrs must admit the primary: campfire streams from it".to_owned());
        }
        Some(_) => return Err("target_session_attrs is any, read-write or primary".to_owned()),
    }
    Ok(Conninfo {
        hosts: host::hosts(given)?,
        database: text("dbname").unwrap_or_else(|| user.clone()),
        user,
        password: text("password"),
        passfile: text("passfile").map(PathBuf::from).or_else(|| home(".pgpass")),
        application_name: text("application_name").unwrap_or_else(|| "campfire-relay".to_owned()),
        options: text("options"),
        connect_timeout: match number::<i64>(given, "connect_timeout")? {
            Some(seconds @ 1..) => Duration::from_secs(seconds.unsigned_abs()),
            // Zero and less mean for ever.
            Some(_) => Duration::MAX,
            None => CONNECT_TIMEOUT,
        },
        tcp_user_timeout: number(given, "tcp_user_timeout")?.map(Duration::from_millis),
        ssl_mode,
        root_certificates,
        client_certificate: client_certificate.map(|(certificate, key, is_optional)| ClientCertificate {
            certificate,
            key,
            is_optional,
        }),
        channel_binding,
    })
}
