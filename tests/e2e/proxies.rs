//! Who a client is, behind proxies.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use campfire_tests::Relay;
use campfire_tests::relay::Settings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::scene::{Scene, is_logged_seldom, scene_test, with_settings};

fn one_socket_each(settings: Settings) -> Settings {
    settings.env("CAMPFIRE_MAX_SOCKETS_PER_IP", "1").env("CAMPFIRE_TRUSTED_PROXIES", "1")
}

/// Shakes hands with any bytes as headers; returns the status, and what keeps the place.
async fn shake_hands(scene: &Scene, headers: &[u8]) -> Result<(u16, TcpStream)> {
    let mut stream = TcpStream::connect(scene.relay.address()).await?;
    let key = &scene.cluster.credentials.api_key;
    let head = format!(
        "GET /realtime/v1/websocket?apikey={key}&vsn=2.0.0 HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\n\
         upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    );
    stream.write_all(&[head.as_bytes(), headers, b"\r\n"].concat()).await?;
    let mut status = [0; 12];
    stream.read_exact(&mut status).await?;
    let status = std::str::from_utf8(&status)?.rsplit(' ').next().context("a status")?.parse()?;
    Ok((status, stream))
}

/// The first of these takes the place of its client, and no other spelling gets a second.
async fn are_one_client(scene: &Scene, spellings: &[&[u8]]) -> Result<()> {
    let mut kept = Vec::new();
    for (index, headers) in spellings.iter().enumerate() {
        let (status, stream) = shake_hands(scene, headers).await?;
        let expected = if index == 0 { 101 } else { 429 };
        ensure!(status == expected, "{}: {status}", String::from_utf8_lossy(headers));
        kept.push(stream);
    }
    Ok(())
}

#[scene_test(one_socket_each)]
async fn a_client_is_one_however_its_proxy_writes_it_and_whatever_it_adds_itself(
    scene: &mut Scene,
) -> Result<()> {
    are_one_client(
        scene,
        &[
            b"x-forwarded-for: 203.0.113.7\r\n",
            b"x-forwarded-for: 203.0.113.7:51234\r\n",
            b"x-forwarded-for: 203.0.113.7:9\r\n",
            b"X-Forwarded-For: 198.51.100.1, 203.0.113.7\r\n",
            b"x-forwarded-for: 198.51.100.2\r\nx-forwarded-for: 203.0.113.7\r\n",
            b"x-forwarded-for: \xff\xfe, 203.0.113.7\r\n",
            b"x-forwarded-for: ,, ,203.0.113.7,\r\n",
            b"x-forwarded-for: ::ffff:203.0.113.7\r\n",
            b"x-forwarded-for: [::ffff:203.0.113.7]:80\r\n",
            b"forwarded: for=203.0.113.7\r\n",
            b"forwarded: for=\"203.0.113.7:51234\";proto=https\r\n",
            b"forwarded: for=\"x, FOR=203.0.113.7\r\n",
            b"forwarded: for=198.51.100.9\r\nx-forwarded-for: 203.0.113.7\r\n",
        ],
    )
    .await?;
    // A customer of a provider chooses addresses within a /64.
    are_one_client(
        scene,
        &[
            b"x-forwarded-for: 2001:db8:1:2::3\r\n",
            b"x-forwarded-for: [2001:db8:1:2::4]\r\n",
            b"x-forwarded-for: [2001:db8:1:2:5:6:7:8]:443\r\n",
            b"forwarded: for=\"[2001:DB8:1:2::9]:443\"\r\n",
        ],
    )
    .await?;
    let (status, _) = shake_hands(scene, b"x-forwarded-for: 2001:db8:1:3::3\r\n").await?;
    ensure!(status == 101, "another network: {status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_known_counts_as_one_and_is_logged_once() {
    let began = Instant::now();
    with_settings(one_socket_each, async |scene| {
        are_one_client(
            scene,
            &[
                b"x-forwarded-for: unknown\r\n",
                b"",
                b"x-forwarded-for: nonsense\r\n",
                b"x-forwarded-for: 127.0.0.1\r\n",
                b"x-forwarded-for: \xff\r\n",
                b"x-forwarded-for: 203.0.113.7, _hidden\r\n",
                b"forwarded: for=_hidden\r\n",
                b"forwarded: for=unknown\r\n",
                b"forwarded: proto=https\r\n",
            ],
        )
        .await?;
        is_logged_seldom(&scene.relay, "do not say where", began, Duration::from_secs(10)).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxies_that_write_forwarded_can_be_trusted_with_that_alone() {
    let settings = |settings: Settings| {
        one_socket_each(settings)
            .env("CAMPFIRE_FORWARDED_HEADER", "forwarded")
            .env("CAMPFIRE_TRUSTED_PROXIES", "2")
    };
    with_settings(settings, async |scene| {
        are_one_client(
            scene,
            &[
                b"forwarded: for=203.0.113.7, for=10.0.0.1\r\n",
                b"forwarded: for=198.51.100.1;by=x, for=203.0.113.7, for=\"[fd00::1]\"\r\n",
                b"forwarded: for=203.0.113.7\r\nforwarded: for=10.0.0.2\r\nx-forwarded-for: 198.51.100.1, 10.0.0.1\r\n",
            ],
        )
        .await
    })
    .await;
}

async fn is_told(relay: &Relay, said: &[u8], text: &str) -> Result<()> {
    let began = Instant::now();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(relay.address()).await?;
        stream.write_all(said).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok();
    }
    is_logged_seldom(relay, text, began, Duration::from_secs(60)).await
}

#[scene_test(one_socket_each)]
async fn what_a_proxy_speaks_that_is_no_http_is_told_once_with_what_to_do(scene: &mut Scene) -> Result<()> {
    let request = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n";
    let plain = [b"PROXY TCP4 203.0.113.7 10.0.0.1 51234 80\r\n", &request[..]].concat();
    is_told(&scene.relay, &plain, "PROXY protocol").await?;
    is_told(&scene.relay, b"\x16\x03\x01\x00\x05hello", "begins with TLS").await?;
    is_told(&scene.relay, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "begins with HTTP/2").await?;
    Ok(())
}

#[scene_test(one_socket_each)]
async fn the_binary_proxy_protocol_is_told_too(scene: &mut Scene) -> Result<()> {
    is_told(
        &scene.relay,
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\x0a\0\0\x01\xc8\x22\0\x50GET",
        "PROXY protocol",
    )
    .await
}
