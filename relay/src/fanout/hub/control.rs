//! Attachments to the database and changes of control state, and the channels that end by them.

use std::sync::Arc;

use uuid::Uuid;

use super::Hub;
use crate::auth::Identity;
use crate::fanout::agents::{Affected, Agent};
use crate::fanout::channel::Channel;
use crate::fanout::room::RoomKey;
use crate::fanout::rows::RowsFailure;
use crate::postgres::{Lsn, Snapshot, Xid};
use crate::protocol::Reason;
use crate::route::{ControlChange, DatabaseTag, Position, Topic};

impl Hub {
    /// The database is there, perhaps again, and streams what committed from `confirmed_flush_lsn` on.
    pub(super) fn attach(
        &mut self,
        tag: DatabaseTag,
        timeline: u32,
        confirmed_flush_lsn: Lsn,
        snapshot: &Snapshot,
        loss: Option<&'static str>,
        is_elsewhere: bool,
    ) {
        let is_first = self.tag.replace(tag).is_none();
        if is_first || loss.is_some() {
            self.window.start_at(Position::before(timeline, confirmed_flush_lsn));
            self.forget_snapshots(confirmed_flush_lsn);
        }
        self.window.learn_id(snapshot.xmax(), is_elsewhere && loss.is_some());
        if let Some(cause) = loss {
            self.fail_pending(&RowsFailure::Loss);
            self.announce_loss(cause, |_| true);
        } else if is_elsewhere {
            self.leave_history();
        }
        self.attachment += 1;
        self.shared_frames.clear();
    }

    pub(super) fn load_agents(
        &mut self,
        agents: Vec<(Uuid, Uuid, bool)>,
        names: Vec<(Uuid, Uuid, String)>,
        snapshot: Snapshot,
    ) {
        self.agents.load(agents, names, snapshot);
        self.close_unauthorized_agents(None);
    }

    pub(super) fn catch_up(&mut self) {
        self.agents.forget_snapshot();
        self.set_ready(true);
        self.tell_replication_ready();
    }

    /// Moves the agents, and ends the channels of those who are none any more.
    pub(super) fn apply_to_agents(&mut self, control: &ControlChange, xid: Xid, is_new: bool) {
        match self.agents.apply(control, xid) {
            None => {}
            Some(Affected { agent, is_shown: false }) => self.close_unauthorized_agents(agent),
            Some(Affected { agent, is_shown: true }) if is_new => self.close_agents_of_before(agent),
            Some(Affected { is_shown: true, .. }) => {}
        }
    }

    /// `sent`: what channels that are live had been sent before this change.
    pub(super) fn apply_to_conversations(&mut self, control: &ControlChange, xid: Xid, sent: Position) {
        match *control {
            ControlChange::Agent { .. } | ControlChange::AgentNamed { .. } | ControlChange::AllAgentsGone => {
            }
            ControlChange::Rerouted(ref routed) => self.routed = Arc::clone(routed),
            ControlChange::ConversationGone { organization, conversation } => {
                for topic in [
                    Topic::channel_conversation(organization, conversation),
                    Topic::channel_widget(organization, conversation),
                ] {
                    self.close_room(&RoomKey { topic, private: false }, &Reason::ConversationGone);
                }
            }
            ControlChange::Emptied { ref channels, ref public } => {
                self.window.empty(channels, xid);
                self.announce_emptied(channels, public, xid, sent);
            }
            // Clients that go on from before would miss events that were, or get some that were not. So have those
            // that were here.
            ControlChange::RoutedAnewUntilHere => {
                self.window.start_at(self.window.head());
                self.fail_pending(&RowsFailure::Loss);
                self.announce_loss("routes have changed in what was not read", |_| true);
            }
            ControlChange::AllConversationsGone => {
                let ends = |room: &&RoomKey| room.topic.conversation().is_some();
                let rooms: Vec<RoomKey> = self.rooms.keys().filter(ends).cloned().collect();
                for room in rooms {
                    self.close_room(&room, &Reason::ConversationGone);
                }
            }
        }
    }

    /// Nothing that was streamed is missing in the history that begins, but rows that were read ahead of the stream may
    /// be, and others may get the ids of their transactions.
    fn leave_history(&mut self) {
        self.fail_pending(&RowsFailure::Loss);
        self.announce_loss("the new primary may not have the rows of your snapshot", Channel::has_cut);
        self.forget_snapshots(self.passed);
    }

    /// Ends every channel of an agent whose row is gone or inactive: of this one, or of all agents.
    fn close_unauthorized_agents(&mut self, agent: Option<Agent>) {
        for agent in self.online(agent) {
            if self.agents.is_active(agent) != Some(true) {
                self.close_channels_of(agent, |_| true);
            }
        }
    }

    /// Ends the channels of an agent, or of all, that an earlier attachment admitted.
    fn close_agents_of_before(&mut self, agent: Option<Agent>) {
        let attachment = self.attachment;
        for agent in self.online(agent) {
            self.close_channels_of(agent, |channel| channel.attachment < attachment);
        }
    }

    /// One agent, or all who are online.
    fn online(&self, agent: Option<Agent>) -> Vec<Agent> {
        agent.map_or_else(|| self.agents_online.agents().copied().collect(), |agent| vec![agent])
    }

    fn close_channels_of(&mut self, agent: Agent, wanted: impl Fn(&Channel) -> bool) {
        let (organization, user) = agent;
        let identity = Some(Identity::Agent { organization, user });
        for id in self.agents_online.sockets(&agent) {
            let Some(socket) = self.sockets.get(&id) else { continue };
            let is_gone = |channel: &&Channel| channel.identity == identity && wanted(channel);
            let gone: Vec<_> = socket
                .channels
                .iter()
                .filter(is_gone)
                .map(|channel| Arc::clone(&channel.wire_topic))
                .collect();
            for wire_topic in gone {
                self.close_channel(id, &wire_topic, &Reason::AgentGone);
            }
        }
        if self.agents.is_active(agent) != Some(true) {
            self.tell_who_ended(agent);
        }
    }
}
