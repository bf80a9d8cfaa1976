//! Channels that are sent what the window holds, and are live once they have it: those that come back, and those that
//! were live until a burst filled their outbox.

use std::collections::{VecDeque, vec_deque};
use std::iter::Peekable;
use std::sync::Arc;
use std::time::Duration;

use super::channel::{Channel, Socket, Stage};
use super::hub::{Hub, SocketId};
use super::outbox::{Offered, Outbox, Share};
use super::room::Gate;
use super::shared_frames::SharedFrames;
use super::snapshot::{Cut, SnapshotRow, Undelivered};
use super::window::{Kept, Window};
use crate::metrics;
use crate::postgres::Xid;
use crate::protocol::{
    Broadcast, BroadcastPayload, Envelope, Frame, Ref, Vsn, Waiting, encode_broadcast, heartbeat_reply,
};
use crate::route::{DatabaseTag, Position, Template, Topic};

pub(super) const OVERTAKEN: &str = "events are missing before this point; fetch them anew";

pub(super) const EMPTIED: &str = "rows were removed all at once (TRUNCATE); fetch anew what you show";

/// The `meta` of a snapshot's row: it has neither id nor position.
const ROW_META: &[u8] = br#"{"replayed":true,"snapshot":true}"#;

/// Sockets that go on with their replays in one turn, where they had to wait for memory.
const FED_AT_ONCE: usize = 16;

/// Who takes nothing for so long gives memory up to those that wait for some.
const READS_WITHIN: Duration = Duration::from_secs(1);

/// How far a channel that catches up has come.
#[derive(Debug)]
pub(super) struct Cursor {
    /// Rows of its snapshot that go first, oldest first.
    pub(super) rows: VecDeque<SnapshotRow>,
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
    after: Position,
    frame: Waiting,
    /// It may be lost, as nothing that was told before depends on it.
    is_expendable: bool,
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
    fn lagging(position: Position, cut: Option<Arc<Cut>>) -> Self {
        Self { cut, is_replay: false, ..Self::at(position) }
    }
}

impl Hub {
    /// A position as clients see it. Empty before there is a database, and then there are no events either.
    pub(super) fn id_of(&self, position: Position) -> String {
        self.tag.map(|tag| position.id(tag).to_string()).unwrap_or_default()
    }

    /// Sends what the window holds, as far as there is room; the rest follows as the socket drains.
    pub(super) fn begin_replay(&mut self, id: SocketId, wire_topic: &str, complete: bool) {
        self.metrics.replays.get_or_create(&metrics::Completeness { complete }).inc();
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

    /// Has a socket wait for its turn if frames take all the memory that they may.
    pub(super) fn waits_for_memory(&mut self, id: SocketId) -> bool {
        let Some(socket) = self.sockets.get_mut(&id) else { return false };
        if !socket.outbox.unread().is_short() {
            return false;
        }
        if !std::mem::replace(&mut socket.is_starved, true) {
            self.starved.push_back(id);
            self.measure_starved();
        }
        true
    }

    /// Goes on with some of the sockets that wait for memory, in turn, as far as there is any.
    pub(super) fn feed_starved(&mut self) {
        for _ in 0..FED_AT_ONCE {
            let Some(id) = self.starved.pop_front() else { return };
            if let Some(socket) = self.sockets.get_mut(&id) {
                if socket.outbox.unread().is_short() {
                    return self.starved.push_front(id);
                }
                socket.is_starved = false;
                self.refill(id);
            }
            self.measure_starved();
        }
    }

    /// Takes memory from those that do not read, if others wait for it or there is too little for all.
    pub(super) fn relieve_memory(&self) {
        let Some(unread) = self.sockets.values().next().map(|socket| socket.outbox.unread()) else { return };
        match unread.is_short() && !self.starved.is_empty() {
            true => unread.relieve(READS_WITHIN),
            false => unread.relieve_overdrawn(),
        }
    }

    fn measure_starved(&self) {
        self.metrics.replays_waiting.set(i64::try_from(self.starved.len()).unwrap_or(i64::MAX));
    }

    fn go_live(&mut self, id: SocketId, wire_topic: &Arc<str>) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        let vsn = socket.vsn;
        let Some(channel) = socket.find_mut(wire_topic) else { return };
        let Stage::CatchingUp(cursor) = &mut channel.stage else { return };
        let cut = cursor.cut.take().filter(|cut| cut.lsn > self.passed);
        let (stage, gate) = match cut {
            Some(cut) => {
                self.behind.push((id, Arc::clone(wire_topic), Arc::clone(&cut)));
                (Stage::Behind(Arc::clone(&cut)), Gate::Behind(cut))
            }
            None => (Stage::Live, Gate::Open),
        };
        channel.stage = stage;
        self.rooms.set_gate(&channel.room, &channel.group(vsn), id, gate);
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
        self.rooms.set_gate(&channel.room, &channel.group(vsn), id, Gate::Lagging);
        self.metrics.channels_lagged.inc();
        outbox.request_refill();
    }

