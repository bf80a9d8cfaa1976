//! Broadcasts over HTTP: several at once as JSON, or one whose address names topic and event.
//!
//! Answers are the reference's, word for word where clients read them. Never 404 once a route matched: clients take
//! that for a server too old to know it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use super::Shared;
use super::peer::Connected;
use crate::admission::{Headers, MessageRate, Origin, PolicyError, RateLimit};
use crate::auth::{ConnectError, Credential, Fingerprint, Role};
use crate::fanout::{HttpBroadcast, HttpBroadcasts, HubInput};
use crate::protocol::json::{is_null, members, string};
use crate::protocol::{EVENT_BYTES_MAX, Encoding, Reason, UserBroadcast, is_relayable};
use crate::route::{OPTIONAL_PREFIX, Topic, WIRE_PREFIX};

/// Who asks, and how much more he may.
struct Caller {
    credential: Credential,
    /// As policies see them.
    headers: Headers,
    origin: Origin,
}

/// An answer that is not 202.
struct Refusal(StatusCode, Value);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        // What is left of a body that took too long is not waited for.
        let close = (self.0 == StatusCode::REQUEST_TIMEOUT).then_some([(header::CONNECTION, "close")]);
        (self.0, close, Json(self.1)).into_response()
    }
}

impl Refusal {
    fn message(status: StatusCode, text: &str) -> Self {
        Self(status, json!({ "message": text }))
    }

    fn invalid(errors: Value) -> Self {
        Self(StatusCode::UNPROCESSABLE_ENTITY, json!({ "errors": errors }))
    }

    /// A word of a fixed vocabulary, for metrics.
    fn label(&self) -> &'static str {
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

/// `POST …/api/broadcast`: several messages, all of them well-formed or none sent.
pub(super) async fn batch(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let answer = async {
        let (head, body) = request.into_parts();
        let caller = authenticate(&shared, &head).await?;
        let body = read(&shared, &head, body).await?;
        let broadcasts = parse_batch(&shared, &body)?;
        let count = u32::try_from(broadcasts.len()).unwrap_or(u32::MAX);
        let burst = shared.admission.message_rate.burst;
        if count > burst && caller.credential.role() != Role::ServiceRole && is_limited(&shared) {
            let text = "Too many messages to broadcast, please reduce the batch size";
            return Err(Refusal::message(StatusCode::TOO_MANY_REQUESTS, text));
        }
        let rates = admit(&shared, &caller, count)?;
        let mut broadcasts = broadcasts;
        // Asked once for a request and topic.
        let mut known = HashMap::new();
        let mut are_denials = true;
        for broadcast in broadcasts.iter_mut().filter(|broadcast| is_policed(broadcast)) {
            match ask_policies(&shared, &caller, broadcast, &mut known).await {
                Ok(()) => {}
                Err(PolicyError::NotInstalled) => are_denials = false,
                Err(error) => return Err(unanswered(error)),
            }
        }
        let topics: Vec<_> =
            broadcasts.iter().map(|broadcast| (broadcast.topic.clone(), is_policed(broadcast))).collect();
        let outcomes = publish(&shared, caller.credential, broadcasts).await?;
        let mut dropped = Vec::new();
        let mut first = None;
        for (index, (outcome, (topic, is_policed))) in outcomes.into_iter().zip(&topics).enumerate() {
            let Err(reason) = outcome else { continue };
            are_denials &= *is_policed && matches!(reason, Reason::Unauthorized { .. });
            dropped.push(json!({ "index": index, "topic": topic.to_string(), "reason": reason.message() }));
            first.get_or_insert(reason);
        }
        // As with the reference, what the policies deny is dropped, and the rest is sent. The answer says so.
        match first {
            None => Ok((StatusCode::ACCEPTED, rates).into_response()),
            Some(reason) if dropped.len() == topics.len() && !are_denials => {
                let Refusal(status, mut body) = refusal(reason);
                body["dropped"] = dropped.into();
                Err(Refusal(status, body))
            }
            Some(_) => Ok((StatusCode::ACCEPTED, rates, Json(json!({ "dropped": dropped }))).into_response()),
        }
    };
    answer.await.unwrap_or_else(|refusal| told(&shared, refusal))
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
        let body = read(&shared, &head, body).await?;
        let (encoding, payload) = match encoding {
            Some(Encoding::Json) if !body.is_empty() => (Encoding::Json, body),
            Some(Encoding::Binary) => (Encoding::Binary, body),
            // Without a content type the reference reads no body.
            Some(Encoding::Json) | None => (Encoding::Json, Bytes::from_static(b"{}")),
        };
        if encoding == Encoding::Json && !is_relayable(&payload) {
            return Err(Refusal::message(StatusCode::BAD_REQUEST, "Malformed JSON"));
        }
        let channels = channels(&topic).map_err(|problem| Refusal::invalid(json!({ "topic": [problem] })))?;
        let (topic, also) = channels;
        if event.len() > EVENT_BYTES_MAX {
            return Err(refusal(Reason::EventNameTooLong));
        }
        let private = query.iter().any(|(name, value)| name == "private" && value == "true");
        let broadcast = UserBroadcast { event, encoding, payload };
        let mut broadcast = HttpBroadcast { topic, also, private, broadcast, id: None, is_granted: false };
        let rates = admit(&shared, &caller, 1)?;
        if is_policed(&broadcast) {
            let asked = ask_policies(&shared, &caller, &mut broadcast, &mut HashMap::new()).await;
            asked.map_err(unanswered)?;
        }
        for outcome in publish(&shared, caller.credential, vec![broadcast]).await? {
            outcome.map_err(refusal)?;
        }
        Ok((StatusCode::ACCEPTED, rates).into_response())
    };
    answer.await.unwrap_or_else(|refusal| told(&shared, refusal))
}

