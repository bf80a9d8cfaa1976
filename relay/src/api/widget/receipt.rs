//! `POST /api/widget/read`, and receipts as visitors see them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use serde::Serialize;
use tokio_postgres::Row;
use utoipa::ToSchema;
use uuid::Uuid;

use super::organization::{Organization, PageOrigin};
use crate::api::Api;
use crate::api::caller::Visitor;
use crate::api::database::{Failure, Transaction};
use crate::api::error::{ApiError, Code};
use crate::api::receipts::{READERS_MAX, ReadRequest, Reader, read_up_to};
use crate::postgres::Timestamp;
use crate::sql::Mode;

/// How far somebody has read, as visitors see it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = VisitorReceipt)]
pub(super) struct Receipt {
    conversation_id: Uuid,
    #[schema(example = "agent")]
    reader_type: String,
    last_read_message_id: Option<Uuid>,
    #[schema(value_type = String, format = DateTime)]
    read_at: Timestamp,
}

/// The visitor's own receipt.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = VisitorRead)]
pub(super) struct ReadAnswer {
    receipt: Receipt,
}

impl Receipt {
    const COLUMNS: &'static str = "conversation_id, reader_type, last_read_message_id, read_at";

    fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            conversation_id: row.try_get("conversation_id")?,
            reader_type: row.try_get("reader_type")?,
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

/// Tell how far the visitor has read.
///
/// The receipt only goes forward: for a message before the one that it names already, that one is answered.
#[utoipa::path(
    post,
    path = "/api/widget/read",
    tag = "widget",
    operation_id = "widgetRead",
    request_body = ReadRequest,
    responses((status = OK, description = "The receipt as it is now", body = ReadAnswer))
)]
pub(super) async fn read(State(api): State<Arc<Api>>, request: Request) -> Result<Response, ApiError> {
    let (head, body) = request.into_parts();
    let visitor = api.caller(&head).await?.visitor()?;
    let ReadRequest { last_read_message_id } = api.body(&head, body).await?;
    let from = PageOrigin::of(&head.headers);
    let (payer, about) = (visitor.payer, visitor.conversation);
    let receipt = api
        .database
        .transact(payer, about, Mode::ReadWrite, move |sql| {
            write_receipt(sql, visitor, from, last_read_message_id).boxed()
        })
        .await?;
    Ok(Json(ReadAnswer { receipt }).into_response())
}

async fn write_receipt(
    sql: &Transaction,
    visitor: Visitor,
    from: PageOrigin,
    message: Uuid,
) -> Result<Receipt, Failure> {
    let Visitor { organization, conversation, credential, .. } = visitor;
    Organization::find(sql, organization, &from).await?;
    sql.become_caller(&credential).await?;
    let query =
        format!("select from {}.conversations as c where c.organization_id = $1 and c.id = $2", sql.schema);
    sql.query_opt(&query, &[&organization, &conversation]).await?.ok_or(Code::ConversationNotFound)?;
    let reader = Reader { organization, conversation, kind: "visitor", id: conversation };
    read_up_to(sql, reader, message).await?;
    let own = format!(
        "select {} from {}.read_receipts as r
         where r.organization_id = $1 and r.conversation_id = $2 and r.reader_type = 'visitor'",
        Receipt::COLUMNS,
        sql.schema
    );
    Ok(Receipt::read(&sql.query_one(&own, &[&organization, &conversation]).await?)?)
}
