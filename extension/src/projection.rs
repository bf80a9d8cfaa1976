//! The trigger that carries a row to the scalar mirror of its table.
//!
//! It works as the owner of the table, never as the superuser who owns the function: whatever triggers or defaults the
//! mirror has run with the rights of whoever could have put them there. Hazard: only columns of the mirror are looked
//! at, so that a large JSON value beside them is never read.

use std::ffi::CStr;

use pgrx::heap_tuple::PgHeapTuple;
use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::pg_sys::{self, Datum, Oid};
use pgrx::prelude::*;
use pgrx::spi::quote_identifier;

use crate::cache::{Dependencies, RelationCache};
use crate::error::Error;
use crate::spi::{Access, Plan, as_owner, qualified_name};

/// As Postgres runs its foreign keys: code found at the mirror cannot change role. Not SECURITY_RESTRICTED_OPERATION,
/// under which no deferred trigger can be queued: a deferred constraint on a mirror would fail every write to its
/// source. The code is the owner's, who could as well have put it on the source.
const RESTRICTIONS: u32 = pg_sys::SECURITY_LOCAL_USERID_CHANGE;

thread_local! {
    static PROJECTIONS: RelationCache<Projection> = RelationCache::new();
}

struct Projection {
    columns: Vec<Column>,
    upsert: Plan,
    delete: Plan,
    truncate: Plan,
}

/// A projected column as the source stores it.
struct Column {
    number: i32,
    type_oid: Oid,
    length: i16,
    is_by_value: bool,
    is_key: bool,
}

/// Carries a change of a projected table to its mirror. 55000 on a table that is not registered, or for a trigger
/// that is not AFTER, by row (or by statement for TRUNCATE); 42703 if a projected column is gone.
#[pg_trigger(sql = r#"
create function campfire.sync_realtime_conversations() returns trigger
language c security definer set search_path = pg_catalog, pg_temp
as '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
"#)]
fn sync_realtime_conversations<'a>(
    trigger: &'a PgTrigger<'a>,
) -> Result<Option<PgHeapTuple<'a, AllocatedByPostgres>>, PgTriggerError> {
    Change::of(trigger).and_then(Change::carry).map_err(ErrorReport::from).unwrap_or_report();
    Ok(None)
}

/// Makes every session forget the plans of the projections whose registration changed.
#[pg_trigger(sql = r#"
create function campfire.projection_registry_changed() returns trigger
language c
as '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
"#)]
fn projection_registry_changed<'a>(
    trigger: &'a PgTrigger<'a>,
) -> Result<Option<PgHeapTuple<'a, AllocatedByPostgres>>, PgTriggerError> {
    for row in [trigger.old(), trigger.new()].into_iter().flatten() {
        let source: Option<Oid> = row.get_by_name("source").unwrap_or_report();
        if let Some(source) = source.filter(|&source| qualified_name(source).is_some()) {
            // SAFETY: the relation exists; this only queues a message.
            unsafe { pg_sys::CacheInvalidateRelcacheByRelid(source) };
        }
    }
    Ok(None)
}

/// What happened to the source.
struct Change<'a> {
    data: &'a pg_sys::TriggerData,
    operation: PgTriggerOperation,
    /// The source.
    relation: Oid,
    owner: Oid,
}

impl<'a> Change<'a> {
    fn of(trigger: &'a PgTrigger<'a>) -> Result<Self, Error> {
        let data = trigger.trigger_data();
        // SAFETY: Postgres keeps the relation open while its triggers run.
        let (relation, owner) =
            unsafe { ((*data.tg_relation).rd_id, (*(*data.tg_relation).rd_rel).relowner) };
        let operation = trigger.op().unwrap_or_report();
        let event = trigger.event();
        let for_truncate = matches!(operation, PgTriggerOperation::Truncate);
        if !event.fired_after() || event.fired_for_statement() != for_truncate {
            return Err(Error::WrongTrigger {
                trigger: trigger.name().unwrap_or_report().to_owned(),
                table: qualified_name(relation).expect("the relation is open"),
                wanted: "an AFTER trigger for each row, or for each statement on TRUNCATE",
            });
        }
        Ok(Self { data, operation, relation, owner })
    }

