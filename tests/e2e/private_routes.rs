//! Tables of an application's own, live on private channels: who may join, what they get, and that nobody else can say it.

use anyhow::{Context, Result, ensure};
use campfire_tests::relay::Settings;
use campfire_tests::socket::{Reply, Vsn, default_config};
use campfire_tests::{AGENT, ORGANIZATION, Socket, eventually, server, token};
use serde_json::{Value, json};

use crate::policies::silent;
use crate::scene::{Scene, scene_test, with_settings};

/// Two shops, of which a claim says whose a token is.
const SHOP: &str = "
    create table orders (id int primary key, shop_id int not null, state text default 'new', total numeric,
        made_at timestamptz not null default now());
    alter table orders replica identity full;
    select campfire.publish('campfire', 'orders');
    select campfire.add_route('orders', 'INSERT', 'shop:{shop_id}', 'order:created', '{id,state,total}',
        on_move => true, snapshot_by => 'made_at');
    select campfire.add_route('orders', 'UPDATE', 'shop:{shop_id}', 'order:updated', '{id,state,total}');
    select campfire.add_route('orders', 'DELETE', 'shop:{shop_id}', 'order:deleted', '{id}', on_move => true);";

/// Who may join, as a policy on the extension's own table.
const OWN_POLICIES: &str = "
    create policy shops on campfire.private_channels for select to authenticated
        using (campfire.topic() = 'shop:' || campfire.claim('shop'));
    create policy shops_send on campfire.private_channels for insert to authenticated
        with check (campfire.topic() = 'shop:' || campfire.claim('shop'));";

/// The same on `realtime.messages`.
const SUPABASE_POLICIES: &str = "
    select campfire.install_supabase_api();
    create policy shops on realtime.messages for select to authenticated
        using (realtime.topic() = 'shop:' || campfire.claim('shop'));
    create policy shops_send on realtime.messages for insert to authenticated
        with check (realtime.topic() = 'shop:' || campfire.claim('shop'));";

async fn run(scene: &Scene, statements: &str) -> Result<()> {
    scene.database.batch_execute(statements).await.with_context(|| statements.to_owned())
}

fn seller(scene: &Scene, shop: u32) -> String {
    let mut claims = token::agent_claims(ORGANIZATION, AGENT);
    claims["shop"] = shop.to_string().into();
    token::mint(scene.secret(), &claims)
}

fn private(replay: Option<Value>) -> Value {
    let mut config = default_config();
    config["private"] = true.into();
    config["broadcast"]["ack"] = true.into();
    if let Some(replay) = replay {
        config["broadcast"]["replay"] = replay;
    }
    config
}

async fn try_join(
    scene: &Scene,
    vsn: Vsn,
    channel: &str,
    shop: u32,
    replay: Option<Value>,
) -> Result<(Socket, Reply)> {
    let mut socket = scene.socket(vsn).await?;
    let reply = socket.try_join(channel, Some(&seller(scene, shop)), private(replay)).await?;
    Ok((socket, reply))
}

/// A seller of a shop on its channel, and what the reply says of the replay.
async fn member(scene: &Scene, vsn: Vsn, shop: u32, replay: Option<Value>) -> Result<(Socket, Value)> {
    let (socket, reply) = try_join(scene, vsn, &format!("shop:{shop}"), shop, replay).await?;
    ensure!(reply.is_ok(), "{reply:?}");
    Ok((socket, reply.response["replay"].clone()))
}

/// Names and ids of the next events.
async fn heard(socket: &mut Socket, count: usize) -> Result<Vec<String>> {
    let events = socket.next_events(count).await?;
    Ok(events.iter().map(|event| format!("{} {}", event.name, event.payload["id"])).collect())
}

