//! Changes from Postgres, applied in commit order, in several turns if they are many.

use super::Hub;
use crate::fanout::input::HubChange;
use crate::fanout::room::RoomKey;
use crate::fanout::window::Kept;
use crate::protocol::{Broadcast, BroadcastPayload, Encoding};
use crate::route::{Event, RealtimeMessage};

/// Changes that are applied, and members of rooms that are looked at for them, before others have their turn: some
/// milliseconds' worth. A single change is never divided.
const TURN_WORK_MAX: usize = 8_192;

impl Hub {
    /// Applies changes that wait, as many as one turn may take.
    pub(super) fn go_on(&mut self) {
        let Some(mut unapplied) = self.unapplied.take() else { return };
        self.work = 0;
        while self.work < TURN_WORK_MAX {
            let Some(change) = unapplied.changes.next() else {
                self.measure_window();
                self.report();
                if let Some(end) = unapplied.applied {
                    self.pass(end);
                    self.applied.send_replace(end);
                    self.metrics.applied_lsn.set(end.0);
                }
                return;
            };
            self.apply_change(&change);
            self.work += 1;
        }
        self.unapplied = Some(unapplied);
    }

    fn apply_change(&mut self, change: &HubChange) {
        let HubChange { position, xid, committed_at, .. } = *change;
        self.window.witness(xid);
        // After a reconnect the server sends again what was not confirmed.
        let is_new = position > self.window.head();
        // Before the events, and also where they are skipped: the agents were loaded anew, perhaps without this.
        for control in &change.routed.control {
            self.apply_to_agents(control, xid, is_new);
        }
        if !is_new {
            self.metrics.changes_skipped.inc();
            return;
        }
        // Channels that are live have everything up to here.
        let sent = self.window.head();
        self.window.advance(position, committed_at);
        self.metrics.events_collided.inc_by(change.routed.collisions.into());
        self.metrics.events_unaddressed.inc_by(change.routed.unaddressed.into());
        self.metrics.events.inc_by(change.routed.events.len() as u64);
        for routed in &change.routed.events {
            let Event { topic, event, payload: bytes, private, sight, message } = routed;
            let private = *private;
            let room = RoomKey { topic: topic.clone(), private };
            let encoding = match message {
                Some(RealtimeMessage { binary: true, .. }) => Encoding::Binary,
                _ => Encoding::Json,
            };
            let payload = BroadcastPayload::new(encoding, bytes);
            let broadcast = Broadcast { event, payload, meta: Some(&change.meta) };
            self.deliver_event(&room, &broadcast, xid, sight.as_deref(), sent);
            if !private && topic.organization().is_none() && !self.settings.public_channels {
                self.metrics.events_unheard.inc();
            }
            if room.has_history() {
                let kept = Kept::new(position, xid, routed, &change.meta, change.routed.events.len());
                self.window.keep(topic, kept);
            }
        }
        // After the events: `conversation:deleted`, two ids that the channel's own name tells, is its last word.
        for control in &change.routed.control {
            self.apply_to_conversations(control, xid, sent);
        }
    }
}
