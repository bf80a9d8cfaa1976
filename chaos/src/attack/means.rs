//! What attackers have: addresses, tokens of their own organization, and frames written by hand, because a client that
//! keeps what it got would be attacked as well.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use campfire_tests::socket::{Socket, Vsn};
use campfire_tests::{chat, cluster, frame, token};
use serde_json::{Value, json};
use tokio::net::TcpSocket;
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::tungstenite::Message;

use crate::client::Shared;
use crate::world::Organization;

/// Where all attackers come from, if the relay believes its proxies.
pub(super) const ATTACKER: (&str, &str) = ("x-forwarded-for", "203.0.113.7");

/// Rows of a history, of 2 KiB each.
const HISTORY_ROWS: i32 = 3_000;

/// Where an attack takes place.
#[derive(Clone)]
pub struct Ground {
    pub(super) shared: Arc<Shared>,
    /// The relay's own port: no proxy of the harness suffers in its stead.
    port: u16,
    pub(super) hostile: Organization,
    /// A superuser's.
    pub(super) url: String,
}

impl Ground {
    pub fn new(shared: Arc<Shared>, port: u16, hostile: Organization, url: String) -> Self {
        Self { shared, port, hostile, url }
    }

    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(super) fn conversation(&self) -> String {
        chat::conversation_channel(self.hostile.id, self.hostile.conversations[0])
    }

    pub(super) fn agent(&self) -> String {
        token::agent(&self.shared.jwt_secret, self.hostile.id, self.hostile.agents[0])
    }

    pub(super) fn visitor(&self) -> String {
        token::visitor(&self.shared.jwt_secret, self.hostile.id, self.hostile.conversations[0])
    }

    fn path(&self) -> String {
        format!("/realtime/v1/websocket?apikey={}&vsn=2.0.0", self.shared.api_key)
    }

    pub(super) async fn connect(&self) -> Result<Socket> {
        match Socket::handshake(&self.address(), &self.path(), &[ATTACKER], Vsn::V2).await? {
            Ok(socket) => Ok(socket),
            Err(refused) => bail!("refused: {refused:?}"),
        }
    }

    /// With a receive buffer so small that the relay's writes stall soon.
    pub(super) async fn narrow(&self) -> Result<Socket> {
        let narrow = TcpSocket::new_v4()?;
        narrow.set_recv_buffer_size(4096)?;
        let tcp = narrow.connect(self.address().parse()?).await?;
        match Socket::handshake_over(tcp, &self.address(), &self.path(), &[ATTACKER], Vsn::V2).await? {
            Ok(socket) => Ok(socket),
            Err(refused) => bail!("refused: {refused:?}"),
        }
    }

    /// Rows in the database, and events in the window.
    pub(super) async fn write_history(&self) -> Result<()> {
        let database = cluster::connect(&self.url).await?;
        let write = "insert into messages (organization_id, conversation_id, content, sender_type)
                     select $1, $2, repeat('history ', 256), 'visitor' from generate_series(1, $3)";
        let (organization, conversation) = (self.hostile.id, self.hostile.conversations[0]);
        database.execute(write, &[&organization, &conversation, &HISTORY_ROWS]).await.context("a history")?;
        Ok(())
    }
}

/// A text frame of 2.0.0. All pushes are of a channel's first join.
pub(super) fn push(reference: usize, channel: &str, event: &str, payload: &Value) -> Message {
    push_text(reference, channel, event, &payload.to_string())
}

/// The same with a payload that is JSON already: large ones are not worth an attacker's time.
pub(super) fn push_text(reference: usize, channel: &str, event: &str, payload: &str) -> Message {
    let topic = if channel == "phoenix" { channel.to_owned() } else { frame::topic(channel) };
    let join_ref = if event == "phx_join" { reference } else { 1 };
    Message::text(format!(r#"["{join_ref}","{reference}","{topic}","{event}",{payload}]"#))
}

/// A join's payload; channels outside `org:` are private ones.
pub(super) fn join_config(channel: &str, token: Option<&str>, config: Value) -> Value {
    let mut payload = json!({"config": config});
    payload["config"]["private"] = (!channel.starts_with("org:")).into();
    if let Some(token) = token {
        payload["access_token"] = token.into();
    }
    payload
}

/// Reads, keeps nothing, and is back after that time, or with an error when the socket ends.
pub(super) async fn drain(socket: &mut Socket, time: Duration) -> Result<()> {
    let until = Instant::now() + time;
    while let Ok(message) = timeout_at(until, socket.next_message()).await {
        message?;
    }
    Ok(())
}

pub(super) fn filler(bytes: usize) -> String {
    "x".repeat(bytes)
}
