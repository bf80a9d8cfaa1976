//! The application's vocabulary: what a widget, a dashboard and a backend do to
//! the database. Statements run with the caller's role and claims, so that
//! row-level security decides, as it does in production.

use anyhow::{Context, Result};
use serde_json::Value;
use tokio_postgres::{Client, Transaction};
use uuid::Uuid;

use crate::token;

/// Somebody on whose behalf SQL runs.
#[derive(Clone, Copy, Debug)]
pub enum Caller {
    /// A widget, bound to its conversation.
    Visitor { organization: Uuid, conversation: Uuid },
    /// A dashboard.
    Agent { organization: Uuid, user: Uuid },
}

impl Caller {
    fn role(self) -> &'static str {
        match self {
            Self::Visitor { .. } => "anon",
            Self::Agent { .. } => "authenticated",
        }
    }

    fn claims(self) -> Value {
        match self {
            Self::Visitor { organization, conversation } => token::visitor_claims(organization, conversation),
            Self::Agent { organization, user } => token::agent_claims(organization, user),
        }
    }

    /// Opens a transaction in which `client` is this caller and nothing more.
    pub async fn begin(self, client: &mut Client) -> Result<Transaction<'_>> {
        let transaction = client.transaction().await?;
        transaction
            .execute(
                "select set_config('request.jwt.claims', $1, true), set_config('role', $2, true)",
                &[&self.claims().to_string(), &self.role()],
            )
            .await?;
        Ok(transaction)
    }

    /// Writes a message as this caller; returns its id.
    pub async fn write(self, client: &mut Client, conversation: Uuid, content: &str) -> Result<Uuid> {
        let (organization, sender) = match self {
            Self::Visitor { organization, .. } => (organization, "visitor"),
            Self::Agent { organization, .. } => (organization, "agent"),
        };
        let transaction = self.begin(client).await?;
        let written = transaction
            .query_one(
                "insert into messages (organization_id, conversation_id, content, sender_type)
                 values ($1, $2, $3, $4) returning id",
                &[&organization, &conversation, &content, &sender],
            )
            .await
            .with_context(|| format!("{self:?} could not write"))?;
        transaction.commit().await?;
        Ok(written.get(0))
    }
}

/// A conversation as the backend makes it; returns its id.
pub async fn open_conversation(client: &Client, organization: Uuid, customer_name: &str) -> Result<Uuid> {
    let row = client
        .query_one(
            "insert into conversations (organization_id, customer_name) values ($1, $2) returning id",
            &[&organization, &customer_name],
        )
        .await
        .context("cannot open a conversation")?;
    Ok(row.get(0))
}

/// An organization with one active agent; returns both ids.
pub async fn found_organization(client: &Client, name: &str) -> Result<(Uuid, Uuid)> {
    let (organization, user) = (Uuid::new_v4(), Uuid::new_v4());
    client.execute("insert into organizations (id, name) values ($1, $2)", &[&organization, &name]).await?;
    client
        .execute(
            "insert into agents (organization_id, user_id, display_name, email, active)
             values ($1, $2, 'Grace', 'grace@example.com', true)",
            &[&organization, &user],
        )
        .await?;
    Ok((organization, user))
}

/// What `message:created` carries for agents.
pub const MESSAGE_COLUMNS: [&str; 8] = [
    "id",
    "conversation_id",
    "organization_id",
    "content",
    "sender_type",
    "sender_name",
    "sender_email",
    "created_at",
];

/// What `message:created` carries where a visitor can see it.
pub const VISITOR_MESSAGE_COLUMNS: [&str; 7] =
    ["id", "conversation_id", "organization_id", "content", "sender_type", "sender_name", "created_at"];

/// What `conversation:created` and `conversation:updated` carry for agents: the
/// columns of the scalar mirror.
pub const MIRROR_COLUMNS: [&str; 9] = [
    "id",
    "organization_id",
    "customer_name",
    "customer_email",
    "status",
    "priority",
    "assignee_id",
    "created_at",
    "updated_at",
];

/// What `conversation:updated` carries where a visitor can see it.
pub const VISITOR_CONVERSATION_COLUMNS: [&str; 4] = ["id", "organization_id", "status", "updated_at"];

/// Whether a payload has exactly these columns, in any order.
pub fn has_columns(payload: &Value, columns: &[&str]) -> bool {
    payload.as_object().is_some_and(|object| {
        object.len() == columns.len() && columns.iter().all(|column| object.contains_key(*column))
    })
}

/// `org:{org}`.
pub fn organization_channel(organization: Uuid) -> String {
    format!("org:{organization}")
}

/// `org:{org}:conversations`.
pub fn conversations_channel(organization: Uuid) -> String {
    format!("org:{organization}:conversations")
}

/// `org:{org}:conv:{conv}`.
pub fn conversation_channel(organization: Uuid, conversation: Uuid) -> String {
    format!("org:{organization}:conv:{conversation}")
}

/// `org:{org}:widget:{conv}`.
pub fn widget_channel(organization: Uuid, conversation: Uuid) -> String {
    format!("org:{organization}:widget:{conversation}")
}
