//! `PATCH /api/dashboard/conversations/{id}`: status, priority, assignee, and what the customer is called.

use std::fmt::Write;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use futures_util::FutureExt;
use serde::{Deserialize, Deserializer};
use tokio_postgres::types::{ToSql, Type};
use utoipa::ToSchema;
use uuid::Uuid;

use super::conversation::{Answer, Priority, Status, find};
use super::conversation_of;
use super::staff::{Member, OrganizationQuery};
use crate::api::Api;
use crate::api::database::{Failure, Transaction};
use crate::api::error::{ApiError, Code};
use crate::api::text::optional;

/// What is to change; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    status: Option<Status>,
    priority: Option<Priority>,
    /// An active agent of the organization; null for nobody.
    #[serde(default, deserialize_with = "told")]
    #[schema(value_type = Option<Uuid>)]
    assignee_id: Option<Option<Uuid>>,
    /// Null for none.
    #[serde(default, deserialize_with = "told")]
    #[schema(value_type = Option<String>, max_length = 255)]
    customer_name: Option<Option<String>>,
    /// Null for none.
    #[serde(default, deserialize_with = "told")]
    #[schema(value_type = Option<String>, max_length = 255)]
    customer_email: Option<Option<String>>,
}

/// A value that is there, even if it is null: another thing than one that is left out.
fn told<'de, D: Deserializer<'de>, T: Deserialize<'de>>(value: D) -> Result<Option<T>, D::Error> {
    T::deserialize(value).map(Some)
}

/// Change a conversation.
///
/// If something is different then, `updated_at` rises, and all who watch the conversation get one event.
#[utoipa::path(
    patch,
    path = "/api/dashboard/conversations/{id}",
    tag = "dashboard",
    params(("id" = Uuid, Path, description = "The conversation"), OrganizationQuery),
    request_body = Change,
    responses((status = OK, description = "The conversation as it is now", body = Answer))
)]
pub(super) async fn change(
    State(api): State<Arc<Api>>,
    path: Result<Path<String>, PathRejection>,
    organization: Result<Query<OrganizationQuery>, QueryRejection>,
    request: Request,
) -> Result<Json<Answer>, ApiError> {
    let (head, body) = request.into_parts();
    let staff = api.staff(&head, organization).await?;
    let id = conversation_of(path)?;
    let mut change: Change = api.body(&head, body).await?;
    for (name, value) in
        [("customer_name", &mut change.customer_name), ("customer_email", &mut change.customer_email)]
    {
        if let Some(value) = value {
            *value = optional(name, value.take())?;
        }
    }
    let conversation = staff
        .write(&api, id, move |sql, member| {
            async move {
                change.apply(sql, &member, id).await?;
                find(sql, &member, id).await
            }
            .boxed()
        })
        .await?;
    Ok(Json(Answer { conversation }))
}

impl Change {
    async fn apply(&self, sql: &Transaction, member: &Member, id: Uuid) -> Result<(), Failure> {
        let Self { status, priority, assignee_id, customer_name, customer_email } = self;
        if let Some(Some(assignee)) = assignee_id {
            require_agent(sql, member, *assignee).await?;
        }
        let mut values: Vec<(&(dyn ToSql + Sync), Type)> =
            vec![(&member.organization, Type::UUID), (&id, Type::UUID)];
        let mut columns: Vec<(&str, String)> = Vec::new();
        columns.extend(status.map(|status| ("status", format!("'{}'", status.word()))));
        columns.extend(priority.map(|priority| ("priority", format!("'{}'", priority.word()))));
        let mut bind = |column, value, kind| {
            values.push((value, kind));
            columns.push((column, format!("${}", values.len())));
        };
        if let Some(assignee) = assignee_id {
            bind("assignee_id", assignee, Type::UUID);
        }
        if let Some(name) = customer_name {
            bind("customer_name", name, Type::TEXT);
        }
        if let Some(email) = customer_email {
            bind("customer_email", email, Type::TEXT);
        }
        if columns.is_empty() {
            return Ok(());
        }
        let (mut assignments, mut differences) = (String::new(), String::new());
        for (column, value) in columns {
            write!(assignments, "{column} = {value}, ").expect("a string takes all");
            write!(differences, " or c.{column} is distinct from {value}").expect("a string takes all");
        }
        // What changes nothing is no event.
        let update = format!(
            "update {}.conversations as c set {assignments}
                    updated_at = greatest(c.updated_at, pg_catalog.clock_timestamp())
             where c.organization_id = $1 and c.id = $2 and (false{differences})",
            sql.schema
        );
        sql.query_typed(&update, &values).await?;
        Ok(())
    }
}

/// Only who can work on a conversation is given one.
async fn require_agent(sql: &Transaction, member: &Member, user: Uuid) -> Result<(), Failure> {
    let query = format!(
        "select from {}.agents as a where a.organization_id = $1 and a.user_id = $2 and a.active",
        sql.schema
    );
    let values: [(&(dyn ToSql + Sync), Type); 2] = [(&member.organization, Type::UUID), (&user, Type::UUID)];
    if sql.query_typed(&query, &values).await?.is_empty() {
        return Err(Code::AssigneeInvalid.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn null_is_another_thing_than_nothing() {
        let read = |value| serde_json::from_value::<Change>(value).map(|change| change.assignee_id);
        let id = Uuid::from_u128(7);
        assert_eq!(read(json!({})).unwrap(), None);
        assert_eq!(read(json!({"assignee_id": null})).unwrap(), Some(None));
        assert_eq!(read(json!({"assignee_id": id})).unwrap(), Some(Some(id)));
        for value in [json!({"assigneeId": id}), json!({"status": "gone"}), json!({"assignee_id": 7})] {
            assert!(read(value.clone()).is_err(), "{value}");
        }
    }
}
