//! Replays that wait for memory, which frames for all sockets share.

use std::time::Duration;

use super::Hub;
use crate::fanout::socket_id::SocketId;

/// Sockets that go on with their replays in one turn, where they had to wait for memory.
const FED_AT_ONCE: usize = 16;

/// A socket that takes nothing for so long is closed, if others wait for memory.
const READS_WITHIN: Duration = Duration::from_secs(1);

impl Hub {
    /// Has a socket wait for its turn if frames take all the memory that they may.
    pub(super) fn waits_for_memory(&mut self, id: SocketId) -> bool {
        let Some(socket) = self.sockets.get_mut(&id) else { return false };
        if !socket.outbox.unread().is_short() {
            return false;
        }
        if !std::mem::replace(&mut socket.is_starved, true) {
            self.starved.push_back(id);
            self.measure_starved();
        }
        true
    }

    /// Goes on with some of the sockets that wait for memory, in turn, as far as there is any.
    pub(super) fn feed_starved(&mut self) {
        for _ in 0..FED_AT_ONCE {
            let Some(id) = self.starved.pop_front() else { return };
            if let Some(socket) = self.sockets.get_mut(&id) {
                if socket.outbox.unread().is_short() {
                    return self.starved.push_front(id);
                }
                socket.is_starved = false;
                self.refill(id);
            }
            self.measure_starved();
        }
    }

    /// Takes memory from those that do not read, if others wait for it or there is too little for all.
    pub(super) fn relieve_memory(&self) {
        let Some(unread) = self.sockets.values().next().map(|socket| socket.outbox.unread()) else { return };
        match unread.is_short() && !self.starved.is_empty() {
            true => unread.relieve(READS_WITHIN),
            false => unread.relieve_overdrawn(),
        }
    }
}
