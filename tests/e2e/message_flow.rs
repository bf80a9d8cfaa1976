//! The main job: what one side writes, the other side sees, on the right channels,
//! with the right columns.

use anyhow::{Result, ensure};
use campfire_tests::chat::{self, Caller};
use campfire_tests::fence::Fence;
use campfire_tests::socket::{Event, Vsn};
use campfire_tests::{AGENT, ORGANIZATION, timestamp};
use serde_json::json;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::scene::{Scene, scene_test};

#[scene_test]
async fn a_widgets_message_reaches_the_dashboard_and_the_answer_comes_back(scene: &mut Scene) -> Result<()> {
    for vsn in Vsn::BOTH {
        let conversation = scene.conversation().await?;
        let conv = chat::conversation_channel(ORGANIZATION, conversation);
        let widget_channel = chat::widget_channel(ORGANIZATION, conversation);
        let mut dashboard = scene.dashboard(vsn, &[&conv]).await?;
        let mut widget = scene.widget(vsn, conversation).await?;
        let visitor = Caller::Visitor { organization: ORGANIZATION, conversation };
        let agent = Caller::Agent { organization: ORGANIZATION, user: AGENT };

        let question = visitor.write(&mut scene.database, conversation, "Is anybody there?").await?;
        let event = dashboard.expect(&conv, "message:created").await?;
        ensure!(event.payload["id"] == json!(question), "{event:?}");
        ensure!(event.payload["sender_type"] == "visitor", "{event:?}");
        widget.expect(&widget_channel, "message:created").await?;

        let answer = agent.write(&mut scene.database, conversation, "I am! 👋").await?;
        let event = widget.expect(&widget_channel, "message:created").await?;
        ensure!(event.payload["id"] == json!(answer), "{event:?}");
        ensure!(event.payload["content"] == "I am! 👋", "{event:?}");
        dashboard.expect(&conv, "message:created").await?;
    }
    Ok(())
}

#[scene_test]
async fn each_event_goes_to_its_channels_and_no_others_with_its_columns(scene: &mut Scene) -> Result<()> {
    let org = chat::organization_channel(ORGANIZATION);
    let list = chat::conversations_channel(ORGANIZATION);
    let mut org_socket = scene.dashboard(Vsn::V2, &[&org]).await?;
    let mut list_socket = scene.dashboard(Vsn::V2, &[&list]).await?;

    let conversation = scene.conversation().await?;
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    let mut conv_socket = scene.dashboard(Vsn::V2, &[&conv]).await?;
    let mut widget_socket = scene.widget(Vsn::V2, conversation).await?;
    let widget = chat::widget_channel(ORGANIZATION, conversation);

    scene.write_messages(conversation, &["hello".to_owned()]).await?;
    scene
        .database
        .execute("update conversations set status = 'closed' where id = $1", &[&conversation])
        .await?;

    // Every channel ends with a fence, so that an event too many would show.
    let last_conversation = Fence::conversation(&scene.database, ORGANIZATION).await?;
    let last_message = Fence::message(&scene.database, ORGANIZATION, conversation).await?;
    let events = org_socket.events_before(&last_conversation, &org).await?;
    check(
        &events,
        &[
            ("conversation:created", &chat::MIRROR_COLUMNS),
            ("conversation:updated", &chat::MIRROR_COLUMNS), // touched by the message
            ("conversation:updated", &chat::MIRROR_COLUMNS), // closed
        ],
    )?;
    ensure!(events[2].payload["status"] == "closed", "{:?}", events[2]);
    check(
        &list_socket.events_before(&last_conversation, &list).await?,
        &[
            ("conversation:created", &chat::MIRROR_COLUMNS),
            ("message:created", &chat::MESSAGE_COLUMNS),
            ("conversation:updated", &chat::MIRROR_COLUMNS),
        ],
    )?;
    let for_visitors: [(&str, &[&str]); 2] = [
        ("message:created", &chat::VISITOR_MESSAGE_COLUMNS),
        ("conversation:updated", &chat::VISITOR_CONVERSATION_COLUMNS),
    ];
    check(&conv_socket.events_before(&last_message, &conv).await?, &for_visitors)?;
    check(&widget_socket.events_before(&last_message, &widget).await?, &for_visitors)
}

fn check(events: &[Event], wanted: &[(&str, &[&str])]) -> Result<()> {
    let names: Vec<&str> = events.iter().map(|event| event.name.as_str()).collect();
    let wanted_names: Vec<&str> = wanted.iter().map(|(name, _)| *name).collect();
    ensure!(names == wanted_names, "{names:?} instead of {wanted_names:?}: {events:#?}");
    for (event, (name, columns)) in events.iter().zip(wanted) {
        ensure!(
            chat::has_columns(&event.payload, columns),
            "{name} should carry {columns:?}: {}",
            event.payload
        );
    }
    Ok(())
}

