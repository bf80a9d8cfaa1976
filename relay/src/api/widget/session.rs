//! What a widget needs to go on: its conversation, and a token for it.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::api::error::{ApiError, Code};
use crate::api::{Api, VisitorKeys};
use crate::auth::VisitorToken;
use crate::postgres::Timestamp;
use crate::route::Topic;

/// A visitor's conversation, and what opens it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Session {
    conversation_id: Uuid,
    /// For `Authorization: Bearer`, and for joins of channels.
    token: String,
    #[schema(format = DateTime)]
    expires_at: String,
    /// With which a socket connects.
    api_key: String,
    channels: Channels,
    /// Whether the conversation was there before.
    pub(super) resumed: bool,
    /// Whether it belongs to a verified identity.
    verified: bool,
}

/// Names of the conversation's channels.
#[derive(Debug, Serialize, ToSchema)]
struct Channels {
    #[schema(example = "org:00000000-0000-4000-8000-000000000001:conv:00000000-0000-4000-8000-000000000002")]
    conversation: String,
    #[schema(
        example = "org:00000000-0000-4000-8000-000000000001:widget:00000000-0000-4000-8000-000000000002"
    )]
    widget: String,
}

/// The conversation that a visitor gets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Granted {
    pub(super) conversation: Uuid,
    pub(super) resumed: bool,
    pub(super) verified: bool,
}

impl Api {
    /// A fresh token for a conversation.
    pub(super) fn mint(&self, organization: Uuid, conversation: Uuid) -> Result<VisitorToken, ApiError> {
        let VisitorKeys { tokens, .. } = self.visitor_keys.as_ref().ok_or(Code::NotConfigured)?;
        let paths = self.edge.admission.verifier.claim_paths();
        Ok(tokens.mint(&paths, organization, conversation, SystemTime::now()))
    }

    pub(super) fn session(&self, organization: Uuid, granted: Granted) -> Result<Session, ApiError> {
        let Granted { conversation, resumed, verified } = granted;
        let VisitorToken { text, expires_at } = self.mint(organization, conversation)?;
        let VisitorKeys { api_key, .. } = self.visitor_keys.as_ref().ok_or(Code::NotConfigured)?;
        let expires_at = expires_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        Ok(Session {
            conversation_id: conversation,
            token: text,
            expires_at: Timestamp::from_unix_millis(i64::try_from(expires_at).unwrap_or(i64::MAX))
                .to_rfc3339(),
            api_key: api_key.clone(),
            channels: Channels {
                conversation: Topic::channel_conversation(organization, conversation).to_string(),
                widget: Topic::channel_widget(organization, conversation).to_string(),
            },
            resumed,
            verified,
        })
    }
}