#[scene_test]
async fn rows_go_to_the_private_room_of_those_whom_policies_let_in(scene: &mut Scene) -> Result<()> {
    run(scene, SHOP).await?;
    run(scene, OWN_POLICIES).await?;
    for vsn in Vsn::BOTH {
        let (mut mine, _) = member(scene, vsn, 1, None).await?;
        let (mut other, _) = member(scene, vsn, 2, None).await?;
        // Reading across shops.
        let (_, reply) = try_join(scene, vsn, "shop:1", 2, None).await?;
        ensure!(reply.reason().starts_with("Unauthorized: "), "{reply:?}");
        for replay in [json!({}), json!({"snapshot": 10}), json!({"since": 0, "limit": 10})] {
            let (_, reply) = try_join(scene, vsn, "bcast:shop:1", 2, Some(replay)).await?;
            ensure!(reply.reason().starts_with("Unauthorized: "), "{reply:?}");
        }
        run(
            scene,
            "insert into orders (id, shop_id, total) values (1, 1, 9.50), (2, 2, 1);
             update orders set state = 'paid' where id = 1;
             update orders set shop_id = 2 where id = 1;
             delete from orders where id in (1, 2)",
        )
        .await?;
        let event = mine.expect("shop:1", "order:created").await?;
        ensure!(event.payload == json!({"id": 1, "state": "new", "total": "9.50"}), "{event:?}");
        ensure!(heard(&mut mine, 2).await? == ["order:updated 1", "order:deleted 1"]);
        let expected = ["order:created 2", "order:created 1", "order:deleted 1", "order:deleted 2"];
        let found = heard(&mut other, 4).await?;
        ensure!(found == expected, "{found:?}");
        silent(&mut mine).await?;
        silent(&mut other).await?;
    }
    Ok(())
}

/// The public room of the same name, where the key lets everybody join.
#[tokio::test]
async fn the_public_room_of_that_name_hears_nothing_unless_the_route_is_public() {
    with_settings(
        |settings: Settings| settings.env("CAMPFIRE_PUBLIC_CHANNELS", "allow"),
        async |scene| {
            run(scene, SHOP).await?;
            run(scene, OWN_POLICIES).await?;
            run(
                scene,
                "create table news (id int primary key, text text);
                 select campfire.publish('campfire', 'news');
                 select campfire.add_route('news', 'INSERT', 'shop:1', 'news', public => true)",
            )
            .await?;
            let (mut member, _) = member(scene, Vsn::V2, 1, None).await?;
            let mut anybody = scene.socket(Vsn::V2).await?;
            ensure!(anybody.try_join("shop:1", None, default_config()).await?.is_ok());
            run(scene, "insert into orders (id, shop_id) values (1, 1); insert into news values (7, 'open')")
                .await?;
            ensure!(heard(&mut anybody, 1).await? == ["news 7"]);
            ensure!(heard(&mut member, 1).await? == ["order:created 1"]);
            silent(&mut member).await?;
            silent(&mut anybody).await
        },
    )
    .await;
}

#[scene_test]
async fn without_policies_nobody_joins_but_the_service(scene: &mut Scene) -> Result<()> {
    run(scene, SHOP).await?;
    let (_, reply) = try_join(scene, Vsn::V2, "shop:1", 1, None).await?;
    ensure!(reply.reason().starts_with("PoliciesNotInstalled: "), "{reply:?}");
    scene.relay.expect_log("no policies");
    let mut service = scene.socket(Vsn::V2).await?;
    let token = token::service(scene.secret());
    ensure!(service.try_join("shop:1", Some(&token), private(Some(json!({})))).await?.is_ok());
    run(scene, "insert into orders (id, shop_id) values (1, 1)").await?;
    ensure!(heard(&mut service, 1).await? == ["order:created 1"]);
    // Policies of schema realtime take the place of the others once that is installed.
    run(scene, OWN_POLICIES).await?;
    eventually("the denial is forgotten", async || {
        let joined = member(scene, Vsn::V2, 1, None).await;
        joined.ok().map(drop)
    })
    .await;
    run(scene, "select campfire.install_supabase_api()").await?;
    let (_, reply) = try_join(scene, Vsn::V2, "shop:1", 1, None).await?;
    ensure!(reply.reason().starts_with("Unauthorized: "), "{reply:?}");
    Ok(())
}

