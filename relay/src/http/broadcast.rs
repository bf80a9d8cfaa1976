//! Broadcasts over HTTP: several at once as JSON, or one whose address names topic and event.
//!
//! Answers are the reference's, word for word where clients read them. Never 404 once a route matched: clients take
//! that for a server too old to know it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use super::Shared;
use super::peer;
use crate::auth::{Credential, Role};
use crate::fanout::{HubInput, Publication, Publish};
use crate::policies::PolicyError;
use crate::protocol::json::{is_null, members, string};
use crate::protocol::{Encoding, Reason, UserBroadcast, is_relayable};
use crate::route::Topic;
use crate::socket::RateLimit;

const ALLOWED_HEADERS: &str =
    "authorization, apikey, content-type, x-client-info, traceparent, tracestate, baggage";

/// Who asks, and how much more he may.
struct Caller {
    credential: Credential,
    /// All headers, as policies see them.
    headers: Arc<str>,
    address: Option<IpAddr>,
}

/// An answer that is not 202.
struct Refusal(StatusCode, Value);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

impl Refusal {
    fn message(status: StatusCode, text: &str) -> Self {
        Self(status, json!({ "message": text }))
    }

    fn invalid(errors: Value) -> Self {
        Self(StatusCode::UNPROCESSABLE_ENTITY, json!({ "errors": errors }))
    }
}

/// Lets pages of any origin call: what they may do depends on the token, never on a cookie.
pub(super) async fn cors(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    response
}

/// Answers a browser that asks first.
pub(super) async fn preflight() -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "POST, OPTIONS"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS),
        (header::ACCESS_CONTROL_MAX_AGE, "86400"),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

/// `POST …/api/broadcast`: several messages, all of them well-formed or none sent.
pub(super) async fn batch(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let answer = async {
        let (head, body) = request.into_parts();
        let caller = authenticate(&shared, &head).await?;
        let body = read(&shared, body).await?;
        let publications = parse_batch(&shared, &body)?;
        let count = u32::try_from(publications.len()).unwrap_or(u32::MAX);
        let burst = shared.limits.client_messages_burst;
        if count > burst && caller.credential.role() != Role::ServiceRole && is_limited(&shared) {
            let text = "Too many messages to broadcast, please reduce the batch size";
            return Err(Refusal::message(StatusCode::TOO_MANY_REQUESTS, text));
        }
        let rates = admit(&shared, &caller, count)?;
        let mut publications = publications;
        // Asked once for a request and topic.
        let mut known = HashMap::new();
        for publication in &mut publications {
            if !is_policed(publication) {
                continue;
            }
            publication.is_granted = match known.get(&publication.topic) {
                Some(is_granted) => *is_granted,
                None => {
                    let is_granted = is_granted(&shared, &caller, publication).await.unwrap_or_default();
                    known.insert(publication.topic.clone(), is_granted);
                    is_granted
                }
            };
        }
        // What the caller may not send is dropped without a word, as the reference does; it is counted.
        publish(&shared, caller.credential, publications).await?;
        Ok((StatusCode::ACCEPTED, rates).into_response())
    };
    answer.await.unwrap_or_else(Refusal::into_response)
}

/// `POST …/api/broadcast/TOPIC/events/EVENT`: one message, whose payload is the body as it is.
pub(super) async fn single(
    State(shared): State<Arc<Shared>>,
    Path((topic, event)): Path<(String, String)>,
    Query(query): Query<Vec<(String, String)>>,
    request: Request,
) -> Response {
    let answer = async {
        let (head, body) = request.into_parts();
        let caller = authenticate(&shared, &head).await?;
        let encoding = encoding(&head.headers)?;
        let body = read(&shared, body).await?;
        let (encoding, payload) = match encoding {
            Some(Encoding::Json) if !body.is_empty() => (Encoding::Json, body),
            Some(Encoding::Binary) => (Encoding::Binary, body),
            // Without a content type the reference reads no body.
            Some(Encoding::Json) | None => (Encoding::Json, Bytes::from_static(b"{}")),
        };
        if encoding == Encoding::Json && !is_relayable(&payload) {
            return Err(Refusal::message(StatusCode::BAD_REQUEST, "Malformed JSON"));
        }
        let Ok(topic) = Topic::parse(&topic) else {
            return Err(Refusal::invalid(json!({ "topic": ["is invalid"] })));
        };
        let private = query.iter().any(|(name, value)| name == "private" && value == "true");
        let broadcast = UserBroadcast { event, encoding, payload };
        let mut publication = Publication { topic, private, broadcast, id: None, is_granted: false };
        let rates = admit(&shared, &caller, 1)?;
        publication.is_granted = is_granted(&shared, &caller, &publication).await.map_err(unanswered)?;
        for outcome in publish(&shared, caller.credential, vec![publication]).await? {
            outcome.map_err(refusal)?;
        }
        Ok((StatusCode::ACCEPTED, rates).into_response())
    };
    answer.await.unwrap_or_else(Refusal::into_response)
}