/// Counts a refusal.
fn told(shared: &Shared, refusal: Refusal) -> Response {
    shared.note_refused_request(refusal.label());
    refusal.into_response()
}

/// Whether policies decide about a message.
fn is_policed(broadcast: &HttpBroadcast) -> bool {
    broadcast.private && broadcast.topic.organization().is_none()
}

/// Asks the policies about a message that they decide about. If it may mean two channels and one is allowed, that one is
/// meant.
async fn ask_policies(
    shared: &Shared,
    caller: &Caller,
    broadcast: &mut HttpBroadcast,
    known: &mut HashMap<Topic, bool>,
) -> Result<(), PolicyError> {
    broadcast.is_granted = is_granted(shared, caller, &broadcast.topic, known).await?;
    let Some(also) = broadcast.also.take() else { return Ok(()) };
    if is_granted(shared, caller, &also, known).await.unwrap_or_default() {
        if broadcast.is_granted {
            broadcast.also = Some(also);
        } else {
            (broadcast.topic, broadcast.is_granted) = (also, true);
        }
    }
    Ok(())
}

/// Whether policies allow to send to a private channel outside `org:`.
async fn is_granted(
    shared: &Shared,
    caller: &Caller,
    topic: &Topic,
    known: &mut HashMap<Topic, bool>,
) -> Result<bool, PolicyError> {
    if let Some(is_granted) = known.get(topic) {
        return Ok(*is_granted);
    }
    let Caller { credential, headers, origin } = caller;
    let findings =
        shared.admission.policies.ask(&topic.to_string(), credential, headers, origin.address()).await?;
    if let Some(cause) = findings.write_failed {
        return Err(PolicyError::Failed(cause));
    }
    known.insert(topic.clone(), findings.grants.write_broadcast);
    Ok(findings.grants.write_broadcast)
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
        PolicyError::HeadersTooLarge => {
            (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "Headers are too large to be shown to policies")
        }
    };
    Refusal::message(status, text)
}

/// What one message's refusal is answered with.
fn refusal(reason: Reason) -> Refusal {
    match reason {
        Reason::PayloadTooLarge => {
            Refusal::invalid(json!({ "payload": ["Payload size exceeds tenant limit"] }))
        }
        Reason::EventNameTooLong => Refusal::invalid(json!({ "event": [TOO_LONG] })),
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
    let origin = shared.origin(&head.extensions, &head.headers);
    for candidate in candidates.into_iter().flatten() {
        // What cannot be sent anyway is not worth the check of a signature.
        let token = Fingerprint::of_token(candidate);
        if token.is_some_and(|token| shared.admission.rates.is_spent(token, Instant::now())) {
            return Err(over_rate(shared));
        }
        match shared.admission.connect(origin, Some(candidate)).await {
            Ok(credential) => {
                let headers = Headers::of(&head.headers, |_| true);
                return Ok(Caller { credential, headers, origin });
            }
            Err(error @ ConnectError::TooManyRefused) => {
                return Err(Refusal::message(error.status(), &error.to_string()));
            }
            Err(_) => {}
        }
    }
    Err(Refusal::message(StatusCode::UNAUTHORIZED, "Unauthorized"))
}

/// The token of `Bearer TOKEN`; None unless it is exactly that.
fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && !token.contains(' ')).then_some(token)
}

