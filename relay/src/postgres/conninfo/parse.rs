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

/// Of libpq's others: to pass over `sslcrl` or `require_auth` would be to give less than was asked for.
const UNSUPPORTED: &[&str] = &[
    "gssdelegation",
    "load_balance_hosts",
    "max_protocol_version",
    "min_protocol_version",
    "oauth_client_id",
    "oauth_client_secret",
    "oauth_issuer",
    "oauth_scope",
    "replication",
    "require_auth",
    "requirepeer",
    "requiressl",
    "scram_client_key",
    "scram_server_key",
    "service",
    "servicefile",
    "sslcertmode",
    "sslcrl",
    "sslcrldir",
    "sslkeylogfile",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslnegotiation",
    "sslpassword",
];

/// Without meaning here, and harmless to pass over.
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
    let mut given = parameters(text)?;
    for (name, variable) in KNOWN {
        if let Some(value) = lookup(variable).filter(|value| !value.is_empty()) {
            // A parameter that the text leaves empty is its default, not the variable.
            given.entry((*name).to_owned()).or_insert(value);
        }
    }
    given.retain(|_, value| !value.is_empty());
    build(&given, lookup)
}

/// What the text alone says.
pub(super) fn parameters(text: &str) -> Result<Parameters, String> {
    let url = ["postgres://", "postgresql://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    match url {
        Some(rest) => parse_url(rest),
        None => parse_pairs(text),
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

fn number<T: FromStr>(given: &Parameters, name: &str) -> Result<Option<T>, String>
where
    T::Err: Display,
{
    given
        .get(name)
        .map(|text| text.trim().parse().map_err(|error| format!("{name} is not a number ({error})")))
        .transpose()
}

/// What to do about a character that means something else where it stands.
const ENCODE: &str = "in a connection URL, write such characters of user, password and values percent-encoded: \
                      @ as %40, / as %2F, : as %3A, ? as %3F, # as %23, % as %25, = as %3D, & as %26";

/// `[user[:password]@][host[:port],…][/dbname][?name=value&…]`, all percent-encoded. Where each part ends is libpq's
/// rule: credentials at the first `@` before any `/`, so that a password may hold a `?` as it is, and no `/` or `@`.
fn parse_url(rest: &str) -> Result<Parameters, String> {
    let mut given = Parameters::new();
    let credentials_end = rest.find(['@', '/']).filter(|&end| rest[end..].starts_with('@'));
    let (credentials, rest) = match credentials_end {
        Some(end) => (Some(&rest[..end]), &rest[end + 1..]),
        None => (None, rest),
    };
    let (user, password) = credentials.map_or(("", ""), |text| text.split_once(':').unwrap_or((text, "")));
    put_if_there(&mut given, "user", user)?;
    put_if_there(&mut given, "password", password)?;

    let (hosts, ports, rest) = parse_hosts(rest)?;
    let (database, query) = match rest.strip_prefix('/') {
        Some(rest) => rest.split_once('?').unwrap_or((rest, "")),
        None => ("", rest.strip_prefix('?').unwrap_or_default()),
    };
    let is_misplaced = hosts.contains('@') || ports.contains('@');
    if is_misplaced || (credentials.is_none() && database.contains('@')) {
        return Err(format!("the user or the password ends in the wrong place; {ENCODE}"));
    }
    put_if_there(&mut given, "host", &hosts)?;
    put_if_there(&mut given, "port", &ports)?;
    put_if_there(&mut given, "dbname", database)?;
    parse_query(query, &mut given)?;
    Ok(given)
}

/// The lists of hosts and of ports, and what follows them: nothing, or a `/` or `?` and more.
fn parse_hosts(mut rest: &str) -> Result<(String, String, &str), String> {
    let (mut hosts, mut ports) = (String::new(), String::new());
    let split = |text: &'_ str, at: &[char]| text.find(at).unwrap_or(text.len());
    loop {
        let (host, mut after) = match rest.strip_prefix('[') {
            Some(address) => {
                let (address, after) = address.split_once(']').ok_or("an IPv6 address has no closing ]")?;
                if address.is_empty() {
                    return Err("between [ and ] there is no IPv6 address".to_owned());
                }
                if !after.is_empty() && !after.starts_with([':', '/', '?', ',']) {
                    return Err("only a colon and a port, or another host, may follow ]".to_owned());
                }
                (address, after)
            }
            None => rest.split_at(split(rest, &[':', '/', '?', ','])),
        };
        hosts.push_str(host);
        if let Some(port) = after.strip_prefix(':') {
            let (port, behind) = port.split_at(split(port, &['/', '?', ',']));
            ports.push_str(port);
            after = behind;
        }
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None => return Ok((hosts, ports, after)),
        }
        hosts.push(',');
        // Also where no host has one: then all have the default, whatever PGPORT says.
        ports.push(',');
    }
}

/// `name=value`, with `&` between them, or at the end.
fn parse_query(mut query: &str, given: &mut Parameters) -> Result<(), String> {
    while !query.is_empty() {
        let (pair, rest) = query.split_once('&').unwrap_or((query, ""));
        query = rest;
        let (name, value) = pair
            .split_once('=')
            .filter(|(_, value)| !value.contains('='))
            .ok_or_else(|| format!("a parameter behind the ? is not name=value; {ENCODE}"))?;
        let (name, value) = (decode(name)?, decode(value));
        // JDBC's manner, which libpq takes too.
        if name == "ssl" && value.as_deref() == Ok("true") {
            given.insert("sslmode".to_owned(), "require".to_owned());
            continue;
        }
        check_known(&name).map_err(|problem| format!("{problem}; {ENCODE}"))?;
        given.insert(name, value?);
    }
    Ok(())
}

/// A part of a URL that is empty says nothing: the variable decides.
fn put_if_there(given: &mut Parameters, name: &str, text: &str) -> Result<(), String> {
    if !text.is_empty() {
        given.insert(name.to_owned(), decode(text)?);
    }
    Ok(())
}

/// Each `%` must begin a byte in two hexadecimal digits, and none may be zero.
fn decode(text: &str) -> Result<String, String> {
    let bytes = text.as_bytes();
    let is_encoded = |at: usize| {
        bytes
            .get(at + 1..at + 3)
            .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit) && digits != b"00")
    };
    if !text.match_indices('%').all(|(at, _)| is_encoded(at)) {
        return Err(format!("a % does not begin a percent-encoded character; {ENCODE}"));
    }
    let decoded = percent_decode_str(text).decode_utf8();
    Ok(decoded.map_err(|_| "what is percent-encoded in the connection URL is not UTF-8")?.into_owned())
}

