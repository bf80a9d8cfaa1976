//! 50,000 events while sockets come and go: afterwards there are as many tasks,
//! sockets and file descriptors as before.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use campfire_tests::socket::{Socket, Vsn};
use campfire_tests::{ORGANIZATION, Relay, chat, eventually};
use uuid::Uuid;

use crate::scene::{Scene, with_settings};

const ROUNDS: usize = 100;
const ROWS_A_ROUND: usize = 500;

/// What must not grow.
#[derive(Clone, Debug, PartialEq)]
struct Holdings {
    sockets: f64,
    channels: f64,
    tasks: f64,
    open_files: usize,
}

impl Holdings {
    async fn of(relay: &Relay) -> Result<Self> {
        let gauge = async |name: &str| -> Result<f64> {
            relay.metric(name).await?.with_context(|| format!("no metric {name}"))
        };
        // Files before the gauges, whose request has a connection of its own.
        let open_files = relay.open_files()?;
        Ok(Self {
            sockets: gauge("campfire_sockets").await?,
            channels: gauge("campfire_channels").await?,
            tasks: gauge("campfire_tasks").await?,
            open_files,
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_thousand_events_leak_neither_tasks_nor_sockets() {
    let quiet = |settings: campfire_tests::relay::Settings| settings.env("CAMPFIRE_LOG", "info");
    with_settings(quiet, async |scene| {
        let conversation = scene.conversation().await?;
        let conv = chat::conversation_channel(ORGANIZATION, conversation);
        let mut dashboard = scene.dashboard(Vsn::V2, &[&conv]).await?;
        let mut widget = scene.widget(Vsn::V1, conversation).await?;
        // Once through everything, so that what is made lazily is there.
        churn(scene, conversation).await?;
        round(scene, conversation, &mut dashboard, &mut widget).await?;
        let before = settled(&scene.relay, None).await?;
        let memory_before = scene.relay.resident_bytes()?;

        let started = Instant::now();
        for number in 0..ROUNDS {
            round(scene, conversation, &mut dashboard, &mut widget)
                .await
                .with_context(|| format!("round {number}"))?;
            if number % 5 == 0 {
                churn(scene, conversation).await?;
            }
        }
        let took = started.elapsed();
        let after = settled(&scene.relay, Some(&before)).await?;
        println!(
            "{} events to 2 sockets in {took:.1?}; resident memory {} KiB before, {} KiB after; {after:?}",
            ROUNDS * ROWS_A_ROUND,
            memory_before / 1024,
            scene.relay.resident_bytes()? / 1024,
        );
        Ok(())
    })
    .await;
}

/// One transaction, read by both.
async fn round(scene: &Scene, conversation: Uuid, dashboard: &mut Socket, widget: &mut Socket) -> Result<()> {
    let insert = async {
        scene
            .database
            .execute(
                "insert into messages (organization_id, conversation_id, content, sender_type)
                 select $1, $2, 'stable ' || n, 'visitor' from generate_series(1, $3::int) n",
                &[&ORGANIZATION, &conversation, &i32::try_from(ROWS_A_ROUND)?],
            )
            .await?;
        Ok(())
    };
    let (inserted, at_dashboard, at_widget) =
        tokio::join!(insert, dashboard.next_events(ROWS_A_ROUND), widget.next_events(ROWS_A_ROUND),);
    inserted.and(at_dashboard).and(at_widget).map(drop)
}

/// Sockets that come, join, and go: by a close, by a leave, by a cut.
async fn churn(scene: &Scene, conversation: Uuid) -> Result<()> {
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    for vsn in Vsn::BOTH {
        scene.dashboard(vsn, &[&conv]).await?.close().await?;
        scene.widget(vsn, conversation).await?.close().await?;
        let mut leaving = scene.dashboard(vsn, &[&conv]).await?;
        ensure!(leaving.leave(&conv).await?.is_ok());
        drop(leaving);
        drop(scene.widget(vsn, conversation).await?);
    }
    Ok(())
}

/// Waits until nothing moves any more, or until it is as it was `before`.
async fn settled(relay: &Relay, before: Option<&Holdings>) -> Result<Holdings> {
    let mut last = None;
    let what = format!("the relay holds no more than before: {before:?}");
    let held = eventually(&what, async || {
        let now = Holdings::of(relay).await.ok()?;
        let done = match before {
            Some(before) => now == *before,
            None => last.as_ref() == Some(&now) && now.sockets == 2.0,
        };
        last = Some(now.clone());
        done.then_some(now)
    })
    .await;
    Ok(held)
}
