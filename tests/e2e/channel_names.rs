//! One naming standard: SQL, the relay and clients spell every channel alike.

use anyhow::{Result, ensure};
use campfire_relay::route::Topic;
use campfire_tests::socket::{Vsn, default_config};
use campfire_tests::{ORGANIZATION, chat};

use crate::scene::{Scene, scene_test};

#[scene_test]
async fn channel_names_are_identical_from_sql_rust_and_client(scene: &mut Scene) -> Result<()> {
    let conversation = scene.conversation().await?;
    let row = scene
        .database
        .query_one(
            "select campfire.channel_organization($1), campfire.channel_conversations($1),
                    campfire.channel_conversation($1, $2), campfire.channel_widget($1, $2)",
            &[&ORGANIZATION, &conversation],
        )
        .await?;
    let from_sql: [String; 4] = [row.get(0), row.get(1), row.get(2), row.get(3)];
    let from_rust = [
        Topic::channel_organization(ORGANIZATION),
        Topic::channel_conversations(ORGANIZATION),
        Topic::channel_conversation(ORGANIZATION, conversation),
        Topic::channel_widget(ORGANIZATION, conversation),
    ]
    .map(|topic| topic.to_string());
    let from_client = [
        chat::organization_channel(ORGANIZATION),
        chat::conversations_channel(ORGANIZATION),
        chat::conversation_channel(ORGANIZATION, conversation),
        chat::widget_channel(ORGANIZATION, conversation),
    ];
    ensure!(from_sql == from_rust, "{from_sql:?} {from_rust:?}");
    ensure!(from_sql == from_client, "{from_sql:?} {from_client:?}");

    for name in &from_sql {
        let parsed = Topic::parse(name)?.to_string();
        ensure!(parsed == *name, "{name} became {parsed}");
        let row = scene
            .database
            .query_one("select organization_id from campfire.parse_channel($1)", &[name])
            .await?;
        ensure!(row.get::<_, uuid::Uuid>(0) == ORGANIZATION, "{name}");
    }
    // The same names, joined as they are, carry events.
    let names: Vec<&str> = from_sql.iter().map(String::as_str).collect();
    let mut dashboard = scene.dashboard(Vsn::V2, &names).await?;
    scene.write_messages(conversation, &["hello".to_owned()]).await?;
    let mut heard = Vec::new();
    for event in dashboard.next_events(4).await? {
        heard.push(event.channel);
    }
    heard.sort_unstable();
    let mut wanted = from_sql.to_vec();
    wanted.sort_unstable();
    ensure!(heard == wanted, "{heard:?}");
    Ok(())
}

#[scene_test]
async fn both_spellings_are_one_channel_and_each_is_echoed_as_joined(scene: &mut Scene) -> Result<()> {
    let conversation = scene.conversation().await?;
    let plain = chat::conversation_channel(ORGANIZATION, conversation);
    let prefixed = format!("bcast:{plain}");
    for vsn in Vsn::BOTH {
        let mut one = scene.dashboard(vsn, &[&plain]).await?;
        let mut other = scene.dashboard(vsn, &[&prefixed]).await?;
        scene.write_messages(conversation, &["hello".to_owned()]).await?;
        let first = one.expect(&plain, "message:created").await?;
        let second = other.expect(&prefixed, "message:created").await?;
        ensure!(first.id() == second.id(), "{first:?} {second:?}");
    }
    Ok(())
}

#[scene_test]
async fn malformed_organization_channels_are_refused_by_sql_rust_and_relay(scene: &mut Scene) -> Result<()> {
    let conversation = scene.conversation().await?;
    let upper = ORGANIZATION.to_string().to_uppercase();
    let malformed = [
        "org:".to_owned(),
        "org:not-a-uuid".to_owned(),
        format!("ORG:{ORGANIZATION}"),
        format!("org:{upper}"),
        format!("org:{ORGANIZATION}:"),
        format!("org:{ORGANIZATION}:secrets"),
        format!("org:{ORGANIZATION}:conv"),
        format!("org:{ORGANIZATION}:conv:{conversation}:more"),
        format!("bcast:org:{ORGANIZATION}:widget:nobody"),
        format!("org:{ORGANIZATION} "),
    ];
    let token = scene.agent();
    let mut socket = scene.socket(Vsn::V2).await?;
    for name in &malformed {
        ensure!(Topic::parse(name).is_err(), "Rust accepts {name:?}");
        let parsed = scene.database.query("select campfire.parse_channel($1)", &[name]).await;
        ensure!(parsed.is_err(), "SQL accepts {name:?}");
        let reply = socket.try_join(name, Some(&token), default_config()).await?;
        ensure!(reply.status == "error", "{name:?} was joined");
        ensure!(reply.reason().starts_with("InvalidTopic"), "{name:?}: {reply:?}");
    }
    Ok(())
}
