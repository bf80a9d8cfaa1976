//! The HTTP API of the dashboard. Each scene is a cluster and a relay of its own, so one test asks much.

use std::collections::HashSet;

use anyhow::{Context, Result, ensure};
use campfire_tests::fence::Fence;
use campfire_tests::http::{self, Response};
use campfire_tests::socket::Vsn;
use campfire_tests::{AGENT, ORGANIZATION, chat, token};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::scene::{Scene, scene_test};

const LIST: &str = "/api/dashboard/conversations";
const UNREAD: &str = "/api/dashboard/unread";

/// Who asks.
struct Caller<'a> {
    scene: &'a Scene,
    bearer: String,
}

impl<'a> Caller<'a> {
    fn of(scene: &'a Scene, token: &str) -> Self {
        Self { scene, bearer: format!("Bearer {token}") }
    }

    fn agent(scene: &'a Scene) -> Self {
        Self::of(scene, &scene.agent())
    }

    async fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Response> {
        let headers = [("authorization", self.bearer.as_str()), ("content-type", "application/json")];
        let body = body.map(Value::to_string).unwrap_or_default();
        http::request(&self.scene.relay.address(), method, path, &headers, body.as_bytes()).await
    }

    /// Asks for what there has to be.
    async fn get(&self, path: &str) -> Result<Value> {
        let response = self.ask("GET", path, None).await?;
        ensure!(response.status == 200, "{path}: {response:?}");
        response.json()
    }

    async fn write(&self, method: &str, path: &str, body: Value, status: u16) -> Result<Value> {
        let response = self.ask(method, path, Some(&body)).await?;
        ensure!(response.status == status, "{method} {path} {body}: {response:?}");
        response.json()
    }

    async fn refused(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
        status: u16,
        code: &str,
    ) -> Result<()> {
        let response = self.ask(method, path, body.as_ref()).await?;
        ensure!(response.status == status, "{method} {path} {body:?}: {response:?}");
        let error = &response.json()?["error"];
        ensure!(error["code"] == code && error["message"].is_string(), "{method} {path}: {error}");
        ensure!(response.header("x-request-id").is_some(), "{response:?}");
        Ok(())
    }
}

fn of(conversation: Uuid) -> String {
    format!("{LIST}/{conversation}")
}

fn names(list: &Value) -> Vec<&str> {
    let rows = list["conversations"].as_array().map(Vec::as_slice).unwrap_or_default();
    rows.iter().filter_map(|row| row["customer_name"].as_str()).collect()
}

/// A message that somebody else has written; its id.
async fn message(scene: &Scene, conversation: Uuid, sender: &str, content: &str) -> Result<Uuid> {
    let insert = "insert into messages (organization_id, conversation_id, content, sender_type, created_at)
                  select organization_id, id, $2, $3, clock_timestamp() from conversations where id = $1 returning id";
    Ok(scene.database.query_one(insert, &[&conversation, &content, &sender]).await?.get(0))
}

