//! `POST /api/widget/auth`: a conversation to begin with, or to go on with.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use super::bind::{bind, give, is_known, open_conversation, owner, visitor_of};
use super::organization::{Organization, PageOrigin};
use super::session::{Granted, Session};
use crate::admission::Origin;
use crate::api::Api;
use crate::api::database::{Failure, Transaction};
use crate::api::error::{ApiError, Code};
use crate::api::text::{optional, storable};
use crate::auth::{Account, ConnectError, Credential, Payer, Proof, Role};
use crate::sql::Mode;

/// Who wants to chat.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct AuthRequest {
    organization_id: Uuid,
    /// The token that the widget had: it goes on with its conversation. It may have expired, but not too long ago.
    token: Option<String>,
    /// A token that the customer's server has signed: HS256 with the organization's identity secret.
    identity: Option<String>,
    /// How the visitor wants to be called.
    #[schema(max_length = 255)]
    name: Option<String>,
    #[schema(max_length = 255)]
    email: Option<String>,
    /// What agents should know, such as the page: kept in `metadata` of a new conversation.
    #[schema(value_type = Option<Object>)]
    context: Option<Map<String, Value>>,
    /// Whether a conversation is begun if there is none to go on with.
    #[serde(default = "yes")]
    #[schema(default = true)]
    create: bool,
}

fn yes() -> bool {
    true
}

/// What is asked for, once everything about it was checked that needs no database.
struct Wish {
    page: PageOrigin,
    organization: Uuid,
    /// Of the token.
    conversation: Option<Uuid>,
    identity: Option<String>,
    name: Option<String>,
    email: Option<String>,
    context: Option<Value>,
    create: bool,
    /// What a new conversation would be, and its visitor's credential.
    fresh: (Uuid, Credential),
}

/// Begin a conversation, or go on with one.
///
/// A conversation is resumed by the token that the widget had or by a verified identity, never by an id. A new one is
/// otherwise begun, unless `create` is false. The identity decides where both are given: a conversation of another
/// identity is left alone.
#[utoipa::path(
    post,
    path = "/api/widget/auth",
    tag = "widget",
    operation_id = "widgetAuth",
    security(()),
    request_body = AuthRequest,
    responses(
        (status = OK, description = "A conversation that was there before", body = Session),
        (status = CREATED, description = "A new conversation", body = Session),
        (status = NO_CONTENT, description = "There is no conversation, and none is to be created"),
    )
)]
pub(super) async fn auth(State(api): State<Arc<Api>>, request: Request) -> Result<Response, ApiError> {
    let (head, body) = request.into_parts();
    let origin = api.let_in(&head)?;
    if !api.rates.admit_auth(origin, Instant::now()) {
        return Err(Code::RateLimited.into());
    }
    let request: AuthRequest = api.body(&head, body).await?;
    let wish = wish(&api, origin, PageOrigin::of(&head.headers), request)?;
    let organization = wish.organization;
    let account = Account::Address(origin.address());
    let payer = Payer { account, member: account };
    let about = wish.conversation.unwrap_or(wish.fresh.0);
    let granted =
        api.database.transact(payer, about, Mode::ReadWrite, |sql| grant(sql, wish).boxed()).await?;
    let Some(granted) = granted else { return Ok(StatusCode::NO_CONTENT.into_response()) };
    let status = if granted.resumed { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Json(api.session(organization, granted)?)).into_response())
}

fn wish(api: &Api, origin: Origin, page: PageOrigin, request: AuthRequest) -> Result<Wish, ApiError> {
    let AuthRequest { organization_id: organization, token, identity, name, email, context, create } =
        request;
    let conversation = match token {
        None => None,
        Some(token) => match resumable(api, origin, &token, organization) {
            Ok(conversation) => Some(conversation),
            // A verified identity needs no token.
            Err(error) if error.code == Code::TokenInvalid && identity.is_some() => None,
            Err(error) => return Err(error),
        },
    };
    let id = Uuid::new_v4();
    let token = api.mint(organization, id)?;
    let claims = api.edge.admission.verifier.read_late(&token.text, Duration::ZERO);
    let credential = Credential::Token(Arc::new(claims.map_err(|_| Code::NotConfigured)?));
    Ok(Wish {
        page,
        organization,
        conversation,
        identity,
        name: optional("name", name)?,
        email: optional("email", email)?,
        context: context.map(|context| storable(Value::Object(context))),
        create,
        fresh: (id, credential),
    })
}

