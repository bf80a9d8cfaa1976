//! Channels that are sent what the window holds, and are live once they have it: those that come back, and those that
//! were live until a burst filled their outbox.

use std::collections::vec_deque;
use std::iter::Peekable;
use std::sync::Arc;

use super::Hub;
use super::deliver::offer_again;
use crate::fanout::channel::{Channel, Socket, Stage};
use crate::fanout::cursor::Cursor;
use crate::fanout::outbox::{Offered, Outbox};
use crate::fanout::room::Valve;
use crate::fanout::shared_frames::SharedFrames;
use crate::fanout::socket_id::SocketId;
use crate::fanout::views::Viewer;
use crate::fanout::window::{Kept, Window};
use crate::metrics::Completeness;
use crate::protocol::{
    Broadcast, BroadcastPayload, Envelope, Frame, Meta, Ref, Vsn, encode_broadcast, heartbeat_reply,
};
use crate::route::{DatabaseTag, Position, Topic};

pub(super) const OVERTAKEN: &str = "events are missing before this point; fetch them anew";

impl Hub {
    /// Sends what the window holds, as far as there is room; the rest follows as the socket drains.
    pub(super) fn begin_replay(&mut self, id: SocketId, wire_topic: &str, complete: bool) {
        self.metrics.replays.get_or_create(&Completeness { complete }).inc();
        if !complete
            && let Some(socket) = self.sockets.get(&id)
            && let Some(channel) = socket.find(wire_topic)
            && let Stage::CatchingUp(cursor) = &channel.stage
        {
            let from_here = self.id_of(cursor.position);
            let frame = socket.envelope(channel).replay_incomplete(OVERTAKEN, &from_here);
            self.push(id, frame);
        }
        self.refill(id);
    }

    /// Goes on with what the channels of a socket are still to be sent, in the order in which it happened, as far as there
    /// is room. A channel whose cursor has reached the head is live from this turn on: nothing can come between. While
    /// frames take all the memory that they may, the socket waits for its turn.
    pub(super) fn refill(&mut self, id: SocketId) {
        if self.sockets.get(&id).is_some_and(Socket::is_behind) && self.waits_for_memory(id) {
            return;
        }
        let Some(Socket { vsn, outbox, channels, .. }) = self.sockets.get_mut(&id) else { return };
        let tag = self.tag;
        let outlets = channels.iter_mut().filter_map(|channel| Outlet::new(*vsn, tag, outbox, channel));
        let mut outlets: Vec<Outlet<'_>> = outlets.collect();
        for outlet in &mut outlets {
            self.metrics.replays_overtaken.inc_by(outlet.begin(&self.window).into());
        }
        while outbox.has_room_for_replay() {
            let due = outlets.iter_mut().filter_map(|outlet| Some((outlet.next_at()?, outlet)));
            let Some((_, next)) = due.min_by_key(|(at, _)| *at) else { break };
            if !next.send_next(&mut self.shared_frames) {
                break;
            }
        }
        let mut is_closed = false;
        let mut live = Vec::new();
        for mut outlet in outlets {
            let metrics = &self.metrics;
            let sent = if outlet.cursor.is_replay { &metrics.replayed_events } else { &metrics.deliveries };
            sent.inc_by(outlet.sent);
            is_closed |= outlet.is_closed;
            match outlet.is_done() {
                true => live.push(Arc::clone(outlet.wire_topic)),
                false => outbox.request_refill(),
            }
        }
        if is_closed {
            return self.disconnect(id);
        }
        live.iter().for_each(|wire_topic| self.go_live(id, wire_topic));
        self.tell_what_is_due(id);
    }

    fn go_live(&mut self, id: SocketId, wire_topic: &Arc<str>) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        let vsn = socket.vsn;
        let Some(channel) = socket.find_mut(wire_topic) else { return };
        let Stage::CatchingUp(cursor) = &mut channel.stage else { return };
        let cut = cursor.cut.take().filter(|cut| cut.lsn > self.passed);
        let (stage, valve) = match cut {
            Some(cut) => {
                self.behind.push((id, Arc::clone(wire_topic), Arc::clone(&cut)));
                (Stage::Behind(Arc::clone(&cut)), Valve::Behind(cut))
            }
            None => (Stage::Live, Valve::Open),
        };
        channel.stage = stage;
        self.rooms.set_valve(&channel.room, &channel.group(vsn), id, valve);
    }

    /// A live channel's outbox has no room for more events: it goes on from the window, after what it was sent last.
    pub(super) fn lag(&mut self, id: SocketId, wire_topic: &str, sent: Position) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        let vsn = socket.vsn;
        let outbox = Arc::clone(&socket.outbox);
        let Some(channel) = socket.find_mut(wire_topic) else { return };
        let cut = match &channel.stage {
            Stage::Live => None,
            Stage::Behind(cut) => Some(Arc::clone(cut)),
            Stage::Pending(_) | Stage::CatchingUp(_) => return,
        };
        channel.stage = Stage::CatchingUp(Box::new(Cursor::lagging(sent, cut)));
        self.rooms.set_valve(&channel.room, &channel.group(vsn), id, Valve::Lagging);
        self.metrics.channels_lagged.inc();
        outbox.request_refill();
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

