//! One transaction with a million messages: what the relay needs of memory while it reads them.
//!
//! The floor is pg_recvlogical, reading the same transaction from a slot of its own into nowhere.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use campfire_tests::relay::Settings;
use campfire_tests::{Cluster, ORGANIZATION, chat, seed};
use serde_json::{Value, json};

use crate::step;

const SAMPLE_INTERVAL: Duration = Duration::from_millis(250);

/// Runs the scenario once.
pub(super) async fn measure(relay: &Path, rows: usize) -> Result<Value> {
    let cluster = Cluster::boot()?;
    let database = cluster.connect().await?;
    let settings = Settings::of(&cluster)?.binary(relay).env("CAMPFIRE_LOG", "warn");
    let relay = settings.env("CAMPFIRE_MAX_SOCKETS", "100").start().await?;
    let conversation = chat::open_conversation(&database, ORGANIZATION, "Vera Visitor").await?;
    database.execute("select pg_create_logical_replication_slot('campfire_bench', 'pgoutput')", &[]).await?;
    let before = relay.resident_bytes()?;
    let changes_before = relay.metric("campfire_changes_total").await?.unwrap_or_default();

    step::announce(&format!("one transaction inserts {rows} messages"));
    database
        .execute(
            "insert into messages (organization_id, conversation_id, content, sender_type)
             select $1, $2, 'message ' || n, 'visitor' from generate_series(1, $3::bigint) n",
            &[&ORGANIZATION, &conversation, &i64::try_from(rows)?],
        )
        .await?;
    let committed = Instant::now();
    let mut curve = Vec::new();
    loop {
        let changes = relay.metric("campfire_changes_total").await?.unwrap_or_default() - changes_before;
        curve.push((committed.elapsed(), relay.resident_bytes()?, changes));
        if changes >= rows as f64 {
            break;
        }
        ensure!(committed.elapsed() < Duration::from_secs(600), "the relay does not get through: {curve:?}");
        tokio::time::sleep(SAMPLE_INTERVAL).await;
    }
    let took = committed.elapsed();

    step::announce("pg_recvlogical reads the same");
    let head: String = database.query_one("select pg_current_wal_flush_lsn()::text", &[]).await?.get(0);
    let began = Instant::now();
    let status = tokio::process::Command::new(cluster.server.program("pg_recvlogical"))
        .args(["--start", "--slot", "campfire_bench", "--file", "/dev/null", "--endpos", &head])
        .args(["--option", "proto_version=1", "--option", "publication_names=campfire"])
        .args(["--dbname", &cluster.superuser_url(seed::DATABASE)])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .await
        .context("pg_recvlogical")?;
    ensure!(status.success(), "pg_recvlogical: {status}");
    let floor = began.elapsed();

    let mebibytes = |bytes: u64| bytes >> 20;
    let step = curve.len().div_ceil(12);
    let samples: Vec<Value> = curve
        .iter()
        .step_by(step)
        .map(|(at, resident, changes)| json!([at.as_millis() as u64, mebibytes(*resident), changes]))
        .collect();
    let peak = curve.iter().map(|(_, resident, _)| *resident).max().unwrap_or_default();
    Ok(json!({
        "scenario": "import",
        "rows": rows,
        "floor: pg_recvlogical, ms": floor.as_millis() as u64,
        "relay, ms": took.as_millis() as u64,
        "ratio to the floor": (took.as_secs_f64() / floor.as_secs_f64() * 100.0).round() / 100.0,
        "relay RSS before, MiB": mebibytes(before),
        "relay RSS peak, MiB": mebibytes(peak),
        "relay RSS curve, [ms, MiB, rows]": samples,
    }))
}