/// The body, if it is there in time. Nobody waits for a body that never comes: neither the relay's places for
/// connections, nor a relay that stops.
async fn read(shared: &Shared, head: &Parts, body: Body) -> Result<Bytes, Refusal> {
    let mut reading = head.extensions.get::<Connected>().map(|connected| connected.seat.reading());
    let mut body = Limited::new(body, shared.lobby.limits().body_bytes_max);
    let body = async {
        let mut bytes = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            if let Some(reading) = &mut reading {
                reading.received(data.len());
            }
            bytes.extend_from_slice(&data);
        }
        Ok::<_, axum::BoxError>(bytes.freeze())
    };
    let deadline = shared.lobby.limits().body;
    let body = tokio::select! {
        biased;
        body = tokio::time::timeout(deadline, body) => body,
        () = shared.stop.cancelled() => return Err(stopping()),
    };
    let Ok(body) = body else {
        return Err(Refusal::message(StatusCode::REQUEST_TIMEOUT, "Request body took too long"));
    };
    match body {
        Ok(body) => Ok(body),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(Refusal::message(StatusCode::PAYLOAD_TOO_LARGE, "Request body is too large"))
        }
        Err(_) => Err(Refusal::message(StatusCode::BAD_REQUEST, "Request body could not be read")),
    }
}

fn stopping() -> Refusal {
    Refusal::message(StatusCode::SERVICE_UNAVAILABLE, "The relay is stopping")
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
    shared.admission.message_rate.per_second > 0
}

