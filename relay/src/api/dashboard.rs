//! What the dashboard asks: agents of an organization, and the application's own server.

mod change;
mod conversation;
mod list;
mod me;
mod messages;
mod receipt;
mod staff;
mod unread;

use std::sync::Arc;

use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use self::staff::Member;
use super::Api;
use super::database::{Failure, Transaction};
use super::error::{ApiError, Code};
use crate::route::parse_uuid;

pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(me::me))
        .routes(routes!(list::list))
        .routes(routes!(conversation::conversation, change::change))
        .routes(routes!(messages::messages, messages::write))
        .routes(routes!(receipt::read))
        .routes(routes!(unread::unread))
}

/// The conversation that a request's path names. What is no id is no conversation's.
fn conversation_of(path: Result<Path<String>, PathRejection>) -> Result<Uuid, ApiError> {
    let id = path.ok().and_then(|Path(id)| parse_uuid(&id));
    id.ok_or(Code::ConversationNotFound.into())
}

/// Refuses conversations that are not of the member's organization.
async fn require_conversation(sql: &Transaction, member: &Member, id: Uuid) -> Result<(), Failure> {
    let query =
        format!("select from {}.conversations as c where c.organization_id = $1 and c.id = $2", sql.schema);
    let row = sql.query_opt(&query, &[&member.organization, &id]).await?;
    row.map(drop).ok_or(Code::ConversationNotFound.into())
}
