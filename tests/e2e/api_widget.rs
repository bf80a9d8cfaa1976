//! The widget's HTTP API: what it answers, and what reaches the sockets of both sides.

use anyhow::{Context, Result, ensure};
use campfire_tests::http::{self, Response};
use campfire_tests::relay::Settings;
use campfire_tests::socket::Vsn;
use campfire_tests::{AGENT, ORGANIZATION, Socket, chat, token};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::scene::{Scene, scene_test};

/// A visitor's conversation, as `POST /api/widget/auth` gave it out.
pub(crate) struct Visit {
    pub(crate) conversation: Uuid,
    pub(crate) token: String,
    pub(crate) answer: Value,
}

impl Visit {
    pub(crate) fn of(response: &Response) -> Result<Self> {
        let answer = response.json()?;
        let text = |name: &str| answer[name].as_str().with_context(|| format!("{name} of {answer}"));
        Ok(Self {
            conversation: text("conversationId")?.parse()?,
            token: text("token")?.to_owned(),
            answer: answer.clone(),
        })
    }
}

/// A request of a widget.
pub(crate) async fn ask(
    scene: &Scene,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: &Value,
) -> Result<Response> {
    let bearer = token.map(|token| format!("Bearer {token}"));
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
    let body = if body.is_null() { String::new() } else { body.to_string() };
    http::request(&scene.relay.address(), method, path, &headers, body.as_bytes()).await
}

pub(crate) async fn auth(scene: &Scene, body: &Value) -> Result<Response> {
    ask(scene, "POST", "/api/widget/auth", None, body).await
}

/// Opens a conversation in the seeded organization.
pub(crate) async fn visit(scene: &Scene) -> Result<Visit> {
    let response = auth(scene, &json!({"organizationId": ORGANIZATION, "name": "Vera Visitor"})).await?;
    ensure!(response.status == 201, "{response:?}");
    Visit::of(&response)
}

pub(crate) fn check_error(response: &Response, status: u16, code: &str) -> Result<()> {
    let body = response.json()?;
    let error = body["error"].as_object().with_context(|| format!("{response:?}"))?;
    ensure!(response.status == status && error["code"] == code, "{status} {code}: {response:?}");
    ensure!(error.keys().eq(["code", "message", "hint"].iter()) || error.len() == 3, "{response:?}");
    ensure!(response.header("access-control-allow-origin") == Some("*"), "{response:?}");
    ensure!(response.header("x-request-id").is_some_and(|id| !id.is_empty()), "{response:?}");
    Ok(())
}

async fn write(scene: &Scene, visit: &Visit, body: &Value) -> Result<Response> {
    ask(scene, "POST", "/api/widget/messages", Some(&visit.token), body).await
}

async fn list(scene: &Scene, visit: &Visit, query: &str) -> Result<Value> {
    let path = format!("/api/widget/messages{query}");
    let response = ask(scene, "GET", &path, Some(&visit.token), &Value::Null).await?;
    ensure!(response.status == 200, "{response:?}");
    response.json()
}

