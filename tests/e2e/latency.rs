//! Measured and printed, never asserted: a loaded machine is not a broken relay.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use campfire_tests::socket::Vsn;
use campfire_tests::{ORGANIZATION, chat};

use crate::scene::with_settings;

const MESSAGES: usize = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn latency_from_commit_to_delivery_is_measured() {
    // As in production: a line per event would be measured as well.
    let quiet = |settings: campfire_tests::relay::Settings| settings.env("CAMPFIRE_LOG", "info");
    with_settings(quiet, async |scene| {
        let conversation = scene.conversation().await?;
        let conv = chat::conversation_channel(ORGANIZATION, conversation);
        let mut dashboard = scene.dashboard(Vsn::V2, &[&conv]).await?;
        let mut since_commit = Vec::with_capacity(MESSAGES);
        let mut since_return = Vec::with_capacity(MESSAGES);
        for number in 1..=MESSAGES {
            let content = format!("message {number}");
            scene.write_messages(conversation, std::slice::from_ref(&content)).await?;
            let returned = Instant::now();
            let event = dashboard.expect(&conv, "message:created").await?;
            since_return.push(returned.elapsed());
            ensure!(event.payload["content"] == content.as_str(), "{event:?}");
            since_commit.push(event.age().context("a row event says when it committed")?);
        }
        print("commit to delivery", &mut since_commit)?;
        print("commit returned to delivery", &mut since_return)
    })
    .await;
}

fn print(what: &str, samples: &mut [Duration]) -> Result<()> {
    samples.sort_unstable();
    let at = |percent: usize| {
        let index = (samples.len() * percent / 100).min(samples.len().saturating_sub(1));
        samples.get(index).context("no samples")
    };
    println!(
        "{what}: p50 {:?}, p95 {:?}, p99 {:?}, most {:?} ({} messages, debug build)",
        at(50)?,
        at(95)?,
        at(99)?,
        at(100)?,
        samples.len(),
    );
    Ok(())
}
