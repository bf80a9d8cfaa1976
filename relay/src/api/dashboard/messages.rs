//! `GET` and `POST /api/dashboard/conversations/{id}/messages`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use utoipa::ToSchema;
use uuid::Uuid;

use super::receipt::{Receipt, receipts};
use super::staff::{Member, OrganizationQuery};
use super::{conversation_of, require_conversation};
use crate::api::Api;
use crate::api::database::{Failure, Transaction};
use crate::api::error::{ApiError, Code};
use crate::api::messages::{Message, Page, page};
use crate::api::page::{Cursor, PageQuery, query};
use crate::api::text;
use crate::postgres::Timestamp;

/// A message as agents see it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AgentMessage {
    id: Uuid,
    conversation_id: Uuid,
    organization_id: Uuid,
    content: String,
    #[schema(example = "visitor")]
    sender_type: String,
    sender_name: Option<String>,
    sender_email: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl Message for AgentMessage {
    const COLUMNS: &'static str =
        "id, conversation_id, organization_id, content, sender_type, sender_name, sender_email, created_at";

    fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            id: row.try_get("id")?,
            conversation_id: row.try_get("conversation_id")?,
            organization_id: row.try_get("organization_id")?,
            content: row.try_get("content")?,
            sender_type: row.try_get("sender_type")?,
            sender_name: row.try_get("sender_name")?,
            sender_email: row.try_get("sender_email")?,
            created_at: row.try_get("created_at")?,
        })
    }

    fn place(&self) -> Cursor {
        Cursor { time: self.created_at, id: self.id }
    }
}

/// A page of a conversation's messages.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DashboardPage {
    /// Oldest first.
    messages: Vec<AgentMessage>,
    receipts: Vec<Receipt>,
    /// Of the page with older messages; null if there are none.
    cursor: Option<String>,
}

/// A message to write.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = NewAgentMessage)]
pub(super) struct NewMessage {
    /// Its length in bytes is bounded by CAMPFIRE_MAX_MESSAGE_BYTES. Spaces around it and control characters are left out.
    #[schema(min_length = 1, pattern = r"[^\s\u0000-\u001f\u007f]")]
    content: String,
    /// Chosen by the sender. If the message is sent again with the same key, it is still one.
    #[schema(value_type = Option<String>, format = Uuid, pattern = "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$")]
    client_key: Option<Uuid>,
    /// For `service_role` alone; `agent` if it is left out.
    sender_type: Option<SenderType>,
    /// For `service_role` alone: agents have their own.
    #[schema(max_length = 255)]
    sender_name: Option<String>,
}

/// As whom the application's own server may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum SenderType {
    Agent,
    Ai,
    System,
}

/// Who sends, as the message says it.
struct Sender {
    kind: SenderType,
    name: Option<String>,
    email: Option<String>,
}

/// The message as it is in the conversation.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WrittenAgentMessage)]
pub(super) struct WrittenMessage {
    message: AgentMessage,
}

impl SenderType {
    /// As the database has it.
    fn word(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Ai => "ai",
            Self::System => "system",
        }
    }
}

/// A conversation's messages, newest ones first to come.
///
/// Without `cursor` the newest messages are answered, with it those before them.
#[utoipa::path(
    get,
    path = "/api/dashboard/conversations/{id}/messages",
    operation_id = "dashboardListMessages",
    tag = "dashboard",
    params(("id" = Uuid, Path, description = "The conversation"), OrganizationQuery, PageQuery),
    responses((status = OK, description = "A page of messages", body = DashboardPage))
)]
pub(super) async fn messages(
    State(api): State<Arc<Api>>,
    path: Result<Path<String>, PathRejection>,
    organization: Result<Query<OrganizationQuery>, QueryRejection>,
    wanted: Result<Query<PageQuery>, QueryRejection>,
    request: Request,
) -> Result<Json<DashboardPage>, ApiError> {
    let (head, _) = request.into_parts();
    let staff = api.staff(&head, organization).await?;
    let conversation = conversation_of(path)?;
    let wanted = query(wanted)?;
    let (limit, before) = (wanted.limit()?, wanted.cursor()?);
    let page = staff
        .read(&api, move |sql, member| read_page(sql, member, conversation, before, limit).boxed())
        .await?;
    Ok(Json(page))
}