#[scene_test]
async fn a_change_has_one_id_on_all_its_channels_in_both_serializations(scene: &mut Scene) -> Result<()> {
    let conversation = scene.conversation().await?;
    let list = chat::conversations_channel(ORGANIZATION);
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    let mut sockets = Vec::new();
    for vsn in Vsn::BOTH {
        sockets.push(scene.dashboard(vsn, &[&list]).await?);
        sockets.push(scene.dashboard(vsn, &[&conv]).await?);
        sockets.push(scene.widget(vsn, conversation).await?);
    }
    scene.write_messages(conversation, &["hello".to_owned()]).await?;
    let mut metas = Vec::new();
    for socket in &mut sockets {
        let event = socket.next_event().await?;
        ensure!(event.name == "message:created", "{event:?}");
        metas.push(event.meta);
    }
    ensure!(metas.iter().all(|meta| *meta == metas[0]), "{metas:?}");

    let id = metas[0]["id"].as_str().unwrap_or_default();
    let lengths: Vec<usize> = id.split('.').map(str::len).collect();
    ensure!(lengths == [4, 8, 16, 8], "tag.timeline.lsn.change: {id}");
    let hex = id.bytes().all(|b| b == b'.' || b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    ensure!(hex, "an id is lower-case hex: {id}");
    let committed_at = metas[0]["committed_at"].as_str().unwrap_or_default();
    ensure!(timestamp::micros(committed_at).is_some(), "{committed_at:?}");
    Ok(())
}

#[scene_test]
async fn values_keep_their_text_and_type(scene: &mut Scene) -> Result<()> {
    let conversation = scene.conversation().await?;
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    let awkward = "quotes \" and \\ back\u{8}slashes, tab\t, newline\n, <tags>, ünï → 𝄞, \u{2028}";
    for vsn in Vsn::BOTH {
        let mut dashboard = scene.dashboard(vsn, &[&conv]).await?;
        scene.write_messages(conversation, &[awkward.to_owned()]).await?;
        let event = dashboard.expect(&conv, "message:created").await?;
        ensure!(event.payload["content"] == awkward, "{event:?}");
        ensure!(event.payload["sender_name"].is_null(), "{event:?}");
        let created_at = event.payload["created_at"].as_str().unwrap_or_default();
        ensure!(timestamp::micros(created_at).is_some(), "not RFC 3339 in UTC: {created_at:?}");
    }
    Ok(())
}

#[scene_test]
async fn a_read_receipt_reaches_conversation_and_widget(scene: &mut Scene) -> Result<()> {
    let conversation = scene.conversation().await?;
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    let widget_channel = chat::widget_channel(ORGANIZATION, conversation);
    let mut dashboard = scene.dashboard(Vsn::V2, &[&conv]).await?;
    let mut widget = scene.widget(Vsn::V2, conversation).await?;
    scene
        .database
        .execute(
            "insert into read_receipts
               (conversation_id, organization_id, reader_type, reader_id, read_at)
             values ($1, $2, 'agent', $3, now())",
            &[&conversation, &ORGANIZATION, &AGENT],
        )
        .await?;
    for (socket, channel) in [(&mut dashboard, &conv), (&mut widget, &widget_channel)] {
        let event = socket.expect(channel, "read:receipt").await?;
        let columns = ["conversation_id", "reader_type", "last_read_message_id", "read_at"];
        ensure!(chat::has_columns(&event.payload, &columns), "{event:?}");
    }
    Ok(())
}

#[scene_test]
async fn a_deleted_conversation_is_told_and_its_channels_are_closed(scene: &mut Scene) -> Result<()> {
    let conversation = scene.conversation().await?;
    let org = chat::organization_channel(ORGANIZATION);
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    let mut agent = scene.dashboard(Vsn::V2, &[&org]).await?;
    let mut dashboard = scene.dashboard(Vsn::V2, &[&conv]).await?;
    scene.database.execute("delete from conversations where id = $1", &[&conversation]).await?;
    for (socket, channel) in [(&mut agent, &org), (&mut dashboard, &conv)] {
        let event = socket.expect(channel, "conversation:deleted").await?;
        ensure!(chat::has_columns(&event.payload, &["id", "organization_id"]), "{event:?}");
    }
    dashboard
        .frame_where("the close of a deleted conversation's channel", |frame| frame.event == "phx_close")
        .await?;
    Ok(())
}

#[scene_test]
async fn a_message_sent_again_is_one_row_and_one_event(scene: &mut Scene) -> Result<()> {
    let conversation = scene.conversation().await?;
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    let mut dashboard = scene.dashboard(Vsn::V2, &[&conv]).await?;
    let callers = [
        (Caller::Visitor { organization: ORGANIZATION, conversation }, "visitor"),
        (Caller::Agent { organization: ORGANIZATION, user: AGENT }, "agent"),
    ];
    let insert = "insert into messages (conversation_id, organization_id, content, sender_type, client_key)
                  values ($1, $2, 'once', $3, $4)";
    for (caller, sender) in callers {
        let key = Uuid::new_v4();
        let known: Uuid = scene
            .database
            .query_one("select campfire.message_id($1, $2)", &[&conversation, &key])
            .await?
            .get(0);
        for conflict in ["", "on conflict (id) do nothing", ""] {
            let transaction = caller.begin(&mut scene.database).await?;
            let statement = format!("{insert} {conflict}");
            transaction.execute(&statement, &[&conversation, &ORGANIZATION, &sender, &key]).await?;
            let found = "select content from messages where id = $1";
            let answered: String = transaction.query_one(found, &[&known]).await?.get(0);
            ensure!(answered == "once", "{answered}");
            transaction.commit().await?;
        }
        // The reply of one that still runs is lost, too: the second waits for it, and is none.
        let key = Uuid::new_v4();
        let mut second = scene.cluster.connect().await?;
        let first = caller.begin(&mut scene.database).await?;
        first.execute(insert, &[&conversation, &ORGANIZATION, &sender, &key]).await?;
        let second = caller.begin(&mut second).await?;
        let statement = format!("{insert} on conflict (id) do nothing");
        let parameters: [&(dyn ToSql + Sync); 4] = [&conversation, &ORGANIZATION, &sender, &key];
        let (written, committed) = tokio::join!(second.execute(&statement, &parameters), first.commit());
        committed?;
        ensure!(written? == 0);
        second.commit().await?;
    }
    let fence = Fence::message(&scene.database, ORGANIZATION, conversation).await?;
    let events = dashboard.events_before(&fence, &conv).await?;
    let created = events.iter().filter(|event| event.name == "message:created").count();
    ensure!(created == 4, "{created} events of 4 messages: {events:?}");
    Ok(())
}
