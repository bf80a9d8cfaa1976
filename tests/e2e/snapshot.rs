//! The rows of a channel and its stream, cut exactly: every message once, in the rows or as an event.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use campfire_tests::fence::Fence;
use campfire_tests::socket::{Event, Reply, Vsn, default_config};
use campfire_tests::{Cluster, ORGANIZATION, Socket, chat, eventually};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::scene::{Scene, contents, numbered, scene_test, with_settings};

fn snapshot(rows: u32) -> Value {
    let mut config = default_config();
    config["broadcast"]["replay"] = json!({"snapshot": rows});
    config
}

/// Joins, and returns the reply's word on the replay and the frames that it counts.
async fn join(socket: &mut Socket, channel: &str, token: &str, rows: u32) -> Result<(Value, Vec<Event>)> {
    let reply = socket.try_join(channel, Some(token), snapshot(rows)).await?;
    ensure!(reply.is_ok(), "{reply:?}");
    let replay = reply.response["replay"].clone();
    let count = replay["count"].as_u64().context("a count")?;
    Ok((replay, socket.next_events(count as usize).await?))
}

fn is_row(event: &&Event) -> bool {
    event.meta["snapshot"] == true
}

const INSERT: &str = "insert into messages (organization_id, conversation_id, content, sender_type)
                      values ($1, $2, $3, 'visitor')";

#[scene_test]
async fn rows_look_as_their_events_and_are_safe_for_visitors(scene: &mut Scene) -> Result<()> {
    let conversation = scene.conversation().await?;
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    let mut witness = scene.dashboard(Vsn::V2, &[&conv]).await?;
    scene.write_messages(conversation, &numbered("message", 5)).await?;
    scene
        .database
        .execute(
            "insert into read_receipts (conversation_id, organization_id, reader_type, reader_id)
             values ($1, $2, 'visitor', $1)",
            &[&conversation, &ORGANIZATION],
        )
        .await?;
    let events = witness.next_events(6).await?;

    for (channel, token) in
        [(conv.clone(), scene.agent()), (format!("bcast:{conv}"), scene.visitor(conversation))]
    {
        for vsn in Vsn::BOTH {
            let mut socket = scene.socket(vsn).await?;
            let (replay, rows) = join(&mut socket, &channel, &token, 3).await?;
            ensure!(replay["complete"] == true && replay["count"] == 5, "{replay}");
            let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
            let expected = [
                "conversation:updated",
                "message:created",
                "message:created",
                "message:created",
                "read:receipt",
            ];
            ensure!(names == expected, "{names:?}");
            ensure!(chat::has_columns(&rows[0].payload, &chat::VISITOR_CONVERSATION_COLUMNS), "{rows:?}");
            let of_stream: Vec<&Value> = events[2..].iter().map(|event| &event.payload).collect();
            let of_rows: Vec<&Value> = rows[1..].iter().map(|row| &row.payload).collect();
            ensure!(of_rows == of_stream, "{of_rows:#?} {of_stream:#?}");
            for row in &rows {
                ensure!(row.meta == json!({"replayed": true, "snapshot": true}), "{row:?}");
            }
        }
    }
    Ok(())
}

#[scene_test]
async fn the_list_of_conversations_has_the_latest_and_their_messages(scene: &mut Scene) -> Result<()> {
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(scene.conversation().await?);
    }
    for (index, id) in ids.iter().enumerate() {
        scene.write_messages(*id, &[format!("in {index}")]).await?;
    }
    let (theirs, _) = chat::found_organization(&scene.database, "Other").await?;
    chat::open_conversation(&scene.database, theirs, "Not Ours").await?;
    scene.settle().await?;
    let list = chat::conversations_channel(ORGANIZATION);
    let mut socket = scene.socket(Vsn::V2).await?;
    let (replay, rows) = join(&mut socket, &list, &scene.agent(), 3).await?;
    ensure!(replay["complete"] == true && rows.len() == 5, "{replay} {rows:#?}");
    // The fence of settle() is the latest conversation.
    ensure!(rows[..3].iter().all(|row| row.name == "conversation:created"), "{rows:#?}");
    ensure!(rows[1].payload["id"] == ids[3].to_string(), "{rows:#?}");
    ensure!(chat::has_columns(&rows[1].payload, &chat::MIRROR_COLUMNS), "{rows:#?}");
    ensure!(contents(&rows[3..]) == ["in 2", "in 3"], "{rows:#?}");
    ensure!(chat::has_columns(&rows[4].payload, &chat::MESSAGE_COLUMNS), "{rows:#?}");
    Ok(())
}

