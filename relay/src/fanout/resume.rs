//! Channels that come back: what they missed out of the window, and then live.

use super::channel::Socket;
use super::hub::{Hub, SocketId};
use super::replay::Start;
use super::window::Window;
use crate::metrics;
use crate::protocol::{Broadcast, BroadcastPayload, Envelope, Ref, SystemStatus, heartbeat_reply};
use crate::route::{DatabaseTag, Topic};

/// Status ok, because an error would make the Python client rejoin.
const REPLAY_INCOMPLETE: &str = "ReplayIncomplete: events are missing before this point; fetch them anew";

impl Hub {
    /// Sends what the window holds, as far as there is room; the rest follows as the socket drains.
    pub(super) fn begin_replay(&mut self, id: SocketId, start: Start) {
        self.metrics.replays.get_or_create(&metrics::Completeness { complete: start.complete }).inc();
        if !start.complete
            && let Some(socket) = self.sockets.get(&id)
            && let Some(channel) = socket.channels.last()
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
            let Some(cursor) = &mut channel.cursor else { continue };
            let topic = &channel.room.topic;
            let envelope = Envelope { vsn: *vsn, topic: &channel.wire_topic, join_ref: &channel.join_ref };
            let floor = self.window.floor_of(topic);
            if *cursor < floor {
                // The client reads more slowly than the window moves.
                overflowed |= outbox.push(envelope.system(SystemStatus::Ok, REPLAY_INCOMPLETE)).is_err();
                *cursor = floor;
            }
            let mut rest = self.window.after(topic, *cursor);
            let mut sent = 0;
            while outbox.has_room_for_replay()
                && let Some(kept) = rest.next()
            {
                let payload = BroadcastPayload::Json(&kept.payload);
                let meta = replayed_meta(&kept.meta);
                let broadcast = Broadcast { event: &kept.event, payload, meta: Some(&meta) };
                if let Some(frame) = envelope.replayed(&broadcast) {
                    overflowed |= outbox.push(frame).is_err();
                }
                *cursor = kept.position;
                sent += 1;
            }
            self.metrics.replayed_events.inc_by(sent);
            if rest.len() == 0 {
                channel.cursor = None;
                self.rooms.go_live(&channel.room, &channel.group(*vsn), id);
            } else {
                outbox.request_refill();
            }
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
        let resuming = socket.channels.iter().filter(|channel| channel.resumes);
        let reached = resuming.map(|channel| channel.cursor.unwrap_or(self.window.head())).min();
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
    start: Start,
    topic: &Topic,
    window: &Window,
    tag: Option<DatabaseTag>,
) -> String {
    let Start { position, complete } = start;
    let count = window.after(topic, position).len();
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
