//! What a projected column is made of: a column of the source, or an expression over one row of it.
//!
//! Definitions are text in the registry, because only text survives a dump. Postgres's own parser reads them, always as
//! the owner of the source: an expression that ran as whoever asked for it would lend him its caller's rights.

use std::ffi::{CStr, CString};

use pgrx::pg_sys::panic::{ErrorReport, ErrorReportable};
use pgrx::pg_sys::{self, Node, NodeTag, Oid};
use pgrx::prelude::*;

use crate::error::Error;
use crate::owner::{Source, with_safe_path};
use crate::spi::qualified_name;

/// Reads items of a select list, as `create_projection` takes them: name, text that means the same whatever the
/// search_path, type, collation. Only the owner of the source may ask (42501). Raises 0A000 for what is not an
/// expression over one row, 42P17 for one that is not immutable.
#[pg_extern(sql = r#"
create function campfire.projection_columns(source regclass, items text[])
returns table (column_name text, definition text, type regtype, collation_id oid)
language c volatile strict
as '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
"#)]
#[allow(clippy::type_complexity, reason = "the columns of a table function")]
fn projection_columns(
    source: Oid,
    items: Vec<String>,
) -> TableIterator<
    'static,
    (name!(column_name, String), name!(definition, String), name!(type_oid, Oid), name!(collation_id, Oid)),
> {
    let source = Source::owned_by_caller(source);
    let rows: Vec<_> = source.restricted(|| {
        items
            .iter()
            .map(|item| {
                let read = read_item(source.relation, item).map_err(ErrorReport::from).unwrap_or_report();
                (read.name, read.definition, read.type_oid, read.collation)
            })
            .collect()
    });
    TableIterator::new(rows)
}

struct Item {
    name: String,
    definition: String,
    type_oid: Oid,
    collation: Oid,
}

fn read_item(relation: Oid, item: &str) -> Result<Item, Error> {
    let table = qualified_name(relation).expect("the source is locked");
    let refused = |problem: &'static str| Error::NotARowExpression {
        table: table.clone(),
        item: item.to_owned(),
        problem,
    };
    // A column's name as it is needs no quotes.
    let list = match has_column(relation, item) {
        true => pgrx::spi::quote_identifier(item),
        false => item.to_owned(),
    };
    // SAFETY: a query that Postgres just made, in the current memory context.
    unsafe {
        let query = analyse(relation, &list)?.ok_or_else(|| refused("it is more than one item"))?;
        let query = &*query;
        let is_plain = query.commandType == pg_sys::CmdType::CMD_SELECT
            && !(query.hasAggs || query.hasWindowFuncs || query.hasTargetSRFs || query.hasSubLinks)
            && !(query.hasDistinctOn || query.hasModifyingCTE || query.hasForUpdate)
            && [query.cteList, query.groupClause, query.windowClause, query.distinctClause, query.sortClause]
                .iter()
                .all(|clause| clause.is_null())
            && [
                query.havingQual,
                query.limitOffset,
                query.limitCount,
                query.setOperations,
                (*query.jointree).quals,
            ]
            .iter()
            .all(|clause| clause.is_null());
        let tables = items_of::<pg_sys::RangeTblEntry>(query.rtable);
        let is_of_source = tables.len() == 1 && (*tables[0]).relid == relation;
        let targets = items_of::<pg_sys::TargetEntry>(query.targetList);
        if !is_plain || !is_of_source {
            return Err(refused("only one row of the table can be looked at: no subquery, aggregate or set"));
        }
        let [target] = targets[..] else {
            return Err(refused("it is more than one item"));
        };
        let expression = (*target).expr.cast::<Node>();
        for column in columns_of(expression) {
            if column <= 0 {
                return Err(refused("system columns and whole rows cannot be projected"));
            }
        }
        // An enum's name can be changed, so Postgres calls its cast to text stable. A rename of a label rewrites no
        // row; verify_projection() finds the rows, and repair_projection() mends them.
        let mut inner = expression;
        if (*inner).type_ == NodeTag::T_CoerceViaIO {
            let argument = (*inner.cast::<pg_sys::CoerceViaIO>()).arg.cast::<Node>();
            if pg_sys::type_is_enum(pg_sys::getBaseType(pg_sys::exprType(argument))) {
                inner = argument;
            }
        }
        if pg_sys::contain_mutable_functions(inner) {
            return Err(Error::NotImmutable { table, item: item.to_owned() });
        }
        let name = CStr::from_ptr((*target).resname).to_string_lossy().into_owned();
        let definition = with_safe_path(|| {
            // Without a prefix: a table alias in the text would have to follow renames.
            let relation_name = pg_sys::get_rel_name(relation);
            let context = pg_sys::deparse_context_for(relation_name, relation);
            let text = pg_sys::deparse_expression(expression, context, false, false);
            CStr::from_ptr(text).to_string_lossy().into_owned()
        });
        Ok(Item {
            name,
            definition,
            type_oid: pg_sys::exprType(expression),
            collation: pg_sys::exprCollation(expression),
        })
    }
}