async fn read_page(
    sql: &Transaction,
    member: Member,
    conversation: Uuid,
    before: Option<Cursor>,
    limit: u32,
) -> Result<DashboardPage, Failure> {
    require_conversation(sql, &member, conversation).await?;
    let Page { messages, cursor } = page(sql, member.organization, conversation, before, limit).await?;
    let receipts = receipts(sql, member.organization, conversation).await?;
    Ok(DashboardPage { messages, receipts, cursor })
}

/// Write a message as the agent, or as the application's own server.
///
/// With `clientKey` the request can be repeated: the message is written once, and its id is the UUIDv5 of the key, in
/// lower case, in the namespace of the conversation's id.
#[utoipa::path(
    post,
    path = "/api/dashboard/conversations/{id}/messages",
    operation_id = "dashboardWriteMessage",
    tag = "dashboard",
    params(("id" = Uuid, Path, description = "The conversation"), OrganizationQuery),
    request_body = NewMessage,
    responses(
        (status = CREATED, description = "The new message", body = WrittenMessage),
        (status = OK, description = "The message that has this key already", body = WrittenMessage),
    )
)]
pub(super) async fn write(
    State(api): State<Arc<Api>>,
    path: Result<Path<String>, PathRejection>,
    organization: Result<Query<OrganizationQuery>, QueryRejection>,
    request: Request,
) -> Result<(StatusCode, Json<WrittenMessage>), ApiError> {
    let (head, body) = request.into_parts();
    let staff = api.staff(&head, organization).await?;
    let conversation = conversation_of(path)?;
    let NewMessage { content, client_key, sender_type, sender_name } = api.body(&head, body).await?;
    if staff.is_agent() && (sender_type.is_some() || sender_name.is_some()) {
        return Err(Code::SenderNotAllowed.into());
    }
    let content = text::content(&content, api.settings.message_bytes_max)?;
    let name = text::optional("senderName", sender_name)?;
    let kind = sender_type.unwrap_or(SenderType::Agent);
    let (status, message) = staff
        .write(&api, conversation, move |sql, member| {
            let sender = Sender { kind, name: member.display_name.or(name), email: member.email };
            insert(sql, member.organization, conversation, content, client_key, sender).boxed()
        })
        .await?;
    Ok((status, Json(WrittenMessage { message })))
}

async fn insert(
    sql: &Transaction,
    organization: Uuid,
    conversation: Uuid,
    content: String,
    client_key: Option<Uuid>,
    sender: Sender,
) -> Result<(StatusCode, AgentMessage), Failure> {
    let (schema, columns) = (&sql.schema, AgentMessage::COLUMNS);
    // Nothing is inserted if the conversation is not there, or if the message is: which of these, the next one tells. Two
    // that are written at once meet at the index of ids.
    let insert = format!(
        "insert into {schema}.messages
           (conversation_id, organization_id, content, sender_type, sender_name, sender_email, client_key)
         select c.id, c.organization_id, $3, $4, $5, $6, $7
         from {schema}.conversations as c where c.organization_id = $1 and c.id = $2
         on conflict do nothing returning {columns}"
    );
    let Sender { kind, name, email } = sender;
    let written = sql
        .query_opt(
            &insert,
            &[&organization, &conversation, &content, &kind.word(), &name, &email, &client_key],
        )
        .await?;
    if let Some(row) = written {
        return Ok((StatusCode::CREATED, AgentMessage::read(&row)?));
    }
    let again = format!(
        "select {columns} from {schema}.messages as m
         where m.organization_id = $1 and m.conversation_id = $2 and m.id = campfire.message_id($2, $3)"
    );
    let row = sql.query_opt(&again, &[&organization, &conversation, &client_key]).await?;
    Ok((StatusCode::OK, AgentMessage::read(&row.ok_or(Code::ConversationNotFound)?)?))
}
