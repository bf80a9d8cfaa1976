//! Control state that moves: agents, conversations, the history itself.

use std::sync::Arc;

use super::Hub;
use crate::auth::Identity;
use crate::fanout::agents::Agent;
use crate::fanout::channel::Channel;
use crate::fanout::room::RoomKey;
use crate::fanout::rows::SnapshotFailure;
use crate::postgres::Xid;
use crate::protocol::Reason;
use crate::route::{ControlChange, Position, Topic};

impl Hub {
    /// Moves the agents by a change that the snapshot they were loaded under does not show. One that it does show can
    /// have ended only the channels that were admitted before.
    pub(super) fn apply_to_agents(&mut self, control: &ControlChange, xid: Xid, is_new: bool) {
        let is_shown = self.agents_shown.as_ref().is_some_and(|snapshot| snapshot.shows(xid));
        let agent = match *control {
            ControlChange::Agent { organization, user, active } => {
                let agent = (organization, user);
                match active {
                    _ if is_shown => None,
                    Some(active) => self.agents.insert(agent, active),
                    None => {
                        self.agent_names.remove(&agent);
                        self.agents.remove(&agent)
                    }
                };
                if active == Some(true) {
                    return;
                }
                Some(agent)
            }
            ControlChange::AgentNamed { organization, user, ref display_name } => {
                if !is_shown {
                    self.agent_names.insert((organization, user), Arc::clone(display_name));
                }
                return;
            }
            ControlChange::AllAgentsGone => {
                if !is_shown {
                    self.agents.clear();
                    self.agent_names.clear();
                }
                None
            }
            ControlChange::ConversationGone { .. }
            | ControlChange::AllConversationsGone
            | ControlChange::Emptied { .. }
            | ControlChange::RoutedAnewUntilHere => return,
        };
        match (is_shown, is_new) {
            (false, _) => self.close_unauthorized_agents(agent),
            (true, true) => self.close_agents_of_before(agent),
            (true, false) => {}
        }
    }

    /// `sent`: what channels that are live had been sent before this change.
    pub(super) fn apply_to_conversations(&mut self, control: &ControlChange, xid: Xid, sent: Position) {
        match *control {
            ControlChange::Agent { .. } | ControlChange::AgentNamed { .. } | ControlChange::AllAgentsGone => {
            }
            ControlChange::ConversationGone { organization, conversation } => {
                for topic in [
                    Topic::channel_conversation(organization, conversation),
                    Topic::channel_widget(organization, conversation),
                ] {
                    self.close_room(&RoomKey { topic, private: false }, &Reason::ConversationGone);
                }
            }
            ControlChange::Emptied { ref channels } => {
                self.window.empty(channels, xid);
                self.announce_emptied(channels, xid, sent);
            }
            // Clients that go on from before would miss events that were, or get some that were not. So have those
            // that were here.
            ControlChange::RoutedAnewUntilHere => {
                self.window.start_at(self.window.head());
                self.fail_pending(SnapshotFailure::Loss);
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
    pub(super) fn leave_history(&mut self) {
        self.fail_pending(SnapshotFailure::Loss);
        self.announce_loss("the new primary may not have the rows of your snapshot", Channel::has_cut);
        self.forget_snapshots(self.passed);
    }

    /// Ends every channel of an agent whose row is gone or inactive: of this one, or of all agents.
    pub(super) fn close_unauthorized_agents(&mut self, agent: Option<Agent>) {
        for agent in self.agents_online(agent) {
            if self.agents.get(&agent) != Some(&true) {
                self.close_channels_of(agent, |_| true);
            }
        }
    }

    /// Ends the channels of an agent, or of all, that an earlier attachment admitted.
    pub(super) fn close_agents_of_before(&mut self, agent: Option<Agent>) {
        let attachment = self.attachment;
        for agent in self.agents_online(agent) {
            self.close_channels_of(agent, |channel| channel.attachment < attachment);
        }
    }

    fn agents_online(&self, agent: Option<Agent>) -> Vec<Agent> {
        agent.map_or_else(|| self.dashboards.agents().copied().collect(), |agent| vec![agent])
    }

    fn close_channels_of(&mut self, agent: Agent, wanted: impl Fn(&Channel) -> bool) {
        let (organization, user) = agent;
        let identity = Some(Identity::Agent { organization, user });
        for id in self.dashboards.sockets(&agent) {
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
        if self.agents.get(&agent) != Some(&true) {
            self.tell_who_ended(agent);
        }
    }
}
