//! From a URL or `key=value` pairs to parameters by libpq's names.

use std::collections::HashMap;
use std::fmt::Display;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

pub(super) type Parameters = HashMap<String, String>;

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

/// What the text says, and the variables where it says nothing.
pub(super) fn with_variables(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Parameters, String> {
    let mut given = parse(text)?;
    for (name, variable) in KNOWN {
        if let Some(value) = lookup(variable).filter(|value| !value.is_empty()) {
            // A parameter that the text leaves empty is its default, not the variable.
            given.entry((*name).to_owned()).or_insert(value);
        }
    }
    given.retain(|_, value| !value.is_empty());
    Ok(given)
}

/// What the text alone says.
pub(super) fn parse(text: &str) -> Result<Parameters, String> {
    let url = ["postgres://", "postgresql://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    match url {
        Some(rest) => parse_url(rest),
        None => parse_pairs(text),
    }
}

pub(super) fn number<T: FromStr>(given: &Parameters, name: &str) -> Result<Option<T>, String>
where
    T::Err: Display,
{
    given
        .get(name)
        .map(|text| text.trim().parse().map_err(|error| format!("{name} is not a number ({error})")))
        .transpose()
}

/// What to do about a character that means something else where it stands.
pub(super) const ENCODE: &str = "in a connection URL, write such characters of user, password and values percent-encoded: \
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
