//! Frames of the window's events that were encoded a moment ago: a burst leaves many channels of a room behind, and they
//! go through the same events at about the same time. So they share the bytes, as they do when they are live.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::protocol::{Frame, Vsn};
use crate::route::Position;

/// Enough for the distance between the first and the last of those that read about equally fast.
const BYTES_MAX: usize = 4 << 20;

/// The event by its position and its number among those of the change, and for whom it is encoded.
type Key = (Position, u32, Vsn, Arc<str>);

#[derive(Debug, Default)]
pub(super) struct SharedFrames {
    known: HashMap<Key, Frame>,
    /// Oldest first.
    order: VecDeque<Key>,
    bytes: usize,
}

impl SharedFrames {
    /// The frame of an event for those who joined a topic so, encoded if it is not known. None if it has none for them.
    pub(super) fn get(
        &mut self,
        (position, part): (Position, u32),
        vsn: Vsn,
        wire_topic: &Arc<str>,
        encode: impl FnOnce() -> Option<Frame>,
    ) -> Option<Frame> {
        let entry = match self.known.entry((position, part, vsn, Arc::clone(wire_topic))) {
            Entry::Occupied(known) => return Some(known.get().clone()),
            Entry::Vacant(entry) => entry,
        };
        let frame = encode()?;
        self.order.push_back(entry.key().clone());
        entry.insert(frame.clone());
        self.bytes += frame.len();
        while self.bytes > BYTES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.bytes -= self.known.remove(&oldest).map_or(0, |frame| frame.len());
        }
        Some(frame)
    }

    /// Positions may mean something else from here on.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::Lsn;

    #[test]
    fn a_frame_is_encoded_once_while_it_is_remembered() {
        let mut frames = SharedFrames::default();
        let topic: Arc<str> = "realtime:r".into();
        let mut encoded = 0;
        let mut get = |lsn: u64, part, vsn, bytes: usize| {
            let position = Position { timeline: 1, commit_lsn: Lsn(lsn), change: 0 };
            let encode = || {
                encoded += 1;
                Some(Frame::text("x".repeat(bytes)))
            };
            frames.get((position, part), vsn, &topic, encode).map(|frame| frame.len());
            encoded
        };
        assert_eq!((get(1, 0, Vsn::V1, 10), get(1, 0, Vsn::V1, 10), get(1, 0, Vsn::V2, 10)), (1, 1, 2));
        assert_eq!(get(1, 1, Vsn::V1, 10), 3, "another event of the same change");
        assert_eq!(get(2, 0, Vsn::V1, BYTES_MAX), 4);
        assert_eq!(get(1, 0, Vsn::V1, 10), 5, "what is old gives way");
        assert_eq!(frames.bytes, 10);
    }
}