/// Whoever may send on the channel, in whatever spelling: what a route sends is not theirs to say.
#[scene_test]
async fn what_a_route_sends_nobody_else_can(scene: &mut Scene) -> Result<()> {
    run(scene, SHOP).await?;
    run(scene, SUPABASE_POLICIES).await?;
    let (mut victim, _) = member(scene, Vsn::V2, 1, None).await?;
    let service = format!("Bearer {}", token::service(scene.secret()));
    for vsn in Vsn::BOTH {
        let (mut forger, _) = member(scene, vsn, 1, None).await?;
        for event in
            ["order:created", "order:updated", "order:deleted", "Order:Created", "order:created\u{307}"]
        {
            let push = forger.broadcast("shop:1", event, json!({"id": 666})).await?;
            let reply = forger.reply(&push).await?;
            ensure!(reply.reason().starts_with("EventNotAllowed: "), "{event}: {reply:?}");
        }
        // Not the event, and not the channel, of a route.
        let push = forger.broadcast("shop:1", "order:seen", json!({"id": 1})).await?;
        ensure!(forger.reply(&push).await?.is_ok());
        ensure!(heard(&mut victim, 1).await? == ["order:seen 1"]);
    }
    for topic in ["shop:1", "bcast:shop:1", "realtime:shop:1"] {
        let message =
            json!({"topic": topic, "event": "order:created", "payload": {"id": 666}, "private": true});
        let answer = scene
            .relay
            .post(
                "/realtime/v1/api/broadcast",
                &[("authorization", &service)],
                &json!({"messages": [message]}),
            )
            .await?;
        ensure!(
            answer.status == 403 && answer.body.contains("You may not send this event"),
            "{topic}: {answer:?}"
        );
    }
    // What SQL sends is a warning there, an error here, and nothing comes of either.
    run(scene, "select realtime.send('{\"id\": 666}', 'order:created', 'shop:1')").await?;
    for statement in [
        "insert into realtime.messages (topic, extension, event, payload, private)
         values ('shop:1', 'broadcast', 'ORDER:created', '{\"id\": 666}', true)",
        "select campfire.broadcast('shop:1', 'order:created', '{\"id\": 666}')",
        "select campfire.broadcast('bcast:shop:1', 'Order:Deleted', '{\"id\": 666}')",
    ] {
        let error = scene.database.batch_execute(statement).await.err().context("it was sent")?;
        ensure!(error.code().is_some_and(|code| code.code() == "42501"), "{error:?}");
    }
    run(scene, "select realtime.send('{\"id\": 2}', 'order:seen', 'shop:1')").await?;
    ensure!(heard(&mut victim, 1).await? == ["order:seen 2"]);
    silent(&mut victim).await
}

/// A route that commits while a message of SQL is on its way: the order of the WAL decides.
#[scene_test]
async fn a_message_of_sql_that_commits_behind_the_route_is_not_believed(scene: &mut Scene) -> Result<()> {
    run(scene, SUPABASE_POLICIES).await?;
    let (mut member, _) = member(scene, Vsn::V2, 1, None).await?;
    let early = scene.cluster.connect().await?;
    early.batch_execute("begin; select realtime.send('{\"id\": 666}', 'order:created', 'shop:1')").await?;
    run(scene, SHOP).await?;
    early.batch_execute("commit").await?;
    run(scene, "insert into orders (id, shop_id) values (1, 1)").await?;
    ensure!(heard(&mut member, 1).await? == ["order:created 1"]);
    ensure!(scene.relay.metric("campfire_messages_refused_total{reason=\"reserved\"}").await? == Some(1.0));
    // Without the route the name is anybody's again.
    run(scene, "select campfire.drop_route(r.id) from campfire.routes as r where not builtin").await?;
    eventually("the relay knows that the route is gone", async || {
        let push = member.broadcast("shop:1", "order:created", json!({})).await.ok()?;
        member.reply(&push).await.ok()?.is_ok().then_some(())
    })
    .await;
    Ok(())
}

