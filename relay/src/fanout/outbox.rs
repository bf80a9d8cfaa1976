//! What waits to be written to one socket.
//!
//! The hub pushes and never waits; the session takes what there is. What the window can give again is offered and takes
//! a share of the bound, so that it never overflows; what is said once is pushed, and a client that lets that overflow
//! is closed. Nobody else notices either.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::socket_id::SocketId;
use super::unread::{Stall, Unread};
use crate::config::units;
use crate::protocol::{CloseReason, Frame, Waiting};

/// How much may wait for one socket.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub struct OutboxLimits {
    /// Bytes that may wait for a slow socket before it is closed with code 1013.
    #[arg(id = "OUTBOX_BYTES_MAX", long = "max-outbox-bytes", env = "CAMPFIRE_MAX_OUTBOX_BYTES", default_value_t = 1 << 20, value_parser = units::bytes::<usize>)]
    pub bytes_max: usize,

    /// Frames that may wait for a slow socket before it is closed with code 1013.
    #[arg(id = "OUTBOX_FRAMES_MAX", long = "max-outbox-frames", env = "CAMPFIRE_MAX_OUTBOX_FRAMES", default_value_t = 1024, value_parser = units::count::<usize>)]
    pub frames_max: usize,
}

/// A bounded queue of frames for one socket.
#[derive(Debug)]
pub struct Outbox {
    limits: OutboxLimits,
    unread: Arc<Unread>,
    state: Mutex<State>,
    /// Whether the hub lets the client send large messages.
    takes_large: AtomicBool,
    /// Something can be taken.
    filled: Notify,
    /// The socket is to be given up without sending what waits.
    overflowed: Notify,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Waiting>,
    bytes: usize,
    closed: Option<CloseReason>,
    /// The hub has more to send than there was room for.
    refill: bool,
}

/// What is taken out of the window at once, at most: many sockets may be behind at the same time, and what is encoded for
/// one of them alone takes memory of its own.
const PORTION: OutboxLimits = OutboxLimits { bytes_max: 64 << 10, frames_max: 128 };

/// How much of the bounds a frame that can be had again may fill. The rest is for what is said once: replies, closes,
/// what clients send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    /// Out of the window: half, and no more than a portion.
    Portion,
    /// Live.
    ThreeQuarters,
}

impl Share {
    fn of(self, limits: OutboxLimits) -> OutboxLimits {
        let OutboxLimits { bytes_max, frames_max } = limits;
        match self {
            Self::Portion => OutboxLimits {
                bytes_max: PORTION.bytes_max.min(bytes_max / 2),
                frames_max: PORTION.frames_max.min(frames_max / 2),
            },
            // Not `bound * 3 / 4`, which may overflow.
            Self::ThreeQuarters => {
                OutboxLimits { bytes_max: bytes_max - bytes_max / 4, frames_max: frames_max - frames_max / 4 }
            }
        }
    }
}

/// What became of a frame that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offered {
    Queued,
    /// There is no room now. Nothing has changed.
    Full,
    /// The socket is being closed.
    Closed,
}

/// The frame was not queued: the socket is being closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closed;

impl Outbox {
    pub fn new(limits: OutboxLimits, unread: Arc<Unread>) -> Self {
        Self {
            limits,
            unread,
            state: Mutex::default(),
            takes_large: AtomicBool::new(false),
            filled: Notify::new(),
            overflowed: Notify::new(),
        }
    }

    /// Queues a frame, or begins to close a socket whose outbox it would overflow.
    pub(super) fn push(&self, frame: Frame) -> Result<(), Closed> {
        let frame = self.unread.count(frame);
        let mut state = self.lock();
        if state.closed.is_some() {
            return Err(Closed);
        }
        let fits =
            state.bytes + frame.len() <= self.limits.bytes_max && state.frames.len() < self.limits.frames_max;
        // A frame that is larger than the bound by itself goes out when nothing waits, or it never could.
        if fits || state.frames.is_empty() {
            state.bytes += frame.len();
            state.frames.push_back(frame);
            drop(state);
            self.filled.notify_one();
            self.unread.relieve_overdrawn();
            Ok(())
        } else {
            drop(state);
            self.overflow();
            Err(Closed)
        }
    }

    /// Gives the socket up: what waits is lost with it, and the client comes back and resumes.
    pub(super) fn overflow(&self) {
        self.give_up(CloseReason::SlowConsumer);
    }

