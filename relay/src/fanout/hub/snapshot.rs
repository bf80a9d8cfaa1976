//! Joins that get the database's rows first, and then exactly the events that those rows do not show.
//!
//! The rows are read elsewhere, and the hub does not wait for them: the channel is pending, and the window keeps what
//! comes meanwhile. What the snapshot's transaction saw is told by transaction ids, never by LSNs: the two disagree.
//!
//! What SQL has sent to a private channel is both, row and event. Its rows come once the stream has passed all that
//! they show, so that each is either in the window, in the order of the commits, or older than the window.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::Hub;
use super::replay::replay_response;
use crate::auth::Credential;
use crate::fanout::channel::Stage;
use crate::fanout::cursor::Cursor;
use crate::fanout::cut::Cut;
use crate::fanout::room::Valve;
use crate::fanout::rows::{Pending, RowEvent, RowsFailure, RowsRead, RowsRequest, RowsWanted};
use crate::fanout::socket_id::SocketId;
use crate::fanout::views::Viewer;
use crate::fanout::window::{Kept, Window};
use crate::postgres::Lsn;
use crate::protocol::{Reason, Ref};
use crate::route::{Position, Topic};

impl Hub {
    /// Asks for the rows of a join.
    pub(super) fn request_rows(
        &mut self,
        socket: SocketId,
        reference: Ref,
        topic: Topic,
        wanted: RowsWanted,
        credential: Credential,
        address: Option<IpAddr>,
    ) -> Result<Pending, Reason> {
        self.tickets += 1;
        let ticket = self.tickets;
        let (payer, requested_at) = (credential.payer(address), Instant::now());
        let cancels = CancellationToken::new().drop_guard();
        let cancelled = cancels.token().clone();
        let request =
            RowsRequest { socket, ticket, topic, wanted, credential, payer, requested_at, cancelled };
        self.rows_requests.try_send(request).map_err(|_| {
            self.count_failure(&RowsFailure::Busy);
            wanted.unavailable(&RowsFailure::Busy)
        })?;
        Ok(Pending { ticket, wanted, reference, since: self.window.head(), _cancels: cancels })
    }

    /// Answers a join whose rows have come, or will not come. It may be gone: left, closed, joined anew.
    pub(super) fn apply_rows(&mut self, id: SocketId, ticket: u64, outcome: Result<RowsRead, RowsFailure>) {
        let waits = |stage: &Stage| matches!(stage, Stage::Pending(pending) if pending.ticket == ticket);
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        let Some(index) = socket.channels.iter().position(|channel| waits(&channel.stage)) else { return };
        let channel = &mut socket.channels[index];
        let wire_topic = Arc::clone(&channel.wire_topic);
        let Stage::Pending(pending) = &channel.stage else { return };
        let wanted = pending.wanted;
        let topic = &channel.room.topic;
        let mut viewer = Viewer::new(channel.viewer.as_ref());
        let answer = outcome.and_then(|read| {
            let undelivered = self.rows_memory.count(&read.rows);
            if self.rows_memory.bytes() > self.settings.snapshot_bytes_max {
                Err(RowsFailure::TooLarge)
            } else {
                Ok((Answer::new(read, pending, &self.window, topic, &mut viewer)?, undelivered))
            }
        });
        let (Answer { rows, position, cut, complete, is_lossless }, undelivered) = match answer {
            Ok(answer) => answer,
            Err(failure) => {
                debug!(socket_id = id.0, %topic, reason = failure.label(), "no snapshot");
                self.count_failure(&failure);
                return self.close_channel(id, &wire_topic, &wanted.unavailable(&failure));
            }
        };
        let vsn = socket.vsn;
        let follows = |kept: &&Kept| {
            kept.encoding.is_for(vsn)
                && cut.as_ref().is_none_or(|cut| !cut.shows(kept))
                && viewer.sees(&kept.sight)
        };
        let missed = self.window.after(topic, position).filter(follows).count();
        let count = missed + rows.iter().filter(|row| row.encoding.is_for(vsn)).count();
        let response = replay_response(complete, count, &self.window, self.tag);
        let reference = pending.reference.clone();
        let (rows, undelivered) = (rows.into(), Some(undelivered));
        channel.stage =
            Stage::CatchingUp(Box::new(Cursor { rows, undelivered, cut, ..Cursor::at(position) }));
        self.rooms.set_valve(&channel.room, &channel.group(vsn), id, channel.stage.valve());
        let frame = socket.envelope(&socket.channels[index]).reply_ok(&reference, &response);
        self.metrics.snapshots.inc();
        self.push(id, frame);
        self.begin_replay(id, &wire_topic, is_lossless);
    }

