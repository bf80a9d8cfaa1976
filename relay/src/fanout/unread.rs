//! Memory that frames take until sockets have read them, over all sockets.
//!
//! An outbox bounds what waits for one socket; of fifty thousand that do not read, each within its bound, the sum would
//! still be more than a machine has. So there is a bound for all. While it is reached, replays wait for their turn, live
//! events are left to the window where something waits already, and if that is not enough, the sockets that have not
//! read for longest are closed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::outbox::{CloseReason, Outbox};
use super::socket_id::SocketId;
use crate::protocol::{Account, Frame, Waiting};

/// Between two rounds of closing, so that the memory of the first is free before more are looked for.
const PAUSE: Duration = Duration::from_millis(20);

/// What part of the sockets that do not read a round closes.
const PART: usize = 16;

/// All frames that wait to be read.
#[derive(Debug)]
pub struct Unread {
    bytes_max: usize,
    account: Account,
    stalled: Mutex<Stalled>,
}

#[derive(Debug, Default)]
struct Stalled {
    /// Sockets that do not take what is written to them, the oldest first.
    outboxes: BTreeMap<(Instant, SocketId), Arc<Outbox>>,
    relieved_at: Option<Instant>,
}

/// A socket that does not take what is written to it, for as long as this lives.
#[derive(Debug)]
pub struct Stall {
    unread: Arc<Unread>,
    key: (Instant, SocketId),
}

impl Unread {
    pub fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { bytes_max, account: Account::default(), stalled: Mutex::default() })
    }

    /// Memory taken now.
    pub fn bytes(&self) -> usize {
        self.account.bytes()
    }

    /// Whether what can wait has to.
    pub(super) fn is_short(&self) -> bool {
        self.bytes() > self.bytes_max
    }

    /// Counts a frame that is to wait.
    pub(super) fn count(&self, frame: Frame) -> Waiting {
        frame.wait(&self.account)
    }

    /// A write to a socket that began at this time is not through yet.
    pub fn stall(self: &Arc<Self>, since: Instant, socket: SocketId, outbox: Arc<Outbox>) -> Stall {
        let key = (since, socket);
        self.lock().outboxes.insert(key, outbox);
        Stall { unread: Arc::clone(self), key }
    }

    /// Closes sockets that do not read, if what cannot wait has taken more than there is.
    pub(super) fn relieve_overdrawn(&self) {
        if self.bytes() > self.bytes_max.saturating_add(self.bytes_max / 8) {
            self.relieve(Duration::ZERO);
        }
    }

    /// Closes some of the sockets that have not read for so long, the longest first.
    pub(super) fn relieve(&self, patience: Duration) {
        let now = Instant::now();
        let mut given_up = Vec::new();
        {
            let mut stalled = self.lock();
            if stalled.relieved_at.is_some_and(|relieved_at| now.duration_since(relieved_at) < PAUSE) {
                return;
            }
            stalled.relieved_at = Some(now);
            for _ in 0..stalled.outboxes.len().div_ceil(PART) {
                let Some(oldest) = stalled.outboxes.first_entry() else { break };
                if now.duration_since(oldest.key().0) < patience {
                    break;
                }
                given_up.push(oldest.remove());
            }
        }
        given_up.iter().for_each(|outbox| outbox.give_up(CloseReason::OutOfMemory));
    }

    fn lock(&self) -> MutexGuard<'_, Stalled> {
        self.stalled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        self.unread.lock().outboxes.remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::super::outbox::{Offered, OutboxLimits, Share};
    use super::*;

    const LIMITS: OutboxLimits = OutboxLimits { bytes_max: 1_000, frames_max: 100 };

    fn outbox(unread: &Arc<Unread>) -> Arc<Outbox> {
        Arc::new(Outbox::new(LIMITS, Arc::clone(unread)))
    }

    fn frame(bytes: usize) -> Frame {
        Frame::text("x".repeat(bytes))
    }

    fn take(outbox: &Outbox) -> (usize, Option<CloseReason>) {
        let mut frames: Vec<Waiting> = Vec::new();
        let closed = outbox.take(&mut frames);
        (frames.len(), closed)
    }

    #[test]
    fn a_frame_for_many_sockets_is_counted_once_until_the_last_has_read_it() {
        let unread = Unread::new(10_000);
        let outboxes: Vec<_> = (0..100).map(|_| outbox(&unread)).collect();
        let frame = frame(500);
        outboxes.iter().for_each(|outbox| outbox.push(frame.clone()).unwrap());
        assert_eq!(unread.bytes(), 500);
        assert!(outboxes.iter().skip(1).all(|outbox| take(outbox) == (1, None)));
        assert_eq!(unread.bytes(), 500);
        take(&outboxes[0]);
        assert_eq!(unread.bytes(), 0);
    }

    #[test]
    fn what_the_window_has_waits_there_while_memory_is_short() {
        let unread = Unread::new(100);
        let (slow, quick) = (outbox(&unread), outbox(&unread));
        assert_eq!(slow.offer(frame(60), Share::ThreeQuarters), Offered::Queued);
        assert_eq!(slow.offer(frame(60), Share::ThreeQuarters), Offered::Queued);
        assert_eq!(slow.offer(frame(1), Share::ThreeQuarters), Offered::Full);
        assert_eq!(quick.offer(frame(1), Share::ThreeQuarters), Offered::Queued, "nothing waited");
        take(&slow);
        take(&quick);
        assert_eq!(slow.offer(frame(1), Share::ThreeQuarters), Offered::Queued);
    }

    #[test]
    fn those_that_have_not_read_for_longest_make_room() {
        let unread = Unread::new(1_000);
        let now = Instant::now();
        let outboxes: Vec<_> = (0..20).map(|_| outbox(&unread)).collect();
        // The later ones have been stalled for longer.
        let mut stalls: Vec<_> = (0u32..)
            .zip(&outboxes)
            .map(|(number, outbox)| {
                let since = now - Duration::from_secs(u64::from(number));
                unread.stall(since, SocketId(number.into()), Arc::clone(outbox))
            })
            .collect();
        // The oldest takes what is written to it, after all.
        stalls.pop();
        outboxes.iter().for_each(|outbox| outbox.push(frame(56)).unwrap());
        assert!(outboxes.iter().all(|outbox| outbox.push(frame(0)).is_ok()), "1,120 are within a margin");
        outboxes[0].push(frame(6)).unwrap();
        let closed: Vec<_> = (0..20).filter(|number| outboxes[*number].push(frame(0)).is_err()).collect();
        assert_eq!(closed, [17, 18]);
        assert_eq!(take(&outboxes[18]), (0, Some(CloseReason::OutOfMemory)));
        assert_eq!(unread.bytes(), 18 * 56 + 6);
    }

    #[test]
    fn who_has_not_read_for_a_moment_only_is_left_alone() {
        let unread = Unread::new(0);
        let (old, young) = (outbox(&unread), outbox(&unread));
        let now = Instant::now();
        let _stalls = [
            unread.stall(now - Duration::from_secs(2), SocketId(1), Arc::clone(&old)),
            unread.stall(now, SocketId(2), Arc::clone(&young)),
        ];
        unread.relieve(Duration::from_secs(1));
        std::thread::sleep(PAUSE);
        unread.relieve(Duration::from_secs(1));
        assert_eq!((take(&old).1, take(&young).1), (Some(CloseReason::OutOfMemory), None));
    }
}
