//! Refs: the numbers by which a client finds the reply to its push.

use std::fmt;

use serde_json::value::RawValue;

use super::json;

/// Longest ref that is kept, in bytes of JSON. Clients count up from one; what is longer is an attack on memory,
/// because a channel keeps its join ref for as long as it lives.
const BYTES_MAX: usize = 255;

/// A `ref` or `join_ref` as the client wrote it, to be echoed verbatim: JavaScript compares with `===`.
///
/// A missing `join_ref`, which only 1.0.0 allows, is null: nothing ever depends on the difference, since 1.0.0 sends
/// none back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Ref {
    #[default]
    Null,
    /// A JSON string or number, unparsed.
    Token(Box<str>),
}

impl Ref {
    /// None if the token is neither string, number nor null, or absurdly long.
    pub(super) fn from_json(token: &RawValue) -> Option<Self> {
        let token = token.get();
        match token.as_bytes().first()? {
            _ if token.len() > BYTES_MAX => None,
            b'n' => Some(Self::Null),
            b'"' | b'-' | b'0'..=b'9' => Some(Self::Token(token.into())),
            _ => None,
        }
    }

    /// A ref out of a binary frame, where it is text without quotes and empty instead of null.
    pub(super) fn from_text(text: &str) -> Self {
        if text.is_empty() {
            return Self::Null;
        }
        Self::Token(json::quoted(text).into_boxed_str())
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// JSON text.
    pub fn as_json(&self) -> &str {
        match self {
            Self::Null => "null",
            Self::Token(token) => token,
        }
    }
}

impl fmt::Display for Ref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_json())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(token: &str, expected: Option<&str>) {
        let raw = serde_json::from_str::<&RawValue>(token).unwrap();
        assert_eq!(Ref::from_json(raw).as_ref().map(Ref::as_json), expected, "{token}");
    }

    #[test]
    fn tokens_are_kept_verbatim() {
        for token in [r#""4""#, "4", "-1", "4.50", "1e3", r#""\u0034""#, r#""""#, "null"] {
            check(token, Some(token));
        }
    }

    #[test]
    fn what_no_client_sends_is_refused() {
        for token in ["{}", "[1]", "true", "false"] {
            check(token, None);
        }
        check(&format!("\"{}\"", "9".repeat(300)), None);
    }

    #[test]
    fn binary_refs_become_json_strings() {
        assert_eq!(Ref::from_text("10").as_json(), r#""10""#);
        assert_eq!(Ref::from_text(r#"a"b"#).as_json(), r#""a\"b""#);
        assert_eq!(Ref::from_text(""), Ref::Null);
    }
}
