//! What the relay's sessions pin. An `ALTER DATABASE … SET` or `ALTER ROLE … SET` is made for the application, and must
//! neither end the relay's sessions nor change what they do; what a session asks for at its start wins over both.

use std::borrow::Cow;

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The relay's own questions, and the replicating connection.
    Control,
    /// Reads on behalf of clients, who get the values as the stream prints them. What row-level security calls may need
    /// the database's search_path.
    Rows,
    /// Asks the application's policies, which may depend on the database's time zone as well.
    Policies,
}

/// Nothing ends the session, and nothing changes what it may do and how it is understood.
const ALWAYS: &[(&str, &str)] = &[
    ("statement_timeout", "0"),
    ("lock_timeout", "0"),
    ("idle_in_transaction_session_timeout", "0"),
    ("idle_session_timeout", "0"),
    ("role", "none"),
    ("row_security", "on"),
    ("default_transaction_read_only", "off"),
    ("default_transaction_deferrable", "off"),
    ("default_transaction_isolation", "read committed"),
    ("quote_all_identifiers", "off"),
    ("standard_conforming_strings", "on"),
    ("array_nulls", "on"),
    ("transform_null_equals", "off"),
    ("bytea_output", "hex"),
];

/// Values reach clients as the server prints them.
const VALUES: &[(&str, &str)] =
    &[("datestyle", "ISO"), ("intervalstyle", "postgres"), ("timezone", "UTC"), ("extra_float_digits", "3")];

/// A few rows at a time, for which compiling only costs time.
const FEW_ROWS: &[(&str, &str)] = &[("jit", "off")];

const PATH: &[(&str, &str)] = &[("search_path", "pg_catalog")];

/// Not every server has these, and a session that asks at its start for what the server does not know is refused.
pub(super) const PIN_WHAT_THERE_IS: &str = "select pg_catalog.set_config(s.name, wanted.value, false)
    from (values ('transaction_timeout', '0'), ('restrict_nonsystem_relation_kind', '')) as wanted (name, value)
    join pg_catalog.pg_settings as s on s.name = wanted.name and s.setting <> wanted.value";

/// The `options` of the startup packet: those of the connection string, and behind them, so that they win, ours.
pub(super) fn options(theirs: Option<&str>, purpose: Purpose) -> String {
    let pinned = match purpose {
        Purpose::Control => [ALWAYS, VALUES, PATH].concat(),
        Purpose::Rows => [ALWAYS, VALUES, FEW_ROWS].concat(),
        Purpose::Policies => ALWAYS.to_vec(),
    };
    let mut options = theirs.map(str::to_owned).unwrap_or_default();
    for (name, value) in pinned {
        if !options.is_empty() {
            options.push(' ');
        }
        options.push_str(&format!("-c {name}={}", escape(value)));
    }
    options
}

/// Options are separated by spaces.
fn escape(value: &str) -> Cow<'_, str> {
    if value.contains(' ') { value.replace(' ', "\\ ").into() } else { value.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pinned_stands_behind_what_was_asked_for() {
        let options = options(Some("-c statement_timeout=80 -c work_mem=64MB"), Purpose::Control);
        let asked = options.find("work_mem=64MB").expect("theirs stay");
        assert!(options.rfind("-c statement_timeout=0").is_some_and(|pinned| pinned > asked), "{options}");
        assert!(options.contains(r"-c default_transaction_isolation=read\ committed -c"), "{options}");
        assert!(options.ends_with("-c search_path=pg_catalog"), "{options}");
    }

    #[test]
    fn the_applications_policies_keep_their_time_zone_and_search_path() {
        let options = options(None, Purpose::Policies);
        assert!(options.starts_with("-c statement_timeout=0 "), "{options}");
        assert!(!options.contains("timezone") && !options.contains("search_path"), "{options}");
        assert!(!super::options(None, Purpose::Rows).contains("search_path"));
    }
}
