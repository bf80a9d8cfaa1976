//! Broadcasts over HTTP: several at once as JSON, or one whose address names topic and event.
//!
//! Answers are the reference's, word for word where clients read them. Never 404 once a route matched: clients take
//! that for a server too old to know it.

mod message;
mod refusal;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::sync::oneshot;

use self::message::{channels, parse_batch};
use self::refusal::{Refusal, refusal, stopping, unanswered};
use super::Shared;
use super::bearer::bearer;
use super::body::BodyError;
use crate::admission::{Headers, MessageRate, Origin, PolicyError, RateLimit};
use crate::auth::{ConnectError, Credential, Fingerprint, Role};
use crate::fanout::{HttpBroadcast, HttpBroadcasts, HubInput};
use crate::protocol::{EVENT_BYTES_MAX, Encoding, Reason, UserBroadcast, is_relayable};
use crate::route::Topic;

/// The client that publishes.
struct Publisher {
    credential: Credential,
    /// As policies see them.
    headers: Headers,
    origin: Origin,
}

/// `POST …/api/broadcast`: several messages, all of them well-formed or none sent.
pub(super) async fn batch(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let answer = async {
        let (head, body) = request.into_parts();
        let publisher = authenticate(&shared, &head).await?;
        let body = read(&shared, &head, body).await?;
        let broadcasts = parse_batch(&shared, &body)?;
        let count = u32::try_from(broadcasts.len()).unwrap_or(u32::MAX);
        let burst = shared.admission.message_rate.burst;
        if count > burst && publisher.credential.role() != Role::ServiceRole && is_limited(&shared) {
            let text = "Too many messages to broadcast, please reduce the batch size";
            return Err(Refusal::message(StatusCode::TOO_MANY_REQUESTS, text));
        }
        let rates = admit(&shared, &publisher, count)?;
        let mut broadcasts = broadcasts;
        // Asked once for a request and topic.
        let mut known = HashMap::new();
        let mut are_denials = true;
        for broadcast in broadcasts.iter_mut().filter(|broadcast| is_policed(broadcast)) {
            match ask_policies(&shared, &publisher, broadcast, &mut known).await {
                Ok(()) => {}
                Err(PolicyError::NotInstalled) => are_denials = false,
                Err(error) => return Err(unanswered(error)),
            }
        }
        let topics: Vec<_> =
            broadcasts.iter().map(|broadcast| (broadcast.topic.clone(), is_policed(broadcast))).collect();
        let outcomes = publish(&shared, publisher.credential, broadcasts).await?;
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
        let publisher = authenticate(&shared, &head).await?;
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
        let rates = admit(&shared, &publisher, 1)?;
        if is_policed(&broadcast) {
            let asked = ask_policies(&shared, &publisher, &mut broadcast, &mut HashMap::new()).await;
            asked.map_err(unanswered)?;
        }
        for outcome in publish(&shared, publisher.credential, vec![broadcast]).await? {
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
    publisher: &Publisher,
    broadcast: &mut HttpBroadcast,
    known: &mut HashMap<Topic, bool>,
) -> Result<(), PolicyError> {
    broadcast.is_granted = is_granted(shared, publisher, &broadcast.topic, known).await?;
    let Some(also) = broadcast.also.take() else { return Ok(()) };
    if is_granted(shared, publisher, &also, known).await.unwrap_or_default() {
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
    publisher: &Publisher,
    topic: &Topic,
    known: &mut HashMap<Topic, bool>,
) -> Result<bool, PolicyError> {
    if let Some(is_granted) = known.get(topic) {
        return Ok(*is_granted);
    }
    let Publisher { credential, headers, origin } = publisher;
    let findings =
        shared.admission.policies.ask(&topic.to_string(), credential, headers, origin.address()).await?;
    if let Some(cause) = findings.write_failed {
        return Err(PolicyError::Failed(cause));
    }
    known.insert(topic.clone(), findings.grants.write_broadcast);
    Ok(findings.grants.write_broadcast)
}

/// By `Authorization: Bearer`, else by `apikey`. supabase-js sends the API key as a bearer too where nobody has
/// logged in.
async fn authenticate(shared: &Shared, head: &Parts) -> Result<Publisher, Refusal> {
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
                return Ok(Publisher { credential, headers, origin });
            }
            Err(error @ ConnectError::TooManyRefused) => {
                return Err(Refusal::message(error.status(), &error.to_string()));
            }
            Err(_) => {}
        }
    }
    Err(Refusal::message(StatusCode::UNAUTHORIZED, "Unauthorized"))
}

/// The body, if it is there in time.
async fn read(shared: &Shared, head: &Parts, body: Body) -> Result<Bytes, Refusal> {
    shared.read_body(head, body, usize::MAX).await.map_err(|error| match error {
        BodyError::Stopping => stopping(),
        BodyError::TookTooLong => Refusal::message(StatusCode::REQUEST_TIMEOUT, "Request body took too long"),
        BodyError::TooLarge => Refusal::message(StatusCode::PAYLOAD_TOO_LARGE, "Request body is too large"),
        BodyError::Unreadable => Refusal::message(StatusCode::BAD_REQUEST, "Request body could not be read"),
    })
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

/// Charges the publisher. The application's own servers are not limited.
fn admit(shared: &Shared, publisher: &Publisher, messages: u32) -> Result<RateHeaders, Refusal> {
    let MessageRate { per_second, burst } = shared.admission.message_rate;
    let headers = |remaining: u32| {
        [
            ("x-rate-rolling", burst.saturating_sub(remaining).to_string()),
            ("x-rate-limit", burst.to_string()),
            ("x-rate-limit-remaining", remaining.to_string()),
        ]
    };
    if publisher.credential.role() == Role::ServiceRole || !is_limited(shared) {
        return Ok(headers(burst));
    }
    let now = Instant::now();
    let fresh = || RateLimit::new(per_second, burst, now);
    let allowance =
        shared.admission.rates.admit(&publisher.credential, publisher.origin, fresh, messages, now);
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
