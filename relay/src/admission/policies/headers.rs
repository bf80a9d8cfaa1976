//! What policies see of a request's headers, and what is kept of them while a socket lives: no credentials, and not
//! more than a few KiB.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::HeaderMap;

/// Headers that prove an identity. Policies see the claims instead: what is passed to SQL may be logged, as a
/// parameter of a slow statement or by pgaudit.
const CREDENTIALS: [&str; 6] =
    ["apikey", "authorization", "cookie", "proxy-authorization", "sec-websocket-protocol", "x-api-key"];

/// Longest text of headers, as JSON. A socket keeps it for as long as it lives.
pub const HEADERS_BYTES_MAX: usize = 16 * 1024;

/// Headers as policies see them: a JSON object of text. Of a repeated header the last counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headers(
    /// None: too large. They are not cut: what a proxy adds must not be pushed out by what a client writes.
    Option<Arc<str>>,
);

impl Headers {
    pub fn of(headers: &HeaderMap, is_shown: impl Fn(&str) -> bool) -> Self {
        let shown = headers.iter().filter(|(name, _)| is_shown(name.as_str()));
        let public = shown.filter(|(name, _)| !CREDENTIALS.contains(&name.as_str()));
        let text = public.filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let text: BTreeMap<_, _> = text.collect();
        let json = serde_json::to_string(&text).expect("text is JSON");
        Self((json.len() <= HEADERS_BYTES_MAX).then(|| json.into()))
    }

    pub(super) fn json(&self) -> Option<&Arc<str>> {
        self.0.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(headers: &[(&str, &str)], is_shown: impl Fn(&str) -> bool) -> Option<String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(axum::http::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        Headers::of(&map, is_shown).json().map(|json| json.to_string())
    }

    #[test]
    fn neither_keys_nor_tokens_are_kept() {
        let secrets = CREDENTIALS.map(|name| (name, "hunter2"));
        let mut headers = secrets.to_vec();
        headers.extend([("X-Tenant", "red"), ("x-tenant", "blue"), ("X-API-Key", "hunter2")]);
        assert_eq!(shown(&headers, |_| true).as_deref(), Some(r#"{"x-tenant":"blue"}"#));
        assert_eq!(shown(&headers, |name| name.starts_with("x-")).as_deref(), Some(r#"{"x-tenant":"blue"}"#));
        assert_eq!(shown(&secrets, |_| true).as_deref(), Some("{}"));
    }

    #[test]
    fn what_is_too_large_is_not_kept_in_part() {
        let value = "x".repeat(HEADERS_BYTES_MAX - r#"{"x-a":""}"#.len());
        let json = shown(&[("x-a", &value)], |_| true);
        assert_eq!(json.map(|json| json.len()), Some(HEADERS_BYTES_MAX));
        assert_eq!(shown(&[("x-a", &value), ("x-b", "")], |_| true), None);
        // Neither what is not shown counts, nor what is left out.
        let headers = [("x-a", value.as_str()), ("y", value.as_str()), ("x-api-key", value.as_str())];
        assert!(shown(&headers, |name| name.starts_with("x-")).is_some());
        // Quotes take two bytes.
        assert_eq!(shown(&[("x-a", &"\"".repeat(HEADERS_BYTES_MAX * 2 / 3))], |_| true), None);
    }
}
