//! From text to parameters to `Conninfo`.

use std::collections::HashMap;
use std::fmt::Display;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::percent_decode_str;

use super::{
    CONNECT_TIMEOUT, ChannelBinding, ClientCertificate, Conninfo, Host, HostAddress, Roots, SslMode,
};

type Parameters = HashMap<String, String>;

/// What we honour, and the variable that stands in for it.
const KNOWN: &[(&str, &str)] = &[
    ("host", "PGHOST"),
    ("hostaddr", "PGHOSTADDR"),
    ("port", "PGPORT"),
    ("user", "PGUSER"),
    ("password", "PGPASSWORD"),
    ("passfile", "PGPASSFILE"),
    ("dbname", "PGDATABASE"),
    ("options", "PGOPTIONS"),
    ("application_name", "PGAPPNAME"),
    ("connect_timeout", "PGCONNECT_TIMEOUT"),
    ("tcp_user_timeout", ""),
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
    ("channel_binding", "PGCHANNELBINDING"),
    ("target_session_attrs", "PGTARGETSESSIONATTRS"),
];

/// Without meaning here, and harmless to pass over. Everything else is refused: to pass over `sslcrl` or
/// `require_auth` would be to give less than was asked for.
const IGNORED: &[&str] = &[
    "client_encoding",
    "fallback_application_name",
    "gssencmode",
    "gsslib",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "krbsrvname",
    "sslcompression",
    "sslsni",
];

const SOCKET_DIRECTORY: &str = "/var/run/postgresql";
const PORT: u16 = 5432;

