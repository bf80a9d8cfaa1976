//! The demo page's server: static files, and tokens for whoever opens the page. Widget and dashboard are the relay's.

use std::sync::Arc;

use anyhow::{Context, Result};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use campfire_tests::{AGENT, ORGANIZATION, layout, port, token};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::node;

/// What the page needs to know.
pub(crate) struct Page {
    pub(crate) relay: String,
    pub(crate) api_key: String,
    pub(crate) jwt_secret: String,
}

/// Where the dashboard gets its tokens.
pub(crate) const TOKEN: &str = "/demo/token";

/// Only this machine's browsers: whoever asks gets an agent's token.
pub(crate) async fn bind(port: Option<u16>) -> Result<TcpListener> {
    let port = match port {
        Some(port) => port,
        None if port::is_free(8090) => 8090,
        None => 0,
    };
    TcpListener::bind(("127.0.0.1", port))
        .await
        .with_context(|| format!("port {port} is taken: choose another by --port"))
}

/// Serves until the listener breaks.
pub(crate) async fn serve(listener: TcpListener, page: Page) -> Result<()> {
    let router = Router::new()
        .route("/", get(|| file("demo/index.html", "text/html; charset=utf-8")))
        .route("/site.html", get(site))
        .route("/site.css", get(|| file("demo/site.css", "text/css")))
        .route("/demo.css", get(|| file("demo/demo.css", "text/css")))
        .route("/demo.js", get(|| file("demo/demo.js", "text/javascript")))
        .route("/supabase.js", get(|| file(SUPABASE, "text/javascript")))
        .route("/demo/session", get(session))
        .route(TOKEN, get(agent_token))
        .with_state(Arc::new(page));
    Ok(axum::serve(listener, router).await?)
}

/// The client's build for browsers, as npm brings it.
const SUPABASE: &str = "node_modules/@supabase/supabase-js/dist/umd/supabase.js";

/// Read at every request, so that an edit shows after a reload.
async fn file(name: &'static str, content_type: &'static str) -> Response {
    match read(name).await {
        Some(bytes) => ([(header::CONTENT_TYPE, content_type)], bytes).into_response(),
        None => (StatusCode::NOT_FOUND, format!("web/{name} is missing")).into_response(),
    }
}

async fn read(name: &'static str) -> Option<Vec<u8>> {
    let path = layout::repository().join(node::WORKSPACE).join(name);
    tokio::task::spawn_blocking(move || std::fs::read(path)).await.ok()?.ok()
}

/// A customer's page, with the line that it needs for the widget.
async fn site(State(page): State<Arc<Page>>) -> Response {
    let Some(text) = read("demo/site.html").await.and_then(|bytes| String::from_utf8(bytes).ok()) else {
        return (StatusCode::NOT_FOUND, "web/demo/site.html is missing").into_response();
    };
    let text = text.replace("RELAY", &page.relay).replace("ORGANIZATION", &ORGANIZATION.to_string());
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response()
}

async fn session(State(page): State<Arc<Page>>) -> Json<Value> {
    Json(json!({"relay": page.relay, "api_key": page.api_key, "organization": ORGANIZATION}))
}

/// As an application answers the dashboard, which is a page of the relay's.
async fn agent_token(State(page): State<Arc<Page>>) -> Response {
    let token = token::agent(&page.jwt_secret, ORGANIZATION, AGENT);
    let readable = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, page.relay.clone()),
        (header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true".to_owned()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    (readable, Json(json!({"token": token}))).into_response()
}
