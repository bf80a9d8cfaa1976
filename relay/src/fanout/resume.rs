//! Channels that come back: what they missed out of the window, and then live.

use std::collections::VecDeque;
use std::sync::Arc;

use super::channel::{Socket, Stage};
use super::hub::{Hub, SocketId};
use super::room::Gate;
use super::snapshot::{Cut, SnapshotRow, Undelivered};
use super::window::Window;
use crate::metrics;
use crate::protocol::{Broadcast, BroadcastPayload, Envelope, Ref, SystemStatus, heartbeat_reply};
use crate::route::{DatabaseTag, Position};

/// Status ok, because an error would make the Python client rejoin.
const REPLAY_INCOMPLETE: &str = "ReplayIncomplete: events are missing before this point; fetch them anew";

/// The `meta` of a snapshot's row: it has neither id nor position.
const ROW_META: &[u8] = br#"{"replayed":true,"snapshot":true}"#;

/// How far a channel that catches up has come.
#[derive(Debug)]
pub(super) struct Cursor {
    /// Rows of its snapshot that go first, oldest first.
    pub(super) rows: VecDeque<SnapshotRow>,
    /// Their memory.
    pub(super) undelivered: Option<Undelivered>,
    /// Everything up to here was sent out of the window.
    pub(super) position: Position,
    /// What its snapshot shows is not sent again.
    pub(super) cut: Option<Arc<Cut>>,
}

impl Cursor {
    pub(super) fn at(position: Position) -> Self {
        Self { rows: VecDeque::new(), undelivered: None, position, cut: None }
    }
}

impl Hub {
    /// Sends what the window holds, as far as there is room; the rest follows as the socket drains.
    pub(super) fn begin_replay(&mut self, id: SocketId, wire_topic: &str, complete: bool) {
        self.metrics.replays.get_or_create(&metrics::Completeness { complete }).inc();
        if !complete
            && let Some(socket) = self.sockets.get(&id)
            && let Some(channel) = socket.find(wire_topic)
        {
            let frame = socket.envelope(channel).system(SystemStatus::Ok, REPLAY_INCOMPLETE);
            self.push(id, frame);
        }
        self.refill(id);
    }

    /// Goes on with the replays of a socket. A channel whose cursor has reached the head is live from this turn on:
    /// nothing can come between.
    pub(super) fn refill(&mut self, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        let Socket { vsn, outbox, channels } = socket;
        let mut overflowed = false;
        for channel in channels {
            let group = channel.group(*vsn);
            let envelope = Envelope { vsn: *vsn, topic: &channel.wire_topic, join_ref: &channel.join_ref };
            let Stage::CatchingUp(cursor) = &mut channel.stage else { continue };
            let topic = &channel.room.topic;
            let floor = self.window.floor_of(topic);
            if cursor.position < floor {
                // The client reads more slowly than the window moves.
                overflowed |= outbox.push(envelope.system(SystemStatus::Ok, REPLAY_INCOMPLETE)).is_err();
                cursor.position = floor;
            }
            let mut sent = 0;
            while outbox.has_room_for_replay()
                && let Some(SnapshotRow { id, event, encoding, payload }) = cursor.rows.pop_front()
            {
                let meta = id.map(|id| format!(r#"{{"id":"{id}","replayed":true}}"#));
                let meta = Some(meta.as_ref().map_or(ROW_META, |meta| meta.as_bytes()));
                let payload = BroadcastPayload::new(encoding, &payload);
                let broadcast = Broadcast { event: &event, payload, meta };
                if let Some(frame) = envelope.replayed(&broadcast) {
                    overflowed |= outbox.push(frame).is_err();
                }
                sent += 1;
            }
            if cursor.rows.is_empty() {
                cursor.undelivered = None;
            }
            let mut rest = self.window.after(topic, cursor.position);
            while cursor.rows.is_empty()
                && outbox.has_room_for_replay()
                && let Some(kept) = rest.next()
            {
                cursor.position = kept.position;
                if cursor.cut.as_ref().is_some_and(|cut| cut.snapshot.shows(kept.xid)) {
                    continue;
                }
                let payload = BroadcastPayload::new(kept.encoding, &kept.payload);
                let meta = replayed_meta(&kept.meta);
                let broadcast = Broadcast { event: &kept.event, payload, meta: Some(&meta) };
                if let Some(frame) = envelope.replayed(&broadcast) {
                    overflowed |= outbox.push(frame).is_err();
                }
                sent += 1;
            }
            self.metrics.replayed_events.inc_by(sent);
            if !cursor.rows.is_empty() || rest.len() > 0 {
                outbox.request_refill();
                continue;
            }
            let cut = cursor.cut.take().filter(|cut| cut.lsn > self.passed);
            let (stage, gate) = match cut {
                Some(cut) => {
                    self.behind.push((id, Arc::clone(&channel.wire_topic), Arc::clone(&cut)));
                    (Stage::Behind(Arc::clone(&cut)), Gate::Behind(cut))
                }
                None => (Stage::Live, Gate::Open),
            };
            channel.stage = stage;
            self.rooms.set_gate(&channel.room, &group, id, gate);
        }
        if overflowed {
            return self.disconnect(id);
        }
        self.tell_what_is_due(id);
    }

    /// Answers a heartbeat. If the socket has channels that resume, with a position: everything at or below it is
    /// already on this socket.
    pub(super) fn heartbeat(&mut self, id: SocketId, reference: &Ref) {
        let Some(socket) = self.sockets.get(&id) else { return };
        let head = self.window.head();
        let mut reached = None;
        for channel in socket.channels.iter().filter(|channel| channel.resumes) {
            let position = match &channel.stage {
                // Until its rows are there, no position says what it has.
                Stage::Pending(_) => return self.push(id, heartbeat_reply(socket.vsn, reference, "{}")),
                Stage::CatchingUp(cursor) if !cursor.rows.is_empty() => {
                    return self.push(id, heartbeat_reply(socket.vsn, reference, "{}"));
                }
                Stage::CatchingUp(cursor) => cursor.position,
                Stage::Behind(_) | Stage::Live => head,
            };
            reached = Some(reached.map_or(position, |reached: Position| reached.min(position)));
        }
        let response = match (reached, self.tag) {
            (Some(position), Some(tag)) => format!(r#"{{"position":"{}"}}"#, position.id(tag)),
            _ => "{}".to_owned(),
        };
        let frame = heartbeat_reply(socket.vsn, reference, &response);
        self.push(id, frame);
    }
}

/// The reply to a join that asked for a replay.
pub(super) fn replay_response(
    complete: bool,
    count: usize,
    window: &Window,
    tag: Option<DatabaseTag>,
) -> String {
    let head = tag.map(|tag| window.head().id(tag).to_string()).unwrap_or_default();
    format!(
        r#"{{"postgres_changes":[],"replay":{{"complete":{complete},"position":"{head}","count":{count}}}}}"#
    )
}

/// The meta of an event that is sent again.
fn replayed_meta(meta: &[u8]) -> Vec<u8> {
    let open = meta.strip_suffix(b"}").unwrap_or(meta);
    [open, br#","replayed":true}"#].concat()
}
