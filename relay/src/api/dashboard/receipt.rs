//! `POST /api/dashboard/conversations/{id}/read`, and receipts as agents see them.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use futures_util::FutureExt;
use serde::Serialize;
use tokio_postgres::Row;
use utoipa::ToSchema;
use uuid::Uuid;

use super::staff::{Member, OrganizationQuery};
use super::{conversation_of, require_conversation};
use crate::api::Api;
use crate::api::database::{Failure, Transaction};
use crate::api::error::{ApiError, Code};
use crate::api::receipts::{READERS_MAX, ReadRequest, Reader, read_up_to};
use crate::postgres::Timestamp;

/// How far somebody has read, as agents see it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AgentReceipt)]
pub(super) struct Receipt {
    conversation_id: Uuid,
    #[schema(example = "agent")]
    reader_type: String,
    /// The conversation's id for its visitor, an agent's user id.
    reader_id: Uuid,
    last_read_message_id: Option<Uuid>,
    #[schema(value_type = String, format = DateTime)]
    read_at: Timestamp,
}

/// The agent's own receipt.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AgentRead)]
pub(super) struct ReadAnswer {
    receipt: Receipt,
}

impl Receipt {
    const COLUMNS: &'static str = "conversation_id, reader_type, reader_id, last_read_message_id, read_at";

    fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            conversation_id: row.try_get("conversation_id")?,
            reader_type: row.try_get("reader_type")?,
            reader_id: row.try_get("reader_id")?,
            last_read_message_id: row.try_get("last_read_message_id")?,
            read_at: row.try_get("read_at")?,
        })
    }
}

/// The receipts of a conversation, newest first.
pub(super) async fn receipts(
    sql: &Transaction,
    organization: Uuid,
    conversation: Uuid,
) -> Result<Vec<Receipt>, Failure> {
    let query = format!(
        "select {} from {}.read_receipts as r where r.organization_id = $1 and r.conversation_id = $2
         order by r.read_at desc limit {READERS_MAX}",
        Receipt::COLUMNS,
        sql.schema
    );
    let rows = sql.query(&query, &[&organization, &conversation]).await?;
    Ok(rows.iter().map(Receipt::read).collect::<Result<_, _>>()?)
}

/// Tell how far the agent has read.
///
/// The receipt only goes forward: for a message before the one that it names already, that one is answered. It is the
/// agent's own, whatever device it reads on; `service_role` has none.
#[utoipa::path(
    post,
    path = "/api/dashboard/conversations/{id}/read",
    tag = "dashboard",
    params(("id" = Uuid, Path, description = "The conversation"), OrganizationQuery),
    request_body = ReadRequest,
    responses((status = OK, description = "The receipt as it is now", body = ReadAnswer))
)]
pub(super) async fn read(
    State(api): State<Arc<Api>>,
    path: Result<Path<String>, PathRejection>,
    organization: Result<Query<OrganizationQuery>, QueryRejection>,
    request: Request,
) -> Result<Json<ReadAnswer>, ApiError> {
    let (head, body) = request.into_parts();
    let staff = api.staff(&head, organization).await?;
    let conversation = conversation_of(path)?;
    let ReadRequest { last_read_message_id: message } = api.body(&head, body).await?;
    if !staff.is_agent() {
        return Err(Code::AgentRequired.into());
    }
    let receipt = staff
        .write(&api, conversation, move |sql, member| {
            write_receipt(sql, member, conversation, message).boxed()
        })
        .await?;
    Ok(Json(ReadAnswer { receipt }))
}

async fn write_receipt(
    sql: &Transaction,
    member: Member,
    conversation: Uuid,
    message: Uuid,
) -> Result<Receipt, Failure> {
    require_conversation(sql, &member, conversation).await?;
    let (organization, id) = (member.organization, member.user.ok_or(Code::AgentRequired)?);
    read_up_to(sql, Reader { organization, conversation, kind: "agent", id }, message).await?;
    let own = format!(
        "select {} from {}.read_receipts as r
         where r.organization_id = $1 and r.conversation_id = $2 and r.reader_id = $3",
        Receipt::COLUMNS,
        sql.schema
    );
    Ok(Receipt::read(&sql.query_one(&own, &[&organization, &conversation, &id]).await?)?)
}
