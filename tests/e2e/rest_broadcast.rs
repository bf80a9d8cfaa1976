//! Broadcasts over HTTP. Names beginning with `r1` and so on are the checks of the protocol's reference.

use anyhow::{Context, Result, ensure};
use campfire_tests::fence::Fence;
use campfire_tests::http::{self, Response};
use campfire_tests::relay::Settings;
use campfire_tests::socket::{Vsn, ack_config, default_config};
use campfire_tests::{AGENT, ORGANIZATION, Socket, chat, eventually, token};
use serde_json::{Value, json};

use crate::scene::{Scene, scene_test, with_settings};

const BATCH: [&str; 2] = ["/realtime/v1/api/broadcast", "/api/broadcast"];

fn public(settings: Settings) -> Settings {
    settings.env("CAMPFIRE_PUBLIC_CHANNELS", "allow")
}

async fn batch(scene: &Scene, messages: Value) -> Result<Response> {
    let key = scene.cluster.credentials.api_key.clone();
    scene.relay.post(BATCH[0], &[("apikey", &key)], &json!({"messages": messages})).await
}

async fn listener(scene: &Scene, vsn: Vsn, channel: &str) -> Result<Socket> {
    let mut socket = scene.socket(vsn).await?;
    let reply = socket.try_join(channel, None, default_config()).await?;
    ensure!(reply.is_ok(), "{reply:?}");
    Ok(socket)
}

#[scene_test(public)]
async fn r1_a_batch_of_public_messages_is_accepted_and_delivered(scene: &mut Scene) -> Result<()> {
    for vsn in Vsn::BOTH {
        let mut socket = listener(scene, vsn, "room:7").await?;
        let message = |x: u8| json!({"topic": "room:7", "event": "cursor", "payload": {"x": x}});
        let mut second = message(2);
        second["id"] = "m2".into();
        let response = batch(scene, json!([message(1), second])).await?;
        ensure!(response.status == 202 && response.body.is_empty(), "{response:?}");
        ensure!(response.header("access-control-allow-origin") == Some("*"), "{response:?}");
        ensure!(response.header("x-rate-limit") == Some("100"), "{response:?}");
        let first = socket.expect("room:7", "cursor").await?;
        ensure!(first.payload == json!({"x": 1}) && first.meta.is_null(), "{first:?}");
        let second = socket.expect("room:7", "cursor").await?;
        ensure!(second.payload == json!({"x": 2}) && second.meta == json!({"id": "m2"}), "{second:?}");
    }
    Ok(())
}

#[scene_test(public)]
async fn r2_one_bad_message_refuses_the_batch_with_aligned_errors(scene: &mut Scene) -> Result<()> {
    let mut socket = listener(scene, Vsn::V2, "room").await?;
    let good = json!({"topic": "room", "event": "e", "payload": {}});
    for (messages, errors) in [
        (json!([good, {"topic": "room", "event": "e"}]), json!([{}, {"payload": ["can't be blank"]}])),
        (
            json!([{"topic": 7, "event": "", "payload": [], "private": "maybe"}, good]),
            json!([{"topic": ["is invalid"], "event": ["can't be blank"], "payload": ["is invalid"],
                "private": ["is invalid"]}, {}]),
        ),
        (json!([]), json!(["can't be blank"])),
        (Value::Null, json!(["can't be blank"])),
        (json!("x"), json!(["is invalid"])),
    ] {
        let response = batch(scene, messages).await?;
        let expected = json!({"errors": {"messages": errors}});
        ensure!(response.status == 422 && response.json()? == expected, "{response:?}");
    }
    let key = scene.cluster.credentials.api_key.clone();
    let headers = [("apikey", key.as_str()), ("content-type", "application/json")];
    let response = http::request(&scene.relay.address(), "POST", BATCH[1], &headers, b"{\"mess").await?;
    ensure!(response.status == 400, "{response:?}");
    // Nothing of it was sent: the next good one comes first.
    ensure!(batch(scene, json!([{"topic": "room", "event": "last", "payload": {}}])).await?.status == 202);
    socket.expect("room", "last").await?;
    Ok(())
}

