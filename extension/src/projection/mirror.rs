//! Writes rows into a mirror.
//!
//! Straight into heap and indexes where the mirror is as we made it, as logical replication applies rows; a statement
//! through the planner costs more than the writing. Whatever somebody added that only the executor honours (triggers,
//! foreign keys, defaults, rules, partitions, forced policies, another owner), or that may run code of his (checks,
//! indexes on expressions), sends us back to statements.

use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::spi::quote_identifier;
use pgrx::{PgMemoryContexts, PgRelation, Spi};

use crate::error::Error;
use crate::owner::with_safe_path;
use crate::spi::{Access, Plan, qualified_name};

/// A row as the mirror stores it, in the order of the registration.
pub(super) type Row = Vec<Option<Datum>>;

pub(super) struct Mirror {
    relation: Oid,
    pub(super) columns: Vec<Column>,
    writer: Writer,
    truncate: Plan,
    /// Where the trigger hangs on a partition: deletes what the source no longer has.
    delete_surplus: Option<Plan>,
}

/// A projected column as the mirror stores it.
pub(super) struct Column {
    pub(super) name: String,
    pub(super) number: i16,
    pub(super) type_oid: Oid,
    /// A length or precision; -1 in a mirror as we made it.
    modifier: i32,
    pub(super) length: i16,
    pub(super) is_by_value: bool,
    pub(super) is_key: bool,
}

enum Writer {
    /// By this index on the key.
    Direct {
        key_index: Oid,
    },
    Statements {
        upsert: Plan,
        delete: Plan,
    },
}

impl Mirror {
    /// Inside `Spi::connect`, as the owner of the source. `partitioned` is the source, if the trigger hangs on one of its
    /// partitions.
    pub(super) fn load(
        relation: Oid,
        owner: Oid,
        names: &[String],
        keys: &[String],
        partitioned: Option<(Oid, &[String])>,
    ) -> Result<Self, Error> {
        let table = qualified_name(relation).expect("the caller saw to it");
        let mut columns = Vec::new();
        for name in names {
            let column = Column::find(relation, name, keys.contains(name));
            columns.push(
                column.ok_or_else(|| Error::ColumnMissing { table: table.clone(), column: name.clone() })?,
            );
        }
        let writer = match direct_key_index(relation, owner, &columns) {
            Some(key_index) => Writer::Direct { key_index },
            None => Writer::statements(&table, &columns),
        };
        let delete_surplus = partitioned.map(|(source, definitions)| {
            let source = qualified_name(source).expect("an ancestor of an open relation");
            let pairs = columns.iter().zip(definitions).filter(|(column, _)| column.is_key);
            let matches: Vec<String> = pairs
                .map(|(column, definition)| {
                    let name = quote_identifier(&column.name);
                    format!("({definition})::{} = m.{name}", column.type_name())
                })
                .collect();
            let statement = format!(
                "delete from only {table} as m where not exists (select from {source} where {})",
                matches.join(" and ")
            );
            Plan::prepare(&statement, &[])
        });
        Ok(Self {
            relation,
            columns,
            writer,
            truncate: Plan::prepare(&format!("truncate only {table}"), &[]),
            delete_surplus,
        })
    }

    /// Writes a row, whether or not its key is there already.
    pub(super) fn upsert(&self, row: &Row) {
        match &self.writer {
            Writer::Direct { key_index } => self.write(*key_index, row, Action::Upsert),
            Writer::Statements { upsert, .. } => {
                run(upsert, row);
            }
        }
    }

    /// Deletes the row with the key of this one, if it is there.
    pub(super) fn delete(&self, row: &Row) {
        match &self.writer {
            Writer::Direct { key_index } => self.write(*key_index, row, Action::Delete),
            Writer::Statements { delete, .. } => {
                let key: Row = self
                    .columns
                    .iter()
                    .zip(row)
                    .filter(|(column, _)| column.is_key)
                    .map(|(_, &value)| value)
                    .collect();
                run(delete, &key);
            }
        }
    }

    /// Empties the mirror; for a truncated partition, only of what the source no longer has.
    pub(super) fn truncate(&self) {
        let plan = self.delete_surplus.as_ref().unwrap_or(&self.truncate);
        run(plan, &[]);
    }

    fn write(&self, key_index: Oid, row: &Row, action: Action) {
        // SAFETY: the mirror is an ordinary table without triggers, and the index its primary key on exactly the key
        // columns: `direct_key_index` found it so, and a change of the mirror makes us look again. The lock is the one
        // a statement would take, kept until the transaction ends. Slots, indexes and memory end with the state; an
        // error ends them with the (sub)transaction.
        unsafe {
            // What this transaction wrote before must be seen by the search, and be older than what is written now.
            pg_sys::CommandCounterIncrement();
            let relation = pg_sys::table_open(self.relation, pg_sys::RowExclusiveLock as i32);
            let state = pg_sys::CreateExecutorState();
            PgMemoryContexts::For((*state).es_query_cxt).switch_to(|_| {
                self.write_with(relation, state, key_index, row, action);
            });
            pg_sys::FreeExecutorState(state);
            pg_sys::table_close(relation, pg_sys::NoLock as i32);
        }
    }

