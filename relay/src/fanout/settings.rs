//! The hub's part of the settings.

use std::time::Duration;

use super::roster::PresenceLimits;
use super::window::WindowLimits;

#[derive(Clone, Debug)]
pub struct HubSettings {
    pub channels_per_socket_max: usize,
    /// 0: no limit.
    pub sockets_per_token_max: usize,
    /// The reference's limit on what clients send and its copies; 0: none.
    pub events_per_second_max: u32,
    pub payload_bytes_max: usize,
    pub org_payload_bytes_max: usize,
    pub typing_timeout: Duration,
    /// Whether public channels outside `org:` exist.
    pub public_channels: bool,
    pub presence: PresenceLimits,
    pub window: WindowLimits,
    /// Memory that rows of snapshots may take while sockets read them.
    pub snapshot_bytes_max: usize,
}