    /// Forgets the snapshots that the stream has passed.
    pub(super) fn pass(&mut self, end: Lsn) {
        self.passed = self.passed.max(end);
        if self.behind.is_empty() {
            return;
        }
        let passed = self.passed;
        for (id, wire_topic, cut) in self.behind.extract_if(.., |(_, _, cut)| cut.lsn <= passed) {
            let Some(socket) = self.sockets.get_mut(&id) else { continue };
            let vsn = socket.vsn;
            // The channel may have been left, and joined anew.
            let is_it = |stage: &Stage| matches!(stage, Stage::Behind(known) if Arc::ptr_eq(known, &cut));
            let mut found = socket.channels.iter_mut();
            if let Some(channel) =
                found.find(|channel| channel.wire_topic == wire_topic && is_it(&channel.stage))
            {
                channel.stage = Stage::Live;
                self.rooms.set_valve(&channel.room, &channel.group(vsn), id, Valve::Open);
            }
        }
    }

    /// Another history begins: transaction ids and LSNs of the one before mean nothing in it.
    pub(super) fn forget_snapshots(&mut self, start: Lsn) {
        self.pass(Lsn(u64::MAX));
        self.passed = start;
        for channel in self.sockets.values_mut().flat_map(|socket| &mut socket.channels) {
            if let Stage::CatchingUp(cursor) = &mut channel.stage {
                cursor.cut = None;
            }
        }
    }

    /// Refuses all joins that wait: what they would get is not whole.
    pub(super) fn fail_pending(&mut self, failure: &RowsFailure) {
        let mut waiting = Vec::new();
        for (id, socket) in &self.sockets {
            for channel in &socket.channels {
                if let Stage::Pending(pending) = &channel.stage {
                    waiting.push((*id, Arc::clone(&channel.wire_topic), pending.wanted));
                }
            }
        }
        for (id, wire_topic, wanted) in waiting {
            self.count_failure(failure);
            self.close_channel(id, &wire_topic, &wanted.unavailable(failure));
        }
    }

    fn count_failure(&self, failure: &RowsFailure) {
        self.metrics.snapshots_refused.count(failure.label());
    }
}

/// What a join gets of its rows, and from where on of the window.
struct Answer {
    rows: Vec<RowEvent>,
    position: Position,
    cut: Option<Arc<Cut>>,
    /// It is everything that there is.
    complete: bool,
    /// What is missing is so by the client's own limit.
    is_lossless: bool,
}

impl Answer {
    fn new(
        read: RowsRead,
        pending: &Pending,
        window: &Window,
        topic: &Topic,
        viewer: &mut Viewer<'_>,
    ) -> Result<Self, RowsFailure> {
        let RowsRead { snapshot, lsn, rows } = read;
        let floor = window.floor_of(topic);
        let complete = window.complements(&snapshot, topic);
        let has_gap = !complete && floor > pending.since;
        match pending.wanted {
            RowsWanted::Latest { .. } if has_gap => Err(RowsFailure::Evicted),
            RowsWanted::Latest { .. } => {
                let position = window.shown_up_to(topic, &snapshot);
                let cut = Some(Arc::new(Cut { snapshot, lsn }));
                Ok(Self { rows, position, cut, complete, is_lossless: complete })
            }
            RowsWanted::SentSince { since, limit } => {
                let (first, _) = window.since(topic, since, usize::MAX, viewer);
                let (position, _) = window.since(topic, since, limit, viewer);
                let windowed: Vec<&Kept> =
                    window.after(topic, position).filter(|kept| viewer.sees(&kept.sight)).collect();
                let suffices = windowed.len() >= limit;
                if has_gap && !suffices {
                    return Err(RowsFailure::Evicted);
                }
                let (rows, are_all) = older_than_window(rows, windowed.into_iter(), limit);
                let is_lossless = complete || suffices;
                let complete = complete && are_all && position == first;
                Ok(Self { rows, position, cut: None, complete, is_lossless })
            }
        }
    }
}

/// Of the rows that were sent to a channel those that its window lacks, so that with `windowed` they are at most
/// `limit`, the newest; and whether that is all.
fn older_than_window<'a>(
    mut rows: Vec<RowEvent>,
    windowed: impl ExactSizeIterator<Item = &'a Kept>,
    limit: usize,
) -> (Vec<RowEvent>, bool) {
    let room = limit.saturating_sub(windowed.len());
    let mut windowed: Vec<&Kept> = windowed.collect();
    rows.retain(|row| match row.id.and_then(|id| windowed.iter().position(|kept| kept.is_row(id))) {
        Some(index) => {
            windowed.swap_remove(index);
            false
        }
        None => true,
    });
    let surplus = rows.len().saturating_sub(room);
    rows.drain(..surplus);
    (rows, surplus == 0)
}
