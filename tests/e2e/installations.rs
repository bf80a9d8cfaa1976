//! Installations come and go: whatever becomes of one, the relay serves the others; and a database need not have any.

use anyhow::{Context, Result, ensure};
use campfire_tests::cluster::{Cluster, connect};
use campfire_tests::fence::Fence;
use campfire_tests::relay::{Relay, Settings};
use campfire_tests::socket::{Vsn, default_config};
use campfire_tests::{ORGANIZATION, Socket, chat, eventually, token};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::scene::{Scene, numbered, scene_test};

/// The relay's only word for what is wrong with a table; the problem stands in the line.
const TOLD: &str = "some of what is published cannot be sent";
const NO_AGENTS: &str = "nobody is an agent of this installation";

/// What `/readyz` says, once it says that.
async fn readiness(relay: &Relay, wanted: Value) {
    let mut last = String::new();
    eventually(&format!("/readyz says {wanted}"), async || {
        let answer = relay.get("/readyz").await.ok()?;
        last = answer.body.clone();
        (answer.status == 200 && answer.json().ok()?["status"] == wanted).then_some(())
    })
    .await;
}

async fn metric(relay: &Relay, name: &str) -> f64 {
    relay.metric(name).await.ok().flatten().unwrap_or_default()
}

/// A second installation with one agent; its tokens are good on the organization's channels.
async fn second_installation(scene: &Scene) -> Result<(Uuid, Uuid)> {
    let (organization, agent) = (Uuid::new_v4(), Uuid::new_v4());
    let script = format!(
        "create schema chat; select campfire.install('chat');
         insert into chat.organizations (id, name) values ('{organization}', 'Other');
         insert into chat.agents (organization_id, user_id, display_name) values ('{organization}', '{agent}', 'Bea');"
    );
    scene.database.batch_execute("set client_min_messages = warning").await?;
    scene.database.batch_execute(&script).await?;
    scene.settle().await?;
    Ok((organization, agent))
}

/// Whether an agent gets in.
async fn is_admitted(scene: &Scene, organization: Uuid, agent: Uuid) -> Result<bool> {
    let channel = chat::conversations_channel(organization);
    let token = token::agent(scene.secret(), organization, agent);
    let mut socket = scene.socket(Vsn::V2).await?;
    Ok(socket.try_join(&channel, Some(&token), default_config()).await?.is_ok())
}

