//! The demo page's server: static files, and endpoints that write and read as
//! visitor and agent. They never broadcast: they insert, and the WAL does the rest.

use std::sync::Arc;

use anyhow::{Context, Result};
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use campfire_tests::chat::Caller;
use campfire_tests::{AGENT, ORGANIZATION, cluster, layout, port, token};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::node;

/// What the page needs to know, and what its endpoints work with.
pub(crate) struct Page {
    pub(crate) relay: String,
    pub(crate) api_key: String,
    pub(crate) jwt_secret: String,
    pub(crate) database: String,
    /// The one the widget is bound to.
    pub(crate) conversation: Uuid,
}

impl Page {
    fn visitor(&self) -> Caller {
        Caller::Visitor { organization: ORGANIZATION, conversation: self.conversation }
    }

    fn agent() -> Caller {
        Caller::Agent { organization: ORGANIZATION, user: AGENT }
    }
}

/// Only this machine's browsers: the endpoints act for anybody who asks.
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
        .route("/demo.css", get(|| file("demo/demo.css", "text/css")))
        .route("/demo.js", get(|| file("demo/demo.js", "text/javascript")))
        .route("/supabase.js", get(|| file(SUPABASE, "text/javascript")))
        .route("/demo/session", get(session))
        .route("/demo/widget/messages", get(widget_messages).post(widget_send))
        .route("/demo/dashboard/conversations", get(conversations))
        .route("/demo/dashboard/messages", get(dashboard_messages).post(dashboard_send))
        .with_state(Arc::new(page));
    Ok(axum::serve(listener, router).await?)
}

/// The client's build for browsers, as npm brings it.
const SUPABASE: &str = "node_modules/@supabase/supabase-js/dist/umd/supabase.js";

/// Read at every request, so that an edit shows after a reload.
async fn file(name: &'static str, content_type: &'static str) -> Response {
    let path = layout::repository().join(node::WORKSPACE).join(name);
    match tokio::task::spawn_blocking(move || std::fs::read(path)).await {
        Ok(Ok(bytes)) => ([(header::CONTENT_TYPE, content_type)], bytes).into_response(),
        _ => (StatusCode::NOT_FOUND, format!("web/{name} is missing")).into_response(),
    }
}

async fn session(State(page): State<Arc<Page>>) -> Json<Value> {
    Json(json!({
        "relay": page.relay,
        "api_key": page.api_key,
        "organization": ORGANIZATION,
        "conversation": page.conversation,
        "visitor_token": token::visitor(&page.jwt_secret, ORGANIZATION, page.conversation),
        "agent_token": token::agent(&page.jwt_secret, ORGANIZATION, AGENT),
    }))
}

#[derive(Deserialize)]
struct Message {
    content: String,
    conversation: Option<Uuid>,
}

#[derive(Deserialize)]
struct Which {
    conversation: Uuid,
}

async fn widget_send(
    State(page): State<Arc<Page>>,
    Json(message): Json<Message>,
) -> Result<Json<Value>, Refusal> {
    let mut database = cluster::connect(&page.database).await?;
    let id = page.visitor().write(&mut database, page.conversation, &message.content).await?;
    Ok(Json(json!({"id": id})))
}

async fn dashboard_send(
    State(page): State<Arc<Page>>,
    Json(message): Json<Message>,
) -> Result<Json<Value>, Refusal> {
    let mut database = cluster::connect(&page.database).await?;
    let conversation = message.conversation.unwrap_or(page.conversation);
    let id = Page::agent().write(&mut database, conversation, &message.content).await?;
    Ok(Json(json!({"id": id})))
}

async fn widget_messages(State(page): State<Arc<Page>>) -> Result<Json<Value>, Refusal> {
    messages(&page, page.visitor(), page.conversation).await
}

async fn dashboard_messages(
    State(page): State<Arc<Page>>,
    Query(which): Query<Which>,
) -> Result<Json<Value>, Refusal> {
    messages(&page, Page::agent(), which.conversation).await
}

async fn messages(page: &Page, caller: Caller, conversation: Uuid) -> Result<Json<Value>, Refusal> {
    query(
        page,
        caller,
        "select coalesce(json_agg(m order by m.created_at, m.id), '[]')
         from (select id, conversation_id, content, sender_type, sender_name, created_at
               from messages where conversation_id = $1) m",
        &[&conversation],
    )
    .await
}

async fn conversations(State(page): State<Arc<Page>>) -> Result<Json<Value>, Refusal> {
    query(
        &page,
        Page::agent(),
        "select coalesce(json_agg(c order by c.updated_at desc), '[]')
         from (select id, customer_name, status, updated_at from conversations
               order by updated_at desc limit 20) c",
        &[],
    )
    .await
}

/// One JSON value, as this caller may see it.
async fn query(
    page: &Page,
    caller: Caller,
    statement: &str,
    parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)],
) -> Result<Json<Value>, Refusal> {
    let mut database = cluster::connect(&page.database).await?;
    let transaction = caller.begin(&mut database).await?;
    let row = transaction.query_one(statement, parameters).await.map_err(anyhow::Error::from)?;
    Ok(Json(row.get(0)))
}

/// What the database refused; the page shows the text.
struct Refusal(anyhow::Error);

impl From<anyhow::Error> for Refusal {
    fn from(error: anyhow::Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        eprintln!("refused: {:#}", self.0);
        let body = json!({"error": format!("{:#}", self.0)});
        (StatusCode::BAD_REQUEST, Json(body)).into_response()
    }
}
