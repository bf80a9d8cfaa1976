//! A row change becomes events on topics, by the routes kept in the database.
//!
//! Pure. Routes name tables and columns; the stream numbers them. The two are brought together once for each
//! Relation message, so that routing a row only copies bytes.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::plan::{Plan, Row};
use super::template::Template;
use super::topic::Topic;
use crate::decode::{Change, ChangeKind, Domains, Relation};

/// The rule that turns a row change into an event on a topic. A row of the view `campfire.routes`.
#[derive(Clone, Debug)]
pub struct Route {
    pub id: i64,
    pub schema: String,
    pub table: String,
    /// The oid of the table, which is then known by it whatever its name is. None for a route that came with campfire,
    /// and is of the table of that name.
    pub relation: Option<u32>,
    pub operation: Operation,
    /// Also fires when an update changes the channel that the template names: a delete route on the old row,
    /// an insert route on the new one.
    pub on_move: bool,
    pub channel: Template,
    pub event: String,
    pub columns: Vec<String>,
    /// For update routes: fires only if one of these columns changed. None: any update.
    pub when_changed: Option<Vec<String>>,
}

impl Route {
    fn is_of(&self, relation: &Relation) -> bool {
        match self.relation {
            Some(oid) => oid == relation.id,
            None => self.schema == relation.namespace && self.table == relation.name,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Insert,
    Update,
    Delete,
}

impl Operation {
    /// As SQL spells it, in upper case.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "INSERT" => Some(Self::Insert),
            "UPDATE" => Some(Self::Update),
            "DELETE" => Some(Self::Delete),
            _ => None,
        }
    }
}

/// An event for one topic. Events of one change that carry the same columns share the payload's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub topic: Topic,
    pub event: Arc<str>,
    /// A JSON object.
    pub payload: Bytes,
    /// Set where the event is a row of `realtime.messages`.
    pub message: Option<RealtimeMessage>,
}

/// What a row of `realtime.messages` says besides topic, event and payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RealtimeMessage {
    /// Of the row; clients see it as `meta.id`.
    pub id: Uuid,
    /// Whether it goes to the private room of its topic, or to the public one.
    pub private: bool,
    /// Whether the payload is bytes rather than JSON.
    pub binary: bool,
}

/// A change that decides who may listen, besides what it tells those who do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlChange {
    /// An agent's row: None when it is gone.
    Agent { organization: Uuid, user: Uuid, active: Option<bool> },
    /// What others call an agent.
    AgentNamed { organization: Uuid, user: Uuid, display_name: Arc<str> },
    /// Every agent's row is gone (TRUNCATE).
    AllAgentsGone,
    /// A conversation was deleted or left the organization: its channels there end.
    ConversationGone { organization: Uuid, conversation: Uuid },
    /// Every conversation is gone (TRUNCATE).
    AllConversationsGone,
    /// What lies before was read again, and routed as is right only from here on.
    RoutedAnewUntilHere,
    /// Tables were emptied (TRUNCATE) whose rows went to channels of these names: what came of them there tells of rows
    /// that are gone.
    Emptied { channels: Vec<Template> },
}

/// What a change leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routed {
    pub events: Vec<Event>,
    pub control: Vec<ControlChange>,
    /// Events that a second route would have sent to the same channel for the same change; the lowest id won.
    pub collisions: u32,
    /// Events whose channel could not be built: a column of the template is null, unknown or no uuid.
    pub unaddressed: u32,
    /// The first of those, for the log.
    pub misaddress: Option<Misaddress>,
}

/// A row that names no channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misaddress {
    pub route: i64,
    /// Without any value of the row.
    pub problem: String,
}

/// Which relations hold control state, in each schema that `campfire.install()` made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ControlTable {
    Agents,
    Conversations,
}

/// All routes, and their plans for the relations seen on this connection.
#[derive(Debug, Default)]
pub struct Router {
    routes: Vec<Route>,
    /// Schemas made by `campfire.install()`.
    schemas: Vec<String>,
    domains: Domains,
    plans: HashMap<u32, Arc<Plan>>,
}

