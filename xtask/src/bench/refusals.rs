//! Handshakes that are refused: with forged tokens, each of which costs the check of a signature, and without any.
//!
//! The floor is a handshake that shows no key, refused before anything is verified; processor time of the relay counts,
//! not the clock. Connections stay open, as a client would keep them that wants the relay to work: only what a request
//! costs is left.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use campfire_tests::issuer::Issuer;
use campfire_tests::relay::{Relay, Settings};
use campfire_tests::{AGENT, Cluster, ORGANIZATION, token};
use futures_util::future::try_join_all;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::step;

const CONNECTIONS: usize = 20;

/// Handshakes of a connection, in each round.
const HANDSHAKES: usize = 1_000;

/// The relay's processor time for all handshakes of a round.
async fn refused(relay: &Relay, key: Option<&str>) -> Result<Duration> {
    let key = key.map(|key| format!("x-api-key: {key}\r\n")).unwrap_or_default();
    let address = relay.address();
    let request = format!("GET /realtime/v1/websocket?vsn=2.0.0 HTTP/1.1\r\nhost: {address}\r\n{key}\r\n");
    let before = relay.cpu_time()?;
    try_join_all((0..CONNECTIONS).map(|_| repeat(&address, &request))).await?;
    Ok(relay.cpu_time()? - before)
}

async fn repeat(address: &str, request: &str) -> Result<()> {
    let mut stream = BufReader::new(TcpStream::connect(address).await?);
    let mut line = String::new();
    for _ in 0..HANDSHAKES {
        stream.write_all(request.as_bytes()).await?;
        let mut length = 0;
        let mut is_first = true;
        loop {
            line.clear();
            ensure!(stream.read_line(&mut line).await? > 0, "the relay closed the connection");
            ensure!(!is_first || line.contains(" 401 "), "{line}");
            is_first = false;
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse()?;
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
    }
    Ok(())
}

/// Runs the scenario once.
pub(super) async fn measure(relay: &Path) -> Result<Value> {
    let cluster = Cluster::boot()?;
    let kinds = [("RS256", Algorithm::RS256), ("ES256", Algorithm::ES256), ("EdDSA", Algorithm::EdDSA)];
    let issuers =
        || kinds.iter().map(|(name, algorithm)| Issuer::new(name, *algorithm)).collect::<Result<Vec<_>>>();
    let (published, forgers) = (issuers()?, issuers()?);
    let keys = published.iter().map(Issuer::published).collect::<Result<Vec<_>>>()?;
    let path = cluster.dir.join("jwks.json");
    std::fs::write(&path, json!({"keys": keys}).to_string())?;
    let path = path.to_str().context("a path of text")?;
    let settings = Settings::of(&cluster)?.binary(relay).env("CAMPFIRE_LOG", "error");
    let relay = settings.env("CAMPFIRE_JWKS", path).start().await?;

    let claims = token::agent_claims(ORGANIZATION, AGENT);
    let mut forged = vec![("HS256", token::mint("a secret that nobody else knows, of 32 bytes", &claims))];
    for ((name, _), forger) in kinds.iter().zip(&forgers) {
        forged.push((name, forger.sign(&claims)?));
    }
    let handshakes = CONNECTIONS * HANDSHAKES;
    step::announce(&format!("{handshakes} handshakes without a key, and with each kind of forged token"));
    refused(&relay, None).await?;
    let floor = refused(&relay, None).await?;
    let micros = |cpu: Duration| (cpu.as_secs_f64() * 1e7 / handshakes as f64).round() / 10.0;
    let mut result = json!({
        "scenario": "refusals",
        "handshakes": handshakes,
        "floor: no key, CPU microseconds": micros(floor),
    });
    for (name, token) in &forged {
        let cpu = refused(&relay, Some(token)).await?;
        result[format!("forged {name}, CPU microseconds")] = micros(cpu).into();
        result[format!("forged {name}, ratio")] =
            ((cpu.as_secs_f64() / floor.as_secs_f64() * 100.0).round() / 100.0).into();
    }
    Ok(result)
}
