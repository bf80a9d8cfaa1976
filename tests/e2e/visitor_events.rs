//! Every event that a visitor receives, live, replayed and in snapshots, on both of its channels: each has the columns
//! that docs/events.md lists there, and nothing that was written for agents alone is in any frame.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use campfire_tests::fence::Fence;
use campfire_tests::frame::Frame;
use campfire_tests::socket::Vsn;
use campfire_tests::wait::DEADLINE;
use campfire_tests::{AGENT, ORGANIZATION, Socket, chat, token};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::events::{members_told, page, section, table, words};
use crate::presence::{presence_config, track};
use crate::scene::{Scene, scene_test};

/// In every value that no visitor may see.
const HIDDEN: &str = "hidden";

/// What a visitor may get.
struct Listed {
    /// Events of rows, by channel and name, with their columns.
    rows: BTreeMap<(String, String), BTreeSet<String>>,
    /// Events of the relay, in the same way.
    relay: BTreeMap<(String, String), BTreeSet<String>>,
    /// Members of `meta` of events of rows.
    meta: BTreeSet<String>,
}

/// The two channels of a visitor: their names, and what they are called in the tables of routes and of the relay's events.
struct Channels([(String, &'static str, &'static str); 2]);

impl Channels {
    fn of(conversation: Uuid) -> Self {
        Self([
            (
                chat::conversation_channel(ORGANIZATION, conversation),
                "org:{organization_id}:conv:{conversation_id}",
                "org:ORG:conv:CONV",
            ),
            (
                chat::widget_channel(ORGANIZATION, conversation),
                "org:{organization_id}:widget:{conversation_id}",
                "org:ORG:widget:CONV",
            ),
        ])
    }

    fn names(&self) -> [&str; 2] {
        [&self.0[0].0, &self.0[1].0]
    }
}

impl Listed {
    fn read(channels: &Channels) -> Result<Self> {
        let page = page()?;
        let (mut rows, mut relay) = (BTreeMap::new(), BTreeMap::new());
        for (name, template, title) in &channels.0 {
            for cells in table(section(&page, &format!("### `{template}`"))?) {
                let columns = words(cells[4]).into_iter().map(str::to_owned).collect::<BTreeSet<_>>();
                let event = (name.clone(), words(cells[1]).join(""));
                let before = rows.insert(event.clone(), columns.clone());
                // Two operations may make one event; it looks the same.
                ensure!(
                    before.is_none_or(|before| before == columns),
                    "{event:?} has other columns elsewhere"
                );
            }
            for cells in table(section(&page, "## Events of the relay")?) {
                let event = words(cells[1]).join("");
                if words(cells[0]) == [*title] {
                    let members = members_told(&page, title, &event)?;
                    relay.insert((name.clone(), event), members);
                }
            }
        }
        let meta = table(section(&page, "## Events of rows")?);
        let meta = meta.iter().flat_map(|cells| words(cells[0])).map(str::to_owned).collect();
        Ok(Self { rows, relay, meta })
    }

    /// All events with columns, by channel and name.
    fn events(&self) -> BTreeSet<(String, String)> {
        self.rows.keys().chain(self.relay.keys()).cloned().collect()
    }

    /// Checks a frame; if it is an event, whose name is on which channel. `sent`: payloads of what clients and SQL sent,
    /// which is passed on as it is.
    fn check(&self, frame: &Frame, sent: &[Value]) -> Result<Option<(String, String)>> {
        for secret in [HIDDEN, &AGENT.to_string()] {
            ensure!(!frame.payload.to_string().contains(secret), "{secret} is told to a visitor: {frame:?}");
        }
        match frame.event.as_str() {
            "broadcast" => {}
            "phx_reply" | "phx_close" | "system" => return Ok(None),
            _ => bail!("a visitor gets {frame:?}"),
        }
        let channel = frame.topic.strip_prefix("realtime:").context("a topic")?.to_owned();
        let event = (channel, frame.payload["event"].as_str().context("a name")?.to_owned());
        let (payload, meta) = (&frame.payload["payload"], &frame.payload["meta"]);
        let members = |value: &Value| -> BTreeSet<String> {
            value.as_object().into_iter().flat_map(|object| object.keys().cloned()).collect()
        };
        if let Some(columns) = self.rows.get(&event) {
            ensure!(members(payload) == *columns, "instead of {columns:?}: {frame:?}");
            ensure!(members(meta).is_subset(&self.meta), "{frame:?}");
        } else if let Some(columns) = self.relay.get(&event) {
            ensure!(members(payload) == *columns && meta.is_null(), "instead of {columns:?}: {frame:?}");
        } else {
            ensure!(sent.contains(payload), "nobody has sent {frame:?}");
            let of_sql = BTreeSet::from(["id".to_owned(), "committed_at".to_owned()]);
            match meta.get("sender") {
                Some(sender) => {
                    ensure!(members(meta).len() == 1, "{frame:?}");
                    ensure!(sender["type"] == "visitor" || sender["id"].is_null(), "{frame:?}");
                }
                None => ensure!(
                    members(meta).is_subset(&self.meta) && members(meta).is_superset(&of_sql),
                    "{frame:?}"
                ),
            }
        }
        Ok(Some(event))
    }
}

