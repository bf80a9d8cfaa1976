//! The clock: tokens, replays, presences and typing indicators that end with time.

use std::time::{Instant, SystemTime};

use super::Hub;
use crate::fanout::channel::Channel;
use crate::fanout::expiries::expired;
use crate::postgres::Timestamp;
use crate::protocol::Reason;

impl Hub {
    /// Ends everything whose time is over.
    pub(super) fn tick(&mut self, now: Instant, wall: SystemTime) {
        self.end_tokens(wall);
        let millis = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
        self.window.expire(Timestamp::from_unix_millis(i64::try_from(millis).unwrap_or(i64::MAX)));
        self.measure_window();
        self.feed_starved();
        self.relieve_memory();
        self.roster.expire(now);
        self.tell_who_is_gone(now);
        let is_over = |channel: &&Channel| channel.replication_due.is_some_and(|due| due <= now);
        for (id, wire_topic) in self.channels_where(is_over) {
            self.close_channel(id, &wire_topic, &Reason::ReplicationNotEstablished);
        }
        for (origin, indicator) in self.typing.expired(now) {
            self.end_typing(&origin, indicator);
        }
        self.report();
    }

    /// Ends the channels whose tokens have ended: what is decided from here on is not for them. So an event that commits
    /// at or after the end is not delivered, as far as the clocks of database and relay agree.
    pub(super) fn end_tokens(&mut self, now: SystemTime) {
        self.wall_clock = now;
        while let Some((at, id, wire_topic)) = self.expiries.pop_due(now) {
            if let Some(reason) = expired(Some(at), now) {
                self.close_channel(id, &wire_topic, &reason);
            }
        }
    }
}
