//! What a socket may take.

use std::time::Duration;

use crate::config::units;
use crate::fanout::OutboxLimits;

#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub struct SocketSettings {
    /// Largest WebSocket message read from a client, in bytes; a larger one closes the socket with code 1009. The
    /// default is that of Supabase Realtime. Until a channel outside `org:` is joined, the limit is 64 KiB more than
    /// the largest payload of an organization's channels.
    #[arg(long = "max-frame-bytes", env = "CAMPFIRE_MAX_FRAME_BYTES", default_value_t = 5_000_000, value_parser = units::bytes::<usize>)]
    pub frame_bytes_max: usize,

    #[command(flatten)]
    pub outbox: OutboxLimits,

    /// Bytes that frames may take together until sockets have read them; a frame counts once, however many sockets it
    /// waits for. Above that, replays wait; then the relay closes the sockets that have not read for longest, with code
    /// 1013.
    #[arg(long = "max-unread-bytes", env = "CAMPFIRE_MAX_UNREAD_BYTES", default_value_t = 256 << 20, value_parser = units::bytes::<usize>, help_heading = "Memory")]
    pub unread_bytes_max: usize,

    /// Bytes that incomplete WebSocket messages may take together; above that, the relay closes the socket it has
    /// waited for longest, with code 1013.
    #[arg(long = "max-unfinished-bytes", env = "CAMPFIRE_MAX_UNFINISHED_BYTES", default_value_t = 64 << 20, value_parser = units::bytes::<usize>, help_heading = "Memory")]
    pub unfinished_bytes_max: usize,

    // Clients beat every 25 s. A background tab's timers fire once a minute, and one late beat is forgiven.
    /// Seconds without a frame from the client after which the relay closes its socket.
    #[arg(id = "IDLE_SECONDS", long = "idle-seconds", env = "CAMPFIRE_IDLE_SECONDS", default_value = "100", value_parser = units::some_seconds, help_heading = "Connections")]
    pub idle: Duration,

    /// Whether a join that does not set `presence.enabled` gets presence; older releases of the clients never set it.
    #[arg(long, env = "CAMPFIRE_PRESENCE_DEFAULT", action = clap::ArgAction::Set, default_value_t = false, value_parser = units::switch, help_heading = "Keys and channels")]
    pub presence_default: bool,
}
