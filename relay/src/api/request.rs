//! What is the same for all requests: rates, tokens, bodies.

use std::time::Instant;

use axum::body::Body;
use axum::http::header;
use axum::http::request::Parts;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::Api;
use super::caller::Caller;
use super::error::{ApiError, Code};
use crate::admission::Origin;
use crate::auth::{ConnectError, TokenError};
use crate::http::{BodyError, bearer};

impl Api {
    /// Where a request comes from, if it may ask anything now.
    pub(super) fn let_in(&self, head: &Parts) -> Result<Origin, ApiError> {
        // Until then the database cannot be asked, and where tokens keep their claims is not known.
        if !*self.edge.ready.borrow() {
            return Err(Code::Unavailable.into());
        }
        let origin = self.edge.origin(&head.extensions, &head.headers);
        if !self.rates.admit_address(origin, Instant::now()) {
            return Err(Code::RateLimited.into());
        }
        Ok(origin)
    }

    /// Who asks, by `Authorization: Bearer`.
    pub(super) async fn caller(&self, head: &Parts) -> Result<Caller, ApiError> {
        let origin = self.let_in(head)?;
        let token = head.headers.get(header::AUTHORIZATION).ok_or(Code::TokenMissing)?;
        let token = token.to_str().ok().and_then(bearer).ok_or(Code::TokenMissing)?;
        let connected = self.edge.admission.connect(origin, Some(token)).await;
        let credential = connected.map_err(|error| token_problem(&error))?;
        if let Some(claims) = credential.claims()
            && !self.rates.admit_token(claims.fingerprint, Instant::now())
        {
            return Err(Code::RateLimited.into());
        }
        let payer = credential.payer(origin.address());
        Ok(Caller { credential, payer })
    }

    /// The body, a JSON object.
    pub(super) async fn body<T: DeserializeOwned>(&self, head: &Parts, body: Body) -> Result<T, ApiError> {
        let bytes = self.edge.read_body(head, body, self.settings.body_bytes_max()).await;
        let bytes = bytes.map_err(|error| match error {
            BodyError::TookTooLong => Code::BodyTimeout,
            BodyError::TooLarge => Code::TooLarge,
            BodyError::Unreadable => Code::Malformed,
            BodyError::Stopping => Code::Unavailable,
        })?;
        object(&bytes)
    }
}

/// What a JSON object says.
fn object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    // Fields in the order of the struct, in an array, would do for serde.
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        serde_json::from_slice::<IgnoredAny>(bytes).map_err(|_| Code::Malformed)?;
        return Err(ApiError::invalid("the body is no object"));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        // A number where a word is expected is an error of syntax to serde_json.
        match serde_json::from_slice::<IgnoredAny>(bytes) {
            Ok(_) => ApiError::invalid(error.to_string()),
            Err(_) => Code::Malformed.into(),
        }
    })
}

/// What is told of a token that is not accepted.
fn token_problem(error: &ConnectError) -> ApiError {
    match error {
        ConnectError::KeyMissing => Code::TokenMissing.into(),
        ConnectError::TooManyRefused => Code::RateLimited.into(),
        ConnectError::Token(TokenError::Expired { .. }) => Code::TokenExpired.into(),
        ConnectError::Token(_) => Code::TokenInvalid.into(),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Wish {
        size: Option<Size>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    enum Size {
        Small,
    }

    #[test]
    fn a_body_is_an_object_or_else_it_is_said_what_is_wrong() {
        let read = |text: &str| object::<Wish>(text.as_bytes()).map_err(|error| error.code);
        assert_eq!(read(" {\"size\": \"Small\"}\n"), Ok(Wish { size: Some(Size::Small) }));
        assert_eq!(read("{}"), Ok(Wish { size: None }));
        for text in ["[null]", " [\"Small\"]", "7", "null", "\"x\"", "{\"size\": 1}", "{\"size\": \"Large\"}"]
        {
            assert_eq!(read(text), Err(Code::Invalid), "{text}");
        }
        for text in ["", "{", "[", "[1}", "{\"size\"", "\u{7f}", "{} {}"] {
            assert_eq!(read(text), Err(Code::Malformed), "{text}");
        }
    }
}
