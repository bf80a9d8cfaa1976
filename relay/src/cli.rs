//! What the relay is told at its start: the settings of all its parts, each a flag, an environment variable and a
//! documented default.

pub mod environment;
mod shown;

use clap::{Parser, Subcommand, ValueEnum};

pub use self::shown::{Shown, shown};
use crate::admission::JwksSource;
use crate::auth::SECRET_BYTES_MIN;
use crate::config::{Group, ListenAddress, Mode, Secret, units};
use crate::http::ForwardedHeader;
use crate::postgres::Conninfo;

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
    /// Postgres to read, as a libpq-style URL or key=value pairs, with sslmode up to verify-full; what it leaves out
    /// is taken from PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE, PGSSLMODE and their kin. The role is one made
    /// by: create role relay login replication password '…' in role campfire_relay.
    #[arg(
        long,
        env = "CAMPFIRE_DATABASE_URL",
        hide_env_values = true,
        default_value = "",
        hide_default_value = true,
        help_heading = "Postgres"
    )]
    pub database_url: Secret,

    /// Addresses to serve on, comma-separated: HOST:PORT or unix:PATH.
    #[arg(
        long,
        env = "CAMPFIRE_LISTEN",
        default_value = "127.0.0.1:8080",
        value_delimiter = ',',
        help_heading = "Serving"
    )]
    pub listen: Vec<ListenAddress>,

    /// Addresses that serve /healthz, /readyz and /metrics alone, comma-separated; these paths are then nowhere else.
    #[arg(long, env = "CAMPFIRE_METRICS_LISTEN", value_delimiter = ',', help_heading = "Serving")]
    pub metrics_listen: Vec<ListenAddress>,

    /// Permissions of the unix sockets, in octal as for chmod: 660. Unset: as the umask has it.
    #[arg(long, env = "CAMPFIRE_UNIX_MODE", help_heading = "Serving")]
    pub unix_mode: Option<Mode>,

    /// Group of the unix sockets, by name or number. Unset: the relay's own.
    #[arg(long, env = "CAMPFIRE_UNIX_GROUP", help_heading = "Serving")]
    pub unix_group: Option<Group>,

    /// Publication of the rows to broadcast. Its twin for control state, NAME_control, is read too.
    #[arg(long, env = "CAMPFIRE_PUBLICATION", default_value = "campfire", help_heading = "Postgres")]
    pub publication: String,

    /// Replication slot to read; made if it is missing. The name is campfire or begins with campfire_.
    #[arg(long, env = "CAMPFIRE_SLOT", default_value = "campfire", value_parser = slot_name, help_heading = "Postgres")]
    pub slot: String,

    /// What to do when the slot was dropped or invalidated: make a new one and announce the loss, or stop.
    #[arg(long, env = "CAMPFIRE_ON_LOST_SLOT", value_enum, default_value_t = OnLostSlot::Recreate, help_heading = "Postgres")]
    pub on_lost_slot: OnLostSlot,

    /// What to do while another relay reads the slot: wait and take over when it goes, or exit.
    #[arg(long, env = "CAMPFIRE_STANDBY", value_enum, default_value_t = Standby::Wait, help_heading = "Postgres")]
    pub standby: Standby,

    /// Secret that verifies HS256, HS384 and HS512 tokens, at least 32 bytes. Prefer the environment variable: a flag
    /// shows in process lists.
    #[arg(long, env = "CAMPFIRE_JWT_SECRET", hide_env_values = true, help_heading = "Keys and channels")]
    pub jwt_secret: Option<Secret>,

    /// Secrets that were replaced and whose tokens are still good, comma-separated. Prefer the environment variable.
    #[arg(
        long,
        env = "CAMPFIRE_JWT_PREVIOUS_SECRETS",
        hide_env_values = true,
        help_heading = "Keys and channels"
    )]
    pub jwt_previous_secrets: Option<Secret>,

    /// Published keys (a JWKS) that verify RS256, ES256, EdDSA and their kin by the token's kid: a path, or a URL.
    #[arg(long, env = "CAMPFIRE_JWKS", hide_env_values = true, help_heading = "Keys and channels")]
    pub jwks: Option<JwksSource>,

    /// Seconds after which the published keys are read again. A token that names an unknown key has them read sooner.
    #[arg(long, env = "CAMPFIRE_JWKS_REFRESH_SECONDS", default_value_t = 600, value_parser = units::some_seconds, help_heading = "Keys and channels")]
    pub jwks_refresh_seconds: u64,

    /// Publishable keys with which sockets connect, comma-separated: KEY or KEY=ROLE (role anon unless named).
    #[arg(long, env = "CAMPFIRE_API_KEYS", hide_env_values = true, help_heading = "Keys and channels")]
    pub api_keys: Option<Secret>,

    /// Whether channels outside `org:` may be joined without authorization by any holder of a valid key.
    #[arg(long, env = "CAMPFIRE_PUBLIC_CHANNELS", value_enum, default_value_t = PublicChannels::Deny, help_heading = "Keys and channels")]
    pub public_channels: PublicChannels,

    /// Whether a join that does not say `presence.enabled` wants presence; older releases of the clients never say.
    #[arg(long, env = "CAMPFIRE_PRESENCE_DEFAULT", action = clap::ArgAction::Set, default_value_t = false, value_parser = units::switch, help_heading = "Keys and channels")]
    pub presence_default: bool,

    /// SQL sessions that ask the policies on realtime.messages about private channels outside `org:`.
    #[arg(long, env = "CAMPFIRE_POLICY_SESSIONS", default_value_t = 4, value_parser = units::some::<usize>, help_heading = "Keys and channels")]
    pub policy_sessions: usize,

    /// Joins that may wait for one of these sessions; more are refused.
    #[arg(long, env = "CAMPFIRE_POLICY_QUEUE", default_value_t = 1_000, value_parser = units::count::<usize>, help_heading = "Keys and channels")]
    pub policy_queue: usize,

    /// Seconds that such a join may take, waiting included; clients give up after ten.
    #[arg(long, env = "CAMPFIRE_POLICY_SECONDS", default_value_t = 5, value_parser = units::some_seconds, help_heading = "Keys and channels")]
    pub policy_seconds: u64,

    /// Seconds for which a no of the policies holds without being asked again. 0: they are asked each time.
    #[arg(long, env = "CAMPFIRE_POLICY_DENIAL_SECONDS", default_value_t = 10, value_parser = units::seconds, help_heading = "Keys and channels")]
    pub policy_denial_seconds: u64,

    /// Seconds by which the position confirmed to Postgres trails what was delivered: what a restarted relay
    /// reads again.
    #[arg(long, env = "CAMPFIRE_WINDOW_SECONDS", default_value_t = 300, value_parser = units::seconds, help_heading = "Replay and snapshots")]
    pub window_seconds: u64,

    /// Bytes of memory that the replay window may take.
    #[arg(long, env = "CAMPFIRE_WINDOW_BYTES", default_value_t = 256 << 20, value_parser = units::bytes::<usize>, help_heading = "Replay and snapshots")]
    pub window_bytes: usize,

    /// Bytes that one organization may take of the replay window.
    #[arg(long, env = "CAMPFIRE_WINDOW_ORG_BYTES", default_value_t = 64 << 20, value_parser = units::bytes::<usize>, help_heading = "Replay and snapshots")]
    pub window_org_bytes: usize,

    /// Bytes of WAL between the position confirmed to Postgres and what was received, above which the window is cut
    /// short.
    #[arg(long, env = "CAMPFIRE_WINDOW_WAL_BYTES", default_value_t = 1 << 30, value_parser = units::bytes::<u64>, help_heading = "Replay and snapshots")]
    pub window_wal_bytes: u64,

    /// Bytes of WAL that the slot may hold back before the relay drops it and goes on with a new one (or stops, see
    /// CAMPFIRE_ON_LOST_SLOT); what was not sent is then lost, and announced. 0: no bound.
    #[arg(long, env = "CAMPFIRE_SLOT_MAX_BYTES", default_value_t = 8 << 30, value_parser = units::bytes::<u64>, help_heading = "Postgres")]
    pub slot_max_bytes: u64,

    /// Seconds without a commit after which a heartbeat is written into the WAL, so that the slot moves in an idle
    /// database too. 0: never.
    #[arg(long, env = "CAMPFIRE_HEARTBEAT_SECONDS", default_value_t = 10, value_parser = units::seconds, help_heading = "Postgres")]
    pub heartbeat_seconds: u64,

    /// Seconds after which a relay that holds the slot and says nothing to Postgres is taken for hung: its
    /// connection is ended (which needs the same role, or pg_signal_backend). 0: never.
    #[arg(long, env = "CAMPFIRE_TAKEOVER_SECONDS", default_value_t = 60, value_parser = units::seconds, help_heading = "Postgres")]
    pub takeover_seconds: u64,

    /// Equal errors at the same place of the WAL after which the stream counts as stopped: told once as an error,
    /// and tried once a minute. 0: never.
    #[arg(long, env = "CAMPFIRE_STOP_AFTER_FAILURES", default_value_t = 5, value_parser = units::count::<u32>, help_heading = "Postgres")]
    pub stop_after_failures: u32,

    /// Seconds to wait for the slot to be made; open write transactions anywhere in the cluster delay it.
    #[arg(long, env = "CAMPFIRE_CREATE_SLOT_SECONDS", default_value_t = 60, value_parser = units::seconds, help_heading = "Postgres")]
    pub create_slot_seconds: u64,

    /// Largest replication message to accept, in bytes. A row is one message; Postgres' own limit is 1 GiB.
    #[arg(long, env = "CAMPFIRE_WAL_FRAME_BYTES", default_value_t = 1 << 30, value_parser = units::bytes::<usize>, help_heading = "Postgres")]
    pub wal_frame_bytes: usize,

    /// SQL sessions that read the rows of joins with `snapshot`.
    #[arg(long, env = "CAMPFIRE_SNAPSHOT_SESSIONS", default_value_t = 4, value_parser = units::some::<u16>, help_heading = "Replay and snapshots")]
    pub snapshot_sessions: u16,

    /// Joins with `snapshot` that may wait for a session; beyond it they are refused with SnapshotUnavailable.
    #[arg(long, env = "CAMPFIRE_SNAPSHOT_QUEUE", default_value_t = 256, value_parser = units::some::<u16>, help_heading = "Replay and snapshots")]
    pub snapshot_queue: u16,

    /// Seconds that a snapshot may take, the wait for a session included.
    #[arg(long, env = "CAMPFIRE_SNAPSHOT_SECONDS", default_value_t = 5, value_parser = units::some_seconds, help_heading = "Replay and snapshots")]
    pub snapshot_seconds: u64,

    /// Bytes that rows of snapshots may take until sockets have read them; one snapshot gets a sixteenth at most.
    #[arg(long, env = "CAMPFIRE_SNAPSHOT_BYTES", default_value_t = 64 << 20, value_parser = units::bytes::<usize>, help_heading = "Replay and snapshots")]
    pub snapshot_bytes: usize,

    #[command(flatten)]
    pub limits: Limits,

    /// Seconds in which SIGTERM spreads the closing of sockets and waits for them.
    #[arg(long, env = "CAMPFIRE_SHUTDOWN_GRACE_SECONDS", default_value_t = 10, value_parser = units::seconds, help_heading = "Serving")]
    pub shutdown_grace_seconds: u64,

    /// Which log lines to write, in the syntax of tracing's EnvFilter: `info`, `campfire_relay=debug`, …
    #[arg(long, env = "CAMPFIRE_LOG", default_value = "info", help_heading = "Serving")]
    pub log: String,

    /// Shape of log lines, on standard error.
    #[arg(long, env = "CAMPFIRE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text, help_heading = "Serving")]
    pub log_format: LogFormat,
}