#[scene_test]
async fn a_visitor_opens_a_conversation_and_goes_on_with_it(scene: &mut Scene) -> Result<()> {
    let org = chat::organization_channel(ORGANIZATION);
    let mut dashboard = scene.dashboard(Vsn::V2, &[&org]).await?;
    let context = json!({"page": "https://shop.example/cart"});
    let body = json!({
        "organizationId": ORGANIZATION, "name": " Vera ", "email": "vera@example.com", "context": context
    });
    let response = auth(scene, &body).await?;
    ensure!(response.status == 201, "{response:?}");
    let visit = Visit::of(&response)?;
    let conversation = visit.conversation;
    let channels = json!({
        "conversation": chat::conversation_channel(ORGANIZATION, conversation),
        "widget": chat::widget_channel(ORGANIZATION, conversation),
    });
    ensure!(visit.answer["channels"] == channels, "{:?}", visit.answer);
    ensure!(visit.answer["apiKey"] == scene.cluster.credentials.api_key, "{:?}", visit.answer);
    ensure!(visit.answer["resumed"] == false && visit.answer["verified"] == false, "{:?}", visit.answer);
    let created = dashboard.expect(&org, "conversation:created").await?;
    ensure!(created.payload["id"] == conversation.to_string(), "{created:?}");
    ensure!(created.payload["customer_name"] == "Vera", "{created:?}");
    ensure!(created.payload["customer_email"] == "vera@example.com", "{created:?}");
    let metadata = "select metadata from conversations where id = $1";
    let row = scene.database.query_one(metadata, &[&conversation]).await?;
    ensure!(row.get::<_, Value>(0) == context);

    // The token opens the channels that the answer names, with the key that it names.
    let api_key = visit.answer["apiKey"].as_str().context("a key")?;
    let mut socket = Socket::connect(&scene.relay, api_key, Vsn::V2).await?;
    for channel in ["conversation", "widget"] {
        socket.join(channels[channel].as_str().context("a channel")?, &visit.token).await?;
    }

    let again = json!({"organizationId": ORGANIZATION, "token": visit.token});
    let response = auth(scene, &again).await?;
    let resumed = Visit::of(&response)?;
    ensure!(response.status == 200 && resumed.conversation == conversation, "{response:?}");
    ensure!(resumed.answer["resumed"] == true, "{response:?}");
    Ok(())
}

#[scene_test]
async fn a_message_of_a_visitor_reaches_both_sides_once(scene: &mut Scene) -> Result<()> {
    let visit = visit(scene).await?;
    let conv = chat::conversation_channel(ORGANIZATION, visit.conversation);
    let list_channel = chat::conversations_channel(ORGANIZATION);
    let mut dashboard = scene.dashboard(Vsn::V2, &[&list_channel]).await?;
    let mut widget = scene.socket(Vsn::V2).await?;
    widget.join(&conv, &visit.token).await?;

    let key = Uuid::new_v4();
    let body = json!({"content": "  Hello?\n", "clientKey": key.to_string().to_uppercase()});
    let first = write(scene, &visit, &body).await?;
    ensure!(first.status == 201, "{first:?}");
    let message = first.json()?["message"].clone();
    ensure!(chat::has_columns(&message, &chat::VISITOR_MESSAGE_COLUMNS), "{message}");
    ensure!(message["content"] == "Hello?" && message["sender_type"] == "visitor", "{message}");
    ensure!(message["sender_name"] == "Vera Visitor", "{message}");
    let id = "select campfire.message_id($1, $2)";
    let id: Uuid = scene.database.query_one(id, &[&visit.conversation, &key]).await?.get(0);
    ensure!(message["id"] == id.to_string(), "{message}");

    // Sent again, whatever it says, it is the first.
    for content in ["Hello?", "Something else"] {
        let again = write(scene, &visit, &json!({"content": content, "clientKey": key})).await?;
        ensure!(again.status == 200 && again.json()?["message"] == message, "{again:?}");
    }
    let second = write(scene, &visit, &json!({"content": "second"})).await?;
    ensure!(second.status == 201, "{second:?}");

    // The row as the API told it is the event's payload.
    let event = widget.expect(&conv, "message:created").await?;
    ensure!(event.payload == message, "{event:?}");
    let event = widget.expect(&conv, "message:created").await?;
    ensure!(event.payload == second.json()?["message"], "{event:?}");
    for content in ["Hello?", "second"] {
        let event = dashboard.expect(&list_channel, "message:created").await?;
        ensure!(event.payload["content"] == content, "{event:?}");
    }
    Ok(())
}

