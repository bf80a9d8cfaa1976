//! What a request is answered with that is not served: one form, and one vocabulary.

use std::borrow::Cow;

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// An answer other than 2xx.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ApiError {
    pub(super) code: Code,
    /// What exactly is wrong, where that differs from one request to the next.
    detail: Option<Cow<'static, str>>,
}

/// `{"error": {"code", "message", "hint"}}`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Error)]
pub(super) struct ErrorAnswer {
    error: ErrorBody,
}

/// What went wrong, and what to do about it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ErrorBody)]
struct ErrorBody {
    /// A word for programs: it never changes.
    #[schema(example = "conversation_not_found")]
    code: &'static str,
    /// A sentence for people.
    message: Cow<'static, str>,
    /// What to do.
    hint: Option<&'static str>,
}

macro_rules! codes {
    ($($variant:ident $status:ident $code:literal $message:literal $hint:expr;)+) => {
        /// What can be wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Code {
            $($variant,)+
        }

        impl Code {
            #[cfg(test)]
            pub(super) const ALL: &[Self] = &[$(Self::$variant,)+];

            /// As programs read it.
            pub(super) fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $code,)+
                }
            }

            pub(super) fn status(self) -> StatusCode {
                match self {
                    $(Self::$variant => StatusCode::$status,)+
                }
            }

            pub(super) fn message(self) -> &'static str {
                match self {
                    $(Self::$variant => $message,)+
                }
            }

            fn hint(self) -> Option<&'static str> {
                match self {
                    $(Self::$variant => $hint,)+
                }
            }
        }
    };
}

codes! {
    Malformed BAD_REQUEST "malformed" "The body is not JSON"
        Some("Send a JSON object in UTF-8.");
    TokenMissing UNAUTHORIZED "token_missing" "The request has no token"
        Some("Send the header Authorization: Bearer TOKEN.");
    TokenInvalid UNAUTHORIZED "token_invalid" "The token is not valid here"
        Some("A visitor gets a new token from POST /api/widget/auth without `token`.");
    TokenExpired UNAUTHORIZED "token_expired" "The token has expired"
        Some("A visitor exchanges it with POST /api/widget/auth; an agent gets a new one from the application.");
    IdentityRequired UNAUTHORIZED "identity_required" "The organization admits only visitors with a verified identity"
        Some("Send `identity`: a token that your server has signed with the organization's identity secret.");
    IdentityInvalid UNAUTHORIZED "identity_invalid" "The identity cannot be verified"
        Some("It is a JWT, HS256, signed with the organization's identity secret, with claims sub and exp.");
    OriginNotAllowed FORBIDDEN "origin_not_allowed" "Pages of this origin may not use the organization's widget"
        Some("Add the origin to allowed_origins of the organization.");
    RoleNotAllowed FORBIDDEN "role_not_allowed" "The token is not of a kind that may do this"
        Some("Widget routes take a visitor's token, dashboard routes an agent's or the service's.");
    AgentInactive FORBIDDEN "agent_inactive" "The token's subject is no active agent of the organization"
        Some("The table agents has a row for each agent; active has to be true.");
    AgentRequired FORBIDDEN "agent_required" "Only agents have read receipts"
        Some("Ask with an agent's token: service_role reads for nobody.");
    SenderNotAllowed FORBIDDEN "sender_not_allowed" "Agents write under their own name"
        Some("Leave out senderType and senderName: they are for service_role.");
    RouteNotFound NOT_FOUND "route_not_found" "There is no such route"
        Some("GET /openapi.json lists all.");
    OrganizationNotFound NOT_FOUND "organization_not_found" "There is no such organization, or its widget is off"
        None;
    ConversationNotFound NOT_FOUND "conversation_not_found" "There is no such conversation"
        None;
    MessageNotFound NOT_FOUND "message_not_found" "The conversation has no such message"
        None;
    MethodNotAllowed METHOD_NOT_ALLOWED "method_not_allowed" "The route has no such method"
        Some("GET /openapi.json lists all.");
    BodyTimeout REQUEST_TIMEOUT "body_timeout" "The body took too long"
        None;
    IdentityConflict CONFLICT "identity_conflict" "The conversation belongs to another identity"
        Some("Forget its token, and call POST /api/widget/auth with the new identity.");
    TooLarge PAYLOAD_TOO_LARGE "too_large" "The body is too large"
        Some("The limit is set by CAMPFIRE_MAX_MESSAGE_BYTES.");
    Invalid UNPROCESSABLE_ENTITY "invalid" "A value is missing, or is not what it should be"
        None;
    AssigneeInvalid UNPROCESSABLE_ENTITY "assignee_invalid" "The assignee is no active agent of the organization"
        Some("GET /api/dashboard/me lists the agents; null is nobody.");
    Refused UNPROCESSABLE_ENTITY "refused" "The database refuses this"
        Some("A trigger or a constraint of the application does not allow it.");
    RateLimited TOO_MANY_REQUESTS "rate_limited" "There are too many requests"
        Some("Try again after the seconds in retry-after.");
    Internal INTERNAL_SERVER_ERROR "internal" "The request failed"
        Some("The relay's log says why, with the id in x-request-id.");
    Unavailable SERVICE_UNAVAILABLE "unavailable" "The database is not available at the moment"
        Some("Try again after the seconds in retry-after.");
    Overloaded SERVICE_UNAVAILABLE "overloaded" "The database is busy"
        Some("Try again after the seconds in retry-after.");
    NotInstalled SERVICE_UNAVAILABLE "not_installed" "The schema has no installation of this version"
        Some("Run select campfire.install(); there, or set CAMPFIRE_API_SCHEMA.");
    NotConfigured SERVICE_UNAVAILABLE "not_configured" "The relay has no keys for visitors"
        Some("Set CAMPFIRE_API_KEYS, and CAMPFIRE_SIGNING_KEY if there is no CAMPFIRE_JWT_SECRET.");
}

