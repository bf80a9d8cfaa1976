//! What may become of a table that is routed: columns and names that change, another table in its place, partitions
//! that log by identities of their own, lists that change under an open transaction.

use anyhow::{Context, Result, ensure};
use campfire_tests::socket::{Event, Vsn};
use campfire_tests::{ORGANIZATION, Socket, chat, eventually};
use serde_json::json;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use crate::scene::{Scene, scene_test};

const TOLD: &str = "some of what is published cannot be sent";
const MISFIT: &str = "route does not fit its table";

/// A socket on a conversation's channel, and the template of a route that leads there.
async fn listener(scene: &Scene) -> Result<(Uuid, String, Socket)> {
    let conversation = scene.conversation().await?;
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    let socket = scene.dashboard(Vsn::V2, &[&conv]).await?;
    Ok((conversation, conv, socket))
}

/// Each statement a transaction of its own.
async fn run(scene: &Scene, statements: &[&str]) -> Result<()> {
    for statement in statements {
        scene.database.batch_execute(statement).await.with_context(|| (*statement).to_owned())?;
    }
    Ok(())
}

/// Runs what `check_publication()` offers until it has nothing to say.
async fn mend(scene: &Scene) -> Result<()> {
    let check = "select problem, fix from campfire.check_publication() limit 1";
    for _ in 0..20 {
        let Some(row) = scene.database.query_opt(check, &[]).await? else { return Ok(()) };
        let (problem, fix): (String, String) = (row.get(0), row.get(1));
        scene.database.batch_execute(&fix).await.with_context(|| format!("{problem}: {fix}"))?;
    }
    anyhow::bail!("there is always something wrong")
}

async fn is_degraded(scene: &Scene, wanted: bool) {
    let status = if wanted { "degraded" } else { "ready" };
    eventually(&format!("/readyz says {status}"), async || {
        let answer = scene.relay.get("/readyz").await.ok()?;
        (answer.status == 200 && answer.json().ok()?["status"] == status).then_some(())
    })
    .await;
}

#[scene_test]
async fn an_event_goes_out_without_the_column_that_was_renamed_or_unlisted(scene: &mut Scene) -> Result<()> {
    for text in [TOLD, MISFIT] {
        scene.relay.expect_log(text);
    }
    let (conversation, conv, mut socket) = listener(scene).await?;
    let insert =
        |id: u32| format!("insert into v (id, org, conv) values ({id}, '{ORGANIZATION}', '{conversation}')");
    run(scene, &[
        "create table v (id int primary key, org uuid, conv uuid, note text default 'n', state text default 's')",
        "select campfire.publish('campfire', 'v')",
        "select campfire.add_route('v', 'INSERT', 'org:{org}:conv:{conv}', 'v:new', '{id,note,state}')",
        &insert(1),
        "alter table v rename note to note2",
        &insert(2),
    ])
    .await?;
    let whole = socket.expect(&conv, "v:new").await?;
    ensure!(whole.payload == json!({"id": 1, "note": "n", "state": "s"}), "{whole:?}");
    let without = socket.expect(&conv, "v:new").await?;
    ensure!(without.payload == json!({"id": 2, "state": "s"}), "{without:?}");
    is_degraded(scene, true).await;
    ensure!(scene.relay.metric("campfire_problems").await? == Some(1.0));
    mend(scene).await?;
    is_degraded(scene, false).await;

    // As the guard's hint advises before a column is dropped.
    run(
        scene,
        &[
            "select campfire.publish_without('campfire', 'v', '{state}')",
            "alter table v drop column state",
            &insert(3),
        ],
    )
    .await?;
    let without = socket.expect(&conv, "v:new").await?;
    ensure!(without.payload == json!({"id": 3}), "{without:?}");
    is_degraded(scene, true).await;
    mend(scene).await?;
    run(scene, &[&insert(4)]).await?;
    ensure!(socket.expect(&conv, "v:new").await?.payload == json!({"id": 4}));
    is_degraded(scene, false).await;

    // A standard table, which is renamed back by what is offered.
    scene.database.batch_execute("alter table messages rename content to body").await?;
    scene
        .database
        .execute(
            "insert into messages (organization_id, conversation_id, body, sender_type) values ($1, $2, 'x', 'agent')",
            &[&ORGANIZATION, &conversation],
        )
        .await?;
    let event = socket.expect(&conv, "message:created").await?;
    ensure!(event.payload.get("content").is_none() && event.payload["sender_type"] == "agent", "{event:?}");
    mend(scene).await?;
    scene.write_messages(conversation, &["whole again".to_owned()]).await?;
    let event = socket.expect(&conv, "message:created").await?;
    ensure!(event.payload["content"] == "whole again", "{event:?}");
    Ok(())
}

