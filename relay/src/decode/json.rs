//! Column values, in Postgres' text format, straight into JSON text: no map and no copy between.
//!
//! Relies on the settings that `wal` pins for its session: `datestyle=ISO`, `timezone=UTC`, `extra_float_digits` for
//! floats that survive the round trip.

use std::collections::HashMap;

/// The oids of built-in types, from `pg_type.dat`; they never change.
mod oid {
    pub(super) const BOOL: u32 = 16;
    pub(super) const INT8: u32 = 20;
    pub(super) const INT2: u32 = 21;
    pub(super) const INT4: u32 = 23;
    pub(super) const FLOAT4: u32 = 700;
    pub(super) const FLOAT8: u32 = 701;
    pub(super) const TIMESTAMP: u32 = 1114;
    pub(super) const TIMESTAMPTZ: u32 = 1184;
}

/// The server gives its own types, and those of initdb, smaller oids.
const FIRST_NORMAL_OID: u32 = 16_384;

/// From domains to the types they are made of, by oid. The stream names a column's domain, and what a domain is
/// stands only in the catalog.
#[derive(Debug, Clone, Default)]
pub struct Domains(HashMap<u32, u32>);

impl Domains {
    /// Takes pairs of a domain's oid and its base type's. Domains over domains are to be resolved by the caller.
    pub fn new(base_types: impl IntoIterator<Item = (u32, u32)>) -> Domains {
        Domains(base_types.into_iter().collect())
    }

    /// Whether it is known to be a domain, or not to be one. A type may have been made since the catalog was read.
    pub fn knows(&self, type_oid: u32) -> bool {
        type_oid < FIRST_NORMAL_OID || self.0.contains_key(&type_oid)
    }

    /// Adds what was found since; of `looked_for`, what is not among it is no domain.
    pub fn learn(&mut self, found: Domains, looked_for: impl IntoIterator<Item = u32>) {
        self.0.extend(found.0);
        for type_oid in looked_for {
            self.0.entry(type_oid).or_insert(type_oid);
        }
    }

    /// The type itself if it is no domain.
    pub fn base_type(&self, type_oid: u32) -> u32 {
        self.0.get(&type_oid).copied().unwrap_or(type_oid)
    }
}

/// Appends a value that is not null. Booleans, integers and floats become JSON's; everything that JSON numbers cannot
/// hold in every client (numeric, integers beyond 2^53, NaN, infinities) and every other type becomes a string.
pub fn write_json(out: &mut Vec<u8>, type_oid: u32, text: &[u8]) {
    match type_oid {
        oid::BOOL if text == b"t" => out.extend_from_slice(b"true"),
        oid::BOOL if text == b"f" => out.extend_from_slice(b"false"),
        oid::INT2 | oid::INT4 if is_json_number(text) => out.extend_from_slice(text),
        oid::INT8 if is_json_number(text) && is_exact_in_a_double(text) => out.extend_from_slice(text),
        oid::FLOAT4 | oid::FLOAT8 if is_json_number(text) => out.extend_from_slice(text),
        oid::TIMESTAMPTZ => match text.strip_suffix(b"+00").and_then(split_timestamp) {
            Some(parts) => write_timestamp(out, parts, b"Z"),
            None => write_json_string(out, text),
        },
        oid::TIMESTAMP => match split_timestamp(text) {
            Some(parts) => write_timestamp(out, parts, b""),
            None => write_json_string(out, text),
        },
        _ => write_json_string(out, text),
    }
}

/// Appends a JSON string. What is not UTF-8 (a SQL_ASCII database can send that) becomes U+FFFD.
pub fn write_json_string(out: &mut Vec<u8>, text: &[u8]) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    match std::str::from_utf8(text) {
        Ok(_) => write_escaped(out, text),
        Err(_) => {
            for chunk in text.utf8_chunks() {
                write_escaped(out, chunk.valid().as_bytes());
                if !chunk.invalid().is_empty() {
                    out.extend_from_slice("\u{FFFD}".as_bytes());
                }
            }
        }
    }
    out.push(b'"');
}

/// Copies runs that need no escape in one piece, which nearly always is everything.
fn write_escaped(out: &mut Vec<u8>, text: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut start = 0;
    for (at, &byte) in text.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&text[start..at]);
        start = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => {
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(control >> 4)]);
                out.push(HEX[usize::from(control & 15)]);
            }
        }
    }
    out.extend_from_slice(&text[start..]);
}