#[scene_test(public)]
async fn r3_what_may_not_be_sent_is_dropped_from_a_batch_and_refused_alone(scene: &mut Scene) -> Result<()> {
    let mut socket = listener(scene, Vsn::V2, "room").await?;
    let private = json!({"topic": "room", "event": "no", "payload": {}, "private": true});
    let response = batch(scene, json!([private, {"topic": "room", "event": "yes", "payload": {}}])).await?;
    ensure!(response.status == 202, "{response:?}");
    socket.expect("room", "yes").await?;
    let key = scene.cluster.credentials.api_key.clone();
    let path = "/realtime/v1/api/broadcast/room/events/no?private=true";
    let response = scene.relay.post(path, &[("apikey", &key)], &json!({})).await?;
    ensure!(response.status == 403 && response.json()? == json!({"message": "Unauthorized"}), "{response:?}");
    Ok(())
}

#[scene_test(public)]
async fn r4_topic_and_event_of_one_message_are_decoded_from_its_address(scene: &mut Scene) -> Result<()> {
    let key = scene.cluster.credentials.api_key.clone();
    let address = scene.relay.address();
    for vsn in Vsn::BOTH {
        let mut socket = listener(scene, vsn, "a/b:c").await?;
        for prefix in ["/realtime/v1", ""] {
            let path = format!("{prefix}/api/broadcast/a%2Fb%3Ac/events/caf%C3%A9%20x?apikey=K&vsn=2.0.0");
            for (body, expected) in [(r#"{"x": 3}"#, json!({"x": 3})), ("[1]", json!([1])), ("", json!({}))] {
                let headers = [("apikey", key.as_str()), ("content-type", "application/json; charset=utf-8")];
                let response = http::request(&address, "POST", &path, &headers, body.as_bytes()).await?;
                ensure!(response.status == 202 && response.body.is_empty(), "{response:?}");
                let event = socket.expect("a/b:c", "café x").await?;
                ensure!(event.payload == expected, "{event:?}");
            }
        }
    }
    Ok(())
}

#[scene_test(public)]
async fn r5_bytes_reach_2_0_0_as_bytes_and_other_media_types_are_refused(scene: &mut Scene) -> Result<()> {
    let key = scene.cluster.credentials.api_key.clone();
    let address = scene.relay.address();
    let mut new = listener(scene, Vsn::V2, "room").await?;
    let mut old = listener(scene, Vsn::V1, "room").await?;
    let send = async |content_type: &str, body: &[u8]| {
        let headers = [("apikey", key.as_str()), ("content-type", content_type)];
        http::request(&address, "POST", "/api/broadcast/room/events/blob", &headers, body).await
    };
    ensure!(send("application/octet-stream", b"\xde\xad\x00").await?.status == 202);
    let event = new.expect("room", "blob").await?;
    ensure!(event.payload == json!({"bytes": [0xde, 0xad, 0]}), "{event:?}");
    let response = send("text/plain", b"x").await?;
    let error = "Unsupported Media Type. Use application/json or application/octet-stream";
    ensure!(response.status == 415 && response.json()? == json!({"error": error}), "{response:?}");
    ensure!(send("application/json", b"{\"x\"").await?.status == 400);
    // 1.0.0 was told nothing of it, and lives.
    ensure!(send("application/json", b"{\"x\":1}").await?.status == 202);
    let event = old.expect("room", "blob").await?;
    ensure!(event.payload == json!({"x": 1}), "{event:?}");
    Ok(())
}

#[scene_test(public)]
async fn r6_callers_prove_who_they_are_and_browsers_may_ask(scene: &mut Scene) -> Result<()> {
    let (key, secret) = (scene.cluster.credentials.api_key.clone(), scene.secret().to_owned());
    let stale = token::mint(&secret, &json!({"role": "anon", "exp": token::now() - 60}));
    let fresh = token::mint(&secret, &json!({"role": "anon", "exp": token::in_an_hour()}));
    let body = json!({"messages": [{"topic": "room", "event": "e", "payload": {}}]});
    let (fresh, stale) = (format!("Bearer {fresh}"), format!("Bearer {stale}"));
    for (headers, status) in [
        (vec![], 401),
        (vec![("apikey", "nonsense")], 401),
        (vec![("authorization", stale.as_str()), ("apikey", &key)], 401),
        (vec![("authorization", "nonsense"), ("apikey", &key)], 401),
        (vec![("authorization", "Bearer  two"), ("apikey", &key)], 401),
        (vec![("authorization", "Bearer sb_publishable_x"), ("apikey", &key)], 202),
        (vec![("authorization", fresh.as_str())], 202),
        (vec![("Authorization", &fresh.replace("Bearer", "bEARER"))], 202),
        (vec![("apikey", &key)], 202),
    ] {
        let response = scene.relay.post(BATCH[0], &headers, &body).await?;
        ensure!(response.status == status, "{headers:?}: {response:?}");
        ensure!(status == 202 || response.json()? == json!({"message": "Unauthorized"}), "{response:?}");
    }
    for path in [BATCH[0], BATCH[1], "/realtime/v1/api/broadcast/a/events/b"] {
        let response = http::request(&scene.relay.address(), "OPTIONS", path, &[], b"").await?;
        ensure!(response.status == 204, "{response:?}");
        ensure!(response.header("access-control-allow-origin") == Some("*"), "{response:?}");
        let allowed = response.header("access-control-allow-headers").unwrap_or_default();
        for header in ["authorization", "apikey", "content-type", "x-client-info"] {
            ensure!(allowed.contains(header), "{allowed}");
        }
    }
    Ok(())
}

#[scene_test]
async fn on_an_organizations_channels_rights_and_reserved_events_hold_over_http_too(
    scene: &mut Scene,
) -> Result<()> {
    let conversation = scene.conversation().await?;
    let channel = chat::conversation_channel(ORGANIZATION, conversation);
    let mut agent = scene.dashboard(Vsn::V2, &[&channel]).await?;
    let path = |event: &str| {
        let topic = channel.replace(':', "%3A");
        format!("/api/broadcast/{topic}/events/{}", event.replace(':', "%3A"))
    };
    let service = token::service(scene.secret());
    let (agents, visitors) = (scene.agent(), scene.visitor(conversation));
    let key = scene.cluster.credentials.api_key.clone();
    let send = async |token: &str, event: &str| {
        let bearer = format!("Bearer {token}");
        scene.relay.post(&path(event), &[("authorization", bearer.as_str())], &json!({"by": event})).await
    };
    for (token, event, status) in [
        (&service, "message:created", 403),
        (&agents, "Conversation:updated", 403),
        (&agents, "agent:status:online", 403),
        (&visitors, "note", 403),
        (&key, "note", 403),
        (&agents, "note", 202),
        (&service, "note", 202),
    ] {
        let response = send(token, event).await?;
        ensure!(response.status == status, "{event}: {response:?}");
    }
    let note = agent.expect(&channel, "note").await?;
    ensure!(note.meta == json!({"sender": {"type": "agent", "id": AGENT}}), "{note:?}");
    let note = agent.expect(&channel, "note").await?;
    ensure!(note.meta == json!({"sender": {"type": "service", "id": null}}), "{note:?}");
    // In a batch they are dropped without a word; an id is not believed either.
    let message = |event: &str| json!({"topic": channel, "event": event, "payload": {}, "id": "forged"});
    let bearer = format!("Bearer {agents}");
    let body = json!({"messages": [message("message:created"), message("last")]});
    let response = scene.relay.post(BATCH[0], &[("authorization", &bearer)], &body).await?;
    ensure!(response.status == 202, "{response:?}");
    let last = agent.expect(&channel, "last").await?;
    ensure!(last.meta["id"].is_null(), "{last:?}");
    // What a visitor types reaches the agent, and the relay ends it.
    ensure!(send(&visitors, "typing:start").await?.status == 202);
    agent.expect(&channel, "typing:start").await?;
    agent.expect(&channel, "typing:stop").await?;
    let fence = Fence::message(&scene.database, ORGANIZATION, conversation).await?;
    ensure!(agent.events_before(&fence, &channel).await?.is_empty());
    // Public channels do not exist unless they are allowed.
    let response = scene.relay.post("/api/broadcast/room/events/e", &[("apikey", &key)], &json!({})).await?;
    ensure!(response.status == 403, "{response:?}");
    Ok(())
}

#[scene_test]
async fn typists_behind_one_service_end_each_by_itself(scene: &mut Scene) -> Result<()> {
    let conversation = scene.conversation().await?;
    let channel = chat::conversation_channel(ORGANIZATION, conversation);
    let mut agent = scene.dashboard(Vsn::V1, &[&channel]).await?;
    let claims = json!({"role": "service_role", "exp": token::now() + 3600});
    let bearer = format!("Bearer {}", token::mint(scene.secret(), &claims));
    for (event, who) in [("typing:start", "a"), ("typing:start", "b"), ("typing:stop", "a")] {
        let path = format!("/api/broadcast/{channel}/events/{event}");
        let headers = [("authorization", bearer.as_str())];
        let response = scene.relay.post(&path, &headers, &json!({"user_id": who})).await?;
        ensure!(response.status == 202, "{response:?}");
        ensure!(agent.expect(&channel, event).await?.payload == json!({"user_id": who}));
    }
    // By the relay, when the time is over.
    let stop = agent.expect(&channel, "typing:stop").await?;
    ensure!(stop.payload == json!({"user_id": "b"}), "{stop:?}");
    ensure!(stop.meta == json!({"sender": {"type": "service", "id": null}}), "{stop:?}");
    let fence = Fence::message(&scene.database, ORGANIZATION, conversation).await?;
    ensure!(agent.events_before(&fence, &channel).await?.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn senders_are_charged_and_the_applications_own_servers_are_not() {
    // As many would be allowed again only after a minute.
    const BURST: usize = 60;
    let settings = |settings| {
        public(settings)
            .env("CAMPFIRE_CLIENT_MESSAGES_PER_SECOND", "1")
            .env("CAMPFIRE_CLIENT_MESSAGES_BURST", &BURST.to_string())
    };
    with_settings(settings, async |scene| {
        let message = json!({"topic": "room", "event": "e", "payload": {}});
        let too_large = batch(scene, json!(vec![message.clone(); BURST + 1])).await?;
        ensure!(too_large.status == 429, "{too_large:?}");
        let text = "Too many messages to broadcast, please reduce the batch size";
        ensure!(too_large.json()? == json!({"message": text}), "{too_large:?}");
        ensure!(batch(scene, json!(vec![message.clone(); BURST])).await?.status == 202);
        let over = batch(scene, json!(vec![message.clone(); BURST])).await?;
        let text = "You have exceeded your rate limit";
        ensure!(over.status == 429 && over.json()? == json!({"message": text}), "{over:?}");
        let bearer = format!("Bearer {}", token::service(scene.secret()));
        for _ in 0..5 {
            let body = json!({"messages": vec![message.clone(); 10]});
            let response = scene.relay.post(BATCH[0], &[("authorization", &bearer)], &body).await?;
            ensure!(response.status == 202, "{response:?}");
        }
        // A token that may send nothing more is not even verified.
        let genuine = token::agent(scene.secret(), ORGANIZATION, AGENT);
        let (signed, _) = genuine.rsplit_once('.').context("a token")?;
        let forged = format!("{signed}.{}", "A".repeat(43));
        let send = async |token: &str| {
            let bearer = format!("Bearer {token}");
            let body = json!({"messages": [message.clone()]});
            Ok::<_, anyhow::Error>(
                scene.relay.post(BATCH[0], &[("authorization", &bearer)], &body).await?.status,
            )
        };
        ensure!(send(&forged).await? == 401);
        let is_refused_unseen = async || {
            while send(&genuine).await.ok()? == 202 {}
            (send(&forged).await.ok()? == 429).then_some(())
        };
        eventually("the rate comes before the check of the signature", is_refused_unseen).await;
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_and_payloads_have_bounds() {
    let settings = |settings| {
        public(settings).env("CAMPFIRE_MAX_PAYLOAD_BYTES", "1000").env("CAMPFIRE_MAX_BODY_BYTES", "3000")
    };
    with_settings(settings, async |scene| {
        let one = json!({"topic": "room", "event": "e", "payload": {"x": "x".repeat(900)}});
        let response = batch(scene, vec![one; 4].into()).await?;
        ensure!(response.status == 413, "{response:?}");
        let large = json!({"x": "x".repeat(1000)});
        let response = batch(scene, json!([{"topic": "room", "event": "e", "payload": large}])).await?;
        let errors = json!([{"payload": ["Payload size exceeds tenant limit"]}]);
        ensure!(
            response.status == 422 && response.json()? == json!({"errors": {"messages": errors}}),
            "{response:?}"
        );
        let key = scene.cluster.credentials.api_key.clone();
        let response = scene.relay.post("/api/broadcast/room/events/e", &[("apikey", &key)], &large).await?;
        let errors = json!({"payload": ["Payload size exceeds tenant limit"]});
        ensure!(response.status == 422 && response.json()? == json!({"errors": errors}), "{response:?}");
        Ok(())
    })
    .await;
}

/// A name of megabytes passed the bounds of payloads and went to every member.
#[scene_test(public)]
async fn the_name_of_an_event_is_bounded_on_every_way_in(scene: &mut Scene) -> Result<()> {
    let mut listener = listener(scene, Vsn::V2, "room").await?;
    let key = scene.cluster.credentials.api_key.clone();
    let huge = format!("typing:{}", "x".repeat(1_500_000));
    let too_long = json!(["should be at most 255 byte(s)"]);
    for (event, id) in [(huge.as_str(), "i"), (&"é".repeat(128), "i"), ("e", &huge)] {
        let message = json!({"topic": "room", "event": event, "id": id, "payload": {}});
        let response = batch(scene, json!([message])).await?;
        let field = if event == "e" { "id" } else { "event" };
        let expected = json!({"errors": {"messages": [{field: too_long}]}});
        ensure!(response.status == 422 && response.json()? == expected, "{response:?}");
    }
    let path = format!("/api/broadcast/room/events/{}", "e".repeat(256));
    let response = scene.relay.post(&path, &[("apikey", &key)], &json!({})).await?;
    let expected = json!({"errors": {"event": too_long}});
    ensure!(response.status == 422 && response.json()? == expected, "{response:?}");
    for vsn in Vsn::BOTH {
        let mut sender = scene.socket(vsn).await?;
        ensure!(sender.try_join("room", None, ack_config()).await?.is_ok());
        let push = json!({"type": "broadcast", "event": huge, "payload": {}});
        let reply = sender.request("room", "broadcast", push).await?;
        ensure!(
            reply.reason() == "EventNameTooLong: The name of an event has at most 255 bytes",
            "{reply:?}"
        );
    }
    let send = "select realtime.send('{}', repeat('e', 256), 'room', false)";
    scene.database.batch_execute("select campfire.install_supabase_api()").await?;
    scene.database.batch_execute(send).await?;
    // Nothing of it was sent: what may be comes first.
    let last = "l".repeat(255);
    let send = format!("select realtime.send('{{}}', '{last}', 'room', false)");
    scene.database.batch_execute(&send).await?;
    listener.expect("room", &last).await?;
    Ok(())
}

#[scene_test(public)]
async fn a_topic_is_delivered_however_it_is_spelled(scene: &mut Scene) -> Result<()> {
    let key = scene.cluster.credentials.api_key.clone();
    for vsn in Vsn::BOTH {
        let mut room = listener(scene, vsn, "room1").await?;
        // An application may have put the prefix into the name, as early guides of supabase-js did.
        let mut prefixed = listener(scene, vsn, "realtime:room1").await?;
        let spellings =
            ["room1", "realtime:room1", "bcast:room1", "realtime:bcast:room1", "bcast:realtime:room1"];
        for (index, topic) in spellings.into_iter().enumerate() {
            let payload = json!({"index": index});
            let message = json!({"topic": topic, "event": "e", "payload": payload, "private": false});
            let response = batch(scene, json!([message])).await?;
            ensure!(response.status == 202 && response.body.is_empty(), "{topic}: {response:?}");
            ensure!(room.expect("room1", "e").await?.payload == payload, "{topic}");
            let path = format!("/api/broadcast/{}/events/e", topic.replace(':', "%3A"));
            let response = scene.relay.post(&path, &[("apikey", &key)], &payload).await?;
            ensure!(response.status == 202, "{topic}: {response:?}");
            ensure!(room.expect("room1", "e").await?.payload == payload, "{topic}");
        }
        // Of these, the second and the last may mean the other channel; nothing else has come there.
        for index in [1, 1, 4, 4] {
            let event = prefixed.expect("realtime:room1", "e").await?;
            ensure!(event.payload == json!({"index": index}), "{event:?}");
        }
    }
    Ok(())
}

#[scene_test]
async fn organizations_channels_are_reached_by_every_spelling_and_malformed_ones_are_named(
    scene: &mut Scene,
) -> Result<()> {
    let channel = chat::organization_channel(ORGANIZATION);
    let mut agent = scene.dashboard(Vsn::V2, &[&channel]).await?;
    let bearer = format!("Bearer {}", scene.agent());
    let send = async |topic: &str| {
        let messages = json!({"messages": [{"topic": topic, "event": "note", "payload": {"topic": topic}}]});
        scene.relay.post(BATCH[0], &[("authorization", &bearer)], &messages).await
    };
    for prefix in ["", "realtime:", "bcast:", "realtime:bcast:"] {
        let topic = format!("{prefix}{channel}");
        let response = send(&topic).await?;
        ensure!(response.status == 202 && response.body.is_empty(), "{topic}: {response:?}");
        ensure!(agent.expect(&channel, "note").await?.payload["topic"] == topic);
    }
    for topic in
        ["org:7", "realtime:org:7", "bcast:ORG:x", "realtime:", &format!("realtime:{channel}:nonsense")]
    {
        let response = send(topic).await?;
        let problem = response.json()?["errors"]["messages"][0]["topic"][0].to_string();
        ensure!(response.status == 422 && problem.contains(topic), "{topic}: {response:?}");
        let path = format!("/api/broadcast/{}/events/e", topic.replace(':', "%3A"));
        let response = scene.relay.post(&path, &[("authorization", &bearer)], &json!({})).await?;
        let problem = response.json()?["errors"]["topic"][0].to_string();
        ensure!(response.status == 422 && problem.contains(topic), "{topic}: {response:?}");
    }
    Ok(())
}

#[scene_test]
async fn what_reaches_nobody_is_not_accepted(scene: &mut Scene) -> Result<()> {
    let channel = chat::organization_channel(ORGANIZATION);
    let mut agent = scene.dashboard(Vsn::V2, &[&channel]).await?;
    let bearer = format!("Bearer {}", scene.agent());
    let send = async |messages: Value| {
        let body = json!({"messages": messages});
        scene.relay.post(BATCH[0], &[("authorization", &bearer)], &body).await
    };
    let good = json!({"topic": channel, "event": "note", "payload": {}});
    // Public channels are closed here, for everybody: nothing of such a batch is sent.
    let response = send(json!([good, {"topic": "realtime:room1", "event": "e", "payload": {}}])).await?;
    let problem = response.json()?["errors"]["messages"][1]["topic"][0].to_string();
    ensure!(response.status == 422 && problem.contains("room1 is closed"), "{response:?}");
    // Events that only the database sends, a channel of somebody else, no policies that could allow it.
    let reserved = json!({"topic": channel, "event": "message:created", "payload": {}});
    let stranger = json!({"topic": format!("org:{}", uuid::Uuid::nil()), "event": "e", "payload": {}});
    let private = json!({"topic": "room", "event": "e", "payload": {}, "private": true});
    for message in [&reserved, &stranger, &private] {
        let response = send(json!([message])).await?;
        ensure!(response.status == 403, "{response:?}");
        ensure!(response.json()?["dropped"][0]["topic"] == message["topic"], "{response:?}");
    }
    // Beside others they are told of, and the others are sent.
    let response = send(json!([reserved, good, private])).await?;
    let dropped = response.json()?["dropped"].clone();
    ensure!(response.status == 202 && dropped[0]["index"] == 0 && dropped[1]["index"] == 2, "{response:?}");
    ensure!(
        dropped[1]["topic"] == "room" && dropped.as_array().is_some_and(|list| list.len() == 2),
        "{dropped}"
    );
    agent.expect(&channel, "note").await?;
    let fence = Fence::conversation(&scene.database, ORGANIZATION).await?;
    ensure!(agent.events_before(&fence, &channel).await?.is_empty());
    Ok(())
}

#[scene_test]
async fn browsers_may_send_any_header_and_read_every_answer(scene: &mut Scene) -> Result<()> {
    let address = scene.relay.address();
    let key = scene.cluster.credentials.api_key.clone();
    let wanted = "authorization,sentry-trace,x-datadog-trace-id,baggage";
    for path in
        [BATCH[0], BATCH[1], "/api/broadcast/a/events/b", "/healthz", "/realtime/v1/websocket", "/nowhere"]
    {
        let asked = [
            ("origin", "https://app.example"),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", wanted),
            ("access-control-request-private-network", "true"),
        ];
        let answer = http::request(&address, "OPTIONS", path, &asked, b"").await?;
        ensure!(answer.status == 204, "{path}: {answer:?}");
        ensure!(answer.header("access-control-allow-headers") == Some(wanted), "{path}: {answer:?}");
        ensure!(answer.header("access-control-allow-origin") == Some("*"), "{path}: {answer:?}");
        ensure!(answer.header("access-control-allow-private-network") == Some("true"), "{path}: {answer:?}");
        ensure!(answer.header("access-control-max-age").is_some(), "{path}: {answer:?}");
        let methods = answer.header("access-control-allow-methods").unwrap_or_default();
        ensure!(methods.contains("POST") && methods.contains("GET"), "{path}: {answer:?}");
        // Credentials would forbid the star.
        ensure!(answer.header("access-control-allow-credentials").is_none(), "{path}: {answer:?}");
    }
    let json = ("content-type", "application/json");
    let keyed = [("apikey", key.as_str()), json];
    for (method, path, headers, body, status) in [
        ("GET", "/nowhere", &[][..], &b""[..], 404),
        ("GET", BATCH[0], &[], b"", 405),
        ("POST", BATCH[0], &[json], b"{}", 401),
        ("POST", BATCH[0], &keyed, b"{", 400),
        ("POST", BATCH[0], &keyed, b"{\"messages\":[]}", 422),
        ("POST", "/api/broadcast/room/events/e", &keyed, b"{}", 403),
        ("POST", "/api/broadcast/room/events/e", &[keyed[0], ("content-type", "text/plain")], b"x", 415),
        ("GET", "/realtime/v1/websocket", &[], b"", 401),
        ("GET", "/healthz", &[], b"", 200),
        ("GET", "/readyz", &[], b"", 200),
    ] {
        let headers = [headers, &[("origin", "https://app.example")]].concat();
        let answer = http::request(&address, method, path, &headers, body).await?;
        ensure!(answer.status == status, "{method} {path}: {answer:?}");
        ensure!(answer.header("access-control-allow-origin") == Some("*"), "{method} {path}: {answer:?}");
        let readable = answer.header("access-control-expose-headers").unwrap_or_default();
        ensure!(readable.contains("x-rate-limit"), "{method} {path}: {answer:?}");
    }
    Ok(())
}

#[scene_test]
async fn policies_are_asked_about_the_channel_that_is_meant(scene: &mut Scene) -> Result<()> {
    let install = "set client_min_messages = warning; select campfire.install_supabase_api();
        create policy readers on realtime.messages for select to authenticated using (true);
        create policy writers on realtime.messages for insert to authenticated
          with check (realtime.topic() in ('room1', 'realtime:room2'))";
    scene.database.batch_execute(install).await?;
    let bearer = format!("Bearer {}", scene.agent());
    let join = async |channel: &str| {
        let mut socket = scene.socket(Vsn::V2).await?;
        let mut config = default_config();
        config["private"] = true.into();
        let reply = socket.try_join(channel, Some(&scene.agent()), config).await?;
        ensure!(reply.is_ok(), "{channel}: {reply:?}");
        anyhow::Ok(socket)
    };
    let send = async |topic: &str| {
        let message = json!({"topic": topic, "event": "e", "payload": {"topic": topic}, "private": true});
        scene.relay.post(BATCH[0], &[("authorization", &bearer)], &json!({"messages": [message]})).await
    };
    // The one is allowed by its bare name, the other is called so in full.
    for (topic, channel) in
        [("room1", "room1"), ("realtime:room1", "room1"), ("realtime:room2", "realtime:room2")]
    {
        let mut socket = join(channel).await?;
        let response = send(topic).await?;
        ensure!(response.status == 202 && response.body.is_empty(), "{topic}: {response:?}");
        let event = socket.expect(channel, "e").await?;
        ensure!(event.payload["topic"] == topic, "{event:?}");
    }
    // As with Supabase a denial is 202 in a batch; here the answer says so.
    let response = send("realtime:room3").await?;
    let dropped = response.json()?["dropped"][0].clone();
    ensure!(response.status == 202 && dropped["topic"] == "room3", "{response:?}");
    Ok(())
}