pub(super) fn parse(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Conninfo, String> {
    let url = ["postgres://", "postgresql://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let mut given = match url {
        Some(rest) => parse_url(rest)?,
        None => parse_pairs(text)?,
    };
    // A URL of JDBC's manner, which libpq takes too.
    if given.remove("ssl").is_some_and(|value| value == "true") {
        given.entry("sslmode".to_owned()).or_insert_with(|| "require".to_owned());
    }
    for name in given.keys() {
        let is_known = KNOWN.iter().any(|(known, _)| known == name);
        if !is_known && !IGNORED.contains(&name.as_str()) {
            return Err(format!("connection parameter {name:?} is not supported"));
        }
    }
    for (name, variable) in KNOWN {
        if let Some(value) = lookup(variable).filter(|value| !value.is_empty()) {
            given.entry((*name).to_owned()).or_insert(value);
        }
    }
    given.retain(|_, value| !value.is_empty());
    build(&given, lookup)
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
        hosts: hosts(given)?,
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

/// Hosts, addresses and ports are lists that go together; one port may serve all.
fn hosts(given: &Parameters) -> Result<Vec<Host>, String> {
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
            Some(port) => port.parse().map_err(|_| "port is not a port number".to_owned())?,
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

fn number<T: FromStr>(given: &Parameters, name: &str) -> Result<Option<T>, String>
where
    T::Err: Display,
{
    given
        .get(name)
        .map(|text| text.trim().parse().map_err(|error| format!("{name} is not a number ({error})")))
        .transpose()
}

/// `[user[:password]@][host[:port],…][/dbname][?name=value&…]`, all percent-encoded.
fn parse_url(rest: &str) -> Result<Parameters, String> {
    let mut given = Parameters::new();
    let mut put = |name: &str, text: &str| -> Result<(), String> {
        let value = percent_decode_str(text)
            .decode_utf8()
            .map_err(|_| format!("{name} in the connection URL is not UTF-8"))?;
        given.insert(name.to_owned(), value.into_owned());
        Ok(())
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
    put("dbname", database)?;
    let (credentials, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    put("user", user)?;
    put("password", password)?;
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for host in hosts.split(',') {
        let after_address = host.strip_prefix('[').and_then(|host| host.split_once(']'));
        let (name, port) = match after_address {
            Some((address, "")) => (address, ""),
            Some((address, port)) => (address, port.strip_prefix(':').ok_or("a colon must follow ]")?),
            None => host.split_once(':').unwrap_or((host, "")),
        };
        names.push(name);
        ports.push(port);
    }
    put("host", &names.join(","))?;
    if ports.iter().any(|port| !port.is_empty()) {
        put("port", &ports.join(","))?;
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or("a parameter in the connection URL has no value")?;
        put(name, value)?;
    }
    given.retain(|_, value| !value.is_empty());
    Ok(given)
}

/// `name = value …`, values in single quotes where they have spaces, with `\` before `'` and `\`.
fn parse_pairs(text: &str) -> Result<Parameters, String> {
    let mut given = Parameters::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or(
            "it is neither a URL (postgres://USER:PASSWORD@HOST:PORT/DATABASE) nor name=value pairs",
        )?;
        let name = name.trim_end();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err("a parameter of the connection string has no = and value".to_owned());
        }
        let after = after.trim_start();
        let quoted = after.strip_prefix('\'');
        let mut value = String::new();
        let mut characters = quoted.unwrap_or(after).chars();
        loop {
            match (characters.next(), quoted.is_some()) {
                (Some('\''), true) | (None, false) => break,
                (None, true) => return Err(format!("the value of {name:?} has no closing quote")),
                (Some('\\'), _) => value.extend(characters.next()),
                (Some(space), false) if space.is_whitespace() => break,
                (Some(character), _) => value.push(character),
            }
        }
        given.insert(name.to_owned(), value);
        rest = characters.as_str().trim_start();
    }
    Ok(given)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none(_: &str) -> Option<String> {
        None
    }

    /// Hosts as `name:port`, with the address or directory where that differs.
    fn hosts_of(conninfo: &Conninfo) -> Vec<String> {
        let show = |host: &Host| match &host.address {
            HostAddress::Unix(directory) => format!("{}:{}", directory.display(), host.port),
            HostAddress::Tcp { name, ip: None } => format!("{name}:{}", host.port),
            HostAddress::Tcp { name, ip: Some(ip) } => format!("{name}({ip}):{}", host.port),
        };
        conninfo.hosts.iter().map(show).collect()
    }

    fn check(text: &str, hosts: &[&str]) -> Conninfo {
        let conninfo = Conninfo::parse(text, none).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(hosts_of(&conninfo), hosts, "{text}");
        conninfo
    }

    #[test]
    fn hosts_addresses_and_ports_go_together() {
        check("user=u", &["/var/run/postgresql:5432"]);
        check("host=h user=u", &["h:5432"]);
        check("host=/tmp,h port=6000,6001 user=u", &["/tmp:6000", "h:6001"]);
        check("host=a,b port=6000 user=u", &["a:6000", "b:6000"]);
        check("host=db.example hostaddr=127.0.0.3 user=u", &["db.example(127.0.0.3):5432"]);
        check("postgres://u@%2Frun%2Fpg:7000/d", &["/run/pg:7000"]);
        check("postgresql://u@[::1]:7000,h/d", &["::1:7000", "h:5432"]);
        check("postgres://u@/d?host=/tmp&port=1", &["/tmp:1"]);
    }

    #[test]
    fn a_url_and_pairs_say_the_same() {
        let texts = [
            "postgres://us%65r:pa%3Ass@h/d?sslmode=verify-ca&application_name=a%20b",
            r"user=user password='pa:ss' host=h dbname = d sslmode=verify-ca application_name='a b'",
        ];
        for text in texts {
            let conninfo = check(text, &["h:5432"]);
            assert_eq!((conninfo.user(), conninfo.database()), ("user", "d"));
            assert_eq!(conninfo.password.as_deref(), Some("pa:ss"));
            assert_eq!(conninfo.ssl_mode, SslMode::VerifyCa);
            assert_eq!(conninfo.application_name, "a b");
        }
        let quoted = check(r"host=h user=u password='it\'s \\'", &["h:5432"]);
        assert_eq!(quoted.password.as_deref(), Some(r"it's \"));
    }

    #[test]
    fn variables_fill_what_the_text_leaves_out() {
        let lookup = |name: &str| {
            let value = match name {
                "PGHOST" => "db.internal",
                "PGPORT" => "6432",
                "PGUSER" => "relay",
                "PGPASSWORD" => "secret",
                "PGSSLMODE" => "verify-full",
                "PGSSLROOTCERT" => "/ca.crt",
                "PGSSLCERT" => "/client.crt",
                "PGSSLKEY" => "/client.key",
                "PGCONNECT_TIMEOUT" => "3",
                "PGCHANNELBINDING" => "require",
                "PGTARGETSESSIONATTRS" => "primary",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let conninfo = Conninfo::parse("", lookup).unwrap();
        assert_eq!(hosts_of(&conninfo), ["db.internal:6432"]);
        assert_eq!((conninfo.user(), conninfo.database()), ("relay", "relay"));
        assert_eq!(conninfo.ssl_mode, SslMode::VerifyFull);
        assert_eq!(conninfo.root_certificates, Roots::File("/ca.crt".into()));
        assert_eq!(conninfo.client_certificate.as_ref().unwrap().key, PathBuf::from("/client.key"));
        assert_eq!(conninfo.connect_timeout, Duration::from_secs(3));
        assert_eq!(conninfo.channel_binding, ChannelBinding::Require);
        let conninfo = Conninfo::parse("postgres://a@h:1/d?sslmode=disable", lookup).unwrap();
        assert_eq!(hosts_of(&conninfo), ["h:1"]);
        assert_eq!((conninfo.user(), conninfo.database()), ("a", "d"));
        assert_eq!(conninfo.ssl_mode, SslMode::Disable);
    }

    #[test]
    fn the_systems_roots_demand_the_name_too() {
        assert_eq!(check("host=h user=u sslrootcert=system", &["h:5432"]).ssl_mode, SslMode::VerifyFull);
        assert!(Conninfo::parse("user=u sslrootcert=system sslmode=require", none).is_err());
    }

    #[test]
    fn what_is_wrong_is_named_and_no_password_is_quoted() {
        for text in [
            "postgres://u:hunter2@h:notaport/d",
            "user=u password=hunter2 sslmode=maybe",
            "user=u password=hunter2 sslcrl=/crl",
            "user=u password=hunter2 sslcert=/only",
            "user=u password=hunter2 target_session_attrs=standby",
            "user=u password='hunter2",
            "hunter2",
            "password=hunter2",
            "postgres://u:hunter2@h/d?sslmode",
            "user=u password=hunter2 connect_timeout=soon",
        ] {
            let error = Conninfo::parse(text, none).err().unwrap_or_else(|| panic!("{text} passes"));
            assert!(!error.contains("hunter2"), "{error}");
        }
        let conninfo = Conninfo::parse("user=u password=hunter2", none).unwrap();
        assert!(!format!("{conninfo:?}").contains("hunter2"));
    }
}
