//! Access ends at one place of the WAL: nothing that committed there or later reaches the channel, and it says why.
//!
//! Each test races the change with writers and with clients that hear live, replay, or wait for a snapshot. Every
//! message carries, in the same statement, whether the change had committed when it was written; who got one that was
//! written after, got it past the cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use campfire_tests::socket::{Vsn, default_config};
use campfire_tests::{AGENT, ORGANIZATION, Socket, chat, eventually, token};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use crate::scene::{Scene, scene_test};

/// What a client saw until its channel ended.
struct Ended {
    events: Vec<Value>,
    reason: String,
}

/// Joins by one of the ways there are, again and again until refused or closed; reads on until the channel closes.
async fn hear(
    mut socket: Socket,
    channel: String,
    token: String,
    replay: Option<Value>,
    heard: Arc<AtomicUsize>,
) -> Result<Ended> {
    let mut config = default_config();
    if let Some(replay) = replay {
        config["broadcast"]["replay"] = replay;
    }
    let mut events = Vec::new();
    loop {
        let reply = socket.try_join(&channel, Some(&token), config.clone()).await?;
        if !reply.is_ok() {
            if reply.reason().starts_with("SnapshotUnavailable") {
                continue;
            }
            return Ok(Ended { events, reason: reply.reason().to_owned() });
        }
        // Whatever comes, in its order, up to the close.
        loop {
            let frame = socket.frame_where("an event or the end", |_| true).await?;
            match frame.event.as_str() {
                "broadcast" => {
                    heard.fetch_add(1, Ordering::Relaxed);
                    events.push(frame.payload);
                }
                "system" if frame.payload["status"] == "error" => {
                    let close = socket.frame_where("the close", |_| true).await?;
                    ensure!(close.event == "phx_close", "{close:?}");
                    let reason = frame.payload["message"].as_str().context("a reason")?.to_owned();
                    return Ok(Ended { events, reason });
                }
                "phx_close" => {}
                other => ensure!(other == "system", "{other}"),
            }
        }
    }
}

