//! The trigger that carries a row to the scalar mirror of its table.
//!
//! It works as the owner of the table, never as the superuser who owns the function: whatever triggers, defaults or
//! functions the projection runs have the rights of whoever could have put them there. So role and search_path change here
//! once more, wherever a name is looked up or somebody's code runs. Hazard: only columns that the mirror is made of are
//! looked at, so that a large JSON value beside them is never read.

pub(crate) mod definition;
mod mirror;

use std::cell::Cell;
use std::ffi::CStr;

use pgrx::heap_tuple::PgHeapTuple;
use pgrx::pg_sys::panic::{CaughtError, ErrorReport, ErrorReportable};
use pgrx::pg_sys::{self, Datum, Oid, TupleTableSlot};
use pgrx::prelude::*;
use pgrx::{PgMemoryContexts, PgTryBuilder};

use crate::cache::{Dependencies, RelationCache};
use crate::error::Error;
use crate::owner::{as_extension_owner, with_safe_path};
use crate::projection::mirror::{Mirror, Row};
use crate::spi::{Access, Plan, as_owner, found, qualified_name, with_latest_snapshot};

/// As Postgres runs its foreign keys: code found at the mirror cannot change role. Not SECURITY_RESTRICTED_OPERATION,
/// under which no deferred trigger can be queued: a deferred constraint on a mirror would fail every write to its
/// source. The code is the owner's, who could as well have put it on the source.
const RESTRICTIONS: u32 = pg_sys::SECURITY_LOCAL_USERID_CHANGE;

thread_local! {
    /// `None` for a table whose projection is gone: its writes go on, and its mirror is mended later.
    static PROJECTIONS: RelationCache<Option<Projection>> = RelationCache::new();
}

/// How the rows of one table, or of one partition of it, become rows of the mirror.
struct Projection {
    /// Of the source, not of its partition.
    owner: Oid,
    mirror: Mirror,
    /// One for each column of the mirror.
    makers: Vec<Maker>,
    /// The columns that the makers look at.
    inputs: Vec<Input>,
    /// The greatest number among them.
    last_input: i16,
    context: *mut pg_sys::ExprContext,
    /// An error in the middle of an expression may leave it in any state.
    is_spoilt: Cell<bool>,
    /// Holds context and expressions; freed last.
    _memory: PgMemoryContexts,
}

enum Maker {
    /// The column of this number, as it is.
    Column(i16),
    Expression {
        state: *mut pg_sys::ExprState,
        /// Its columns.
        inputs: Vec<i16>,
        definition: String,
        /// Of an enum: the commonest expression, and one that needs no net.
        is_label: bool,
    },
}

/// A column of the table that fired the trigger.
struct Input {
    number: i16,
    kind: ValueKind,
}

#[derive(Clone, Copy)]
struct ValueKind {
    length: i16,
    is_by_value: bool,
}

/// Carries a change of a projected table to its mirror. A WARNING, once a session, on a table that is not registered or
/// whose mirror is gone, as after a restore of a part: its writes go on. 55000 for a trigger that is not AFTER, by row (or
/// by statement for TRUNCATE); 42703 if a projected column is gone.
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
    /// The source, or the partition that fired the trigger.
    relation: Oid,
}

impl<'a> Change<'a> {
    fn of(trigger: &'a PgTrigger<'a>) -> Result<Self, Error> {
        let data = trigger.trigger_data();
        // SAFETY: Postgres keeps the relation open while its triggers run.
        let relation = unsafe { (*data.tg_relation).rd_id };
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
        Ok(Self { data, operation, relation })
    }

    fn carry(self) -> Result<(), Error> {
        let projection = PROJECTIONS.with(|projections| {
            projections.get(self.relation, |dependencies| {
                as_extension_owner(|| Projection::load(self.relation, dependencies))
            })
        })?;
        let Some(projection) = projection.as_ref() else {
            return Ok(());
        };
        if projection.is_spoilt.get() {
            PROJECTIONS.with(|projections| projections.forget(self.relation));
            return self.carry();
        }
        as_owner(projection.owner, RESTRICTIONS, || {
            // For DELETE the trigger's slot holds the old row, for INSERT the new one.
            let (first, second) = (self.data.tg_trigslot, self.data.tg_newslot);
            match self.operation {
                PgTriggerOperation::Insert => projection.mirror.upsert(&projection.row(first)?),
                PgTriggerOperation::Update => {
                    let changed = projection.changed_inputs(first, second);
                    if changed.is_empty() {
                        return Ok(());
                    }
                    if projection.changes_key(&changed) {
                        projection.mirror.delete(&projection.key(first));
                    } else if !projection.changes_a_value(&changed, first, second)? {
                        return Ok(());
                    }
                    projection.mirror.upsert(&projection.row(second)?);
                }
                PgTriggerOperation::Delete => projection.mirror.delete(&projection.key(first)),
                PgTriggerOperation::Truncate => projection.mirror.truncate(),
            }
            projection.forget_row();
            Ok(())
        })
    }
}

