//! Gates of routes, claims and rows of any form: what is accepted has a verdict and an SQL form, its negation has the
//! opposite verdict, and what claims do not say is let through by no comparison.
#![no_main]

use campfire_gate::{Claim, Gate, Type};
use libfuzzer_sys::fuzz_target;

fn column(name: &str) -> Option<Type> {
    Some(match name.bytes().next()? {
        b'u' => Type::Uuid,
        b't' => Type::Text,
        b'b' => Type::Boolean,
        b'n' => Type::Number,
        b'o' => Type::Other("it is another one"),
        _ => return None,
    })
}

/// A claim of a form that the bytes choose.
fn claim(bytes: &[u8], depth: usize) -> Claim {
    let Some((form, rest)) = bytes.split_first() else { return Claim::Null };
    let text = String::from_utf8_lossy(rest).into_owned();
    match form % 6 {
        0 => Claim::Null,
        1 => Claim::Text(text),
        2 => Claim::Number(text),
        3 => Claim::Boolean(rest.len() % 2 == 0),
        4 if depth > 0 => Claim::List(rest.chunks(8).map(|chunk| claim(chunk, depth - 1)).collect()),
        _ => Claim::Other,
    }
}

fuzz_target!(|data: &[u8]| {
    let mut parts = data.split(|byte| *byte == 0);
    let (Some(text), Some(claims), Some(row)) = (parts.next(), parts.next(), parts.next()) else { return };
    let Ok(text) = str::from_utf8(text) else { return };
    let Ok(gate) = Gate::new(text, column) else { return };
    let bound = gate.bind(|path| claim(claims.get(path[0].len() % 4..).unwrap_or_default(), 2));
    let sql = gate.to_sql("probe", &bound);
    assert!(!sql.contains('\0'), "Postgres takes no such text: {text}");
    let cells: Vec<String> = row.split(|byte| *byte == b',').map(|cell| String::from_utf8_lossy(cell).into()).collect();
    let values = gate.columns().enumerate().map(|(at, _)| cells.get(at).filter(|cell| *cell != "-").map(String::as_str));
    let Some(row) = gate.read(values) else { return };
    let verdict = gate.verdict(&row, &bound);
    assert_eq!(gate.passes(&row, &bound), verdict == Some(true));
    if let Ok(negated) = Gate::new(&format!("not ({text})"), column) {
        assert_eq!(negated.verdict(&row, &bound), verdict.map(|verdict| !verdict), "{text}");
    }
});
