//! Private channels outside `org:`, decided by policies on `realtime.messages`. Names beginning with `a1` and so on are
//! the checks of the protocol's reference.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use campfire_tests::relay::Settings;
use campfire_tests::socket::{Vsn, default_config};
use campfire_tests::{AGENT, ORGANIZATION, Socket, chat, eventually, token};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::presence::{next_presence, track};
use crate::scene::{Scene, scene_test, with_settings};

/// `to authenticated` policies for reading and sending one kind of thing.
fn policy(action: &str, extension: &str, condition: &str) -> String {
    let clause = if action == "select" { "using" } else { "with check" };
    format!(
        "create policy \"{action} {extension}\" on realtime.messages for {action} to authenticated
           {clause} (extension = '{extension}' and ({condition}));"
    )
}

async fn install(scene: &Scene, policies: &[String]) -> Result<()> {
    scene.database.batch_execute("select campfire.install_supabase_api()").await?;
    Ok(scene.database.batch_execute(&policies.concat()).await?)
}

fn private(key: &str, presence: bool) -> Value {
    let mut config = default_config();
    config["private"] = true.into();
    config["broadcast"]["ack"] = true.into();
    config["presence"] = json!({"key": key, "enabled": presence});
    config
}

async fn member(scene: &Scene, vsn: Vsn, channel: &str, token: &str, presence: bool) -> Result<Socket> {
    let mut socket = scene.socket(vsn).await?;
    // A key of its own: under an old one it would come back rather than come.
    let key = Uuid::new_v4().to_string();
    let reply = socket.try_join(channel, Some(token), private(&key, presence)).await?;
    ensure!(reply.is_ok(), "{reply:?}");
    Ok(socket)
}

/// Sends what the policies do not let this member send: it is told so.
async fn denied(socket: &mut Socket, channel: &str, event: &str) -> Result<()> {
    let push = socket.broadcast(channel, event, json!({})).await?;
    let reply = socket.reply(&push).await?;
    let reason =
        format!("Unauthorized: You do not have permissions to write to this Channel topic: {channel}");
    ensure!(reply.status == "error" && reply.reason() == reason, "{reply:?}");
    Ok(())
}

/// Fails unless the channel stays silent up to a beat of the heart.
pub(crate) async fn silent(socket: &mut Socket) -> Result<()> {
    ensure!(socket.heartbeat().await?.is_ok());
    let heard = tokio::time::timeout(Duration::ZERO, socket.frame_where("anything", |_| true)).await;
    ensure!(heard.is_err(), "{heard:?}");
    Ok(())
}

#[scene_test]
async fn without_the_schema_private_channels_are_refused_by_name(scene: &mut Scene) -> Result<()> {
    let mut socket = scene.socket(Vsn::V2).await?;
    let reply = socket.try_join("room", Some(&scene.agent()), private("k", false)).await?;
    let reason = "PoliciesNotInstalled: Private channels outside org: are not set up in this database";
    ensure!(reply.reason() == reason, "{reply:?}");
    // The operator is told what to do.
    logged(scene, "campfire.install_private_channels()").await;
    Ok(())
}

#[scene_test]
async fn a_private_channel_needs_a_policy_that_lets_read(scene: &mut Scene) -> Result<()> {
    install(scene, &[]).await?;
    for vsn in Vsn::BOTH {
        let mut socket = scene.socket(vsn).await?;
        let reason = "Unauthorized: You do not have permissions to read from this Channel topic: r";
        for token in [Some(scene.agent()), None] {
            let reply = socket.try_join("r", token.as_deref(), private("k", true)).await?;
            ensure!(reply.reason() == reason, "{reply:?}");
        }
        // The same name with the optional prefix is the same channel.
        let reply = socket.try_join("bcast:r", Some(&scene.agent()), private("k", true)).await?;
        ensure!(reply.reason() == reason, "{reply:?}");
    }
    Ok(())
}

#[scene_test]
async fn who_may_only_read_sends_nothing_and_is_told_so(scene: &mut Scene) -> Result<()> {
    let read = [policy("select", "broadcast", "true"), policy("select", "presence", "true")];
    install(scene, &read).await?;
    for vsn in Vsn::BOTH {
        let mut reader = member(scene, vsn, "r", &scene.agent(), true).await?;
        let mut other = member(scene, vsn, "r", &scene.agent(), false).await?;
        next_presence(&mut reader, "presence_state").await?;
        denied(&mut reader, "r", "e").await?;
        silent(&mut other).await?;
        let call = json!({"type": "presence", "event": "track", "payload": {}});
        let reply = reader.request("r", "presence", call).await?;
        ensure!(reply.status == "error" && reply.response == json!({}), "{reply:?}");
    }
    Ok(())
}