    /// Tells the channels to which rows of emptied tables went, at this place among their events. Those that are not live
    /// learn of it when they come to it; a snapshot that shows the change shows the tables empty.
    pub(super) fn announce_emptied(&mut self, templates: &[Template], xid: Xid, sent: Position) {
        let from_here = self.id_of(self.window.head());
        let mut lagging = Vec::new();
        let mut closed = Vec::new();
        for (id, socket) in &self.sockets {
            for channel in &socket.channels {
                let is_behind = match &channel.stage {
                    Stage::Pending(_) | Stage::CatchingUp(_) => true,
                    Stage::Behind(cut) => cut.snapshot.shows(xid),
                    Stage::Live => false,
                };
                let topic = &channel.room.topic;
                let is_deaf = is_behind || !channel.may_read_broadcasts();
                if is_deaf || !templates.iter().any(|template| template.can_address(topic)) {
                    continue;
                }
                let notice = socket.envelope(channel).replay_incomplete(EMPTIED, &from_here);
                let offered = match channel.room.has_history() {
                    true => socket.outbox.offer(notice, Share::ThreeQuarters),
                    false => socket.outbox.push(notice).map_or(Offered::Closed, |()| Offered::Queued),
                };
                match offered {
                    Offered::Queued => {}
                    Offered::Full => lagging.push((*id, Arc::clone(&channel.wire_topic))),
                    Offered::Closed => closed.push(*id),
                }
            }
        }
        lagging.iter().for_each(|(id, wire_topic)| self.lag(*id, wire_topic, sent));
        closed.into_iter().for_each(|id| self.disconnect(id));
    }

    /// Keeps something that is no event until the events before it have been sent. There is room for a quarter of an
    /// outbox: then the oldest gives way that may be lost, and if there is none, the socket is closed.
    pub(super) fn hold(&mut self, id: SocketId, wire_topic: &str, frame: Frame, is_expendable: bool) {
        let after = self.window.head();
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        let frame = socket.outbox.unread().count(frame);
        let Some(channel) = socket.find_mut(wire_topic) else { return };
        let Stage::CatchingUp(cursor) = &mut channel.stage else { return };
        cursor.held.push_back(Held { after, frame, is_expendable });
        let Socket { outbox, channels, .. } = socket;
        let mut queues: Vec<&mut VecDeque<Held>> = channels.iter_mut().filter_map(Channel::held).collect();
        let held = queues.iter().flat_map(|held| held.iter());
        let (frames, bytes) =
            held.fold((0, 0), |(frames, bytes), held| (frames + 1, bytes + held.frame.len()));
        if outbox.may_hold(frames, bytes) {
            return;
        }
        let oldest = queues.iter_mut().filter_map(|queue| {
            let index = queue.iter().position(|held| held.is_expendable)?;
            Some((queue[index].after, index, queue))
        });
        match oldest.min_by_key(|(after, ..)| *after) {
            Some((_, index, queue)) => {
                queue.remove(index);
                self.metrics.drop_message("lagging");
            }
            None => {
                outbox.overflow();
                self.disconnect(id);
            }
        }
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

impl Channel {
    /// What waits for the events before it.
    fn held(&mut self) -> Option<&mut VecDeque<Held>> {
        match &mut self.stage {
            Stage::CatchingUp(cursor) => Some(&mut cursor.held),
            _ => None,
        }
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
    /// None until what comes first has been sent: rows, and the notice of a loss.
    events: Option<Peekable<vec_deque::Iter<'a, Kept>>>,
    is_closed: bool,
    sent: u64,
}

impl<'a> Outlet<'a> {
    /// None for a channel that lacks nothing.
    fn new(vsn: Vsn, tag: Option<DatabaseTag>, outbox: &'a Outbox, channel: &'a mut Channel) -> Option<Self> {
        let Channel { wire_topic, join_ref, room, stage, .. } = channel;
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
            if !self.offer(self.envelope().replay_incomplete(OVERTAKEN, &from_here)) {
                return false;
            }
        }
        self.cursor.position = start;
        while let Some(row) = self.cursor.rows.front() {
            let meta = row.id.map(|id| format!(r#"{{"id":"{id}","replayed":true}}"#));
            let meta = Some(meta.as_ref().map_or(ROW_META, |meta| meta.as_bytes()));
            let payload = BroadcastPayload::new(row.encoding, &row.payload);
            let frame = self.envelope().replayed(&Broadcast { event: &row.event, payload, meta });
            if frame.is_some_and(|frame| !self.offer(frame)) {
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
            let is_sent = frame.is_none_or(|frame| self.offer(frame));
            if is_sent {
                self.cursor.held.pop_front();
            }
            return is_sent;
        }
        let Some(kept) = self.events.as_mut().and_then(|events| events.peek().copied()) else { return true };
        let is_shown = self.cursor.cut.as_ref().is_some_and(|cut| cut.shows(kept));
        if !is_shown {
            if self.encode(kept, shared).is_some_and(|frame| !self.offer(frame)) {
                return false;
            }
            self.sent += 1;
        }
        self.cursor.position = position;
        self.events.as_mut().and_then(Iterator::next);
        true
    }

    fn encode(&self, kept: &Kept, shared: &mut SharedFrames) -> Option<Frame> {
        let payload = BroadcastPayload::new(kept.encoding, &kept.payload);
        if self.cursor.is_replay {
            let meta = replayed_meta(&kept.meta);
            return self.envelope().replayed(&Broadcast { event: &kept.event, payload, meta: Some(&meta) });
        }
        shared.get(kept.position, self.vsn, self.wire_topic, || {
            let broadcast = Broadcast { event: &kept.event, payload, meta: Some(&kept.meta) };
            encode_broadcast(self.vsn, self.wire_topic, &broadcast)
        })
    }

    fn offer(&mut self, frame: Frame) -> bool {
        let offered = self.outbox.offer(frame, Share::Portion);
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

/// The meta of an event that is sent again.
fn replayed_meta(meta: &[u8]) -> Vec<u8> {
    let open = meta.strip_suffix(b"}").unwrap_or(meta);
    [open, br#","replayed":true}"#].concat()
}