#[scene_test]
async fn a_message_sent_many_times_at_once_is_one(scene: &mut Scene) -> Result<()> {
    let visit = visit(scene).await?;
    let body = json!({"content": "once", "clientKey": Uuid::new_v4()});
    let scene = &*scene;
    let responses = futures_util::future::try_join_all((0..12).map(|_| write(scene, &visit, &body))).await?;
    let created = responses.iter().filter(|response| response.status == 201).count();
    let repeated = responses.iter().filter(|response| response.status == 200).count();
    ensure!((created, repeated) == (1, 11), "{responses:?}");
    ensure!(responses.iter().all(|response| response.body == responses[0].body), "{responses:?}");
    let count = "select count(*) from messages where conversation_id = $1";
    let count: i64 = scene.database.query_one(count, &[&visit.conversation]).await?.get(0);
    ensure!(count == 1, "{count}");
    Ok(())
}

#[scene_test]
async fn pages_of_messages_have_each_message_once(scene: &mut Scene) -> Result<()> {
    let visit = visit(scene).await?;
    // Several at one moment, so that only the id tells them apart.
    let insert = "insert into messages (organization_id, conversation_id, content, sender_type, created_at)
                  select $1, $2, n::text, 'agent', timestamptz '2026-01-01' + n / 4 * interval '1 second'
                  from generate_series(1, 23) as n";
    scene.database.execute(insert, &[&ORGANIZATION, &visit.conversation]).await?;
    let mut seen: Vec<Value> = Vec::new();
    let mut query = "?limit=5".to_owned();
    for page_number in 1.. {
        let page = list(scene, &visit, &query).await?;
        ensure!(chat::has_columns(&page["conversation"], &chat::VISITOR_CONVERSATION_COLUMNS), "{page}");
        let messages = page["messages"].as_array().context("messages")?;
        seen.splice(0..0, messages.iter().cloned());
        // What is written meanwhile moves nothing.
        write(scene, &visit, &json!({"content": "later"})).await?;
        match page["cursor"].as_str() {
            Some(cursor) => query = format!("?limit=5&cursor={cursor}"),
            None => {
                ensure!(page_number == 5, "{page_number}");
                break;
            }
        }
    }
    let order = "select jsonb_agg(id order by created_at, id) from messages where sender_type = 'agent'";
    let expected: Value = scene.database.query_one(order, &[]).await?.get(0);
    let seen: Vec<&Value> = seen.iter().map(|message| &message["id"]).collect();
    ensure!(json!(seen) == expected, "{seen:?}");
    for query in ["?limit=0", "?limit=201", "?limit=x", "?cursor=x", "?cursor="] {
        let path = format!("/api/widget/messages{query}");
        let response = ask(scene, "GET", &path, Some(&visit.token), &Value::Null).await?;
        check_error(&response, 422, "invalid")?;
    }
    Ok(())
}

#[scene_test]
async fn a_page_of_long_messages_is_short(scene: &mut Scene) -> Result<()> {
    let visit = visit(scene).await?;
    let insert = "insert into messages (organization_id, conversation_id, content, sender_type, created_at)
                  select $1, $2, repeat('x', n * 60000), 'agent', timestamptz '2026-01-01' - n * interval '1 second'
                  from generate_series(1, 5) as n";
    scene.database.execute(insert, &[&ORGANIZATION, &visit.conversation]).await?;
    let mut lengths = Vec::new();
    let mut query = String::new();
    loop {
        let page = list(scene, &visit, &query).await?;
        let messages = page["messages"].as_array().context("messages")?;
        let length = |message: &Value| message["content"].as_str().map_or(0, str::len) / 60_000;
        lengths.push(messages.iter().map(length).collect::<Vec<_>>());
        let Some(cursor) = page["cursor"].as_str() else { break };
        query = format!("?cursor={cursor}");
    }
    ensure!(lengths == [vec![2, 1], vec![3], vec![4], vec![5]], "{lengths:?}");
    Ok(())
}

