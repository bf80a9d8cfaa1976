//! What is the same for all requests: rates, tokens, bodies.

use std::time::Instant;

use axum::body::Body;
use axum::http::header;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

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
        serde_json::from_slice(&bytes).map_err(|error| match error.classify() {
            Category::Data => ApiError::invalid(error.to_string()),
            Category::Io | Category::Syntax | Category::Eof => Code::Malformed.into(),
        })
    }
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
