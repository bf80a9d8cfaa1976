//! Proof that something was *not* delivered: a fence is sent down the same path
//! afterwards, and everything that arrives before it is returned. Order on a
//! channel is promised, so what should have come before and did not, never will.

use anyhow::{Context, Result};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::socket::{Event, Socket};

/// A mark that only one event carries.
#[derive(Clone, Debug)]
pub struct Fence(String);

impl Default for Fence {
    fn default() -> Self {
        Self::new()
    }
}

impl Fence {
    /// One that nobody has raised yet, for those who begin to listen before.
    pub fn new() -> Self {
        Self(format!("fence {}", Uuid::new_v4()))
    }

    /// What the row that raises it says.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// [`Fence::raise_as_message`] of a new one.
    pub async fn message(database: &Client, organization: Uuid, conversation: Uuid) -> Result<Self> {
        let fence = Self::new();
        fence.raise_as_message(database, organization, conversation).await?;
        Ok(fence)
    }

    /// [`Fence::raise_as_conversation`] of a new one.
    pub async fn conversation(database: &Client, organization: Uuid) -> Result<Self> {
        let fence = Self::new();
        fence.raise_as_conversation(database, organization).await?;
        Ok(fence)
    }

    /// Seen on the conversation's channel, its widget channel, and the
    /// organization's conversations.
    pub async fn raise_as_message(
        &self,
        database: &Client,
        organization: Uuid,
        conversation: Uuid,
    ) -> Result<()> {
        database
            .execute(
                "insert into messages (organization_id, conversation_id, content, sender_type)
                 values ($1, $2, $3, 'system')",
                &[&organization, &conversation, &self.0],
            )
            .await
            .context("cannot raise a fence")?;
        Ok(())
    }

    /// Seen on the organization's channel and its conversations.
    pub async fn raise_as_conversation(&self, database: &Client, organization: Uuid) -> Result<()> {
        database
            .execute(
                "insert into conversations (organization_id, customer_name) values ($1, $2)",
                &[&organization, &self.0],
            )
            .await
            .context("cannot raise a fence")?;
        Ok(())
    }

    fn is(&self, event: &Event) -> bool {
        ["content", "customer_name"].iter().any(|column| event.payload[column] == self.0.as_str())
    }
}

impl Socket {
    /// All broadcasts that arrive on `channel` before the fence does. Those of
    /// other channels are returned as well: they are nobody's to drop.
    pub async fn events_before(&mut self, fence: &Fence, channel: &str) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        loop {
            let event = self.next_event().await.context("the fence did not arrive")?;
            if event.channel == channel && fence.is(&event) {
                return Ok(events);
            }
            events.push(event);
        }
    }
}