/// Transactions of one writer; with fewer than 200 messages, so that the first rows are all there is and nothing can
/// hide behind "the last 200".
const TRANSACTIONS: usize = 128;
/// Clients that open its conversation meanwhile.
const JOINS: usize = 8;
/// Transactions from one join to the next.
const STRIDE: usize = TRANSACTIONS / JOINS;

/// Keeps a writer and those who join its conversation together, whatever the machine does meanwhile: a join begins when
/// so many transactions have committed, and the writer does not run away from a join that is not answered.
struct Pace {
    committed: watch::Sender<usize>,
    answered: watch::Sender<usize>,
}

impl Pace {
    fn new() -> Arc<Self> {
        Arc::new(Self { committed: watch::Sender::new(0), answered: watch::Sender::new(0) })
    }

    /// Before a transaction: two joins may be on their way.
    async fn wait_to_write(&self, number: usize) -> Result<()> {
        self.answered.subscribe().wait_for(|answered| number < (answered + 2) * STRIDE).await?;
        Ok(())
    }

    async fn wait_to_join(&self, number: usize) -> Result<()> {
        self.committed.subscribe().wait_for(|committed| *committed >= number * STRIDE).await?;
        Ok(())
    }
}

/// Writes messages in a conversation, all with different contents. Some with savepoints, some of which are taken back.
/// Returns what committed, in no order.
async fn write_at(pace: Arc<Pace>, url: String, conversation: Uuid, writer: usize) -> Result<Vec<String>> {
    let mut sql = campfire_tests::cluster::connect(&url).await?;
    let insert = sql.prepare(INSERT).await?;
    let mut written = Vec::new();
    for number in 0..TRANSACTIONS {
        pace.wait_to_write(number).await?;
        let content = |part: &str| format!("{writer} {number} {part}");
        match number % 8 {
            0 => {
                let (kept, released, undone) = (content("kept"), content("released"), content("undone"));
                let mut transaction = sql.transaction().await?;
                transaction.execute(&insert, &[&ORGANIZATION, &conversation, &kept]).await?;
                let mut savepoint = transaction.savepoint("a").await?;
                savepoint.execute(&insert, &[&ORGANIZATION, &conversation, &released]).await?;
                let inner = savepoint.savepoint("b").await?;
                inner.execute(&insert, &[&ORGANIZATION, &conversation, &undone]).await?;
                inner.rollback().await?;
                savepoint.commit().await?;
                transaction.commit().await?;
                written.extend([kept, released]);
            }
            1 => {
                let undone = content("rolled back");
                let transaction = sql.transaction().await?;
                transaction.execute(&insert, &[&ORGANIZATION, &conversation, &undone]).await?;
                transaction.rollback().await?;
            }
            _ => {
                let plain = content("plain");
                sql.execute(&insert, &[&ORGANIZATION, &conversation, &plain]).await?;
                written.push(plain);
            }
        }
        pace.committed.send_modify(|committed| *committed += 1);
    }
    Ok(written)
}

/// Commits as fast as one session can, what is no channel's business: transactions that snapshots must tell apart.
async fn commit_until(url: String, stop: Arc<AtomicBool>, committed: Arc<AtomicUsize>) -> Result<()> {
    const AT_ONCE: usize = 100;
    let sql = campfire_tests::cluster::connect(&url).await?;
    let script = format!(
        "do $$ begin for i in 1..{AT_ONCE} loop insert into bystanders values (i); commit; end loop; end $$"
    );
    while !stop.load(Ordering::Relaxed) {
        sql.batch_execute(&script).await?;
        committed.fetch_add(AT_ONCE, Ordering::Relaxed);
    }
    Ok(())
}