/// A row of the registry.
struct Registration {
    source: Oid,
    mirror: Oid,
    key_columns: Vec<String>,
    columns: Vec<String>,
    definitions: Vec<String>,
}

impl Registration {
    /// Of a relation or of the table that it is a partition of. Inside `Spi::connect`, as the owner of the extension:
    /// nobody else may read the registry. As it is now: a transaction that is repeatable read may have begun before the
    /// projection was made, and its rows belong into the mirror all the same.
    fn find(relation: Oid) -> Option<Self> {
        let plan = Plan::prepare(
            "select p.source::oid, p.mirror::oid, p.key_columns::text[], p.columns::text[], \
               coalesce(p.definitions, array(select pg_catalog.quote_ident(c) from pg_catalog.unnest(p.columns) as c)) \
             from campfire.projection_registry as p \
             where p.source = $1 or p.source in (select relid from pg_catalog.pg_partition_ancestors($1)) \
             order by p.source = $1 desc fetch first row only",
            &[pg_sys::OIDOID],
        );
        let rows = with_latest_snapshot(|| plan.execute(&[relation.into_datum()], Access::ReadOnly));
        (rows > 0).then(|| Self {
            source: found(1).expect("a primary key"),
            mirror: found(2).expect("not null"),
            key_columns: found(3).expect("not null"),
            columns: found(4).expect("not null"),
            definitions: found(5).expect("columns are not null"),
        })
    }
}

impl Projection {
    /// As the owner of the extension. `None`, after a warning, if there is nothing to write to.
    fn load(relation: Oid, dependencies: &mut Dependencies) -> Result<Option<Self>, Error> {
        Spi::connect(|_| {
            let ancestors = ancestors_of(relation).unwrap_or_report();
            for &ancestor in &ancestors {
                dependencies.add(ancestor);
            }
            // What is registered: the source, not its partition.
            let source = ancestors.last().copied().unwrap_or(relation);
            let table = qualified_name(source).expect("the relation is open");
            let Some(registered) = Registration::find(relation) else {
                warn(Error::NotProjected { table });
                return Ok(None);
            };
            dependencies.add(registered.mirror);
            if qualified_name(registered.mirror).is_none() {
                warn(Error::MirrorMissing { table });
                return Ok(None);
            }
            let owner = owner_of(registered.source);
            let partitioned = (registered.source != relation)
                .then_some((registered.source, registered.definitions.as_slice()));
            let mirror = as_owner(owner, RESTRICTIONS, || {
                Mirror::load(
                    registered.mirror,
                    owner,
                    &registered.columns,
                    &registered.key_columns,
                    partitioned,
                )
            })?;
            let restricted = RESTRICTIONS | pg_sys::SECURITY_RESTRICTED_OPERATION;
            as_owner(owner, restricted, || Self::build(relation, owner, mirror, &registered.definitions))
                .map(Some)
        })
    }

    /// As the owner of the source.
    fn build(relation: Oid, owner: Oid, mirror: Mirror, definitions: &[String]) -> Result<Self, Error> {
        let as_stored: Vec<String> = mirror
            .columns
            .iter()
            .zip(definitions)
            .map(|(column, definition)| format!("({definition})::{}", column.type_name()))
            .collect();
        let expressions = definition::expressions(relation, &as_stored)?;
        // SAFETY: a context of our own below the one that lives as long as the session.
        let mut memory = unsafe {
            PgMemoryContexts::TopMemoryContext.switch_to(|_| PgMemoryContexts::new("campfire projection"))
        };
        let mut makers = Vec::new();
        let mut numbers = Vec::new();
        // SAFETY: expressions that Postgres just made over rows of this relation; what is kept of them is made, or
        // copied, in the memory that the projection owns.
        let context = unsafe {
            for (expression, definition) in expressions.into_iter().zip(definitions) {
                let columns = definition::columns_of(expression);
                numbers.extend(&columns);
                makers.push(match definition::column_number(expression) {
                    Some(number) => Maker::Column(number),
                    None => Maker::Expression {
                        state: memory.switch_to(|_| {
                            let expression = pg_sys::expression_planner(expression.cast());
                            let expression = pg_sys::copyObjectImpl(expression.cast());
                            pg_sys::ExecInitExpr(expression.cast(), std::ptr::null_mut())
                        }),
                        inputs: columns,
                        definition: definition.clone(),
                        is_label: definition::is_label(expression),
                    },
                });
            }
            memory.switch_to(|_| pg_sys::CreateStandaloneExprContext())
        };
        numbers.sort_unstable();
        numbers.dedup();
        let inputs: Vec<Input> = numbers
            .into_iter()
            .map(|number| Input { number, kind: ValueKind::of(relation, number) })
            .collect();
        let last_input = inputs.last().map_or(0, |input| input.number);
        Ok(Self {
            owner,
            mirror,
            makers,
            inputs,
            last_input,
            context,
            is_spoilt: Cell::new(false),
            _memory: memory,
        })
    }