#[scene_test]
async fn a_burst_on_a_private_channel_comes_once_and_in_order(scene: &mut Scene) -> Result<()> {
    install(scene, &[policy("select", "broadcast", "true")]).await?;
    const MESSAGES: i64 = 2_000;
    let mut members = Vec::new();
    for vsn in [Vsn::V1, Vsn::V2, Vsn::V1, Vsn::V2] {
        let mut socket =
            Socket::connect_narrow(&scene.relay, &scene.cluster.credentials.api_key, vsn).await?;
        let key = Uuid::new_v4().to_string();
        ensure!(socket.try_join("r", Some(&scene.agent()), private(&key, false)).await?.is_ok());
        members.push(socket);
    }
    // More than outboxes and the kernel take while nobody reads.
    let burst = "select realtime.send(jsonb_build_object('n', n, 'x', repeat('x', 5000)), 'e', 'r')
        from generate_series(1, $1::bigint) n";
    scene.database.execute(burst, &[&MESSAGES]).await?;
    eventually("all channels lag", async || {
        let lagged = scene.relay.metric("campfire_channels_lagged_total").await.ok()??;
        (lagged >= 4.0).then_some(())
    })
    .await;
    let reading = members.iter_mut().map(async |member| {
        for n in 1..=MESSAGES {
            let event = member.expect("r", "e").await?;
            ensure!(event.payload["n"] == n, "expected {n}, got {event:?}");
            ensure!(event.meta["replayed"].is_null(), "{event:?}");
        }
        anyhow::Ok(())
    });
    futures_util::future::try_join_all(reading).await?;
    Ok(())
}

#[scene_test]
async fn who_may_only_see_who_is_there_hears_no_broadcasts(scene: &mut Scene) -> Result<()> {
    let own = format!(
        "realtime.topic() = 'r' and (current_setting('request.jwt.claims')::jsonb ->> 'sub') = '{AGENT}'"
    );
    let policies = [
        policy("select", "presence", "true"),
        policy("select", "broadcast", &own),
        policy("insert", "broadcast", &own),
        policy("insert", "presence", &own),
    ];
    install(scene, &policies).await?;
    let mut claims = token::agent_claims(ORGANIZATION, AGENT);
    claims["sub"] = Uuid::from_u128(7).to_string().into();
    let watcher_token = token::mint(scene.secret(), &claims);
    for vsn in Vsn::BOTH {
        let mut speaker = member(scene, vsn, "r", &scene.agent(), false).await?;
        let mut watcher = member(scene, vsn, "r", &watcher_token, true).await?;
        next_presence(&mut watcher, "presence_state").await?;
        let push = speaker.broadcast("r", "e", json!({})).await?;
        ensure!(speaker.reply(&push).await?.is_ok());
        track(&mut speaker, "r", json!({"n": 1})).await?;
        let first = watcher.frame_where("anything", |_| true).await?;
        ensure!(first.event == "presence_diff", "{first:?}");
        // Without presence there is nothing left to join for.
        let mut neither = scene.socket(vsn).await?;
        let reply = neither.try_join("r", Some(&watcher_token), private("k", false)).await?;
        ensure!(reply.reason().starts_with("Unauthorized: "), "{reply:?}");
        // Who is allowed both hears both.
        let mut listener = member(scene, vsn, "r", &scene.agent(), false).await?;
        let push = speaker.broadcast("r", "e2", json!({"x": 1})).await?;
        ensure!(speaker.reply(&push).await?.is_ok());
        ensure!(listener.expect("r", "e2").await?.payload == json!({"x": 1}));
    }
    Ok(())
}

#[scene_test]
async fn policies_see_topic_claims_headers_and_leave_nothing_behind(scene: &mut Scene) -> Result<()> {
    // What a policy sees is noted where a rollback does not reach: in the condition itself.
    let sees = format!(
        "realtime.topic() = 'r:ü/1' and current_setting('role') = 'authenticated'
         and current_setting('request.jwt.claim.sub') = '{AGENT}'
         and current_setting('request.jwt.claim.role') = 'authenticated'
         and current_setting('request.jwt.claims')::jsonb ->> 'org_id' = '{ORGANIZATION}'
         and current_setting('request.headers')::jsonb = '{{\"x-tenant\": \"blue\"}}'
         and not private and event is null and payload is null"
    );
    install(scene, &[policy("select", "broadcast", &sees), policy("insert", "broadcast", &sees)]).await?;
    let key = scene.cluster.credentials.api_key.clone();
    let path = format!("/socket/websocket?apikey={key}&vsn=2.0.0");
    let address = scene.relay.address();
    let connect = async |tenant: &str| -> Result<Socket> {
        let headers = [
            ("x-tenant", tenant),
            ("y-other", "not shown"),
            ("x-api-key", key.as_str()),
            ("authorization", "Bearer not.shown.either"),
        ];
        let socket = Socket::handshake(&address, &path, &headers, Vsn::V2).await?;
        socket.map_err(|refused| anyhow::anyhow!("{refused:?}"))
    };
    let mut blue = connect("blue").await?;
    let reply = blue.try_join("r:ü/1", Some(&scene.agent()), private("k", true)).await?;
    ensure!(reply.is_ok(), "{reply:?}");
    let push = blue.broadcast("r:ü/1", "e", json!({})).await?;
    ensure!(blue.reply(&push).await?.is_ok());
    let reply = blue.try_join("r:ü/2", Some(&scene.agent()), private("k", true)).await?;
    ensure!(reply.reason().starts_with("Unauthorized: "), "{reply:?}");
    let mut red = connect("red").await?;
    let reply = red.try_join("r:ü/1", Some(&scene.agent()), private("k", true)).await?;
    ensure!(reply.reason().starts_with("Unauthorized: "), "{reply:?}");
    let left: i64 = scene.database.query_one("select count(*) from realtime.messages", &[]).await?.get(0);
    ensure!(left == 0, "{left} probes are left");
    Ok(())
}