/// JSON's grammar of numbers. Postgres prints finite numbers just so; `NaN` and `Infinity` are what this keeps out.
fn is_json_number(text: &[u8]) -> bool {
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let whole = digits(text);
    let mut rest = &text[whole..];
    let mut well_formed = whole == 1 || whole > 1 && text[0] != b'0';
    if let Some(fraction) = rest.strip_prefix(b".") {
        let length = digits(fraction);
        well_formed &= length > 0;
        rest = &fraction[length..];
    }
    if let Some(exponent) = rest.strip_prefix(b"e") {
        let exponent = exponent.strip_prefix(b"-").or(exponent.strip_prefix(b"+")).unwrap_or(exponent);
        let length = digits(exponent);
        well_formed &= length > 0;
        rest = &exponent[length..];
    }
    well_formed && rest.is_empty()
}

/// JSON numbers are doubles in most clients; beyond 2^53 they would silently round.
fn is_exact_in_a_double(text: &[u8]) -> bool {
    const LIMIT: u64 = 1 << 53;
    std::str::from_utf8(text)
        .ok()
        .and_then(|digits| digits.parse::<i64>().ok())
        .is_some_and(|value| value.unsigned_abs() <= LIMIT)
}

struct TimestampParts<'a> {
    date: &'a [u8],
    time: &'a [u8],
    fraction: &'a [u8],
}

/// Takes apart `2026-11-22 21:51:51[.123456]`. `None` for what RFC 3339 cannot say: infinity, years BC, years of five
/// digits.
fn split_timestamp(text: &[u8]) -> Option<TimestampParts<'_>> {
    let (date, rest) = text.split_at_checked(10)?;
    let (time, fraction) = rest.strip_prefix(b" ")?.split_at_checked(8)?;
    let fraction = if fraction.is_empty() { fraction } else { fraction.strip_prefix(b".")? };
    let well_formed = matches_shape(date, b"0000-00-00")
        && matches_shape(time, b"00:00:00")
        && fraction.len() <= 6
        && fraction.iter().all(u8::is_ascii_digit);
    well_formed.then_some(TimestampParts { date, time, fraction })
}

/// Whether digits stand where `shape` has a zero, and its other bytes where it has those.
fn matches_shape(text: &[u8], shape: &[u8]) -> bool {
    text.len() == shape.len()
        && text.iter().zip(shape).all(
            |(byte, &want)| {
                if want == b'0' { byte.is_ascii_digit() } else { *byte == want }
            },
        )
}

