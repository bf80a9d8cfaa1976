//! The place of a channel that catches up: in the rows of its snapshot, then in the window.

use std::collections::VecDeque;
use std::sync::Arc;

use super::cut::Cut;
use super::rows::{RowEvent, Undelivered};
use crate::protocol::Waiting;
use crate::route::Position;

/// How far a channel that catches up has come.
#[derive(Debug)]
pub(super) struct Cursor {
    /// Rows of its snapshot that go first, oldest first.
    pub(super) rows: VecDeque<RowEvent>,
    /// Their memory.
    pub(super) undelivered: Option<Undelivered>,
    /// Everything up to here was sent.
    pub(super) position: Position,
    /// What its snapshot shows is not sent again.
    pub(super) cut: Option<Arc<Cut>>,
    /// The client asked for what it missed, and is told which events are that. Otherwise it was live, and nothing about
    /// its events tells that it is not.
    pub(super) is_replay: bool,
    /// What was said since that is no event, in its place among them.
    pub(super) held: VecDeque<Held>,
}

/// Something that waits for the events before it.
#[derive(Debug)]
pub(super) struct Held {
    /// The head when it was said.
    pub(super) after: Position,
    pub(super) frame: Waiting,
    /// It may be lost, as nothing that was told before depends on it.
    pub(super) is_expendable: bool,
}

impl Cursor {
    /// Of a client that comes back.
    pub(super) fn at(position: Position) -> Self {
        Self {
            rows: VecDeque::new(),
            undelivered: None,
            position,
            cut: None,
            is_replay: true,
            held: VecDeque::new(),
        }
    }

    /// Of a client that had everything up to a position as it happened.
    pub(super) fn lagging(position: Position, cut: Option<Arc<Cut>>) -> Self {
        Self { cut, is_replay: false, ..Self::at(position) }
    }
}
