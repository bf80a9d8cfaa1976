//! Memory that frames take until sockets have read them, over all sockets.
//!
//! An outbox bounds what waits for one socket; of fifty thousand that do not read, each within its bound, the sum would
//! still be more than a machine has. So there is a bound for all. While it is reached, replays wait for their turn, live
//! events are left to the window where something waits already, and if that is not enough, the sockets that have not
//! read for longest are closed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::socket_id::SocketId;
use crate::protocol::{Account, Frame, Waiting};

/// Between two rounds of closing, so that the memory of the first is free before more are looked for.
pub(super) const PAUSE: Duration = Duration::from_millis(20);

/// What part of the sockets that do not read a round closes.
const PART: usize = 16;

/// All frames that wait to be read.
#[derive(Debug)]
pub struct Unread {
    bytes_max: usize,
    account: Account,
    stalled: Mutex<Stalled>,
}

/// Gives a socket up, with all that waits for it.
type GiveUp = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Stalled {
    /// Sockets that do not take what is written to them, the oldest first.
    sockets: BTreeMap<(Instant, SocketId), GiveUp>,
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
    pub(super) fn stall(self: &Arc<Self>, since: Instant, socket: SocketId, give_up: GiveUp) -> Stall {
        let key = (since, socket);
        self.lock().sockets.insert(key, give_up);
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
            for _ in 0..stalled.sockets.len().div_ceil(PART) {
                let Some(oldest) = stalled.sockets.first_entry() else { break };
                if now.duration_since(oldest.key().0) < patience {
                    break;
                }
                given_up.push(oldest.remove());
            }
        }
        given_up.into_iter().for_each(|give_up| give_up());
    }

    fn lock(&self) -> MutexGuard<'_, Stalled> {
        self.stalled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        self.unread.lock().sockets.remove(&self.key);
    }
}

impl fmt::Debug for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stalled").field("sockets", &self.sockets.len()).finish_non_exhaustive()
    }
}