/// What a client holds after a snapshot and what followed, without the fence.
struct Held {
    rows: Vec<Event>,
    events: Vec<Event>,
    /// There were fewer messages than it asked for.
    has_all_rows: bool,
}

/// Fails unless everything came once, but for what was too old to be among the rows.
fn check_cut(held: &Held, all: &[String]) -> Result<()> {
    let Held { rows, events, has_all_rows } = held;
    let mut times: HashMap<&str, usize> = HashMap::new();
    for event in rows.iter().chain(events) {
        *times.entry(event.payload["content"].as_str().context("content")?).or_default() += 1;
    }
    let twice: Vec<_> = times.iter().filter(|(_, times)| **times != 1).collect();
    ensure!(twice.is_empty(), "came more than once: {twice:?}");
    let never_committed: Vec<_> =
        times.keys().filter(|content| !all.iter().any(|known| known == *content)).collect();
    ensure!(never_committed.is_empty(), "never committed: {never_committed:?}");
    if *has_all_rows {
        let missing: Vec<_> = all.iter().filter(|content| !times.contains_key(content.as_str())).collect();
        ensure!(missing.is_empty(), "{} missing of {}: {missing:?}", missing.len(), all.len());
    }
    Ok(())
}

/// One client: joins conversation `channel` by snapshot and reads on until the fence.
async fn read_all(
    pace: Arc<Pace>,
    mut socket: Socket,
    channel: String,
    token: String,
    fence: Fence,
) -> Result<Held> {
    const ROWS_MAX: u32 = 200;
    let joined = join(&mut socket, &channel, &token, ROWS_MAX).await;
    // A refusal is an answer too: the writer must not wait for it.
    pace.answered.send_modify(|answered| *answered += 1);
    let (replay, first) = joined?;
    ensure!(replay["complete"] == true, "{replay}");
    let (rows, mut events): (Vec<Event>, Vec<Event>) = first.into_iter().partition(|event| is_row(&event));
    if !rows.iter().chain(&events).any(|event| event.payload["content"] == fence.text()) {
        events.extend(socket.events_before(&fence, &channel).await?);
    }
    ensure!(events.is_sorted_by(|earlier, later| earlier.id() < later.id()), "ids do not rise");
    // Of a client that came late, the fence is one of the rows.
    let row_count = rows.iter().filter(|row| row.name == "message:created").count();
    let of_messages = |events: Vec<Event>| {
        let is_message =
            |event: &Event| event.name == "message:created" && event.payload["content"] != fence.text();
        events.into_iter().filter(is_message).collect::<Vec<_>>()
    };
    let has_all_rows = row_count < ROWS_MAX as usize;
    Ok(Held { rows: of_messages(rows), events: of_messages(events), has_all_rows })
}

