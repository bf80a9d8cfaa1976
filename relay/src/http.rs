//! The edge that speaks HTTP: health, metrics, and the upgrade to a WebSocket.

mod websocket;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::{ApiKeys, ClaimPaths, Keys};
use crate::config::Limits;
use crate::fanout::HubInput;
use crate::metrics::Metrics;

/// What every request and socket may reach.
pub struct Shared {
    pub hub: mpsc::Sender<HubInput>,
    pub limits: Limits,
    pub keys: Keys,
    pub api_keys: ApiKeys,
    /// Where tokens keep the organization and the conversation: a setting of the database, read at each attach.
    pub claim_paths: RwLock<ClaimPaths>,
    pub metrics: Metrics,
    /// True while caught up with Postgres.
    pub ready: watch::Receiver<bool>,
    pub next_socket: AtomicU64,
    pub tasks: TaskTracker,
    pub stop: CancellationToken,
}

impl Shared {
    pub fn claim_paths(&self) -> ClaimPaths {
        self.claim_paths.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// All routes. WebSockets answer at the hosted and at the bare path.
pub fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/realtime/v1/websocket", any(websocket::upgrade))
        .route("/socket/websocket", any(websocket::upgrade))
        .with_state(shared)
}

async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    if *shared.ready.borrow() {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not caught up with Postgres yet\n").into_response()
    }
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let alive = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    shared.metrics.tasks.set(i64::try_from(alive).unwrap_or(i64::MAX));
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], shared.metrics.render()).into_response()
}