    /// The columns whose values differ, or may differ.
    fn changed_inputs(&self, old: *mut TupleTableSlot, new: *mut TupleTableSlot) -> Vec<i16> {
        self.unpack(old);
        self.unpack(new);
        self.inputs
            .iter()
            .filter(|input| !input.kind.are_same(value_of(old, input.number), value_of(new, input.number)))
            .map(|input| input.number)
            .collect()
    }

    fn changes_key(&self, changed: &[i16]) -> bool {
        self.makers.iter().zip(&self.mirror.columns).any(|(maker, column)| {
            column.is_key && maker.inputs().iter().any(|input| changed.contains(input))
        })
    }

    /// Whether a changed column is one of the mirror, or an expression over it comes to another value.
    fn changes_a_value(
        &self,
        changed: &[i16],
        old: *mut TupleTableSlot,
        new: *mut TupleTableSlot,
    ) -> Result<bool, Error> {
        if self.makers.iter().any(|maker| matches!(maker, Maker::Column(number) if changed.contains(number)))
        {
            return Ok(true);
        }
        for (maker, column) in self.makers.iter().zip(&self.mirror.columns) {
            if maker.inputs().iter().any(|input| changed.contains(input)) {
                let kind = ValueKind { length: column.length, is_by_value: column.is_by_value };
                let Some(before) = self.make_of_old(maker, &column.name, old) else {
                    return Ok(true);
                };
                if !kind.are_same(before, self.make(maker, &column.name, new)?) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// What the mirror should hold of a row. Values live until `forget_row`.
    fn row(&self, slot: *mut TupleTableSlot) -> Result<Row, Error> {
        self.unpack(slot);
        self.makers
            .iter()
            .zip(&self.mirror.columns)
            .map(|(maker, column)| self.make(maker, &column.name, slot))
            .collect()
    }

    /// As much of a row as a delete needs: other expressions may fail on rows that are on their way out.
    fn key(&self, slot: *mut TupleTableSlot) -> Row {
        self.unpack(slot);
        self.makers
            .iter()
            .zip(&self.mirror.columns)
            .map(|(maker, column)| match column.is_key {
                true => self.make(maker, &column.name, slot).ok().flatten(),
                false => None,
            })
            .collect()
    }

    fn unpack(&self, slot: *mut TupleTableSlot) {
        // SAFETY: a slot of the trigger, which holds a row of its table.
        unsafe {
            if (*slot).tts_nvalid < self.last_input {
                pg_sys::slot_getsomeattrs_int(slot, i32::from(self.last_input));
            }
        }
    }

    fn make(&self, maker: &Maker, column: &str, slot: *mut TupleTableSlot) -> Result<Option<Datum>, Error> {
        let (state, definition) = match maker {
            Maker::Column(number) => return Ok(value_of(slot, *number)),
            Maker::Expression { state, definition, .. } => (*state, definition),
        };
        let evaluate = || {
            let mut is_null = false;
            // SAFETY: state and context live in our memory; the slot holds an unpacked row of the table that the
            // expression was made for. The callee is C, so its errors need the boundary.
            let value = unsafe {
                let memory = (*self.context).ecxt_per_tuple_memory;
                (*self.context).ecxt_scantuple = slot;
                let function = (*state).evalfunc.expect("set by ExecInitExpr");
                PgMemoryContexts::For(memory).switch_to(|_| {
                    pg_sys::ffi::pg_guard_ffi_boundary(|| function(state, self.context, &mut is_null))
                })
            };
            (!is_null).then_some(value)
        };
        if maker.cannot_fail() {
            return Ok(evaluate());
        }
        self.is_spoilt.set(true);
        let restricted = RESTRICTIONS | pg_sys::SECURITY_RESTRICTED_OPERATION;
        let made = PgTryBuilder::new(std::panic::AssertUnwindSafe(|| {
            Ok(as_owner(self.owner, restricted, || with_safe_path(evaluate)))
        }))
        .catch_others(|error| match error {
            CaughtError::PostgresError(report)
                if report.sql_error_code() != PgSqlErrorCode::ERRCODE_QUERY_CANCELED =>
            {
                Err(Error::ExpressionFailed {
                    column: column.to_owned(),
                    definition: definition.clone(),
                    sqlstate: report.sql_error_code(),
                    message: report.message().to_owned(),
                })
            }
            other => other.rethrow(),
        })
        .execute()?;
        self.is_spoilt.set(false);
        Ok(made)
    }

    /// As `make`, for a row that was there before. `None` if the expression fails on it: that row came while the trigger
    /// was off, or is older than the projection, and the update is what mends it.
    fn make_of_old(&self, maker: &Maker, column: &str, slot: *mut TupleTableSlot) -> Option<Option<Datum>> {
        if maker.cannot_fail() {
            return self.make(maker, column, slot).ok();
        }
        // SAFETY: the subtransaction ends here either way, with memory and owner as before; only in one may an error of
        // Postgres be passed over. The value is in memory of our own.
        unsafe {
            let (memory, owner) = (pg_sys::CurrentMemoryContext, pg_sys::CurrentResourceOwner);
            pg_sys::BeginInternalSubTransaction(std::ptr::null());
            pg_sys::CurrentMemoryContext = memory;
            let made = self.make(maker, column, slot).ok();
            match made {
                Some(_) => pg_sys::ReleaseCurrentSubTransaction(),
                None => pg_sys::RollbackAndReleaseCurrentSubTransaction(),
            }
            pg_sys::CurrentMemoryContext = memory;
            pg_sys::CurrentResourceOwner = owner;
            made
        }
    }

    fn forget_row(&self) {
        // SAFETY: nobody holds a value of the row any more.
        unsafe { pg_sys::ReScanExprContext(self.context) };
    }
}

impl Drop for Projection {
    fn drop(&mut self) {
        // SAFETY: the context lives in our memory, which is freed after this. Its call-backs must not run: what they
        // would close may have gone with a failed transaction.
        unsafe { pg_sys::FreeExprContext(self.context, false) };
    }
}

impl Maker {
    /// Whether this is a column, or an enum as its label.
    fn cannot_fail(&self) -> bool {
        match self {
            Self::Column(_) => true,
            Self::Expression { is_label, .. } => *is_label,
        }
    }

    fn inputs(&self) -> &[i16] {
        match self {
            Self::Column(number) => std::slice::from_ref(number),
            Self::Expression { inputs, .. } => inputs,
        }
    }
}

/// A relation and what it is a partition of, up to the root; nothing for a table that has to do with no partitions.
/// Inside `Spi::connect`.
fn ancestors_of(relation: Oid) -> spi::Result<Vec<Oid>> {
    let query = "select array(select relid::oid from pg_catalog.pg_partition_ancestors($1))";
    Ok(Spi::get_one_with_args(query, &[relation.into()])?.expect("an array"))
}

fn warn(error: Error) {
    ErrorReport::from(error).report(PgLogLevel::WARNING);
}

fn owner_of(relation: Oid) -> Oid {
    // SAFETY: the source is locked by the statement that fired the trigger, as an ancestor or itself.
    unsafe {
        let opened = pg_sys::relation_open(relation, pg_sys::AccessShareLock as i32);
        let owner = (*(*opened).rd_rel).relowner;
        pg_sys::relation_close(opened, pg_sys::NoLock as i32);
        owner
    }
}

/// A value of an unpacked row.
fn value_of(slot: *mut TupleTableSlot, number: i16) -> Option<Datum> {
    // SAFETY: the row is unpacked up to the last column that we look at.
    unsafe {
        let index = number as usize - 1;
        (!*(*slot).tts_isnull.add(index)).then(|| *(*slot).tts_values.add(index))
    }
}

impl ValueKind {
    fn of(relation: Oid, number: i16) -> Self {
        let mut kind = Self { length: 0, is_by_value: false };
        // SAFETY: a column that an expression names.
        unsafe {
            let type_oid = pg_sys::get_atttype(relation, number);
            pg_sys::get_typlenbyval(type_oid, &mut kind.length, &mut kind.is_by_value);
        }
        kind
    }

    /// Whether both values are stored alike, which is finer than `=`: 1.0 and 1.00 look different to a reader.
    fn are_same(self, a: Option<Datum>, b: Option<Datum>) -> bool {
        let (a, b) = match (a, b) {
            (None, None) => return true,
            (Some(a), Some(b)) => (a, b),
            _ => return false,
        };
        if self.is_by_value {
            return a.value() == b.value();
        }
        // SAFETY: values of this kind, by reference, from rows that live as long as the trigger runs.
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