#[scene_test]
async fn a_new_token_is_asked_about_again(scene: &mut Scene) -> Result<()> {
    let claim = |name: &str| format!("(current_setting('request.jwt.claims')::jsonb ->> '{name}') = 'yes'");
    let policies = [
        policy("select", "broadcast", &claim("read")),
        policy("select", "presence", &claim("see")),
        policy("insert", "broadcast", &claim("send")),
    ];
    install(scene, &policies).await?;
    let mint = |allowed: &[&str]| {
        let mut claims = token::agent_claims(ORGANIZATION, AGENT);
        for name in allowed {
            claims[*name] = "yes".into();
        }
        token::mint(scene.secret(), &claims)
    };
    for vsn in Vsn::BOTH {
        let mut socket = member(scene, vsn, "r", &mint(&["read"]), false).await?;
        let mut other = member(scene, vsn, "r", &mint(&["read", "send"]), false).await?;
        denied(&mut socket, "r", "denied").await?;
        socket.set_token("r", &mint(&["read", "send"])).await?;
        let push = socket.broadcast("r", "granted", json!({})).await?;
        ensure!(socket.reply(&push).await?.is_ok());
        other.expect("r", "granted").await?;
        socket.set_token("r", &mint(&["read"])).await?;
        denied(&mut socket, "r", "denied again").await?;
        silent(&mut socket).await?;
        silent(&mut other).await?;
        let mut both = member(scene, vsn, "r", &mint(&["read", "see"]), true).await?;
        for (member, allowed, message) in [
            (&mut socket, "send", "You do not have permissions to read from this Channel topic: r"),
            (&mut both, "see", "You no longer have permission to read from this Channel topic: r"),
        ] {
            member.set_token("r", &mint(&[allowed])).await?;
            let system = member.frame_where("the end", |frame| frame.event == "system").await?;
            ensure!(system.payload["message"] == message, "{system:?}");
            ensure!(system.payload["status"] == "error", "{system:?}");
            member.frame_where("the close", |frame| frame.event == "phx_close").await?;
            ensure!(member.heartbeat().await?.is_ok());
        }
        let push = other.broadcast("r", "alone", json!({})).await?;
        ensure!(other.reply(&push).await?.is_ok());
        silent(&mut socket).await?;
    }
    Ok(())
}

#[scene_test]
async fn a_policy_that_fails_is_a_no_and_harms_nobody_else(scene: &mut Scene) -> Result<()> {
    scene.relay.expect_log("a policy on private channels failed");
    let broken = "(realtime.topic() <> 'bad' or 1 / (length(realtime.topic()) - 3) = 0)";
    install(scene, &[policy("select", "broadcast", broken)]).await?;
    let mut socket = scene.socket(Vsn::V2).await?;
    let reply = socket.try_join("bad", Some(&scene.agent()), private("k", false)).await?;
    ensure!(reply.reason().starts_with("Unauthorized: "), "{reply:?}");
    ensure!(socket.try_join("good", Some(&scene.agent()), private("k", false)).await?.is_ok());
    // One that fails when it is asked about writing keeps nobody from reading.
    let insert = policy("insert", "broadcast", "1 / (length(realtime.topic()) - 4) = 0");
    scene.database.batch_execute(&insert).await?;
    let mut socket = member(scene, Vsn::V2, "good", &scene.agent(), false).await?;
    denied(&mut socket, "good", "e").await?;
    let bearer = format!("Bearer {}", scene.agent());
    let path = "/api/broadcast/good/events/e?private=true";
    let response = scene.relay.post(path, &[("authorization", bearer.as_str())], &json!({})).await?;
    ensure!(
        response.status == 422 && response.json()? == json!({"message": "RLS policy error"}),
        "{response:?}"
    );
    Ok(())
}

#[scene_test]
async fn r3_private_broadcasts_over_http_are_decided_by_the_policies_too(scene: &mut Scene) -> Result<()> {
    let topic = "realtime.topic() = 'open'";
    install(scene, &[policy("select", "broadcast", "true"), policy("insert", "broadcast", topic)]).await?;
    let mut open = member(scene, Vsn::V2, "open", &scene.agent(), false).await?;
    let mut shut = member(scene, Vsn::V2, "shut", &scene.agent(), false).await?;
    let bearer = format!("Bearer {}", scene.agent());
    let headers = [("authorization", bearer.as_str())];
    for (room, status) in [("open", 202), ("shut", 403)] {
        let path = format!("/api/broadcast/{room}/events/single?private=true");
        let response = scene.relay.post(&path, &headers, &json!({"x": 1})).await?;
        ensure!(response.status == status, "{room}: {response:?}");
    }
    let message = |room: &str| json!({"topic": room, "event": "batch", "payload": {}, "private": true});
    let body = json!({"messages": [message("open"), message("shut"), message("open"), message("shut")]});
    let questions = async || scene.relay.metric("campfire_policy_questions_total").await;
    let before = questions().await?;
    let response = scene.relay.post("/api/broadcast", &headers, &body).await?;
    let dropped = response.json()?["dropped"].as_array().map_or(0, Vec::len);
    ensure!(response.status == 202 && dropped == 2, "{response:?}");
    let asked = questions().await?.unwrap_or_default() - before.unwrap_or_default();
    ensure!(asked == 2.0, "{asked} questions for two topics");
    for event in ["single", "batch", "batch"] {
        open.expect("open", event).await?;
    }
    silent(&mut shut).await
}

