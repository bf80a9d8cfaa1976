//! Routes as the database keeps them.

use super::template::Template;
use crate::decode::Relation;

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
    /// Its events go to the public room of their topic. Without meaning on channels of an organization.
    pub public: bool,
    /// For insert routes: the column that says which rows are the newest, for snapshots. None: the key alone.
    pub snapshot_by: Option<String>,
    /// Which members of the channel get its events, by their claims. None: all.
    pub gate: Option<String>,
}

impl Route {
    /// Whether its events go to the private room of their topic.
    pub(crate) fn is_private(&self) -> bool {
        !self.public && self.channel.scope().is_none()
    }

    /// Whether its events go to the public room of their topic.
    pub(super) fn is_public(&self) -> bool {
        self.public && self.channel.scope().is_none()
    }

    pub(super) fn is_of(&self, relation: &Relation) -> bool {
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