#[scene_test]
async fn receipts_go_forward_alone(scene: &mut Scene) -> Result<()> {
    let visit = visit(scene).await?;
    let widget_channel = chat::widget_channel(ORGANIZATION, visit.conversation);
    let mut dashboard = scene.dashboard(Vsn::V2, &[&widget_channel]).await?;
    let mut ids = Vec::new();
    for content in ["1", "2", "3"] {
        let response = write(scene, &visit, &json!({"content": content})).await?;
        ids.push(response.json()?["message"]["id"].clone());
    }
    let read = async |id: &Value| {
        let body = json!({"lastReadMessageId": id});
        ask(scene, "POST", "/api/widget/read", Some(&visit.token), &body).await
    };
    let first = read(&ids[1]).await?;
    ensure!(first.status == 200, "{first:?}");
    let receipt = first.json()?["receipt"].clone();
    let columns = ["conversation_id", "reader_type", "last_read_message_id", "read_at"];
    ensure!(chat::has_columns(&receipt, &columns), "{receipt}");
    ensure!(receipt["last_read_message_id"] == ids[1] && receipt["reader_type"] == "visitor", "{receipt}");
    // An older one, and the same again, change nothing.
    for id in &ids[..2] {
        ensure!(read(id).await?.json()?["receipt"] == receipt);
    }
    let last = read(&ids[2]).await?.json()?["receipt"].clone();
    ensure!(last["last_read_message_id"] == ids[2], "{last}");
    ensure!(list(scene, &visit, "").await?["receipts"] == json!([last]));
    for _ in &ids {
        dashboard.expect(&widget_channel, "message:created").await?;
    }
    // Two changes, two events.
    for expected in [&receipt, &last] {
        let event = dashboard.expect(&widget_channel, "read:receipt").await?;
        ensure!(event.payload == *expected, "{event:?}");
    }
    // Of another conversation, and of none.
    let other = self::visit(scene).await?;
    let foreign = write(scene, &other, &json!({"content": "x"})).await?.json()?["message"]["id"].clone();
    let (foreign, unknown) = (read(&foreign).await?, read(&json!(Uuid::new_v4())).await?);
    check_error(&foreign, 404, "message_not_found")?;
    ensure!(foreign.body == unknown.body, "{foreign:?} {unknown:?}");
    Ok(())
}

/// Whatever is read at once, the receipt ends at the last.
#[scene_test]
async fn receipts_written_at_once_end_at_the_last(scene: &mut Scene) -> Result<()> {
    let visit = visit(scene).await?;
    let mut ids = Vec::new();
    for number in 0..12 {
        let response = write(scene, &visit, &json!({"content": number.to_string()})).await?;
        ids.push(response.json()?["message"]["id"].clone());
    }
    let scene = &*scene;
    let reads = ids.iter().rev().map(async |id| {
        let body = json!({"lastReadMessageId": id});
        ask(scene, "POST", "/api/widget/read", Some(&visit.token), &body).await
    });
    let responses = futures_util::future::try_join_all(reads).await?;
    ensure!(responses.iter().all(|response| response.status == 200), "{responses:?}");
    let receipts = list(scene, &visit, "").await?["receipts"].clone();
    ensure!(receipts[0]["last_read_message_id"] == ids[11], "{receipts}");
    Ok(())
}

#[scene_test]
async fn what_is_not_there_and_what_is_off_look_the_same(scene: &mut Scene) -> Result<()> {
    let (off, _) = chat::found_organization(&scene.database, "Off").await?;
    scene.database.execute("update organizations set widget_enabled = false where id = $1", &[&off]).await?;
    let mut bodies = Vec::new();
    for organization in [off, Uuid::new_v4()] {
        let response = auth(scene, &json!({"organizationId": organization})).await?;
        check_error(&response, 404, "organization_not_found")?;
        bodies.push(response.body);
    }
    ensure!(bodies[0] == bodies[1], "{bodies:?}");

    // A token for a conversation that is gone, one that never was, and one of another organization.
    let (other, _) = chat::found_organization(&scene.database, "Other").await?;
    let theirs = chat::open_conversation(&scene.database, other, "Theirs").await?;
    let gone = visit(scene).await?;
    let delete = "delete from conversations where id = $1";
    scene.database.execute(delete, &[&gone.conversation]).await?;
    let unknown = token::visitor(scene.secret(), ORGANIZATION, Uuid::new_v4());
    let foreign = token::visitor(scene.secret(), ORGANIZATION, theirs);
    let mut bodies = Vec::new();
    for token in [&gone.token, &unknown, &foreign] {
        let message = json!({"content": "x"});
        let receipt = json!({"lastReadMessageId": Uuid::new_v4()});
        let resume = json!({"organizationId": ORGANIZATION, "token": token});
        for response in [
            ask(scene, "GET", "/api/widget/messages", Some(token), &Value::Null).await?,
            ask(scene, "POST", "/api/widget/messages", Some(token), &message).await?,
            ask(scene, "POST", "/api/widget/read", Some(token), &receipt).await?,
            auth(scene, &resume).await?,
        ] {
            check_error(&response, 404, "conversation_not_found")?;
            bodies.push(response.body);
        }
    }
    ensure!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
    Ok(())
}

