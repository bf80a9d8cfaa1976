//! An event in the window, and what it takes there.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::memory::{entry_bytes, heap_bytes, shared_bytes};
use crate::fanout::tight_queue::TightQueue;
use crate::postgres::Xid;
use crate::protocol::{Encoding, Meta};
use crate::route::{Event, Position, RealtimeMessage, Sight, Topic};

/// Memory taken by an event besides its payload and its `meta`, in bytes: the entry itself, its place in the order, and
/// what counts the owners of its payload.
const EVENT_BYTES: usize = TightQueue::<Kept>::ELEMENT_BYTES + TightQueue::<Topic>::ELEMENT_BYTES + 32;

/// Memory taken by the place of a row of `realtime.messages`, in bytes.
const ROW_BYTES: usize = entry_bytes::<(Uuid, Position)>();

/// An event that can be sent again.
#[derive(Clone, Debug)]
pub(in crate::fanout) struct Kept {
    pub(in crate::fanout) position: Position,
    pub(in crate::fanout) xid: Xid,
    pub(in crate::fanout) event: Arc<str>,
    pub(in crate::fanout) encoding: Encoding,
    pub(in crate::fanout) payload: Bytes,
    pub(in crate::fanout) meta: Meta,
    /// For whom it is, if not for all.
    pub(in crate::fanout) sight: Option<Arc<Sight>>,
    /// Its number among the events of its change on the channel: each is for other clients.
    pub(in crate::fanout) part: u32,
    /// The row of `realtime.messages` that it is.
    pub(super) row: Option<Uuid>,
    bytes: u32,
    /// Events of the channel with a binary payload, up to this one.
    pub(super) binaries: u32,
    /// Events of the channel that are not for all, up to this one.
    pub(super) gated: u32,
    /// The newest transaction of the channel's events up to this one, as a whole id.
    pub(super) newest: u64,
}

impl Kept {
    /// `sharers`: the events of its change, which have the `meta` in common.
    pub(in crate::fanout) fn new(
        position: Position,
        xid: Xid,
        event: &Event,
        meta: &Meta,
        sharers: usize,
    ) -> Self {
        let Event { event, payload, message, sight, .. } = event;
        let encoding = match message {
            Some(RealtimeMessage { binary: true, .. }) => Encoding::Binary,
            _ => Encoding::Json,
        };
        let row = message.map(|message| message.id);
        // Names of routes are the routes' own.
        let of_row = row.map_or(0, |_| shared_bytes(event.len()) + ROW_BYTES);
        let bytes = EVENT_BYTES
            + heap_bytes(payload.len())
            + shared_bytes(meta.as_str().len()) / sharers.max(1)
            + sight.as_ref().map_or(0, |sight| sight.bytes())
            + of_row;
        Self {
            position,
            xid,
            event: Arc::clone(event),
            encoding,
            payload: payload.clone(),
            meta: meta.clone(),
            sight: sight.clone(),
            part: 0,
            row,
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            binaries: 0,
            gated: 0,
            newest: 0,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes as usize
    }

    /// Whether it is this row of `realtime.messages`.
    pub(in crate::fanout) fn is_row(&self, id: Uuid) -> bool {
        self.row == Some(id)
    }
}
