//! The edge that speaks HTTP: health, metrics, and the upgrade to a WebSocket.

mod bearer;
mod body;
mod broadcast;
mod cors;
mod forwarded;
mod listen_address;
mod listener;
mod lobby;
mod metrics;
mod opening;
mod peer;
mod refusals;
mod seldom;
mod server;
mod websocket;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

pub(crate) use self::bearer::bearer;
pub(crate) use self::body::BodyError;
pub use self::forwarded::{ForwardedHeader, ProxySettings};
pub(crate) use self::listener::Listeners;
pub use self::listener::{ListenSettings, Listener};
pub(crate) use self::lobby::Lobby;
pub use self::lobby::LobbyLimits;
pub use self::metrics::HttpMetrics;
pub(crate) use self::opening::Strangers;
pub(crate) use self::refusals::Refusals;
pub(crate) use self::seldom::Seldom;
pub(crate) use self::server::{receive, serve};
use crate::admission::Admission;
use crate::fanout::{HubInput, HubSettings};
use crate::ingest;
use crate::metrics::{Registry, render};
use crate::socket::Sockets;

/// How the edge is reached, and what it bears.
#[derive(Clone, Debug, clap::Args)]
pub struct HttpSettings {
    #[command(flatten)]
    pub listen: ListenSettings,

    #[command(flatten)]
    pub proxies: ProxySettings,

    #[command(flatten)]
    pub lobby: LobbyLimits,
}

/// What every request may reach.
pub struct Shared {
    pub hub: mpsc::Sender<HubInput>,
    pub hub_settings: HubSettings,
    pub proxies: ProxySettings,
    pub admission: Arc<Admission>,
    pub sockets: Arc<Sockets>,
    pub metrics: HttpMetrics,
    /// All figures.
    pub registry: Registry,
    /// True while caught up with Postgres.
    pub ready: watch::Receiver<bool>,
    pub ingest: watch::Receiver<ingest::Status>,
    /// Connections before they are sockets.
    pub(crate) lobby: Arc<Lobby>,
    /// Bound the log lines that strangers cause.
    pub(crate) refusals: Refusals,
    pub(crate) strangers: Arc<Strangers>,
    pub stop: CancellationToken,
}

/// All routes, and those that others have made. WebSockets answer at the hosted and at the bare path.
pub fn router(shared: Arc<Shared>, with_health: bool, others: Router) -> Router {
    let router = Router::new()
        .route("/realtime/v1/api/broadcast", post(broadcast::batch))
        .route("/api/broadcast", post(broadcast::batch))
        .route("/realtime/v1/api/broadcast/{topic}/events/{event}", post(broadcast::single))
        .route("/api/broadcast/{topic}/events/{event}", post(broadcast::single))
        .route("/realtime/v1/websocket", any(websocket::upgrade))
        .route("/socket/websocket", any(websocket::upgrade));
    let router = if with_health { router.merge(health()) } else { router };
    router.with_state(shared).merge(others).layer(middleware::from_fn(cors::cors))
}

/// What monitoring asks for, and nothing that clients need.
pub fn health_router(shared: Arc<Shared>) -> Router {
    health().with_state(shared)
}

fn health() -> Router<Arc<Shared>> {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape))
}

/// `degraded` is ready, too: clients that are not concerned are served, and a balancer that took the relay away would end
/// that. Without names of tables, because anybody may ask.
async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    let ingest::Status { standing_by, problems } = *shared.ingest.borrow();
    // What is on its way out takes nobody new.
    let is_ready = *shared.ready.borrow() && !shared.stop.is_cancelled();
    let (status, body) = match (is_ready, problems) {
        (true, 0) => (StatusCode::OK, json!({"status": "ready"})),
        (true, _) => (StatusCode::OK, json!({"status": "degraded", "problems": problems})),
        (false, _) => {
            let reason = match standing_by {
                _ if shared.stop.is_cancelled() => "stopping",
                true => "standing by: another relay reads the slot",
                false => "not caught up with Postgres yet",
            };
            (StatusCode::SERVICE_UNAVAILABLE, json!({"status": "unready", "reason": reason}))
        }
    };
    (status, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

async fn scrape(State(shared): State<Arc<Shared>>) -> Response {
    let alive = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let taken = [
        (&shared.metrics.tasks, alive),
        (&shared.sockets.metrics.unread_bytes, shared.sockets.unread.bytes()),
        (&shared.sockets.metrics.unfinished_bytes, shared.sockets.unfinished.bytes()),
    ];
    for (gauge, value) in taken {
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    }
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], render(&shared.registry)).into_response()
}
