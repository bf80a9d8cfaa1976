//! Reads messages, and bounds what unfinished ones take.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::Connection;
use crate::fanout::{Outbox, SocketId};
use crate::socket::Sockets;
use crate::socket::message::Message;
use crate::socket::unfinished::{Claim, Unfinished};
use crate::socket::wire::ReadError;

/// What a message may have beside its payload: a topic, an event's name, a token.
const ENVELOPE_BYTES: usize = 64 * 1024;

pub(super) struct Intake {
    id: SocketId,
    outbox: Arc<Outbox>,
    unfinished: Arc<Unfinished>,
    /// Largest message before a channel outside `org:` is joined, and afterwards.
    bytes_max: (usize, usize),
    /// The memory of the message that has begun, if it has any.
    pub(super) claim: Option<Claim>,
    claimed: usize,
    /// Since when more of a message is waited for.
    pub(super) amid_since: Option<Instant>,
}

impl Intake {
    pub(super) fn new(id: SocketId, sockets: &Sockets, outbox: Arc<Outbox>) -> Self {
        let hub = &sockets.hub_settings;
        let payload = hub.org_payload_bytes_max.max(hub.presence.payload_bytes_max);
        let large = sockets.settings.frame_bytes_max;
        let bytes_max = (large.min(payload.saturating_add(ENVELOPE_BYTES)), large);
        let unfinished = Arc::clone(&sockets.unfinished);
        Self { id, outbox, unfinished, bytes_max, claim: None, claimed: 0, amid_since: None }
    }

    pub(super) fn poll(
        &mut self,
        wire: &mut Connection,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Message, ReadError>> {
        let (small, large) = self.bytes_max;
        let read = wire.poll_read(cx, if self.outbox.takes_large() { large } else { small });
        if !wire.is_amid_message() {
            self.amid_since = None;
        } else if read.is_pending() {
            let since = *self.amid_since.get_or_insert_with(Instant::now);
            let bytes = wire.unfinished_bytes();
            if bytes > 0 && (bytes != self.claimed || self.claim.is_none()) {
                let claim = || self.unfinished.claim(since, self.id, &self.outbox);
                self.claim.get_or_insert_with(claim).grow(bytes);
                self.claimed = bytes;
            }
        }
        read
    }
}
