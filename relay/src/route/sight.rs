//! Who may see an event of a gated route: which gates must let which row of the change through.

use std::sync::Arc;

use campfire_gate::{Gate, Row};

/// A gate, and a row for it to decide about.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    pub gate: Arc<Gate>,
    pub row: Row,
}

/// What a gate must say of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) asked: Arc<Asked>,
    pub(super) passes: bool,
}

/// For whom an event is, by what gates say to each client's claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// All of these hold.
    pub(super) all: Vec<Condition>,
    /// Of none of these all hold: a change is one event on a channel, and whom an earlier one is for gets that.
    pub(super) earlier: Vec<Vec<Condition>>,
}

impl Sight {
    /// Whether the event is for somebody to whom gates say this.
    pub fn is_for(&self, mut passes: impl FnMut(&Asked) -> bool) -> bool {
        let mut hold = |conditions: &[Condition]| {
            conditions.iter().all(|condition| passes(&condition.asked) == condition.passes)
        };
        hold(&self.all) && !self.earlier.iter().any(|conditions| hold(conditions))
    }

    /// The gates that decide, each perhaps several times.
    pub fn gates(&self) -> impl Iterator<Item = &Arc<Gate>> {
        self.conditions().map(|condition| &condition.asked.gate)
    }

    /// Memory that it takes, in bytes; what events of one change have in common is counted for each.
    pub fn bytes(&self) -> usize {
        let bytes =
            |condition: &Condition| size_of::<Condition>() + size_of::<Asked>() + condition.asked.row.bytes();
        size_of::<Self>()
            + self.earlier.len() * size_of::<Vec<Condition>>()
            + self.conditions().map(bytes).sum::<usize>()
    }

    fn conditions(&self) -> impl Iterator<Item = &Condition> {
        self.all.iter().chain(self.earlier.iter().flatten())
    }
}