#[scene_test]
async fn a_seller_who_was_away_gets_what_was_missed_in_order_and_once(scene: &mut Scene) -> Result<()> {
    run(scene, SHOP).await?;
    run(scene, OWN_POLICIES).await?;
    let (mut witness, _) = member(scene, Vsn::V2, 1, None).await?;
    let (first, quiet) = member(scene, Vsn::V2, 1, Some(json!({}))).await?;
    ensure!(quiet["complete"] == true && quiet["count"] == 0, "{quiet}");
    drop(first);
    run(
        scene,
        "insert into orders (id, shop_id) select n, n % 2 from generate_series(1, 60) n;
         update orders set state = 'paid' where id = 1;
         delete from orders where id = 3",
    )
    .await?;
    let seen = witness.next_events(32).await?;
    ensure!(seen[31].name == "order:deleted", "{seen:?}");
    let ids: Vec<&str> = seen.iter().map(campfire_tests::socket::Event::id).collect();
    for vsn in Vsn::BOTH {
        for (from, count) in [
            (json!({"after": quiet["position"]}), 32),
            (json!({"after": ids[9]}), 22),
            (json!({"since": 0, "limit": 7}), 7),
        ] {
            let is_whole = from.get("after").is_some();
            let (mut back, replay) = member(scene, vsn, 1, Some(from)).await?;
            ensure!(replay["complete"] == is_whole && replay["count"] == count, "{replay}");
            let missed = back.next_events(count).await?;
            let found: Vec<&str> = missed.iter().map(campfire_tests::socket::Event::id).collect();
            ensure!(found == ids[32 - count..], "{found:?}");
            ensure!(missed.iter().all(|event| event.meta["replayed"] == true), "{missed:?}");
        }
    }
    // As long a list as on channels of an organization.
    let (_, replay) = member(scene, Vsn::V2, 1, Some(json!({"since": 1, "limit": 1000}))).await?;
    ensure!(replay["count"] == 32, "{replay}");
    // A relay that was killed reads it again.
    scene.relay.kill_9().await?;
    scene.relay.start_again().await?;
    let (mut back, replay) = member(scene, Vsn::V2, 1, Some(json!({"after": ids[20]}))).await?;
    ensure!(replay["complete"] == true && replay["count"] == 11, "{replay}");
    let missed = back.next_events(11).await?;
    let found: Vec<&str> = missed.iter().map(campfire_tests::socket::Event::id).collect();
    ensure!(found == ids[21..], "{found:?}");
    Ok(())
}

/// Where no rows go, the forms of the reference are all there are.
#[scene_test]
async fn private_channels_without_rows_have_no_snapshots(scene: &mut Scene) -> Result<()> {
    run(scene, SHOP).await?;
    run(
        scene,
        "select campfire.install_private_channels();
         create policy all_read on campfire.private_channels for select to authenticated using (true)",
    )
    .await?;
    for replay in [json!({}), json!({"snapshot": 5})] {
        let (_, reply) = try_join(scene, Vsn::V2, "room:1", 1, Some(replay)).await?;
        ensure!(reply.reason() == "UnableToReplayMessages: Replay params are not valid", "{reply:?}");
    }
    // There were no messages, where there is no schema realtime.
    let (_, reply) = try_join(scene, Vsn::V2, "room:1", 1, Some(json!({"since": 0}))).await?;
    ensure!(reply.is_ok() && reply.response["replay"]["count"] == 0, "{reply:?}");
    Ok(())
}

/// The rows of a snapshot: their events, ids, and nothing else.
async fn rows(socket: &mut Socket, count: usize) -> Result<Vec<Value>> {
    let events = socket.next_events(count).await?;
    for event in &events {
        ensure!(event.meta == json!({"replayed": true, "snapshot": true}), "{event:?}");
    }
    Ok(events.into_iter().map(|event| event.payload).collect())
}

const LET_READ: &str = "
    grant select on orders to authenticated;
    alter table orders enable row level security;
    create policy own on orders for select to authenticated using (shop_id::text = campfire.claim('shop'));";

#[scene_test]
async fn a_snapshot_has_the_newest_rows_as_the_routes_columns_and_then_the_stream(
    scene: &mut Scene,
) -> Result<()> {
    run(scene, SHOP).await?;
    run(scene, OWN_POLICIES).await?;
    run(scene, LET_READ).await?;
    // Not in the order of the key; two of the same moment, which the key puts in order; of another shop.
    run(
        scene,
        "insert into orders (id, shop_id, total, made_at) values
           (5, 1, 1.10, '2026-01-01'), (4, 1, 2, '2026-01-02'), (2, 1, 3, '2026-01-03'), (3, 1, 4, '2026-01-03'), (9, 2, 5, '2026-02-01')",
    )
    .await?;
    for (vsn, limit, expected) in [(Vsn::V1, 10, vec![5, 4, 2, 3]), (Vsn::V2, 3, vec![4, 2, 3])] {
        let (mut socket, replay) = member(scene, vsn, 1, Some(json!({"snapshot": limit}))).await?;
        ensure!(replay["complete"] == true && replay["count"] == expected.len(), "{replay}");
        let shown = rows(&mut socket, expected.len()).await?;
        let ids: Vec<i64> = shown.iter().filter_map(|row| row["id"].as_i64()).collect();
        ensure!(ids == expected, "{shown:?}");
        ensure!(shown.last() == Some(&json!({"id": 3, "state": "new", "total": "4"})), "{shown:?}");
        run(
            scene,
            "update orders set state = 'paid' where id = 3; update orders set state = 'new' where id = 3",
        )
        .await?;
        let live = socket.next_events(2).await?;
        ensure!(live[0].name == "order:updated" && live[0].payload["state"] == "paid", "{live:?}");
        ensure!(live[0].meta["replayed"].is_null() && !live[0].id().is_empty(), "{live:?}");
    }
    // Row-level security decides which rows there are.
    run(scene, "drop policy own on orders").await?;
    let (_, replay) = member(scene, Vsn::V2, 1, Some(json!({"snapshot": 10}))).await?;
    ensure!(replay["count"] == 0 && replay["complete"] == true, "{replay}");
    Ok(())
}

