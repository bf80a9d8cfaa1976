//! The hub's part of the settings.

use std::time::Duration;

use clap::ValueEnum;
use clap::builder::{EnumValueParser, TypedValueParser};

use super::roster::PresenceLimits;
use super::window::WindowLimits;
use crate::config::{self, units};

#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub struct HubSettings {
    /// Channels that a socket may have joined at once.
    #[arg(long = "max-channels-per-socket", env = "CAMPFIRE_MAX_CHANNELS_PER_SOCKET", default_value_t = 100, value_parser = units::count::<usize>)]
    pub channels_per_socket_max: usize,

    /// Sockets that may have channels joined with the same token; API keys are exempt. 0: no limit.
    #[arg(long = "max-sockets-per-token", env = "CAMPFIRE_MAX_SOCKETS_PER_TOKEN", default_value_t = 50, value_parser = units::count::<usize>, help_heading = "Connections")]
    pub sockets_per_token_max: usize,

    /// Messages from clients per second, copies included, above which the whole relay closes the channels of their
    /// receivers, as Supabase Realtime does. 0: no limit; rates then count against the sender alone.
    #[arg(long = "max-events-per-second", env = "CAMPFIRE_MAX_EVENTS_PER_SECOND", default_value_t = 0, value_parser = units::count::<u32>)]
    pub events_per_second_max: u32,

    /// Largest payload that a client may send, in bytes.
    #[arg(long = "max-payload-bytes", env = "CAMPFIRE_MAX_PAYLOAD_BYTES", default_value_t = 3_000_000, value_parser = units::bytes::<usize>)]
    pub payload_bytes_max: usize,

    /// Largest payload that a client may send on a channel of an organization (`org:…`), in bytes.
    #[arg(long = "max-org-payload-bytes", env = "CAMPFIRE_MAX_ORG_PAYLOAD_BYTES", default_value_t = 64 * 1024, value_parser = units::bytes::<usize>)]
    pub org_payload_bytes_max: usize,

    /// Seconds after which the server ends a typing indicator that its sender has not renewed.
    #[arg(id = "TYPING_SECONDS", long = "typing-seconds", env = "CAMPFIRE_TYPING_SECONDS", default_value = "5", value_parser = units::seconds)]
    pub typing_timeout: Duration,

    /// Whether any holder of a valid key may join channels outside `org:` without authorization.
    #[arg(long, env = "CAMPFIRE_PUBLIC_CHANNELS", action = clap::ArgAction::Set, default_value = "deny", value_parser = EnumValueParser::<PublicChannels>::new().map(|public| public == PublicChannels::Allow), help_heading = "Keys and channels")]
    pub public_channels: bool,

    #[command(flatten)]
    pub presence: PresenceLimits,

    #[command(flatten)]
    pub window: WindowLimits,

    /// Bytes that the rows of snapshots may take until sockets have read them; one snapshot may take a sixteenth of it.
    #[arg(id = "SNAPSHOT_BYTES", long = "snapshot-bytes", env = "CAMPFIRE_SNAPSHOT_BYTES", default_value_t = 64 << 20, value_parser = units::bytes::<usize>, help_heading = "Replay and snapshots")]
    pub snapshot_bytes_max: usize,
}

impl Default for HubSettings {
    fn default() -> Self {
        config::defaults()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PublicChannels {
    /// Refuse them.
    Deny,
    /// Let any holder of a valid key join and send.
    Allow,
}
