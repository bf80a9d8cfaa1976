//! Schema `realtime`: what SQL sends to channels outside `org:`, live and again. Names beginning with `d1` and so on
//! are the checks of the protocol's reference.

use anyhow::{Result, ensure};
use campfire_tests::cluster::Options;
use campfire_tests::frame::Frame;
use campfire_tests::relay::Settings;
use campfire_tests::seed::DATABASE;
use campfire_tests::socket::{Event, Reply, Vsn, default_config};
use campfire_tests::{Socket, eventually, server};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::policies::silent;
use crate::scene::{Scene, scene_test, with_cluster, with_settings};

const ROOM: &str = "room:7";

/// Lets agents read and send everything.
const OPEN: &str = "select campfire.install_supabase_api();
    create policy readers on realtime.messages for select to authenticated using (true);
    create policy writers on realtime.messages for insert to authenticated with check (true);";

fn public(settings: Settings) -> Settings {
    settings.env("CAMPFIRE_PUBLIC_CHANNELS", "allow")
}

async fn with_open_rooms(test: impl AsyncFnOnce(&mut Scene) -> Result<()>) {
    with_settings(public, async |scene| {
        scene.database.batch_execute(OPEN).await?;
        test(scene).await
    })
    .await;
}

fn private() -> Value {
    let mut config = default_config();
    config["private"] = true.into();
    config
}

fn replaying(replay: Value) -> Value {
    let mut config = private();
    config["broadcast"]["replay"] = replay;
    config
}

async fn member(scene: &Scene, vsn: Vsn, config: Value) -> Result<Socket> {
    Ok(join(scene, vsn, config).await?.0)
}

async fn join(scene: &Scene, vsn: Vsn, config: Value) -> Result<(Socket, Reply)> {
    let mut socket = scene.socket(vsn).await?;
    let reply = socket.try_join(ROOM, Some(&scene.agent()), config).await?;
    ensure!(reply.is_ok(), "{reply:?}");
    Ok((socket, reply))
}

/// Joins with a replay, which must be of so many events.
async fn replay(scene: &Scene, vsn: Vsn, replay: Value) -> Result<(Socket, Value, Vec<Event>)> {
    let (mut socket, reply) = join(scene, vsn, replaying(replay)).await?;
    let said = reply.response["replay"].clone();
    let events = socket.next_events(said["count"].as_u64().unwrap_or_default() as usize).await?;
    ensure!(events.iter().all(|event| event.meta["replayed"] == true), "{events:?}");
    Ok((socket, said, events))
}

/// The next frame is a broadcast: this one.
async fn next_broadcast(socket: &mut Socket) -> Result<Frame> {
    socket.frame_where("a broadcast", |frame| frame.event == "broadcast").await
}

/// Sends `{"n": N}` for each number, a transaction each.
async fn send(database: &Client, numbers: impl IntoIterator<Item = i64>) -> Result<()> {
    for number in numbers {
        let send = format!("select realtime.send('{{\"n\": {number}}}', 'e', '{ROOM}')");
        database.batch_execute(&send).await?;
    }
    Ok(())
}

fn numbers(events: &[Event]) -> Vec<i64> {
    events.iter().map(|event| event.payload["n"].as_i64().unwrap_or_default()).collect()
}

fn is_uuid(value: &Value) -> bool {
    value.as_str().is_some_and(|text| Uuid::try_parse(text).is_ok())
}