async fn next(socket: &mut Socket) -> Result<Frame> {
    tokio::time::timeout(DEADLINE, socket.next_frame()).await.context("no frame comes")?
}

/// Everything that comes until both channels have the fence. Names of events, by channel.
async fn seen_before(
    socket: &mut Socket,
    listed: &Listed,
    sent: &[Value],
    fence: &Fence,
) -> Result<BTreeSet<(String, String)>> {
    let (mut seen, mut fences) = (BTreeSet::new(), 0);
    while fences < 2 {
        let frame = next(socket).await?;
        fences += usize::from(frame.payload["payload"]["content"] == fence.text());
        seen.extend(listed.check(&frame, sent)?);
    }
    Ok(seen)
}

fn replay(from: &Value) -> Value {
    let mut config = presence_config("visitor");
    config["broadcast"]["replay"] = from.clone();
    config
}

/// A visitor's socket that has joined as `config` says, and how many frames of a replay it is told to expect.
async fn join(
    scene: &Scene,
    vsn: Vsn,
    channel: &str,
    visitor: &str,
    config: Value,
) -> Result<(Socket, Value)> {
    let mut socket = scene.socket(vsn).await?;
    let reply = socket.try_join(channel, Some(visitor), config).await?;
    ensure!(reply.is_ok(), "{channel}: {reply:?}");
    Ok((socket, reply.response["replay"].clone()))
}

/// As many events as the answer to a join has promised, each of which says by `mark` that it is history.
async fn seen_again(
    socket: &mut Socket,
    listed: &Listed,
    sent: &[Value],
    told: &Value,
    mark: &str,
) -> Result<BTreeSet<(String, String)>> {
    let mut seen = BTreeSet::new();
    let mut count = told["count"].as_u64().context("a count")?;
    while count > 0 {
        let frame = next(socket).await?;
        // Between them it may be told that older ones are missing.
        if let Some(event) = listed.check(&frame, sent)? {
            ensure!(frame.payload["meta"][mark] == true, "{frame:?}");
            seen.insert(event);
            count -= 1;
        }
    }
    Ok(seen)
}

/// What happens in a conversation: all that agents, servers and the database can do in it.
async fn happen(scene: &Scene, conversation: Uuid, sent: &[Value]) -> Result<Fence> {
    let [typing, gesture, notice] = sent else { bail!("three payloads") };
    let (conv, widget) = (
        chat::conversation_channel(ORGANIZATION, conversation),
        chat::widget_channel(ORGANIZATION, conversation),
    );
    let database = &scene.database;
    for (sender, name) in [("visitor", "Vera"), ("agent", "Ada"), ("ai", "Assistant"), ("system", "System")] {
        let insert = "insert into messages
            (organization_id, conversation_id, content, sender_type, sender_name, sender_email, metadata)
            values ($1, $2, 'seen', $3, $4, 'hidden@example.com', '{\"hidden\": true}')";
        database.execute(insert, &[&ORGANIZATION, &conversation, &sender, &name]).await?;
    }
    for statement in [
        "update messages set content = 'seen later' where conversation_id = $1 and sender_type = 'ai'",
        "update conversations set status = 'pending', priority = 'urgent' where id = $1",
        "update conversations set customer_name = 'hidden', customer_email = 'hidden@example.com' where id = $1",
        "update conversations set metadata = '{\"hidden\": true}', tags = '{hidden}' where id = $1",
        "insert into read_receipts (conversation_id, organization_id, reader_type, reader_id, last_read_message_id)
         select conversation_id, organization_id, 'visitor', conversation_id, id from messages
         where conversation_id = $1 and sender_type = 'visitor'",
        "update read_receipts as r set last_read_message_id = m.id, read_at = now() from messages as m
         where r.conversation_id = $1 and m.conversation_id = $1 and m.sender_type = 'ai'",
        "delete from messages where conversation_id = $1 and sender_type = 'system'",
    ] {
        database.execute(statement, &[&conversation]).await.context(statement)?;
    }
    let of_agent = [
        "update conversations set assignee_id = $2 where id = $1",
        "insert into read_receipts (conversation_id, organization_id, reader_type, reader_id, last_read_message_id)
         select conversation_id, organization_id, 'agent', $2, id from messages
         where conversation_id = $1 and sender_type = 'visitor'",
    ];
    for statement in of_agent {
        database.execute(statement, &[&conversation, &AGENT]).await.context(statement)?;
    }
    let broadcast = "select campfire.broadcast(channel, 'notice', $1) from unnest($2::text[]) as channel";
    database.execute(broadcast, &[notice, &vec![&conv, &widget]]).await?;

    // The agent is there, types, and says something of the application's; it goes without a word.
    let mut agent = scene.socket(Vsn::V2).await?;
    for channel in [&conv, &widget] {
        ensure!(agent.try_join(channel, Some(&scene.agent()), presence_config("")).await?.is_ok());
        track(&mut agent, channel, json!({"name": "hidden"})).await?;
        agent.broadcast(channel, "gesture", gesture.clone()).await?;
    }
    agent.broadcast(&conv, "typing:start", typing.clone()).await?;
    let mut service = scene.socket(Vsn::V1).await?;
    service.join(&widget, &token::service(scene.secret())).await?;
    service.broadcast(&widget, "typing:start", typing.clone()).await?;
    let mut tab = scene.widget(Vsn::V2, conversation).await?;
    tab.broadcast(&widget, "typing:start", typing.clone()).await?;
    while tab.next_event().await.context("typing ends")?.name != "typing:stop" {}
    drop(agent);
    loop {
        let status = tab.next_status().await?;
        if status.name == "agent:status:offline" {
            break;
        }
    }
    Fence::message(database, ORGANIZATION, conversation).await
}

