//! `GET` and `POST /api/widget/messages`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use utoipa::ToSchema;
use uuid::Uuid;

use super::organization::{Organization, PageOrigin};
use super::receipt::{Receipt, receipts};
use crate::api::Api;
use crate::api::caller::Visitor;
use crate::api::database::{Failure, Transaction};
use crate::api::error::{ApiError, Code};
use crate::api::messages::{Message, Page, page};
use crate::api::page::{Cursor, PageQuery, query};
use crate::api::text;
use crate::postgres::Timestamp;
use crate::sql::Mode;

/// A message as visitors see it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VisitorMessage {
    id: Uuid,
    conversation_id: Uuid,
    organization_id: Uuid,
    content: String,
    #[schema(example = "agent")]
    sender_type: String,
    sender_name: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl Message for VisitorMessage {
    const COLUMNS: &'static str =
        "id, conversation_id, organization_id, content, sender_type, sender_name, created_at";

    fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            conversation_id: row.try_get("conversation_id")?,
            organization_id: row.try_get("organization_id")?,
            content: row.try_get("content")?,
            sender_type: row.try_get("sender_type")?,
            sender_name: row.try_get("sender_name")?,
            created_at: row.try_get("created_at")?,
        })
    }

    fn place(&self) -> Cursor {
        Cursor { time: self.created_at, id: self.id }
    }
}

/// A conversation as its visitor sees it.
#[derive(Debug, Serialize, ToSchema)]
struct VisitorConversation {
    id: Uuid,
    organization_id: Uuid,
    #[schema(example = "open")]
    status: String,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
}

/// A page of the visitor's conversation.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WidgetPage {
    conversation: VisitorConversation,
    /// Oldest first.
    messages: Vec<VisitorMessage>,
    receipts: Vec<Receipt>,
    /// Of the page with older messages; null if there are none.
    cursor: Option<String>,
}

/// A message to write.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct NewMessage {
    /// Its length in bytes is bounded by CAMPFIRE_MAX_MESSAGE_BYTES. Spaces around it and control characters are left out.
    #[schema(min_length = 1, pattern = r"[^\s\u0000-\u001f\u007f]")]
    content: String,
    /// Chosen by the sender. If the message is sent again with the same key, it is still one.
    #[schema(value_type = Option<String>, format = Uuid, pattern = "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$")]
    client_key: Option<Uuid>,
}

/// The message as it is in the conversation.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WrittenMessage {
    message: VisitorMessage,
}

/// The visitor's conversation, newest messages first to come.
///
/// Without `cursor` the newest messages are answered, with it those before them.
#[utoipa::path(
    get,
    path = "/api/widget/messages",
    tag = "widget",
    operation_id = "widgetListMessages",
    params(PageQuery),
    responses((status = OK, description = "A page of messages", body = WidgetPage))
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    wanted: Result<Query<PageQuery>, QueryRejection>,
    request: Request,
) -> Result<Response, ApiError> {
    let (head, _) = request.into_parts();
    let visitor = api.caller(&head).await?.visitor()?;
    let wanted = query(wanted)?;
    let (limit, before) = (wanted.limit()?, wanted.cursor()?);
    let from = PageOrigin::of(&head.headers);
    let (payer, about) = (visitor.payer, visitor.conversation);
    let found = api
        .database
        .transact(payer, about, Mode::Snapshot, move |sql| {
            read_page(sql, visitor, from, before, limit).boxed()
        })
        .await?;
    Ok(Json(found).into_response())
}

async fn read_page(
    sql: &Transaction,
    visitor: Visitor,
    from: PageOrigin,
    before: Option<Cursor>,
    limit: u32,
) -> Result<WidgetPage, Failure> {
    let Visitor { organization, conversation, credential, .. } = visitor;
    Organization::find(sql, organization, &from).await?;
    sql.become_caller(&credential).await?;
    let query = format!(
        "select c.id, c.organization_id, c.status, c.updated_at from {}.realtime_conversations as c
         where c.organization_id = $1 and c.id = $2",
        sql.schema
    );
    let row = sql.query_opt(&query, &[&organization, &conversation]).await?;
    let row = row.ok_or(Code::ConversationNotFound)?;
    let Page { messages, cursor } = page(sql, organization, conversation, before, limit).await?;
    Ok(WidgetPage {
        conversation: VisitorConversation {
            id: row.try_get("id")?,
            organization_id: row.try_get("organization_id")?,
            status: row.try_get("status")?,
            updated_at: row.try_get("updated_at")?,
        },
        messages,
        receipts: receipts(sql, organization, conversation).await?,
        cursor,
    })
}

/// Write a message as the visitor.
///
/// With `clientKey` the request can be repeated: the message is written once, and its id is the UUIDv5 of the key, in
/// lower case, in the namespace of the conversation's id.
#[utoipa::path(
    post,
    path = "/api/widget/messages",
    tag = "widget",
    operation_id = "widgetWriteMessage",
    request_body = NewMessage,
    responses(
        (status = CREATED, description = "The new message", body = WrittenMessage),
        (status = OK, description = "The message that has this key already", body = WrittenMessage),
    )
)]
pub(super) async fn write(State(api): State<Arc<Api>>, request: Request) -> Result<Response, ApiError> {
    let (head, body) = request.into_parts();
    let visitor = api.caller(&head).await?.visitor()?;
    let NewMessage { content, client_key } = api.body(&head, body).await?;
    let content = text::content(&content, api.settings.message_bytes_max)?;
    let from = PageOrigin::of(&head.headers);
    let (payer, about) = (visitor.payer, visitor.conversation);
    let (status, message) = api
        .database
        .transact(payer, about, Mode::ReadWrite, move |sql| {
            write_message(sql, visitor, from, content, client_key).boxed()
        })
        .await?;
    Ok((status, Json(WrittenMessage { message })).into_response())
}

async fn write_message(
    sql: &Transaction,
    visitor: Visitor,
    from: PageOrigin,
    content: String,
    client_key: Option<Uuid>,
) -> Result<(StatusCode, VisitorMessage), Failure> {
    let Visitor { organization, conversation, credential, .. } = visitor;
    Organization::find(sql, organization, &from).await?;
    sql.become_caller(&credential).await?;
    let (schema, columns) = (&sql.schema, VisitorMessage::COLUMNS);
    // Nothing is inserted if the conversation is not there, or if the message is: which of these, the next one tells. Two
    // that are written at once meet at the index of ids.
    let insert = format!(
        "insert into {schema}.messages
           (conversation_id, organization_id, content, sender_type, sender_name, sender_email, client_key)
         select c.id, c.organization_id, $3, 'visitor', c.customer_name, c.customer_email, $4
         from {schema}.conversations as c where c.organization_id = $1 and c.id = $2
         on conflict do nothing returning {columns}"
    );
    let written = sql.query_opt(&insert, &[&organization, &conversation, &content, &client_key]).await?;
    if let Some(row) = written {
        return Ok((StatusCode::CREATED, VisitorMessage::read(&row)?));
    }
    let again = format!(
        "select {columns} from {schema}.messages as m
         where m.organization_id = $1 and m.conversation_id = $2 and m.id = campfire.message_id($2, $3)"
    );
    let row = sql.query_opt(&again, &[&organization, &conversation, &client_key]).await?;
    Ok((StatusCode::OK, VisitorMessage::read(&row.ok_or(Code::ConversationNotFound)?)?))
}
