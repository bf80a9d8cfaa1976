//! More at once than sockets take: nobody who reads is closed, and who does not read costs only itself.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use campfire_tests::frame::Frame;
use campfire_tests::socket::{Socket, Vsn, default_config};
use campfire_tests::wait::eventually_within;
use campfire_tests::{ORGANIZATION, chat, eventually, token};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use crate::resume::resume;
use crate::scene::{Scene, contents, numbered, scene_test, with_settings};

/// A burst may take its time on a busy machine; that nothing comes for so long means that nothing will.
const PATIENCE: Duration = Duration::from_secs(120);

/// More often than the relay's idle time asks for, also where a machine hardly gets to it.
const BEAT_EVERY: Duration = Duration::from_secs(10);

const CLIENTS: usize = 100;

/// In one transaction, and then in transactions of a hundred. `CAMPFIRE_TEST_ROWS=100000` makes it more in all.
const AT_ONCE: i32 = 5_000;
const IN_ALL: i32 = 20_000;

/// A client of the burst, that takes frames apart no further than it must: there are two million of them.
struct Reader {
    socket: Socket,
    vsn: Vsn,
    resumes: bool,
    /// Looks away now and then.
    is_slow: bool,
    /// The id of the last event.
    last: String,
    /// A heartbeat said that everything up to here has come.
    promised: String,
    beats: u32,
}

impl Reader {
    async fn join(scene: &Scene, number: usize, channel: &str) -> Result<Self> {
        let vsn = Vsn::BOTH[number % 2];
        let resumes = number % 4 >= 2;
        let mut socket = scene.socket(vsn).await?;
        match resumes {
            true => drop(resume(scene, &mut socket, channel, json!({})).await?),
            false => socket.join(channel, &scene.agent()).await?,
        }
        let is_slow = number % 10 == 9;
        Ok(Self { socket, vsn, resumes, is_slow, last: String::new(), promised: String::new(), beats: 0 })
    }