/// The expressions of definitions over rows of a relation, which may be a partition of the source: by name, since its
/// columns may be numbered otherwise. As the owner; raises 42703 and kin if the relation no longer has what they name.
pub(super) fn expressions(relation: Oid, definitions: &[String]) -> Result<Vec<*mut Node>, Error> {
    let table = qualified_name(relation).expect("the relation is open");
    // SAFETY: a query that Postgres just made, in the current memory context.
    unsafe {
        let query = analyse(relation, &definitions.join(", "))?
            .ok_or_else(|| Error::MalformedDefinition { table: table.clone() })?;
        let expressions: Vec<_> = items_of::<pg_sys::TargetEntry>((*query).targetList)
            .into_iter()
            .map(|target| (*target).expr.cast::<Node>())
            .collect();
        if expressions.len() != definitions.len() {
            return Err(Error::MalformedDefinition { table });
        }
        Ok(expressions)
    }
}

/// `select <list> from only <relation>`, looked at but not planned. `None` if it is more than one statement.
fn analyse(relation: Oid, list: &str) -> Result<Option<*mut pg_sys::Query>, Error> {
    let table = qualified_name(relation).expect("the relation is open");
    let text = CString::new(format!("select {list} from only {table}"))
        .map_err(|_| Error::MalformedDefinition { table })?;
    // SAFETY: the text ends with NUL and outlives the call; what does not parse is raised as a Postgres error.
    unsafe {
        let statements = items_of::<pg_sys::RawStmt>(pg_sys::pg_parse_query(text.as_ptr()));
        let [statement] = statements[..] else {
            return Ok(None);
        };
        if (*(*statement).stmt).type_ != NodeTag::T_SelectStmt {
            return Ok(None);
        }
        let query = pg_sys::parse_analyze_fixedparams(
            statement,
            text.as_ptr(),
            std::ptr::null(),
            0,
            std::ptr::null_mut(),
        );
        Ok(Some(query))
    }
}

/// The number of the column that an expression is, but for a change of type that keeps the value as it is stored.
///
/// # Safety
/// An expression made by Postgres.
pub(super) unsafe fn column_number(mut expression: *mut Node) -> Option<i16> {
    // SAFETY: the tag says which struct it is.
    unsafe {
        while (*expression).type_ == NodeTag::T_RelabelType {
            expression = (*expression.cast::<pg_sys::RelabelType>()).arg.cast();
        }
        ((*expression).type_ == NodeTag::T_Var).then(|| (*expression.cast::<pg_sys::Var>()).varattno)
    }
}

/// Whether an expression is a column of an enum type, as text.
///
/// # Safety
/// An expression made by Postgres.
pub(super) unsafe fn is_label(expression: *mut Node) -> bool {
    // SAFETY: the tag says which struct it is.
    unsafe {
        (*expression).type_ == NodeTag::T_CoerceViaIO && {
            let argument = (*expression.cast::<pg_sys::CoerceViaIO>()).arg.cast::<Node>();
            column_number(argument).is_some()
                && pg_sys::type_is_enum(pg_sys::getBaseType(pg_sys::exprType(argument)))
        }
    }
}

/// The numbers of the columns that an expression reads; 0 is the whole row.
///
/// # Safety
/// An expression over one relation, made by Postgres.
pub(super) unsafe fn columns_of(expression: *mut Node) -> Vec<i16> {
    let mut set = std::ptr::null_mut();
    let mut columns = Vec::new();
    // SAFETY: both functions take a null set for an empty one.
    unsafe {
        pg_sys::pull_varattnos(expression, 1, &mut set);
        let mut member = pg_sys::bms_next_member(set, -1);
        while member >= 0 {
            columns.push(member as i16 + pg_sys::FirstLowInvalidHeapAttributeNumber as i16);
            member = pg_sys::bms_next_member(set, member);
        }
    }
    columns
}

fn has_column(relation: Oid, name: &str) -> bool {
    // SAFETY: the relation exists; a missing column is InvalidAttrNumber.
    CString::new(name).is_ok_and(|name| unsafe { pg_sys::get_attnum(relation, name.as_ptr()) > 0 })
}

/// # Safety
/// A list of pointers to `T`, or null.
unsafe fn items_of<T>(list: *mut pg_sys::List) -> Vec<*mut T> {
    if list.is_null() {
        return Vec::new();
    }
    // SAFETY: a list has `length` elements.
    unsafe { (0..(*list).length).map(|i| (*(*list).elements.add(i as usize)).ptr_value.cast()).collect() }
}
