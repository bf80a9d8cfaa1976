//! Keys and tokens: published keys that come and go, secrets that rotate, claims where the database says.

use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, ensure};
use campfire_tests::cluster::Cluster;
use campfire_tests::http::request;
use campfire_tests::issuer::Issuer;
use campfire_tests::relay::Settings;
use campfire_tests::socket::{Refused, Vsn, default_config};
use campfire_tests::wait::DEADLINE;
use campfire_tests::{AGENT, ORGANIZATION, Socket, chat, eventually, token};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::scene::{Scene, scene_test, with_settings};

fn set(issuers: &[&Issuer]) -> Result<String> {
    let keys = issuers.iter().map(|issuer| issuer.published()).collect::<Result<Vec<_>>>()?;
    Ok(json!({"keys": keys}).to_string())
}

async fn connect(address: &str, key: &str) -> Result<Result<Socket, Refused>> {
    Socket::try_connect(address, key, Vsn::V2).await
}

fn error_of(refused: &Refused) -> String {
    let body: Value = serde_json::from_str(&refused.body).unwrap_or_default();
    body["error"].as_str().unwrap_or_default().to_owned()
}

fn agent_claims() -> Value {
    token::agent_claims(ORGANIZATION, AGENT)
}

/// A file in the cluster's directory, which goes with it.
fn write_set(cluster: &Cluster, issuers: &[&Issuer]) -> Result<std::path::PathBuf> {
    let path = cluster.dir.join("jwks.json");
    std::fs::write(&path, set(issuers)?)?;
    Ok(path)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_verified_by_the_published_key_that_they_name() -> Result<()> {
    let cluster = Cluster::boot()?;
    let issuers = [
        Issuer::new("rsa", Algorithm::RS256)?,
        Issuer::new("ec", Algorithm::ES256)?,
        Issuer::new("ed", Algorithm::EdDSA)?,
    ];
    let path = write_set(&cluster, &issuers.each_ref())?;
    // No secret at all: published keys are enough.
    let settings = Settings::of(&cluster)?.env("CAMPFIRE_JWKS", &path.display().to_string());
    let relay = settings.without("CAMPFIRE_JWT_SECRET").start().await?;
    let address = relay.address();
    for issuer in &issuers {
        let signed = issuer.sign(&agent_claims())?;
        let mut socket =
            connect(&address, &signed).await?.map_err(|refused| anyhow::anyhow!("{refused:?}"))?;
        socket.join(&chat::organization_channel(ORGANIZATION), &signed).await?;
        let refused =
            connect(&address, &issuer.sign_as(None, &agent_claims())?).await?.err().context("no kid")?;
        ensure!(refused.status == 401, "{refused:?}");
        let signer = "Failed to generate JWT signer, check your JWT secret or JWKS configuration";
        ensure!(error_of(&refused) == signer, "{refused:?}");
        let unknown = issuer.sign_as(Some("nobody"), &agent_claims())?;
        let refused = connect(&address, &unknown).await?.err().context("an unknown kid")?;
        let signer = "Failed to generate JWT signer for key ID (kid) \"nobody\", check your JWT secret or JWKS configuration";
        ensure!(refused.status == 401 && error_of(&refused) == signer, "{refused:?}");
    }
    // The name of one key and the signature of another.
    let other = Issuer::new("ec", Algorithm::ES256)?;
    let refused = connect(&address, &other.sign(&agent_claims())?).await?.err().context("forged")?;
    ensure!(error_of(&refused) == "Failed to validate JWT signature", "{refused:?}");
    ensure!(!relay.log_text().contains(&issuers[1].sign(&agent_claims())?[..20]), "tokens in the log");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_published_later_is_found_and_one_that_is_taken_back_is_gone() -> Result<()> {
    let cluster = Cluster::boot()?;
    let (old, new) = (Issuer::new("old", Algorithm::ES256)?, Issuer::new("new", Algorithm::EdDSA)?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/keys?apikey=hunter2", listener.local_addr()?);
    let published = Arc::new(Mutex::new(set(&[&old])?));
    let answer = Arc::clone(&published);
    let server = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 2048];
            let _ = stream.read(&mut request).await;
            let body = answer.lock().unwrap().clone();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            let _ = stream.write_all((head + &body).as_bytes()).await;
        }
    });
    let settings =
        Settings::of(&cluster)?.env("CAMPFIRE_JWKS", &url).env("CAMPFIRE_JWKS_REFRESH_SECONDS", "3600");
    let relay = settings.start().await?;
    let address = relay.address();
    ensure!(connect(&address, &old.sign(&agent_claims())?).await?.is_ok());
    // The issuer rotates. A token of the new key makes the relay look, though not more often than every 10 s.
    *published.lock().unwrap() = set(&[&new])?;
    let signed = new.sign(&agent_claims())?;
    let accepted = async || connect(&address, &signed).await.ok()?.ok().map(drop);
    eventually("the new key is known", accepted).await;
    let refused = connect(&address, &old.sign(&agent_claims())?).await?.err().context("taken back")?;
    ensure!(refused.status == 401, "{refused:?}");
    // The secret that is set beside them still verifies.
    let secret = &cluster.credentials.jwt_secret;
    ensure!(connect(&address, &token::agent(secret, ORGANIZATION, AGENT)).await?.is_ok());
    ensure!(!relay.log_text().contains("hunter2"), "the URL's query in the log");
    server.abort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_was_replaced_is_good_for_as_long_as_it_is_named() {
    let settings = |settings: Settings| {
        settings.env("CAMPFIRE_JWT_PREVIOUS_SECRETS", "the secret before this one, the one before that")
    };
    with_settings(settings, async |scene| {
        let address = scene.relay.address();
        for secret in ["the secret before this one", "the one before that", scene.secret()] {
            ensure!(connect(&address, &token::agent(secret, ORGANIZATION, AGENT)).await?.is_ok(), "{secret}");
        }
        let refused = connect(&address, &token::agent("never one", ORGANIZATION, AGENT)).await?;
        ensure!(refused.err().is_some_and(|refused| refused.status == 401));
        ensure!(!scene.relay.log_text().contains("before that"), "a secret in the log");
        Ok(())
    })
    .await;
}