/// Milliseconds since 1970 by the database's clock.
async fn now(database: &Client) -> Result<i64> {
    let now = "select floor(extract(epoch from clock_timestamp()) * 1000)::int8";
    Ok(database.query_one(now, &[]).await?.get(0))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d1_sql_sends_to_the_private_members_alone() {
    with_open_rooms(async |scene| {
        for vsn in Vsn::BOTH {
            let mut inside = member(scene, vsn, private()).await?;
            let mut outside = member(scene, vsn, default_config()).await?;
            scene.database.batch_execute("select realtime.send('{\"v\":1}', 'e', 'room:7')").await?;
            scene.database.batch_execute("select realtime.send('{\"v\":2}', 'e', 'room:7', false)").await?;
            let event = inside.expect(ROOM, "e").await?;
            ensure!(event.payload["v"] == 1 && is_uuid(&event.meta["id"]), "{event:?}");
            ensure!(event.payload["id"] == event.meta["id"], "{event:?}");
            ensure!(event.age().is_some() && event.meta["position"].is_string(), "{event:?}");
            // The first that the public room hears is what was sent to it.
            let event = outside.expect(ROOM, "e").await?;
            ensure!(event.payload["v"] == 2, "{event:?}");
            silent(&mut inside).await?;
            // An id of the application's own stays.
            scene.database.batch_execute("select realtime.send('{\"id\":\"mine\"}', 'e', 'room:7')").await?;
            let event = inside.expect(ROOM, "e").await?;
            ensure!(event.payload["id"] == "mine" && is_uuid(&event.meta["id"]), "{event:?}");
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d2_bytes_reach_2_0_0_and_nobody_else() {
    with_open_rooms(async |scene| {
        let mut old = member(scene, Vsn::V1, private()).await?;
        let mut new = member(scene, Vsn::V2, private()).await?;
        scene.database.batch_execute("select realtime.send_binary('\\xdead00', 'blob', 'room:7')").await?;
        send(&scene.database, [1]).await?;
        let frame = next_broadcast(&mut new).await?;
        ensure!(frame.is_binary, "{frame:?}");
        ensure!(frame.payload["payload"] == json!({"bytes": [0xde, 0xad, 0]}), "{frame:?}");
        ensure!(frame.payload["event"] == "blob" && is_uuid(&frame.payload["meta"]["id"]), "{frame:?}");
        let frame = next_broadcast(&mut new).await?;
        ensure!(frame.is_binary && frame.payload["payload"]["n"] == 1, "{frame:?}");
        ensure!(old.expect(ROOM, "e").await?.payload["n"] == 1, "the first that it hears");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d3_a_trigger_tells_rows_before_and_after() {
    with_open_rooms(async |scene| {
        let table = "create table notes (id int primary key, body text);
            create function tell_notes() returns trigger language plpgsql as $$
            begin
              perform realtime.broadcast_changes('room:7', tg_op, tg_op, tg_table_name, tg_table_schema, new, old);
              return null;
            end $$;
            create trigger tell after insert or update or delete on notes for each row execute function tell_notes();";
        scene.database.batch_execute(table).await?;
        let (was, is) = (json!({"id": 1, "body": "old"}), json!({"id": 1, "body": "new"}));
        for vsn in Vsn::BOTH {
            let mut socket = member(scene, vsn, private()).await?;
            for (statement, operation, record, old_record) in [
                ("insert into notes values (1, 'old')", "INSERT", &was, &Value::Null),
                ("update notes set body = 'new'", "UPDATE", &is, &was),
                ("delete from notes", "DELETE", &Value::Null, &is),
            ] {
                scene.database.batch_execute(statement).await?;
                let event = socket.expect(ROOM, operation).await?;
                let id = event.meta["id"].clone();
                ensure!(is_uuid(&id), "{event:?}");
                let expected = json!({"id": id, "table": "notes", "schema": "public", "operation": operation,
                    "record": record, "old_record": old_record});
                ensure!(event.payload == expected, "{event:?}");
            }
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d4_a_replay_gives_the_newest_oldest_first_and_none_twice() {
    with_open_rooms(async |scene| {
        for vsn in Vsn::BOTH {
            let before = now(&scene.database).await?;
            send(&scene.database, [1, 2, 3]).await?;
            // What the relay has yet to read would come live.
            scene.settle().await?;
            // Without waiting for the reply a fourth commits: it comes once, whichever way.
            let mut socket = scene.socket(vsn).await?;
            let config = replaying(json!({"since": before, "limit": 2}));
            let join = socket.send_join(ROOM, Some(&scene.agent()), config).await?;
            send(&scene.database, [4]).await?;
            let reply = socket.reply(&join).await?;
            ensure!(reply.is_ok() && reply.response["postgres_changes"] == json!([]), "{reply:?}");
            let count = reply.response["replay"]["count"].as_u64().unwrap_or_default() as usize;
            ensure!(count == 2, "{reply:?}");
            let replayed = socket.next_events(2).await?;
            let live: Vec<i64> = match numbers(&replayed)[..] {
                [2, 3] => vec![4, 5],
                [3, 4] => vec![5],
                ref other => anyhow::bail!("{other:?}"),
            };
            for event in &replayed {
                ensure!(
                    event.meta["replayed"] == true && event.payload["id"] == event.meta["id"],
                    "{event:?}"
                );
            }
            send(&scene.database, [5]).await?;
            let events = socket.next_events(live.len()).await?;
            ensure!(numbers(&events) == live, "{events:?}");
            ensure!(events.iter().all(|event| event.meta["replayed"].is_null()), "{events:?}");
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d4_the_frames_of_a_replay_are_those_of_the_reference() {
    with_open_rooms(async |scene| {
        let before = now(&scene.database).await?;
        send(&scene.database, [1]).await?;
        scene.database.batch_execute("select realtime.send_binary('\\x00ff', 'blob', 'room:7')").await?;
        scene.settle().await?;
        let mut config = replaying(json!({"since": before}));
        config["presence"]["enabled"] = true.into();
        config["broadcast"]["replication_ready"] = true.into();
        let mut socket = scene.socket(Vsn::V2).await?;
        let reference = socket.send_join(ROOM, Some(&scene.agent()), config.clone()).await?;
        let mut frames = Vec::new();
        while frames.last().is_none_or(|frame: &Frame| frame.event != "presence_state") {
            frames.push(socket.next_frame().await?);
        }
        let names: Vec<&str> = frames.iter().map(|frame| frame.event.as_str()).collect();
        ensure!(names == ["phx_reply", "broadcast", "broadcast", "system", "presence_state"], "{names:?}");
        let [_, json, bytes, ..] = &frames[..] else { unreachable!("there are five") };
        ensure!(!json.is_binary && json.join_ref.as_deref() == Some(&reference), "{json:?}");
        let keys = |frame: &Frame| -> Vec<String> {
            frame.payload["meta"].as_object().map(|meta| meta.keys().cloned().collect()).unwrap_or_default()
        };
        ensure!(keys(json).contains(&"replayed".to_owned()) && json.payload["payload"]["n"] == 1, "{json:?}");
        ensure!(bytes.is_binary && bytes.payload["meta"]["replayed"] == true, "{bytes:?}");
        ensure!(bytes.payload["payload"] == json!({"bytes": [0, 255]}), "{bytes:?}");
        // Bytes are nothing to 1.0.0, and are not counted.
        let (_, said, events) = replay(scene, Vsn::V1, json!({"since": before})).await?;
        ensure!(said["count"] == 1 && numbers(&events) == [1], "{said} {events:?}");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d5_what_cannot_be_replayed_is_refused_in_the_references_words() {
    with_open_rooms(async |scene| {
        let public = |replay: Value| {
            let mut config = replaying(replay);
            config["private"] = false.into();
            config
        };
        let not_allowed = "UnableToReplayMessages: Replay is not allowed for public channels";
        let not_valid = "UnableToReplayMessages: Replay params are not valid";
        for vsn in Vsn::BOTH {
            let mut socket = scene.socket(vsn).await?;
            for (config, expected) in [
                (public(json!({"since": 1})), not_allowed),
                (public(Value::Null), not_allowed),
                (replaying(json!({})), not_valid),
                (replaying(json!({"limit": 3})), not_valid),
                (replaying(json!({"since": "1"})), not_valid),
                (replaying(json!({"since": 1, "limit": "3"})), not_valid),
            ] {
                let reply = socket.try_join(ROOM, Some(&scene.agent()), config).await?;
                ensure!(reply.status == "error" && reply.reason() == expected, "{reply:?}");
            }
            let reply = socket.try_join(ROOM, Some(&scene.agent()), replaying(Value::Null)).await?;
            ensure!(reply.is_ok() && reply.response.get("replay").is_none(), "{reply:?}");
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_goes_on_after_the_rows_id_or_the_position() {
    with_open_rooms(async |scene| {
        let mut socket = member(scene, Vsn::V2, private()).await?;
        send(&scene.database, 1..=4).await?;
        let seen = socket.next_events(4).await?;
        for (last, next) in [(&seen[1].meta["id"], 5), (&seen[1].meta["position"], 6)] {
            let (mut again, said, events) = replay(scene, Vsn::V2, json!({"after": last})).await?;
            let missed: Vec<i64> = (3..next).collect();
            ensure!(said["complete"] == true && numbers(&events) == missed, "{said} {events:?}");
            send(&scene.database, [next]).await?;
            ensure!(again.expect(ROOM, "e").await?.payload["n"] == next);
            // What a heartbeat says is good to go on from, too.
            let position = again.heartbeat().await?.response["position"].clone();
            let (_, said, events) = replay(scene, Vsn::V2, json!({"after": position})).await?;
            ensure!(said == json!({"complete": true, "position": said["position"], "count": 0}), "{said}");
            ensure!(events.is_empty(), "{events:?}");
        }
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_misses_nothing_of_a_relay_that_was_killed() {
    with_open_rooms(async |scene| {
        for vsn in Vsn::BOTH {
            let mut socket = member(scene, vsn, private()).await?;
            send(&scene.database, [1, 2]).await?;
            let seen = socket.next_events(2).await?;
            scene.relay.kill_9().await?;
            send(&scene.database, [3, 4]).await?;
            scene.relay.start_again().await?;
            let (mut again, said, events) = replay(scene, vsn, json!({"after": seen[0].meta["id"]})).await?;
            ensure!(said["complete"] == true && numbers(&events) == [2, 3, 4], "{said} {events:?}");
            ensure!(
                events[0].meta["position"] == seen[1].meta["position"],
                "another position after a restart"
            );
            send(&scene.database, [5]).await?;
            ensure!(again.expect(ROOM, "e").await?.payload["n"] == 5);
        }
        Ok(())
    })
    .await;
}

const ONE_SECOND: (&str, &str) = ("CAMPFIRE_WINDOW_SECONDS", "1");

/// Messages of all rooms together: a window that does not depend on the time.
const ABOUT_FIFTEEN: (&str, &str) = ("CAMPFIRE_WINDOW_ORG_BYTES", "4000");

/// A cluster that knows when transactions committed, and a relay whose window is short.
async fn with_short_memory(window: &[(&str, &str)], test: impl AsyncFnOnce(&mut Scene) -> Result<()>) {
    let settings = vec![("track_commit_timestamp".to_owned(), "on".to_owned())];
    let options = Options { settings, ..Options::default() };
    let short = |settings: Settings| {
        window.iter().fold(settings, |settings, (name, value)| settings.env(name, value))
    };
    with_cluster(options, short, async |scene| {
        scene.database.batch_execute(OPEN).await?;
        test(scene).await
    })
    .await;
}

/// Waits until the window has lost all messages since then, of which there are so many.
async fn forgotten(scene: &Scene, since: i64, count: usize) {
    eventually("rows of the table alone", async || {
        let (_, _, events) = replay(scene, Vsn::V1, json!({"since": since})).await.ok()?;
        let are_rows = events.iter().all(|event| event.meta["position"].is_null());
        (events.len() == count && are_rows).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_older_than_the_window_comes_from_the_table_in_the_order_of_commits() {
    with_short_memory(&[ONE_SECOND], async |scene| {
        let before = now(&scene.database).await?;
        let mut late = scene.cluster.connect().await?;
        let late = late.transaction().await?;
        late.batch_execute("select realtime.send('{\"n\": 3}', 'e', 'room:7')").await?;
        send(&scene.database, [1, 2]).await?;
        late.commit().await?;
        scene.database.batch_execute("select realtime.send('{\"n\": 9}', 'e', 'room:8')").await?;
        forgotten(scene, before, 3).await;
        for vsn in Vsn::BOTH {
            let (mut socket, said, events) = replay(scene, vsn, json!({"since": before})).await?;
            ensure!(said["complete"] == true && numbers(&events) == [1, 2, 3], "{said} {events:?}");
            ensure!(events.iter().all(|event| event.payload["id"] == event.meta["id"]), "{events:?}");
            let (_, said, events) = replay(scene, vsn, json!({"since": before, "limit": 2})).await?;
            ensure!(said["complete"] == false && events.len() == 2, "{said} {events:?}");
            let (_, said, events) = replay(scene, vsn, json!({"since": now(&scene.database).await?})).await?;
            ensure!(said["complete"] == true && events.is_empty(), "{said} {events:?}");
            // Nothing but broadcasts came: a limit is no loss.
            send(&scene.database, [4]).await?;
            ensure!(next_broadcast(&mut socket).await?.payload["payload"]["n"] == 4);
            silent(&mut socket).await?;
            scene.database.batch_execute("delete from realtime.messages where payload ->> 'n' = '4'").await?;
            forgotten(scene, before, 3).await;
        }
        Ok(())
    })
    .await;
}

/// Messages of [`no_message_is_lost_between_the_table_and_the_stream`], of which every seventh is taken back.
fn committed(from: i64) -> impl Iterator<Item = i64> {
    (from..).filter(|number| number % 7 != 0)
}

/// What a client heard that joined in the midst of it: what it got again, and a few that came live.
struct Heard {
    numbers: Vec<i64>,
    /// Some were older than the window.
    from_the_table: bool,
    /// It was told that some are missing.
    is_announced: bool,
}

/// Joins while messages commit, for which it gives the writer its turns. None if the relay refused, because the window
/// had moved on while it read the table.
async fn hear(scene: &Scene, since: i64, turns: &Semaphore) -> Result<Option<Heard>> {
    let mut socket = scene.socket(Vsn::V1).await?;
    let config = replaying(json!({"since": since}));
    turns.add_permits(8);
    let reply = socket.try_join(ROOM, Some(&scene.agent()), config).await?;
    // Far enough to pass from the replay to what is live: one of them is taken back at most.
    turns.add_permits(4);
    if !reply.is_ok() {
        let expected = "UnableToReplayMessages: Realtime was unable to replay messages";
        ensure!(reply.reason() == expected, "{reply:?}");
        return Ok(None);
    }
    let count = reply.response["replay"]["count"].as_u64().unwrap_or_default() as usize;
    let mut heard = Heard { numbers: Vec::new(), from_the_table: false, is_announced: false };
    while heard.numbers.len() < count + 3 && !heard.is_announced {
        let frame = socket.frame_where("a message", |_| true).await?;
        match frame.event.as_str() {
            "system" => heard.is_announced = true,
            "broadcast" => {
                let meta = &frame.payload["meta"];
                heard.from_the_table |= meta["replayed"] == true && meta["position"].is_null();
                heard.numbers.extend(frame.payload["payload"]["n"].as_i64());
            }
            other => anyhow::bail!("{other}"),
        }
    }
    Ok(Some(heard))
}

/// Joins again and again while messages commit; each join must have the newest messages in the order of their commits,
/// and none twice. The window holds fewer than a join may have, the rest is of the table.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_is_lost_between_the_table_and_the_stream() {
    const JOINS: usize = 40;
    with_short_memory(&[ABOUT_FIFTEEN], async |scene| {
        let writer = scene.cluster.connect().await?;
        let before = now(&scene.database).await?;
        let turns = Semaphore::new(0);
        let write = async {
            for number in 1.. {
                // Closed when all is told.
                let Ok(turn) = turns.acquire().await else { break };
                turn.forget();
                let end = if number % 7 == 0 { "rollback" } else { "commit" };
                let send = format!("select realtime.send('{{\"n\": {number}}}', 'e', '{ROOM}')");
                writer.batch_execute(&format!("begin; {send}; {end}")).await?;
            }
            anyhow::Ok(())
        };
        let watch = async {
            let (mut whole, mut announced, mut refused) = (0, 0, 0);
            while whole < JOINS {
                ensure!(announced + refused < JOINS, "whole {whole}, with a loss {announced}, refused {refused}");
                let Some(heard) = hear(scene, before, &turns).await? else {
                    refused += 1;
                    continue;
                };
                if heard.is_announced {
                    announced += 1;
                    continue;
                }
                let first = *heard.numbers.first().expect("it waited for some");
                let expected: Vec<i64> = committed(first).take(heard.numbers.len()).collect();
                ensure!(heard.numbers == expected, "{:?}", heard.numbers);
                // The first joins find all in the window.
                whole += usize::from(heard.from_the_table);
            }
            turns.close();
            Ok((announced, refused))
        };
        let ((), (announced, refused)) = tokio::try_join!(write, watch)?;
        println!("besides {JOINS} joins that had rows of the table, {announced} were told of a loss, {refused} refused");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_wait_for_the_stream_that_brings_them_too() {
    with_short_memory(&[ABOUT_FIFTEEN], async |scene| {
        let before = now(&scene.database).await?;
        send(&scene.database, [1]).await?;
        // What is sent elsewhere takes its place in the window; what comes next stays there.
        let elsewhere = "select realtime.send('{}', 'e', 'elsewhere') from generate_series(1, 20)";
        scene.database.batch_execute(elsewhere).await?;
        forgotten(scene, before, 1).await;
        let walsender = "select active_pid from pg_replication_slots where slot_name = 'campfire'";
        let walsender: i32 = scene.database.query_one(walsender, &[]).await?.get(0);
        let signal = |name| server::signal(walsender as u32, name);
        ensure!(signal("STOP"), "the walsender is there");
        let stopped = now(&scene.database).await?;
        send(&scene.database, [2]).await?;
        let mut socket = scene.socket(Vsn::V2).await?;
        let join = socket.send_join(ROOM, Some(&scene.agent()), replaying(json!({"since": before}))).await?;
        // The relay's session has seen the second message, and asks the stream to tell where it ends.
        eventually("the heartbeat of the join", async || {
            let beats = format!(
                "select count(*) from pg_stat_activity
                 where pid <> pg_backend_pid() and query like '%campfire.heartbeat%' and query_start > to_timestamp({stopped} / 1000.0)"
            );
            (scene.database.query_one(&beats, &[]).await.ok()?.get::<_, i64>(0) > 0).then_some(())
        })
        .await;
        ensure!(socket.heartbeat().await?.is_ok());
        ensure!(signal("CONT"), "the walsender is there still");
        let reply = socket.reply(&join).await?;
        ensure!(reply.response["replay"]["count"] == 2, "{reply:?}");
        send(&scene.database, [3]).await?;
        let events = socket.next_events(3).await?;
        ensure!(numbers(&events) == [1, 2, 3], "{events:?}");
        ensure!(events[0].meta["position"].is_null(), "of the table");
        ensure!(
            events[1].meta["position"].is_string() && events[1].meta["replayed"] == true,
            "of the window"
        );
        silent(&mut socket).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_that_the_database_refuses_is_refused_and_harms_nobody() {
    with_short_memory(&[ONE_SECOND], async |scene| {
        let break_it = "create or replace function campfire.realtime_history(topic text, since timestamptz, rows_max integer)
            returns table (id uuid, event text, payload text, binary_payload bytea) language plpgsql stable
            as $$ begin raise 'broken'; end $$";
        scene.database.batch_execute(break_it).await?;
        let mut socket = scene.socket(Vsn::V2).await?;
        let reply = socket.try_join(ROOM, Some(&scene.agent()), replaying(json!({"since": 1}))).await?;
        ensure!(reply.reason() == "UnableToReplayMessages: Realtime was unable to replay messages", "{reply:?}");
        let reply = socket.try_join(ROOM, Some(&scene.agent()), private()).await?;
        ensure!(reply.is_ok(), "{reply:?}");
        send(&scene.database, [1]).await?;
        ensure!(socket.expect(ROOM, "e").await?.payload["n"] == 1);
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_relay_has_partitions_made_and_dropped() {
    with_open_rooms(async |scene| {
        let partition = |day: &str| format!("realtime.partition_name(((now() at time zone 'utc')::date + {day})::date)");
        let change = format!(
            "do $$ begin
               execute format('drop table realtime.%I', {});
               execute format('create table realtime.%I partition of realtime.messages for values from (%L) to (%L)', {},
                 (now() at time zone 'utc')::date - 30, (now() at time zone 'utc')::date - 29);
             end $$",
            partition("1"),
            partition("-30"),
        );
        scene.database.batch_execute(&change).await?;
        // The first thing that a relay does, and then every hour.
        scene.relay.terminate().await?;
        scene.relay.start_again().await?;
        let exist = format!(
            "select to_regclass('realtime.' || {}) is not null, to_regclass('realtime.' || {}) is not null",
            partition("1"),
            partition("-30"),
        );
        eventually("tomorrow's partition, and none of a month ago", async || {
            let row = scene.database.query_one(&exist, &[]).await.ok()?;
            ((row.get(0), row.get(1)) == (true, false)).then_some(())
        })
        .await;
        Ok(())
    })
    .await;
}

#[scene_test(|settings| settings)]
async fn what_is_sent_to_a_public_channel_that_is_denied_is_warned_of_and_counted(
    scene: &mut Scene,
) -> Result<()> {
    scene.database.batch_execute(OPEN).await?;
    let send = "select realtime.send('{}', 'e', 'room:7', false); select realtime.send('{}', 'e', 'room:7');
            select campfire.broadcast('room:7', 'e', '{}')";
    let warned = scene.cluster.psql_command(DATABASE, send).output()?;
    let warned = String::from_utf8_lossy(&warned.stderr).into_owned();
    let warnings = warned.lines().filter(|line| line.contains("WARNING: ")).count();
    ensure!(warnings == 2 && warned.contains("CAMPFIRE_PUBLIC_CHANNELS"), "{warned}");
    eventually("both are counted", async || {
        let unheard = scene.relay.metric("campfire_events_unheard_total").await.ok()?;
        (unheard == Some(2.0)).then_some(())
    })
    .await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_public_channels_are_allowed_nobody_is_warned() {
    with_open_rooms(async |scene| {
        let mut outside = member(scene, Vsn::V2, default_config()).await?;
        let send = "select realtime.send('{}', 'e', 'room:7', false)";
        let said = scene.cluster.psql_command(DATABASE, send).output()?;
        ensure!(said.stderr.is_empty(), "{said:?}");
        outside.expect(ROOM, "e").await?;
        let unheard = scene.relay.metric("campfire_events_unheard_total").await?;
        ensure!(unheard == Some(0.0), "{unheard:?}");
        Ok(())
    })
    .await;
}