    /// Reads `n 1` to `n last`, each once and in order.
    async fn read(mut self, last: i32) -> Result<Self> {
        let mut beat_at = Instant::now();
        let mut expected = 1;
        while expected <= last {
            if beat_at.elapsed() >= BEAT_EVERY || expected == 1 && self.beats == 0 {
                self.socket.send_heartbeat().await?;
                (beat_at, self.beats) = (Instant::now(), self.beats + 1);
            }
            let message = tokio::time::timeout(PATIENCE, self.socket.next_message())
                .await
                .with_context(|| format!("no frame any more, before {expected}"))??;
            // One read of the connection has hundreds of frames: without this, a reader that always finds some would keep the
            // clocks of those that look away from going off.
            tokio::task::consume_budget().await;
            let text = match &message {
                Message::Text(text) => text.as_str().into(),
                Message::Binary(bytes) => String::from_utf8_lossy(bytes),
                other => bail!("{other:?} before {expected}"),
            };
            if text.contains("phx_reply") {
                if let Some(position) = between(&text, r#""position":""#, "\"") {
                    self.promised = position.to_owned();
                }
                continue;
            }
            if text.contains("agent:status") {
                continue;
            }
            let number =
                between(&text, r#""content":"n "#, "\"").and_then(|number| number.parse::<i32>().ok());
            ensure!(number == Some(expected), "expected {expected} on {:?}, got {text}", self.vsn);
            ensure!(!text.contains("replayed"), "a live client was told of a replay: {text}");
            // The payload has an `id`, too.
            let (head, _) = text.split_once(r#"","committed_at""#).context("no meta")?;
            let (_, id) = head.rsplit_once(r#""id":""#).context("no id")?;
            ensure!(id > self.last.as_str(), "{id} after {}", self.last);
            ensure!(id > self.promised.as_str(), "{id} after the position {} of a heartbeat", self.promised);
            self.last = id.to_owned();
            expected += 1;
            if self.is_slow && expected % 500 == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Ok(self)
    }
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(found, _)| found)
}

async fn write_burst(scene: &Scene, conversation: Uuid, rows: i32) -> Result<()> {
    let insert = "insert into messages (organization_id, conversation_id, content, sender_type)
        select $1, $2, 'n ' || n, 'visitor' from generate_series($3::integer, $4::integer) n";
    let statement = scene.database.prepare(insert).await?;
    let mut first = 1;
    while first <= rows {
        let last = if first == 1 { AT_ONCE } else { first + 99 };
        scene.database.execute(&statement, &[&ORGANIZATION, &conversation, &first, &last]).await?;
        first = last + 1;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_closes_nobody_who_keeps_reading() {
    // A line for each event would cost more than the event. And no socket takes what the relay sends in one turn.
    let quiet = |settings: campfire_tests::relay::Settings| {
        settings.env("CAMPFIRE_LOG", "info").env("CAMPFIRE_MAX_OUTBOX_FRAMES", "64")
    };
    with_settings(quiet, async |scene| {
        let rows: i32 = match std::env::var("CAMPFIRE_TEST_ROWS") {
            Ok(rows) => rows.parse().context("CAMPFIRE_TEST_ROWS")?,
            Err(_) => IN_ALL,
        };
        let conversation = scene.conversation().await?;
        let conv = chat::conversation_channel(ORGANIZATION, conversation);
        let closed = async || scene.relay.metric("campfire_sockets_closed_total").await;
        let closed_before = closed().await?.unwrap_or_default();
        let mut readers = tokio::task::JoinSet::new();
        for number in 0..CLIENTS {
            let reader = Reader::join(scene, number, &conv).await?;
            readers.spawn(reader.read(rows));
        }
        let before = scene.relay.resident_bytes()?;
        let began = Instant::now();
        let reading = async {
            let mut most = before;
            let mut done = Vec::new();
            let mut failed = Vec::new();
            while let Some(reader) = readers.join_next().await {
                most = most.max(scene.relay.resident_bytes()?);
                match reader? {
                    Ok(reader) => done.push(reader),
                    Err(error) => failed.push(format!("{error:#}")),
                }
            }
            anyhow::Ok((done, failed, most))
        };
        let (written, read) = tokio::join!(write_burst(scene, conversation, rows), reading);
        written?;
        let (mut done, failed, most) = read?;
        println!(
            "{} of {CLIENTS} clients got {rows} rows in {:?}; RSS {} to {} KiB; {} closed, {} times behind",
            done.len(),
            began.elapsed(),
            before >> 10,
            most >> 10,
            closed().await?.unwrap_or_default() - closed_before,
            scene.relay.metric("campfire_channels_lagged_total").await?.unwrap_or_default(),
        );
        ensure!(
            failed.is_empty(),
            "{} of {CLIENTS} failed: {:?}",
            failed.len(),
            &failed[..failed.len().min(3)]
        );
        let body = scene.relay.get("/metrics").await?.body;
        ensure!(!body.contains("slow_consumer") && !body.contains("not_reading"), "{body}");
        let lagged = scene.relay.metric("campfire_channels_lagged_total").await?.unwrap_or_default();
        ensure!(lagged >= CLIENTS as f64, "{lagged} were too few for a burst");
        // Live again, and a heartbeat says so.
        scene.write_messages(conversation, &["live".to_owned()]).await?;
        for reader in &mut done {
            let event = reader.socket.next_event().await?;
            ensure!(event.payload["content"] == "live", "{event:?}");
            let beat = reader.socket.heartbeat().await?;
            let position = beat.response["position"].as_str();
            ensure!(position.is_some() == reader.resumes, "{beat:?}");
            ensure!(position.is_none_or(|position| position >= event.id()), "{beat:?} {event:?}");
        }
        Ok(())
    })
    .await;
}

/// Reads so many messages; tells their contents, and after how many of them somebody typed.
async fn hear(socket: &mut Socket, count: usize) -> Result<(Vec<String>, Vec<usize>)> {
    let (mut heard, mut typed_at) = (Vec::new(), Vec::new());
    while heard.len() < count {
        let event = socket.next_event().await?;
        match event.name.as_str() {
            "typing:start" => typed_at.push(heard.len()),
            "typing:stop" => {}
            _ => heard.extend(contents(&[event])),
        }
    }
    Ok((heard, typed_at))
}

#[scene_test]
async fn a_client_that_looks_away_misses_nothing_and_costs_nobody_else(scene: &mut Scene) -> Result<()> {
    let conversation = scene.conversation().await?;
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    for vsn in Vsn::BOTH {
        let mut slow = scene.dashboard(vsn, &[&conv]).await?;
        let mut good = scene.dashboard(vsn, &[&conv]).await?;
        let mut widget = scene.widget(vsn, conversation).await?;
        // Nobody reads `slow`: first the kernel's buffers fill, then its outbox.
        const MESSAGES: usize = 1500;
        let big = "x".repeat(10_000);
        let wanted: Vec<String> = (1..=MESSAGES).map(|number| format!("{number} {big}")).collect();
        let writing = async {
            scene.write_messages(conversation, &wanted[..MESSAGES / 2]).await?;
            let channel = chat::widget_channel(ORGANIZATION, conversation);
            widget.broadcast(&channel, "typing:start", json!({})).await?;
            widget.heartbeat().await?;
            scene.write_messages(conversation, &wanted[MESSAGES / 2..]).await
        };
        let (written, read) = tokio::join!(writing, hear(&mut good, MESSAGES));
        written?;
        let (heard, typed_at) = read?;
        ensure!(heard == wanted, "the good client lost something");
        ensure!(typed_at.len() == 1, "the good client heard of typing at {typed_at:?}");
        // It reads again: everything is there, in order, and what was said in its place.
        let (heard, typed_at) = hear(&mut slow, MESSAGES).await?;
        ensure!(heard == wanted, "the slow client lost something");
        // What the relay had seen of the rows when the visitor typed is its own affair.
        let [typed_at] = typed_at[..] else { bail!("typed at {typed_at:?}") };
        ensure!((1..MESSAGES).contains(&typed_at), "typed at {typed_at}");
    }
    let body = scene.relay.get("/metrics").await?.body;
    ensure!(!body.contains("slow_consumer"), "{body}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_window_has_lost_is_announced_on_the_open_socket() {
    let small = |settings: campfire_tests::relay::Settings| {
        settings.env("CAMPFIRE_WINDOW_BYTES", "1000000").env("CAMPFIRE_MAX_OUTBOX_BYTES", "200000")
    };
    with_settings(small, async |scene| {
        let conversation = scene.conversation().await?;
        let conv = chat::conversation_channel(ORGANIZATION, conversation);
        for vsn in Vsn::BOTH {
            let mut slow = scene.dashboard(vsn, &[&conv]).await?;
            let big = "x".repeat(10_000);
            let wanted: Vec<String> = (1..=1500).map(|number| format!("{number} {big}")).collect();
            scene.write_messages(conversation, &wanted).await?;
            let mut good = scene.dashboard(vsn, &[&conv]).await?;
            scene.write_messages(conversation, &["end".to_owned()]).await?;
            good.next_event().await?;
            // Runs without a gap, each begun by a notice but the first.
            let mut runs: Vec<Vec<usize>> = vec![Vec::new()];
            loop {
                let is_wanted =
                    |frame: &Frame| frame.event == "system" || frame.payload["event"] == "message:created";
                let frame = slow.frame_where("an event or a notice", is_wanted).await?;
                if frame.event == "system" {
                    let message = frame.payload["message"].as_str().unwrap_or_default();
                    ensure!(frame.payload["status"] == "ok", "{frame:?}");
                    ensure!(message.starts_with("ReplayIncomplete"), "{frame:?}");
                    runs.push(Vec::new());
                    continue;
                }
                let content = frame.payload["payload"]["content"].as_str().unwrap_or_default();
                if content == "end" {
                    break;
                }
                let number = content.split(' ').next().unwrap_or_default().parse()?;
                runs.last_mut().context("a run")?.push(number);
            }
            ensure!(runs.len() > 1, "nothing was announced");
            ensure!(runs[0].first() == Some(&1), "not from the beginning: {runs:?}");
            for run in &runs {
                ensure!(run.windows(2).all(|pair| pair[0] + 1 == pair[1]), "a gap, or disorder: {runs:?}");
            }
            let firsts: Vec<_> = runs.iter().filter_map(|run| run.first()).collect();
            ensure!(firsts.is_sorted(), "{runs:?}");
            ensure!(runs.iter().map(Vec::len).sum::<usize>() < wanted.len(), "nothing was lost");
        }
        Ok(())
    })
    .await;
}

/// A client that is sent more than all buffers take, and never reads.
async fn blocked(scene: &Scene, conversation: Uuid) -> Result<Socket> {
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    let mut socket =
        Socket::connect_narrow(&scene.relay, &scene.cluster.credentials.api_key, Vsn::V2).await?;
    let agent = token::agent(scene.secret(), ORGANIZATION, campfire_tests::AGENT);
    ensure!(socket.try_join(&conv, Some(&agent), default_config()).await?.is_ok());
    let big = "x".repeat(10_000);
    scene.write_messages(conversation, &numbered(&big, 1000)).await?;
    Ok(socket)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_reads_is_closed_after_the_idle_time() {
    let impatient = |settings: campfire_tests::relay::Settings| settings.env("CAMPFIRE_IDLE_SECONDS", "3");
    with_settings(impatient, async |scene| {
        let conversation = scene.conversation().await?;
        let mut blocked = blocked(scene, conversation).await?;
        let beating = async {
            loop {
                // It says that it is alive.
                if blocked.send_heartbeat().await.is_err() {
                    return std::future::pending::<()>().await;
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        };
        let closed = eventually_within(PATIENCE, "it is closed", async || {
            let body = scene.relay.get("/metrics").await.ok()?.body;
            body.contains(r#"campfire_sockets_closed_total{reason="not_reading"} 1"#).then_some(())
        });
        tokio::select! {
            () = beating => {}
            () = closed => {}
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_never_reads_does_not_hold_up_a_shutdown() {
    let grace = |settings: campfire_tests::relay::Settings| {
        settings.env("CAMPFIRE_SHUTDOWN_GRACE_SECONDS", "25").env("CAMPFIRE_IDLE_SECONDS", "600")
    };
    with_settings(grace, async |scene| {
        let conversation = scene.conversation().await?;
        let _blocked = blocked(scene, conversation).await?;
        let lagged = async || {
            let lagged = scene.relay.metric("campfire_channels_lagged_total").await.ok()??;
            (lagged >= 1.0).then_some(())
        };
        eventually("its outbox is full", lagged).await;
        let began = Instant::now();
        ensure!(scene.relay.terminate().await?.success());
        ensure!(began.elapsed() < Duration::from_secs(20), "it took {:?}", began.elapsed());
        Ok(())
    })
    .await;
}