#[scene_test]
async fn tokens_that_open_nothing_say_why(scene: &mut Scene) -> Result<()> {
    let path = "/api/widget/messages";
    let get = async |token: Option<&str>| ask(scene, "GET", path, token, &Value::Null).await;
    check_error(&get(None).await?, 401, "token_missing")?;
    check_error(&get(Some("a b")).await?, 401, "token_missing")?;
    check_error(&get(Some("garbage")).await?, 401, "token_invalid")?;
    let conversation = scene.conversation().await?;
    let mut claims = token::visitor_claims(ORGANIZATION, conversation);
    claims["exp"] = (token::now() - 1).into();
    check_error(&get(Some(&token::mint(scene.secret(), &claims))).await?, 401, "token_expired")?;
    let forged = token::visitor(&"x".repeat(40), ORGANIZATION, conversation);
    check_error(&get(Some(&forged)).await?, 401, "token_invalid")?;
    check_error(&get(Some(&scene.agent())).await?, 403, "role_not_allowed")?;
    check_error(&get(Some(&token::service(scene.secret()))).await?, 403, "role_not_allowed")?;
    check_error(&get(Some(&scene.cluster.credentials.api_key)).await?, 403, "role_not_allowed")?;
    Ok(())
}

#[scene_test]
async fn a_conversation_is_resumed_by_its_token_alone(scene: &mut Scene) -> Result<()> {
    let visit = visit(scene).await?;
    let resume =
        async |token: &str| auth(scene, &json!({"organizationId": ORGANIZATION, "token": token})).await;
    let claims = |exp: u64| {
        let mut claims = token::visitor_claims(ORGANIZATION, visit.conversation);
        claims["exp"] = exp.into();
        claims
    };
    const DAY: u64 = 86_400;
    let late = token::mint(scene.secret(), &claims(token::now() - 30 * DAY + 60));
    ensure!(resume(&late).await?.status == 200);
    let too_late = token::mint(scene.secret(), &claims(token::now() - 30 * DAY - 1));
    check_error(&resume(&too_late).await?, 401, "token_invalid")?;
    // Forged, of another organization, of an agent, and the id alone.
    let (other, _) = chat::found_organization(&scene.database, "Other").await?;
    let mut agent = token::agent_claims(ORGANIZATION, AGENT);
    agent["conversation_id"] = json!(visit.conversation);
    for token in [
        token::mint(&"x".repeat(40), &claims(token::in_an_hour())),
        token::visitor(scene.secret(), other, visit.conversation),
        token::mint(scene.secret(), &agent),
        visit.conversation.to_string(),
        scene.cluster.credentials.api_key.clone(),
        String::new(),
    ] {
        check_error(&resume(&token).await?, 401, "token_invalid")?;
    }
    Ok(())
}

