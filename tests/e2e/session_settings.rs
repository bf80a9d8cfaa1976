//! Settings that a DBA makes for the application, by database or role, neither end the relay's sessions nor change what
//! they do. What the server refuses all the same is told with its SQLSTATE and its words.

use anyhow::{Result, ensure};
use campfire_tests::relay::Settings;
use campfire_tests::socket::{Vsn, default_config};
use campfire_tests::{Cluster, ORGANIZATION, chat, timestamp};
use serde_json::json;

use crate::scene::{Scene, contents, numbered, scene_test};

/// Each would end a session, stop it from writing or reading, or change what it prints.
const HOSTILE: &[&str] = &[
    "statement_timeout = '1ms'",
    "lock_timeout = '1ms'",
    "idle_in_transaction_session_timeout = '1ms'",
    "idle_session_timeout = '50ms'",
    "row_security = off",
    "default_transaction_read_only = on",
    "default_transaction_isolation = 'serializable'",
    "default_transaction_deferrable = on",
    "session_replication_role = replica",
    "role = 'anon'",
    "search_path = 'nowhere'",
    "quote_all_identifiers = on",
    "standard_conforming_strings = off",
    "array_nulls = off",
    "transform_null_equals = on",
    "client_encoding = 'LATIN1'",
    "datestyle = 'German'",
    "intervalstyle = 'iso_8601'",
    "timezone = 'Asia/Kolkata'",
    "bytea_output = 'escape'",
    "extra_float_digits = -15",
];

/// Of Postgres 17 and later.
const HOSTILE_17: &[&str] = &["transaction_timeout = '50ms'", "restrict_nonsystem_relation_kind = 'view'"];

#[scene_test]
async fn settings_of_database_and_role_change_nothing(scene: &mut Scene) -> Result<()> {
    scene
        .database
        .batch_execute(
            "select campfire.install_supabase_api();
             create policy readers on realtime.messages for select to authenticated using (true);
             create policy writers on realtime.messages for insert to authenticated with check (true);",
        )
        .await?;
    let newer = if scene.cluster.server.version >= 17 { HOSTILE_17 } else { &[] };
    for target in ["database campfire", "role relay", "role relay in database campfire"] {
        for setting in HOSTILE.iter().chain(newer) {
            scene.database.batch_execute(&format!("alter {target} set {setting}")).await?;
        }
        scene.relay.kill_9().await?;
        scene.relay.start_again().await?;
        all_works(scene).await?;
        scene.database.batch_execute(&format!("alter {target} reset all")).await?;
    }
    Ok(())
}

/// Every kind of session does its work: stream, control, rows, policies, and the messages of a private channel.
async fn all_works(scene: &Scene) -> Result<()> {
    let conversation = scene.conversation().await?;
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    let mut dashboard = scene.dashboard(Vsn::V2, &[&conv]).await?;
    scene.write_messages(conversation, &numbered("ünï → 𝄞", 2)).await?;
    let live = dashboard.next_events(2).await?;
    ensure!(contents(&live) == numbered("ünï → 𝄞", 2), "{live:?}");
    let created_at = live[0].payload["created_at"].as_str().unwrap_or_default();
    ensure!(timestamp::micros(created_at).is_some(), "not RFC 3339 in UTC: {created_at:?}");

    // Twice: the second question may be asked of a session that was idle.
    for vsn in Vsn::BOTH {
        let mut config = default_config();
        config["broadcast"]["replay"] = json!({"snapshot": 5});
        let mut socket = scene.socket(vsn).await?;
        let reply = socket.try_join(&conv, Some(&scene.agent()), config).await?;
        ensure!(reply.is_ok() && reply.response["replay"]["count"] == 3, "{reply:?}");
        let rows = socket.next_events(3).await?;
        ensure!(rows[1].payload == live[0].payload && rows[2].payload == live[1].payload, "{rows:#?}");

        let room = format!("room:{conversation}:{vsn:?}");
        let mut config = default_config();
        config["private"] = true.into();
        config["broadcast"]["replay"] = json!({"since": 1});
        let send = |n: i32| format!("select realtime.send('{{\"n\": {n}}}', 'e', '{room}')");
        scene.database.batch_execute(&send(1)).await?;
        scene.settle().await?;
        let reply = socket.try_join(&room, Some(&scene.agent()), config).await?;
        ensure!(reply.is_ok() && reply.response["replay"]["count"] == 1, "{reply:?}");
        ensure!(socket.expect(&room, "e").await?.payload["n"] == 1);
        scene.database.batch_execute(&send(2)).await?;
        ensure!(socket.expect(&room, "e").await?.payload["n"] == 2);
    }
    Ok(())
}

/// Starts a relay that cannot start, and gives its last line.
async fn last_line(cluster: &Cluster) -> Result<String> {
    let mut relay = Settings::of(cluster)?.env("CAMPFIRE_LOG", "off").spawn()?;
    ensure!(!relay.wait_for_exit().await?.success());
    let log = relay.finished_log();
    ensure!(!log.contains("db error") && log.lines().count() == 1, "{log}");
    Ok(log)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_that_is_missing_is_told_as_what_it_is() -> Result<()> {
    let cluster = Cluster::boot()?;
    let set = |script: &str| cluster.psql("campfire", script);

    set("alter role relay noinherit")?;
    let line = last_line(&cluster).await?;
    ensure!(line.contains("does not inherit") && line.contains("alter role relay inherit"), "{line}");
    // What the line says can be run as it stands.
    let fix = line.split_once("run: ").map(|(_, fix)| fix.trim().to_owned()).unwrap_or_default();
    set(&fix)?;
    Settings::of(&cluster)?.start().await?;

    set("revoke campfire_relay from relay")?;
    let line = last_line(&cluster).await?;
    ensure!(line.contains("grant campfire_relay to relay;"), "{line}");
    set("grant campfire_relay to relay")?;

    set("revoke select on campfire.routes from campfire_relay")?;
    let line = last_line(&cluster).await?;
    ensure!(line.contains("permission denied for view routes (SQLSTATE 42501)"), "{line}");
    ensure!(!line.contains("grant campfire_relay to"), "the role is a member already: {line}");
    Ok(())
}
