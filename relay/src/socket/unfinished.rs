//! Memory that messages of clients take until they are whole and the hub has taken them, over all sockets.
//!
//! Anybody can begin a large message and never end it. If all of them together take too much, the socket that has been
//! waited for longest is closed: a client that sends a message in one go is not affected.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;

use crate::fanout::{Outbox, SocketId};
use crate::protocol::CloseReason;

/// All messages that are not whole, or that wait for the hub.
#[derive(Debug)]
pub(crate) struct Unfinished {
    bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    bytes: usize,
    /// Those of which more is to come, the oldest first.
    waited_for: BTreeMap<(Instant, SocketId), (usize, Arc<Outbox>)>,
}

/// The memory of a message of which more is to come, given back when dropped.
#[derive(Debug)]
pub(super) struct Claim {
    unfinished: Arc<Unfinished>,
    key: (Instant, SocketId),
}

/// The memory of a message that is whole, given back when dropped.
struct Whole {
    unfinished: Arc<Unfinished>,
    payload: Bytes,
}

impl Unfinished {
    pub(crate) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { bytes_max, state: Mutex::default() })
    }

    /// Memory taken now.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Counts a message of which more is waited for since this time.
    pub(super) fn claim(self: &Arc<Self>, since: Instant, socket: SocketId, outbox: &Arc<Outbox>) -> Claim {
        let key = (since, socket);
        self.lock().waited_for.insert(key, (0, Arc::clone(outbox)));
        Claim { unfinished: Arc::clone(self), key }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Gives up the messages that are waited for longest, until there is room for the others.
    fn make_room(&mut self, bytes_max: usize) -> Vec<Arc<Outbox>> {
        let mut given_up = Vec::new();
        while self.bytes > bytes_max
            && let Some((_, (bytes, outbox))) = self.waited_for.pop_first()
        {
            self.bytes -= bytes;
            given_up.push(outbox);
        }
        given_up
    }

    fn forget(&mut self, key: (Instant, SocketId)) {
        if let Some((bytes, _)) = self.waited_for.remove(&key) {
            self.bytes -= bytes;
        }
    }
}

impl Claim {
    /// So much of the message has come.
    pub(super) fn grow(&mut self, bytes: usize) {
        let given_up = {
            let mut state = self.unfinished.lock();
            let Some((claimed, _)) = state.waited_for.get_mut(&self.key) else { return };
            let before = std::mem::replace(claimed, bytes);
            state.bytes = state.bytes - before + bytes;
            state.make_room(self.unfinished.bytes_max)
        };
        given_up.iter().for_each(|outbox| outbox.give_up(CloseReason::Unfinished));
    }

    /// The message is whole, and its memory is taken until this payload of it is gone.
    pub(super) fn finish(self, payload: Bytes) -> Bytes {
        let unfinished = Arc::clone(&self.unfinished);
        let mut state = unfinished.lock();
        state.forget(self.key);
        state.bytes += payload.len();
        drop(state);
        Bytes::from_owner(Whole { unfinished, payload })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.unfinished.lock().forget(self.key);
    }
}

impl AsRef<[u8]> for Whole {
    fn as_ref(&self) -> &[u8] {
        &self.payload
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        self.unfinished.lock().bytes -= self.payload.len();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::fanout::{OutboxLimits, Unread};

    fn outbox() -> Arc<Outbox> {
        Arc::new(Outbox::new(OutboxLimits { bytes_max: 10, frames_max: 3 }, Unread::new(10)))
    }

    fn is_given_up(outbox: &Outbox) -> bool {
        outbox.take(&mut Vec::new()) == Some(CloseReason::Unfinished)
    }

    #[test]
    fn the_message_that_is_waited_for_longest_makes_room() {
        let unfinished = Unfinished::new(1_000);
        let outboxes: Vec<_> = (0..3).map(|_| outbox()).collect();
        let began = Instant::now();
        let mut claims: Vec<_> = (0..3)
            .map(|number| {
                let since = began + Duration::from_millis(number);
                unfinished.claim(since, SocketId(number), &outboxes[number as usize])
            })
            .collect();
        claims.iter_mut().for_each(|claim| claim.grow(300));
        claims[2].grow(400);
        assert!(!outboxes.iter().any(|outbox| is_given_up(outbox)));
        claims[1].grow(301);
        assert!(is_given_up(&outboxes[0]) && !is_given_up(&outboxes[1]) && !is_given_up(&outboxes[2]));
        assert_eq!(unfinished.bytes(), 701, "its memory counts no more");
        claims[0].grow(900);
        assert_eq!(unfinished.bytes(), 701);
        drop(claims);
        assert_eq!(unfinished.bytes(), 0);
    }

    #[test]
    fn a_whole_message_counts_until_it_is_gone_and_is_not_given_up() {
        let unfinished = Unfinished::new(1_000);
        let (whole, other) = (outbox(), outbox());
        let mut claim = unfinished.claim(Instant::now(), SocketId(1), &whole);
        claim.grow(800);
        let payload = claim.finish(Bytes::from(vec![0; 600]));
        assert_eq!(unfinished.bytes(), 600);
        let mut claim = unfinished.claim(Instant::now(), SocketId(2), &other);
        claim.grow(401);
        assert!(!is_given_up(&whole) && is_given_up(&other));
        drop(claim);
        let part = payload.slice(3..10);
        drop(payload);
        assert_eq!(unfinished.bytes(), 600);
        drop(part);
        assert_eq!(unfinished.bytes(), 0);
    }
}