type RateHeaders = [(&'static str, String); 3];

/// Charges the caller. The application's own servers are not limited.
fn admit(shared: &Shared, caller: &Caller, messages: u32) -> Result<RateHeaders, Refusal> {
    let MessageRate { per_second, burst } = shared.admission.message_rate;
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
    let allowance = shared.admission.rates.admit(&caller.credential, caller.origin, fresh, messages, now);
    if !allowance.is_admitted {
        return Err(over_rate(shared));
    }
    Ok(headers(allowance.remaining))
}

fn over_rate(shared: &Shared) -> Refusal {
    shared.sockets.messages_dropped.count("over_rate");
    Refusal::message(StatusCode::TOO_MANY_REQUESTS, "You have exceeded your rate limit")
}

async fn publish(
    shared: &Shared,
    credential: Credential,
    broadcasts: Vec<HttpBroadcast>,
) -> Result<Vec<Result<(), Reason>>, Refusal> {
    let (outcomes, told) = oneshot::channel();
    let publish = HttpBroadcasts { credential, broadcasts, outcomes };
    shared.hub.send(HubInput::Publish(publish)).await.map_err(|_| stopping())?;
    told.await.map_err(|_| stopping())
}

/// Reads `{"messages": [{"topic", "event", "payload", "private"?, "id"?}, …]}`.
fn parse_batch(shared: &Shared, body: &[u8]) -> Result<Vec<HttpBroadcast>, Refusal> {
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
    let mut broadcasts = Vec::with_capacity(messages.len());
    let mut errors = Vec::with_capacity(messages.len());
    for message in messages {
        let names = ["topic", "event", "payload", "private", "id"];
        let Some(fields) = members(message.get(), names) else {
            return Err(Refusal::invalid(json!({ "messages": [INVALID] })));
        };
        match parse_message(shared, fields) {
            Ok(broadcast) => {
                broadcasts.push(broadcast);
                errors.push(Map::new());
            }
            Err(found) => errors.push(found),
        }
    }
    if broadcasts.len() == errors.len() {
        Ok(broadcasts)
    } else {
        Err(Refusal::invalid(json!({ "messages": errors })))
    }
}

const BLANK: &str = "can't be blank";
const INVALID: &str = "is invalid";

/// Of what every member is told: the name of an event, and the id that a sender gives a message.
const TOO_LONG: &str = "should be at most 255 byte(s)";

/// The channel that a topic over HTTP means. Most clients write its name; some write it as on the wire, with `realtime:`
/// in front. But a channel may itself be called so, if an application put the prefix into the name: then nobody can tell,
/// and both are meant.
///
/// # Errors
/// What is wrong, and with which topic.
fn channels(topic: &str) -> Result<(Topic, Option<Topic>), String> {
    let invalid = |error| format!("{INVALID}: {}: {error}", shortened(topic));
    let bare = topic.strip_prefix(OPTIONAL_PREFIX).unwrap_or(topic);
    let prefix = bare.get(..WIRE_PREFIX.len());
    if !prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(WIRE_PREFIX)) {
        return Ok((Topic::parse(topic).map_err(invalid)?, None));
    }
    let named = Topic::parse(&bare[WIRE_PREFIX.len()..]).map_err(invalid)?;
    let literal = Topic::parse(topic).ok().filter(|_| named.organization().is_none());
    Ok((named, literal))
}

/// A client's own text, for an answer.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(100) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn parse_message(
    shared: &Shared,
    [topic, event, payload, private, id]: [Option<&RawValue>; 5],
) -> Result<HttpBroadcast, Map<String, Value>> {
    let mut errors = Map::new();
    let mut wrong = |name: &str, problem: &str| drop(errors.insert(name.to_owned(), json!([problem])));
    let mut text = |name: &str, value: Option<&RawValue>| {
        let Some(value) = value.filter(|value| !is_null(value)) else {
            wrong(name, BLANK);
            return None;
        };
        match string(value) {
            Some(text) if text.trim().is_empty() => wrong(name, BLANK),
            Some(text) if name == "event" && text.len() > EVENT_BYTES_MAX => wrong(name, TOO_LONG),
            Some(text) => return Some(text),
            None => wrong(name, INVALID),
        }
        None
    };
    let topic = text("topic", topic);
    let event = text("event", event);
    let topic = topic.and_then(|topic| channels(&topic).map_err(|problem| wrong("topic", &problem)).ok());
    let payload = match payload.filter(|payload| !is_null(payload)) {
        None => {
            wrong("payload", BLANK);
            None
        }
        Some(payload) if !payload.get().starts_with('{') => {
            wrong("payload", INVALID);
            None
        }
        Some(payload) if payload.get().len() > shared.hub_settings.payload_bytes_max => {
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
        match &text {
            Some(text) if text.len() > EVENT_BYTES_MAX => wrong("id", TOO_LONG),
            Some(_) => {}
            None => wrong("id", INVALID),
        }
        text
    });
    if let Some((topic, _)) = &topic
        && !(private || shared.hub_settings.public_channels || topic.organization().is_some())
    {
        wrong(
            "topic",
            &format!("{} is closed: {}", shortened(&topic.to_string()), Reason::PrivateOnly.message()),
        );
    }
    match (topic, event, payload) {
        (Some((topic, also)), Some(event), Some(payload)) if errors.is_empty() => {
            let broadcast = UserBroadcast { event, encoding: Encoding::Json, payload };
            Ok(HttpBroadcast { topic, also, private, broadcast, id, is_granted: false })
        }
        _ => Err(errors),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(topic: &str, named: &str, also: Option<&str>) {
        let (topic, literal) = channels(topic).unwrap();
        let names = (topic.to_string(), literal.map(|topic| topic.to_string()));
        assert_eq!(names, (named.to_owned(), also.map(str::to_owned)));
    }

    #[test]
    fn a_topic_may_have_the_prefix_of_the_wire() {
        const ORG: &str = "org:6ba7b810-9dad-11d1-80b4-00c04fd430c8";
        check("room1", "room1", None);
        check("bcast:room1", "room1", None);
        check("realtime:room1", "room1", Some("realtime:room1"));
        check("Realtime:room1", "room1", Some("Realtime:room1"));
        check("realtime:bcast:room1", "room1", Some("realtime:bcast:room1"));
        check("bcast:realtime:room1", "room1", Some("realtime:room1"));
        check("realtime:realtime:room1", "realtime:room1", Some("realtime:realtime:room1"));
        check(&format!("realtime:{ORG}"), ORG, None);
        check(&format!("realtime:bcast:{ORG}"), ORG, None);
        check("realtimes:room1", "realtimes:room1", None);
        check("ü", "ü", None);
    }

    #[test]
    fn what_is_no_channel_is_told_by_its_name() {
        for topic in ["org:7", "realtime:org:7", "bcast:ORG:7", "realtime:", "realtime:bcast:", "org"] {
            let error = channels(topic).unwrap_err();
            assert!(error.starts_with("is invalid: ") && error.contains(topic), "{error}");
        }
        let error = channels(&"ü".repeat(2000)).unwrap_err();
        assert!(error.len() < 400, "{error}");
    }
}