/// Bounds on what one client may take.
#[derive(Clone, Debug, Parser)]
#[command(next_help_heading = "Limits")]
pub struct Limits {
    /// Sockets at once; lowered to what the open-file limit leaves, with a warning.
    #[arg(long = "max-sockets", env = "CAMPFIRE_MAX_SOCKETS", default_value_t = 50_000, value_parser = units::count::<usize>, help_heading = "Connections")]
    pub sockets_max: usize,

    /// Sockets at once from one address (of IPv6: one /64); from this machine any number, unless it is known to have
    /// proxies (CAMPFIRE_TRUSTED_PROXIES). 0: no limit.
    #[arg(long = "max-sockets-per-ip", env = "CAMPFIRE_MAX_SOCKETS_PER_IP", default_value_t = 1_000, value_parser = units::count::<usize>, help_heading = "Connections")]
    pub sockets_per_ip_max: usize,

    /// Proxies in front of the relay, each of which appends to X-Forwarded-For. 0: an address is the connection's.
    #[arg(long, env = "CAMPFIRE_TRUSTED_PROXIES", default_value_t = 0, value_parser = units::count::<usize>, help_heading = "Connections")]
    pub trusted_proxies: usize,

    /// Header that these proxies write. `Forwarded` is also read where a request has no X-Forwarded-For.
    #[arg(long, env = "CAMPFIRE_FORWARDED_HEADER", value_enum, default_value_t = ForwardedHeader::XForwardedFor, help_heading = "Connections")]
    pub forwarded_header: ForwardedHeader,

