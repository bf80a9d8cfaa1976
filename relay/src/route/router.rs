//! A row change becomes events on topics, by the routes kept in the database.
//!
//! Pure. Routes name tables and columns; the stream numbers them. The two are brought together once for each
//! Relation message, so that routing a row only copies bytes.

use std::collections::HashMap;
use std::sync::Arc;

use super::event::{ControlChange, Routed};
use super::plan::{ControlTable, Plan, Row};
use super::routed_channels::RoutedChannels;
use super::rule::Route;
use super::template::Template;
use crate::decode::{Change, ChangeKind, Domains, Relation};

/// All routes, and their plans for the relations seen on this connection.
#[derive(Debug, Default)]
pub struct Router {
    routes: Vec<Route>,
    channels: Arc<RoutedChannels>,
    /// Schemas made by `campfire.install()`.
    schemas: Vec<String>,
    domains: Domains,
    plans: HashMap<u32, Arc<Plan>>,
}

impl Router {
    pub fn new(mut routes: Vec<Route>, schemas: Vec<String>, domains: Domains) -> Self {
        routes.sort_by_key(|route| route.id);
        let channels = Arc::new(RoutedChannels::new(&routes));
        Self { routes, channels, schemas, domains, plans: HashMap::new() }
    }

    /// The set that is in force, and the schemas of installations.
    pub fn routes(&self) -> (&[Route], &[String]) {
        (&self.routes, &self.schemas)
    }

    /// What that set says about channels.
    pub fn channels(&self) -> &Arc<RoutedChannels> {
        &self.channels
    }

    /// Routes by another set from here on, and knows control state by these schemas.
    pub fn set_routes(&mut self, mut routes: Vec<Route>, schemas: Vec<String>) {
        routes.sort_by_key(|route| route.id);
        self.channels = Arc::new(RoutedChannels::new(&routes));
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
                let (mut channels, mut public): (Vec<Template>, Vec<Template>) = (Vec::new(), Vec::new());
                for route in self.routes.iter().filter(is_of) {
                    let known = if route.is_public() { &mut public } else { &mut channels };
                    if !known.contains(&route.channel) {
                        known.push(route.channel.clone());
                    }
                }
                if !channels.is_empty() || !public.is_empty() {
                    routed.control.push(ControlChange::Emptied { channels, public });
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
