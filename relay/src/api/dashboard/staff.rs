//! Whoever works for an organization: its agents, and the application's own server.

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::request::Parts;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde::Deserialize;
use tokio_postgres::types::Type;
use utoipa::IntoParams;
use uuid::Uuid;

use crate::api::Api;
use crate::api::database::{Failure, Transaction};
use crate::api::error::{ApiError, Code};
use crate::api::page::query;
use crate::auth::{Credential, Payer, Role};
use crate::sql::Mode;

/// Which organization is meant.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct OrganizationQuery {
    /// For tokens of `service_role` that name no organization; others have theirs.
    organization: Option<Uuid>,
}

/// Somebody whose token admits to the whole of an organization, as far as tokens tell.
pub(super) struct Staff {
    credential: Credential,
    payer: Payer,
    organization: Uuid,
    /// None: the application's own server.
    user: Option<Uuid>,
}

/// Somebody who does work there.
pub(super) struct Member {
    pub(super) organization: Uuid,
    pub(super) organization_name: String,
    /// The agent's user id; None for the application's own server, which has neither name nor address.
    pub(super) user: Option<Uuid>,
    pub(super) display_name: Option<String>,
    pub(super) email: Option<String>,
}

impl Api {
    /// Who asks, if it is staff.
    pub(super) async fn staff(
        &self,
        head: &Parts,
        wanted: Result<Query<OrganizationQuery>, QueryRejection>,
    ) -> Result<Staff, ApiError> {
        let caller = self.caller(head).await?;
        let OrganizationQuery { organization: wanted } = query(wanted)?;
        let claims = caller.credential.claims();
        let claimed = claims.and_then(|claims| claims.organization);
        let (organization, user) = match caller.credential.role() {
            Role::Authenticated => {
                let ids = claimed.zip(claims.and_then(|claims| claims.subject));
                let (organization, user) = ids.ok_or(Code::RoleNotAllowed)?;
                (organization, Some(user))
            }
            Role::ServiceRole => {
                let missing = || ApiError::invalid("`organization` is missing, and the token names none");
                (claimed.or(wanted).ok_or_else(missing)?, None)
            }
            Role::Anon => return Err(Code::RoleNotAllowed.into()),
        };
        Ok(Staff { credential: caller.credential, payer: caller.payer, organization, user })
    }
}

impl Staff {
    /// Whether it is not the application's own server.
    pub(super) fn is_agent(&self) -> bool {
        self.user.is_some()
    }

    /// Reads something, all of it at one moment.
    pub(super) async fn read<T: Send + 'static>(
        self,
        api: &Api,
        work: impl for<'a> FnOnce(&'a Transaction, Member) -> BoxFuture<'a, Result<T, Failure>> + Send + 'static,
    ) -> Result<T, ApiError> {
        // Of its own: nothing has to wait for others that read the same.
        self.transact(api, Uuid::new_v4(), Mode::Snapshot, work).await
    }

    /// Writes something about a conversation.
    pub(super) async fn write<T: Send + 'static>(
        self,
        api: &Api,
        conversation: Uuid,
        work: impl for<'a> FnOnce(&'a Transaction, Member) -> BoxFuture<'a, Result<T, Failure>> + Send + 'static,
    ) -> Result<T, ApiError> {
        self.transact(api, conversation, Mode::ReadWrite, work).await
    }

    async fn transact<T: Send + 'static>(
        self,
        api: &Api,
        about: Uuid,
        mode: Mode,
        work: impl for<'a> FnOnce(&'a Transaction, Member) -> BoxFuture<'a, Result<T, Failure>> + Send + 'static,
    ) -> Result<T, ApiError> {
        let Self { credential, payer, organization, user } = self;
        api.database
            .transact(payer, about, mode, move |sql| {
                async move {
                    sql.become_caller(&credential).await?;
                    let member = Member::find(sql, organization, user).await?;
                    work(sql, member).await
                }
                .boxed()
            })
            .await
    }
}

impl Member {
    /// As the caller sees it: an agent who is not active sees nothing.
    async fn find(sql: &Transaction, organization: Uuid, user: Option<Uuid>) -> Result<Self, Failure> {
        let schema = &sql.schema;
        let query = format!(
            "select o.name, a.display_name, a.email
             from {schema}.organizations as o
             left join {schema}.agents as a on a.organization_id = o.id and a.user_id = $2
             where o.id = $1"
        );
        let row = sql.query_typed(&query, &[(&organization, Type::UUID), (&user, Type::UUID)]).await?;
        let missing = if user.is_some() { Code::AgentInactive } else { Code::OrganizationNotFound };
        let row = row.first().ok_or(missing)?;
        let display_name: Option<String> = row.try_get(1)?;
        if user.is_some() && display_name.is_none() {
            return Err(missing.into());
        }
        Ok(Self {
            organization,
            organization_name: row.try_get(0)?,
            user,
            display_name,
            email: row.try_get(2)?,
        })
    }
}
