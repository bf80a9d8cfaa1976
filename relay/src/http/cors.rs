//! Lets pages of any origin call, and read the answer, errors included: what they may do depends on the key or token
//! they have, never on a cookie.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// What is allowed where a browser does not say which headers it wants to send.
const USUAL_HEADERS: &str =
    "authorization, apikey, content-type, x-client-info, x-request-id, traceparent, tracestate, baggage";

/// Headers of answers that scripts may read, besides those that they always may.
const READABLE_HEADERS: &str =
    "x-rate-rolling, x-rate-limit, x-rate-limit-remaining, x-request-id, retry-after";

/// Around everything, so that also what no route answers can be read.
pub(super) async fn cors(request: Request, next: Next) -> Response {
    let mut response = if request.method() == Method::OPTIONS {
        preflight(request.headers())
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(READABLE_HEADERS));
    response
}

/// Answers a browser that asks first. It may send the headers it names: tracing tools and newer clients add their own,
/// and none of them means anything that a page should not say.
fn preflight(asked: &HeaderMap) -> Response {
    const PRIVATE_ASKED: &str = "access-control-request-private-network";
    const PRIVATE_ALLOWED: HeaderName = HeaderName::from_static("access-control-allow-private-network");
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    let methods = "GET, HEAD, POST, PATCH, OPTIONS";
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
    for wanted in asked.get_all(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.append(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    if !headers.contains_key(header::ACCESS_CONTROL_ALLOW_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(USUAL_HEADERS));
    }
    if asked.get(PRIVATE_ASKED).is_some_and(|asked| asked == "true") {
        headers.insert(PRIVATE_ALLOWED, HeaderValue::from_static("true"));
    }
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    let varies = "Access-Control-Request-Headers, Access-Control-Request-Private-Network";
    headers.insert(header::VARY, HeaderValue::from_static(varies));
    response
}
