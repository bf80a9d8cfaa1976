//! What widget and dashboard ask over HTTP: JSON in, JSON out.
//!
//! Every statement runs in a transaction with the caller's role and claims, so that row-level security decides. Nothing
//! is broadcast here: what is written reaches everybody through the write-ahead log.

mod assets;
mod caller;
mod dashboard;
mod database;
mod error;
mod messages;
mod metrics;
mod openapi;
mod page;
mod receipts;
mod request;
mod settings;
mod text;
mod widget;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{any, get};
use tokio::time::Instant;
use tracing::{Instrument, info, info_span};

pub use self::assets::DashboardSettings;
use self::database::Database;
use self::error::{ApiError, Code};
pub use self::metrics::ApiMetrics;
pub use self::settings::ApiSettings;
use crate::admission::RequestRates;
use crate::auth::VisitorTokens;
use crate::http::Shared;
use crate::sql::Sessions;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What every route may reach.
pub struct Api {
    edge: Arc<Shared>,
    database: Arc<Database>,
    settings: ApiSettings,
    rates: RequestRates,
    metrics: ApiMetrics,
    /// None: nobody can be given a token.
    visitor_keys: Option<VisitorKeys>,
}

/// What widgets are given.
struct VisitorKeys {
    tokens: VisitorTokens,
    /// With which their sockets connect.
    api_key: String,
}

impl Api {
    /// `signing_secret` signs the tokens of visitors.
    pub fn new(
        edge: Arc<Shared>,
        sessions: Arc<Sessions>,
        settings: ApiSettings,
        signing_secret: Option<&str>,
        metrics: ApiMetrics,
    ) -> Arc<Self> {
        let tokens = signing_secret
            .map(|secret| VisitorTokens::new(secret.as_bytes(), settings.visitor_token_lifetime));
        let api_key = edge.admission.verifier.api_keys.publishable();
        let visitor_keys =
            tokens.zip(api_key).map(|(tokens, api_key)| VisitorKeys { tokens, api_key: api_key.to_owned() });
        if visitor_keys.is_none() {
            info!(
                "the API serves no widgets: they need a key of role anon in CAMPFIRE_API_KEYS, and CAMPFIRE_SIGNING_KEY where there is no CAMPFIRE_JWT_SECRET"
            );
        }
        let database = Arc::new(Database::new(sessions, &settings));
        let rates = RequestRates::new(settings.rate);
        Arc::new(Self { edge, database, settings, rates, metrics, visitor_keys })
    }
}

/// All routes, and the document that describes them.
pub fn router(api: Arc<Api>) -> Router {
    let (router, document) = openapi::routes();
    let document = openapi::text(document);
    let pages = assets::widget().merge(assets::dashboard(&api.settings.dashboard));
    router
        .route("/openapi.json", get(async move || ([(header::CONTENT_TYPE, "application/json")], document)))
        .route("/api/widget/{*path}", any(async || ApiError::of(Code::RouteNotFound)))
        .route("/api/dashboard/{*path}", any(async || ApiError::of(Code::RouteNotFound)))
        .method_not_allowed_fallback(async || ApiError::of(Code::MethodNotAllowed))
        .layer(middleware::from_fn_with_state(Arc::clone(&api), answer))
        .with_state(api)
        .merge(pages)
}

/// Around all routes: every answer names its request, and is counted.
async fn answer(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = request_id(&request);
    let span = info_span!("api", request = id.to_str().unwrap_or_default());
    let mut response = next.run(request).instrument(span).await;
    let outcome = response.extensions().get::<Code>().map_or("ok", |code| code.name());
    api.metrics.requests.count(outcome);
    api.metrics.seconds.0.observe(began.elapsed().as_secs_f64());
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// The client's own name for the request, if it is one that may stand in a log; otherwise a new one.
fn request_id(request: &Request) -> HeaderValue {
    let is_sane = |id: &&HeaderValue| {
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte);
        (1..=128).contains(&id.len()) && id.as_bytes().iter().all(is_word)
    };
    request
        .headers()
        .get(REQUEST_ID)
        .filter(is_sane)
        .cloned()
        .unwrap_or_else(|| HeaderValue::try_from(uuid::Uuid::new_v4().to_string()).expect("a uuid is a word"))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn a_request_keeps_its_name_if_that_is_harmless() {
        let id = |sent: Option<&[u8]>| {
            let mut request = Request::new(Body::empty());
            if let Some(sent) = sent {
                request.headers_mut().insert(REQUEST_ID, HeaderValue::from_bytes(sent).unwrap());
            }
            request_id(&request).to_str().unwrap().to_owned()
        };
        assert_eq!(id(Some(b"Req-1_2.3:4")), "Req-1_2.3:4");
        let long = [b'x'; 129];
        for sent in [None, Some(&b""[..]), Some(b"a b"), Some(b"\"x\""), Some(b"\xc3\xbc"), Some(&long)] {
            assert!(uuid::Uuid::parse_str(&id(sent)).is_ok(), "{sent:?}");
        }
    }
}