/// Names libpq's parameters only: any other may be a part of a password that ended too soon.
fn check_known(name: &str) -> Result<(), String> {
    if KNOWN.iter().any(|(known, _)| *known == name) || IGNORED.contains(&name) {
        return Ok(());
    }
    Err(match UNSUPPORTED.contains(&name) {
        true => format!("connection parameter {name} is not supported"),
        false => "one of the connection parameters is none that libpq knows".to_owned(),
    })
}

/// `name = value …`, values in single quotes where they have spaces, with `\` before `'` and `\`.
fn parse_pairs(text: &str) -> Result<Parameters, String> {
    const QUOTE: &str = "a value with spaces stands in single quotes, with \\ before each ' and \\ in it";
    let mut given = Parameters::new();
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or_else(|| match given.is_empty() {
            true => "it is neither a URL (postgres://USER:PASSWORD@HOST:PORT/DATABASE) nor name=value pairs"
                .to_owned(),
            false => format!("something that is not name=value follows a value; {QUOTE}"),
        })?;
        let name = name.trim_end_matches(is_space);
        if name.is_empty() || name.contains(is_space) {
            return Err(format!("a parameter of the connection string has no = and value; {QUOTE}"));
        }
        check_known(name).map_err(|problem| format!("{problem}; {QUOTE}"))?;
        let after = after.trim_start_matches(is_space);
        let quoted = after.strip_prefix('\'');
        let mut value = String::new();
        let mut characters = quoted.unwrap_or(after).chars();
        loop {
            match (characters.next(), quoted.is_some()) {
                (Some('\''), true) | (None, false) => break,
                (None, true) => return Err(format!("the value of {name} has no closing quote; {QUOTE}")),
                (Some('\\'), _) => value.extend(characters.next()),
                (Some(space), false) if is_space(space) => break,
                (Some(character), _) => value.push(character),
            }
        }
        given.insert(name.to_owned(), value);
        rest = characters.as_str().trim_start_matches(is_space);
    }
    Ok(given)
}