#[scene_test(|settings| settings.env("CAMPFIRE_PRESENCE_GRACE_SECONDS", "1").env("CAMPFIRE_TYPING_SECONDS", "1"))]
async fn nothing_that_visitors_receive_has_a_column_that_is_not_listed_for_them(
    scene: &mut Scene,
) -> Result<()> {
    let enable = "select campfire.enable_route(id) from campfire.routes where not enabled and builtin";
    scene.database.execute(enable, &[]).await?;
    for vsn in Vsn::BOTH {
        let conversation = scene.conversation().await?;
        let channels = Channels::of(conversation);
        let listed = Listed::read(&channels)?;
        ensure!(listed.rows.len() >= 12 && listed.relay.len() >= 2, "{:?}", listed.events());
        let sent = [json!({"in": "words"}), json!({"at": 7}), json!({"text": "closed on Sundays"})];
        let visitor = scene.visitor(conversation);

        let (mut live, replayed) =
            join(scene, vsn, channels.names()[0], &visitor, replay(&json!({}))).await?;
        let start = json!({"after": replayed["position"]});
        let reply = live.try_join(channels.names()[1], Some(&visitor), presence_config("visitor")).await?;
        ensure!(reply.is_ok(), "{reply:?}");
        let fence = happen(scene, conversation, &sent).await?;
        let mut seen = seen_before(&mut live, &listed, &sent, &fence).await?;

        // The rows of the conversation: only on one of the two channels.
        let (mut rows, told) =
            join(scene, vsn, channels.names()[0], &visitor, replay(&json!({"snapshot": 100}))).await?;
        let rows = seen_again(&mut rows, &listed, &sent, &told, "snapshot").await?;
        let wanted = ["conversation:updated", "message:created", "read:receipt"];
        ensure!(rows.iter().map(|(_, event)| event).eq(wanted), "{rows:?}");
        let mut refused = scene.socket(vsn).await?;
        let config = replay(&json!({"snapshot": 100}));
        let reply = refused.try_join(channels.names()[1], Some(&visitor), config).await?;
        ensure!(!reply.is_ok(), "{reply:?}");

        scene.database.execute("delete from conversations where id = $1", &[&conversation]).await?;
        let mut closed = 0;
        while closed < 2 {
            let frame = next(&mut live).await?;
            closed += usize::from(frame.event == "phx_close");
            seen.extend(listed.check(&frame, &sent)?);
        }
        let missing: Vec<_> = listed.events().difference(&seen).cloned().collect();
        ensure!(missing.is_empty(), "not seen: {missing:?}");
        for of_clients in ["typing:start", "typing:stop", "gesture", "notice"] {
            for channel in channels.names() {
                let event = (channel.to_owned(), of_clients.to_owned());
                ensure!(seen.contains(&event), "{event:?} is not in {seen:?}");
            }
        }

        // All of it again, from where it began, and by time.
        for from in [start, json!({"since": 0, "limit": 1000})] {
            let mut again = BTreeSet::new();
            for channel in channels.names() {
                let (mut socket, told) = join(scene, vsn, channel, &visitor, replay(&from)).await?;
                again.extend(seen_again(&mut socket, &listed, &sent, &told, "replayed").await?);
            }
            let missing: Vec<_> = listed.rows.keys().filter(|event| !again.contains(event)).collect();
            ensure!(missing.is_empty(), "not replayed: {missing:?}");
        }
    }
    Ok(())
}
