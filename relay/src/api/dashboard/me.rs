//! `GET /api/dashboard/me`: what a dashboard has to know before all else.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use futures_util::FutureExt;
use serde::Serialize;
use tokio_postgres::types::Type;
use utoipa::ToSchema;
use uuid::Uuid;

use super::staff::{Member, OrganizationQuery};
use crate::api::Api;
use crate::api::database::{Failure, Transaction};
use crate::api::error::ApiError;
use crate::route::Topic;

/// Most agents that are listed: those who are active first, then by name.
const AGENTS_MAX: u32 = 1_000;

/// The organization, who asks, and what sockets need.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Me {
    organization: OrganizationRow,
    /// Null for `service_role`.
    agent: Option<OwnRow>,
    /// Everybody to whom a conversation may be, or was, assigned: at most 1,000.
    agents: Vec<AgentRow>,
    /// With which a socket connects; null if the relay has none.
    api_key: Option<String>,
    channels: Channels,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Organization)]
struct OrganizationRow {
    id: Uuid,
    name: String,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Self)]
struct OwnRow {
    user_id: Uuid,
    display_name: String,
    email: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Agent)]
struct AgentRow {
    user_id: Uuid,
    display_name: String,
    active: bool,
}

/// Names of the organization's channels.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OrganizationChannels)]
struct Channels {
    #[schema(example = "org:00000000-0000-4000-8000-000000000001")]
    organization: String,
    #[schema(example = "org:00000000-0000-4000-8000-000000000001:conversations")]
    conversations: String,
}

/// The organization, its agents, and who asks.
#[utoipa::path(
    get,
    path = "/api/dashboard/me",
    tag = "dashboard",
    params(OrganizationQuery),
    responses((status = OK, description = "What a dashboard has to know", body = Me))
)]
pub(super) async fn me(
    State(api): State<Arc<Api>>,
    organization: Result<Query<OrganizationQuery>, QueryRejection>,
    request: Request,
) -> Result<Json<Me>, ApiError> {
    let (head, _) = request.into_parts();
    let staff = api.staff(&head, organization).await?;
    let (member, agents) = staff
        .read(&api, |sql, member| {
            async move {
                let agents = agents(sql, &member).await?;
                Ok((member, agents))
            }
            .boxed()
        })
        .await?;
    let Member { organization: id, organization_name: name, user, display_name, email } = member;
    Ok(Json(Me {
        organization: OrganizationRow { id, name },
        agent: user.zip(display_name).map(|(user_id, display_name)| OwnRow { user_id, display_name, email }),
        agents,
        api_key: api.edge.admission.verifier.api_keys.publishable().map(str::to_owned),
        channels: Channels {
            organization: Topic::channel_organization(id).to_string(),
            conversations: Topic::channel_conversations(id).to_string(),
        },
    }))
}

async fn agents(sql: &Transaction, member: &Member) -> Result<Vec<AgentRow>, Failure> {
    let query = format!(
        "select a.user_id, a.display_name, a.active from {}.agents as a where a.organization_id = $1
         order by a.active desc, a.display_name, a.user_id limit {AGENTS_MAX}",
        sql.schema
    );
    let rows = sql.query_typed(&query, &[(&member.organization, Type::UUID)]).await?;
    let agents = rows.iter().map(|row| {
        Ok(AgentRow { user_id: row.try_get(0)?, display_name: row.try_get(1)?, active: row.try_get(2)? })
    });
    agents.collect()
}
