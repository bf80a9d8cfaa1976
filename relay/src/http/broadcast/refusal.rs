//! What a request to broadcast is answered with if it is not accepted.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::admission::PolicyError;
use crate::protocol::Reason;

/// What is said of an event's name, and of the id that a sender gives a message.
pub(super) const TOO_LONG: &str = "should be at most 255 byte(s)";

/// An answer that is not 202.
pub(super) struct Refusal(pub(super) StatusCode, pub(super) Value);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        // What is left of a body that took too long is not waited for.
        let close = (self.0 == StatusCode::REQUEST_TIMEOUT).then_some([(header::CONNECTION, "close")]);
        (self.0, close, Json(self.1)).into_response()
    }
}

impl Refusal {
    pub(super) fn message(status: StatusCode, text: &str) -> Self {
        Self(status, json!({ "message": text }))
    }

    pub(super) fn invalid(errors: Value) -> Self {
        Self(StatusCode::UNPROCESSABLE_ENTITY, json!({ "errors": errors }))
    }

    /// A word of a fixed vocabulary, for metrics.
    pub(super) fn label(&self) -> &'static str {
        match self.0 {
            StatusCode::UNAUTHORIZED => "unauthorized",
            StatusCode::FORBIDDEN => "forbidden",
            StatusCode::REQUEST_TIMEOUT => "body_timeout",
            StatusCode::PAYLOAD_TOO_LARGE => "too_large",
            StatusCode::UNPROCESSABLE_ENTITY => "invalid",
            StatusCode::TOO_MANY_REQUESTS => "over_rate",
            StatusCode::SERVICE_UNAVAILABLE => "not_ready",
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => "headers_too_large",
            _ => "malformed",
        }
    }
}

/// What one message is answered where the policies could not be asked.
pub(super) fn unanswered(error: PolicyError) -> Refusal {
    let (status, text) = match error {
        PolicyError::NotInstalled => (StatusCode::FORBIDDEN, "Unauthorized"),
        PolicyError::Failed(_) => (StatusCode::UNPROCESSABLE_ENTITY, "RLS policy error"),
        PolicyError::Cancelled => (StatusCode::UNPROCESSABLE_ENTITY, "Query canceled"),
        PolicyError::NoPartition => (StatusCode::UNPROCESSABLE_ENTITY, "Missing messages partition"),
        PolicyError::Unreachable => (StatusCode::UNPROCESSABLE_ENTITY, "Tenant database unavailable"),
        PolicyError::Exhausted => (StatusCode::TOO_MANY_REQUESTS, "Connection pool exhausted"),
        PolicyError::HeadersTooLarge => {
            (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "Headers are too large to be shown to policies")
        }
    };
    Refusal::message(status, text)
}

/// What one message's refusal is answered with.
pub(super) fn refusal(reason: Reason) -> Refusal {
    match reason {
        Reason::PayloadTooLarge => {
            Refusal::invalid(json!({ "payload": ["Payload size exceeds tenant limit"] }))
        }
        Reason::EventNameTooLong => Refusal::invalid(json!({ "event": [TOO_LONG] })),
        Reason::Unauthorized { .. } => Refusal::message(StatusCode::FORBIDDEN, "Unauthorized"),
        other => Refusal::message(StatusCode::FORBIDDEN, &other.message()),
    }
}

pub(super) fn stopping() -> Refusal {
    Refusal::message(StatusCode::SERVICE_UNAVAILABLE, "The relay is stopping")
}