#[scene_test]
async fn what_cannot_be_a_message_is_refused(scene: &mut Scene) -> Result<()> {
    let visit = visit(scene).await?;
    let longest = "x".repeat(16 << 10);
    for (body, expected) in [
        (json!({"content": longest}), 201),
        (json!({"content": format!("{longest}x")}), 422),
        (json!({"content": " \n "}), 422),
        (json!({"content": "\0 \u{1b}"}), 422),
        (json!({"content": "a\0b"}), 201),
        (json!({"content": 7}), 422),
        (json!({}), 422),
        (json!([]), 422),
        (json!({"content": "x", "clientKey": "x"}), 422),
        (json!({"content": "x".repeat(200_000)}), 413),
    ] {
        let response = write(scene, &visit, &body).await?;
        ensure!(response.status == expected, "{expected}: {response:?}");
        match expected {
            422 => check_error(&response, 422, "invalid")?,
            413 => check_error(&response, 413, "too_large")?,
            _ => {}
        }
    }
    let bearer = format!("Bearer {}", visit.token);
    for body in [&b"{\"content\""[..], b"", b"\xff"] {
        let headers = [("authorization", bearer.as_str())];
        let response =
            http::request(&scene.relay.address(), "POST", "/api/widget/messages", &headers, body).await?;
        check_error(&response, 400, "malformed")?;
    }
    for (name, value) in [("name", json!("x".repeat(256))), ("email", json!(7)), ("context", json!([]))] {
        let mut body = json!({"organizationId": ORGANIZATION});
        body[name] = value;
        check_error(&auth(scene, &body).await?, 422, "invalid")?;
    }
    let nul = json!({"organizationId": ORGANIZATION, "context": {"a": "\0"}});
    ensure!(auth(scene, &nul).await?.status == 201);
    Ok(())
}

#[scene_test]
async fn only_allowed_origins_act_and_all_can_read_why(scene: &mut Scene) -> Result<()> {
    let visit = visit(scene).await?;
    let allow = "update organizations set allowed_origins = $2 where id = $1";
    let origins = vec!["https://shop.example".to_owned()];
    scene.database.execute(allow, &[&ORGANIZATION, &origins]).await?;
    let bearer = format!("Bearer {}", visit.token);
    for (origin, is_allowed) in
        [("https://shop.example", true), ("https://evil.example", false), ("null", false)]
    {
        let headers = [("authorization", bearer.as_str()), ("origin", origin)];
        let resume = json!({"organizationId": ORGANIZATION, "token": visit.token});
        let address = scene.relay.address();
        for (method, path, body) in [
            ("POST", "/api/widget/auth", resume),
            ("GET", "/api/widget/messages", Value::Null),
            ("POST", "/api/widget/messages", json!({"content": "x"})),
            ("POST", "/api/widget/read", json!({"lastReadMessageId": Uuid::nil()})),
            ("POST", "/api/widget/identify", json!({"identity": "x"})),
        ] {
            let body = body.to_string();
            let response = http::request(&address, method, path, &headers, body.as_bytes()).await?;
            if is_allowed {
                ensure!(response.status != 403, "{path}: {response:?}");
            } else {
                check_error(&response, 403, "origin_not_allowed")?;
            }
        }
    }
    // A server says no origin.
    ensure!(write(scene, &visit, &json!({"content": "x"})).await?.status == 201);
    Ok(())
}

fn behind_a_proxy(settings: Settings) -> Settings {
    settings
        .env("CAMPFIRE_TRUSTED_PROXIES", "1")
        .env("CAMPFIRE_API_AUTHS_PER_IP_PER_SECOND", "1")
        .env("CAMPFIRE_API_REQUESTS_PER_IP_PER_SECOND", "3")
        .env("CAMPFIRE_API_REQUESTS_PER_SECOND", "1")
}

