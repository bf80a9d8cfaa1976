//! The WebSocket handshake: who may connect, and with which serialization.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::Shared;
use crate::admission::{Full, Headers};
use crate::protocol::Vsn;
use crate::socket::Handshake;

/// Answers a handshake in the reference's order: is the relay ready, is there a key, is it valid, is there room;
/// then the serialization and the upgrade itself.
pub(super) async fn upgrade(
    State(shared): State<Arc<Shared>>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    mut request: Request,
) -> Response {
    let origin = shared.origin(request.extensions(), &headers);
    let refuse = |status: StatusCode, reason: &'static str, text: &str| {
        shared.note_refused_handshake(reason, text, origin);
        (status, Json(json!({ "error": text }))).into_response()
    };
    if !*shared.ready.borrow() {
        let text = "The relay is not caught up with Postgres yet";
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "not_ready", text);
    }
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let key = header("x-api-key").or(query.get("apikey").map(String::as_str));
    let credential = match shared.admission.connect(origin, key).await {
        Ok(credential) => credential,
        Err(error) => return refuse(error.status(), error.label(), &error.to_string()),
    };
    let place = match shared.admission.addresses.take(origin, shared.admission.address_limits) {
        Ok(place) => place,
        Err(full) => {
            let reason = match full {
                Full::Relay => "too_many_sockets",
                Full::Address => "too_many_sockets_of_address",
            };
            return refuse(StatusCode::TOO_MANY_REQUESTS, reason, "Too many connected users");
        }
    };
    let Ok(vsn) = Vsn::negotiate(query.get("vsn").map(String::as_str)) else {
        let text = "this serialization is not spoken";
        shared.note_refused_handshake("vsn", text, origin);
        return StatusCode::FORBIDDEN.into_response();
    };
    let says =
        |name: &str, word: &str| header(name).is_some_and(|value| value.to_ascii_lowercase().contains(word));
    let upgrades = says("connection", "upgrade") && says("upgrade", "websocket");
    let (true, true, Some(key)) =
        (upgrades, says("sec-websocket-version", "13"), headers.get(header::SEC_WEBSOCKET_KEY))
    else {
        let text = "this address speaks WebSocket, version 13";
        shared.note_refused_handshake("no_websocket", text, origin);
        return (StatusCode::BAD_REQUEST, format!("{text}\n")).into_response();
    };
    let accept = derive_accept_key(key.as_bytes());
    let upgrading = hyper::upgrade::on(&mut request);
    let handshake = Handshake { vsn, credential, headers: seen_by_policies(&headers), place };
    shared.sockets.open(handshake, upgrading);
    let headers = [
        (header::CONNECTION, "Upgrade".to_owned()),
        (header::UPGRADE, "websocket".to_owned()),
        (header::SEC_WEBSOCKET_ACCEPT, accept),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

/// The headers that policies may see.
fn seen_by_policies(headers: &HeaderMap) -> Headers {
    Headers::of(headers, |name| name.starts_with("x-"))
}
