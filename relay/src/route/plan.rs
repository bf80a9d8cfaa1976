//! The routes of one relation, resolved to the column numbers of its Relation message.

use std::sync::Arc;

use bytes::Bytes;
use campfire_gate::{Gate, GateError, Type};
use uuid::Uuid;

use super::event::{ControlChange, Event, Misaddress, Routed};
use super::rule::{Operation, Route};
use super::sight::{Asked, Condition, Sight};
use super::template::Piece;
use super::topic::{Scope, Topic};
use crate::decode::{self, Column, Domains, OldTuple, Relation, Tuple};

/// A row as routing reads it.
#[derive(Clone, Copy)]
pub(super) enum Row<'a> {
    /// After an insert or update. Unchanged TOAST is read from the old row where that is whole.
    New { tuple: &'a Tuple, old: Option<&'a OldTuple> },
    /// Before an update or delete; where only the key was sent, the other columns are unknown.
    Old(&'a OldTuple),
}

impl<'a> Row<'a> {
    pub(super) fn new(tuple: &'a Tuple, old: Option<&'a OldTuple>) -> Self {
        Self::New { tuple, old }
    }

    fn get(self, column: usize) -> Column<'a> {
        match self {
            Self::New { tuple, old } => match tuple.get(column) {
                Column::Unchanged => old.map_or(Column::Unchanged, |old| old.get(column)),
                known => known,
            },
            Self::Old(old) => old.get(column),
        }
    }
}

/// Which relations hold control state, in each schema that `campfire.install()` made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ControlTable {
    Agents,
    Conversations,
}

#[derive(Debug)]
pub(super) struct Plan {
    relation: Arc<Relation>,
    routes: Vec<PlannedRoute>,
    payloads: Vec<PayloadPlan>,
    gates: Vec<GatePlan>,
    control: Option<ControlPlan>,
    /// Routes that the relation does not have all columns for, and what that means.
    pub(super) misfits: Vec<(i64, String)>,
}

#[derive(Debug)]
struct PlannedRoute {
    id: i64,
    operation: Operation,
    on_move: bool,
    channel: Vec<PlannedPiece>,
    /// Which of an organization's channels the template makes, if it makes those.
    scope: Option<Scope>,
    private: bool,
    event: Arc<str>,
    payload: usize,
    gate: Option<usize>,
    when_changed: Option<Vec<usize>>,
}

#[derive(Debug)]
enum PlannedPiece {
    Literal(String),
    /// `is_padded`: of type char(n), whose values come filled up with spaces that mean nothing.
    Column {
        number: usize,
        is_padded: bool,
    },
}

/// Type oid of char(n).
const BPCHAR: u32 = 1042;

/// The fields of a payload.
#[derive(Debug, PartialEq, Eq)]
struct PayloadPlan {
    fields: Vec<Field>,
}

#[derive(Debug, PartialEq, Eq)]
struct Field {
    /// The key as it stands in the JSON, with its colon.
    key: Vec<u8>,
    column: usize,
    type_oid: u32,
}

/// A gate, and the columns that it reads.
#[derive(Debug)]
struct GatePlan {
    gate: Arc<Gate>,
    columns: Vec<usize>,
}

/// A row, and what was made of it for the routes before.
struct Side<'a> {
    row: Row<'a>,
    payloads: Vec<Option<Bytes>>,
    /// By gate. None inside: a value that the gate reads was not sent.
    asked: Vec<Option<Option<Arc<Asked>>>>,
}

#[derive(Debug)]
struct ControlPlan {
    table: ControlTable,
    organization: usize,
    /// An agent's user_id, a conversation's id.
    subject: usize,
    active: usize,
    /// None where it is not published.
    display_name: Option<usize>,
}

