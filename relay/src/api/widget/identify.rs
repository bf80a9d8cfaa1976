//! `POST /api/widget/identify`: the visitor of a conversation proves who it is.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use serde::Deserialize;
use utoipa::ToSchema;

use super::bind::{bind, owner, visitor_of};
use super::organization::{Organization, PageOrigin};
use super::session::{Granted, Session};
use crate::api::Api;
use crate::api::caller::Visitor;
use crate::api::database::{Failure, Transaction};
use crate::api::error::{ApiError, Code};
use crate::sql::Mode;

/// A proof of identity.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct IdentifyRequest {
    /// A token that the customer's server has signed: HS256 with the organization's identity secret.
    identity: String,
}

/// Bind the conversation to a verified identity.
///
/// If the conversation has no message yet and the identity has another open one, that one is answered.
#[utoipa::path(
    post,
    path = "/api/widget/identify",
    tag = "widget",
    operation_id = "widgetIdentify",
    request_body = IdentifyRequest,
    responses((status = OK, description = "The conversation to go on with", body = Session))
)]
pub(super) async fn identify(State(api): State<Arc<Api>>, request: Request) -> Result<Response, ApiError> {
    let (head, body) = request.into_parts();
    let visitor = api.caller(&head).await?.visitor()?;
    let IdentifyRequest { identity } = api.body(&head, body).await?;
    let from = PageOrigin::of(&head.headers);
    let (payer, organization, about) = (visitor.payer, visitor.organization, visitor.conversation);
    let granted = api
        .database
        .transact(payer, about, Mode::ReadWrite, move |sql| prove(sql, visitor, from, identity).boxed())
        .await?;
    Ok(Json(api.session(organization, granted)?).into_response())
}

async fn prove(
    sql: &Transaction,
    visitor: Visitor,
    from: PageOrigin,
    identity: String,
) -> Result<Granted, Failure> {
    let organization = Organization::find(sql, visitor.organization, &from).await?;
    let proof = organization.prove(&identity)?;
    let here = visitor.conversation;
    let owner = owner(sql, organization.id, here).await?.ok_or(Code::ConversationNotFound)?;
    let visitor = visitor_of(sql, organization.id, &proof).await?;
    let conversation = match owner {
        Some(owner) if owner == visitor => here,
        Some(_) => return Err(Code::IdentityConflict.into()),
        None => bind(sql, organization.id, here, visitor, &proof).await?,
    };
    Ok(Granted { conversation, resumed: true, verified: true })
}