/// Writers commit all the time: whatever a snapshot shows is not told again, and what it does not show is.
#[scene_test]
async fn snapshot_and_stream_meet_in_one_cut(scene: &mut Scene) -> Result<()> {
    run(scene, SHOP).await?;
    run(scene, OWN_POLICIES).await?;
    run(scene, LET_READ).await?;
    run(scene, "insert into orders (id, shop_id) select n, 1 from generate_series(1, 20) n").await?;
    let writer = scene.cluster.connect().await?;
    run(scene, "create table stopped ()").await?;
    let write = "do $$ begin for n in 1..1000000 loop
        update orders set total = n where id = n % 20 + 1; commit;
        exit when exists (select from stopped);
        perform pg_sleep(0.0005); end loop; end $$";
    let writing = writer.batch_execute(write);
    let joining = async {
        let outcome = rounds(scene).await;
        run(scene, "insert into stopped default values").await?;
        outcome
    };
    let (written, joined) = tokio::join!(writing, joining);
    written?;
    joined
}

async fn rounds(scene: &Scene) -> Result<()> {
    for round in 0..15 {
        let vsn = Vsn::BOTH[round % 2];
        let (mut socket, replay) = member(scene, vsn, 1, Some(json!({"snapshot": 50}))).await?;
        ensure!(replay["complete"] == true, "{replay}");
        let shown = rows(&mut socket, 20).await?;
        let mut total: i64 =
            shown.iter().filter_map(|row| row["total"].as_str()?.parse::<i64>().ok()).max().unwrap_or(0);
        // Each change adds one: nothing is left out, nothing comes twice.
        for event in socket.next_events(40).await? {
            total += 1;
            ensure!(
                event.payload["total"] == json!(total.to_string()),
                "round {round}: {event:?} instead of {total}"
            );
        }
    }
    Ok(())
}

/// The stream stands still while the rows are read, which are then ahead of it.
#[scene_test]
async fn what_the_rows_show_does_not_come_again_however_far_the_stream_is_behind(
    scene: &mut Scene,
) -> Result<()> {
    run(scene, SHOP).await?;
    run(scene, OWN_POLICIES).await?;
    run(scene, LET_READ).await?;
    run(scene, "insert into orders (id, shop_id) values (1, 1), (2, 1)").await?;
    for vsn in Vsn::BOTH {
        let (mut witness, _) = member(scene, vsn, 1, Some(json!({"snapshot": 10}))).await?;
        let before = rows(&mut witness, 2).await?;
        ensure!(before[0]["state"] == "new", "{before:?}");
        let walsender = "select pid from pg_stat_replication";
        let walsender: i32 = scene.database.query_one(walsender, &[]).await?.get(0);
        let walsender = walsender.cast_unsigned();
        ensure!(server::signal(walsender, "STOP"), "it runs");
        let reading = async {
            run(scene, "update orders set state = 'paid' where id = 1").await?;
            let (mut socket, replay) = member(scene, vsn, 1, Some(json!({"snapshot": 10}))).await?;
            ensure!(replay["complete"] == true && replay["count"] == 2, "{replay}");
            let shown = rows(&mut socket, 2).await?;
            ensure!(shown[0]["state"] == "paid", "{shown:?}");
            anyhow::Ok(socket)
        };
        let read = reading.await;
        ensure!(server::signal(walsender, "CONT"), "it runs still");
        let mut socket = read?;
        run(scene, "update orders set state = 'new' where id = 1").await?;
        ensure!(witness.next_event().await?.payload["state"] == "paid");
        ensure!(witness.next_event().await?.payload["state"] == "new");
        let event = socket.next_event().await?;
        ensure!(event.name == "order:updated" && event.payload["state"] == "new", "{event:?}");
    }
    Ok(())
}