impl Plan {
    pub(super) fn new<'a>(
        relation: &Arc<Relation>,
        routes: impl Iterator<Item = &'a Route>,
        control: Option<ControlTable>,
        domains: &Domains,
    ) -> Self {
        let mut plan = Self {
            relation: Arc::clone(relation),
            routes: Vec::new(),
            payloads: Vec::new(),
            gates: Vec::new(),
            control: None,
            misfits: Vec::new(),
        };
        for route in routes {
            plan.add(route, domains);
        }
        plan.control = control.and_then(|table| {
            let column = |name| column_of(relation, name).ok();
            let (subject, active) = match table {
                ControlTable::Agents => (column("user_id")?, column("active")?),
                ControlTable::Conversations => (column("id")?, 0),
            };
            let organization = column("organization_id")?;
            let display_name = column("display_name");
            Some(ControlPlan { table, organization, subject, active, display_name })
        });
        plan
    }

    /// Adds a route as far as the relation has its columns: an event goes out without a column that is not published any
    /// more, and without its condition if that names none that is. Only a channel and a gate cannot do without a column.
    fn add(&mut self, route: &Route, domains: &Domains) {
        let relation = Arc::clone(&self.relation);
        let column = |name: &String| column_of(&relation, name);
        let channel = route.channel.pieces().iter().map(|piece| match piece {
            Piece::Literal(text) => Ok(PlannedPiece::Literal(text.clone())),
            Piece::Column(name) => column(name).map(|number| {
                let is_padded = domains.base_type(self.relation.columns[number].type_oid) == BPCHAR;
                PlannedPiece::Column { number, is_padded }
            }),
        });
        let channel = match channel.collect::<Result<_, _>>() {
            Ok(channel) => channel,
            Err(missing) => {
                return self.misfit(route, &missing, "so the route has no channel and is left out");
            }
        };
        let gate = match route.gate.as_deref().map(|text| self.add_gate(text, domains)).transpose() {
            Ok(gate) => gate,
            Err(problem) => {
                return self.misfits.push((
                    route.id,
                    format!("its gate cannot be read ({problem}), so the route is left out"),
                ));
            }
        };
        let mut fields = Vec::with_capacity(route.columns.len());
        for name in &route.columns {
            match column(name) {
                Ok(number) => {
                    let mut key = Vec::new();
                    decode::write_json_string(&mut key, name.as_bytes());
                    key.push(b':');
                    let type_oid = domains.base_type(relation.columns[number].type_oid);
                    fields.push(Field { key, column: number, type_oid });
                }
                Err(missing) => self.misfit(route, &missing, "so events go out without it"),
            }
        }
        let mut when_changed = Vec::new();
        for name in route.when_changed.iter().flatten() {
            match column(name) {
                Ok(number) => when_changed.push(number),
                Err(missing) => self.misfit(route, &missing, "so nobody sees whether it changed"),
            }
        }
        let payload = PayloadPlan { fields };
        let payload = match self.payloads.iter().position(|known| *known == payload) {
            Some(known) => known,
            None => {
                self.payloads.push(payload);
                self.payloads.len() - 1
            }
        };
        self.routes.push(PlannedRoute {
            id: route.id,
            operation: route.operation,
            on_move: route.on_move,
            channel,
            scope: route.channel.scope(),
            private: route.is_private(),
            event: route.event.as_str().into(),
            payload,
            gate,
            when_changed: Some(when_changed).filter(|columns| !columns.is_empty()),
        });
    }

    /// The number of a gate, which routes share that have the same.
    fn add_gate(&mut self, text: &str, domains: &Domains) -> Result<usize, GateError> {
        let relation = &self.relation;
        let column = |name: &str| relation.columns.iter().position(|column| column.name == name);
        let type_of = |number: usize| Type::of_oid(domains.base_type(relation.columns[number].type_oid));
        let gate = Gate::new(text, |name| column(name).map(type_of))?;
        if let Some(known) = self.gates.iter().position(|known| *known.gate == gate) {
            return Ok(known);
        }
        let columns = gate.columns().filter_map(column).collect();
        self.gates.push(GatePlan { gate: Arc::new(gate), columns });
        Ok(self.gates.len() - 1)
    }

    fn misfit(&mut self, route: &Route, column: &str, consequence: &str) {
        let Relation { namespace, name, .. } = &*self.relation;
        let problem = format!("column {column:?} of {namespace}.{name} is not published, {consequence}");
        self.misfits.push((route.id, problem));
    }

    pub(super) fn is_for(&self, relation: &Arc<Relation>) -> bool {
        Arc::ptr_eq(&self.relation, relation)
    }

    pub(super) fn control(&self) -> Option<ControlTable> {
        self.control.as_ref().map(|control| control.table)
    }

    /// Adds what an insert of `new` leads to.
    pub(super) fn insert(&self, new: Row<'_>, routed: &mut Routed) {
        let mut side = self.side(new);
        for route in self.routes.iter().filter(|route| route.operation == Operation::Insert) {
            self.fire(route, &mut side, None, routed);
        }
        self.control_of_new(new, routed);
    }

    /// Adds what an update leads to. Postgres sends no old row where the replica identity is not FULL and none of
    /// its columns changed; then a column outside it may have changed, and is taken to have.
    pub(super) fn update(&self, old: Option<Row<'_>>, new: Row<'_>, routed: &mut Routed) {
        let mut new_side = self.side(new);
        let mut old_side = old.map(|old| self.side(old));
        // Before the update itself: who gains or loses sight of the row is told of that.
        if let Some(old_side) = &mut old_side {
            for route in self.routes.iter().filter(|route| route.on_move) {
                if self.changes_sight(route, old_side.row, new) && !self.moved(route, old_side.row, new) {
                    match route.operation {
                        Operation::Insert => self.fire(route, &mut new_side, Some(&mut *old_side), routed),
                        Operation::Delete => self.fire(route, old_side, Some(&mut new_side), routed),
                        Operation::Update => {}
                    }
                }
            }
        }
        for route in &self.routes {
            let moved = old_side.as_mut().filter(|old| self.moved(route, old.row, new));
            match (route.operation, moved) {
                (Operation::Update, None) if self.changed(route, old, new) => {
                    self.fire(route, &mut new_side, None, routed);
                }
                (Operation::Insert, Some(_)) if route.on_move => {
                    self.fire(route, &mut new_side, None, routed)
                }
                (Operation::Delete, Some(old_side)) if route.on_move => {
                    self.fire(route, old_side, None, routed)
                }
                _ => {}
            }
        }
        if let (Some(old), Some(control)) = (old, &self.control)
            && [control.organization, control.subject]
                .iter()
                .any(|column| self.differs(*column, old, new) == Some(true))
        {
            self.control_of_old(old, routed);
        }
        self.control_of_new(new, routed);
    }

    /// Adds what a delete of `old` leads to.
    pub(super) fn delete(&self, old: Row<'_>, routed: &mut Routed) {
        let mut side = self.side(old);
        for route in self.routes.iter().filter(|route| route.operation == Operation::Delete) {
            self.fire(route, &mut side, None, routed);
        }
        self.control_of_old(old, routed);
    }

    /// Adds an event of a row, for those whom the route's gate lets see that and not the `other` row.
    fn fire(
        &self,
        route: &PlannedRoute,
        side: &mut Side<'_>,
        other: Option<&mut Side<'_>>,
        routed: &mut Routed,
    ) {
        let audience = self.channel(route, side.row).and_then(|topic| {
            let mut all = Vec::new();
            if let Some(gate) = route.gate {
                all.push(Condition { asked: self.asked(gate, side)?, passes: true });
                if let Some(other) = other {
                    all.push(Condition { asked: self.asked(gate, other)?, passes: false });
                }
            }
            Ok((topic, all))
        });
        let (topic, all) = match audience {
            Ok(audience) => audience,
            Err(problem) => {
                routed.unaddressed += 1;
                routed.misaddress.get_or_insert(Misaddress { route: route.id, problem });
                return;
            }
        };
        let private = route.private;
        let mut earlier = Vec::new();
        let same = |event: &&Event| (&event.topic, event.private) == (&topic, private);
        for event in routed.events.iter().filter(same) {
            match &event.sight {
                Some(sight) if !sight.all.is_empty() && sight.all != all => earlier.push(sight.all.clone()),
                // Nobody is left, or nobody whom this one would be for.
                _ => {
                    routed.collisions += 1;
                    return;
                }
            }
        }
        let payload = side.payloads[route.payload]
            .get_or_insert_with(|| self.payload(&self.payloads[route.payload], side.row));
        let (event, payload) = (Arc::clone(&route.event), payload.clone());
        let is_for_all = all.is_empty() && earlier.is_empty();
        let sight = (!is_for_all).then(|| Arc::new(Sight { all, earlier }));
        routed.events.push(Event { topic, event, payload, private, sight, message: None });
    }

    fn side<'a>(&self, row: Row<'a>) -> Side<'a> {
        Side { row, payloads: vec![None; self.payloads.len()], asked: vec![None; self.gates.len()] }
    }

    /// What a gate decides by, of a row. Without a value that it reads, nobody may see the row.
    fn asked(&self, gate: usize, side: &mut Side<'_>) -> Result<Arc<Asked>, String> {
        let row = side.row;
        let asked = side.asked[gate].get_or_insert_with(|| {
            let GatePlan { gate, columns } = &self.gates[gate];
            let mut values = Vec::with_capacity(columns.len());
            for column in columns {
                values.push(match row.get(*column) {
                    Column::Text(text) => Some(str::from_utf8(text).ok()?),
                    Column::Null => None,
                    Column::Unchanged => return None,
                });
            }
            let row = gate.read(values.into_iter())?;
            Some(Arc::new(Asked { gate: Arc::clone(gate), row }))
        });
        asked.clone().ok_or_else(|| "a value that its gate reads was not sent".to_owned())
    }

    /// Whether an update may bring a row into sight by a route's gate, or take it out.
    fn changes_sight(&self, route: &PlannedRoute, old: Row<'_>, new: Row<'_>) -> bool {
        let columns = route.gate.map(|gate| self.gates[gate].columns.as_slice());
        columns.unwrap_or_default().iter().any(|column| self.differs(*column, old, new) == Some(true))
    }

    /// The channel that a row names, or why it names none. The reason says nothing of the row's values.
    fn channel(&self, route: &PlannedRoute, row: Row<'_>) -> Result<Topic, String> {
        let mut name = String::with_capacity(96);
        for piece in &route.channel {
            match piece {
                PlannedPiece::Literal(text) => name.push_str(text),
                PlannedPiece::Column { number, is_padded } => {
                    let column = || format!("column {:?}", self.relation.columns[*number].name);
                    let text = match row.get(*number) {
                        Column::Text(text) => {
                            str::from_utf8(text).map_err(|_| format!("{} is no text", column()))?
                        }
                        Column::Null => return Err(format!("{} is null", column())),
                        Column::Unchanged => return Err(format!("the value of {} was not sent", column())),
                    };
                    name.push_str(if *is_padded { text.trim_end_matches(' ') } else { text });
                }
            }
        }
        let topic = Topic::parse(&name).map_err(|error| error.to_string())?;
        if topic.scope() != route.scope {
            return Err("the row's values make it a channel of another kind than the template's".to_owned());
        }
        Ok(topic)
    }

    /// A JSON object. A column whose value the server did not send (unchanged TOAST without a whole old row, or
    /// what is not in the key of a deleted row) is left out: null would be a lie.
    fn payload(&self, plan: &PayloadPlan, row: Row<'_>) -> Bytes {
        let mut json = Vec::with_capacity(256);
        for field in &plan.fields {
            let value = row.get(field.column);
            if matches!(value, Column::Unchanged) {
                continue;
            }
            json.push(if json.is_empty() { b'{' } else { b',' });
            json.extend_from_slice(&field.key);
            match value {
                Column::Text(text) => decode::write_json(&mut json, field.type_oid, text),
                Column::Null | Column::Unchanged => json.extend_from_slice(b"null"),
            }
        }
        if json.is_empty() {
            json.push(b'{');
        }
        json.push(b'}');
        // The window keeps it: no more memory than it needs.
        json.into_boxed_slice().into()
    }

    fn moved(&self, route: &PlannedRoute, old: Row<'_>, new: Row<'_>) -> bool {
        route.channel.iter().any(|piece| match piece {
            PlannedPiece::Literal(_) => false,
            PlannedPiece::Column { number, .. } => self.differs(*number, old, new) == Some(true),
        })
    }

    fn changed(&self, route: &PlannedRoute, old: Option<Row<'_>>, new: Row<'_>) -> bool {
        match (&route.when_changed, old) {
            (Some(columns), Some(old)) => {
                columns.iter().any(|column| self.differs(*column, old, new) != Some(false))
            }
            _ => true,
        }
    }

    /// Whether a column differs, or None where the old value was not sent.
    fn differs(&self, column: usize, old: Row<'_>, new: Row<'_>) -> Option<bool> {
        match (old.get(column), new.get(column)) {
            (_, Column::Unchanged) => Some(false),
            (Column::Unchanged, _) => None,
            (old, new) => Some(old != new),
        }
    }

    fn control_of_new(&self, new: Row<'_>, routed: &mut Routed) {
        if let Some(ControlPlan { table: ControlTable::Agents, active, display_name, .. }) = self.control
            && let Some((organization, user)) = self.subject(new)
        {
            let active = Some(self.text(active, new) == Some("t"));
            routed.control.push(ControlChange::Agent { organization, user, active });
            if let Some(display_name) = display_name.and_then(|column| self.text(column, new)) {
                let display_name = display_name.into();
                routed.control.push(ControlChange::AgentNamed { organization, user, display_name });
            }
        }
    }

    fn control_of_old(&self, old: Row<'_>, routed: &mut Routed) {
        let (Some(control), Some((organization, subject))) = (&self.control, self.subject(old)) else {
            return;
        };
        routed.control.push(match control.table {
            ControlTable::Agents => ControlChange::Agent { organization, user: subject, active: None },
            ControlTable::Conversations => {
                ControlChange::ConversationGone { organization, conversation: subject }
            }
        });
    }

    fn subject(&self, row: Row<'_>) -> Option<(Uuid, Uuid)> {
        let control = self.control.as_ref()?;
        let uuid = |column| self.text(column, row)?.parse().ok();
        Some((uuid(control.organization)?, uuid(control.subject)?))
    }

    fn text<'a>(&self, column: usize, row: Row<'a>) -> Option<&'a str> {
        match row.get(column) {
            Column::Text(text) => str::from_utf8(text).ok(),
            Column::Null | Column::Unchanged => None,
        }
    }
}

fn column_of(relation: &Relation, name: &str) -> Result<usize, String> {
    relation.columns.iter().position(|column| column.name == name).ok_or_else(|| name.to_owned())
}
