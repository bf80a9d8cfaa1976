//! Thousands of clients that lost their relay come back at once, each with a replay.
//!
//! The floor is the same crowd joining for the first time, with nothing to be sent again: what comes back costs more
//! than that only by the replay itself.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use campfire_tests::relay::Settings;
use campfire_tests::socket::{Socket, Vsn, default_config};
use campfire_tests::{AGENT, Cluster, ORGANIZATION, chat, token};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::step;

/// Conversations that the clients are spread over.
const CONVERSATIONS: usize = 50;

/// Messages written to each conversation while the clients are away.
const MISSED: usize = 20;

/// How soon a client that was refused knocks again. Stock clients wait for a second; this is the hostile case.
const KNOCK_INTERVAL: Duration = Duration::from_millis(100);

struct Visitor {
    address: String,
    api_key: String,
    token: String,
    channel: String,
    position: Value,
}

impl Visitor {
    async fn join(&mut self) -> Result<(Socket, u64)> {
        let Ok(mut socket) = Socket::try_connect(&self.address, &self.api_key, Vsn::V2).await? else {
            bail!("refused");
        };
        let mut config = default_config();
        config["broadcast"]["replay"] = match &self.position {
            Value::Null => json!({}),
            after => json!({ "after": after }),
        };
        let reply = socket.try_join(&self.channel, Some(&self.token), config).await?;
        ensure!(reply.is_ok(), "{reply:?}");
        let replay = &reply.response["replay"];
        ensure!(replay["complete"] == true, "{replay}");
        self.position = replay["position"].clone();
        Ok((socket, replay["count"].as_u64().context("a count")?))
    }

    /// Stays until the relay goes, then comes back and reads what it missed. Tells when it has everything.
    async fn live(mut self, mut socket: Socket, back: mpsc::UnboundedSender<Instant>) -> Result<()> {
        while socket.next_event().await.is_ok() {}
        let (mut socket, count) = loop {
            match self.join().await {
                Ok(joined) => break joined,
                Err(_) => tokio::time::sleep(KNOCK_INTERVAL).await,
            }
        };
        ensure!(count as usize == MISSED, "{count} events to be sent again instead of {MISSED}");
        socket.next_events(MISSED).await?;
        back.send(Instant::now()).ok();
        // Kept open until everybody is back.
        back.closed().await;
        Ok(())
    }
}

/// Runs the scenario once.
pub(super) async fn measure(relay: &Path, clients: usize) -> Result<Value> {
    let cluster = Cluster::boot()?;
    let database = cluster.connect().await?;
    let settings = Settings::of(&cluster)?.binary(relay).env("CAMPFIRE_LOG", "warn");
    // All of them knock at once, and each connection counts as pending until it is a WebSocket.
    let room = (clients + 100).to_string();
    let settings = settings.env("CAMPFIRE_MAX_SOCKETS", &room).env("CAMPFIRE_MAX_CONNECTIONS", &room);
    let mut relay = settings.start().await?;
    let mut conversations = Vec::new();
    for _ in 0..CONVERSATIONS {
        conversations.push(chat::open_conversation(&database, ORGANIZATION, "Vera Visitor").await?);
    }

    step::announce(&format!("{clients} clients join {CONVERSATIONS} channels for the first time"));
    let began = Instant::now();
    let mut joining = JoinSet::new();
    for index in 0..clients {
        let mut visitor = Visitor {
            address: relay.address(),
            api_key: cluster.credentials.api_key.clone(),
            token: token::agent(&cluster.credentials.jwt_secret, ORGANIZATION, AGENT),
            channel: chat::conversation_channel(ORGANIZATION, conversations[index % CONVERSATIONS]),
            position: Value::Null,
        };
        joining.spawn(async move {
            let (socket, _) = visitor.join().await?;
            anyhow::Ok((visitor, socket))
        });
    }
    let mut joined = Vec::new();
    while let Some(outcome) = joining.join_next().await {
        joined.push(outcome??);
    }
    let first_joins = began.elapsed();
    let resident = relay.resident_bytes()?;

    let (back, mut returns) = mpsc::unbounded_channel();
    let mut living = JoinSet::new();
    for (visitor, socket) in joined {
        living.spawn(visitor.live(socket, back.clone()));
    }
    drop(back);

    step::announce("killing the relay with -9, writing, starting it again");
    relay.kill_9().await?;
    write(&database, &conversations).await?;
    let started = Instant::now();
    relay.start_again().await?;
    let ready = Instant::now();
    let mut waits = Vec::new();
    while waits.len() < clients {
        tokio::select! {
            at = returns.recv() => waits.push(at.context("all clients are gone")?.duration_since(ready)),
            Some(ended) = living.join_next() => ended??,
        }
    }
    waits.sort();
    let millis = |duration: Duration| (duration.as_secs_f64() * 1000.0).round();
    let slowest = waits.last().copied().unwrap_or_default();
    Ok(json!({
        "scenario": "rejoin",
        "clients": clients,
        "events sent again": clients * MISSED,
        "floor: first joins, all, ms": millis(first_joins),
        "relay ready after, ms": millis(ready - started),
        "back with everything p50, ms": millis(waits[waits.len() / 2]),
        "back with everything p99, ms": millis(waits[waits.len() * 99 / 100]),
        "back with everything all, ms": millis(slowest),
        "ratio to the floor": (slowest.as_secs_f64() / first_joins.as_secs_f64() * 100.0).round() / 100.0,
        "relay RSS per joined socket, KiB": resident / 1024 / clients as u64,
        "relay RSS after, MiB": relay.resident_bytes()? >> 20,
    }))
}

async fn write(database: &Client, conversations: &[Uuid]) -> Result<()> {
    let insert = database
        .prepare(
            "insert into messages (organization_id, conversation_id, content, sender_type)
             values ($1, $2, $3, 'visitor')",
        )
        .await?;
    for number in 0..MISSED {
        for conversation in conversations {
            database.execute(&insert, &[&ORGANIZATION, conversation, &format!("missed {number}")]).await?;
        }
    }
    Ok(())
}
