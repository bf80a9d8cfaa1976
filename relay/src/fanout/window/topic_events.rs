//! The events of a topic in the window.

use std::collections::HashMap;

use uuid::Uuid;

use super::kept::Kept;
use super::memory::give_back;
use crate::fanout::tight_queue::TightQueue;
use crate::protocol::Encoding;
use crate::route::Position;

/// Where the rows of `realtime.messages` are.
#[derive(Debug, Default)]
pub(super) struct RowPositions(pub(super) HashMap<Uuid, Position>);

#[derive(Debug)]
pub(super) struct TopicEvents {
    pub(super) events: TightQueue<Kept>,
    /// Everything of this topic above it is here.
    pub(super) floor: Position,
    /// In a box, as most topics have none.
    pub(super) rows: Option<Box<RowPositions>>,
    /// It is among those of its organization that had no events.
    pub(super) is_quiet: bool,
}

impl TopicEvents {
    pub(super) fn at(floor: Position) -> Self {
        Self { events: TightQueue::default(), floor, rows: None, is_quiet: false }
    }

    /// `id`: the whole id of the event's transaction.
    pub(super) fn push(&mut self, mut kept: Kept, id: u64) {
        kept.newest = id;
        if let Some(last) = self.events.back() {
            kept.binaries = last.binaries;
            kept.gated = last.gated;
            kept.newest = id.max(last.newest);
            if last.position == kept.position {
                kept.part = last.part + 1;
            }
        }
        kept.gated = kept.gated.wrapping_add(u32::from(kept.sight.is_some()));
        kept.binaries = kept.binaries.wrapping_add(u32::from(kept.encoding == Encoding::Binary));
        if let Some(row) = kept.row {
            // Clients come back with one of the last.
            self.rows.get_or_insert_default().0.insert(row, kept.position);
        }
        self.events.push_back(kept);
    }

    pub(super) fn pop(&mut self) -> Option<Kept> {
        let kept = self.events.pop_front()?;
        self.floor = kept.position;
        if let (Some(row), Some(rows)) = (kept.row, &mut self.rows) {
            let RowPositions(rows) = &mut **rows;
            if rows.get(&row) == Some(&kept.position) {
                rows.remove(&row);
            }
            give_back(rows);
        }
        if self.events.is_empty() {
            self.rows = None;
        }
        Some(kept)
    }
}
