//! JSON read and written without building a tree of it.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// How deeply what a client sends may nest. Deeper than any application's payload, and well below where the recursive
/// parsers of receiving clients give up: one member must not be able to break the others.
const DEPTH_MAX: usize = 128;

/// The named members of a JSON object, each in its place; None if it is not an object.
///
/// Of a repeated member the last counts, as in JavaScript, Python, Elixir and jsonb. What is not asked for is
/// skipped without being kept, so that a hostile object costs no more than its text.
pub(crate) fn members<'a, const N: usize>(
    object: &'a str,
    names: [&str; N],
) -> Option<[Option<&'a RawValue>; N]> {
    let mut reader = serde_json::Deserializer::from_str(object);
    let members = Members { names }.deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    Some(members)
}

struct Members<'n, const N: usize> {
    names: [&'n str; N],
}

impl<'de, const N: usize> DeserializeSeed<'de> for Members<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Members<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; N];
        while let Some(name) = map.next_key::<Name<'de>>()? {
            match self.names.iter().position(|known| *known == name.0) {
                Some(index) => found[index] = Some(map.next_value()?),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

/// A member's name; borrowed unless it is written with escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// The members of a JSON object as text without braces, but for those named; None if it is not an object.
pub(super) fn members_without(object: &str, names: &[&str]) -> Option<String> {
    let mut reader = serde_json::Deserializer::from_str(object);
    let members = MembersWithout { names }.deserialize(&mut reader).ok()?;
    reader.end().ok()?;
    Some(members)
}

struct MembersWithout<'n> {
    names: &'n [&'n str],
}

impl<'de> DeserializeSeed<'de> for MembersWithout<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for MembersWithout<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut text = String::new();
        while let Some(name) = map.next_key::<Name<'de>>()? {
            let value: &RawValue = map.next_value()?;
            if !self.names.contains(&&*name.0) {
                let comma = if text.is_empty() { "" } else { "," };
                text.extend([comma, &quoted(&name.0), ":", value.get()]);
            }
        }
        Ok(text)
    }
}

/// The text of a JSON string; None if the value is something else.
pub(crate) fn string(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

/// Whether a value is `null`.
pub(crate) fn is_null(value: &RawValue) -> bool {
    value.get() == "null"
}

/// Whether the bytes are one JSON value that may be handed to other clients.
pub(crate) fn is_relayable(json: &[u8]) -> bool {
    is_shallow(json) && serde_json::from_slice::<&RawValue>(json).is_ok()
}

/// Whether what is JSON nests no deeper than other clients can bear.
pub(super) fn is_shallow(json: &[u8]) -> bool {
    depth(json) <= DEPTH_MAX
}

/// How deeply valid JSON nests.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                // To the closing quote; a backslash takes the byte behind it along.
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'"' => break,
                        b'\\' => drop(bytes.next()),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    deepest
}

/// Appends text as a JSON string.
pub(super) fn push_string(buffer: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(buffer, text).expect("writing a string to memory cannot fail");
}

/// Text as a JSON string.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string is valid JSON")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check_members(object: &str, expected: Option<[Option<&str>; 2]>) {
        let found = members(object, ["a", "b"]).map(|found| found.map(|member| member.map(RawValue::get)));
        assert_eq!(found, expected, "{object}");
    }

    #[test]
    fn members_are_found_wherever_they_stand() {
        check_members("{}", Some([None, None]));
        check_members(r#"{"b": [1, 2] ,"x":{"a":0},"a":null}"#, Some([Some("null"), Some("[1, 2]")]));
        check_members(r#"{"a":1,"a":2}"#, Some([Some("2"), None]));
        check_members(r#"{"\u0061":1}"#, Some([Some("1"), None]));
    }

    #[test]
    fn members_of_what_is_no_object_are_none() {
        for text in ["", "[]", "null", "{", r#"{"a":}"#, "{} x", r#"{"a":1}{"a":2}"#] {
            check_members(text, None);
        }
    }

    #[test]
    fn depth_ignores_brackets_in_strings() {
        assert_eq!(depth(br#"{"a":[1,"]]]\"[[["],"b":{}}"#), 2);
        assert_eq!(depth(br#""\\[""#), 0);
    }

    #[test]
    fn payloads_that_would_break_receivers_are_refused() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(is_relayable(nested(DEPTH_MAX).as_bytes()));
        assert!(!is_relayable(nested(DEPTH_MAX + 1).as_bytes()));
        assert!(is_relayable(br#" {"x": 3} "#));
        for json in [b"".as_slice(), b"{", b"{} {}", b"undefined", b"\"\xff\""] {
            assert!(!is_relayable(json));
        }
    }

    proptest! {
        #[test]
        fn strings_are_written_so_that_they_read_back(text: String) {
            let mut buffer = Vec::new();
            push_string(&mut buffer, &text);
            prop_assert_eq!(serde_json::from_slice::<String>(&buffer).unwrap(), text);
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            is_relayable(&bytes);
            depth(&bytes);
            members(&String::from_utf8_lossy(&bytes), ["a"]);
        }
    }
}