#[scene_test(|settings| settings.env("CAMPFIRE_LOG", "trace"))]
async fn secrets_show_neither_in_the_log_nor_in_metrics_nor_in_the_process_list(
    scene: &mut Scene,
) -> Result<()> {
    let conversation = scene.conversation().await?;
    let token = scene.visitor(conversation);
    let channel = chat::conversation_channel(ORGANIZATION, conversation);
    let mut socket = scene.socket(Vsn::V2).await?;
    socket.join(&channel, &token).await?;
    socket.broadcast(&channel, "typing:start", json!({"secret": "payload-canary"})).await?;
    ensure!(socket.heartbeat().await?.is_ok());
    let metrics = scene.relay.get("/metrics").await?.body;
    let arguments =
        std::fs::read_to_string(Path::new("/proc").join(scene.relay.pid().to_string()).join("cmdline"))?;
    let signature = token.rsplit('.').next().context("a token has a signature")?;
    let credentials = &scene.cluster.credentials;
    // Our own lines: at trace, libraries print what they like.
    let log: Vec<_> = scene.relay.log().into_iter().filter(|line| line.contains("campfire_relay")).collect();
    let log = log.join("\n");
    for secret in
        [signature, scene.secret(), &credentials.api_key, &credentials.relay_password, "payload-canary"]
    {
        for (place, text) in [("log", &log), ("metrics", &metrics), ("process list", &arguments)] {
            ensure!(!text.contains(secret), "{place} has {secret}");
        }
    }
    Ok(())
}