    /// Connections at once that are no WebSocket (yet); beyond it the one that has been silent for longest is closed.
    /// Lowered to what the open-file limit leaves.
    #[arg(long = "max-connections", env = "CAMPFIRE_MAX_CONNECTIONS", default_value_t = 1_024, value_parser = units::some::<usize>, help_heading = "Connections")]
    pub connections_max: usize,

    /// The same for one address; from this machine, and behind trusted proxies, any number. 0: no limit.
    #[arg(long = "max-connections-per-ip", env = "CAMPFIRE_MAX_CONNECTIONS_PER_IP", default_value_t = 256, value_parser = units::count::<usize>, help_heading = "Connections")]
    pub connections_per_ip_max: usize,

    /// Seconds in which a connection has to send the header of its first request.
    #[arg(long, env = "CAMPFIRE_HEADER_SECONDS", default_value_t = 30, value_parser = units::some_seconds, help_heading = "Connections")]
    pub header_seconds: u64,

    /// Seconds in which the body of a request has to be there.
    #[arg(long, env = "CAMPFIRE_BODY_SECONDS", default_value_t = 30, value_parser = units::some_seconds, help_heading = "Connections")]
    pub body_seconds: u64,

    /// Seconds for which a connection may wait between an answer and the next request.
    #[arg(long, env = "CAMPFIRE_KEEP_ALIVE_SECONDS", default_value_t = 30, value_parser = units::some_seconds, help_heading = "Connections")]
    pub keep_alive_seconds: u64,