#[scene_test]
async fn me_says_what_a_dashboard_has_to_know_and_only_to_staff(scene: &mut Scene) -> Result<()> {
    let retired = Uuid::new_v4();
    let insert =
        "insert into agents (organization_id, user_id, display_name, active) values ($1, $2, 'Zoe', false)";
    scene.database.execute(insert, &[&ORGANIZATION, &retired]).await?;
    let secret = scene.secret();
    let path = "/api/dashboard/me";

    let me = Caller::agent(scene).get(path).await?;
    let expected = json!({
        "organization": {"id": ORGANIZATION, "name": "Acme"},
        "agent": {"user_id": AGENT, "display_name": "Ada", "email": "ada@example.com"},
        "agents": [
            {"user_id": AGENT, "display_name": "Ada", "active": true},
            {"user_id": retired, "display_name": "Zoe", "active": false},
        ],
        "apiKey": scene.cluster.credentials.api_key,
        "channels": {
            "organization": chat::organization_channel(ORGANIZATION),
            "conversations": chat::conversations_channel(ORGANIZATION),
        },
    });
    ensure!(me == expected, "{me:#}");

    // The application's own server says which organization it means.
    let service = Caller::of(scene, &token::service(secret));
    service.refused("GET", path, None, 422, "invalid").await?;
    let unknown = format!("{path}?organization={}", Uuid::new_v4());
    service.refused("GET", &unknown, None, 404, "organization_not_found").await?;
    service.refused("GET", &format!("{path}?organization=x"), None, 422, "invalid").await?;
    let mut expected = expected;
    expected["agent"] = Value::Null;
    ensure!(service.get(&format!("{path}?organization={ORGANIZATION}")).await? == expected);
    let claims = json!({"role": "service_role", "org_id": ORGANIZATION, "exp": token::in_an_hour()});
    let bound = Caller::of(scene, &token::mint(secret, &claims));
    ensure!(bound.get(path).await? == expected);
    // A token that is bound to one stays there.
    ensure!(bound.get(&unknown).await? == expected);

    let visitor = scene.visitor(Uuid::new_v4());
    let mut stale = token::agent_claims(ORGANIZATION, AGENT);
    stale["exp"] = json!(token::now() - 10);
    let mut nobody = token::agent_claims(ORGANIZATION, AGENT);
    nobody["sub"] = json!("ada");
    for (token, status, code) in [
        (visitor, 403, "role_not_allowed"),
        (scene.cluster.credentials.api_key.clone(), 403, "role_not_allowed"),
        (token::mint(secret, &nobody), 403, "role_not_allowed"),
        (token::agent(secret, ORGANIZATION, retired), 403, "agent_inactive"),
        (token::agent(secret, ORGANIZATION, Uuid::new_v4()), 403, "agent_inactive"),
        (token::agent(secret, Uuid::new_v4(), AGENT), 403, "agent_inactive"),
        (token::mint(secret, &stale), 401, "token_expired"),
        (
            token::agent("another secret of thirty-two bytes or more", ORGANIZATION, AGENT),
            401,
            "token_invalid",
        ),
        ("nonsense".to_owned(), 401, "token_invalid"),
    ] {
        for path in [path, LIST] {
            Caller::of(scene, &token).refused("GET", path, None, status, code).await?;
        }
    }
    let response = scene.relay.get(path).await?;
    ensure!(response.status == 401 && response.json()?["error"]["code"] == "token_missing", "{response:?}");

    // Who is an agent is asked anew each time.
    scene.database.execute("update agents set active = false where user_id = $1", &[&AGENT]).await?;
    Caller::agent(scene).refused("GET", LIST, None, 403, "agent_inactive").await
}