    /// Ends the socket without what waits.
    pub fn give_up(&self, reason: CloseReason) {
        let closed = Some(reason);
        let _waited = std::mem::replace(&mut *self.lock(), State { closed, ..State::default() });
        self.filled.notify_one();
        self.overflowed.notify_one();
    }

    /// Queues a frame if its share of the bounds has room for it, or if nothing waits: one that is larger than the
    /// share by itself could never go out otherwise.
    pub(super) fn offer(&self, frame: Frame, share: Share) -> Offered {
        let OutboxLimits { bytes_max, frames_max } = share.of(self.limits);
        let is_short = self.unread.is_short();
        let frame = self.unread.count(frame);
        let mut state = self.lock();
        if state.closed.is_some() {
            return Offered::Closed;
        }
        let fits = state.bytes + frame.len() <= bytes_max && state.frames.len() < frames_max;
        if (is_short || !fits) && !state.frames.is_empty() {
            return Offered::Full;
        }
        state.bytes += frame.len();
        state.frames.push_back(frame);
        drop(state);
        self.filled.notify_one();
        Offered::Queued
    }

    /// Whether there may be room for more out of the window: worth encoding something.
    pub(super) fn has_room_for_replay(&self) -> bool {
        let OutboxLimits { bytes_max, frames_max } = Share::Portion.of(self.limits);
        let state = self.lock();
        state.bytes < bytes_max && state.frames.len() < frames_max || state.frames.is_empty()
    }

    /// Whether so many bytes in so many frames that wait for their turn elsewhere are within the share that is for
    /// what is said once.
    pub(super) fn may_hold(&self, frames: usize, bytes: usize) -> bool {
        frames <= self.limits.frames_max / 4 && bytes <= self.limits.bytes_max / 4
    }

    /// Whether a frame of so many bytes leaves room for what is live, or nothing waits at all.
    pub(super) fn has_room_for(&self, bytes: usize) -> bool {
        let state = self.lock();
        let fits = state.bytes + bytes <= self.limits.bytes_max / 2
            && state.frames.len() < self.limits.frames_max / 2;
        fits || state.frames.is_empty()
    }

    /// A write to the socket that began at this time is not through yet. If memory is short, the sockets whose writes wait
    /// for longest are given up.
    pub fn stall(self: &Arc<Self>, since: Instant, socket: SocketId) -> Stall {
        let outbox = Arc::clone(self);
        self.unread.stall(since, socket, Box::new(move || outbox.give_up(CloseReason::OutOfMemory)))
    }

    /// Memory that frames for all sockets take.
    pub(super) fn unread(&self) -> &Unread {
        &self.unread
    }

    /// From here on the client may send large messages.
    pub(super) fn take_large(&self) {
        self.takes_large.store(true, Ordering::Relaxed);
    }

    /// Whether the client may send large messages.
    pub fn takes_large(&self) -> bool {
        self.takes_large.load(Ordering::Relaxed)
    }

    /// Asks the session to call for more once it has written what waits.
    pub(super) fn request_refill(&self) {
        self.lock().refill = true;
        self.filled.notify_one();
    }

    /// Whether the hub asked, since this was last asked.
    pub fn take_refill_request(&self) -> bool {
        std::mem::take(&mut self.lock().refill)
    }

    /// Ends the socket after what already waits. The first reason stands.
    pub fn close(&self, reason: CloseReason) {
        self.lock().closed.get_or_insert(reason);
        self.filled.notify_one();
    }

    /// Resolves when there is something to take: frames, the reason to close, or a request to refill. Cancel-safe.
    pub async fn filled(&self) {
        loop {
            {
                let state = self.lock();
                if !state.frames.is_empty() || state.closed.is_some() || state.refill {
                    return;
                }
            }
            self.filled.notified().await;
        }
    }

    /// Moves what waits into `frames`. Returns the reason to close once everything queued before it was taken.
    pub fn take(&self, frames: &mut impl Extend<Waiting>) -> Option<CloseReason> {
        let mut state = self.lock();
        if state.frames.is_empty() {
            return state.closed;
        }
        state.bytes = 0;
        // Taken whole, so that an idle socket keeps no buffer.
        frames.extend(std::mem::take(&mut state.frames));
        None
    }

    /// Resolves once, when the socket is given up without what waits, and tells why.
    pub async fn overflowed(&self) -> CloseReason {
        self.overflowed.notified().await;
        self.lock().closed.unwrap_or(CloseReason::SlowConsumer)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
