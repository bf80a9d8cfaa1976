//! What the relay is told at its start: the settings of all its parts, each a flag, an environment variable and a
//! documented default.

pub mod environment;
mod shown;

use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

pub use self::shown::{Shown, shown};
use crate::admission::AdmissionSettings;
use crate::api::ApiSettings;
use crate::config::{Secret, units};
use crate::fanout::HubSettings;
use crate::http::HttpSettings;
use crate::ingest::IngestSettings;
use crate::postgres::Conninfo;
use crate::socket::SocketSettings;
use crate::sql::RowsSettings;
use crate::wal::WalSettings;

/// Broadcasts committed Postgres rows to Phoenix channel clients (supabase-js and its kin).
#[derive(Debug, Parser)]
#[command(name = "campfire-relay", version, propagate_version = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Read the replication slot and serve WebSockets until SIGTERM or SIGINT.
    Run(Box<Config>),
}

/// What `campfire-relay run` can be told. A flag wins over its environment variable.
#[derive(Clone, Debug, Parser)]
#[command(
    after_help = "Times are whole seconds, or have a unit: 300, 300s, 5m, 2h, 1d. Sizes are bytes, or have one: kB, MB and GB are powers of 1000, KiB, MiB and GiB of 1024."
)]
pub struct Config {
    /// Postgres to read, as a libpq-style URL or key=value pairs, with sslmode up to verify-full. What it leaves out is
    /// taken from PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE, PGSSLMODE and similar variables of libpq. To make the
    /// role: create role relay login replication password '…' in role campfire_relay.
    #[arg(
        long,
        env = "CAMPFIRE_DATABASE_URL",
        hide_env_values = true,
        default_value = "",
        hide_default_value = true,
        help_heading = "Postgres"
    )]
    pub database_url: Secret,

    #[command(flatten)]
    pub wal: WalSettings,

    #[command(flatten)]
    pub ingest: IngestSettings,

    #[command(flatten)]
    pub http: HttpSettings,

    /// Seconds over which the relay closes its sockets after SIGTERM, and waits for them.
    #[arg(id = "SHUTDOWN_GRACE_SECONDS", long = "shutdown-grace-seconds", env = "CAMPFIRE_SHUTDOWN_GRACE_SECONDS", default_value = "10", value_parser = units::seconds, help_heading = "Serving")]
    pub shutdown_grace: Duration,

    /// Log lines to write, in the syntax of tracing's EnvFilter: `info`, `campfire_relay=debug`, …
    #[arg(long, env = "CAMPFIRE_LOG", default_value = "info", help_heading = "Serving")]
    pub log: String,

    /// Format of log lines, on standard error.
    #[arg(long, env = "CAMPFIRE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text, help_heading = "Serving")]
    pub log_format: LogFormat,

    #[command(flatten)]
    pub admission: AdmissionSettings,

    #[command(flatten)]
    pub api: ApiSettings,

    #[command(flatten)]
    pub hub: HubSettings,

    #[command(flatten)]
    pub rows: RowsSettings,

    #[command(flatten)]
    pub sockets: SocketSettings,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// The database to connect to, from the URL and libpq's variables.
///
/// # Errors
/// A sentence that names the setting and what it should be.
pub fn database(url: &Secret, lookup: impl Fn(&str) -> Option<String>) -> Result<Conninfo, String> {
    Conninfo::parse(url.expose(), lookup).map_err(|problem| {
        format!("CAMPFIRE_DATABASE_URL (with the PG* variables) cannot be used: {problem}")
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(args: &[&str]) -> Result<Config, clap::Error> {
        let cli = Cli::try_parse_from(["campfire-relay", "run"].iter().chain(args))?;
        let Command::Run(config) = cli.command;
        Ok(*config)
    }

    #[test]
    fn numbers_have_units_and_say_which() {
        let config =
            parse(&["--window-seconds", "5m", "--window-bytes", "64MiB", "--presence-default", "on"])
                .unwrap();
        let window = config.hub.window;
        assert_eq!((window.age_max, window.bytes_max), (Duration::from_secs(300), 64 << 20));
        assert!(config.sockets.presence_default);
        // Every setting with a number has a parser that says how it is written.
        for argument in Cli::command().find_subcommand("run").unwrap().get_arguments() {
            let default = argument.get_default_values().first().and_then(|value| value.to_str());
            let (Some(long), Some(default)) = (argument.get_long(), default) else { continue };
            if default.parse::<u64>().is_ok() {
                let error = parse(&[&format!("--{long}"), "some"]).expect_err(long).to_string();
                assert!(error.contains("write a"), "{long}: {error}");
            }
        }
    }

    #[test]
    fn several_addresses_are_accepted() {
        let config = parse(&["--listen", "0.0.0.0:80,unix:/run/campfire.sock"]).unwrap();
        assert_eq!(config.http.listen.listen.len(), 2);
    }

    #[test]
    fn bad_settings_are_refused() {
        for args in [
            ["--listen", "8080"],
            ["--listen", "unix:"],
            ["--slot", "other"],
            ["--slot", "campfire_A"],
            ["--standby", "maybe"],
        ] {
            assert!(parse(&args).is_err(), "{args:?}");
        }
    }

    #[test]
    fn secrets_are_masked() {
        let config =
            parse(&["--jwt-secret", "hunter2", "--database-url", "postgres://u:hunter2@h/d"]).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn a_malformed_url_does_not_quote_the_password() {
        let error = database(&"postgres://u:hunter2@h:notaport/d".parse().unwrap(), |_| None).unwrap_err();
        assert!(error.contains("CAMPFIRE_DATABASE_URL") && !error.contains("hunter2"), "{error}");
    }
}