#[scene_test]
async fn claims_are_where_the_databases_settings_say(scene: &mut Scene) -> Result<()> {
    let set = "update campfire.settings set value = 'app_metadata.tenant' where name = 'claim_organization'";
    ensure!(scene.database.execute(set, &[]).await? == 1);
    // Settings are read at each attach.
    scene.relay.kill_9().await?;
    scene.relay.start_again().await?;
    let channel = chat::organization_channel(ORGANIZATION);
    let mut socket = scene.socket(Vsn::V2).await?;
    let old = socket.try_join(&channel, Some(&scene.agent()), default_config()).await?;
    ensure!(old.reason().starts_with("Unauthorized"), "{old:?}");
    let claims = json!({"role": "authenticated", "sub": AGENT, "exp": token::in_an_hour(),
        "app_metadata": {"tenant": ORGANIZATION}});
    socket.join(&channel, &token::mint(scene.secret(), &claims)).await?;
    Ok(())
}

#[scene_test]
async fn expiry_ends_the_channel_and_not_the_socket(scene: &mut Scene) -> Result<()> {
    for vsn in Vsn::BOTH {
        let mut socket = scene.socket(vsn).await?;
        let (short, long) =
            (chat::organization_channel(ORGANIZATION), chat::conversations_channel(ORGANIZATION));
        join_until_soon(scene, &mut socket, &short).await?;
        socket.join(&long, &scene.agent()).await?;
        let system = socket.frame_where("the expiry", |frame| frame.event == "system").await?;
        let message = system.payload["message"].as_str().unwrap_or_default();
        ensure!(
            message.starts_with("Token has expired ") && system.payload["status"] == "error",
            "{system:?}"
        );
        ensure!(system.payload["channel"] == short.as_str(), "{system:?}");
        let close = socket.frame_where("the close", |frame| frame.event == "phx_close").await?;
        ensure!(close.topic == format!("realtime:{short}"), "{close:?}");
        ensure!(socket.heartbeat().await?.is_ok());
        let reply = socket.request(&long, "presence", json!({"event": "untrack"})).await?;
        ensure!(reply.is_ok(), "the other channel lives: {reply:?}");
    }
    Ok(())
}

