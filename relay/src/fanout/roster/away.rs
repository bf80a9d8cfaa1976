//! Who of a room is away, and may come back: by key, and best with the same members.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::id::PresenceId;

#[derive(Debug, Default)]
pub(super) struct Away {
    keys: HashMap<Arc<str>, OfKey>,
}

#[derive(Debug, Default)]
struct OfKey {
    ids: BTreeSet<PresenceId>,
    by_members: HashMap<Arc<str>, BTreeSet<PresenceId>>,
}

impl Away {
    pub(super) fn insert(&mut self, id: PresenceId, key: &Arc<str>, members: &Arc<str>) {
        let of_key = self.keys.entry(Arc::clone(key)).or_default();
        of_key.ids.insert(id);
        of_key.by_members.entry(Arc::clone(members)).or_default().insert(id);
    }

    pub(super) fn remove(&mut self, id: PresenceId, key: &str, members: &str) {
        let Some(of_key) = self.keys.get_mut(key) else { return };
        of_key.ids.remove(&id);
        if let Some(ids) = of_key.by_members.get_mut(members) {
            ids.remove(&id);
            if ids.is_empty() {
                of_key.by_members.remove(members);
            }
        }
        if of_key.ids.is_empty() {
            self.keys.remove(key);
        }
    }

    /// Who may come back under a key.
    pub(super) fn find(&self, key: &str, members: &str) -> Option<PresenceId> {
        let of_key = self.keys.get(key)?;
        let same = of_key.by_members.get(members).and_then(BTreeSet::first);
        same.or_else(|| of_key.ids.first()).copied()
    }
}