/// The conversation of a token that can be exchanged for another.
fn resumable(api: &Api, origin: Origin, token: &str, organization: Uuid) -> Result<Uuid, ApiError> {
    let claims = match api.edge.admission.read_late(origin, token, api.settings.resume_age_max()) {
        Ok(claims) => claims,
        Err(ConnectError::TooManyRefused) => return Err(Code::RateLimited.into()),
        Err(_) => return Err(Code::TokenInvalid.into()),
    };
    let is_theirs = claims.role == Role::Anon && claims.organization == Some(organization);
    Ok(claims.conversation.filter(|_| is_theirs).ok_or(Code::TokenInvalid)?)
}

/// None: there is no conversation, and none is wanted.
async fn grant(sql: &Transaction, wish: Wish) -> Result<Option<Granted>, Failure> {
    let organization = Organization::find(sql, wish.organization, &wish.page).await?;
    let proof = wish.identity.as_deref().map(|identity| organization.prove(identity)).transpose()?;
    let Some(proof) = proof else {
        let Some(conversation) = wish.conversation else {
            if organization.requires_identity {
                return Err(Code::IdentityRequired.into());
            }
            return if wish.create { begin(sql, wish, None).await.map(Some) } else { Ok(None) };
        };
        let owner = owner(sql, organization.id, conversation).await?.ok_or(Code::ConversationNotFound)?;
        if organization.requires_identity && owner.is_none() {
            return Err(Code::IdentityRequired.into());
        }
        return Ok(Some(Granted { conversation, resumed: true, verified: owner.is_some() }));
    };
    let owned = match wish.conversation {
        Some(conversation) => {
            owner(sql, organization.id, conversation).await?.map(|owner| (conversation, owner))
        }
        None => None,
    };
    // Many customers log in and never chat: who only looks leaves nothing behind.
    let is_bound = matches!(owned, Some((_, None)));
    if !wish.create && !is_bound && !is_known(sql, organization.id, &proof).await? {
        return Ok(None);
    }
    let visitor = visitor_of(sql, organization.id, &proof).await?;
    let found = match owned {
        Some((conversation, Some(owner))) if owner == visitor => Some(conversation),
        Some((conversation, None)) => Some(bind(sql, organization.id, conversation, visitor, &proof).await?),
        _ => open_conversation(sql, organization.id, visitor).await?,
    };
    match found {
        Some(conversation) => Ok(Some(Granted { conversation, resumed: true, verified: true })),
        None if wish.create => begin(sql, wish, Some((visitor, proof))).await.map(Some),
        None => Ok(None),
    }
}

impl Organization {
    /// Whom an identity token is about.
    pub(super) fn prove(&self, identity: &str) -> Result<Proof, ApiError> {
        Proof::read(identity, &self.identity_secrets, SystemTime::now())
            .map_err(|error| ApiError::because(Code::IdentityInvalid, error.to_string()))
    }
}

/// A new conversation, written by its visitor.
async fn begin(sql: &Transaction, wish: Wish, owner: Option<(Uuid, Proof)>) -> Result<Granted, Failure> {
    let Wish { organization, name, email, context, fresh: (conversation, credential), .. } = wish;
    let proven = owner.as_ref().map(|(_, proof)| proof);
    let name = proven.and_then(|proof| proof.name.clone()).or(name);
    let email = proven.and_then(|proof| proof.email.clone()).or(email);
    sql.become_caller(&credential).await?;
    let insert = format!(
        "insert into {}.conversations (id, organization_id, customer_name, customer_email, metadata)
         values ($1, $2, $3, $4, coalesce($5::jsonb, '{{}}'))",
        sql.schema
    );
    sql.execute(&insert, &[&conversation, &organization, &name, &email, &context]).await?;
    let verified = owner.is_some();
    if let Some((visitor, proof)) = owner {
        sql.become_relay().await?;
        give(sql, organization, conversation, visitor, &proof).await?;
    }
    Ok(Granted { conversation, resumed: false, verified })
}