    /// Sockets that may have channels joined with the same token; API keys are exempt. 0: no limit.
    #[arg(long = "max-sockets-per-token", env = "CAMPFIRE_MAX_SOCKETS_PER_TOKEN", default_value_t = 50, value_parser = units::count::<usize>, help_heading = "Connections")]
    pub sockets_per_token_max: usize,

    /// Channels a socket may have joined at once.
    #[arg(long = "max-channels-per-socket", env = "CAMPFIRE_MAX_CHANNELS_PER_SOCKET", default_value_t = 100, value_parser = units::count::<usize>)]
    pub channels_per_socket_max: usize,

    /// Messages a second that a socket may send, on average.
    #[arg(long, env = "CAMPFIRE_CLIENT_MESSAGES_PER_SECOND", default_value_t = 50, value_parser = units::count::<u32>)]
    pub client_messages_per_second: u32,

    /// Messages that a socket may send at once after being quiet.
    #[arg(long, env = "CAMPFIRE_CLIENT_MESSAGES_BURST", default_value_t = 100, value_parser = units::count::<u32>)]
    pub client_messages_burst: u32,

    /// Messages of clients a second, copies counted, that the whole relay carries before it ends the channels of
    /// their receivers, as the reference does. 0: no limit; rates are charged to the sender alone.
    #[arg(long = "max-events-per-second", env = "CAMPFIRE_MAX_EVENTS_PER_SECOND", default_value_t = 0, value_parser = units::count::<u32>)]
    pub events_per_second_max: u32,

    /// Largest payload that a client may send, in bytes.
    #[arg(long = "max-payload-bytes", env = "CAMPFIRE_MAX_PAYLOAD_BYTES", default_value_t = 3_000_000, value_parser = units::bytes::<usize>)]
    pub payload_bytes_max: usize,

    /// Largest payload that a client may send on a channel of an organization (`org:…`), in bytes.
    #[arg(long = "max-org-payload-bytes", env = "CAMPFIRE_MAX_ORG_PAYLOAD_BYTES", default_value_t = 64 * 1024, value_parser = units::bytes::<usize>)]
    pub org_payload_bytes_max: usize,