/// C's `isspace`.
fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
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
    fn a_password_in_a_url_ends_where_libpq_ends_it() {
        for password in
            ["pa?ss", "pa:ss", "pa#ss", "pa&ss=1", "pa+ss", "pa,ss", "pa[ss]", "pa ss", r"pa\ss", "p\u{e4}"]
        {
            let url = format!("postgres://u:{password}@h:1/d?sslmode=disable");
            assert_eq!(check(&url, &["h:1"]).password.as_deref(), Some(password), "{url}");
        }
        let encoded = check("postgres://u:%40%2F%3a%3F%23%25%3D%26@h", &["h:5432"]);
        assert_eq!(encoded.password.as_deref(), Some("@/:?#%=&"));
        assert_eq!(check("postgres://u@h?ssl=true", &["h:5432"]).ssl_mode, SslMode::Require);
        assert_eq!(check("postgres://u:p@h/d@b", &["h:5432"]).database(), "d@b");
        assert_eq!(check("postgres://u@h?dbname=d", &["h:5432"]).database(), "d");
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

    /// As libpq reads them: fuzz/fuzz_targets/conninfo.rs asks it.
    #[test]
    fn what_a_text_leaves_empty_is_the_default_and_not_the_variable() {
        let lookup = |name: &str| match name {
            "PGHOST" => Some("elsewhere".to_owned()),
            "PGPORT" => Some("6000".to_owned()),
            "PGDATABASE" => Some("other".to_owned()),
            _ => None,
        };
        for (text, hosts, database) in [
            ("postgres://u@h/d", &["h:6000"][..], "d"),
            ("postgres://u@a,b", &["a:5432", "b:5432"], "other"),
            ("postgres://u@a,b:7000/", &["a:5432", "b:7000"], "other"),
            ("postgres://u@/d?host=", &["/var/run/postgresql:6000"], "d"),
            ("postgres://u@h?port=&dbname=", &["h:5432"], "u"),
            ("user=u host='' port=''", &["/var/run/postgresql:5432"], "other"),
        ] {
            let conninfo = Conninfo::parse(text, lookup).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(
                (hosts_of(&conninfo).as_slice(), conninfo.database()),
                (&hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>()[..], database),
                "{text}"
            );
        }
    }

    #[test]
    fn the_parts_of_a_url_end_where_libpq_ends_them() {
        let ssl = check("postgres://u@h/d?s%73l=tru%65&", &["h:5432"]);
        assert_eq!(ssl.ssl_mode, SslMode::Require);
        check("postgres://u@[fe80::1%25eth0]:1/d", &["fe80::1%eth0:1"]);
        for text in [
            "postgres://u@h/d?&sslmode=disable",
            "postgres://u@h/d?sslmode=disable&&port=1",
            "postgres://u@[]/d",
            "postgres://u@[::1]7000/d",
        ] {
            assert!(Conninfo::parse(text, none).is_err(), "{text}");
        }
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
            // Parts of a password where something else is expected.
            "postgres://u:x/hunter2@h/d",
            "postgres://u:1/hunter2@h/d",
            "postgres://u:x@hunter2@h/d",
            "postgres://u:hunter2%@h/d",
            "postgres://u:hunter2%zz@h/d",
            "postgres://u:hunter2%00@h/d",
            "postgres://u@h/d?password=hunter2=x",
            "postgres://u@h/d?password=x&hunter2",
            "postgres://u@h/d?password=x&hunter2=",
            "postgres://u@h/d?ssl=hunter2",
            "user=u password=x hunter2=x",
            "user=u password=x hunter2",
            "user=u password='x' hunter2='x",
            "jdbc:postgresql://h/d?user=u&password=hunter2",
        ] {
            let error = Conninfo::parse(text, none).err().unwrap_or_else(|| panic!("{text} passes"));
            assert!(!error.contains("hunter2"), "{error}");
        }
        for (text, advice) in [
            ("postgres://u:x/y@h/d", "/ as %2F"),
            ("postgres://u:x@y@h/d", "@ as %40"),
            ("postgres://u:50%@h/d", "% as %25"),
            ("user=u password=x y", "single quotes"),
            ("user=u sslcrl=/crl", "connection parameter sslcrl is not supported"),
        ] {
            let error = Conninfo::parse(text, none).unwrap_err();
            assert!(error.contains(advice), "{text}: {error}");
        }
        let conninfo = Conninfo::parse("user=u password=hunter2", none).unwrap();
        assert!(!format!("{conninfo:?}").contains("hunter2"));
    }
}
