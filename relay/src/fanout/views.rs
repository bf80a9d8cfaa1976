//! What the members of a room see of gated events. Members whose claims say the same to a gate see the same, so a gate is
//! evaluated once for each set of claims that differs from the others, not for each member.

use std::sync::Arc;

use campfire_gate::{Bound, Gate};
use indexmap::IndexSet;

use crate::auth::Credential;
use crate::route::{Asked, Sight};

/// Gates that a room remembers; routes that are replaced leave theirs behind.
const GATES_MAX: usize = 16;

/// Views that may be without a member, besides as many as there are members.
const SPARE: usize = 64;

/// What a client's claims say to the gates of a room, in their order.
type View = Box<[Bound]>;

/// The views of a room's members.
#[derive(Debug, Default)]
pub(super) struct Views {
    gates: Vec<Arc<Gate>>,
    views: IndexSet<View>,
}

impl Views {
    /// Knows the gates by which an event is seen. False: all members have to be given their views anew.
    pub(super) fn learn(&mut self, sight: &Sight, members: usize) -> bool {
        let knows = |gates: &[Arc<Gate>]| sight.gates().all(|gate| position(gates, gate).is_some());
        if knows(&self.gates) && self.views.len() <= 2 * members + SPARE {
            return true;
        }
        self.views.clear();
        if !knows(&self.gates) && self.gates.len() >= GATES_MAX {
            self.gates.clear();
        }
        for gate in sight.gates() {
            if position(&self.gates, gate).is_none() {
                self.gates.push(Arc::clone(gate));
            }
        }
        false
    }

    /// The number of a member's view.
    pub(super) fn number(&mut self, credential: &Credential) -> usize {
        let view = self.gates.iter().map(|gate| credential.bind(gate)).collect();
        self.views.insert_full(view).0
    }

    /// Whether an event is for those of a view, by the view's number.
    pub(super) fn audience(&self, sight: &Sight) -> Vec<bool> {
        let is_for = |view: &View| sight.is_for(|asked| self.passes(asked, view));
        self.views.iter().map(is_for).collect()
    }

    fn passes(&self, asked: &Asked, view: &View) -> bool {
        let bound = position(&self.gates, &asked.gate).and_then(|number| view.get(number));
        bound.is_some_and(|bound| asked.gate.passes(&asked.row, bound))
    }
}

/// What a single client sees, who goes through many events.
#[derive(Debug)]
pub(super) struct Viewer<'a> {
    credential: Option<&'a Credential>,
    known: Vec<(Arc<Gate>, Bound)>,
}

impl<'a> Viewer<'a> {
    /// None sees nothing that has a gate.
    pub(super) fn new(credential: Option<&'a Credential>) -> Self {
        Self { credential, known: Vec::new() }
    }

    /// Whether an event is for it.
    pub(super) fn sees(&mut self, sight: &Option<Arc<Sight>>) -> bool {
        let Some(sight) = sight else { return true };
        let Some(credential) = self.credential else { return false };
        sight.is_for(|asked| {
            let known = self.known.iter().find(|(gate, _)| is_same(gate, &asked.gate));
            match known {
                Some((_, bound)) => asked.gate.passes(&asked.row, bound),
                None => {
                    let bound = credential.bind(&asked.gate);
                    let passes = asked.gate.passes(&asked.row, &bound);
                    self.known.push((Arc::clone(&asked.gate), bound));
                    passes
                }
            }
        })
    }
}

fn position(gates: &[Arc<Gate>], gate: &Arc<Gate>) -> Option<usize> {
    gates.iter().position(|known| is_same(known, gate))
}

/// A gate is made anew with each change of routes, and is the same if it says the same.
fn is_same(gate: &Arc<Gate>, other: &Arc<Gate>) -> bool {
    Arc::ptr_eq(gate, other) || **gate == **other
}