    /// Largest WebSocket message read from a client, in bytes; a larger one closes the socket with code 1009. The
    /// default is that of Supabase Realtime. Before a channel outside `org:` is joined, messages may have 64 KiB more than
    /// the largest payload of an organization's channels.
    #[arg(long = "max-frame-bytes", env = "CAMPFIRE_MAX_FRAME_BYTES", default_value_t = 5_000_000, value_parser = units::bytes::<usize>)]
    pub frame_bytes_max: usize,

    /// Largest body of a broadcast over HTTP, in bytes; the default is that of Supabase Realtime.
    #[arg(long = "max-body-bytes", env = "CAMPFIRE_MAX_BODY_BYTES", default_value_t = 8_000_000, value_parser = units::bytes::<usize>)]
    pub body_bytes_max: usize,

    /// Bytes that bodies may take together while the rest of them has yet to come; beyond it the one that is waited for
    /// longest is given up.
    #[arg(long = "max-bodies-bytes", env = "CAMPFIRE_MAX_BODIES_BYTES", default_value_t = 64 << 20, value_parser = units::bytes::<usize>)]
    pub bodies_bytes_max: usize,

    /// Bytes that may wait for a slow socket before it is closed with code 1013.
    #[arg(long = "max-outbox-bytes", env = "CAMPFIRE_MAX_OUTBOX_BYTES", default_value_t = 1 << 20, value_parser = units::bytes::<usize>)]
    pub outbox_bytes_max: usize,

    /// Frames that may wait for a slow socket before it is closed with code 1013.
    #[arg(long = "max-outbox-frames", env = "CAMPFIRE_MAX_OUTBOX_FRAMES", default_value_t = 1024, value_parser = units::count::<usize>)]
    pub outbox_frames_max: usize,

    /// Bytes that frames may take together until sockets have read them, each counted once however many sockets it waits
    /// for. Beyond it replays wait, then the sockets that have not read for longest are closed with code 1013.
    #[arg(long = "max-unread-bytes", env = "CAMPFIRE_MAX_UNREAD_BYTES", default_value_t = 256 << 20, value_parser = units::bytes::<usize>, help_heading = "Memory")]
    pub unread_bytes_max: usize,

    /// Bytes that WebSocket messages may take together until the rest of them has come; beyond it the socket that is
    /// waited for longest is closed with code 1013.
    #[arg(long = "max-unfinished-bytes", env = "CAMPFIRE_MAX_UNFINISHED_BYTES", default_value_t = 64 << 20, value_parser = units::bytes::<usize>, help_heading = "Memory")]
    pub unfinished_bytes_max: usize,

    // Clients beat every 25 s. A background tab's timers fire once a minute, and one late beat is forgiven.
    /// Seconds without a frame from the client after which its socket is closed.
    #[arg(long, env = "CAMPFIRE_IDLE_SECONDS", default_value_t = 100, value_parser = units::some_seconds, help_heading = "Connections")]
    pub idle_seconds: u64,

    /// Seconds that a socket which broke may take to come back before its channels are told to have left.
    #[arg(long, env = "CAMPFIRE_PRESENCE_GRACE_SECONDS", default_value_t = 5, value_parser = units::seconds, help_heading = "Presence")]
    pub presence_grace_seconds: u64,

    /// Presence calls (track, untrack) that a channel may make within CAMPFIRE_PRESENCE_CALLS_SECONDS before it is
    /// closed. 0: any number.
    #[arg(long, env = "CAMPFIRE_PRESENCE_CALLS", default_value_t = 20, value_parser = units::count::<u32>, help_heading = "Presence")]
    pub presence_calls: u32,

    /// Seconds over which presence calls are counted.
    #[arg(long, env = "CAMPFIRE_PRESENCE_CALLS_SECONDS", default_value_t = 30, value_parser = units::seconds, help_heading = "Presence")]
    pub presence_calls_seconds: u64,

    /// Largest payload that a client may track, in bytes. The relay keeps it for as long as the client is present.
    #[arg(long = "max-presence-bytes", env = "CAMPFIRE_MAX_PRESENCE_BYTES", default_value_t = 64 * 1024, value_parser = units::bytes::<usize>, help_heading = "Presence")]
    pub presence_bytes_max: usize,

    /// Memory that all who are present on one channel may take, in bytes. Beyond it `track` is refused.
    #[arg(long = "max-presence-room-bytes", env = "CAMPFIRE_MAX_PRESENCE_ROOM_BYTES", default_value_t = 16 << 20, value_parser = units::bytes::<usize>, help_heading = "Presence")]
    pub presence_room_bytes_max: usize,

