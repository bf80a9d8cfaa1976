//! The agents of all organizations, as the database has them: control state. It is loaded under a snapshot, and from
//! then on moved only by changes that the snapshot does not show.

use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;

use crate::postgres::{Snapshot, Xid};
use crate::route::ControlChange;

/// An agent of an organization.
pub(super) type Agent = (/* organization */ Uuid, /* user */ Uuid);

/// The agents of all organizations.
#[derive(Debug, Default)]
pub(super) struct Agents {
    active: HashMap<Agent, bool>,
    names: HashMap<Agent, Arc<str>>,
    /// What showed them, until the stream has passed it.
    shown: Option<Snapshot>,
}

/// Whose channels a change may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Affected {
    /// None: those of all agents.
    pub(super) agent: Option<Agent>,
    /// The agents were loaded with the change, so it ends only channels that were admitted before.
    pub(super) is_shown: bool,
}

impl Agents {
    /// Takes the agents as a snapshot showed them.
    pub(super) fn load(
        &mut self,
        agents: Vec<(Uuid, Uuid, bool)>,
        names: Vec<(Uuid, Uuid, String)>,
        shown: Snapshot,
    ) {
        let agents = agents.into_iter();
        self.active = agents.map(|(organization, user, active)| ((organization, user), active)).collect();
        let names = names.into_iter();
        self.names = names.map(|(organization, user, name)| ((organization, user), name.into())).collect();
        self.shown = Some(shown);
    }

    /// All that showed the agents has been read, and the lower halves of its ids will come round again.
    pub(super) fn forget_snapshot(&mut self) {
        self.shown = None;
    }

    /// None for a user who is no agent of the organization.
    pub(super) fn is_active(&self, agent: Agent) -> Option<bool> {
        self.active.get(&agent).copied()
    }

    pub(super) fn name(&self, agent: Agent) -> Option<&str> {
        self.names.get(&agent).map(|name| &**name)
    }

    /// Moves the agents by a change, unless the snapshot showed it.
    pub(super) fn apply(&mut self, control: &ControlChange, xid: Xid) -> Option<Affected> {
        let is_shown = self.shown.as_ref().is_some_and(|snapshot| snapshot.shows(xid));
        match *control {
            ControlChange::Agent { organization, user, active } => {
                let agent = (organization, user);
                match active {
                    _ if is_shown => None,
                    Some(active) => self.active.insert(agent, active),
                    None => {
                        self.names.remove(&agent);
                        self.active.remove(&agent)
                    }
                };
                (active != Some(true)).then_some(Affected { agent: Some(agent), is_shown })
            }
            ControlChange::AgentNamed { organization, user, ref display_name } => {
                if !is_shown {
                    self.names.insert((organization, user), Arc::clone(display_name));
                }
                None
            }
            ControlChange::AllAgentsGone => {
                if !is_shown {
                    self.active.clear();
                    self.names.clear();
                }
                Some(Affected { agent: None, is_shown })
            }
            ControlChange::ConversationGone { .. }
            | ControlChange::AllConversationsGone
            | ControlChange::Emptied { .. }
            | ControlChange::Rerouted(_)
            | ControlChange::RoutedAnewUntilHere => None,
        }
    }
}