#[scene_test]
async fn unread_is_exact_across_reads_devices_and_agents(scene: &mut Scene) -> Result<()> {
    let grace = Uuid::new_v4();
    let insert = "insert into agents (organization_id, user_id, display_name) values ($1, $2, 'Grace')";
    scene.database.execute(insert, &[&ORGANIZATION, &grace]).await?;
    let conversation = scene.conversation().await?;
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    let mut socket = scene.dashboard(Vsn::V2, &[&conv]).await?;
    let (phone, laptop) = (Caller::agent(scene), Caller::agent(scene));
    let other = Caller::of(scene, &token::agent(scene.secret(), ORGANIZATION, grace));
    let service = Caller::of(scene, &token::service(scene.secret()));
    let unread = async |caller: &Caller<'_>| -> Result<Value> {
        let list = caller.get(&format!("{LIST}?organization={ORGANIZATION}")).await?;
        let row = list["conversations"][0].clone();
        ensure!(row["id"] == json!(conversation), "{list}");
        let path = format!("{}?organization={ORGANIZATION}", of(conversation));
        ensure!(caller.get(&path).await?["conversation"] == row, "one is as the list shows it");
        let path = format!("{UNREAD}?organization={ORGANIZATION}&conversations={conversation}");
        let counted = caller.get(&path).await?["conversations"][0].clone();
        ensure!(
            counted["conversation_id"] == row["id"] && counted["unread"] == row["unread"],
            "{counted} {row}"
        );
        Ok(row["unread"].clone())
    };
    ensure!(unread(&phone).await? == 0);

    let mut ids = Vec::new();
    for (sender, content) in
        [("visitor", "one"), ("ai", "two"), ("agent", "three"), ("system", "four"), ("visitor", "five")]
    {
        ids.push(message(scene, conversation, sender, content).await?);
    }
    // Those of agents and of the system are not for agents to read.
    for caller in [&phone, &laptop, &other, &service] {
        ensure!(unread(caller).await? == 3);
    }
    let path = format!("{}/read", of(conversation));
    let read = async |caller: &Caller<'_>, message: Uuid| -> Result<Value> {
        let body = json!({"lastReadMessageId": message});
        Ok(caller.write("POST", &path, body, 200).await?["receipt"].clone())
    };
    let receipt = read(&phone, ids[1]).await?;
    ensure!(
        receipt["last_read_message_id"] == json!(ids[1]) && receipt["reader_id"] == json!(AGENT),
        "{receipt}"
    );
    ensure!(unread(&laptop).await? == 1 && unread(&other).await? == 3);
    let later = read(&laptop, ids[3]).await?;
    ensure!(
        later["last_read_message_id"] == json!(ids[3])
            && later["read_at"].as_str() > receipt["read_at"].as_str()
    );
    // Another device learns how far that was, without what others have read.
    let own = async |caller: &Caller<'_>| -> Result<Value> {
        Ok(caller.get(&format!("{UNREAD}?conversations={conversation}")).await?["conversations"].clone())
    };
    let expected = |unread: u32, receipt: &Value| {
        let (message, at) = (&receipt["last_read_message_id"], &receipt["read_at"]);
        let row = json!({"conversation_id": conversation, "unread": unread, "last_read_message_id": message, "read_at": at});
        json!([row])
    };
    ensure!(own(&phone).await? == expected(1, &later), "{}", own(&phone).await?);
    ensure!(own(&other).await? == expected(3, &Value::Null), "{}", own(&other).await?);
    // The device that has read less changes nothing, and the same again neither.
    ensure!(read(&phone, ids[0]).await? == later && read(&phone, ids[3]).await? == later);
    ensure!(unread(&phone).await? == 1);
    ensure!(read(&other, ids[4]).await?["reader_id"] == json!(grace));
    ensure!(unread(&phone).await? == 1 && unread(&other).await? == 0 && unread(&service).await? == 3);
    read(&phone, ids[4]).await?;
    ensure!(unread(&laptop).await? == 0);
    // A message that is gone leaves the reader where it stood.
    scene.database.execute("delete from messages where id = $1", &[&ids[4]]).await?;
    ensure!(unread(&laptop).await? == 0);
    message(scene, conversation, "visitor", "six").await?;
    ensure!(unread(&laptop).await? == 1 && unread(&other).await? == 1);

    // All of it was told by the log, as often as something changed.
    let fence = Fence::message(&scene.database, ORGANIZATION, conversation).await?;
    let events = socket.events_before(&fence, &conv).await?;
    let told = events.iter().filter(|event| event.name == "read:receipt");
    let told: Vec<&Value> = told.map(|event| &event.payload["last_read_message_id"]).collect();
    ensure!(told == [&json!(ids[1]), &json!(ids[3]), &json!(ids[4]), &json!(ids[4])], "{told:?}");
    let receipts = laptop.get(&format!("{}/messages", of(conversation))).await?["receipts"].clone();
    let readers: Vec<&Value> =
        receipts.as_array().context("a list")?.iter().map(|row| &row["reader_id"]).collect();
    ensure!(readers == [&json!(AGENT), &json!(grace)], "{receipts}");

    let second = scene.conversation().await?;
    let elsewhere = message(scene, second, "visitor", "elsewhere").await?;
    let (theirs, _) = chat::found_organization(&scene.database, "Other").await?;
    let foreign = chat::open_conversation(&scene.database, theirs, "Not Ours").await?;
    let several = format!("{UNREAD}?conversations={foreign},{conversation},{},{second}", Uuid::new_v4());
    let counted = phone.get(&several).await?;
    let rows = counted["conversations"].as_array().context("a list")?;
    let found: HashSet<&str> = rows.iter().filter_map(|row| row["conversation_id"].as_str()).collect();
    let known = [conversation.to_string(), second.to_string()];
    ensure!(found == known.iter().map(String::as_str).collect::<HashSet<_>>(), "{counted}");
    for wrong in ["", "?conversations=", "?conversations=x"] {
        phone.refused("GET", &format!("{UNREAD}{wrong}"), None, 422, "invalid").await?;
    }
    let many = vec![Uuid::new_v4().to_string(); 201].join(",");
    phone.refused("GET", &format!("{UNREAD}?conversations={many}"), None, 422, "invalid").await?;
    for unknown in [elsewhere, Uuid::new_v4()] {
        let body = json!({"lastReadMessageId": unknown});
        phone.refused("POST", &path, Some(body), 404, "message_not_found").await?;
    }
    let body = Some(json!({"lastReadMessageId": ids[0]}));
    let service_path = format!("{path}?organization={ORGANIZATION}");
    service.refused("POST", &service_path, body, 403, "agent_required").await?;
    phone.refused("POST", &path, Some(json!({"lastReadMessageId": "x"})), 422, "invalid").await?;
    phone.refused("POST", &path, Some(json!({})), 422, "invalid").await
}