    /// The same on all channels. An organization may take a quarter of it, and so may all channels outside org:
    /// together.
    #[arg(long = "max-presence-total-bytes", env = "CAMPFIRE_MAX_PRESENCE_TOTAL_BYTES", default_value_t = 256 << 20, value_parser = units::bytes::<usize>, help_heading = "Presence")]
    pub presence_total_bytes_max: usize,

    /// Seconds after which the server ends a typing indicator that its sender did not renew.
    #[arg(long, env = "CAMPFIRE_TYPING_SECONDS", default_value_t = 5, value_parser = units::seconds)]
    pub typing_seconds: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnLostSlot {
    /// Make the slot again, and tell clients, log and metrics that events are missing.
    Recreate,
    /// Exit with an error, so that somebody looks first.
    Stop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Standby {
    /// Answer 503 and try again until the slot is free.
    Wait,
    /// Exit with an error.
    Exit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PublicChannels {
    /// Refuse them.
    Deny,
    /// Let any holder of a valid key join and send.
    Allow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    Text,
    Json,
}

/// Refuses a secret that is too short: RFC 7518, section 3.2, wants a key at least as long as the hash, which for HS256
/// has 256 bits. A shorter one can be guessed from any token that was signed with it.
///
/// # Errors
/// A sentence that names the setting and what to do.
pub fn check_secret(setting: &str, secret: &str) -> Result<(), String> {
    if secret.is_empty() || secret.len() >= SECRET_BYTES_MIN {
        return Ok(());
    }
    Err(format!(
        "{setting}: a secret has {} bytes, and {SECRET_BYTES_MIN} are the least for HS256 (RFC 7518, section 3.2): make a new one, as with `openssl rand -base64 48`, and have your application sign with it",
        secret.len()
    ))
}

/// The extension's slot guard touches only names of this form, and so must we.
fn slot_name(text: &str) -> Result<String, String> {
    let ours = text == "campfire" || text.starts_with("campfire_");
    let well_formed =
        text.len() <= 63 && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if ours && well_formed {
        Ok(text.to_owned())
    } else {
        Err("a slot's name is campfire or campfire_ followed by lower-case letters, digits or underscores, at most 63 bytes in all".to_owned())
    }
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
    fn defaults_are_those_of_the_design() {
        let config = parse(&[]).unwrap();
        assert_eq!(config.listen, [ListenAddress::Tcp("127.0.0.1:8080".into())]);
        assert_eq!((config.publication.as_str(), config.slot.as_str()), ("campfire", "campfire"));
        assert_eq!(config.window_seconds, 300);
        assert_eq!(config.limits.outbox_bytes_max, 1 << 20);
        assert_eq!(config.limits.org_payload_bytes_max, 65_536);
    }

    #[test]
    fn numbers_have_units_and_say_which() {
        let config =
            parse(&["--window-seconds", "5m", "--window-bytes", "64MiB", "--presence-default", "on"])
                .unwrap();
        assert_eq!(
            (config.window_seconds, config.window_bytes, config.presence_default),
            (300, 64 << 20, true)
        );
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
        assert_eq!(
            config.listen,
            [ListenAddress::Tcp("0.0.0.0:80".into()), ListenAddress::Unix("/run/campfire.sock".into())]
        );
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
    fn short_secrets_are_refused() {
        let error = check_secret("CAMPFIRE_JWT_SECRET", "12345").unwrap_err();
        assert!(
            ["CAMPFIRE_JWT_SECRET", "5 bytes", "32", "openssl"].iter().all(|word| error.contains(word)),
            "{error}"
        );
        assert!(!error.contains("12345"), "{error}");
        assert!(check_secret("X", &"x".repeat(SECRET_BYTES_MIN - 1)).is_err());
        assert!(check_secret("X", &"x".repeat(SECRET_BYTES_MIN)).is_ok() && check_secret("X", "").is_ok());
    }

    #[test]
    fn a_malformed_url_does_not_quote_the_password() {
        let error = database(&"postgres://u:hunter2@h:notaport/d".parse().unwrap(), |_| None).unwrap_err();
        assert!(error.contains("CAMPFIRE_DATABASE_URL") && !error.contains("hunter2"), "{error}");
    }
}