/// As tools for online schema changes do it: by their own tables, by `messages`, by a projected table.
#[scene_test]
async fn a_table_in_anothers_place_is_told_and_goes_on_after_what_is_offered(
    scene: &mut Scene,
) -> Result<()> {
    scene.relay.expect_log(TOLD);
    let (conversation, conv, mut socket) = listener(scene).await?;
    let insert = |id: u32| format!("insert into orders values ({id}, '{ORGANIZATION}', '{conversation}')");
    let swap = |table: &str| {
        format!(
            "begin; create table s (like {table} including all); insert into s select * from {table};
             alter table {table} rename to {table}_old; alter table s rename to {table}; commit"
        )
    };
    run(
        scene,
        &[
            "create table orders (id int primary key, org uuid, conv uuid)",
            "select campfire.publish('campfire', 'orders')",
            "select campfire.add_route('orders', 'INSERT', 'org:{org}:conv:{conv}', 'order:new', '{id}')",
            &insert(1),
            &swap("orders"),
        ],
    )
    .await?;
    ensure!(socket.expect(&conv, "order:new").await?.payload["id"] == 1);
    is_degraded(scene, true).await;
    mend(scene).await?;
    run(scene, &[&insert(2)]).await?;
    ensure!(socket.expect(&conv, "order:new").await?.payload["id"] == 2);
    is_degraded(scene, false).await;

    run(scene, &[&swap("messages")]).await?;
    is_degraded(scene, true).await;
    mend(scene).await?;
    scene.write_messages(conversation, &["by another table".to_owned()]).await?;
    ensure!(socket.expect(&conv, "message:created").await?.payload["content"] == "by another table");

    run(scene, &[&swap("conversations")]).await?;
    mend(scene).await?;
    scene
        .database
        .execute("update conversations set status = 'closed' where id = $1", &[&conversation])
        .await?;
    ensure!(socket.expect(&conv, "conversation:updated").await?.payload["status"] == "closed");
    is_degraded(scene, false).await;
    Ok(())
}

/// pgoutput calls every old row whole where the table's replica identity is full; a partition logs by its own.
#[scene_test]
async fn rows_of_partitions_are_deleted_and_moved_by_what_their_partition_logged(
    scene: &mut Scene,
) -> Result<()> {
    for text in [TOLD, MISFIT, "a row names no channel"] {
        scene.relay.expect_log(text);
    }
    let (conversation, _, mut socket) = listener(scene).await?;
    let insert = |id: u32, day: &str| {
        format!("insert into visits values ({id}, '{day}', '{ORGANIZATION}', '{conversation}', null)")
    };
    let channel = "org:{org}:conv:{conv}";
    run(scene, &[
        "create table visits (id int, day date, org uuid, conv uuid, note text, primary key (id, day)) partition by range (day)",
        "create table visits_1 partition of visits for values from ('2026-01-01') to ('2026-02-01')",
        "alter table visits replica identity full",
        "select campfire.publish('campfire', 'visits')",
        &format!("select campfire.add_route('visits', 'DELETE', '{channel}', 'gone', on_move => true)"),
        &format!("select campfire.add_route('visits', 'INSERT', '{channel}', 'new', '{{id}}')"),
        // After the publication, and from elsewhere.
        "create table visits_2 partition of visits for values from ('2026-02-01') to ('2026-03-01')",
        "create table visits_3 (like visits including all)",
        "alter table visits attach partition visits_3 for values from ('2026-03-01') to ('2026-04-01')",
        &insert(1, "2026-01-05"), &insert(2, "2026-02-05"), &insert(3, "2026-03-05"),
        "delete from visits where id in (1, 3)",
        "update visits set day = '2026-03-06' where id = 2",
    ])
    .await?;
    let names = |events: &[Event]| {
        events.iter().map(|event| format!("{} {}", event.name, event.payload["id"])).collect::<Vec<_>>()
    };
    let events = socket.next_events(7).await?;
    ensure!(
        names(&events) == ["new 1", "new 2", "new 3", "gone 1", "gone 3", "gone 2", "new 2"],
        "{events:?}"
    );
    ensure!(events[3].payload["note"].is_null() && events[3].payload.get("note").is_some(), "{events:?}");

    // What no guard saw: only the key is known, so a delete has no channel, and an update is no move.
    run(
        scene,
        &[
            "alter event trigger campfire_guard disable",
            "alter table visits_3 replica identity default",
            "alter event trigger campfire_guard enable",
            &format!("select campfire.add_route('visits', 'UPDATE', '{channel}', 'changed', '{{id,note}}')"),
            "update visits set note = 'x' where id = 2",
            "delete from visits where id = 2",
            &insert(4, "2026-03-07"),
        ],
    )
    .await?;
    let events = socket.next_events(2).await?;
    ensure!(names(&events) == ["changed 2", "new 4"], "{events:?}");
    is_degraded(scene, true).await;
    mend(scene).await?;
    run(scene, &["delete from visits where id = 4"]).await?;
    ensure!(names(&[socket.next_event().await?]) == ["gone 4"]);
    is_degraded(scene, false).await;
    Ok(())
}

