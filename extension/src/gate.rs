//! Gates of routes: whether a text is one, and which columns it reads. The relay reads the same text with the same crate.

use campfire_gate::{Gate, Type};
use pgrx::prelude::*;

/// What is wrong with a gate; null if nothing is. `types`: the base types of the columns, 0 where a column's collation
/// takes different texts for equal.
#[pg_extern(sql = r#"
create function campfire.gate_problem(gate text, names text[], types oid[]) returns text
language c immutable strict parallel safe
as '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
"#)]
fn gate_problem(gate: &str, names: Vec<String>, types: Vec<pg_sys::Oid>) -> Option<String> {
    read(gate, &names, &types).err()
}

/// The columns that a gate reads; null if it is none.
#[pg_extern(sql = r#"
create function campfire.gate_columns(gate text, names text[], types oid[]) returns text[]
language c immutable strict parallel safe
as '@MODULE_PATHNAME@', '@FUNCTION_NAME@';
"#)]
fn gate_columns(gate: &str, names: Vec<String>, types: Vec<pg_sys::Oid>) -> Option<Vec<String>> {
    let gate = read(gate, &names, &types).ok()?;
    Some(gate.columns().map(str::to_owned).collect())
}

fn read(gate: &str, names: &[String], types: &[pg_sys::Oid]) -> Result<Gate, String> {
    let type_of = |name: &str| {
        let number = names.iter().position(|known| known == name)?;
        Some(match types.get(number)?.to_u32() {
            0 => Type::Other("its collation takes different texts for equal"),
            oid => Type::of_oid(oid),
        })
    };
    Gate::new(gate, type_of).map_err(|error| error.to_string())
}
