//! Visitors for the demo: they use the relay as a widget does.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use campfire_tests::socket::Vsn;
use campfire_tests::{ORGANIZATION, Socket, http};
use rand::Rng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};
use tokio::task::JoinSet;

const NAMES: [&str; 12] = [
    "Aiko Tanaka",
    "Chidi Okafor",
    "Emma Clarke",
    "Jonas Weber",
    "Leila Haddad",
    "Marek Nowak",
    "Noor Rahman",
    "Priya Raman",
    "Sofia Rossi",
    "Tomás Ferreira",
    "Vera Lindqvist",
    "Yusuf Demir",
];

const SENTENCES: [&str; 12] = [
    "Hello, is anybody there?",
    "My order has not arrived yet.",
    "Can I still change the address?",
    "Can I talk to a person, please?",
    "When are you open?",
    "Do you ship to Iceland?",
    "The tent has a hole, what can I do?",
    "Thank you, that helps!",
    "How long does a refund take?",
    "Is the blue one in stock?",
    "I will try that.",
    "One more question…",
];

/// How long a visitor thinks.
const PAUSE_SECONDS: std::ops::Range<f64> = 1.0..8.0;
/// Messages of one visitor; then another one comes.
const MESSAGES: std::ops::RangeInclusive<u32> = 2..=8;

/// So many at once, until one fails.
pub(crate) async fn simulate(relay: String, count: u32) -> Result<()> {
    let mut visitors = JoinSet::new();
    for _ in 0..count {
        let relay = relay.clone();
        visitors.spawn(async move {
            loop {
                visit(&relay).await?;
            }
        });
    }
    match visitors.join_next().await {
        Some(ended) => ended?,
        // Nobody was asked for.
        None => std::future::pending().await,
    }
}

/// A conversation from its first message to its last.
async fn visit(relay: &str) -> Result<()> {
    pause().await;
    let name = *NAMES.choose(&mut rand::rng()).context("there are names")?;
    let opened =
        post(relay, "/api/widget/auth", None, &json!({"organizationId": ORGANIZATION, "name": name})).await?;
    let token = opened["token"].as_str().context("an answer without a token")?;
    // Agents see that the visitor is there, for as long as this is open. What comes on it stays unread.
    let api_key = opened["apiKey"].as_str().context("an answer without a key")?;
    let mut socket = match Socket::try_connect(relay, api_key, Vsn::V2).await? {
        Ok(socket) => socket,
        Err(refused) => bail!("the relay refused a socket: {refused:?}"),
    };
    let channel = opened["channels"]["widget"].as_str().context("an answer without a channel")?;
    socket.join(channel, token).await?;
    let messages = rand::rng().random_range(MESSAGES);
    for _ in 0..messages {
        pause().await;
        let content = *SENTENCES.choose(&mut rand::rng()).context("there are sentences")?;
        post(relay, "/api/widget/messages", Some(token), &json!({"content": content})).await?;
    }
    Ok(())
}

async fn pause() {
    let seconds = rand::rng().random_range(PAUSE_SECONDS);
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

async fn post(relay: &str, path: &str, token: Option<&str>, body: &Value) -> Result<Value> {
    let authorization = token.map(|token| format!("Bearer {token}"));
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(authorization.as_deref().map(|value| ("authorization", value)));
    let answer = http::request(relay, "POST", path, &headers, body.to_string().as_bytes()).await?;
    ensure!(answer.status < 300, "{path}: {} {}", answer.status, answer.body);
    answer.json()
}
