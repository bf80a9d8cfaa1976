//! What a session remembers by relation, and when it must forget it.
//!
//! Hazard: Postgres delivers invalidations in the middle of nearly any call into it. No borrow of this module is held
//! over such a call, and a value in use is shared, so that forgetting it does not free it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::rc::Rc;

use pgrx::pg_sys::{self, Datum, Oid};

use crate::error::Error;

thread_local! {
    /// For each relation that something remembered depends on: how often it was invalidated.
    static WATCHED: RefCell<HashMap<Oid, u64>> = RefCell::new(HashMap::new());
    /// How often everything was invalidated: a full reset, or a change of a schema or a function.
    static RESETS: Cell<u64> = const { Cell::new(0) };
}

/// Asks Postgres to tell us of changed relations, schemas and functions. Once per session: there is a fixed number of places.
pub(crate) fn listen_for_invalidations() {
    // SAFETY: the callbacks live as long as the library, which is never unloaded, and none raises errors.
    unsafe {
        pg_sys::CacheRegisterRelcacheCallback(Some(relation_changed), Datum::null());
        pg_sys::CacheRegisterSyscacheCallback(
            pg_sys::SysCacheIdentifier::NAMESPACEOID as i32,
            Some(name_changed),
            Datum::null(),
        );
        // Expressions that are kept may have the bodies of functions in them.
        pg_sys::CacheRegisterSyscacheCallback(
            pg_sys::SysCacheIdentifier::PROCOID as i32,
            Some(name_changed),
            Datum::null(),
        );
    }
}

unsafe extern "C-unwind" fn relation_changed(_argument: Datum, relation: Oid) {
    if relation == Oid::INVALID {
        RESETS.set(RESETS.get() + 1);
    } else {
        WATCHED.with_borrow_mut(|watched| {
            if let Some(count) = watched.get_mut(&relation) {
                *count += 1;
            }
        });
    }
}

unsafe extern "C-unwind" fn name_changed(_argument: Datum, _cache: i32, _hash: u32) {
    RESETS.set(RESETS.get() + 1);
}

/// The relations a value depends on, and how often they had been invalidated when it was made.
pub(crate) struct Dependencies {
    relations: Vec<Oid>,
    version: u64,
}

impl Dependencies {
    fn new() -> Self {
        Self { relations: Vec::new(), version: RESETS.get() }
    }

    /// To be called before the relation is looked at, so that a change in between is noticed.
    pub(crate) fn add(&mut self, relation: Oid) {
        self.version += WATCHED.with_borrow_mut(|watched| *watched.entry(relation).or_insert(0));
        self.relations.push(relation);
    }

    fn are_current(&self) -> bool {
        let version = WATCHED.with_borrow(|watched| {
            RESETS.get() + self.relations.iter().map(|relation| watched[relation]).sum::<u64>()
        });
        version == self.version
    }
}

/// Values by relation. In a `thread_local!` it has no destructor: plans must not be freed while Postgres exits.
pub(crate) struct RelationCache<T> {
    entries: ManuallyDrop<RefCell<HashMap<Oid, Entry<T>>>>,
}

struct Entry<T> {
    value: Rc<T>,
    dependencies: Dependencies,
}

impl<T> RelationCache<T> {
    pub(crate) fn new() -> Self {
        Self { entries: ManuallyDrop::new(RefCell::new(HashMap::new())) }
    }

    /// The value for a relation, made by `make` unless one is remembered that is still true.
    pub(crate) fn get(
        &self,
        relation: Oid,
        make: impl FnOnce(&mut Dependencies) -> Result<T, Error>,
    ) -> Result<Rc<T>, Error> {
        if let Some(entry) = self.entries.borrow().get(&relation)
            && entry.dependencies.are_current()
        {
            return Ok(Rc::clone(&entry.value));
        }
        let mut dependencies = Dependencies::new();
        dependencies.add(relation);
        let value = Rc::new(make(&mut dependencies)?);
        let entry = Entry { value: Rc::clone(&value), dependencies };
        let forgotten = self.entries.borrow_mut().insert(relation, entry);
        // Freed only now: the borrow is over.
        drop(forgotten);
        Ok(value)
    }

    /// Makes the next `get` make the value again.
    pub(crate) fn forget(&self, relation: Oid) {
        let forgotten = self.entries.borrow_mut().remove(&relation);
        // Freed only now: the borrow is over.
        drop(forgotten);
    }
}