#[scene_test(behind_a_proxy)]
async fn who_asks_too_often_is_told_to_wait(scene: &mut Scene) -> Result<()> {
    let conversation = scene.conversation().await?;
    let bearer = format!("Bearer {}", scene.visitor(conversation));
    let count = async |address: &str, method: &str, path: &str| {
        let body = json!({"organizationId": Uuid::nil()}).to_string();
        let headers = [("x-forwarded-for", address), ("authorization", bearer.as_str())];
        for served in 0..100 {
            let response =
                http::request(&scene.relay.address(), method, path, &headers, body.as_bytes()).await?;
            if response.status == 429 {
                check_error(&response, 429, "rate_limited")?;
                ensure!(response.header("retry-after") == Some("1"), "{response:?}");
                return anyhow::Ok(served);
            }
        }
        Ok(100)
    };
    // More if the test is slow: a second gives one back.
    let auths = count("203.0.113.1", "POST", "/api/widget/auth").await?;
    ensure!((10..30).contains(&auths), "{auths}");
    let with_a_token = count("203.0.113.2", "GET", "/api/widget/messages").await?;
    ensure!((10..30).contains(&with_a_token), "{with_a_token}");
    // The token has no more from elsewhere; another address still has its own.
    let elsewhere = count("203.0.113.3", "GET", "/api/widget/messages").await?;
    ensure!(elsewhere < 10, "{elsewhere}");
    let another = count("203.0.113.4", "POST", "/api/widget/auth").await?;
    ensure!((10..30).contains(&another), "{another}");
    Ok(())
}

#[scene_test]
async fn answers_name_their_request_and_paths_that_are_none_are_told(scene: &mut Scene) -> Result<()> {
    let address = scene.relay.address();
    let headers = [("x-request-id", "my-request.7")];
    let response = http::request(&address, "GET", "/api/widget/messages", &headers, b"").await?;
    ensure!(response.header("x-request-id") == Some("my-request.7"), "{response:?}");
    check_error(&scene.relay.get("/api/widget/nothing").await?, 404, "route_not_found")?;
    check_error(&scene.relay.get("/api/dashboard/nothing/at/all").await?, 404, "route_not_found")?;
    let response = ask(scene, "DELETE", "/api/widget/messages", None, &Value::Null).await?;
    check_error(&response, 405, "method_not_allowed")?;
    ensure!(response.header("allow").is_some_and(|allow| allow.contains("POST")), "{response:?}");
    let headers = [("origin", "https://shop.example"), ("access-control-request-method", "PATCH")];
    let response = http::request(&address, "OPTIONS", "/api/dashboard/x", &headers, b"").await?;
    let methods = response.header("access-control-allow-methods").context("methods")?;
    ensure!(response.status == 204 && methods.contains("PATCH"), "{response:?}");
    Ok(())
}

#[scene_test]
async fn the_document_describes_every_route(scene: &mut Scene) -> Result<()> {
    let response = scene.relay.get("/openapi.json").await?;
    ensure!(response.status == 200, "{response:?}");
    let document = response.json()?;
    ensure!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")), "{document}");
    for (path, method) in [
        ("/api/widget/auth", "post"),
        ("/api/widget/identify", "post"),
        ("/api/widget/messages", "get"),
        ("/api/widget/messages", "post"),
        ("/api/widget/read", "post"),
    ] {
        let operation = &document["paths"][path][method];
        let default = &operation["responses"]["default"]["$ref"];
        ensure!(default == "#/components/responses/Error", "{path}: {operation}");
    }
    ensure!(document["components"]["schemas"]["Error"]["properties"]["error"].is_object(), "{document}");
    Ok(())
}

fn off(settings: Settings) -> Settings {
    settings.env("CAMPFIRE_API", "off")
}

#[scene_test(off)]
async fn an_api_that_is_off_is_not_there(scene: &mut Scene) -> Result<()> {
    for path in ["/api/widget/messages", "/openapi.json"] {
        ensure!(scene.relay.get(path).await?.status == 404);
    }
    Ok(())
}

fn published_keys_alone(settings: Settings) -> Settings {
    settings
        .without("CAMPFIRE_JWT_SECRET")
        .env("CAMPFIRE_JWKS", "http://127.0.0.1:9/keys")
        .env("CAMPFIRE_SIGNING_KEY", &"s".repeat(32))
}

