//! What presence takes in memory, and how much it may.

use std::collections::HashMap;
use std::time::Duration;

use uuid::Uuid;

use crate::config::units;
use crate::fanout::room::RoomKey;

/// Memory of a presence beside what is tracked and its key, in bytes: the entry itself, and its share of maps and queues.
const PRESENCE_BYTES: usize = 512;

/// Of the whole, what one account may take.
const ACCOUNTS: usize = 4;

/// What presence may cost.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Presence")]
pub struct PresenceLimits {
    /// Seconds that the client of a broken socket has to come back before its channels are told that it has left.
    #[arg(id = "PRESENCE_GRACE_SECONDS", long = "presence-grace-seconds", env = "CAMPFIRE_PRESENCE_GRACE_SECONDS", default_value = "5", value_parser = units::seconds)]
    pub grace: Duration,

    /// Presence calls (track, untrack) that a channel may make within CAMPFIRE_PRESENCE_CALLS_SECONDS before the relay
    /// closes it. 0: no limit.
    #[arg(id = "PRESENCE_CALLS", long = "presence-calls", env = "CAMPFIRE_PRESENCE_CALLS", default_value_t = 20, value_parser = units::count::<u32>)]
    pub calls_max: u32,

    /// Seconds over which presence calls are counted.
    #[arg(id = "PRESENCE_CALLS_SECONDS", long = "presence-calls-seconds", env = "CAMPFIRE_PRESENCE_CALLS_SECONDS", default_value = "30", value_parser = units::seconds)]
    pub calls_time: Duration,

    /// Largest payload that a client may track, in bytes. The relay keeps it as long as the client is present.
    #[arg(id = "PRESENCE_BYTES_MAX", long = "max-presence-bytes", env = "CAMPFIRE_MAX_PRESENCE_BYTES", default_value_t = 64 * 1024, value_parser = units::bytes::<usize>)]
    pub payload_bytes_max: usize,

    /// Memory that everyone present on one channel may take together, in bytes. Above that, `track` is refused.
    #[arg(id = "PRESENCE_ROOM_BYTES_MAX", long = "max-presence-room-bytes", env = "CAMPFIRE_MAX_PRESENCE_ROOM_BYTES", default_value_t = 16 << 20, value_parser = units::bytes::<usize>)]
    pub room_bytes_max: usize,

    // So that nobody fills it for others.
    /// The same for all channels together. An organization may take a quarter of it, and so may all channels outside
    /// org: together.
    #[arg(id = "PRESENCE_TOTAL_BYTES_MAX", long = "max-presence-total-bytes", env = "CAMPFIRE_MAX_PRESENCE_TOTAL_BYTES", default_value_t = 256 << 20, value_parser = units::bytes::<usize>)]
    pub bytes_max: usize,
}

/// Why something cannot be tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::fanout) enum Full {
    Room,
    /// The organization's account, or the whole.
    Account,
}

/// Memory that presences take.
#[derive(Debug)]
pub(super) struct PresenceMemory {
    room_bytes_max: usize,
    bytes_max: usize,
    bytes: usize,
    count: usize,
    /// By organization. Channels outside `org:` share one account.
    accounts: HashMap<Uuid, usize>,
}

impl PresenceMemory {
    pub(super) fn new(limits: &PresenceLimits) -> Self {
        let PresenceLimits { room_bytes_max, bytes_max, .. } = *limits;
        Self { room_bytes_max, bytes_max, bytes: 0, count: 0, accounts: HashMap::new() }
    }

    /// What a presence takes. Twice what is tracked: a change takes memory until the members were told of it, and so does
    /// what joining members are told.
    pub(super) fn of(key: &str, members: usize) -> usize {
        PRESENCE_BYTES + 2 * (key.len() + members)
    }

    /// Whether a presence may grow in a room that takes so much. What does not grow always may.
    pub(super) fn admit(
        &self,
        room: &RoomKey,
        room_bytes: usize,
        before: usize,
        after: usize,
    ) -> Result<(), Full> {
        if after <= before {
            return Ok(());
        }
        let growth = after - before;
        let account = self.accounts.get(&account(room)).copied().unwrap_or_default();
        if room_bytes + growth > self.room_bytes_max {
            Err(Full::Room)
        } else if account + growth > self.bytes_max / ACCOUNTS || self.bytes + growth > self.bytes_max {
            Err(Full::Account)
        } else {
            Ok(())
        }
    }

    /// Takes note that a presence takes other memory than before; 0 where there is none.
    pub(super) fn note(&mut self, room: &RoomKey, before: usize, after: usize) {
        self.count += usize::from(before == 0 && after > 0);
        self.count -= usize::from(before > 0 && after == 0);
        self.bytes = self.bytes + after - before;
        let id = account(room);
        let account = self.accounts.entry(id).or_default();
        *account = *account + after - before;
        if *account == 0 {
            self.accounts.remove(&id);
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many are present.
    pub(super) fn count(&self) -> usize {
        self.count
    }
}

fn account(room: &RoomKey) -> Uuid {
    room.topic.organization().unwrap_or(Uuid::nil())
}