/// Every way in which the tables of one installation can be damaged, while the relay runs, at a reconnect and at a
/// start; a client of another installation misses nothing and is never told of a loss.
#[scene_test]
async fn what_becomes_of_one_installation_stops_no_other(scene: &mut Scene) -> Result<()> {
    for text in [TOLD, NO_AGENTS, "not attached to the slot"] {
        scene.relay.expect_log(text);
    }
    let conversation = scene.conversation().await?;
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    let list = chat::conversations_channel(ORGANIZATION);
    let damages = [
        "drop schema chat cascade",
        "drop table chat.agents cascade",
        "drop table chat.messages, chat.read_receipts",
        "alter table chat.agents rename to staff",
        "create schema elsewhere; alter table chat.messages set schema elsewhere",
        "alter table chat.agents rename column display_name to called",
        "alter table chat.agents drop column active cascade",
        "revoke all on chat.agents from campfire_relay",
        "create table chat.anew as table chat.agents; drop table chat.agents cascade; alter table chat.anew rename to agents",
    ];
    for damage in damages {
        second_installation(scene).await.with_context(|| damage.to_owned())?;
        let mut dashboard = scene.dashboard(Vsn::V2, &[&list]).await?;
        // The guard would refuse some of it.
        let script = format!(
            "alter event trigger campfire_guard_drop disable; {damage}; alter event trigger campfire_guard_drop enable;"
        );
        scene.database.batch_execute(&script).await.with_context(|| damage.to_owned())?;
        scene.write_messages(conversation, &["while running".to_owned()]).await?;
        scene
            .database
            .batch_execute("select pg_terminate_backend(active_pid) from pg_replication_slots where active")
            .await?;
        scene.write_messages(conversation, &["at a reconnect".to_owned()]).await?;
        let fence = Fence::message(&scene.database, ORGANIZATION, conversation).await?;
        let events = dashboard.events_before(&fence, &list).await?;
        let messages: Vec<_> = events
            .iter()
            .filter(|event| event.name == "message:created")
            .map(|event| event.payload["content"].clone())
            .collect();
        ensure!(messages == ["while running", "at a reconnect"], "{damage}: {events:?}");
        let last = events.last().context("an event")?.id().to_owned();

        // At a start, with an exact cut for whoever comes back, and rows for whoever is new.
        scene.relay.terminate().await?;
        scene.write_messages(conversation, &["before the start".to_owned()]).await?;
        scene.relay.start_again().await.with_context(|| damage.to_owned())?;
        let mut config = default_config();
        config["broadcast"]["replay"] = json!({"after": last});
        let mut back = scene.socket(Vsn::V2).await?;
        let reply = back.try_join(&conv, Some(&scene.agent()), config).await?;
        ensure!(reply.is_ok() && reply.response["replay"]["complete"] == true, "{damage}: {reply:?}");
        let mut config = default_config();
        config["broadcast"]["replay"] = json!({"snapshot": 5});
        let mut fresh = scene.socket(Vsn::V2).await?;
        let reply = fresh.try_join(&conv, Some(&scene.agent()), config).await?;
        ensure!(reply.is_ok(), "{damage}: {reply:?}");
        if !damage.starts_with("revoke") {
            readiness(&scene.relay, json!("degraded")).await;
            ensure!(metric(&scene.relay, "campfire_problems").await > 0.0);
        }

        // The fixes, as they are; after them nothing is wrong.
        for _ in 0..20 {
            let found = scene
                .database
                .query_opt("select problem, fix from campfire.check_publication() limit 1", &[])
                .await?;
            let Some(row) = found else { break };
            let (problem, fix): (String, String) = (row.get(0), row.get(1));
            scene.database.batch_execute(&fix).await.with_context(|| format!("{problem}: {fix}"))?;
        }
        let left = scene.database.query("select problem from campfire.check_publication()", &[]).await?;
        ensure!(left.is_empty(), "{damage}: {left:?}");
        scene
            .database
            .batch_execute(
                "select campfire.uninstall('chat') where exists (select from campfire.installations where schema_name = 'chat');
                 drop schema if exists chat cascade; drop schema if exists elsewhere cascade;",
            )
            .await?;
        // Whatever it was about to read anew, it has read: the next round begins without a refused handshake.
        scene.relay.terminate().await?;
        scene.relay.start_again().await?;
    }
    Ok(())
}

/// Postgres answers null if it is asked for rights on a table that its snapshot shows and that has gone meanwhile.
#[scene_test]
async fn an_installation_that_is_dropped_while_it_is_looked_at_has_no_agents(
    scene: &mut Scene,
) -> Result<()> {
    for text in [TOLD, NO_AGENTS] {
        scene.relay.expect_log(text);
    }
    second_installation(scene).await?;
    let looking = scene.cluster.connect().await?;
    looking.batch_execute("begin isolation level repeatable read; select from pg_class limit 1").await?;
    let drop = "alter event trigger campfire_guard_drop disable; drop schema chat cascade;
                alter event trigger campfire_guard_drop enable;";
    scene.database.batch_execute(drop).await?;
    let found = campfire_relay::sql::installations(&looking, "campfire_control").await?;
    let dropped = found.iter().find(|installation| installation.schema == "chat");
    ensure!(dropped.context("the snapshot shows it")?.agents.is_none(), "{found:?}");
    Ok(())
}