impl Code {
    /// Whether the same request may succeed a little later.
    fn is_temporary(self) -> bool {
        matches!(self, Self::RateLimited | Self::Unavailable | Self::Overloaded)
    }
}

impl ApiError {
    pub(super) fn of(code: Code) -> Self {
        Self { code, detail: None }
    }

    /// With what exactly is wrong.
    pub(super) fn because(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { code, detail: Some(detail.into()) }
    }

    /// A value that is not what it should be.
    pub(super) fn invalid(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::because(Code::Invalid, detail)
    }
}

impl From<Code> for ApiError {
    fn from(code: Code) -> Self {
        Self::of(code)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Self { code, detail } = self;
        let message = match detail {
            Some(detail) => format!("{}: {detail}", code.message()).into(),
            None => code.message().into(),
        };
        let body = ErrorAnswer { error: ErrorBody { code: code.name(), message, hint: code.hint() } };
        let mut response = (code.status(), Json(body)).into_response();
        let headers = response.headers_mut();
        if code.is_temporary() {
            headers.insert(header::RETRY_AFTER, const { axum::http::HeaderValue::from_static("1") });
        }
        if code.status() == StatusCode::UNAUTHORIZED {
            headers
                .insert(header::WWW_AUTHENTICATE, const { axum::http::HeaderValue::from_static("Bearer") });
        }
        // What is left of a body that took too long is not waited for.
        if code == Code::BodyTimeout {
            headers.insert(header::CONNECTION, const { axum::http::HeaderValue::from_static("close") });
        }
        response.extensions_mut().insert(code);
        response
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_code_is_one_word() {
        let names: HashSet<_> = Code::ALL.iter().map(|code| code.name()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        let is_word = |name: &&str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        assert!(names.iter().all(is_word), "{names:?}");
    }

    #[test]
    fn each_code_is_documented_with_its_status() {
        let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api.md");
        let docs = std::fs::read_to_string(docs).expect("the docs");
        let (_, table) = docs.split_once("| status | code | when |\n").expect("the table of codes");
        let rows = table.lines().skip(1).take_while(|line| line.starts_with('|'));
        let documented: Vec<(String, String)> = rows
            .map(|row| {
                let mut cells = row.split('|').skip(1).map(|cell| cell.trim().trim_matches('`').to_owned());
                (cells.next().unwrap_or_default(), cells.next().unwrap_or_default())
            })
            .collect();
        let mut known: Vec<_> = Code::ALL
            .iter()
            .map(|code| (code.status().as_u16().to_string(), code.name().to_owned()))
            .collect();
        known.sort_by(|(one, _), (other, _)| one.cmp(other));
        assert_eq!(documented, known);
    }

    #[test]
    fn what_may_succeed_later_says_when() {
        for code in Code::ALL {
            let response = ApiError::of(*code).into_response();
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), code.is_temporary(), "{code:?}");
            assert_eq!(response.status(), code.status());
        }
    }
}