fn write_timestamp(out: &mut Vec<u8>, parts: TimestampParts<'_>, zone: &[u8]) {
    const NO_FRACTION: &[u8; 6] = b"000000";
    out.push(b'"');
    out.extend_from_slice(parts.date);
    out.push(b'T');
    out.extend_from_slice(parts.time);
    out.push(b'.');
    out.extend_from_slice(parts.fraction);
    out.extend_from_slice(&NO_FRACTION[parts.fraction.len()..]);
    out.extend_from_slice(zone);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: u32 = 25;
    const NUMERIC: u32 = 1700;
    const DATE: u32 = 1082;
    const UUID: u32 = 2950;

    fn check(type_oid: u32, text: &str, json: &str) {
        check_bytes(type_oid, text.as_bytes(), json);
    }

    fn check_bytes(type_oid: u32, text: &[u8], json: &str) {
        let mut out = Vec::new();
        write_json(&mut out, type_oid, text);
        assert_eq!(String::from_utf8(out).expect("JSON is UTF-8"), json);
        serde_json::from_str::<serde_json::Value>(json).expect("the expectation is JSON");
    }

    #[test]
    fn booleans_and_integers_are_json_values() {
        check(oid::BOOL, "t", "true");
        check(oid::BOOL, "f", "false");
        check(oid::INT2, "-32768", "-32768");
        check(oid::INT4, "2147483647", "2147483647");
        check(oid::INT8, "0", "0");
    }

    #[test]
    fn integers_beyond_2_to_the_53rd_are_strings() {
        check(oid::INT8, "9007199254740991", "9007199254740991");
        check(oid::INT8, "9007199254740992", "9007199254740992");
        check(oid::INT8, "9007199254740993", "\"9007199254740993\"");
        check(oid::INT8, "-9007199254740993", "\"-9007199254740993\"");
        check(oid::INT8, "-9223372036854775808", "\"-9223372036854775808\"");
    }

    #[test]
    fn numeric_is_a_string() {
        check(NUMERIC, "12.50", "\"12.50\"");
        check(NUMERIC, "NaN", "\"NaN\"");
        check(NUMERIC, &"9".repeat(1000), &format!("\"{}\"", "9".repeat(1000)));
    }

    #[test]
    fn floats_are_numbers_unless_json_has_no_such_number() {
        check(oid::FLOAT8, "0.1", "0.1");
        check(oid::FLOAT8, "-0", "-0");
        check(oid::FLOAT8, "1e+20", "1e+20");
        check(oid::FLOAT4, "1e-05", "1e-05");
        check(oid::FLOAT8, "1.7976931348623157e+308", "1.7976931348623157e+308");
        check(oid::FLOAT8, "NaN", "\"NaN\"");
        check(oid::FLOAT4, "Infinity", "\"Infinity\"");
        check(oid::FLOAT8, "-Infinity", "\"-Infinity\"");
    }

    #[test]
    fn timestamps_are_rfc_3339_with_six_digits() {
        check(oid::TIMESTAMPTZ, "2026-11-22 21:51:51.123456+00", "\"2026-11-22T21:51:51.123456Z\"");
        check(oid::TIMESTAMPTZ, "2026-11-22 21:51:51.5+00", "\"2026-11-22T21:51:51.500000Z\"");
        check(oid::TIMESTAMPTZ, "2026-11-22 21:51:51+00", "\"2026-11-22T21:51:51.000000Z\"");
        check(oid::TIMESTAMP, "2026-11-22 21:51:51.1", "\"2026-11-22T21:51:51.100000\"");
    }

    #[test]
    fn what_rfc_3339_cannot_say_keeps_postgres_text() {
        for text in ["infinity", "-infinity", "0044-03-15 12:00:00+00 BC", "10000-01-01 00:00:00+00"] {
            check(oid::TIMESTAMPTZ, text, &format!("\"{text}\""));
        }
        check(oid::TIMESTAMP, "0044-03-15 12:00:00 BC", "\"0044-03-15 12:00:00 BC\"");
        check(DATE, "0044-03-15 BC", "\"0044-03-15 BC\"");
        check(oid::TIMESTAMPTZ, "2026-11-22 21:51:51+02", "\"2026-11-22 21:51:51+02\"");
    }

    #[test]
    fn other_types_are_strings() {
        check(UUID, "00000000-0000-4000-8000-000000000001", "\"00000000-0000-4000-8000-000000000001\"");
        check(DATE, "2026-11-22", "\"2026-11-22\"");
        check(0, "(1,2)", "\"(1,2)\"");
    }

    #[test]
    fn strings_are_escaped() {
        check(TEXT, "", "\"\"");
        check(TEXT, "plain ü 👋", "\"plain ü 👋\"");
        check(TEXT, "a\"b\\c\nd\re\tf\u{1}\u{1f}\u{7f}", "\"a\\\"b\\\\c\\nd\\re\\tf\\u0001\\u001f\u{7f}\"");
    }

    #[test]
    fn bytes_that_are_not_utf8_are_replaced() {
        check_bytes(TEXT, b"caf\xe9 \"x\"", "\"caf\u{FFFD} \\\"x\\\"\"");
        check_bytes(TEXT, b"\xff", "\"\u{FFFD}\"");
    }

    #[test]
    fn domains_lead_to_their_base_type() {
        let domains = Domains::new([(16_500, oid::INT4)]);
        assert_eq!(domains.base_type(16_500), oid::INT4);
        assert_eq!(domains.base_type(TEXT), TEXT);
    }

    #[test]
    fn types_that_were_looked_for_are_known_whatever_was_found() {
        let mut domains = Domains::new([(16_500, oid::INT4)]);
        assert!(domains.knows(TEXT) && domains.knows(16_500) && !domains.knows(16_501));
        domains.learn(Domains::new([(16_501, oid::BOOL)]), [16_501, 16_502]);
        assert_eq!(
            [16_500, 16_501, 16_502].map(|oid| domains.base_type(oid)),
            [oid::INT4, oid::BOOL, 16_502]
        );
        assert!(domains.knows(16_502));
    }

    proptest! {
        #[test]
        fn strings_survive_a_json_parser(text in any::<String>()) {
            let mut out = Vec::new();
            write_json_string(&mut out, text.as_bytes());
            prop_assert_eq!(serde_json::from_slice::<String>(&out).expect("JSON"), text);
        }

        #[test]
        fn any_bytes_of_any_type_give_json(
            type_oid in prop::sample::select(vec![
                oid::BOOL, oid::INT8, oid::INT4, oid::FLOAT8, oid::TIMESTAMP, oid::TIMESTAMPTZ, TEXT, NUMERIC,
            ]),
            text in prop_oneof![prop::collection::vec(any::<u8>(), 0..40), "[-+0-9.e: T]{0,30}".prop_map(String::into_bytes)],
        ) {
            let mut out = Vec::new();
            write_json(&mut out, type_oid, &text);
            serde_json::from_slice::<serde::de::IgnoredAny>(&out).expect("JSON");
        }

        #[test]
        fn finite_floats_are_written_as_they_came(value in prop::num::f64::NORMAL | prop::num::f64::ZERO) {
            let text = format!("{value:e}");
            let mut out = Vec::new();
            write_json(&mut out, oid::FLOAT8, text.as_bytes());
            prop_assert_eq!(out, text.as_bytes());
        }
    }
}
