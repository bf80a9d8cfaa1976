//! What the relay is told about reading its slot.

use std::time::Duration;

use clap::ValueEnum;

use crate::config::units;

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Postgres")]
pub struct IngestSettings {
    /// What to do while another relay reads the slot: wait and take over once that relay stops, or exit.
    #[arg(long, env = "CAMPFIRE_STANDBY", value_enum, default_value_t = Standby::Wait)]
    pub standby: Standby,

    /// Bytes of WAL that the slot may hold back. Above that, the relay drops the slot and continues with a new one, or
    /// stops (see CAMPFIRE_ON_LOST_SLOT); what was not sent is then lost, and the loss is announced. 0: no limit.
    #[arg(long, env = "CAMPFIRE_SLOT_MAX_BYTES", default_value_t = 8 << 30, value_parser = units::bytes::<u64>)]
    pub slot_max_bytes: u64,

    /// Seconds without a commit after which the relay writes a heartbeat into the WAL, so that the slot advances in an
    /// idle database too. 0: never.
    #[arg(id = "HEARTBEAT_SECONDS", long = "heartbeat-seconds", env = "CAMPFIRE_HEARTBEAT_SECONDS", default_value = "10", value_parser = units::seconds)]
    pub heartbeat: Duration,

    /// Seconds after which a relay that holds the slot and sends nothing to Postgres is considered hung: its connection
    /// is ended (which needs the same role, or pg_signal_backend). 0: never.
    #[arg(id = "TAKEOVER_SECONDS", long = "takeover-seconds", env = "CAMPFIRE_TAKEOVER_SECONDS", default_value = "60", value_parser = units::seconds)]
    pub takeover: Duration,

    /// Equal errors at the same position of the WAL after which the stream counts as stopped: the relay logs one error,
    /// and retries once a minute. 0: never.
    #[arg(long, env = "CAMPFIRE_STOP_AFTER_FAILURES", default_value_t = 5, value_parser = units::count::<u32>)]
    pub stop_after_failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Standby {
    /// Answer 503 and try again until the slot is free.
    Wait,
    /// Exit with an error.
    Exit,
}
