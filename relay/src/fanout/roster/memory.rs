//! What presence takes in memory, and how much it may.

use std::collections::HashMap;
use std::time::Duration;

use uuid::Uuid;

use crate::fanout::room::RoomKey;

/// Memory of a presence beside what is tracked and its key, in bytes: the entry itself, and its share of maps and queues.
const PRESENCE_BYTES: usize = 512;

/// Of the whole, what one account may take.
const ACCOUNTS: usize = 4;

/// What presence may cost.
#[derive(Clone, Copy, Debug)]
pub struct PresenceLimits {
    /// How long a socket that broke may take to come back before its channels count as gone.
    pub grace: Duration,
    /// Calls of one channel within the time; 0: any number.
    pub calls_max: u32,
    pub calls_time: Duration,
    pub payload_bytes_max: usize,
    /// Memory that all who are present in one room may take, in bytes.
    pub room_bytes_max: usize,
    /// The same of all rooms. An organization may take a quarter of it, and so may all channels outside `org:` together,
    /// so that nobody fills it for others.
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
