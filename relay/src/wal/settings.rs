//! What the relay is told about its slot.

use std::time::Duration;

use clap::ValueEnum;

use crate::config::{self, units};

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Postgres")]
pub struct WalSettings {
    /// Publication of the rows to broadcast. The relay also reads its twin for control state, NAME_control.
    #[arg(long, env = "CAMPFIRE_PUBLICATION", default_value = "campfire")]
    pub publication: String,

    /// Replication slot to read; the relay makes it if it is missing. The name is campfire or begins with campfire_.
    #[arg(id = "SLOT", long = "slot", env = "CAMPFIRE_SLOT", default_value = "campfire", value_parser = slot_name)]
    pub slot_name: String,

    /// What to do if the slot was dropped or invalidated: make a new one and announce the loss, or stop.
    #[arg(long, env = "CAMPFIRE_ON_LOST_SLOT", value_enum, default_value_t = OnLostSlot::Recreate)]
    pub on_lost_slot: OnLostSlot,

    /// Seconds to wait for a new slot; open write transactions anywhere in the cluster delay it.
    #[arg(id = "CREATE_SLOT_SECONDS", long = "create-slot-seconds", env = "CAMPFIRE_CREATE_SLOT_SECONDS", default_value = "60", value_parser = units::seconds)]
    pub create_slot_timeout: Duration,

    /// Largest replication message to accept, in bytes. A row is one message; the limit of Postgres itself is 1 GiB.
    #[arg(id = "WAL_FRAME_BYTES", long = "wal-frame-bytes", env = "CAMPFIRE_WAL_FRAME_BYTES", default_value_t = 1 << 30, value_parser = units::bytes::<usize>)]
    pub frame_bytes_max: usize,

    /// Bytes of WAL between the position confirmed to Postgres and what was received, above which the replay window is
    /// shortened.
    #[arg(long, env = "CAMPFIRE_WINDOW_WAL_BYTES", default_value_t = 1 << 30, value_parser = units::bytes::<u64>, help_heading = "Replay and snapshots")]
    pub window_wal_bytes: u64,
}

impl Default for WalSettings {
    fn default() -> Self {
        config::defaults()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnLostSlot {
    /// Make the slot again, and tell clients, log and metrics that events are missing.
    Recreate,
    /// Exit with an error, so that somebody looks first.
    Stop,
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