/// Joins with a token that expires soon after, however long a join takes.
async fn join_until_soon(scene: &Scene, socket: &mut Socket, channel: &str) -> Result<()> {
    let mut claims = agent_claims();
    for seconds in [2, 4, 8, 16, 32, 64] {
        claims["exp"] = (token::now() + seconds).into();
        let token = token::mint(scene.secret(), &claims);
        let reply = socket.try_join(channel, Some(&token), default_config()).await?;
        if reply.is_ok() {
            return Ok(());
        }
        ensure!(reply.reason().contains("expired"), "{reply:?}");
    }
    anyhow::bail!("no join takes less than a minute")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_cannot_be_read_at_the_start_are_told_of() -> Result<()> {
    let cluster = Cluster::boot()?;
    let settings = Settings::of(&cluster)?.env("CAMPFIRE_JWKS", "/nowhere/keys.json");
    let mut relay = settings.spawn()?;
    ensure!(!relay.wait_for_exit().await?.success());
    let log = relay.finished_log();
    ensure!(log.contains("CAMPFIRE_JWKS cannot be read"), "{log}");
    // A URL may be down for a while: secrets verify meanwhile.
    let settings = Settings::of(&cluster)?.env("CAMPFIRE_JWKS", "http://127.0.0.1:9/keys");
    let mut relay = settings.spawn()?;
    relay.expect_log("cannot fetch the published keys yet");
    relay.wait_until_ready().await?;
    let token = token::agent(&cluster.credentials.jwt_secret, ORGANIZATION, AGENT);
    let connected = tokio::time::timeout(DEADLINE, connect(&relay.address(), &token)).await??;
    ensure!(connected.is_ok());
    Ok(())
}

#[scene_test]
async fn a_role_that_tokens_cannot_have_is_refused_with_those_that_they_can(scene: &mut Scene) -> Result<()> {
    let grant = "create role editor nologin; grant editor to campfire_relay";
    scene.database.batch_execute(grant).await?;
    let mut claims = token::agent_claims(ORGANIZATION, AGENT);
    claims["role"] = "editor".into();
    let editor = token::mint(scene.secret(), &claims);
    let text = "Role not allowed: the role of a token must be anon, authenticated or service_role";
    let mut socket = scene.socket(Vsn::V2).await?;
    let reply = socket.try_join("room", Some(&editor), default_config()).await?;
    ensure!(reply.reason() == text, "{reply:?}");
    let refused = connect(&scene.relay.address(), &editor).await?.err().context("connected")?;
    ensure!(refused.status == 401 && refused.body.contains(text), "{refused:?}");
    let bearer = format!("Bearer {editor}");
    let headers = [("authorization", bearer.as_str())];
    let response = scene.relay.post("/api/broadcast/r/events/e", &headers, &json!({})).await?;
    ensure!(response.status == 401, "{response:?}");
    Ok(())
}

fn few_in_vain(settings: Settings) -> Settings {
    settings.env("CAMPFIRE_MAX_REFUSED_TOKENS_PER_SECOND", "1").env("CAMPFIRE_TRUSTED_PROXIES", "1")
}

#[scene_test(few_in_vain)]
async fn who_shows_many_forged_tokens_has_no_more_of_them_verified(scene: &mut Scene) -> Result<()> {
    const THERE: &str = "192.0.2.1";
    let address = scene.relay.address();
    let handshake = async |key: &str, from: &str| {
        let headers = [("x-api-key", key), ("x-forwarded-for", from)];
        anyhow::Ok(request(&address, "GET", "/realtime/v1/websocket?vsn=2.0.0", &headers, b"").await?.status)
    };
    let agent = |number: usize| {
        let mut claims = agent_claims();
        claims["session"] = number.into();
        token::mint(scene.secret(), &claims)
    };
    let forged = token::agent("never one", ORGANIZATION, AGENT);
    // A key that is good comes as far as the question whether this is a WebSocket.
    let known = agent(0);
    ensure!(handshake(&known, THERE).await? == 400);
    let forgeries = async || {
        let mut refused = 0;
        loop {
            match handshake(&forged, THERE).await? {
                401 => refused += 1,
                429 => return anyhow::Ok(refused),
                other => anyhow::bail!("{other}"),
            }
        }
    };
    let refused = forgeries().await?;
    ensure!(refused >= 10, "after {refused}");
    // Nobody else pays, and there those do not who were accepted, or have an API key.
    ensure!(handshake(&forged, "192.0.2.2").await? == 401);
    for key in [&known, &scene.cluster.credentials.api_key] {
        ensure!(handshake(key, THERE).await? == 400, "{key}");
    }
    let mut number = 0;
    let newcomer = async || {
        number += 1;
        forgeries().await.ok()?;
        // A second later the next one may be verified.
        (handshake(&agent(number), THERE).await.ok()? == 429).then_some(())
    };
    eventually("a token that was never seen has to wait", newcomer).await;
    // The same over HTTP.
    let body = json!({"messages": [{"topic": "hall", "event": "said", "payload": {}}]}).to_string();
    let over_http = async || {
        forgeries().await.ok()?;
        let authorization = format!("Bearer {forged}");
        let headers = [("authorization", authorization.as_str()), ("x-forwarded-for", THERE)];
        let answer = request(&address, "POST", "/api/broadcast", &headers, body.as_bytes()).await.ok()?;
        (answer.status == 429 && answer.body.contains("Too many tokens were refused")).then_some(())
    };
    eventually("tokens over HTTP are counted together with those of handshakes", over_http).await;
    Ok(())
}