    fn carry(self) -> Result<(), Error> {
        Spi::connect(|_| {
            let projection = PROJECTIONS.with(|projections| {
                projections.get(self.relation, |dependencies| Projection::load(self.relation, dependencies))
            })?;
            // For DELETE the trigger tuple is the old row, for INSERT the new one.
            let first = |column: &Column| column.value(self.data.tg_trigtuple, self.data.tg_relation);
            let second = |column: &Column| column.value(self.data.tg_newtuple, self.data.tg_relation);
            match self.operation {
                PgTriggerOperation::Insert => {
                    self.write(&projection.upsert, projection.columns.iter().map(first).collect());
                }
                PgTriggerOperation::Update => {
                    let old: Vec<_> = projection.columns.iter().map(first).collect();
                    let new: Vec<_> = projection.columns.iter().map(second).collect();
                    let mut key_changed = false;
                    let mut changed = false;
                    for (i, column) in projection.columns.iter().enumerate() {
                        if !column.are_same(old[i], new[i]) {
                            changed = true;
                            key_changed |= column.is_key;
                        }
                    }
                    if key_changed {
                        self.write(&projection.delete, projection.key_of(&old));
                    }
                    if changed {
                        self.write(&projection.upsert, new);
                    }
                }
                PgTriggerOperation::Delete => {
                    let old: Vec<_> = projection.columns.iter().map(first).collect();
                    self.write(&projection.delete, projection.key_of(&old));
                }
                PgTriggerOperation::Truncate => self.write(&projection.truncate, Vec::new()),
            }
            Ok(())
        })
    }

    fn write(&self, plan: &Plan, values: Vec<Option<Datum>>) {
        as_owner(self.owner, RESTRICTIONS, || plan.execute(&values, Access::ReadWrite));
    }
}

/// A row of the registry.
struct Registration {
    mirror: Oid,
    key_columns: Vec<String>,
    columns: Vec<String>,
}

impl Registration {
    /// Inside `Spi::connect`, as the owner of the function: nobody else may read the registry.
    fn find(source: Oid) -> spi::Result<Option<Self>> {
        Spi::connect(|client| {
            let rows = client.select(
                "select mirror::oid, key_columns::text[], columns::text[] \
                 from campfire.projection_registry where source = $1",
                Some(1),
                &[source.into()],
            )?;
            if rows.is_empty() {
                return Ok(None);
            }
            let (mirror, key_columns, columns) = rows.first().get_three()?;
            Ok((|| Some(Self { mirror: mirror?, key_columns: key_columns?, columns: columns? }))())
        })
    }
}

impl Projection {
    /// Inside `Spi::connect`.
    fn load(source: Oid, dependencies: &mut Dependencies) -> Result<Self, Error> {
        let table = qualified_name(source).expect("the relation is open");
        let Some(registered) = Registration::find(source).unwrap_or_report() else {
            return Err(Error::NotProjected { table });
        };
        dependencies.add(registered.mirror);
        let Some(mirror) = qualified_name(registered.mirror) else {
            return Err(Error::MirrorMissing { table });
        };

        let mut columns = Vec::new();
        let mut targets = Vec::new();
        for name in &registered.columns {
            let missing =
                |table: &str| Error::ColumnMissing { table: table.to_owned(), column: name.clone() };
            let is_key = registered.key_columns.contains(name);
            columns.push(Column::find(source, name, is_key).ok_or_else(|| missing(&table))?);
            targets.push(Column::find(registered.mirror, name, is_key).ok_or_else(|| missing(&mirror))?);
        }
        // Parameter n of a statement as a value of the mirror's column: an enum becomes text by a cast.
        let value = |n: usize, i: usize| match columns[i].type_oid == targets[i].type_oid {
            true => format!("${n}"),
            false => format!("${n}::{}", type_name(targets[i].type_oid)),
        };

        let names: Vec<String> = registered.columns.iter().map(quote_identifier).collect();
        let (keys, others): (Vec<usize>, Vec<usize>) = (0..names.len()).partition(|&i| columns[i].is_key);
        let values = comma_separated((0..names.len()).map(|i| value(i + 1, i)));
        let on_conflict = if others.is_empty() {
            "nothing".to_owned()
        } else {
            let assignments = others.iter().map(|&i| format!("{0} = excluded.{0}", names[i]));
            format!("update set {}", comma_separated(assignments))
        };
        let upsert = format!(
            "insert into {mirror} ({}) values ({values}) on conflict ({}) do {on_conflict}",
            names.join(", "),
            comma_separated(keys.iter().map(|&i| names[i].clone())),
        );
        let matches: Vec<String> =
            keys.iter().enumerate().map(|(n, &i)| format!("{} = {}", names[i], value(n + 1, i))).collect();
        let delete = format!("delete from only {mirror} where {}", matches.join(" and "));

        let types: Vec<Oid> = columns.iter().map(|column| column.type_oid).collect();
        let key_types: Vec<Oid> = keys.iter().map(|&i| types[i]).collect();
        Ok(Self {
            upsert: Plan::prepare(&upsert, &types),
            delete: Plan::prepare(&delete, &key_types),
            truncate: Plan::prepare(&format!("truncate only {mirror}"), &[]),
            columns,
        })
    }

