//! What SQL says to the relay through the WAL: broadcasts, and routes that change.

use anyhow::{Result, ensure};
use campfire_tests::fence::Fence;
use campfire_tests::socket::Vsn;
use campfire_tests::{ORGANIZATION, chat};

use crate::scene::{Scene, scene_test};

#[scene_test]
async fn a_broadcast_of_sql_is_sent_when_it_commits_and_never_otherwise(scene: &mut Scene) -> Result<()> {
    let conversation = scene.conversation().await?;
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    let mut dashboard = scene.dashboard(Vsn::V2, &[&conv]).await?;
    let broadcast = |event: &str| format!("select campfire.broadcast('{conv}', '{event}', '{{\"n\": 1}}');");
    let script = format!(
        "begin; set local role service_role; {} rollback; begin; set local role service_role; {} commit;",
        broadcast("rolled:back"),
        broadcast("note:made"),
    );
    scene.database.batch_execute(&script).await?;
    let event = dashboard.next_event().await?;
    ensure!(event.name == "note:made" && event.payload["n"] == 1, "{event:?}");
    ensure!(!event.id().is_empty() && event.age().is_some(), "{event:?}");

    // After the key was changed, too: the relay looks it up.
    scene.database.batch_execute("select campfire.rotate_broadcast_key()").await?;
    scene
        .database
        .batch_execute(&format!("set role service_role; {} reset role;", broadcast("note:again")))
        .await?;
    ensure!(dashboard.next_event().await?.name == "note:again");
    Ok(())
}

#[scene_test]
async fn forged_and_copied_messages_are_ignored_and_counted(scene: &mut Scene) -> Result<()> {
    let conversation = scene.conversation().await?;
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    let mut dashboard = scene.dashboard(Vsn::V2, &[&conv]).await?;
    // Any role may write a message under any prefix; a signature of zeros is as good as any that is guessed.
    let zeros = "0".repeat(64);
    let forged = format!(
        "select pg_logical_emit_message(true, 'campfire.broadcast', E'v1 1 {zeros}\\n{conv}\\nmessage:created\\n{{}}');
         select pg_logical_emit_message(true, 'campfire.routes', E'v1 1 {zeros}\\n{{\"routes\":[]}}');
         select pg_logical_emit_message(true, 'campfire.broadcast', 'nonsense');"
    );
    scene.database.batch_execute(&format!("set role anon; {forged} reset role;")).await?;
    let fence = Fence::message(&scene.database, ORGANIZATION, conversation).await?;
    let events = dashboard.events_before(&fence, &conv).await?;
    ensure!(events.is_empty(), "{events:?}");
    let refused = scene.relay.metric("campfire_messages_refused_total").await?;
    ensure!(refused == Some(3.0), "{refused:?}");
    Ok(())
}

#[scene_test]
async fn three_calls_make_another_table_live_from_their_place_in_the_wal(scene: &mut Scene) -> Result<()> {
    let conversation = scene.conversation().await?;
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    let mut dashboard = scene.dashboard(Vsn::V2, &[&conv]).await?;
    let insert = |state: &str| {
        format!(
            "insert into orders (organization_id, conversation_id, state)
             values ('{ORGANIZATION}', '{conversation}', '{state}');"
        )
    };
    let script = format!(
        "create table orders (id bigint generated always as identity primary key, organization_id uuid not null,
             conversation_id uuid not null, state text not null, details jsonb not null default '{{}}');
         select campfire.publish('campfire', 'orders');
         {}
         select campfire.add_route('orders', 'INSERT', 'org:{{organization_id}}:conv:{{conversation_id}}',
             'order:made', '{{id,state}}');
         {}",
        insert("before the route"),
        insert("after the route"),
    );
    // One transaction each: a publication's new table counts from the next.
    for statement in script.split_inclusive(';') {
        scene.database.batch_execute(statement).await?;
    }
    let event = dashboard.next_event().await?;
    ensure!(event.name == "order:made" && event.payload["state"] == "after the route", "{event:?}");
    ensure!(event.payload["id"] == 2 && event.payload.get("details").is_none(), "{event:?}");
    scene.database.batch_execute("alter table orders rename to sales").await?;
    scene.database.batch_execute(&insert("renamed").replace("orders", "sales")).await?;
    let event = dashboard.next_event().await?;
    ensure!(event.name == "order:made" && event.payload["state"] == "renamed", "{event:?}");
    scene.database.batch_execute("select campfire.enable_route((select id from campfire.routes where event = 'order:made'), false)").await?;
    scene.database.batch_execute(&insert("the route is off").replace("orders", "sales")).await?;
    let fence = Fence::message(&scene.database, ORGANIZATION, conversation).await?;
    let events = dashboard.events_before(&fence, &conv).await?;
    ensure!(events.is_empty(), "{events:?}");
    Ok(())
}
