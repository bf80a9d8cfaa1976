//! Texts that clients write, as the database takes them and people read them.

use serde_json::Value;

use super::error::ApiError;

/// Longest name and address of a customer, in characters.
pub(super) const DETAIL_LENGTH_MAX: usize = 255;

/// A text without the spaces around it; None if nothing is left.
pub(super) fn optional(name: &str, text: Option<String>) -> Result<Option<String>, ApiError> {
    let text = text.map(|text| cleaned(&text));
    if text.as_ref().is_some_and(|text| text.chars().count() > DETAIL_LENGTH_MAX) {
        return Err(ApiError::invalid(format!("`{name}` has more than {DETAIL_LENGTH_MAX} characters")));
    }
    Ok(text.filter(|text| !text.is_empty()))
}

/// A message's content.
pub(super) fn content(text: &str, bytes_max: usize) -> Result<String, ApiError> {
    let text = cleaned(text);
    match text.len() {
        0 => Err(ApiError::invalid("`content` is empty")),
        bytes if bytes > bytes_max => {
            Err(ApiError::invalid(format!("`content` has more than {bytes_max} bytes")))
        }
        _ => Ok(text),
    }
}

/// A document that Postgres takes: it knows no U+0000.
pub(super) fn storable(value: Value) -> Value {
    let text = |text: String| text.replace('\0', "");
    match value {
        Value::String(value) => Value::String(text(value)),
        Value::Array(values) => Value::Array(values.into_iter().map(storable).collect()),
        Value::Object(members) => {
            Value::Object(members.into_iter().map(|(name, value)| (text(name), storable(value))).collect())
        }
        other => other,
    }
}

/// Without control characters: nobody sees them, and in JSON each would be six bytes.
fn cleaned(text: &str) -> String {
    let is_seen = |character: &char| !character.is_ascii_control() || "\t\r\n".contains(*character);
    let text: String = text.chars().filter(is_seen).collect();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_are_trimmed_and_bounded() {
        let name = |text: &str| optional("name", Some(text.to_owned()));
        assert_eq!(name(" Ada\n"), Ok(Some("Ada".to_owned())));
        assert_eq!((name(" \0 "), optional("name", None)), (Ok(None), Ok(None)));
        assert!(name(&"é".repeat(255)).is_ok() && name(&"é".repeat(256)).is_err());
        assert_eq!(content(" hi\u{1b}\u{7f}\0 ", 2), Ok("hi".to_owned()));
        assert_eq!(content("a\tb\r\nc", 6), Ok("a\tb\r\nc".to_owned()));
        assert!(
            content(" \t\u{2003}\0", 9).is_err() && content("abc", 2).is_err() && content("é", 1).is_err()
        );
    }

    #[test]
    fn documents_lose_what_postgres_does_not_take() {
        let document = json!({"a\0": ["b\0", {"c": "\0d"}], "e": 1.5, "f": null});
        assert_eq!(storable(document), json!({"a": ["b", {"c": "d"}], "e": 1.5, "f": null}));
    }
}