/// An installation that is made, damaged, mended and forgotten while the relay runs.
#[scene_test]
async fn agents_come_and_go_with_their_installation(scene: &mut Scene) -> Result<()> {
    for text in [TOLD, NO_AGENTS, "not attached to the slot"] {
        scene.relay.expect_log(text);
    }
    let (organization, agent) = second_installation(scene).await?;
    ensure!(is_admitted(scene, organization, agent).await?, "an installation made while the relay runs");
    // Under another name, changes of the agents do not come; they are read anew when it is back.
    scene.database.batch_execute("alter table chat.agents rename to staff").await?;
    readiness(&scene.relay, json!("degraded")).await;
    scene.database.batch_execute("update chat.staff set active = false").await?;
    scene.database.batch_execute("alter table chat.staff rename to agents").await?;
    eventually("an agent who was deactivated meanwhile is refused", async || {
        (!is_admitted(scene, organization, agent).await.ok()?).then_some(())
    })
    .await;
    readiness(&scene.relay, json!("ready")).await;
    scene.database.batch_execute("update chat.agents set active = true").await?;
    scene.settle().await?;
    ensure!(is_admitted(scene, organization, agent).await?);
    // The schema may be renamed, and the agents are known by its new name.
    scene
        .database
        .batch_execute("alter schema chat rename to talk; update talk.agents set active = false")
        .await?;
    scene.settle().await?;
    ensure!(!is_admitted(scene, organization, agent).await?);
    scene.database.batch_execute("select campfire.uninstall('talk')").await?;
    readiness(&scene.relay, json!("ready")).await;
    Ok(())
}

/// A database without the chat tables, and a relay for it.
async fn database(cluster: &Cluster, name: &str, script: &str) -> Result<(tokio_postgres::Client, Settings)> {
    cluster.psql("postgres", &format!("create database {name}"))?;
    let client = connect(&cluster.superuser_url(name)).await?;
    client.batch_execute("set client_min_messages = warning; create extension campfire;").await?;
    client.batch_execute(script).await?;
    let url = cluster.url("relay", &cluster.credentials.relay_password, name);
    let settings = Settings::of(cluster)?
        .env("CAMPFIRE_DATABASE_URL", &url)
        .env("CAMPFIRE_PUBLIC_CHANNELS", "allow")
        .env("CAMPFIRE_SLOT", &format!("campfire_{name}"));
    Ok((client, settings))
}

