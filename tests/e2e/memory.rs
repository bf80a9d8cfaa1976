//! What a large transaction costs the relay in memory.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use campfire_tests::wait::DEADLINE;
use campfire_tests::{ORGANIZATION, eventually};

use crate::scene::with_settings;

/// `CAMPFIRE_TEST_ROWS=1000000` makes it the million of the promise; a tenth shows the same curve sooner.
const ROWS: i64 = 100_000;
const SAMPLE_INTERVAL: Duration = Duration::from_millis(50);
const WINDOW_BYTES: u64 = 16 << 20;
/// Beyond the window: batches on their way, read buffers, the allocator's slack.
const SLACK_BYTES: u64 = 48 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_huge_transaction_takes_bounded_memory() {
    let small_window = |settings: campfire_tests::relay::Settings| {
        settings.env("CAMPFIRE_WINDOW_BYTES", &WINDOW_BYTES.to_string())
    };
    with_settings(small_window, async |scene| {
        let rows: i64 = match std::env::var("CAMPFIRE_TEST_ROWS") {
            Ok(rows) => rows.parse().context("CAMPFIRE_TEST_ROWS")?,
            Err(_) => ROWS,
        };
        let conversation = scene.conversation().await?;
        let before = scene.relay.resident_bytes()?;
        let changes = async |relay: &campfire_tests::Relay| -> Result<f64> {
            Ok(relay.metric("campfire_changes_total").await?.unwrap_or_default())
        };
        let first = changes(&scene.relay).await?;
        let insert = "insert into messages (organization_id, conversation_id, content, sender_type)
            select $1, $2, 'row ' || n || repeat(' of a large import', 5), 'visitor'
            from generate_series(1, $3::bigint) n";
        let started_at = Instant::now();
        scene.database.execute(insert, &[&ORGANIZATION, &conversation, &rows]).await?;
        let committed = started_at.elapsed();
        let mut curve = vec![(0.0, before)];
        let mut moved_at = Instant::now();
        while curve.last().is_some_and(|(read, _)| *read < rows as f64) {
            tokio::time::sleep(SAMPLE_INTERVAL).await;
            let (read, bytes) = (changes(&scene.relay).await? - first, scene.relay.resident_bytes()?);
            if curve.last().is_some_and(|(earlier, _)| *earlier < read) {
                moved_at = Instant::now();
            }
            ensure!(moved_at.elapsed() < DEADLINE, "the relay stays at {read} of {rows} rows");
            curve.push((read, bytes));
        }
        let read = started_at.elapsed() - committed;
        let most = curve.iter().map(|&(_, bytes)| bytes).max().unwrap_or_default();
        println!("{rows} rows in one transaction, committed after {committed:?}, read {read:?} later");
        for (read, bytes) in curve.iter().step_by(curve.len().div_ceil(20)) {
            println!("{read:>9} rows read, RSS {:>6.1} MiB", *bytes as f64 / f64::from(1 << 20));
        }
        println!("RSS before {} KiB, at most {} KiB", before >> 10, most >> 10);
        ensure!(most < before + WINDOW_BYTES + SLACK_BYTES, "RSS rose from {before} to {most} bytes");
        Ok(())
    })
    .await;
}

/// Small events are where a bound on payloads alone would bound little.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_window_of_small_events_takes_the_memory_that_it_may() {
    const WINDOW_BYTES: u64 = 48 << 20;
    const ROWS: i32 = 150_000;
    let settings = |settings: campfire_tests::relay::Settings| {
        let bytes = WINDOW_BYTES.to_string();
        settings.env("CAMPFIRE_WINDOW_BYTES", &bytes).env("CAMPFIRE_WINDOW_ORG_BYTES", &bytes)
    };
    with_settings(settings, async |scene| {
        let table = "create table pings (id int primary key, org uuid, note text);
            select campfire.publish('campfire', 'pings');
            select campfire.add_route('pings', 'INSERT', 'org:{org}', 'ping', '{id,note}')";
        scene.database.batch_execute(table).await?;
        // Its buffers are there before anything is measured.
        let insert =
            "insert into pings select n, $1, repeat('x', 50) from generate_series($2::int, $3::int) n";
        let changes = async || {
            let events = scene.relay.metric("campfire_events_total").await?;
            Ok::<f64, anyhow::Error>(events.unwrap_or_default())
        };
        let reached = async |count: i32| {
            let all = async || (changes().await.ok()? >= f64::from(count)).then_some(());
            eventually(&format!("{count} events"), all).await;
        };
        let first = 5_000;
        scene.database.execute(insert, &[&ORGANIZATION, &1, &first]).await?;
        reached(first).await;
        let size = async || {
            let bytes = scene.relay.metric("campfire_window_bytes").await?.context("window_bytes")?;
            Ok::<_, anyhow::Error>((scene.relay.resident_bytes()? as f64, bytes))
        };
        let (resident_before, said_before) = size().await?;
        scene.database.execute(insert, &[&ORGANIZATION, &(first + 1), &ROWS]).await?;
        reached(ROWS).await;
        let (resident, said) = size().await?;
        let ratio = (resident - resident_before) / (said - said_before);
        println!("{:.1} MiB said, {ratio:.2} of it taken", said / f64::from(1 << 20));
        ensure!(said <= WINDOW_BYTES as f64 && said > 0.9 * WINDOW_BYTES as f64, "{said} bytes said");
        // Batches on their way come on top.
        ensure!((0.6..1.5).contains(&ratio), "{ratio:.2} of {said} bytes");
        Ok(())
    })
    .await;
}