#[scene_test]
async fn a_role_without_the_right_to_read_is_told_what_it_lacks(scene: &mut Scene) -> Result<()> {
    run(scene, SHOP).await?;
    run(scene, OWN_POLICIES).await?;
    let refused = async |expected: &str| {
        let (_, reply) = try_join(scene, Vsn::V2, "shop:1", 1, Some(json!({"snapshot": 5}))).await?;
        let reason =
            format!("SnapshotDenied: Your role may not read the rows of this channel; it needs: {expected}");
        ensure!(reply.reason() == reason, "{reply:?}");
        anyhow::Ok(())
    };
    refused(r#"grant select on "public"."orders" to authenticated"#).await?;
    // What is said can be pasted.
    run(scene, "grant select (id, state, total, shop_id) on orders to authenticated").await?;
    refused(r#"grant select ("made_at") on "public"."orders" to authenticated"#).await?;
    run(scene, r#"grant select ("made_at") on "public"."orders" to authenticated"#).await?;
    let (_, replay) = member(scene, Vsn::V2, 1, Some(json!({"snapshot": 5}))).await?;
    ensure!(replay["complete"] == true, "{replay}");
    run(scene, "create schema hidden; alter table orders set schema hidden").await?;
    refused(r#"grant usage on schema "hidden" to authenticated"#).await?;
    // The stream needs no right of the client's.
    let (mut socket, _) = member(scene, Vsn::V2, 1, None).await?;
    run(scene, "insert into hidden.orders (id, shop_id) values (1, 1)").await?;
    ensure!(heard(&mut socket, 1).await? == ["order:created 1"]);
    Ok(())
}

/// Types and names by which a channel is found from its name, and rows from their channel.
#[scene_test]
async fn rows_are_found_by_every_type_that_can_name_a_channel(scene: &mut Scene) -> Result<()> {
    scene.relay.expect_log("a row names no channel");
    run(
        scene,
        "select campfire.install_private_channels();
         create policy all_read on campfire.private_channels for select to authenticated using (true);
         create domain code as char(5);
         create table things (id int primary key, flag boolean, padded code, kind text, day date, ratio float8, at timestamptz,
             name varchar(20), other text);
         alter table things replica identity full;
         grant select on things to authenticated;
         select campfire.publish('campfire', 'things');
         select campfire.add_route('things', 'INSERT', channel, 'thing', '{id}')
         from string_to_table('flag:{flag} padded:{padded} two:{kind}:{name} day:{day} bcast:at:{at} ratio:{ratio} all next:{kind}{name}', ' ') as channel;
         insert into things values
             (1, true, 'ab', 'a', '2026-01-05', 0.1, '2026-01-05 10:00+00', 'b:c', 'x'),
             (2, false, 'abc', 'a:b', '2026-01-06', 1e300, '2026-01-05 10:00:00.5+00', 'c', 'x'),
             (3, null, null, null, null, null, null, null, 'x'),
             (4, true, 'a''\\', 'A', '2026-01-05', 0.1, '2026-01-05 10:00+00', 'é%_', 'x')",
    )
    .await?;
    let mut witness = scene.socket(Vsn::V2).await?;
    let channels: [(&str, &[i64]); 18] = [
        ("flag:t", &[1, 4]),
        ("flag:f", &[2]),
        // No output of the type, though an input of it.
        ("flag:true", &[]),
        ("flag:x", &[]),
        ("padded:ab", &[1]),
        ("padded:ab ", &[]),
        ("padded:a'\\", &[4]),
        // Two ways to divide the name.
        ("two:a:b:c", &[1, 2]),
        ("two:A:é%_", &[4]),
        ("two:a:é%_", &[]),
        ("day:2026-01-05", &[1, 4]),
        ("day:5.1.2026", &[]),
        ("at:2026-01-05 10:00:00+00", &[1, 4]),
        ("at:2026-01-05 10:00:00.5+00", &[2]),
        ("ratio:0.1", &[1, 4]),
        ("ratio:1e+300", &[2]),
        ("all", &[1, 2, 3, 4]),
        ("next:ab:c", &[1]),
    ];
    for (channel, expected) in channels {
        let (mut socket, reply) = try_join(scene, Vsn::V2, channel, 1, Some(json!({"snapshot": 10}))).await?;
        ensure!(reply.is_ok(), "{channel}: {reply:?}");
        let shown = rows(&mut socket, expected.len()).await?;
        let ids: Vec<i64> = shown.iter().filter_map(|row| row["id"].as_i64()).collect();
        ensure!(
            ids == expected && reply.response["replay"]["count"] == expected.len(),
            "{channel}: {reply:?} {shown:?}"
        );
        // The stream agrees: what names the channel comes on it.
        if let Some(id) = expected.first() {
            ensure!(witness.try_join(channel, Some(&seller(scene, 1)), private(None)).await?.is_ok());
            run(scene, &format!("insert into things select 100, flag, padded, kind, day, ratio, at, name from things where id = {id};
                delete from things where id = 100")).await?;
            let event = witness
                .frame_where("the row", |frame| {
                    frame.topic == format!("realtime:{channel}") && frame.event == "broadcast"
                })
                .await?;
            ensure!(event.payload["payload"]["id"] == 100, "{event:?}");
            witness.leave(channel).await?;
        }
    }
    Ok(())
}

/// One row is one event, also if two routes lead to the channel; each table has its own rows.
#[scene_test]
async fn several_routes_to_a_channel_show_each_row_once(scene: &mut Scene) -> Result<()> {
    run(scene, SHOP).await?;
    run(scene, OWN_POLICIES).await?;
    run(scene, "grant select on orders to authenticated").await?;
    run(
        scene,
        "select campfire.add_route('orders', 'INSERT', 'shop:1', 'order:made', '{id}');
         create table notes (id int primary key, shop_id int, text text);
         grant select on notes to authenticated;
         select campfire.publish('campfire', 'notes', '{id,shop_id,text}');
         select campfire.add_route('notes', 'INSERT', 'shop:{shop_id}', 'note:created', '{id,text}');
         insert into orders (id, shop_id) values (1, 1), (2, 2), (3, 1); insert into notes values (7, 1, 'n'), (8, 2, 'n')",
    )
    .await?;
    let mut socket = scene.socket(Vsn::V2).await?;
    let reply =
        socket.try_join("shop:1", Some(&seller(scene, 1)), private(Some(json!({"snapshot": 10})))).await?;
    ensure!(reply.response["replay"]["count"] == 4, "{reply:?}");
    // By the lowest id, as in the stream: of the second route only what the first leaves.
    ensure!(
        heard(&mut socket, 4).await?
            == ["order:created 1", "order:created 3", "order:made 2", "note:created 7"]
    );
    // A column that is not published any more is not shown either.
    run(scene, "select campfire.publish_without('campfire', 'notes', '{text}')").await?;
    let mut again = scene.socket(Vsn::V2).await?;
    ensure!(
        again
            .try_join("shop:1", Some(&seller(scene, 1)), private(Some(json!({"snapshot": 10}))))
            .await?
            .is_ok()
    );
    let last = again.next_events(4).await?.pop().context("no events")?;
    ensure!(last.payload == json!({"id": 7}), "{last:?}");
    Ok(())
}

/// TRUNCATE is told, and what came of the rows does not come back. The public room of the name hears nothing of it.
#[scene_test(|settings| settings.env("CAMPFIRE_PUBLIC_CHANNELS", "allow"))]
async fn an_emptied_table_is_told_on_its_channels(scene: &mut Scene) -> Result<()> {
    run(scene, SHOP).await?;
    let mut anybody = scene.socket(Vsn::V2).await?;
    ensure!(anybody.try_join("shop:1", None, default_config()).await?.is_ok());
    run(scene, OWN_POLICIES).await?;
    let (mut socket, start) = member(scene, Vsn::V2, 1, Some(json!({}))).await?;
    run(scene, "insert into orders (id, shop_id) values (1, 1)").await?;
    run(scene, "truncate orders").await?;
    run(scene, "insert into orders (id, shop_id) values (2, 1)").await?;
    ensure!(heard(&mut socket, 1).await? == ["order:created 1"]);
    let notice = socket.frame_where("the notice", |frame| frame.event == "system").await?;
    ensure!(
        notice.payload["message"].as_str().is_some_and(|text| text.starts_with("ReplayIncomplete: ")),
        "{notice:?}"
    );
    ensure!(heard(&mut socket, 1).await? == ["order:created 2"]);
    let (_, replay) = member(scene, Vsn::V2, 1, Some(json!({"after": start["position"]}))).await?;
    ensure!(replay["complete"] == false && replay["count"] == 1, "{replay}");
    silent(&mut anybody).await
}