#[scene_test(|settings| settings.env("CAMPFIRE_PUBLIC_CHANNELS", "allow"))]
async fn the_public_and_the_private_room_of_a_name_are_two(scene: &mut Scene) -> Result<()> {
    install(scene, &[policy("select", "broadcast", "true"), policy("insert", "broadcast", "true")]).await?;
    for vsn in Vsn::BOTH {
        let mut private_member = member(scene, vsn, "r", &scene.agent(), false).await?;
        let mut private_sender = member(scene, vsn, "r", &scene.agent(), false).await?;
        let mut public_member = scene.socket(vsn).await?;
        let mut public_sender = scene.socket(vsn).await?;
        for socket in [&mut public_member, &mut public_sender] {
            ensure!(socket.try_join("r", None, default_config()).await?.is_ok());
        }
        public_sender.broadcast("r", "public", json!({})).await?;
        let push = private_sender.broadcast("r", "private", json!({})).await?;
        ensure!(private_sender.reply(&push).await?.is_ok());
        private_member.expect("r", "private").await?;
        public_member.expect("r", "public").await?;
        silent(&mut private_member).await?;
        silent(&mut public_member).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_joins_is_no_storm_of_questions() {
    const SOCKETS: usize = 100;
    const LOCK: i64 = 42;
    let settings = |settings: Settings| {
        // A no is remembered for as long as a busy machine needs to tell it twenty times.
        settings.env("CAMPFIRE_POLICY_SESSIONS", "2").env("CAMPFIRE_POLICY_DENIAL_SECONDS", "600")
    };
    with_settings(settings, async |scene| {
        // The answer waits for a lock, until all who ask are there.
        let waits = format!("(select true from pg_advisory_xact_lock_shared({LOCK}))");
        let anon = policy("select", "broadcast", &waits).replace("to authenticated", "to anon");
        install(scene, &[anon]).await?;
        let mut sockets = Vec::new();
        for _ in 0..SOCKETS {
            sockets.push(scene.socket(Vsn::V2).await?);
        }
        scene.database.execute("select pg_advisory_lock($1)", &[&LOCK]).await?;
        let joins = sockets.iter_mut().map(|socket| socket.try_join("r", None, private("k", false)));
        let release = async {
            let askers = async || scene.relay.metric("campfire_policy_askers").await.ok()?;
            let all = async || (askers().await? == SOCKETS as f64).then_some(());
            eventually("all of them wait for the answer", all).await;
            scene.database.execute("select pg_advisory_unlock($1)", &[&LOCK]).await
        };
        let (replies, released) = tokio::join!(futures_util::future::join_all(joins), release);
        released?;
        for reply in replies {
            let reply = reply?;
            ensure!(reply.is_ok(), "{reply:?}");
        }
        let asked = scene.relay.metric("campfire_policy_questions_total").await?;
        ensure!(asked == Some(1.0), "{asked:?} questions for {SOCKETS} equal joins");
        let backends = "select count(*) from pg_stat_activity where usename = 'relay' and backend_type = 'client backend'";
        let open: i64 = scene.database.query_one(backends, &[]).await?.get(0);
        ensure!(open <= 4, "{open} sessions");
        // A no is remembered: who asks again and again asks the database once.
        let before = scene.relay.metric("campfire_policy_questions_total").await?;
        let agent = scene.agent();
        for _ in 0..20 {
            let reply = sockets[0].try_join("r", Some(&agent), private("k", false)).await?;
            ensure!(reply.reason().starts_with("Unauthorized: "), "{reply:?}");
        }
        let after = scene.relay.metric("campfire_policy_questions_total").await?;
        let asked = after.unwrap_or_default() - before.unwrap_or_default();
        ensure!(asked <= 2.0, "{asked} questions for one no");
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_are_bounded_in_number() {
    let settings =
        |settings: Settings| settings.env("CAMPFIRE_POLICY_SESSIONS", "1").env("CAMPFIRE_POLICY_QUEUE", "2");
    with_settings(settings, async |scene| {
        install_waiting(scene).await?;
        let token = |number| token_of(scene, number);
        scene.database.execute("select pg_advisory_lock($1)", &[&LOCK]).await?;
        let (mut first, mut second) = (scene.socket(Vsn::V2).await?, scene.socket(Vsn::V2).await?);
        let askers = async || scene.relay.metric("campfire_policy_askers").await.ok()?;
        let asks = first.send_join("r", Some(&token(1)), private("k", false)).await?;
        eventually("one who asks", async || (askers().await? == 1.0).then_some(())).await;
        let waits = second.send_join("r", Some(&token(2)), private("k", false)).await?;
        eventually("two of them", async || (askers().await? == 2.0).then_some(())).await;
        let mut third = scene.socket(Vsn::V2).await?;
        let reply = third.try_join("r", Some(&token(3)), private("k", false)).await?;
        ensure!(reply.reason() == FULL, "{reply:?}");
        scene.database.execute("select pg_advisory_unlock($1)", &[&LOCK]).await?;
        ensure!(first.reply(&asks).await?.is_ok());
        ensure!(second.reply(&waits).await?.is_ok());
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_are_bounded_in_time() {
    let settings = |settings: Settings| {
        settings
            .env("CAMPFIRE_POLICY_SESSIONS", "1")
            .env("CAMPFIRE_POLICY_SECONDS", "1")
            .env("CAMPFIRE_POLICY_DENIAL_SECONDS", "0")
    };
    with_settings(settings, async |scene| {
        scene.relay.expect_log("the policies on private channels took too long to answer");
        install_waiting(scene).await?;
        let token = |number| token_of(scene, number);
        scene.database.execute("select pg_advisory_lock($1)", &[&LOCK]).await?;
        let (mut first, mut second) = (scene.socket(Vsn::V2).await?, scene.socket(Vsn::V2).await?);
        let asks = first.send_join("r", Some(&token(1)), private("k", false)).await?;
        let waits = second.send_join("r", Some(&token(2)), private("k", false)).await?;
        // One runs out of time while it asks, the other while it waits, or soon after.
        for reply in [first.reply(&asks).await?, second.reply(&waits).await?] {
            ensure!(reply.reason() == FULL || reply.reason() == LATE, "{reply:?}");
        }
        scene.database.execute("select pg_advisory_unlock($1)", &[&LOCK]).await?;
        eventually("an answer within the time", async || {
            let reply = first.try_join("r", Some(&token(1)), private("k", false)).await.ok()?;
            reply.is_ok().then_some(())
        })
        .await;
        Ok(())
    })
    .await;
}

/// Asks over HTTP, and hangs up when that many sessions wait for the policy's lock.
async fn ask_and_go(scene: &Scene, number: i32, busy: i64) -> Result<()> {
    let askers = async || scene.relay.metric("campfire_policy_askers").await.ok()?;
    let mut stream = TcpStream::connect(scene.relay.address()).await?;
    let request = format!(
        "POST /api/broadcast/r/events/e?private=true HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}",
        token_of(scene, number)
    );
    stream.write_all(request.as_bytes()).await?;
    eventually("one who asks", async || (askers().await? == 1.0).then_some(())).await;
    eventually("sessions that ask", async || (busy_sessions(scene).await.ok()? == busy).then_some(())).await;
    drop(stream);
    eventually("none who asks", async || (askers().await? == 0.0).then_some(())).await;
    Ok(())
}

async fn busy_sessions(scene: &Scene) -> Result<i64> {
    let busy = "select count(*) from pg_stat_activity where usename = 'relay' and wait_event = 'advisory'";
    Ok(scene.database.query_one(busy, &[]).await?.get(0))
}

#[scene_test(|settings| settings.env("CAMPFIRE_POLICY_SESSIONS", "1"))]
async fn who_goes_away_does_not_leave_more_sessions_busy_than_there_may_be(scene: &mut Scene) -> Result<()> {
    install_waiting(scene).await?;
    scene.database.execute("select pg_advisory_lock($1)", &[&LOCK]).await?;
    for number in 0..8 {
        // The database goes on with the first, although nobody waits for it.
        ask_and_go(scene, number, 1).await?;
    }
    let asked = scene.relay.metric("campfire_policy_questions_total").await?;
    ensure!(asked == Some(1.0), "{asked:?} questions at once in one session");
    ensure!(busy_sessions(scene).await? == 1);
    scene.database.execute("select pg_advisory_unlock($1)", &[&LOCK]).await?;
    member(scene, Vsn::V2, "r", &scene.agent(), false).await?;
    Ok(())
}

#[scene_test(|settings| settings.env("CAMPFIRE_POLICY_SESSIONS", "1"))]
async fn a_crowd_of_questions_makes_only_its_own_organization_wait(scene: &mut Scene) -> Result<()> {
    const CROWD: usize = 30;
    // What a sequence has counted stays counted when the question is rolled back.
    scene
        .database
        .batch_execute(&format!(
            "create sequence asked; create sequence theirs;
             create function note() returns boolean language plpgsql volatile security definer as $$
             begin
               perform pg_advisory_xact_lock_shared({LOCK}), nextval('asked');
               if realtime.topic() = 'theirs' then perform setval('theirs', currval('asked')); end if;
               return true;
             end $$"
        ))
        .await?;
    install(scene, &[policy("select", "broadcast", "note()")]).await?;
    let (organization, user) = chat::found_organization(&scene.database, "Other").await?;
    let theirs = token::agent(scene.secret(), organization, user);
    scene.database.execute("select pg_advisory_lock($1)", &[&LOCK]).await?;
    let askers = async || scene.relay.metric("campfire_policy_askers").await.ok()?;
    let mut crowd = Vec::new();
    for number in 0..CROWD {
        let mut socket = scene.socket(Vsn::V2).await?;
        let token = token_of(scene, i32::try_from(number)?);
        let asks = socket.send_join(&format!("r{number}"), Some(&token), private("k", false)).await?;
        crowd.push((socket, asks));
    }
    let all = async || (askers().await? == CROWD as f64).then_some(());
    eventually("the crowd asks", all).await;
    let mut other = scene.socket(Vsn::V2).await?;
    let asks = other.send_join("theirs", Some(&theirs), private("k", false)).await?;
    let all = async || (askers().await? == (CROWD + 1) as f64).then_some(());
    eventually("the other asks, too", all).await;
    scene.database.execute("select pg_advisory_unlock($1)", &[&LOCK]).await?;
    ensure!(other.reply(&asks).await?.is_ok());
    for (socket, asks) in &mut crowd {
        ensure!(socket.reply(asks).await?.is_ok());
    }
    let place = scene.database.query_one("select last_value from theirs", &[]).await?;
    let asked = scene.database.query_one("select last_value from asked", &[]).await?;
    let (place, asked): (i64, i64) = (place.get(0), asked.get(0));
    // One was being asked, and one may have its turn first.
    let each = asked / (CROWD as i64 + 1);
    ensure!(place <= 3 * each, "asked as number {place} of {asked}, {each} a question");
    Ok(())
}

#[scene_test]
async fn headers_too_large_for_policies_are_refused_where_policies_are_asked(
    scene: &mut Scene,
) -> Result<()> {
    install(scene, &[policy("select", "broadcast", "true"), policy("insert", "broadcast", "true")]).await?;
    let key = scene.cluster.credentials.api_key.clone();
    let path = format!("/socket/websocket?apikey={key}&vsn=2.0.0");
    let large = "x".repeat(17 * 1024);
    let headers = [("x-large", large.as_str())];
    let socket = Socket::handshake(&scene.relay.address(), &path, &headers, Vsn::V2).await?;
    let mut socket = socket.map_err(|refused| anyhow::anyhow!("{refused:?}"))?;
    socket.join(&chat::organization_channel(ORGANIZATION), &scene.agent()).await?;
    let reply = socket.try_join("r", Some(&scene.agent()), private("k", false)).await?;
    ensure!(reply.reason().starts_with("HeadersTooLarge: "), "{reply:?}");
    let bearer = format!("Bearer {}", scene.agent());
    let organization = chat::organization_channel(ORGANIZATION);
    for (topic, private, status) in [("r", "true", 431), (organization.as_str(), "false", 202)] {
        let path = format!("/api/broadcast/{topic}/events/e?private={private}");
        let headers = [("x-large", large.as_str()), ("authorization", bearer.as_str())];
        let response = scene.relay.post(&path, &headers, &json!({})).await?;
        ensure!(response.status == status, "{topic}: {response:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn denials_take_little_memory_whatever_the_headers() {
    const DENIALS: usize = 800;
    let settings = |settings: Settings| {
        settings.env("CAMPFIRE_CLIENT_MESSAGES_PER_SECOND", "0").env("CAMPFIRE_POLICY_DENIAL_SECONDS", "1h")
    };
    with_settings(settings, async |scene| {
        install(scene, &[]).await?;
        let key = scene.cluster.credentials.api_key.clone();
        let large = "x".repeat(15 * 1024);
        let headers = [("x-large", large.as_str()), ("apikey", key.as_str())];
        let post = async |room: usize| {
            let path = format!("/api/broadcast/r{room}/events/e?private=true");
            let response = scene.relay.post(&path, &headers, &json!({})).await?;
            ensure!(response.status == 403, "{response:?}");
            anyhow::Ok(())
        };
        for room in 0..100 {
            post(room).await?;
        }
        let before = scene.relay.resident_bytes()?;
        for room in 100..100 + DENIALS {
            post(room).await?;
        }
        let grown = scene.relay.resident_bytes()?.saturating_sub(before);
        let sent = (DENIALS * large.len()) as u64;
        ensure!(grown < sent / 2, "grew by {grown} bytes for headers of {sent}");
        let asked = scene.relay.metric("campfire_policy_questions_total").await?;
        post(7).await?;
        ensure!(scene.relay.metric("campfire_policy_questions_total").await? == asked, "it is remembered");
        Ok(())
    })
    .await;
}

/// What a policy may be unable to do, as the condition of a policy, and what Postgres says then.
const FAILURES: [(&str, &str, &str); 8] = [
    ("missing_table()", "42P01", "relation \"rooms\" does not exist"),
    ("missing_function()", "42883", "function no_such_function() does not exist"),
    ("reads_secrets()", "42501", "permission denied for table secrets"),
    ("raises('P0001', 'no rooms today')", "P0001", "no rooms today"),
    // What the relay and the extension say themselves in other cases.
    ("raises('55000', 'not now')", "55000", "not now"),
    ("raises('23514', 'not this')", "23514", "not this"),
    ("raises('57014', 'enough')", "57014", "enough"),
    ("raises('3F000', 'no schema')", "3F000", "no schema"),
];

const FAILING: &str = "
    create table secrets (id int);
    create function missing_table() returns boolean language plpgsql as
        $$ begin return exists (select from rooms); end $$;
    create function missing_function() returns boolean language plpgsql as
        $$ begin return no_such_function(); end $$;
    create function reads_secrets() returns boolean language sql as $$ select exists (select from secrets) $$;
    create function raises(code text, message text) returns boolean language plpgsql as
        $$ begin raise exception using errcode = code, message = message; end $$;";

/// The first line of the log with this in it; a log is read a little later than a reply.
async fn logged(scene: &Scene, text: &str) -> String {
    let find = async || scene.relay.log_text().lines().find(|line| line.contains(text)).map(str::to_owned);
    eventually(&format!("the log has {text:?}"), find).await
}

/// Lines of the log that name a SQLSTATE.
fn complaints(scene: &Scene, sqlstate: &str) -> usize {
    let wanted = format!("\"sqlstate\":\"{sqlstate}\"");
    let log = scene.relay.log_text();
    log.lines().filter(|line| line.contains("\"WARN\"") && line.contains(&wanted)).count()
}

#[scene_test]
async fn a_policy_that_fails_is_named_by_its_error_to_the_client_and_in_the_log(
    scene: &mut Scene,
) -> Result<()> {
    scene.relay.expect_log("a policy on private channels failed");
    install(scene, &[]).await?;
    scene.database.batch_execute(FAILING).await?;
    let mut socket = scene.socket(Vsn::V2).await?;
    for (number, (condition, ..)) in FAILURES.iter().enumerate() {
        for (action, clause) in [("select", "using"), ("insert", "with check")] {
            let topic = format!("{action}:{number}");
            // The others let this topic pass.
            let policy = format!(
                "create policy \"{topic}\" on realtime.messages as restrictive for {action} to authenticated
                   {clause} (realtime.topic() <> '{topic}' or {condition})"
            );
            scene.database.batch_execute(&policy).await?;
        }
    }
    let open = [policy("select", "broadcast", "true"), policy("insert", "broadcast", "true")];
    scene.database.batch_execute(&open.concat()).await?;
    let started = Instant::now();
    for (number, (_, sqlstate, message)) in FAILURES.iter().enumerate() {
        let reply =
            socket.try_join(&format!("select:{number}"), Some(&scene.agent()), private("k", false)).await?;
        let told = format!("(a policy failed: {sqlstate}: {message})");
        let reason = reply.reason();
        ensure!(reason.starts_with("Unauthorized: ") && reason.ends_with(&told), "{reason}");
        logged(scene, &format!("\"sqlstate\":\"{sqlstate}\"")).await;
        // Who may read still may; what it cannot send is told in the log alone.
        let reply =
            socket.try_join(&format!("insert:{number}"), Some(&scene.agent()), private("k", false)).await?;
        ensure!(reply.is_ok(), "{reply:?}");
    }
    let log = scene.relay.log_text();
    ensure!(!log.contains("install_supabase_api"), "the schema is installed");
    ensure!(log.contains("permission denied for table secrets"), "the message is not in the log");
    // Those of sending are the same causes, and told again after a minute.
    let told_max = 1 + started.elapsed().as_secs() as usize / 60;
    for (_, sqlstate, _) in FAILURES {
        let told = complaints(scene, sqlstate);
        ensure!((1..=told_max).contains(&told), "{sqlstate} is {told} times in the log");
    }
    let failures = scene.relay.metric("campfire_policy_failures_total").await?;
    ensure!(failures == Some(2.0 * FAILURES.len() as f64), "{failures:?}");
    // Not in a function: refused before a row is looked at, as a missing grant on realtime.messages is.
    let direct = policy("select", "presence", "exists (select from secrets)");
    scene.database.batch_execute(&direct).await?;
    let reply = socket.try_join("direct", Some(&scene.agent()), private("k", false)).await?;
    ensure!(reply.reason().ends_with("42501: permission denied for table secrets)"), "{reply:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_cause_is_logged_once_however_many_ask() {
    let settings = |settings: Settings| settings.env("CAMPFIRE_POLICY_DENIAL_SECONDS", "0");
    with_settings(settings, async |scene| {
        scene.relay.expect_log("a policy on private channels failed");
        scene.database.batch_execute(FAILING).await?;
        let fails =
            "case when realtime.topic() = 'end' then raises('P0001', 'the end') else missing_table() end";
        install(scene, &[policy("select", "broadcast", fails)]).await?;
        let started = Instant::now();
        let mut socket = scene.socket(Vsn::V2).await?;
        for number in 0..20 {
            let topic = format!("room:{number}");
            let reply = socket.try_join(&topic, Some(&scene.agent()), private("k", false)).await?;
            ensure!(reply.reason().contains("42P01"), "{reply:?}");
        }
        let failures = scene.relay.metric("campfire_policy_failures_total").await?;
        ensure!(failures == Some(20.0), "{failures:?}");
        // The last line, so that none is still on its way.
        socket.try_join("end", Some(&scene.agent()), private("k", false)).await?;
        logged(scene, "P0001").await;
        let told = complaints(scene, "42P01");
        ensure!(told <= 1 + started.elapsed().as_secs() as usize / 60, "{told} lines");
        Ok(())
    })
    .await;
}

#[scene_test]
async fn a_role_without_grants_on_the_table_is_refused_and_nothing_has_failed(
    scene: &mut Scene,
) -> Result<()> {
    install(scene, &[policy("select", "broadcast", "true"), policy("insert", "broadcast", "true")]).await?;
    scene.database.batch_execute("revoke insert on realtime.messages from authenticated").await?;
    let mut socket = member(scene, Vsn::V2, "r", &scene.agent(), false).await?;
    denied(&mut socket, "r", "e").await?;
    scene.database.batch_execute("revoke select on realtime.messages from authenticated").await?;
    let mut socket = scene.socket(Vsn::V2).await?;
    let reply = socket.try_join("s", Some(&scene.agent()), private("k", false)).await?;
    let reason = "Unauthorized: You do not have permissions to read from this Channel topic: s";
    ensure!(reply.reason() == reason, "{reply:?}");
    let failures = scene.relay.metric("campfire_policy_failures_total").await?;
    ensure!(failures == Some(0.0), "{failures:?}");
    Ok(())
}

#[scene_test]
async fn a_table_in_the_way_of_todays_partition_is_named_to_the_operator(scene: &mut Scene) -> Result<()> {
    install(scene, &[policy("select", "broadcast", "true")]).await?;
    scene.relay.expect_log("no partition of realtime.messages takes rows of today");
    let detach = "do $$ begin execute format('alter table realtime.messages detach partition realtime.%I',
        realtime.partition_name((now() at time zone 'utc')::date)); end $$";
    scene.database.batch_execute(detach).await?;
    let mut socket = scene.socket(Vsn::V2).await?;
    let reply = socket.try_join("r", Some(&scene.agent()), private("k", false)).await?;
    let reason = "MissingPartition: realtime.messages has no partition for today";
    ensure!(reply.reason() == reason, "{reply:?}");
    let line = logged(scene, "is in the way").await;
    ensure!(line.contains("\"WARN\"") && line.contains("rename to messages_"), "{line:?}");
    // The hint, as it is.
    let fix = "select fix from campfire.check_supabase_api()";
    let fix: String = scene.database.query_one(fix, &[]).await?.get(0);
    scene.database.batch_execute(&fix).await?;
    ensure!(socket.try_join("r", Some(&scene.agent()), private("k", false)).await?.is_ok());
    Ok(())
}

#[scene_test]
async fn schema_realtime_goes_on_without_its_comment_and_with_another_owner(scene: &mut Scene) -> Result<()> {
    install(scene, &[policy("select", "broadcast", "true")]).await?;
    let change =
        "create role app nologin; comment on schema realtime is null; alter schema realtime owner to app";
    scene.database.batch_execute(change).await?;
    let mut socket = member(scene, Vsn::V2, "r", &scene.agent(), false).await?;
    scene.database.batch_execute("select realtime.send('{\"n\": 1}', 'e', 'r')").await?;
    ensure!(socket.expect("r", "e").await?.payload["n"] == 1);
    scene.relay.expect_log("private channels are shut");
    // What cannot go on names what is wrong and what mends it, and the mend works. The relay looks by itself as well.
    scene.relay.expect_log("which is no superuser");
    scene.database.batch_execute("alter function realtime.probe(text, text[]) owner to app").await?;
    let reply = socket.try_join("s", Some(&scene.agent()), private("k", false)).await?;
    ensure!(reply.reason().starts_with("PoliciesNotInstalled: "), "{reply:?}");
    let line = logged(scene, "which is no superuser").await;
    ensure!(line.contains("select campfire.install_supabase_api();"), "{line:?}");
    scene.database.batch_execute("select campfire.install_supabase_api()").await?;
    ensure!(socket.try_join("t", Some(&scene.agent()), private("k", false)).await?.is_ok());
    Ok(())
}

const LOCK: i64 = 43;
const FULL: &str = "IncreaseConnectionPool: Please increase your connection pool size";
const LATE: &str = "QueryCanceled: The policies took too long to answer";

/// A policy that says yes when nobody holds the lock.
async fn install_waiting(scene: &Scene) -> Result<()> {
    let waits = format!("(select true from pg_advisory_xact_lock_shared({LOCK}))");
    install(scene, &[policy("select", "broadcast", &waits)]).await
}

/// Tokens that differ, so that their questions do.
fn token_of(scene: &Scene, session: i32) -> String {
    let mut claims = token::agent_claims(ORGANIZATION, AGENT);
    claims["session"] = session.into();
    token::mint(scene.secret(), &claims)
}
