//! Connections that are no WebSocket: silent, slow, too many, and in the way of a stop.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use campfire_tests::relay::{self, Settings};
use campfire_tests::socket::Vsn;
use campfire_tests::{Cluster, ORGANIZATION, Relay, chat, eventually, port, server};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::scene::{Scene, is_logged_seldom, scene_test, with_settings};

const GET: &[u8] = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
const HALF_A_HEADER: &[u8] = b"GET /healthz HTTP/1.1\r\nhost:";

/// Longer than any deadline that these tests set.
const PATIENCE: Duration = Duration::from_secs(30);

async fn open(relay: &Relay, said: &[u8]) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(relay.address()).await?;
    stream.write_all(said).await?;
    Ok(stream)
}

/// Reads until the other side closes, whichever way it does.
async fn read_to_end(stream: &mut (impl AsyncRead + Unpin)) -> Result<String> {
    let mut answer = Vec::new();
    let read = async {
        let mut piece = [0; 4096];
        // A reset is an end as well: something of ours was not read.
        while let Ok(count @ 1..) = stream.read(&mut piece).await {
            answer.extend_from_slice(&piece[..count]);
        }
    };
    tokio::time::timeout(PATIENCE, read).await.context("the connection is never closed")?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), said: &[u8]) -> Result<String> {
    stream.write_all(said).await?;
    let mut answer = vec![0; 4096];
    let count = tokio::time::timeout(PATIENCE, stream.read(&mut answer)).await.context("no answer")??;
    Ok(String::from_utf8_lossy(&answer[..count]).into_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_connections_are_closed_and_nobody_else_suffers() {
    // 136 files for clients: 50 sockets, and 86 connections that are none.
    let settings = |settings: Settings| {
        settings
            .open_files(200)
            .env("CAMPFIRE_MAX_SOCKETS", "50")
            .env("CAMPFIRE_HEADER_SECONDS", "3")
            .env("CAMPFIRE_KEEP_ALIVE_SECONDS", "4")
    };
    with_settings(settings, async |scene| {
        let conversation = scene.conversation().await?;
        let channel = chat::conversation_channel(ORGANIZATION, conversation);
        let mut before = scene.dashboard(Vsn::V2, &[&channel]).await?;
        let mut silent = Vec::new();
        for number in 0..180 {
            let said: &[u8] = [&b""[..], HALF_A_HEADER, GET][number % 3];
            silent.push(open(&scene.relay, said).await?);
            // Those that come later are served at once.
            if number % 60 == 59 {
                ensure!(scene.relay.get("/readyz").await?.status == 200);
                let mut late = scene.dashboard(Vsn::V1, &[&channel]).await?;
                scene.write_messages(conversation, &["hello".to_owned()]).await?;
                late.expect(&channel, "message:created").await?;
                before.expect(&channel, "message:created").await?;
            }
        }
        ensure!(scene.relay.open_files()? < 200, "{} files", scene.relay.open_files()?);
        ensure!(scene.relay.metric("campfire_connections").await?.is_some_and(|count| count <= 86.0));
        for stream in &mut silent {
            read_to_end(stream).await?;
        }
        let text = scene.relay.get("/metrics").await?.body;
        for reason in ["evicted", "header_timeout", "keep_alive_timeout"] {
            ensure!(
                text.contains(&format!("campfire_connections_closed_total{{reason=\"{reason}\"}}")),
                "{text}"
            );
        }
        scene.relay.wait_for_log("closed a connection that is not a WebSocket").await;
        // Those that are sockets stay for as long as they like.
        ensure!(before.heartbeat().await?.is_ok());
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_handshakes_is_served_whole() {
    let settings = |settings: Settings| settings.env("CAMPFIRE_MAX_CONNECTIONS", "4");
    with_settings(settings, async |scene| {
        let key = &scene.cluster.credentials.api_key;
        let head = format!(
            "GET /realtime/v1/websocket?apikey={key}&vsn=2.0.0 HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\n\
             upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        // As after a restart: all have come before the first is looked at.
        server::signal(scene.relay.pid(), "STOP");
        let mut clients = Vec::new();
        for _ in 0..150 {
            clients.push(open(&scene.relay, head.as_bytes()).await?);
        }
        server::signal(scene.relay.pid(), "CONT");
        for (number, client) in clients.iter_mut().enumerate() {
            let mut status = [0; 12];
            let read = tokio::time::timeout(PATIENCE, client.read_exact(&mut status)).await?;
            read.with_context(|| format!("handshake {number}"))?;
            ensure!(&status == b"HTTP/1.1 101", "handshake {number}: {}", String::from_utf8_lossy(&status));
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_is_kept_for_its_time_and_used_again() {
    let settings = |settings: Settings| settings.env("CAMPFIRE_HEADER_SECONDS", "1");
    with_settings(settings, async |scene| {
        let mut kept = open(&scene.relay, b"").await?;
        ensure!(ask(&mut kept, GET).await?.starts_with("HTTP/1.1 200"));
        // Longer than a first header may take; half a header does not begin the time anew.
        let mut slow = open(&scene.relay, HALF_A_HEADER).await?;
        let began = Instant::now();
        ensure!(read_to_end(&mut slow).await?.is_empty());
        ensure!(began.elapsed() > Duration::from_millis(500), "closed after {:?}", began.elapsed());
        ensure!(ask(&mut kept, GET).await?.starts_with("HTTP/1.1 200"));
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_does_not_come_is_answered_and_not_waited_for() {
    let settings = |settings: Settings| settings.env("CAMPFIRE_BODY_SECONDS", "1");
    with_settings(settings, async |scene| {
        let key = &scene.cluster.credentials.api_key;
        for path in ["/api/broadcast", "/api/broadcast/room/events/e"] {
            let head = format!(
                "POST {path} HTTP/1.1\r\nhost: x\r\napikey: {key}\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{{"
            );
            let mut slow = open(&scene.relay, head.as_bytes()).await?;
            let answer = read_to_end(&mut slow).await?;
            ensure!(answer.starts_with("HTTP/1.1 408") && answer.contains("took too long"), "{answer}");
            ensure!(answer.contains("access-control-allow-origin: *"), "{answer}");
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_that_stop_before_their_end_take_little_memory_together() {
    let settings = |settings: Settings| {
        settings
            .env("CAMPFIRE_MAX_BODY_BYTES", "1MB")
            .env("CAMPFIRE_MAX_BODIES_BYTES", "2MB")
            .env("CAMPFIRE_BODY_SECONDS", "10m")
            .env("CAMPFIRE_PUBLIC_CHANNELS", "allow")
    };
    with_settings(settings, async |scene| {
        let key = &scene.cluster.credentials.api_key;
        let head = format!(
            "POST /api/broadcast HTTP/1.1\r\nhost: x\r\napikey: {key}\r\ncontent-length: 1000000\r\n\r\n"
        );
        let almost = [head.as_bytes(), &vec![b' '; 900_000]].concat();
        let mut stalled = Vec::new();
        for _ in 0..12 {
            let mut stream = open(&scene.relay, b"").await?;
            // It may be given up before it has sent all.
            stream.write_all(&almost).await.ok();
            stalled.push(stream);
        }
        // Two have room.
        eventually("ten are given up", async || {
            scene.relay.metric("campfire_connections_closed_total").await.ok()?.filter(|count| *count >= 10.0)
        })
        .await;
        let message = serde_json::json!({"messages": [{"topic": "room", "event": "e", "payload": {}}]});
        let response = scene.relay.post("/api/broadcast", &[("apikey", key)], &message).await?;
        ensure!(response.status == 202, "{response:?}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_yet_asked_does_not_hold_up_a_stop() {
    let settings = |settings: Settings| settings.env("CAMPFIRE_SHUTDOWN_GRACE_SECONDS", "29");
    with_settings(settings, async |scene| {
        let key = &scene.cluster.credentials.api_key;
        let mut kept = open(&scene.relay, b"").await?;
        ask(&mut kept, GET).await?;
        let (silent, half) = (open(&scene.relay, b"").await?, open(&scene.relay, HALF_A_HEADER).await?);
        let head = format!(
            "POST /api/broadcast HTTP/1.1\r\nhost: x\r\napikey: {key}\r\ncontent-length: 9\r\n\r\n{{"
        );
        let mut body = open(&scene.relay, head.as_bytes()).await?;
        eventually("all are there", async || {
            scene.relay.metric("campfire_connections").await.ok()?.filter(|count| *count >= 4.0)
        })
        .await;
        ensure!(scene.relay.terminate().await?.success());
        let log = scene.relay.finished_log();
        ensure!(!log.contains("gave up waiting") && log.contains("\"stopped\""), "{log}");
        // Who was in the middle of a request is told.
        let answer = read_to_end(&mut body).await?;
        ensure!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        drop((silent, half, kept));
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stop_waits_for_is_said_as_it_is() {
    let settings = |settings: Settings| {
        settings.env("CAMPFIRE_SHUTDOWN_GRACE_SECONDS", "1").env("CAMPFIRE_POLICY_SECONDS", "1m")
    };
    with_settings(settings, async |scene| {
        scene.relay.expect_log("gave up waiting");
        scene.database.batch_execute("set client_min_messages = warning").await?;
        scene.database.batch_execute("select campfire.install_supabase_api()").await?;
        // The policies cannot be asked while this stands.
        scene.database.batch_execute("begin; lock table realtime.messages in access exclusive mode").await?;
        let key = &scene.cluster.credentials.api_key;
        let head = format!(
            "POST /api/broadcast/room/events/e?private=true HTTP/1.1\r\nhost: x\r\napikey: {key}\r\ncontent-length: 0\r\n\r\n"
        );
        let _asking = open(&scene.relay, head.as_bytes()).await?;
        eventually("the policies are asked", async || {
            scene.relay.metric("campfire_policy_askers").await.ok()?.filter(|count| *count == 1.0)
        })
        .await;
        ensure!(scene.relay.terminate().await?.success());
        let log = scene.relay.finished_log();
        ensure!(log.contains("1 connections in the middle of a request"), "{log}");
        ensure!(!log.contains("sockets that take no more"), "there is none: {log}");
        Ok(())
    })
    .await;
}

/// Sets the soft limit of a running process.
fn limit_files(pid: u32, count: &str) -> Result<()> {
    let status =
        Command::new("prlimit").args(["--pid", &pid.to_string(), &format!("--nofile={count}:")]).status()?;
    ensure!(status.success(), "prlimit failed");
    Ok(())
}

#[scene_test]
async fn a_relay_without_free_files_says_so_and_goes_on_when_there_are(scene: &mut Scene) -> Result<()> {
    scene.relay.expect_log("cannot accept connections");
    let began = Instant::now();
    let pid = scene.relay.pid();
    limit_files(pid, "5")?;
    let mut waiting = open(&scene.relay, GET).await?;
    eventually("it is logged", async || {
        scene.relay.log_text().contains("cannot accept connections").then_some(())
    })
    .await;
    let before = scene.relay.cpu_time()?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let spent = scene.relay.cpu_time()? - before;
    ensure!(spent < Duration::from_millis(500), "{spent:?} of 2 s were spent in vain");
    is_logged_seldom(&scene.relay, "cannot accept", began, Duration::from_secs(10)).await?;
    limit_files(pid, "512")?;
    let mut answer = [0; 12];
    tokio::time::timeout(PATIENCE, waiting.read_exact(&mut answer)).await??;
    ensure!(&answer == b"HTTP/1.1 200");
    ensure!(scene.relay.metric("campfire_accept_failures_total").await?.is_some_and(|count| count > 0.0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unix_socket_has_the_mode_and_group_that_a_proxy_needs() -> Result<()> {
    let cluster = Cluster::boot()?;
    let path = cluster.dir.join("relay.sock");
    // Only root may give a file to a group that it is not in.
    let own = std::fs::metadata("/proc/self")?;
    let group = if own.uid() == 0 { 4711 } else { own.gid() };
    let settings = Settings::of(&cluster)?
        .also_on(&format!("unix:{}", path.display()))
        .env("CAMPFIRE_UNIX_MODE", "660")
        .env("CAMPFIRE_UNIX_GROUP", &group.to_string())
        .env("CAMPFIRE_HEADER_SECONDS", "1");
    let relay = settings.start().await?;
    let file = std::fs::metadata(&path)?;
    ensure!(file.permissions().mode() & 0o777 == 0o660, "{:o}", file.permissions().mode());
    ensure!(file.gid() == group, "{}", file.gid());
    let mut stream = UnixStream::connect(&path).await?;
    ensure!(ask(&mut stream, GET).await?.starts_with("HTTP/1.1 200"));
    // The deadlines hold here as well.
    let mut half = UnixStream::connect(&path).await?;
    half.write_all(HALF_A_HEADER).await?;
    ensure!(read_to_end(&mut half).await?.is_empty());
    drop(relay);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_and_metrics_can_have_an_address_of_their_own() -> Result<()> {
    let cluster = Cluster::boot()?;
    let inner = format!("127.0.0.1:{}", port::reserve()?);
    let settings =
        Settings::of(&cluster)?.env("CAMPFIRE_METRICS_LISTEN", &inner).env("CAMPFIRE_HEADER_SECONDS", "1");
    let relay = settings.spawn()?;
    eventually("the inner address says ready", async || {
        relay::get(&inner, "/readyz").await.ok().filter(|answer| answer.status == 200)
    })
    .await;
    for path in ["/healthz", "/readyz", "/metrics"] {
        ensure!(relay::get(&inner, path).await?.status == 200, "{path}");
        ensure!(relay.get(path).await?.status == 404, "{path} is on the outer address");
    }
    ensure!(relay::get(&inner, "/realtime/v1/websocket").await?.status == 404);
    let mut half = TcpStream::connect(&inner).await?;
    half.write_all(HALF_A_HEADER).await?;
    ensure!(read_to_end(&mut half).await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_is_heard_while_the_relay_starts() -> Result<()> {
    let cluster = Cluster::boot()?;
    // Keys that are published by somebody who never answers.
    let publisher = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let source = format!("http://{}/keys", publisher.local_addr()?);
    let mut relay = Settings::of(&cluster)?.env("CAMPFIRE_JWKS", &source).spawn()?;
    let (_asking, _) = tokio::time::timeout(PATIENCE, publisher.accept()).await??;
    let asked_at = Instant::now();
    ensure!(relay.terminate().await?.success());
    // The relay itself gives up after 5 s.
    let log = relay.finished_log();
    ensure!(log.contains("stopped before it had started"), "after {:?}: {log}", asked_at.elapsed());
    Ok(())
}

#[scene_test]
async fn signals_that_mean_nothing_to_it_do_not_end_the_relay(scene: &mut Scene) -> Result<()> {
    for name in ["HUP", "USR1", "USR2", "PIPE"] {
        server::signal(scene.relay.pid(), name);
    }
    for name in ["SIGHUP", "SIGUSR1", "SIGUSR2"] {
        let line = format!("{name} is ignored");
        eventually("it is logged", async || scene.relay.log_text().contains(&line).then_some(())).await;
    }
    ensure!(scene.relay.get("/readyz").await?.status == 200);
    Ok(())
}