async fn slots(client: &tokio_postgres::Client) -> Result<(i64, i64)> {
    let count = "select (select count(*) from pg_replication_slots where database = current_database()),
                        (select count(*) from campfire.slots)";
    let row = client.query_one(count, &[]).await?;
    Ok((row.get(0), row.get(1)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_tables_alone_are_enough() -> Result<()> {
    let cluster = Cluster::boot()?;
    let script = "select campfire.create_publication();
        create table visits (id int primary key, page text);
        select campfire.publish('campfire', 'visits');
        select campfire.add_route('visits', 'INSERT', 'visits', 'visit', public => true);";
    let (client, settings) = database(&cluster, "own", script).await?;
    let relay = settings.start().await?;
    let mut socket = Socket::connect(&relay, &cluster.credentials.api_key, Vsn::V2).await?;
    let reply = socket.try_join("visits", None, default_config()).await?;
    ensure!(reply.is_ok(), "{reply:?}");
    client.batch_execute("insert into visits values (1, '/')").await?;
    let event = socket.expect("visits", "visit").await?;
    ensure!(event.payload["page"] == "/", "{event:?}");
    // The chat tables may come later.
    client
        .batch_execute(&format!(
            "select campfire.install();
             insert into organizations (id, name) values ('{ORGANIZATION}', 'Acme');
             insert into agents (organization_id, user_id, display_name) values ('{ORGANIZATION}', '{ORGANIZATION}', 'Ada');"
        ))
        .await?;
    let token = token::agent(&cluster.credentials.jwt_secret, ORGANIZATION, ORGANIZATION);
    let list = chat::conversations_channel(ORGANIZATION);
    eventually("the first agent is known", async || {
        let mut socket = Socket::connect(&relay, &cluster.credentials.api_key, Vsn::V2).await.ok()?;
        socket.try_join(&list, Some(&token), default_config()).await.ok()?.is_ok().then_some(())
    })
    .await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn schema_realtime_alone_is_enough() -> Result<()> {
    let cluster = Cluster::boot()?;
    let script = "select campfire.create_publication(); select campfire.install_supabase_api();";
    let (client, settings) = database(&cluster, "sent", script).await?;
    let relay = settings.start().await?;
    let mut socket = Socket::connect(&relay, &cluster.credentials.api_key, Vsn::V2).await?;
    ensure!(socket.try_join("lobby", None, default_config()).await?.is_ok());
    client.batch_execute(r#"select realtime.send('{"n": 1}', 'ping', 'lobby', false)"#).await?;
    let event = socket.expect("lobby", "ping").await?;
    ensure!(event.payload["n"] == 1, "{event:?}");
    Ok(())
}

/// Nothing at all is there yet: the relay waits, makes no slot, and goes on by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_waits_for_the_first_publication() -> Result<()> {
    let cluster = Cluster::boot()?;
    let (client, settings) = database(&cluster, "bare", "").await?;
    let mut relay = settings.spawn()?;
    relay.expect_log("nothing is published yet");
    eventually("the relay says what it waits for", async || {
        relay.log_text().contains("nothing is published yet").then_some(())
    })
    .await;
    ensure!(relay.get("/healthz").await?.status == 200);
    let unready = relay.get("/readyz").await?;
    ensure!(unready.status == 503 && unready.json()?["status"] == "unready", "{unready:?}");
    ensure!(slots(&client).await? == (0, 0));
    client.batch_execute("select campfire.create_publication()").await?;
    relay.wait_until_ready().await?;
    ensure!(relay.get("/readyz").await?.json()? == json!({"status": "ready"}));
    ensure!(slots(&client).await? == (1, 1));
    Ok(())
}

/// A start that fails leaves nothing behind: neither before the slot was made, nor after.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_fails_leaves_no_slot_behind() -> Result<()> {
    let cluster = Cluster::boot()?;
    let breaks = [
        "alter publication campfire set (publish = 'insert')",
        "revoke select on campfire.routes from campfire_relay",
        // Read only once the stream has begun.
        "revoke select on campfire.broadcast_keys from campfire_relay",
    ];
    for (number, broken) in breaks.into_iter().enumerate() {
        let script = format!("select campfire.install(); {broken};");
        let (client, settings) = database(&cluster, &format!("broken_{number}"), &script).await?;
        let mut relay = settings.env("CAMPFIRE_LOG", "off").spawn()?;
        let status = relay.wait_for_exit().await?;
        ensure!(!status.success(), "{broken}: {status}");
        ensure!(slots(&client).await? == (0, 0), "{broken}: {}", relay.finished_log());
    }
    Ok(())
}

/// More than the relay's health checks: a snapshot of one installation needs nothing of another's.
#[scene_test]
async fn snapshots_go_without_columns_and_tables_that_are_gone(scene: &mut Scene) -> Result<()> {
    scene.relay.expect_log(TOLD);
    scene.relay.expect_log("route does not fit its table");
    let conversation = scene.conversation().await?;
    scene.write_messages(conversation, &numbered("old", 2)).await?;
    second_installation(scene).await?;
    let script = "alter event trigger campfire_projections_drop disable;
         drop table chat.realtime_conversations; drop table chat.read_receipts;
         alter table messages rename column sender_name to called";
    scene.database.batch_execute(script).await?;
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    let mut config = default_config();
    config["broadcast"]["replay"] = json!({"snapshot": 5});
    let mut socket = scene.socket(Vsn::V2).await?;
    let reply = socket.try_join(&conv, Some(&scene.agent()), config).await?;
    ensure!(reply.is_ok(), "{reply:?}");
    let events = socket.next_events(3).await?;
    ensure!(events[2].payload["content"] == "old 2", "{events:?}");
    ensure!(events[2].payload.get("sender_name").is_none(), "{events:?}");
    scene.write_messages(conversation, &numbered("new", 1)).await?;
    let event = socket.expect(&conv, "message:created").await?;
    ensure!(event.payload["content"] == "new 1" && event.payload.get("sender_name").is_none(), "{event:?}");
    Ok(())
}