#[scene_test]
async fn a_list_shows_each_conversation_once_though_they_move(scene: &mut Scene) -> Result<()> {
    const COUNT: usize = 23;
    // Some of them at the same time, so that the id decides.
    let insert = "insert into conversations (organization_id, customer_name, created_at, updated_at)
                  select $1, 'visitor ' || n, '2020-01-01', '2020-01-01'::timestamptz + n / 5 * interval '1 microsecond'
                  from generate_series(1, 23) as n returning id";
    scene.database.query(insert, &[&ORGANIZATION]).await?;
    let org = chat::organization_channel(ORGANIZATION);
    scene.settle().await?;
    let mut socket = scene.dashboard(Vsn::V2, &[&org]).await?;
    let caller = Caller::agent(scene);
    let delete = "delete from conversations where customer_name like '%fence%' or customer_name is null";
    scene.database.execute(delete, &[]).await?;

    let whole = caller.get(&format!("{LIST}?limit=200")).await?;
    ensure!(whole["cursor"].is_null() && names(&whole).len() == COUNT, "{whole:#}");
    let rows = whole["conversations"].as_array().context("a list")?;
    let place = |row: &Value| (std::cmp::Reverse(row["updated_at"].to_string()), row["id"].to_string());
    ensure!(rows.is_sorted_by_key(place), "{whole:#}");
    let row = &rows[0];
    ensure!(row["last_message"].is_null() && row["verified"] == false && row["status"] == "open", "{row}");

    let (mut seen, mut cursor) = (Vec::new(), String::new());
    let mut moved = None;
    loop {
        let page = caller.get(&format!("{LIST}?limit=5{cursor}")).await?;
        seen.extend(names(&page).into_iter().map(str::to_owned));
        match page["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
        if moved.is_none() {
            // One that was on this page, and one that would have been on a later one.
            let (early, late) = (&rows[1], &rows[20]);
            for row in [early, late] {
                let id: Uuid = row["id"].as_str().context("an id")?.parse()?;
                message(scene, id, "visitor", "moves").await?;
            }
            moved = Some(late["customer_name"].as_str().context("a name")?.to_owned());
        }
    }
    let moved = moved.context("there were pages")?;
    let once: HashSet<&String> = seen.iter().collect();
    ensure!(once.len() == seen.len() && seen.len() == COUNT - 1 && !seen.contains(&moved), "{seen:?}");
    // That one was told of.
    let fence = Fence::conversation(&scene.database, ORGANIZATION).await?;
    let events = socket.events_before(&fence, &org).await?;
    let told = |event: &&campfire_tests::socket::Event| {
        event.name == "conversation:updated" && event.payload["customer_name"] == *moved
    };
    ensure!(events.iter().filter(told).count() == 1, "{events:#?}");

    for query in ["limit=0", "limit=201", "limit=x", "limit=-1", "cursor=x", "cursor=", "cursor=%00"] {
        caller.refused("GET", &format!("{LIST}?{query}"), None, 422, "invalid").await?;
    }
    Ok(())
}

#[scene_test]
async fn filters_and_search_find_what_they_say_and_nothing_else(scene: &mut Scene) -> Result<()> {
    let insert = "insert into conversations (organization_id, customer_name, customer_email, status, priority, assignee_id)
                  values ($1, '100% Ada', 'ada@example.com', 'open', 'high', $2),
                         ('00000000-0000-4000-8000-0000000000a0', '100 Ben', 'ben_b@example.com', 'open', 'low', null),
                         ($1, 'a\\b', 'BENxB@example.org', 'pending', 'high', $2),
                         ($1, 'Zoë O''Hara', null, 'closed', 'urgent', null)";
    scene.database.execute(insert, &[&ORGANIZATION, &AGENT]).await?;
    let (foreign, _) = chat::found_organization(&scene.database, "Other").await?;
    chat::open_conversation(&scene.database, foreign, "100% foreign").await?;
    let caller = Caller::agent(scene);
    for (query, expected) in [
        ("", vec!["100 Ben", "100% Ada", "Zoë O'Hara", "a\\b"]),
        ("status=open", vec!["100 Ben", "100% Ada"]),
        ("status=resolved", vec![]),
        ("priority=high", vec!["100% Ada", "a\\b"]),
        ("status=pending&priority=high", vec!["a\\b"]),
        ("assignee=me", vec!["100% Ada", "a\\b"]),
        ("assignee=00000000-0000-4000-8000-000000000001&status=open", vec!["100% Ada"]),
        ("assignee=none", vec!["100 Ben", "Zoë O'Hara"]),
        ("assignee=00000000-0000-4000-8000-000000000009", vec![]),
        ("search=100", vec!["100 Ben", "100% Ada"]),
        ("search=100%25", vec!["100% Ada"]),
        ("search=%25", vec!["100% Ada"]),
        ("search=n_b", vec!["100 Ben"]),
        ("search=_", vec!["100 Ben"]),
        ("search=%5C", vec!["a\\b"]),
        ("search=bEN", vec!["100 Ben", "a\\b"]),
        ("search=%20zo%C3%AB%20o%27h%20", vec!["Zoë O'Hara"]),
        ("search=EXAMPLE.COM&assignee=me", vec!["100% Ada"]),
        ("search=", vec!["100 Ben", "100% Ada", "Zoë O'Hara", "a\\b"]),
        ("search=foreign", vec![]),
    ] {
        let list = caller.get(&format!("{LIST}?{query}")).await?;
        let mut found = names(&list);
        found.sort_unstable();
        ensure!(found == expected, "{query}: {found:?}");
    }
    for query in ["status=gone", "status=", "priority=1", "assignee=you", "assignee=", "search=%FF"] {
        let path = format!("{LIST}?{query}");
        let response = caller.ask("GET", &path, None).await?;
        // Bytes that are no text are replaced by those who read the address.
        let is_refused = response.status == 422 && response.json()?["error"]["code"] == "invalid";
        ensure!(is_refused || query == "search=%FF" && response.status == 200, "{query}: {response:?}");
    }
    let long = format!("{LIST}?search={}", "x".repeat(256));
    caller.refused("GET", &long, None, 422, "invalid").await?;
    let service = Caller::of(scene, &token::service(scene.secret()));
    let mine = format!("{LIST}?organization={ORGANIZATION}&assignee=me");
    service.refused("GET", &mine, None, 422, "invalid").await?;
    let list = service.get(&format!("{LIST}?organization={foreign}")).await?;
    ensure!(names(&list) == ["100% foreign"], "{list}");
    Ok(())
}

#[scene_test]
async fn changes_are_checked_told_once_and_nothing_if_nothing_changes(scene: &mut Scene) -> Result<()> {
    let retired = Uuid::new_v4();
    let insert =
        "insert into agents (organization_id, user_id, display_name, active) values ($1, $2, 'Zoe', false)";
    scene.database.execute(insert, &[&ORGANIZATION, &retired]).await?;
    let (_, stranger) = chat::found_organization(&scene.database, "Other").await?;
    let conversation = scene.conversation().await?;
    let list = chat::conversations_channel(ORGANIZATION);
    let mut socket = scene.dashboard(Vsn::V2, &[&list]).await?;
    let (caller, path) = (Caller::agent(scene), of(conversation));
    let mirror = |row: &Value| {
        let mut row = row.clone();
        for name in ["unread", "verified", "last_message"] {
            row.as_object_mut().and_then(|row| row.remove(name));
        }
        row
    };
    let before = caller.get(&path).await?["conversation"].clone();

    let body = json!({"status": "pending", "priority": "urgent", "assignee_id": AGENT,
        "customer_name": " Vera ", "customer_email": "vera@example.com"});
    let changed = caller.write("PATCH", &path, body.clone(), 200).await?["conversation"].clone();
    for (name, value) in [
        ("status", "pending"),
        ("priority", "urgent"),
        ("customer_name", "Vera"),
        ("customer_email", "vera@example.com"),
    ] {
        ensure!(changed[name] == value, "{changed}");
    }
    ensure!(
        changed["assignee_id"] == json!(AGENT)
            && changed["updated_at"].as_str() > before["updated_at"].as_str()
    );
    // An event says the same as the answer, so that neither has to be translated into the other.
    let event = socket.expect(&list, "conversation:updated").await?;
    ensure!(event.payload == mirror(&changed), "{event:?} {changed}");
    ensure!(caller.get(&path).await?["conversation"] == changed);

    // The same again, and nothing at all.
    for body in [body, json!({}), json!({"status": null})] {
        ensure!(caller.write("PATCH", &path, body, 200).await?["conversation"] == changed);
    }
    let body = json!({"assignee_id": null, "customer_email": null, "customer_name": "  "});
    let cleared = caller.write("PATCH", &path, body, 200).await?["conversation"].clone();
    ensure!(cleared["assignee_id"].is_null() && cleared["customer_name"].is_null(), "{cleared}");
    let event = socket.expect(&list, "conversation:updated").await?;
    ensure!(event.payload == mirror(&cleared), "{event:?}");

    for user in [stranger, retired, Uuid::new_v4()] {
        let body = json!({"assignee_id": user, "status": "closed"});
        let response = caller.ask("PATCH", &path, Some(&body)).await?;
        let error = response.json()?["error"].clone();
        ensure!(response.status == 422 && error["code"] == "assignee_invalid", "{response:?}");
        ensure!(error["hint"].as_str().is_some_and(|hint| hint.contains("/api/dashboard/me")), "{error}");
    }
    for body in [
        json!({"status": "gone"}),
        json!({"priority": 1}),
        json!({"assignee_id": "ada"}),
        json!({"assigneeId": AGENT}),
        json!({"organization_id": ORGANIZATION}),
        json!({"customer_name": "x".repeat(256)}),
        json!([]),
        json!([null, null]),
        json!("x"),
    ] {
        caller.refused("PATCH", &path, Some(body), 422, "invalid").await?;
    }
    let headers = [("authorization", caller.bearer.as_str())];
    let response = http::request(&scene.relay.address(), "PATCH", &path, &headers, b"{\"status\"").await?;
    ensure!(response.status == 400 && response.json()?["error"]["code"] == "malformed", "{response:?}");
    caller.refused("DELETE", &path, None, 405, "method_not_allowed").await?;
    ensure!(caller.get(&path).await?["conversation"] == cleared);
    // Nothing of that was an event.
    let fence = Fence::conversation(&scene.database, ORGANIZATION).await?;
    let events = socket.events_before(&fence, &list).await?;
    ensure!(events.is_empty(), "{events:#?}");

    // The server hands over; a trigger of the application is told as what it is.
    let service = Caller::of(scene, &token::service(scene.secret()));
    let for_service = format!("{path}?organization={ORGANIZATION}");
    service.write("PATCH", &for_service, json!({"assignee_id": AGENT}), 200).await?;
    let trigger = "create function refuse() returns trigger language plpgsql as
                     $$begin raise exception 'our own reason'; end$$;
                   create trigger refuse before update of priority on conversations
                   for each row execute function refuse()";
    scene.database.batch_execute(trigger).await?;
    let response = caller.ask("PATCH", &path, Some(&json!({"priority": "low"}))).await?;
    ensure!(response.status == 422 && response.json()?["error"]["code"] == "refused", "{response:?}");
    ensure!(!response.body.contains("our own"), "{response:?}");
    Ok(())
}

#[scene_test]
async fn messages_are_read_in_pages_and_written_once_a_key(scene: &mut Scene) -> Result<()> {
    let conversation = scene.conversation().await?;
    let insert = "insert into messages (organization_id, conversation_id, content, sender_type, created_at)
                  select $1, $2, 'message ' || n, 'visitor', '2020-01-01'::timestamptz + n / 3 * interval '1 microsecond'
                  from generate_series(1, 10) as n";
    scene.database.execute(insert, &[&ORGANIZATION, &conversation]).await?;
    scene.settle().await?;
    let list = chat::conversations_channel(ORGANIZATION);
    let widget_channel = chat::widget_channel(ORGANIZATION, conversation);
    let mut socket = scene.dashboard(Vsn::V2, &[&list]).await?;
    let mut widget = scene.widget(Vsn::V2, conversation).await?;
    let (caller, path) = (Caller::agent(scene), format!("{}/messages", of(conversation)));

    let whole = caller.get(&path).await?;
    let whole = whole["messages"].as_array().context("a list")?;
    let mut pages: Vec<Vec<Value>> = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = caller.get(&format!("{path}?limit=4{cursor}")).await?;
        pages.push(page["messages"].as_array().context("a list")?.clone());
        match page["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
        // What comes meanwhile is on no older page.
        if pages.len() == 1 {
            message(scene, conversation, "visitor", "new").await?;
            socket.expect(&list, "message:created").await?;
            widget.expect(&widget_channel, "message:created").await?;
        }
    }
    ensure!(pages.iter().map(Vec::len).collect::<Vec<_>>() == [4, 4, 2], "{pages:#?}");
    ensure!(pages.into_iter().rev().flatten().collect::<Vec<_>>() == *whole);
    let row = &whole[0];
    ensure!(chat::has_columns(row, &chat::MESSAGE_COLUMNS), "{row}");

    let key = Uuid::new_v4();
    let body = json!({"content": " Hello 👋 \n", "clientKey": key});
    let written = caller.write("POST", &path, body, 201).await?["message"].clone();
    ensure!(written["content"] == "Hello 👋" && written["sender_type"] == "agent", "{written}");
    ensure!(written["sender_name"] == "Ada" && written["sender_email"] == "ada@example.com", "{written}");
    let id = scene.database.query_one("select campfire.message_id($1, $2)", &[&conversation, &key]).await?;
    ensure!(written["id"] == json!(id.get::<_, Uuid>(0)), "{written}");
    let event = socket.expect(&list, "message:created").await?;
    ensure!(event.payload == written, "{event:?}");
    let event = widget.expect(&widget_channel, "message:created").await?;
    let mut visible = written.clone();
    visible.as_object_mut().and_then(|row| row.remove("sender_email"));
    ensure!(event.payload == visible, "{event:?}");
    // Again, whatever it says this time.
    let body = json!({"content": "another", "clientKey": key.to_string().to_uppercase()});
    ensure!(caller.write("POST", &path, body, 200).await?["message"] == written);
    // Many at once are one.
    let key = Uuid::new_v4();
    let body = json!({"content": "at once", "clientKey": key});
    let posts = (0..8).map(|_| caller.ask("POST", &path, Some(&body)));
    let answers = futures_util::future::try_join_all(posts).await?;
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    ensure!(statuses == [200, 200, 200, 200, 200, 200, 200, 201], "{answers:?}");
    let ids: HashSet<String> = answers
        .iter()
        .map(|answer| Ok(answer.json()?["message"]["id"].to_string()))
        .collect::<Result<_>>()?;
    ensure!(ids.len() == 1, "{ids:?}");
    // Without a key each is one of its own.
    for _ in 0..2 {
        caller.write("POST", &path, json!({"content": "no key"}), 201).await?;
    }
    let fence = Fence::message(&scene.database, ORGANIZATION, conversation).await?;
    let events = socket.events_before(&fence, &list).await?;
    let contents = events.iter().filter(|event| event.name == "message:created");
    let contents: Vec<&Value> = contents.map(|event| &event.payload["content"]).collect();
    ensure!(contents == ["at once", "no key", "no key"], "{contents:?}");

    for body in [
        json!({}),
        json!({"content": ""}),
        json!({"content": " \n\t"}),
        json!({"content": 7}),
        json!({"content": "x".repeat((16 << 10) + 1)}),
        json!({"content": "x", "clientKey": "x"}),
        json!({"content": "x", "client_key": key}),
    ] {
        caller.refused("POST", &path, Some(body), 422, "invalid").await?;
    }
    for body in
        [json!({"content": "x", "senderType": "agent"}), json!({"content": "x", "senderName": "Boss"})]
    {
        caller.refused("POST", &path, Some(body), 403, "sender_not_allowed").await?;
    }
    // The application's own server writes as what it says.
    let service = Caller::of(scene, &token::service(scene.secret()));
    let for_service = format!("{path}?organization={ORGANIZATION}");
    for (body, kind, name) in [
        (json!({"content": "x", "senderType": "ai", "senderName": "Robo"}), "ai", json!("Robo")),
        (json!({"content": "x", "senderType": "system"}), "system", Value::Null),
        (json!({"content": "x"}), "agent", Value::Null),
    ] {
        let written = service.write("POST", &for_service, body, 201).await?["message"].clone();
        ensure!(written["sender_type"] == kind && written["sender_name"] == name, "{written}");
    }
    let body = json!({"content": "x", "senderType": "visitor"});
    service.refused("POST", &for_service, Some(body), 422, "invalid").await
}

#[scene_test]
async fn foreign_conversations_are_answered_like_unknown_ones(scene: &mut Scene) -> Result<()> {
    let (foreign, stranger) = chat::found_organization(&scene.database, "Other").await?;
    let theirs = chat::open_conversation(&scene.database, foreign, "Secret name").await?;
    let theirs_message = message(scene, theirs, "visitor", "secret").await?;
    let own = scene.conversation().await?;
    scene.settle().await?;
    let widget_channel = chat::widget_channel(foreign, theirs);
    let mut widget = scene.socket(Vsn::V2).await?;
    widget.join(&widget_channel, &token::visitor(scene.secret(), foreign, theirs)).await?;
    let agent = Caller::agent(scene);
    // A token of the service that is bound to an organization, and one that names it.
    let claims = json!({"role": "service_role", "org_id": ORGANIZATION, "exp": token::in_an_hour()});
    let bound = Caller::of(scene, &token::mint(scene.secret(), &claims));
    for caller in [&agent, &bound] {
        for (method, tail, body) in [
            ("GET", "", None),
            ("PATCH", "", Some(json!({"status": "closed"}))),
            ("PATCH", "", Some(json!({}))),
            ("GET", "/messages", None),
            ("POST", "/messages", Some(json!({"content": "x"}))),
            ("POST", "/messages", Some(json!({"content": "x", "clientKey": Uuid::new_v4()}))),
            ("POST", "/read", Some(json!({"lastReadMessageId": theirs_message}))),
        ] {
            if tail == "/read" && caller.bearer == bound.bearer {
                continue;
            }
            let mut bodies = HashSet::new();
            for id in [theirs.to_string(), Uuid::new_v4().to_string(), "x".to_owned(), "%FF".to_owned()] {
                let path = format!("{LIST}/{id}{tail}");
                let response = caller.ask(method, &path, body.as_ref()).await?;
                ensure!(response.status == 404, "{method} {path}: {response:?}");
                bodies.insert(response.body);
            }
            ensure!(bodies.len() == 1, "{method} {tail}: {bodies:?}");
            ensure!(bodies.iter().all(|body| body.contains("conversation_not_found")), "{bodies:?}");
        }
        // What is theirs is not to be read in one's own either.
        let path = format!("{}/read", of(own));
        let body = json!({"lastReadMessageId": theirs_message});
        let code =
            if caller.bearer == bound.bearer { (403, "agent_required") } else { (404, "message_not_found") };
        caller.refused("POST", &path, Some(body), code.0, code.1).await?;
        let list = caller.get(&format!("{LIST}?organization={foreign}&search=secret")).await?;
        ensure!(names(&list).is_empty(), "{list}");
    }
    // Nobody there noticed anything.
    let fence = Fence::message(&scene.database, foreign, theirs).await?;
    let events = widget.events_before(&fence, &widget_channel).await?;
    ensure!(events.is_empty(), "{events:#?}");
    let stranger = Caller::of(scene, &token::agent(scene.secret(), foreign, stranger));
    let row = stranger.get(&of(theirs)).await?["conversation"].clone();
    ensure!(row["status"] == "open" && row["customer_name"] == "Secret name", "{row}");
    Ok(())
}
