//! `GET /api/dashboard/unread`: how far the agent has read, on whatever device, and what it has not.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use tokio_postgres::types::Type;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::conversation::unread_of;
use super::staff::{Member, OrganizationQuery};
use crate::api::Api;
use crate::api::database::{Failure, Transaction};
use crate::api::error::ApiError;
use crate::api::page::{LIMIT_MAX, query};
use crate::postgres::Timestamp;
use crate::route::parse_uuid;

/// Of which conversations.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Their ids, with commas in between.
    #[param(value_type = Vec<Uuid>, style = Form, explode = false, min_items = 1, max_items = 200)]
    conversations: Ids,
}

/// Ids, with commas in between.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Ids(Vec<Uuid>);

impl TryFrom<String> for Ids {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let ids: Option<Vec<Uuid>> = text.split(',').map(parse_uuid).collect();
        let ids = ids.filter(|ids| ids.len() <= LIMIT_MAX as usize);
        ids.map(Self).ok_or_else(|| format!("expected 1 to {LIMIT_MAX} ids, with commas in between"))
    }
}

/// What is unread.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Unread)]
pub(super) struct Answer {
    /// In no order. What is no conversation of the organization is left out.
    conversations: Vec<Unread>,
}

/// What is unread of a conversation.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = UnreadConversation)]
struct Unread {
    conversation_id: Uuid,
    /// As in the list.
    #[schema(minimum = 0)]
    unread: i64,
    /// Of the agent's own receipt.
    last_read_message_id: Option<Uuid>,
    #[schema(value_type = Option<String>, format = DateTime)]
    read_at: Option<Timestamp>,
}

impl Unread {
    fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            conversation_id: row.try_get("conversation_id")?,
            unread: row.try_get("unread")?,
            last_read_message_id: row.try_get("last_read_message_id")?,
            read_at: row.try_get("read_at")?,
        })
    }
}

/// What is unread, and the agent's own receipts.
///
/// A receipt is the same on all of the agent's devices, and its events tell nobody whose it is: what one device has read,
/// the others learn here.
#[utoipa::path(
    get,
    path = "/api/dashboard/unread",
    operation_id = "dashboardUnread",
    tag = "dashboard",
    params(OrganizationQuery, Wanted),
    responses((status = OK, description = "The conversations that there are", body = Answer))
)]
pub(super) async fn unread(
    State(api): State<Arc<Api>>,
    organization: Result<Query<OrganizationQuery>, QueryRejection>,
    wanted: Result<Query<Wanted>, QueryRejection>,
    request: Request,
) -> Result<Json<Answer>, ApiError> {
    let (head, _) = request.into_parts();
    let staff = api.staff(&head, organization).await?;
    let Wanted { conversations: Ids(ids) } = query(wanted)?;
    let conversations =
        staff.read(&api, move |sql, member| async move { count(sql, &member, &ids).await }.boxed()).await?;
    Ok(Json(Answer { conversations }))
}

async fn count(sql: &Transaction, member: &Member, ids: &Vec<Uuid>) -> Result<Vec<Unread>, Failure> {
    let schema = &sql.schema;
    let query = format!(
        "select c.id as conversation_id, unread.count as unread, seen.last_read_message_id, seen.read_at
         from {schema}.conversations as c {}
         where c.organization_id = $1 and c.id = any ($3)",
        unread_of(schema)
    );
    let values = [
        (&member.organization as _, Type::UUID),
        (&member.user as _, Type::UUID),
        (ids as _, Type::UUID_ARRAY),
    ];
    let rows = sql.query_typed(&query, &values).await?;
    Ok(rows.iter().map(Unread::read).collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_ids_are_ids_with_commas() {
        let read = |text: String| Ids::try_from(text).ok();
        let id = |number| Uuid::from_u128(number);
        let text =
            |count: u128| (1..=count).map(|number| id(number).to_string()).collect::<Vec<_>>().join(",");
        assert_eq!(read(text(1)), Some(Ids(vec![id(1)])));
        assert_eq!(read(text(200)).map(|Ids(ids)| ids.len()), Some(200));
        for text in [text(201), String::new(), ",".to_owned(), format!("{},", id(1)), "x".to_owned()] {
            assert_eq!(read(text), None);
        }
    }
}