/// A channel that is sent what it lacks.
struct Outlet<'a> {
    vsn: Vsn,
    tag: Option<DatabaseTag>,
    outbox: &'a Outbox,
    wire_topic: &'a Arc<str>,
    join_ref: &'a Ref,
    topic: &'a Topic,
    cursor: &'a mut Cursor,
    viewer: Viewer<'a>,
    /// None until what comes first has been sent: rows, and the notice of a loss.
    events: Option<Peekable<vec_deque::Iter<'a, Kept>>>,
    is_closed: bool,
    sent: u64,
}

impl<'a> Outlet<'a> {
    /// None for a channel that lacks nothing.
    fn new(vsn: Vsn, tag: Option<DatabaseTag>, outbox: &'a Outbox, channel: &'a mut Channel) -> Option<Self> {
        let Channel { wire_topic, join_ref, room, viewer, stage, .. } = channel;
        let Stage::CatchingUp(cursor) = stage else { return None };
        let topic = &room.topic;
        Some(Self {
            vsn,
            tag,
            outbox,
            wire_topic,
            join_ref,
            topic,
            cursor,
            viewer: Viewer::new(viewer.as_ref()),
            events: None,
            is_closed: false,
            sent: 0,
        })
    }

    fn envelope(&self) -> Envelope<'a> {
        Envelope { vsn: self.vsn, topic: self.wire_topic, join_ref: self.join_ref }
    }

    /// Sends what comes before the events. Tells whether events were lost.
    fn begin(&mut self, window: &'a Window) -> bool {
        if !self.outbox.has_room_for_replay() {
            return false;
        }
        let is_overtaken = window.overtakes(self.topic, self.cursor.position);
        let start = self.cursor.position.max(window.floor_of(self.topic));
        if is_overtaken {
            let from_here = self.tag.map(|tag| start.id(tag).to_string()).unwrap_or_default();
            if !self.queue(self.envelope().replay_incomplete(OVERTAKEN, &from_here)) {
                return false;
            }
        }
        self.cursor.position = start;
        while let Some(row) = self.cursor.rows.front() {
            let meta = row.id.map_or_else(Meta::of_row, Meta::of_message);
            let payload = BroadcastPayload::new(row.encoding, &row.payload);
            let broadcast = Broadcast { event: &row.event, payload, meta: Some(&meta) };
            let frame = self.envelope().replayed(&broadcast);
            if frame.is_some_and(|frame| !self.queue(frame)) {
                return is_overtaken;
            }
            self.cursor.rows.pop_front();
            self.sent += 1;
        }
        self.cursor.undelivered = None;
        self.events = Some(window.after(self.topic, self.cursor.position).peekable());
        is_overtaken
    }

    /// Where what comes next has its place: after the event of that position, if it is no event itself. None before
    /// [`Outlet::begin`] is through, and when nothing is left.
    fn next_at(&mut self) -> Option<(Position, /* no event */ bool)> {
        let event = self.events.as_mut()?.peek().map(|kept| (kept.position, false));
        let held = self.cursor.held.front().map(|held| (held.after, true));
        event.into_iter().chain(held).min()
    }

    fn is_done(&mut self) -> bool {
        self.events.is_some() && self.next_at().is_none()
    }

    /// Sends what comes next. False: there is no room for it.
    fn send_next(&mut self, shared: &mut SharedFrames) -> bool {
        let Some((position, is_held)) = self.next_at() else { return true };
        if is_held {
            let frame = self.cursor.held.front().map(|held| Frame::clone(&held.frame));
            let is_sent = frame.is_none_or(|frame| self.queue(frame));
            if is_sent {
                self.cursor.held.pop_front();
            }
            return is_sent;
        }
        let Some(kept) = self.events.as_mut().and_then(|events| events.peek().copied()) else { return true };
        let is_shown = self.cursor.cut.as_ref().is_some_and(|cut| cut.shows(kept));
        let is_seen = self.viewer.sees(&kept.sight);
        if !is_shown && is_seen {
            if self.encode(kept, shared).is_some_and(|frame| !self.queue(frame)) {
                return false;
            }
            self.sent += 1;
        }
        let next = self.events.as_mut().and_then(|events| {
            events.next();
            events.peek()
        });
        // Of the events of one change the client has one at most. Until it is found, the change is still to come.
        if is_seen || next.is_none_or(|next| next.position != position) {
            self.cursor.position = position;
        }
        true
    }

    fn encode(&self, kept: &Kept, shared: &mut SharedFrames) -> Option<Frame> {
        let payload = BroadcastPayload::new(kept.encoding, &kept.payload);
        if self.cursor.is_replay {
            let meta = kept.meta.replayed();
            return self.envelope().replayed(&Broadcast { event: &kept.event, payload, meta: Some(&meta) });
        }
        shared.get((kept.position, kept.part), self.vsn, self.wire_topic, || {
            let broadcast = Broadcast { event: &kept.event, payload, meta: Some(&kept.meta) };
            encode_broadcast(self.vsn, self.wire_topic, &broadcast)
        })
    }

    fn queue(&mut self, frame: Frame) -> bool {
        let offered = offer_again(self.outbox, frame);
        self.is_closed |= offered == Offered::Closed;
        offered == Offered::Queued
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