/// Rows from before may come by the list of after, if another transaction committed in between. Each has the types, the
/// route and the position that are its own.
#[scene_test]
async fn a_list_that_changes_under_an_open_transaction_changes_no_type_and_no_position(
    scene: &mut Scene,
) -> Result<()> {
    for text in [TOLD, MISFIT] {
        scene.relay.expect_log(text);
    }
    let (conversation, conv, mut socket) = listener(scene).await?;
    run(
        scene,
        &[
            "create table v (id int primary key, org uuid, conv uuid, big bigint, label text)",
            "select campfire.publish('campfire', 'v', '{id,org,conv,label}')",
            "select campfire.add_route('v', 'INSERT', 'org:{org}:conv:{conv}', 'v:new', '{id,label}')",
        ],
    )
    .await?;
    let insert =
        |id: u32| format!("insert into v values ({id}, '{ORGANIZATION}', '{conversation}', 7, 'l{id}')");
    let open = scene.cluster.connect().await?;
    open.batch_execute(&format!("begin; {}; {}", insert(1), insert(2))).await?;
    // The columns move: what was the label is a number in the new list.
    run(scene, &["select campfire.publish('campfire', 'v', '{id,org,conv,big,label}')", &insert(3)]).await?;
    open.batch_execute(&format!("{}; commit", insert(4))).await?;
    run(scene, &[&insert(5)]).await?;
    let events = socket.next_events(5).await?;
    let payloads: Vec<_> = events.iter().map(|event| event.payload.clone()).collect();
    let expected = [3, 1, 2, 4, 5].map(|id| json!({"id": id, "label": format!("l{id}")}));
    ensure!(payloads == expected, "{payloads:?}");
    let ids: Vec<String> = events.iter().map(|event| event.id().to_owned()).collect();

    // Read again from the slot, they have the positions they had.
    scene.relay.kill_9().await?;
    scene.relay.start_again().await?;
    let mut config = campfire_tests::socket::default_config();
    config["broadcast"]["replay"] = json!({"after": ids[0]});
    let mut back = scene.socket(Vsn::V2).await?;
    let reply = back.try_join(&conv, Some(&scene.agent()), config).await?;
    ensure!(reply.response["replay"]["complete"] == true, "{reply:?}");
    let again: Vec<String> = back.next_events(4).await?.iter().map(|event| event.id().to_owned()).collect();
    ensure!(again == ids[1..], "{again:?} instead of {:?}", &ids[1..]);
    Ok(())
}

/// Postgres refuses to change the type of a listed column. Out of the publication and back in one transaction, as the
/// documentation says, nothing is missed of those who write meanwhile.
#[scene_test]
async fn a_listed_column_changes_its_type_while_others_write(scene: &mut Scene) -> Result<()> {
    const ROWS: i32 = 200;
    let (conversation, _, mut socket) = listener(scene).await?;
    run(
        scene,
        &[
            "create table v (id int primary key, org uuid, conv uuid, label varchar(10), note jsonb)",
            "select campfire.publish('campfire', 'v', '{id,org,conv,label}')",
            "select campfire.add_route('v', 'INSERT', 'org:{org}:conv:{conv}', 'v:new', '{id,label}')",
        ],
    )
    .await?;
    let refused = scene.database.batch_execute("alter table v alter label type varchar(20)").await;
    let refused = refused.expect_err("a listed column");
    ensure!(refused.code() == Some(&SqlState::FEATURE_NOT_SUPPORTED), "{refused:?}");

    let writer = scene.cluster.connect().await?;
    let insert =
        format!("insert into v values ($1, '{ORGANIZATION}', '{conversation}', 'l' || $1::int, '{{}}')");
    let writing = async {
        for id in 0..ROWS {
            writer.execute(&insert, &[&id]).await?;
        }
        anyhow::Ok(())
    };
    let altering = async {
        for length in 11..=30 {
            let alter = format!(
                "begin;
                 select campfire.unpublish('campfire', 'v');
                 alter table v alter label type varchar({length});
                 select campfire.publish('campfire', 'v', '{{id,org,conv,label}}');
                 commit"
            );
            scene.database.batch_execute(&alter).await?;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(writing, altering)?;
    let events = socket.next_events(usize::try_from(ROWS)?).await?;
    for (id, event) in (0..ROWS).zip(&events) {
        ensure!(event.payload == json!({"id": id, "label": format!("l{id}")}), "{id}: {event:?}");
    }
    Ok(())
}