    fn key_of(&self, row: &[Option<Datum>]) -> Vec<Option<Datum>> {
        self.columns.iter().zip(row).filter(|(column, _)| column.is_key).map(|(_, &value)| value).collect()
    }
}

impl Column {
    fn find(relation: Oid, name: &str, is_key: bool) -> Option<Self> {
        let name = std::ffi::CString::new(name).ok()?;
        // SAFETY: the relation exists and is locked; a missing column is InvalidAttrNumber.
        unsafe {
            let number = pg_sys::get_attnum(relation, name.as_ptr());
            if number <= 0 {
                return None;
            }
            let type_oid = pg_sys::get_atttype(relation, number);
            let (mut length, mut is_by_value) = (0, false);
            pg_sys::get_typlenbyval(type_oid, &mut length, &mut is_by_value);
            Some(Self { number: i32::from(number), type_oid, length, is_by_value, is_key })
        }
    }

    fn value(&self, row: pg_sys::HeapTuple, relation: pg_sys::Relation) -> Option<Datum> {
        let mut is_null = false;
        // SAFETY: the row is of the relation that fired the trigger, and the column is one of its columns: a change
        // of the table makes us load the projection again.
        let value = unsafe { pg_sys::SPI_getbinval(row, (*relation).rd_att, self.number, &mut is_null) };
        (!is_null).then_some(value)
    }

    /// Whether both values are stored alike, which is finer than `=`: 1.0 and 1.00 look different to a reader.
    fn are_same(&self, a: Option<Datum>, b: Option<Datum>) -> bool {
        let (a, b) = match (a, b) {
            (None, None) => return true,
            (Some(a), Some(b)) => (a, b),
            _ => return false,
        };
        if self.is_by_value {
            return a.value() == b.value();
        }
        // SAFETY: values of this column's type, by reference, from rows that live as long as the trigger runs.
        unsafe {
            if self.length > 0 {
                let length = self.length as usize;
                let a = std::slice::from_raw_parts(a.cast_mut_ptr::<u8>(), length);
                return a == std::slice::from_raw_parts(b.cast_mut_ptr::<u8>(), length);
            }
            if self.length == -2 {
                return CStr::from_ptr(a.cast_mut_ptr()) == CStr::from_ptr(b.cast_mut_ptr());
            }
            let (a, b) = (a.cast_mut_ptr::<pg_sys::varlena>(), b.cast_mut_ptr::<pg_sys::varlena>());
            // A value moved out of line that was not assigned is the same pointer: not worth fetching.
            let stored = |value| std::slice::from_raw_parts(value as *const u8, pgrx::varsize_any(value));
            if stored(a) == stored(b) {
                return true;
            }
            let (a, b) = (pg_sys::pg_detoast_datum_packed(a), pg_sys::pg_detoast_datum_packed(b));
            pgrx::varlena_to_byte_slice(a) == pgrx::varlena_to_byte_slice(b)
        }
    }
}

fn comma_separated(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

/// Name of a type with its schema, as SQL reads it.
fn type_name(type_oid: Oid) -> String {
    // SAFETY: returns a string allocated in the current context, for any oid.
    unsafe { CStr::from_ptr(pg_sys::format_type_be_qualified(type_oid)).to_string_lossy().into_owned() }
}
