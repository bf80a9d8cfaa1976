//! The edge that speaks HTTP: health, metrics, and the upgrade to a WebSocket.

mod broadcast;
mod cors;
mod forwarded;
mod listener;
mod lobby;
mod opening;
mod peer;
mod refusals;
mod seldom;
mod server;
mod websocket;

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::forwarded::ForwardedHeader;
pub use self::listener::Listener;
pub(crate) use self::lobby::Lobby;
pub use self::lobby::LobbyLimits;
pub(crate) use self::opening::Strangers;
pub(crate) use self::refusals::Refusals;
pub(crate) use self::server::{receive, serve};
use crate::admission::{Addresses, Headers, Jwks, Policies, Rates};
use crate::auth::{ApiKeys, ClaimPaths, ConnectError, Credential, Grants, Keys, TokenError};
use crate::cli::Limits;
use crate::fanout::{HubInput, Unread};
use crate::metrics::Metrics;
use crate::protocol::Reason;
use crate::socket::Unfinished;

/// What every request and socket may reach.
pub struct Shared {
    pub hub: mpsc::Sender<HubInput>,
    pub limits: Limits,
    pub keys: Keys,
    pub api_keys: ApiKeys,
    /// Whether a join that does not say so wants presence.
    pub presence_default: bool,
    /// Whether channels outside `org:` may be joined without authorization.
    pub public_channels: bool,
    /// Keeps the published keys current; None where only secrets verify.
    pub jwks: Option<Arc<Jwks>>,
    /// Decide about private channels outside `org:`.
    pub policies: Arc<Policies>,
    /// Where tokens keep the organization and the conversation: a setting of the database, read at each attach.
    pub claim_paths: RwLock<ClaimPaths>,
    pub metrics: Metrics,
    /// True while caught up with Postgres.
    pub ready: watch::Receiver<bool>,
    /// Whether another relay reads the slot, and this one waits to take over.
    pub standing_by: AtomicBool,
    /// How much `campfire.check_publication()` finds wrong.
    pub problems: watch::Sender<usize>,
    pub next_socket: AtomicU64,
    /// Memory of all sockets: what they have yet to read, and what they have begun to say.
    pub unread: Arc<Unread>,
    pub unfinished: Arc<Unfinished>,
    /// Connections before they are sockets.
    pub(crate) lobby: Arc<Lobby>,
    pub(crate) addresses: Addresses,
    /// Bound the log lines that strangers cause.
    pub(crate) refusals: Refusals,
    pub(crate) strangers: Arc<Strangers>,
    pub(crate) rates: Rates,
    pub tasks: TaskTracker,
    pub stop: CancellationToken,
}

impl Shared {
    pub fn claim_paths(&self) -> ClaimPaths {
        self.claim_paths.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The credential of a socket or request with this key. Waits only for published keys.
    pub(crate) async fn connect(&self, key: Option<&str>) -> Result<Credential, ConnectError> {
        let connect = || self.keys.connect(&self.api_keys, &self.claim_paths(), key, SystemTime::now());
        match (connect(), &self.jwks) {
            (Err(ConnectError::Token(TokenError::UnknownKey(_))), Some(jwks)) => {
                jwks.reload_for_unknown_key().await;
                connect()
            }
            (connected, _) => connected,
        }
    }

    /// What the database's policies allow; None where they are not asked: no name, or no valid token.
    pub(crate) async fn grants(
        &self,
        name: Option<&str>,
        credential: &Result<Credential, TokenError>,
        headers: &Headers,
        address: Option<IpAddr>,
    ) -> Option<Result<Grants, Reason>> {
        let (name, credential) = (name?, credential.as_ref().ok()?);
        let answer = self.policies.ask(name, credential, headers, address).await;
        Some(answer.map(|findings| findings.grants).map_err(|error| error.reason(name)))
    }

    /// The credential of a channel on a connection. Waits only for published keys.
    pub(crate) async fn join(
        &self,
        connection: &Credential,
        token: Option<&str>,
    ) -> Result<Credential, TokenError> {
        let join =
            || self.keys.join(&self.api_keys, &self.claim_paths(), connection, token, SystemTime::now());
        match (join(), &self.jwks) {
            (Err(TokenError::UnknownKey(_)), Some(jwks)) => {
                jwks.reload_for_unknown_key().await;
                join()
            }
            (joined, _) => joined,
        }
    }
}

/// All routes. WebSockets answer at the hosted and at the bare path.
pub fn router(shared: Arc<Shared>, with_health: bool) -> Router {
    let router = Router::new()
        .route("/realtime/v1/api/broadcast", post(broadcast::batch))
        .route("/api/broadcast", post(broadcast::batch))
        .route("/realtime/v1/api/broadcast/{topic}/events/{event}", post(broadcast::single))
        .route("/api/broadcast/{topic}/events/{event}", post(broadcast::single))
        .route("/realtime/v1/websocket", any(websocket::upgrade))
        .route("/socket/websocket", any(websocket::upgrade));
    let router = if with_health { router.merge(health()) } else { router };
    router.layer(middleware::from_fn(cors::cors)).with_state(shared)
}

/// What monitoring asks for, and nothing that clients need.
pub fn health_router(shared: Arc<Shared>) -> Router {
    health().with_state(shared)
}

fn health() -> Router<Arc<Shared>> {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
}

/// `degraded` is ready, too: whoever is not concerned is served, and a balancer that took the relay away would end that.
/// Without names of tables, because anybody may ask.
async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    let problems = *shared.problems.borrow();
    // What is on its way out takes nobody new.
    let is_ready = *shared.ready.borrow() && !shared.stop.is_cancelled();
    let (status, body) = match (is_ready, problems) {
        (true, 0) => (StatusCode::OK, json!({"status": "ready"})),
        (true, _) => (StatusCode::OK, json!({"status": "degraded", "problems": problems})),
        (false, _) => {
            let reason = match shared.standing_by.load(Ordering::Relaxed) {
                _ if shared.stop.is_cancelled() => "stopping",
                true => "standing by: another relay reads the slot",
                false => "not caught up with Postgres yet",
            };
            (StatusCode::SERVICE_UNAVAILABLE, json!({"status": "unready", "reason": reason}))
        }
    };
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let alive = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let taken = [
        (&shared.metrics.tasks, alive),
        (&shared.metrics.unread_bytes, shared.unread.bytes()),
        (&shared.metrics.unfinished_bytes, shared.unfinished.bytes()),
    ];
    for (gauge, value) in taken {
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    }
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], shared.metrics.render()).into_response()
}