/// Whether policies decide about a message.
fn is_policed(publication: &Publication) -> bool {
    publication.private && publication.topic.organization().is_none()
}

/// Whether policies allow a message, where they decide.
async fn is_granted(
    shared: &Shared,
    caller: &Caller,
    publication: &Publication,
) -> Result<bool, PolicyError> {
    if !is_policed(publication) {
        return Ok(false);
    }
    let name = publication.topic.to_string();
    let findings = shared.policies.ask(&name, &caller.credential, &caller.headers).await?;
    match findings.write_failed {
        Some(cause) => Err(PolicyError::Failed(cause)),
        None => Ok(findings.grants.write_broadcast),
    }
}

/// What one message is answered where the policies could not be asked.
fn unanswered(error: PolicyError) -> Refusal {
    let (status, text) = match error {
        PolicyError::NotInstalled => (StatusCode::FORBIDDEN, "Unauthorized"),
        PolicyError::Failed(_) => (StatusCode::UNPROCESSABLE_ENTITY, "RLS policy error"),
        PolicyError::Cancelled => (StatusCode::UNPROCESSABLE_ENTITY, "Query canceled"),
        PolicyError::NoPartition => (StatusCode::UNPROCESSABLE_ENTITY, "Missing messages partition"),
        PolicyError::Unreachable => (StatusCode::UNPROCESSABLE_ENTITY, "Tenant database unavailable"),
        PolicyError::Exhausted => (StatusCode::TOO_MANY_REQUESTS, "Connection pool exhausted"),
    };
    Refusal::message(status, text)
}

/// What one message's refusal is answered with.
fn refusal(reason: Reason) -> Refusal {
    match reason {
        Reason::PayloadTooLarge => {
            Refusal::invalid(json!({ "payload": ["Payload size exceeds tenant limit"] }))
        }
        Reason::Unauthorized { .. } => Refusal::message(StatusCode::FORBIDDEN, "Unauthorized"),
        other => Refusal::message(StatusCode::FORBIDDEN, &other.message()),
    }
}

/// By `Authorization: Bearer`, else by `apikey`. supabase-js sends the API key as a bearer too where nobody has
/// logged in.
async fn authenticate(shared: &Shared, head: &Parts) -> Result<Caller, Refusal> {
    if !*shared.ready.borrow() {
        let text = "The relay is not caught up with Postgres yet";
        return Err(Refusal::message(StatusCode::SERVICE_UNAVAILABLE, text));
    }
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = header("authorization").map(bearer);
    let key = header("apikey");
    let candidates = match bearer {
        Some(Some(token)) if token.starts_with("sb_") => [Some(token), key],
        Some(token) => [token, None],
        None => [key, None],
    };
    let address = peer::address(&head.extensions, &head.headers, shared.limits.trusted_proxies);
    for candidate in candidates.into_iter().flatten() {
        if let Ok(credential) = shared.connect(Some(candidate)).await {
            let headers = peer::headers_as_json(&head.headers, |_| true).into();
            return Ok(Caller { credential, headers, address });
        }
    }
    Err(Refusal::message(StatusCode::UNAUTHORIZED, "Unauthorized"))
}

/// The token of `Bearer TOKEN`; None unless it is exactly that.
fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && !token.contains(' ')).then_some(token)
}

async fn read(shared: &Shared, body: Body) -> Result<Bytes, Refusal> {
    match Limited::new(body, shared.limits.body_bytes_max).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(Refusal::message(StatusCode::PAYLOAD_TOO_LARGE, "Request body is too large"))
        }
        Err(_) => Err(Refusal::message(StatusCode::BAD_REQUEST, "Request body could not be read")),
    }
}

/// None: no content type. Parameters such as `charset` mean nothing to JSON.
fn encoding(headers: &HeaderMap) -> Result<Option<Encoding>, Refusal> {
    let Some(media_type) = headers.get(header::CONTENT_TYPE) else { return Ok(None) };
    let media_type = media_type.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/json") {
        return Ok(Some(Encoding::Json));
    }
    if media_type.eq_ignore_ascii_case("application/octet-stream") {
        return Ok(Some(Encoding::Binary));
    }
    let error = "Unsupported Media Type. Use application/json or application/octet-stream";
    Err(Refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, json!({ "error": error })))
}

/// Whether rates are limited at all.
fn is_limited(shared: &Shared) -> bool {
    shared.limits.client_messages_per_second > 0
}