    /// # Safety
    /// As `write` sets it up.
    unsafe fn write_with(
        &self,
        relation: pg_sys::Relation,
        state: *mut pg_sys::EState,
        key_index: Oid,
        row: &Row,
        action: Action,
    ) {
        // SAFETY: the slots are of the mirror, whose columns have the numbers we look at.
        unsafe {
            let shape = (*relation).rd_att;
            let count = (*shape).natts as usize;
            let new = pg_sys::ExecInitExtraTupleSlot(state, shape, &raw const pg_sys::TTSOpsVirtual);
            let found = pg_sys::table_slot_create(relation, &raw mut (*state).es_tupleTable);
            let values = std::slice::from_raw_parts_mut((*new).tts_values, count);
            let nulls = std::slice::from_raw_parts_mut((*new).tts_isnull, count);
            nulls.fill(true);
            for (column, value) in self.columns.iter().zip(row) {
                let index = column.number as usize - 1;
                nulls[index] = value.is_none();
                values[index] = value.unwrap_or(Datum::null());
            }
            pg_sys::ExecStoreVirtualTuple(new);

            let mut result: pg_sys::ResultRelInfo = std::mem::zeroed();
            result.type_ = pg_sys::NodeTag::T_ResultRelInfo;
            pg_sys::InitResultRelInfo(&mut result, relation, 0, std::ptr::null_mut(), 0);
            pg_sys::ExecOpenIndices(&mut result, false);
            let lock = match action {
                Action::Upsert => pg_sys::LockTupleMode::LockTupleNoKeyExclusive,
                Action::Delete => pg_sys::LockTupleMode::LockTupleExclusive,
            };
            let exists = pg_sys::RelationFindReplTupleByIndex(relation, key_index, lock, new, found);
            // Looked at by BEFORE triggers alone, and there are none.
            let mut unused: pg_sys::EPQState = std::mem::zeroed();
            match action {
                Action::Delete if exists => {
                    pg_sys::ExecSimpleRelationDelete(&mut result, state, &mut unused, found);
                }
                Action::Delete => {}
                Action::Upsert if exists => {
                    self.keep_other_columns(new, found);
                    pg_sys::ExecSimpleRelationUpdate(&mut result, state, &mut unused, found, new);
                }
                Action::Upsert => pg_sys::ExecSimpleRelationInsert(&mut result, state, new),
            }
            pg_sys::ExecCloseIndices(&mut result);
            pg_sys::ExecResetTupleTable((*state).es_tupleTable, false);
            (*state).es_tupleTable = std::ptr::null_mut();
        }
    }

    /// A DBA may have added columns of his own to the mirror.
    ///
    /// # Safety
    /// Two slots of the mirror; `found` holds a row.
    unsafe fn keep_other_columns(
        &self,
        new: *mut pg_sys::TupleTableSlot,
        found: *mut pg_sys::TupleTableSlot,
    ) {
        // SAFETY: both have as many columns.
        unsafe {
            let count = (*(*new).tts_tupleDescriptor).natts as usize;
            if count == self.columns.len() {
                return;
            }
            pg_sys::slot_getsomeattrs_int(found, count as i32);
            for index in 0..count {
                if !self.columns.iter().any(|column| column.number as usize == index + 1) {
                    *(*new).tts_values.add(index) = *(*found).tts_values.add(index);
                    *(*new).tts_isnull.add(index) = *(*found).tts_isnull.add(index);
                }
            }
        }
    }
}

/// Code that the statement meets finds its names by our search_path, not by the caller's.
fn run(plan: &Plan, values: &[Option<Datum>]) {
    with_safe_path(|| Spi::connect(|_| plan.execute(values, Access::ReadWrite)));
}

#[derive(Clone, Copy)]
enum Action {
    Upsert,
    Delete,
}

impl Writer {
    /// Inside `Spi::connect`.
    fn statements(table: &str, columns: &[Column]) -> Self {
        let names: Vec<String> = columns.iter().map(|column| quote_identifier(&column.name)).collect();
        let parameters: Vec<String> = (1..=names.len()).map(|n| format!("${n}")).collect();
        let (keys, others): (Vec<usize>, Vec<usize>) = (0..names.len()).partition(|&i| columns[i].is_key);
        let key_names: Vec<&str> = keys.iter().map(|&i| names[i].as_str()).collect();
        let on_conflict = if others.is_empty() {
            "nothing".to_owned()
        } else {
            let assignments: Vec<String> =
                others.iter().map(|&i| format!("{0} = excluded.{0}", names[i])).collect();
            format!("update set {}", assignments.join(", "))
        };
        let upsert = format!(
            "insert into {table} ({}) values ({}) on conflict ({}) do {on_conflict}",
            names.join(", "),
            parameters.join(", "),
            key_names.join(", "),
        );
        let matches: Vec<String> =
            key_names.iter().enumerate().map(|(n, name)| format!("{name} = ${}", n + 1)).collect();
        let delete = format!("delete from only {table} where {}", matches.join(" and "));

        let types: Vec<Oid> = columns.iter().map(|column| column.type_oid).collect();
        let key_types: Vec<Oid> = keys.iter().map(|&i| types[i]).collect();
        Self::Statements {
            upsert: Plan::prepare(&upsert, &types),
            delete: Plan::prepare(&delete, &key_types),
        }
    }
}