/// Several writers, each in a conversation of its own that many clients open meanwhile.
async fn race(scene: &mut Scene) -> Result<()> {
    const WRITERS: usize = 4;
    const ROUNDS: usize = 6;
    scene.database.batch_execute("create table bystanders (n int)").await?;
    for _ in 0..ROUNDS {
        let beside = Arc::new(AtomicUsize::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let bystander = tokio::spawn(commit_until(
            scene.cluster.superuser_url("campfire"),
            Arc::clone(&stop),
            Arc::clone(&beside),
        ));
        let mut writers = JoinSet::new();
        let mut readers = JoinSet::new();
        let mut fences = Vec::new();
        let began = Instant::now();
        for writer in 0..WRITERS {
            let conversation = chat::open_conversation(&scene.database, ORGANIZATION, "Raced").await?;
            let fence = Fence::new();
            let channel = chat::conversation_channel(ORGANIZATION, conversation);
            let url = scene.cluster.superuser_url("campfire");
            let pace = Pace::new();
            let writing = write_at(Arc::clone(&pace), url, conversation, writer);
            writers.spawn(async move { Ok::<_, anyhow::Error>((writer, writing.await?)) });
            for number in 0..JOINS {
                let vsn = Vsn::BOTH[number % 2];
                let socket = scene.socket(vsn).await?;
                let (channel, fence, pace) = (channel.clone(), fence.clone(), Arc::clone(&pace));
                let token = if number % 3 == 0 { scene.visitor(conversation) } else { scene.agent() };
                readers.spawn(async move {
                    pace.wait_to_join(number).await?;
                    Ok::<_, anyhow::Error>((writer, read_all(pace, socket, channel, token, fence).await?))
                });
            }
            fences.push((conversation, fence));
        }
        let mut written = HashMap::new();
        while let Some(done) = writers.join_next().await {
            let (writer, contents) = done??;
            written.insert(writer, contents);
        }
        stop.store(true, Ordering::Relaxed);
        println!(
            "{} transactions with messages and {} others in {:?}, while {} clients joined",
            WRITERS * TRANSACTIONS,
            beside.load(Ordering::Relaxed),
            began.elapsed(),
            WRITERS * JOINS
        );
        bystander.await??;
        for (conversation, fence) in fences {
            fence.raise_as_message(&scene.database, ORGANIZATION, conversation).await?;
        }
        while let Some(done) = readers.join_next().await {
            let (writer, held) = done??;
            check_cut(&held, &written[&writer])?;
        }
    }
    Ok(())
}

fn roomy(settings: campfire_tests::relay::Settings) -> campfire_tests::relay::Settings {
    settings.env("CAMPFIRE_MAX_OUTBOX_FRAMES", "100000").env("CAMPFIRE_MAX_OUTBOX_BYTES", "100000000")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_comes_once_while_writers_race_the_joins() {
    with_settings(roomy, async |scene| race(scene).await).await;
}

#[scene_test(roomy)]
async fn every_message_comes_once_with_asynchronous_commits(scene: &mut Scene) -> Result<()> {
    // Visible at once, flushed and streamed up to three such delays later.
    scene.database.batch_execute("alter system set synchronous_commit = off").await?;
    scene.database.batch_execute("alter system set wal_writer_delay = '200ms'").await?;
    scene.database.batch_execute("select pg_reload_conf()").await?;
    eventually("asynchronous commits", async || {
        let row = scene.database.query_one("show synchronous_commit", &[]).await.ok()?;
        (row.get::<_, &str>(0) == "off").then_some(())
    })
    .await;
    race(scene).await
}

/// A session that commits and waits for a standby that never comes.
async fn commit_and_wait(
    cluster: &Cluster,
    conversation: Uuid,
    content: &str,
) -> Result<(tokio::task::JoinHandle<()>, i32)> {
    let sql = cluster.connect().await?;
    let pid: i32 = sql.query_one("select pg_backend_pid()", &[]).await?.get(0);
    let content = content.to_owned();
    let waiting = tokio::spawn(async move {
        // Cancelled in the end, with a warning: it has committed all the same.
        sql.batch_execute("set synchronous_commit = on").await.ok();
        sql.execute(INSERT, &[&ORGANIZATION, &conversation, &content]).await.ok();
    });
    Ok((waiting, pid))
}

#[scene_test]
async fn a_commit_that_waits_for_a_standby_is_an_event_and_no_row(scene: &mut Scene) -> Result<()> {
    let conversation = scene.conversation().await?;
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    let mut witness = scene.dashboard(Vsn::V2, &[&conv]).await?;
    scene.write_messages(conversation, &numbered("before", 3)).await?;
    witness.next_events(3).await?;
    scene.name_dead_standby().await?;
    let (waiting, pid) = commit_and_wait(&scene.cluster, conversation, "waits").await?;
    // It is streamed,
    ensure!(contents(&[witness.next_event().await?]) == ["waits"]);
    // and no snapshot shows it.
    let count = "select count(*) from messages where content = 'waits'";
    ensure!(scene.database.query_one(count, &[]).await?.get::<_, i64>(0) == 0, "it can be seen already");

    let mut socket = scene.socket(Vsn::V2).await?;
    let (replay, first) = join(&mut socket, &conv, &scene.agent(), 10).await?;
    ensure!(replay["complete"] == true, "{replay}");
    let rows: Vec<Event> = first.iter().filter(is_row).cloned().collect();
    ensure!(contents(&rows[1..]) == numbered("before", 3), "{rows:#?}");
    ensure!(contents(&first[rows.len()..]) == ["waits"], "{first:#?}");
    // Committed after it, and seen before it. Another message would wait for the conversation's row.
    let receipt = "insert into read_receipts (conversation_id, organization_id, reader_type, reader_id)
                   values ($1, $2, 'visitor', $1)";
    scene.database.execute(receipt, &[&conversation, &ORGANIZATION]).await?;
    ensure!(socket.next_event().await?.name == "read:receipt");
    let mut later = scene.socket(Vsn::V1).await?;
    let (_, first) = join(&mut later, &conv, &scene.agent(), 10).await?;
    ensure!(first[4].name == "read:receipt" && is_row(&&first[4]), "{first:#?}");
    ensure!(contents(&first[5..]) == ["waits"], "{first:#?}");

    scene.database.query_one("select pg_cancel_backend($1)", &[&pid]).await?;
    waiting.await?;
    let mut last = scene.socket(Vsn::V1).await?;
    let (replay, first) = join(&mut last, &conv, &scene.agent(), 10).await?;
    ensure!(first.iter().all(|event| is_row(&event)), "a row by now: {replay} {first:#?}");
    ensure!(first.len() == 6, "{first:#?}");
    let fence = Fence::message(&scene.database, ORGANIZATION, conversation).await?;
    for socket in [&mut socket, &mut later, &mut last] {
        let events = socket.events_before(&fence, &conv).await?;
        ensure!(events.is_empty(), "twice: {events:#?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_take_too_long_are_refused_and_nobody_else_waits() {
    let short = |settings: campfire_tests::relay::Settings| {
        settings
            .env("CAMPFIRE_SNAPSHOT_SECONDS", "1")
            .env("CAMPFIRE_SNAPSHOT_SESSIONS", "1")
            .env("CAMPFIRE_SNAPSHOT_QUEUE", "2")
    };
    with_settings(short, async |scene| {
        let conversation = scene.conversation().await?;
        let conv = chat::conversation_channel(ORGANIZATION, conversation);
        let mut locker = scene.cluster.connect().await?;
        let lock = locker.transaction().await?;
        lock.batch_execute("lock table read_receipts in access exclusive mode").await?;
        let mut joins = JoinSet::new();
        for _ in 0..12 {
            let mut socket = scene.socket(Vsn::V2).await?;
            let (conv, token) = (conv.clone(), scene.agent());
            joins.spawn(async move { socket.try_join(&conv, Some(&token), snapshot(5)).await });
        }
        // Meanwhile others join, and hear.
        let mut other = scene.dashboard(Vsn::V2, &[&conv]).await?;
        scene.write_messages(conversation, &["heard".to_owned()]).await?;
        ensure!(contents(&[other.next_event().await?]) == ["heard"]);
        while let Some(reply) = joins.join_next().await {
            let reply: Reply = reply??;
            ensure!(reply.reason().starts_with("SnapshotUnavailable: "), "{reply:?}");
        }
        lock.rollback().await?;
        ensure!(scene.relay.metric("campfire_snapshots_refused_total").await? == Some(12.0));
        eventually("rows within the time", async || {
            let mut socket = scene.socket(Vsn::V2).await.ok()?;
            let (replay, rows) = join(&mut socket, &conv, &scene.agent(), 5).await.ok()?;
            (replay["complete"] == true && rows.len() == 2).then_some(())
        })
        .await;
        ensure!(scene.relay.metric("campfire_snapshot_bytes").await? == Some(0.0));
        Ok(())
    })
    .await;
}

/// Reading a conversation's messages as its visitor waits while somebody holds the lock of this number on it.
const STALL: &str = "
    create table stalls (conversation uuid primary key, lock bigint not null);
    create function stall(conversation uuid) returns boolean language plpgsql security definer as $$
    begin
      perform pg_advisory_xact_lock_shared(s.lock) from public.stalls as s where s.conversation = stall.conversation;
      return true;
    end $$;
    create policy stall on messages as restrictive for select to anon using (stall(conversation_id))";

/// A conversation with a message, of which reading waits for this lock.
async fn stalling(scene: &Scene, lock: i64) -> Result<Uuid> {
    let conversation = chat::open_conversation(&scene.database, ORGANIZATION, "Vera Visitor").await?;
    scene.write_messages(conversation, &["hello".to_owned()]).await?;
    scene.database.execute("insert into stalls values ($1, $2)", &[&conversation, &lock]).await?;
    Ok(conversation)
}

/// Until so many sessions of the relay wait for an advisory lock.
async fn wait_for_stalled(scene: &Scene, count: i64) {
    let stalled = "select count(*) from pg_stat_activity where usename = 'relay' and wait_event = 'advisory'";
    eventually(&format!("{count} readers wait for a lock"), async || {
        let row = scene.database.query_one(stalled, &[]).await.ok()?;
        (row.get::<_, i64>(0) == count).then_some(())
    })
    .await;
}

/// Joins the visitor's channel for a snapshot and waits until the hub knows it.
async fn ask(scene: &Scene, socket: &mut Socket, conversation: Uuid) -> Result<String> {
    let channel = chat::conversation_channel(ORGANIZATION, conversation);
    let asks = socket.send_join(&channel, Some(&scene.visitor(conversation)), snapshot(100)).await?;
    ensure!(socket.heartbeat().await?.is_ok());
    Ok(asks)
}

/// An organization that nobody attacks: a visitor of it joins, and is answered.
async fn other_visitor_is_served(scene: &Scene) -> Result<()> {
    let (organization, _) = chat::found_organization(&scene.database, "Other").await?;
    let conversation = chat::open_conversation(&scene.database, organization, "Not Ours").await?;
    let token = campfire_tests::token::visitor(scene.secret(), organization, conversation);
    let mut socket = scene.socket(Vsn::V2).await?;
    let channel = chat::conversation_channel(organization, conversation);
    let (replay, _) = join(&mut socket, &channel, &token, 100).await?;
    ensure!(replay["complete"] == true, "{replay}");
    Ok(())
}

#[scene_test(|settings| settings.env("CAMPFIRE_SNAPSHOT_SESSIONS", "3"))]
async fn an_organization_whose_rows_take_long_leaves_a_session_to_others(scene: &mut Scene) -> Result<()> {
    const LOCK: i64 = 1;
    scene.database.batch_execute(STALL).await?;
    let mut crowd = Vec::new();
    for _ in 0..10 {
        crowd.push((scene.socket(Vsn::V2).await?, stalling(scene, LOCK).await?));
    }
    scene.settle().await?;
    let lock = scene.cluster.connect().await?;
    lock.execute("select pg_advisory_lock($1)", &[&LOCK]).await?;
    let mut asked = Vec::new();
    for (socket, conversation) in &mut crowd {
        asked.push(ask(scene, socket, *conversation).await?);
    }
    wait_for_stalled(scene, 2).await;
    other_visitor_is_served(scene).await?;
    wait_for_stalled(scene, 2).await;
    lock.execute("select pg_advisory_unlock($1)", &[&LOCK]).await?;
    for ((socket, _), asks) in crowd.iter_mut().zip(&asked) {
        ensure!(socket.reply(asks).await?.is_ok());
    }
    Ok(())
}

#[scene_test(|settings| settings.env("CAMPFIRE_SNAPSHOT_SESSIONS", "1"))]
async fn organizations_take_turns_however_many_of_one_wait(scene: &mut Scene) -> Result<()> {
    const FIRST: i64 = 1;
    const OTHERS: i64 = 2;
    scene.database.batch_execute(STALL).await?;
    let mut crowd = Vec::new();
    // One is being read when the other organization comes, and one may have its turn before it.
    for lock in [FIRST, 0, OTHERS, OTHERS, OTHERS, OTHERS, OTHERS, OTHERS] {
        crowd.push((scene.socket(Vsn::V2).await?, stalling(scene, lock).await?));
    }
    scene.settle().await?;
    let lock = scene.cluster.connect().await?;
    lock.execute("select pg_advisory_lock($1), pg_advisory_lock($2)", &[&FIRST, &OTHERS]).await?;
    let mut asked = Vec::new();
    for (socket, conversation) in &mut crowd {
        asked.push(ask(scene, socket, *conversation).await?);
    }
    wait_for_stalled(scene, 1).await;
    let release = async {
        // When the other has asked, too.
        eventually("the other organization's join", async || {
            let channels = scene.relay.metric("campfire_channels").await.ok()??;
            (channels as usize == crowd.len() + 1).then_some(())
        })
        .await;
        lock.execute("select pg_advisory_unlock($1)", &[&FIRST]).await?;
        anyhow::Ok(())
    };
    let (served, released) = tokio::join!(other_visitor_is_served(scene), release);
    served?;
    released?;
    lock.execute("select pg_advisory_unlock($1)", &[&OTHERS]).await?;
    for ((socket, _), asks) in crowd.iter_mut().zip(&asked) {
        ensure!(socket.reply(asks).await?.is_ok());
    }
    Ok(())
}

#[scene_test(|settings| settings.env("CAMPFIRE_SNAPSHOT_SESSIONS", "8"))]
async fn what_nobody_waits_for_any_more_is_not_read(scene: &mut Scene) -> Result<()> {
    const LOCK: i64 = 1;
    const SOCKETS: usize = 3;
    const JOINS: usize = 20;
    scene.database.batch_execute(STALL).await?;
    let conversation = stalling(scene, LOCK).await?;
    scene.settle().await?;
    let lock = scene.cluster.connect().await?;
    lock.execute("select pg_advisory_lock($1)", &[&LOCK]).await?;
    let mut sockets = Vec::new();
    for number in 0..SOCKETS {
        let mut socket = scene.socket(Vsn::V2).await?;
        let mut asks = String::new();
        for _ in 0..JOINS {
            asks = ask(scene, &mut socket, conversation).await?;
            // Of one socket one question is asked, whatever has become of it.
            wait_for_stalled(scene, number as i64 + 1).await;
        }
        sockets.push((socket, asks));
    }
    // One that leaves, and one that goes away.
    let mut leaves = scene.socket(Vsn::V2).await?;
    let channel = chat::conversation_channel(ORGANIZATION, conversation);
    ask(scene, &mut leaves, conversation).await?;
    wait_for_stalled(scene, SOCKETS as i64 + 1).await;
    ask(scene, &mut leaves, conversation).await?;
    leaves.leave(&channel).await?;
    lock.execute("select pg_advisory_unlock($1)", &[&LOCK]).await?;
    for (socket, asks) in &mut sockets {
        ensure!(socket.reply(asks).await?.is_ok());
    }
    let read = async || scene.relay.metric("campfire_snapshot_seconds_count").await.ok()?;
    // Of each socket what was being read when it joined anew, and its last join; of the one that left the first.
    let expected = (2 * SOCKETS + 1) as f64;
    eventually("all are read that were asked", async || (read().await? >= expected).then_some(())).await;
    wait_for_stalled(scene, 0).await;
    ensure!(read().await == Some(expected), "{:?} snapshots read", read().await);
    Ok(())
}