impl Router {
    pub fn new(mut routes: Vec<Route>, schemas: Vec<String>, domains: Domains) -> Self {
        routes.sort_by_key(|route| route.id);
        Self { routes, schemas, domains, plans: HashMap::new() }
    }

    /// The set that is in force, and the schemas of installations.
    pub fn routes(&self) -> (&[Route], &[String]) {
        (&self.routes, &self.schemas)
    }

    /// Routes by another set from here on, and knows control state by these schemas.
    pub fn set_routes(&mut self, mut routes: Vec<Route>, schemas: Vec<String>) {
        routes.sort_by_key(|route| route.id);
        self.routes = routes;
        self.schemas = schemas;
        self.plans.clear();
    }

    /// Whether a column's type was made after the catalog was read: then it may be a domain.
    pub fn lacks_types(&self, relation: &Relation) -> bool {
        relation.columns.iter().any(|column| !self.domains.knows(column.type_oid))
    }

    /// Takes the domains as the catalog has them now, before the relation's first row is routed.
    pub fn learn_types(&mut self, domains: Domains, relation: &Relation) {
        self.domains.learn(domains, relation.columns.iter().map(|column| column.type_oid));
    }

    /// Routes that do not fit the relation as it is now, with the reason; told once a relation, for the log.
    pub fn new_misfits(&mut self, relation: &Arc<Relation>) -> Vec<(i64, String)> {
        let known = self.plans.get(&relation.id).is_some_and(|plan| plan.is_for(relation));
        if known { Vec::new() } else { self.plan(relation).misfits.clone() }
    }

    /// The events and control changes of one row change.
    pub fn route(&mut self, change: &Change) -> Routed {
        let mut routed = Routed::default();
        match &change.kind {
            ChangeKind::Insert { relation, new } => {
                self.plan(relation).insert(Row::new(new, None), &mut routed);
            }
            ChangeKind::Update { relation, old, new } => {
                let old_row = old.as_ref().map(Row::Old);
                self.plan(relation).update(old_row, Row::new(new, old.as_ref()), &mut routed);
            }
            ChangeKind::Delete { relation, old } => {
                self.plan(relation).delete(Row::Old(old), &mut routed);
            }
            ChangeKind::Truncate { relations, .. } => {
                let is_of = |route: &&Route| relations.iter().any(|relation| route.is_of(relation));
                let mut channels: Vec<Template> = Vec::new();
                for Route { channel, .. } in self.routes.iter().filter(is_of) {
                    if !channels.contains(channel) {
                        channels.push(channel.clone());
                    }
                }
                if !channels.is_empty() {
                    routed.control.push(ControlChange::Emptied { channels });
                }
                for relation in relations {
                    match self.plan(relation).control() {
                        Some(ControlTable::Agents) => routed.control.push(ControlChange::AllAgentsGone),
                        Some(ControlTable::Conversations) => {
                            routed.control.push(ControlChange::AllConversationsGone)
                        }
                        None => {}
                    }
                }
            }
            ChangeKind::Message { .. } => {}
        }
        routed
    }

    fn plan(&mut self, relation: &Arc<Relation>) -> Arc<Plan> {
        if let Some(plan) = self.plans.get(&relation.id)
            && plan.is_for(relation)
        {
            return Arc::clone(plan);
        }
        let control = self.schemas.contains(&relation.namespace).then_some(relation.name.as_str());
        let control = match control {
            Some("agents") => Some(ControlTable::Agents),
            Some("realtime_conversations") => Some(ControlTable::Conversations),
            _ => None,
        };
        let routes = self.routes.iter().filter(|route| route.is_of(relation));
        let plan = Arc::new(Plan::new(relation, routes, control, &self.domains));
        self.plans.insert(relation.id, Arc::clone(&plan));
        plan
    }
}

#[cfg(test)]
mod tests;
