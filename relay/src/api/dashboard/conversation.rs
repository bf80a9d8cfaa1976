//! A conversation as lists show it, and `GET /api/dashboard/conversations/{id}`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use futures_util::FutureExt;
use serde::{Deserialize, Serialize};
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};
use utoipa::ToSchema;
use uuid::Uuid;

use super::conversation_of;
use super::staff::{Member, OrganizationQuery};
use crate::api::Api;
use crate::api::database::{Failure, Transaction};
use crate::api::error::{ApiError, Code};
use crate::api::page::Cursor;
use crate::postgres::Timestamp;

/// A conversation: the columns of its mirror, and what a list shows besides.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Conversation)]
pub(super) struct ConversationRow {
    id: Uuid,
    organization_id: Uuid,
    customer_name: Option<String>,
    customer_email: Option<String>,
    // The database decides what there is.
    #[schema(value_type = Status)]
    status: String,
    #[schema(value_type = Priority)]
    priority: String,
    assignee_id: Option<Uuid>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Timestamp,
    /// Messages of the visitor and of the AI after the agent's own read receipt; for `service_role`, all of them.
    #[schema(minimum = 0)]
    unread: i64,
    /// Whether it belongs to a verified identity.
    verified: bool,
    last_message: Option<LastMessage>,
}

/// The newest message of a conversation.
#[derive(Debug, Serialize, ToSchema)]
struct LastMessage {
    id: Uuid,
    /// Its first 200 characters.
    #[schema(max_length = 200)]
    content: String,
    #[schema(example = "visitor")]
    sender_type: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

/// One conversation.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ConversationAnswer)]
pub(super) struct Answer {
    pub(super) conversation: ConversationRow,
}

/// What is to be done with a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Open,
    Pending,
    Resolved,
    Closed,
}

/// How soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Priority {
    Low,
    Normal,
    High,
    Urgent,
}

impl Status {
    /// As the database has it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Pending => "pending",
            Self::Resolved => "resolved",
            Self::Closed => "closed",
        }
    }
}

impl Priority {
    /// As the database has it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
            Self::Urgent => "urgent",
        }
    }
}

/// One conversation, as the list shows it.
#[utoipa::path(
    get,
    path = "/api/dashboard/conversations/{id}",
    operation_id = "dashboardGetConversation",
    tag = "dashboard",
    params(("id" = Uuid, Path, description = "The conversation"), OrganizationQuery),
    responses((status = OK, description = "The conversation", body = Answer))
)]
pub(super) async fn conversation(
    State(api): State<Arc<Api>>,
    path: Result<Path<String>, PathRejection>,
    organization: Result<Query<OrganizationQuery>, QueryRejection>,
    request: Request,
) -> Result<Json<Answer>, ApiError> {
    let (head, _) = request.into_parts();
    let staff = api.staff(&head, organization).await?;
    let id = conversation_of(path)?;
    let conversation =
        staff.read(&api, move |sql, member| async move { find(sql, &member, id).await }.boxed()).await?;
    Ok(Json(Answer { conversation }))
}

/// A conversation of the member's organization.
pub(super) async fn find(sql: &Transaction, member: &Member, id: Uuid) -> Result<ConversationRow, Failure> {
    let mut selection = Selection::of(member);
    let id = selection.bind(&id, Type::UUID);
    let mut found = selection.read(sql, &format!("and c.id = {id}"), 1).await?;
    found.pop().ok_or(Code::ConversationNotFound.into())
}

/// Conversations that are selected, and the values on which that depends.
pub(super) struct Selection<'a> {
    values: Vec<(&'a (dyn ToSql + Sync), Type)>,
}

impl<'a> Selection<'a> {
    pub(super) fn of(member: &'a Member) -> Self {
        Self { values: vec![(&member.organization, Type::UUID), (&member.user, Type::UUID)] }
    }

    /// How a condition names this value.
    pub(super) fn bind(&mut self, value: &'a (dyn ToSql + Sync), kind: Type) -> String {
        self.values.push((value, kind));
        format!("${}", self.values.len())
    }

    /// Those of the organization that meet the conditions, latest first.
    pub(super) async fn read(
        self,
        sql: &Transaction,
        conditions: &str,
        limit: i64,
    ) -> Result<Vec<ConversationRow>, Failure> {
        let schema = &sql.schema;
        let query = format!(
            "select c.*, unread.count as unread, last.id as last_id, last.content as last_content,
                    last.sender_type as last_sender_type, last.created_at as last_created_at
             from (
               select c.id, c.organization_id, c.customer_name, c.customer_email, c.status::text as status,
                      c.priority::text as priority, c.assignee_id, c.created_at, c.updated_at,
                      c.visitor_id is not null as verified
               from {schema}.conversations as c
               where c.organization_id = $1 {conditions}
               order by c.updated_at desc, c.id limit {limit}
             ) as c
             {unread}
             left join lateral (
               select m.id, pg_catalog.left(m.content, 200) as content, m.sender_type, m.created_at
               from {schema}.messages as m
               where m.organization_id = $1 and m.conversation_id = c.id
               order by m.created_at desc, m.id desc limit 1
             ) as last on true
             order by c.updated_at desc, c.id",
            unread = unread_of(schema)
        );
        let rows = sql.query_typed(&query, &self.values).await?;
        rows.iter().map(|row| Ok(ConversationRow::read(row)?)).collect()
    }
}

/// Joins that say for each conversation `c` of organization `$1` where reader `$2` stands (`seen`), and how many messages
/// are after that (`unread`).
///
/// Where the reader stands is computed apart (offset 0): a comparison with an expression is none that row-level security
/// lets an index make. A receipt whose message is gone stands at its time, as campfire.keep_read_receipt() has it.
pub(super) fn unread_of(schema: &str) -> String {
    format!(
        "cross join lateral (
           select coalesce(m.created_at, r.read_at, '-infinity') as created_at,
                  coalesce(m.id, 'ffffffff-ffff-ffff-ffff-ffffffffffff') as id,
                  r.last_read_message_id, r.read_at
           from (select) as one
           left join {schema}.read_receipts as r
             on r.conversation_id = c.id and r.reader_id = $2 and r.organization_id = $1
           left join {schema}.messages as m
             on m.id = r.last_read_message_id and m.conversation_id = c.id and m.organization_id = $1
           offset 0
         ) as seen
         cross join lateral (
           select pg_catalog.count(*) as count from {schema}.messages as m
           where m.organization_id = $1 and m.conversation_id = c.id and m.sender_type in ('visitor', 'ai')
             and (m.created_at, m.id) > (seen.created_at, seen.id)
         ) as unread"
    )
}

impl ConversationRow {
    fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let last_message = match row.try_get::<_, Option<Uuid>>("last_id")? {
            None => None,
            Some(id) => Some(LastMessage {
                id,
                content: row.try_get("last_content")?,
                sender_type: row.try_get("last_sender_type")?,
                created_at: row.try_get("last_created_at")?,
            }),
        };
        Ok(Self {
            id: row.try_get("id")?,
            organization_id: row.try_get("organization_id")?,
            customer_name: row.try_get("customer_name")?,
            customer_email: row.try_get("customer_email")?,
            status: row.try_get("status")?,
            priority: row.try_get("priority")?,
            assignee_id: row.try_get("assignee_id")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
            unread: row.try_get("unread")?,
            verified: row.try_get("verified")?,
            last_message,
        })
    }

    /// Its place in a list.
    pub(super) fn place(&self) -> Cursor {
        Cursor { time: self.updated_at, id: self.id }
    }
}