type RateHeaders = [(&'static str, String); 3];

/// Charges the caller. The application's own servers are not limited.
fn admit(shared: &Shared, caller: &Caller, messages: u32) -> Result<RateHeaders, Refusal> {
    let (per_second, burst) = (shared.limits.client_messages_per_second, shared.limits.client_messages_burst);
    let headers = |remaining: u32| {
        [
            ("x-rate-rolling", burst.saturating_sub(remaining).to_string()),
            ("x-rate-limit", burst.to_string()),
            ("x-rate-limit-remaining", remaining.to_string()),
        ]
    };
    if caller.credential.role() == Role::ServiceRole || !is_limited(shared) {
        return Ok(headers(burst));
    }
    let now = Instant::now();
    let fresh = || RateLimit::new(per_second, burst, now);
    let allowance = shared.rates.admit(&caller.credential, caller.address, fresh, messages, now);
    if !allowance.is_admitted {
        shared.metrics.drop_message("over_rate");
        let text = "You have exceeded your rate limit";
        return Err(Refusal::message(StatusCode::TOO_MANY_REQUESTS, text));
    }
    Ok(headers(allowance.remaining))
}

async fn publish(
    shared: &Shared,
    credential: Credential,
    publications: Vec<Publication>,
) -> Result<Vec<Result<(), Reason>>, Refusal> {
    let gone = || Refusal::message(StatusCode::SERVICE_UNAVAILABLE, "The relay is stopping");
    let (outcomes, told) = oneshot::channel();
    let publish = Publish { credential, publications, outcomes };
    shared.hub.send(HubInput::Publish(publish)).await.map_err(|_| gone())?;
    told.await.map_err(|_| gone())
}

/// Reads `{"messages": [{"topic", "event", "payload", "private"?, "id"?}, …]}`.
fn parse_batch(shared: &Shared, body: &[u8]) -> Result<Vec<Publication>, Refusal> {
    let malformed = || Refusal::message(StatusCode::BAD_REQUEST, "Malformed JSON");
    let body = str::from_utf8(body).map_err(|_| malformed())?;
    if !is_relayable(body.as_bytes()) {
        return Err(malformed());
    }
    let messages = members(body, ["messages"]).and_then(|[messages]| messages);
    let Some(messages) = messages.filter(|messages| !is_null(messages)) else {
        return Err(Refusal::invalid(json!({ "messages": [BLANK] })));
    };
    let Ok(messages) = serde_json::from_str::<Vec<&RawValue>>(messages.get()) else {
        return Err(Refusal::invalid(json!({ "messages": [INVALID] })));
    };
    if messages.is_empty() {
        return Err(Refusal::invalid(json!({ "messages": [BLANK] })));
    }
    let mut publications = Vec::with_capacity(messages.len());
    let mut errors = Vec::with_capacity(messages.len());
    for message in messages {
        let names = ["topic", "event", "payload", "private", "id"];
        let Some(fields) = members(message.get(), names) else {
            return Err(Refusal::invalid(json!({ "messages": [INVALID] })));
        };
        match parse_message(shared, fields) {
            Ok(publication) => {
                publications.push(publication);
                errors.push(Map::new());
            }
            Err(found) => errors.push(found),
        }
    }
    if publications.len() == errors.len() {
        Ok(publications)
    } else {
        Err(Refusal::invalid(json!({ "messages": errors })))
    }
}

const BLANK: &str = "can't be blank";
const INVALID: &str = "is invalid";

fn parse_message(
    shared: &Shared,
    [topic, event, payload, private, id]: [Option<&RawValue>; 5],
) -> Result<Publication, Map<String, Value>> {
    let mut errors = Map::new();
    let mut wrong = |name: &str, problem: &str| drop(errors.insert(name.to_owned(), json!([problem])));
    let mut text = |name: &str, value: Option<&RawValue>| {
        let Some(value) = value.filter(|value| !is_null(value)) else {
            wrong(name, BLANK);
            return None;
        };
        match string(value) {
            Some(text) if text.trim().is_empty() => wrong(name, BLANK),
            Some(text) => return Some(text),
            None => wrong(name, INVALID),
        }
        None
    };
    let topic = text("topic", topic);
    let event = text("event", event);
    let topic = topic.and_then(|topic| Topic::parse(&topic).map_err(|_| wrong("topic", INVALID)).ok());
    let payload = match payload.filter(|payload| !is_null(payload)) {
        None => {
            wrong("payload", BLANK);
            None
        }
        Some(payload) if !payload.get().starts_with('{') => {
            wrong("payload", INVALID);
            None
        }
        Some(payload) if payload.get().len() > shared.limits.payload_bytes_max => {
            wrong("payload", "Payload size exceeds tenant limit");
            None
        }
        Some(payload) => Some(Bytes::copy_from_slice(payload.get().as_bytes())),
    };
    let private = match private.map(|private| private.get()) {
        None | Some("null" | "false" | "\"false\"") => false,
        Some("true" | "\"true\"") => true,
        Some(_) => {
            wrong("private", INVALID);
            false
        }
    };
    let id = id.filter(|id| !is_null(id)).and_then(|id| {
        let text = string(id);
        if text.is_none() {
            wrong("id", INVALID);
        }
        text
    });
    match (topic, event, payload) {
        (Some(topic), Some(event), Some(payload)) if errors.is_empty() => {
            let broadcast = UserBroadcast { event, encoding: Encoding::Json, payload };
            Ok(Publication { topic, private, broadcast, id, is_granted: false })
        }
        _ => Err(errors),
    }
}
