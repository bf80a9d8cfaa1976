//! What an operator gets wrong is told in one line that says what to do.

use anyhow::{Result, ensure};
use campfire_tests::cluster::{Cluster, Options};
use campfire_tests::relay::Settings;
use campfire_tests::socket::Vsn;
use campfire_tests::{ORGANIZATION, chat, eventually};

use crate::scene::{Scene, numbered, scene_test};

/// Starts a relay that cannot start; checks its only line and its exit code.
async fn refuses(settings: Settings, words: &[&str]) -> Result<()> {
    let mut relay = settings.env("CAMPFIRE_LOG", "off").spawn()?;
    let status = relay.wait_for_exit().await?;
    let log = relay.finished_log();
    ensure!(!status.success(), "exit code zero: {log}");
    ensure!(status.code().is_some(), "it died of a signal: {status}");
    ensure!(log.lines().count() == 1, "not one line:\n{log}");
    ensure!(log.starts_with("campfire-relay: "), "{log}");
    for word in words {
        ensure!(log.contains(word), "the line does not say {word:?}: {log}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_logical_wal_is_one_line() -> Result<()> {
    let cluster = Cluster::boot_with(Options {
        settings: vec![("wal_level".into(), "replica".into())],
        ..Options::default()
    })?;
    refuses(Settings::of(&cluster)?, &["wal_level", "logical"]).await
}

/// Everything but the relay goes on there, so SQL says it too; Postgres's own warning speaks of subscriptions.
#[test]
fn sql_says_that_the_wal_is_not_logical() -> Result<()> {
    let cluster = Cluster::boot_with(Options {
        settings: vec![("wal_level".into(), "replica".into())],
        ..Options::default()
    })?;
    let check = "select problem || ': ' || fix from campfire.check_publication()";
    let told = cluster.psql("campfire", check)?;
    ensure!(told.lines().count() == 1 && told.contains("wal_level is replica"), "{told}");
    ensure!(told.contains("alter system set wal_level = logical;"), "{told}");
    cluster.psql("postgres", "create database other")?;
    let script = "create extension campfire; select campfire.install()";
    let output = cluster.psql_command("other", script).output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{said}");
    ensure!(said.contains("HINT:  alter system set wal_level = logical;"), "{said}");
    ensure!(!said.contains("subscription"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_publication_is_one_line() -> Result<()> {
    let cluster = Cluster::boot()?;
    let settings = Settings::of(&cluster)?.env("CAMPFIRE_PUBLICATION", "nowhere");
    refuses(settings, &["nowhere", "campfire.create_publication"]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_one_line_and_is_not_repeated_in_it() -> Result<()> {
    let cluster = Cluster::boot()?;
    let settings = Settings::of(&cluster)?;
    let url = cluster.url("relay", "opensesame", "campfire");
    let mut relay = settings.clone().env("CAMPFIRE_DATABASE_URL", &url).env("CAMPFIRE_LOG", "off").spawn()?;
    relay.wait_for_exit().await?;
    ensure!(!relay.finished_log().contains("opensesame"));
    refuses(settings.env("CAMPFIRE_DATABASE_URL", &url), &["password", "CAMPFIRE_DATABASE_URL"]).await
}

#[scene_test]
async fn a_slot_in_use_is_one_line_under_standby_exit(scene: &mut Scene) -> Result<()> {
    let settings = Settings::of(&scene.cluster)?.env("CAMPFIRE_STANDBY", "exit");
    refuses(settings, &["slot", "campfire", "CAMPFIRE_STANDBY"]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_without_keys_does_not_start() -> Result<()> {
    let cluster = Cluster::boot()?;
    let settings = Settings::of(&cluster)?.without("CAMPFIRE_JWT_SECRET");
    refuses(settings, &["CAMPFIRE_JWT_SECRET"]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_without_the_extension_is_one_line() -> Result<()> {
    let cluster = Cluster::boot()?;
    cluster.psql("postgres", "create database empty")?;
    let url = cluster.url("relay", &cluster.credentials.relay_password, "empty");
    let settings = Settings::of(&cluster)?.env("CAMPFIRE_DATABASE_URL", &url);
    refuses(settings, &["create extension campfire"]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_may_not_replicate_is_one_line() -> Result<()> {
    let cluster = Cluster::boot()?;
    cluster.psql("campfire", "alter role relay noreplication")?;
    refuses(Settings::of(&cluster)?, &["relay", "replication"]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_are_no_numbers_or_addresses_are_named() -> Result<()> {
    let cluster = Cluster::boot()?;
    let settings = Settings::of(&cluster)?;
    for (name, value) in [
        ("CAMPFIRE_WINDOW_SECONDS", "soon"),
        ("CAMPFIRE_STANDBY", "perhaps"),
        ("CAMPFIRE_SLOT", "some_other_slot"),
        ("CAMPFIRE_DATABASE_URL", "not a url"),
    ] {
        let mut relay = settings.clone().env(name, value).env("CAMPFIRE_LOG", "off").spawn()?;
        let status = relay.wait_for_exit().await?;
        let log = relay.finished_log();
        // By its flag or its variable: they have one stem.
        let flag = name.replace("CAMPFIRE_", "--").to_lowercase().replace('_', "-");
        let is_named = log.contains(name) || log.contains(&flag);
        ensure!(!status.success() && is_named, "{name}={value}: {status}\n{log}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_without_sense_are_refused_with_how_they_are_written() -> Result<()> {
    let cluster = Cluster::boot()?;
    let settings = Settings::of(&cluster)?;
    for (name, value, words) in [
        ("CAMPFIRE_WINDOW_SECONDS", "soon", ["CAMPFIRE_WINDOW_SECONDS", "5m"]),
        ("CAMPFIRE_WINDOW_SECONDS", "1.5m", ["whole number", "5m"]),
        ("CAMPFIRE_IDLE_SECONDS", "", ["CAMPFIRE_IDLE_SECONDS", "empty"]),
        ("CAMPFIRE_IDLE_SECONDS", "18446744073709551615", ["CAMPFIRE_IDLE_SECONDS", "ten years"]),
        ("CAMPFIRE_WINDOW_BYTES", "256 pages", ["CAMPFIRE_WINDOW_BYTES", "256MiB"]),
        ("CAMPFIRE_MAX_SOCKETS", "5k", ["CAMPFIRE_MAX_SOCKETS", "whole number"]),
        ("CAMPFIRE_SNAPSHOT_QUEUE", "0", ["CAMPFIRE_SNAPSHOT_QUEUE", "at least 1"]),
        ("CAMPFIRE_PRESENCE_DEFAULT", "perhaps", ["CAMPFIRE_PRESENCE_DEFAULT", "true or false"]),
        ("CAMPFIRE_UNIX_MODE", "rw-rw----", ["CAMPFIRE_UNIX_MODE", "660"]),
        ("CAMPFIRE_UNIX_GROUP", "no such group", ["CAMPFIRE_UNIX_GROUP", "/etc/group"]),
    ] {
        refuses(settings.clone().env(name, value), &words).await?;
    }
    let with_units = settings.env("CAMPFIRE_WINDOW_SECONDS", "5m").env("CAMPFIRE_WINDOW_BYTES", "64MiB");
    with_units.env("CAMPFIRE_PRESENCE_DEFAULT", "on").start().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_that_can_be_guessed_are_refused() -> Result<()> {
    let cluster = Cluster::boot()?;
    let settings = Settings::of(&cluster)?;
    let long = "x".repeat(32);
    for value in ["guess", &long[1..]] {
        let short = settings.clone().env("CAMPFIRE_JWT_SECRET", value);
        let mut relay = short.clone().env("CAMPFIRE_LOG", "off").spawn()?;
        relay.wait_for_exit().await?;
        ensure!(!relay.finished_log().contains(value), "the secret is in the log");
        refuses(short, &["CAMPFIRE_JWT_SECRET", "32", "RFC 7518", "openssl rand"]).await?;
    }
    let jwks = cluster.dir.join("jwks.json");
    std::fs::write(&jwks, r#"{"keys":[{"kty":"oct","kid":"a","k":"c2hvcnQ"}]}"#)?;
    let with_set = settings.clone().env("CAMPFIRE_JWKS", &jwks.display().to_string());
    refuses(with_set, &["CAMPFIRE_JWKS", "oct", "32"]).await?;
    // One that is short can be replaced without an end of all tokens; it is told that this should not last.
    let replaced =
        settings.env("CAMPFIRE_JWT_SECRET", &long).env("CAMPFIRE_JWT_PREVIOUS_SECRETS", "guess,other");
    let relay = replaced.start().await?;
    relay.wait_for_log("CAMPFIRE_JWT_PREVIOUS_SECRETS has secrets short enough to be guessed").await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn variables_that_no_setting_has_are_refused_with_the_one_that_was_meant() -> Result<()> {
    let cluster = Cluster::boot()?;
    let settings = Settings::of(&cluster)?;
    let misspelt = settings.clone().env("CAMPFIRE_WINDOW_SECS", "5").env("CAMPFIRE_API_KEY", "x");
    refuses(
        misspelt,
        &[
            "CAMPFIRE_API_KEY is no setting: did you mean CAMPFIRE_API_KEYS?",
            "CAMPFIRE_WINDOW_SECS is no setting: did you mean CAMPFIRE_WINDOW_SECONDS?",
        ],
    )
    .await?;
    // What tests, Kubernetes and Docker set is not the relay's.
    let foreign = settings.env("CAMPFIRE_TEST_PG", "15").env("CAMPFIRE_CHROOT", "bookworm");
    foreign
        .env("CAMPFIRE_SERVICE_HOST", "10.0.0.1")
        .env("CAMPFIRE_PORT", "tcp://10.0.0.1:8080")
        .start()
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_start_log_shows_every_setting_and_no_secret() -> Result<()> {
    let cluster = Cluster::boot()?;
    let settings = Settings::of(&cluster)?.env("CAMPFIRE_LOG_FORMAT", "text").env("CAMPFIRE_LOG", "info");
    let secrets =
        [&cluster.credentials.jwt_secret, &cluster.credentials.api_key, &cluster.credentials.relay_password];
    let relay = settings.clone().env("CAMPFIRE_IDLE_SECONDS", "2m").start().await?;
    for shown in
        ["idle_seconds=2m", "snapshot_queue=256", "jwt_secret=***", "presence_default=false", "slot=campfire"]
    {
        relay.wait_for_log(shown).await;
    }
    let log = relay.log_text();
    ensure!(secrets.iter().all(|secret| !log.contains(secret.as_str())), "a secret is in the log");
    // A start that fails is not drowned in them.
    let mut failed = settings.env("CAMPFIRE_JWT_SECRET", "short").spawn()?;
    failed.wait_for_exit().await?;
    let log = failed.finished_log();
    ensure!(log.len() < 1000 && log.lines().all(|line| line.len() < 400), "{log}");
    Ok(())
}

#[scene_test]
async fn a_second_relay_waits_and_takes_over(scene: &mut Scene) -> Result<()> {
    let conversation = scene.conversation().await?;
    let mut standby = Settings::of(&scene.cluster)?.spawn()?;
    // Alive, and not ready, as long as the other one holds the slot.
    eventually("the standby answers", async || {
        standby.get("/healthz").await.ok().filter(|answer| answer.status == 200)
    })
    .await;
    // Not ready by intent, which is told apart from a relay that has yet to catch up.
    eventually("the standby says what it waits for", async || {
        let ready = standby.get("/readyz").await.ok()?;
        (ready.status == 503 && ready.body.contains("standing by")).then_some(())
    })
    .await;

    // What was written before it took over is old, and never sent as live.
    scene.write_messages(conversation, &numbered("old", 3)).await?;
    scene.relay.terminate().await?;
    standby.wait_until_ready().await?;
    std::mem::swap(&mut scene.relay, &mut standby);
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    let mut dashboard = scene.dashboard(Vsn::V2, &[&conv]).await?;
    scene.write_messages(conversation, &["new".to_owned()]).await?;
    let event = dashboard.expect(&conv, "message:created").await?;
    ensure!(event.payload["content"] == "new", "{event:?}");
    Ok(())
}