/// Writes until told to stop, then until `change` has committed and a while longer. `state` is an expression of SQL:
/// whether the change is seen; it is true in every statement that began after it committed.
async fn write_until(
    url: String,
    stop: Arc<AtomicBool>,
    written: Arc<AtomicUsize>,
    conversation: Uuid,
    state: String,
) -> Result<()> {
    let sql = campfire_tests::cluster::connect(&url).await?;
    let insert = format!(
        "insert into messages (organization_id, conversation_id, content, sender_type)
         select organization_id, id, case when {state} then 'after' else 'before' end, 'visitor'
         from conversations where id = '{conversation}' and organization_id = '{ORGANIZATION}'"
    );
    while !stop.load(Ordering::Relaxed) {
        match sql.execute(&insert, &[]).await {
            Ok(rows) => written.fetch_add(usize::try_from(rows)?, Ordering::Relaxed),
            // The conversation moved under this statement.
            Err(error) if error.code() == Some(&SqlState::FOREIGN_KEY_VIOLATION) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
    }
    Ok(())
}

/// Races `change` with traffic on a conversation, and with clients that join it in every way. Returns what they saw.
async fn race(scene: &mut Scene, state: &str, change: &str) -> Result<Vec<Ended>> {
    let conversation = scene.conversation().await?;
    let state = state.replace("$conversation", &conversation.to_string());
    let change = change.replace("$conversation", &conversation.to_string());
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    let mut first = scene.dashboard(Vsn::V2, &[&conv]).await?;
    scene.write_messages(conversation, &["first".to_owned()]).await?;
    let start = first.next_event().await?.id().to_owned();
    drop(first);

    let stop = Arc::new(AtomicBool::new(false));
    let written = Arc::new(AtomicUsize::new(0));
    let mut writers = JoinSet::new();
    for _ in 0..3 {
        let url = scene.cluster.superuser_url("campfire");
        writers.spawn(write_until(url, Arc::clone(&stop), Arc::clone(&written), conversation, state.clone()));
    }
    let heard = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for number in 0..12 {
        let socket = scene.socket(Vsn::BOTH[number % 2]).await?;
        let replay = match number % 3 {
            0 => None,
            1 => Some(json!({"after": start})),
            _ => Some(json!({"snapshot": 20})),
        };
        clients.spawn(hear(socket, conv.clone(), scene.agent(), replay, Arc::clone(&heard)));
    }
    let before = written.load(Ordering::Relaxed);
    eventually("traffic among the joins", async || {
        let is_going_on = written.load(Ordering::Relaxed) >= before + 100;
        (is_going_on && heard.load(Ordering::Relaxed) >= 100).then_some(())
    })
    .await;
    scene.database.batch_execute(&change).await?;
    let mut ended = Vec::new();
    while let Some(client) = clients.join_next().await {
        ended.push(client??);
    }
    stop.store(true, Ordering::Relaxed);
    while let Some(writer) = writers.join_next().await {
        writer??;
    }
    Ok(ended)
}

/// Messages that were written when the change had committed, whatever way they came.
fn past_the_cut(ended: &[Ended]) -> Vec<&Value> {
    ended
        .iter()
        .flat_map(|client| &client.events)
        .filter(|event| event["payload"]["content"] == "after")
        .collect()
}

#[scene_test]
async fn an_agent_who_is_deactivated_or_deleted_gets_nothing_from_there_on(scene: &mut Scene) -> Result<()> {
    let active = format!("organization_id = '{ORGANIZATION}' and user_id = '{AGENT}' and active");
    let state = format!("not exists (select from agents where {active})");
    for (change, undo) in [
        (
            format!("update agents set active = false where {active}"),
            "update agents set active = true".to_owned(),
        ),
        (
            format!("delete from agents where {active}"),
            format!(
                "insert into agents (organization_id, user_id, display_name, email, active)
                 values ('{ORGANIZATION}', '{AGENT}', 'Ada', 'ada@example.com', true)"
            ),
        ),
    ] {
        let ended = race(scene, &state, &change).await?;
        ensure!(past_the_cut(&ended).is_empty(), "{:#?}", past_the_cut(&ended));
        for client in &ended {
            let is_told = client.reason == "The agent is no longer active in this organization"
                || client.reason.starts_with("Unauthorized: ");
            ensure!(is_told, "{}", client.reason);
        }
        ensure!(ended.iter().any(|client| !client.events.is_empty()), "nobody heard anything");
        scene.database.batch_execute(&undo).await?;
        // Until the relay has heard of that too, the agent is refused.
        eventually("the agent is active again", async || {
            let mut socket = scene.socket(Vsn::V2).await.ok()?;
            let channel = chat::organization_channel(ORGANIZATION);
            let reply = socket.try_join(&channel, Some(&scene.agent()), default_config()).await.ok()?;
            reply.is_ok().then_some(())
        })
        .await;
    }
    Ok(())
}

#[scene_test]
async fn a_conversation_that_moves_takes_its_events_along(scene: &mut Scene) -> Result<()> {
    let (theirs, _) = chat::found_organization(&scene.database, "Other").await?;
    scene.settle().await?;
    let change = format!("update conversations set organization_id = '{theirs}' where id = '$conversation'");
    let ended = race(scene, "false", &change).await?;
    for client in &ended {
        ensure!(
            client.reason.ends_with("The conversation was deleted or moved"),
            "{} {:?}",
            client.reason,
            client.events.last()
        );
        for event in &client.events {
            let organization = &event["payload"]["organization_id"];
            ensure!(organization.is_null() || *organization == ORGANIZATION.to_string(), "{event}");
        }
        // Who was live heard it as the last word.
        let deleted = client.events.iter().position(|event| event["event"] == "conversation:deleted");
        ensure!(deleted.is_none_or(|index| index == client.events.len() - 1), "{:#?}", client.events);
    }
    Ok(())
}

#[scene_test]
async fn a_route_changes_at_its_place_and_closes_nothing(scene: &mut Scene) -> Result<()> {
    let conversation = scene.conversation().await?;
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    let mut socket = scene.dashboard(Vsn::V2, &[&conv]).await?;
    let route = "select id from campfire.routes where event = 'message:created' and channel like '%:conv:%'";
    let route: i64 = scene.database.query_one(route, &[]).await?.get(0);
    let mut expected = Vec::new();
    for round in 0..20 {
        let off = format!("off {round}");
        let transaction = scene.database.transaction().await?;
        let insert = "insert into messages (organization_id, conversation_id, content, sender_type)
                      values ($1, $2, $3, 'visitor')";
        let before = format!("before {round}");
        transaction.execute(insert, &[&ORGANIZATION, &conversation, &before]).await?;
        transaction.execute("select campfire.enable_route($1, false)", &[&route]).await?;
        transaction.execute(insert, &[&ORGANIZATION, &conversation, &off]).await?;
        transaction.commit().await?;
        let mut late = scene.socket(Vsn::V1).await?;
        let mut config = default_config();
        config["broadcast"]["replay"] = json!({"snapshot": 5});
        let token = token::agent(scene.secret(), ORGANIZATION, AGENT);
        let reply = late.try_join(&conv, Some(&token), config).await?;
        ensure!(reply.is_ok(), "{reply:?}");
        // The rows have no messages: their route is off in the same snapshot.
        let count = reply.response["replay"]["count"].as_u64().context("a count")?;
        let rows = late.next_events(usize::try_from(count)?).await?;
        ensure!(rows.iter().all(|row| row.name != "message:created"), "{rows:#?}");
        scene.database.execute("select campfire.enable_route($1, true)", &[&route]).await?;
        let on = format!("on {round}");
        scene.database.execute(insert, &[&ORGANIZATION, &conversation, &on]).await?;
        expected.extend([before, on]);
    }
    let events = socket.next_events(expected.len()).await?;
    ensure!(crate::scene::contents(&events) == expected, "{events:#?}");
    Ok(())
}