#[scene_test(published_keys_alone)]
async fn where_there_is_no_secret_visitors_have_tokens_of_the_signing_key(scene: &mut Scene) -> Result<()> {
    scene.relay.expect_log("cannot fetch the published keys yet");
    let visit = visit(scene).await?;
    ensure!(write(scene, &visit, &json!({"content": "x"})).await?.status == 201);
    let mut socket = scene.socket(Vsn::V2).await?;
    socket.join(&chat::conversation_channel(ORGANIZATION, visit.conversation), &visit.token).await?;
    let forged = token::visitor(scene.secret(), ORGANIZATION, visit.conversation);
    let response = ask(scene, "GET", "/api/widget/messages", Some(&forged), &Value::Null).await?;
    check_error(&response, 401, "token_invalid")?;
    Ok(())
}

fn without_a_key(settings: Settings) -> Settings {
    settings.without("CAMPFIRE_API_KEYS")
}

#[scene_test(without_a_key)]
async fn without_keys_for_visitors_nothing_is_written(scene: &mut Scene) -> Result<()> {
    let response = auth(scene, &json!({"organizationId": ORGANIZATION})).await?;
    check_error(&response, 503, "not_configured")?;
    let count: i64 = scene.database.query_one("select count(*) from conversations", &[]).await?.get(0);
    ensure!(count == 0);
    Ok(())
}

fn hurried(settings: Settings) -> Settings {
    settings.env("CAMPFIRE_API_SECONDS", "1").env("CAMPFIRE_API_SESSIONS", "2")
}

#[scene_test(hurried)]
async fn a_database_that_takes_long_is_not_waited_for(scene: &mut Scene) -> Result<()> {
    let visit = visit(scene).await?;
    let body = json!({"content": "x", "clientKey": Uuid::new_v4()});
    let mut other = scene.cluster.connect().await?;
    let lock = other.transaction().await?;
    lock.batch_execute("lock table messages in access exclusive mode").await?;
    let scene = &*scene;
    let writes = (0..6).map(|_| write(scene, &visit, &body));
    for response in futures_util::future::try_join_all(writes).await? {
        check_error(&response, 503, "overloaded")?;
        ensure!(response.header("retry-after") == Some("1"), "{response:?}");
    }
    lock.rollback().await?;
    // All sessions can be used again.
    for _ in 0..4 {
        let response = write(scene, &visit, &body).await?;
        ensure!(matches!(response.status, 200 | 201), "{response:?}");
    }
    Ok(())
}

fn elsewhere(settings: Settings) -> Settings {
    settings.env("CAMPFIRE_API_SCHEMA", "Chat \"2\"")
}

#[scene_test(elsewhere)]
async fn the_api_serves_the_schema_that_is_set(scene: &mut Scene) -> Result<()> {
    let body = json!({"organizationId": ORGANIZATION});
    check_error(&auth(scene, &body).await?, 503, "not_installed")?;
    scene
        .database
        .batch_execute("create schema \"Chat \"\"2\"\"\"; select campfire.install('Chat \"2\"')")
        .await?;
    let insert = "insert into \"Chat \"\"2\"\"\".organizations (id, name) values ($1, 'There')";
    scene.database.execute(insert, &[&ORGANIZATION]).await?;
    let response = auth(scene, &body).await?;
    ensure!(response.status == 201, "{response:?}");
    let visit = Visit::of(&response)?;
    ensure!(write(scene, &visit, &json!({"content": "x"})).await?.status == 201);
    let count = "select count(*) from \"Chat \"\"2\"\"\".messages";
    ensure!(scene.database.query_one(count, &[]).await?.get::<_, i64>(0) == 1);
    Ok(())
}

#[scene_test]
async fn without_postgres_it_is_told_and_with_it_all_goes_on(scene: &mut Scene) -> Result<()> {
    let visit = visit(scene).await?;
    scene.cluster.stop("immediate")?;
    let body = json!({"content": "x", "clientKey": Uuid::new_v4()});
    let response = write(scene, &visit, &body).await?;
    check_error(&response, 503, "unavailable")?;
    ensure!(response.header("retry-after") == Some("1"), "{response:?}");
    scene.relay.expect_log("not attached to the slot");
    scene.cluster.start()?;
    scene.relay.wait_until_ready().await?;
    let response = write(scene, &visit, &body).await?;
    ensure!(response.status == 201, "{response:?}");
    Ok(())
}