impl Column {
    fn find(relation: Oid, name: &str, is_key: bool) -> Option<Self> {
        let c_name = std::ffi::CString::new(name).ok()?;
        // SAFETY: the relation exists and is locked; a missing column is InvalidAttrNumber.
        unsafe {
            let number = pg_sys::get_attnum(relation, c_name.as_ptr());
            if number <= 0 {
                return None;
            }
            let (mut type_oid, mut modifier, mut collation) = (Oid::INVALID, -1, Oid::INVALID);
            pg_sys::get_atttypetypmodcoll(relation, number, &mut type_oid, &mut modifier, &mut collation);
            let (mut length, mut is_by_value) = (0, false);
            pg_sys::get_typlenbyval(type_oid, &mut length, &mut is_by_value);
            Some(Self { name: name.to_owned(), number, type_oid, modifier, length, is_by_value, is_key })
        }
    }

    /// The type with its schema and its length, as SQL reads it. Asked for without a length, Postgres calls any `char(n)`
    /// "character", which read again is `character(1)`.
    pub(super) fn type_name(&self) -> String {
        // SAFETY: returns a string allocated in the current context, for any oid.
        unsafe {
            let flags = pg_sys::FORMAT_TYPE_TYPEMOD_GIVEN | pg_sys::FORMAT_TYPE_FORCE_QUALIFY;
            let name = pg_sys::format_type_extended(self.type_oid, self.modifier, flags as pg_sys::bits16);
            std::ffi::CStr::from_ptr(name).to_string_lossy().into_owned()
        }
    }
}

/// The primary key of the mirror, if rows may be written without the executor.
fn direct_key_index(mirror: Oid, owner: Oid, columns: &[Column]) -> Option<Oid> {
    // SAFETY: the mirror exists; the lock is one that reading takes anyway.
    let relation = unsafe { PgRelation::with_lock(mirror, pg_sys::AccessShareLock as i32) };
    // SAFETY: the relation is open. Listing its indexes is what finds the primary key, in every version alike.
    let (class, key_index, has_plain_indexes) = unsafe {
        let indexes = pg_sys::RelationGetIndexList(relation.as_ptr());
        let count = if indexes.is_null() { 0 } else { (*indexes).length as usize };
        let has_plain_indexes = (0..count).all(|i| is_plain((*(*indexes).elements.add(i)).oid_value));
        pg_sys::list_free(indexes);
        (&*relation.rd_rel, relation.rd_pkindex, has_plain_indexes)
    };
    let shape = relation.tuple_desc();
    let has_only_plain_columns = shape.iter().filter(|attribute| !attribute.attisdropped).all(|attribute| {
        match columns.iter().any(|column| column.number == attribute.attnum) {
            true => attribute.atttypmod < 0 && attribute.attgenerated == 0,
            // A default, an identity or a generated value is the executor's to make.
            false => !attribute.atthasdef && attribute.attidentity == 0,
        }
    });
    let is_as_made = relation.is_table()
        && class.relowner == owner
        && !class.relhastriggers
        && !class.relhasrules
        && !class.relforcerowsecurity
        && class.relchecks == 0
        && has_plain_indexes
        && has_only_plain_columns;
    // SAFETY: the index was just found on the open relation.
    (is_as_made && key_index != Oid::INVALID && unsafe { is_on(key_index, columns) }).then_some(key_index)
}

/// Whether an index is on columns, and on all rows.
///
/// # Safety
/// The index exists.
unsafe fn is_plain(index: Oid) -> bool {
    // SAFETY: the index is open while it is asked.
    unsafe {
        let relation = pg_sys::index_open(index, pg_sys::AccessShareLock as i32);
        let is_plain = pg_sys::RelationGetIndexExpressions(relation).is_null()
            && pg_sys::RelationGetIndexPredicate(relation).is_null();
        pg_sys::index_close(relation, pg_sys::AccessShareLock as i32);
        is_plain
    }
}

/// Whether a unique index, checked at once, is on the key columns and nothing else.
///
/// # Safety
/// The index exists.
unsafe fn is_on(index: Oid, columns: &[Column]) -> bool {
    // SAFETY: an index has as many key columns as it says.
    unsafe {
        let relation = pg_sys::index_open(index, pg_sys::AccessShareLock as i32);
        let form = &*(*relation).rd_index;
        let numbers = form.indkey.values.as_slice(form.indnkeyatts as usize);
        let keys = columns.iter().filter(|column| column.is_key);
        let is_on_key = form.indisprimary
            && form.indisvalid
            && form.indimmediate
            && numbers.len() == keys.clone().count()
            && keys.clone().all(|key| numbers.contains(&key.number));
        pg_sys::index_close(relation, pg_sys::AccessShareLock as i32);
        is_on_key
    }
}
