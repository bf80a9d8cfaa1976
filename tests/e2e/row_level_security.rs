//! The widget's path as role `anon`: it may do its part and nothing else, though
//! the trigger behind it writes a table that `anon` may not.

use anyhow::{Context, Result, ensure};
use campfire_tests::chat::{self, Caller};
use campfire_tests::socket::Vsn;
use campfire_tests::{AGENT, ORGANIZATION};
use serde_json::json;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::scene::{Scene, scene_test};

#[scene_test]
async fn a_visitor_opens_a_conversation_although_it_may_not_write_the_mirror(
    scene: &mut Scene,
) -> Result<()> {
    let list = chat::conversations_channel(ORGANIZATION);
    let mut dashboard = scene.dashboard(Vsn::V2, &[&list]).await?;
    let conversation = Uuid::new_v4();
    let visitor = Caller::Visitor { organization: ORGANIZATION, conversation };

    // Complex columns on purpose: they were what broke the original's bindings.
    let transaction = visitor.begin(&mut scene.database).await?;
    transaction
        .execute(
            "insert into conversations (id, organization_id, customer_name, metadata)
             values ($1, $2, 'Vera Visitor', $3)",
            &[&conversation, &ORGANIZATION, &json!({"page": "/pricing"})],
        )
        .await
        .context("anon cannot open its conversation")?;
    transaction.commit().await?;
    visitor.write(&mut scene.database, conversation, "Hello?").await?;

    let created = dashboard.expect(&list, "conversation:created").await?;
    ensure!(created.payload["id"] == json!(conversation), "{created:?}");
    let message = dashboard.expect(&list, "message:created").await?;
    ensure!(message.payload["content"] == "Hello?", "{message:?}");

    let denied = [
        "insert into realtime_conversations (id, organization_id) values (gen_random_uuid(), $1)",
        "update realtime_conversations set customer_name = 'x' where organization_id = $1",
        "delete from realtime_conversations where organization_id = $1",
    ];
    for statement in denied {
        let code = refusal(scene, visitor, statement, ORGANIZATION).await?;
        ensure!(code == SqlState::INSUFFICIENT_PRIVILEGE, "{statement}: {code:?}");
    }
    Ok(())
}

#[scene_test]
async fn a_visitor_sees_and_writes_only_its_own_conversation_and_only_as_visitor(
    scene: &mut Scene,
) -> Result<()> {
    let own = scene.conversation().await?;
    let other = scene.conversation().await?;
    scene.write_messages(other, &["not for you".to_owned()]).await?;
    scene.write_messages(own, &["for you".to_owned()]).await?;
    let visitor = Caller::Visitor { organization: ORGANIZATION, conversation: own };

    let transaction = visitor.begin(&mut scene.database).await?;
    let rows = transaction.query("select content from messages", &[]).await?;
    let seen: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    ensure!(seen == ["for you"], "{seen:?}");
    drop(transaction);

    let statement = "insert into messages (organization_id, conversation_id, content, sender_type)
                     values ($1, $2, 'x', $3)";
    for (conversation, sender) in [(other, "visitor"), (own, "agent"), (own, "system")] {
        let transaction = visitor.begin(&mut scene.database).await?;
        let parameters: [&(dyn ToSql + Sync); 3] = [&ORGANIZATION, &conversation, &sender];
        let code = match transaction.execute(statement, &parameters).await {
            Ok(_) => anyhow::bail!("anon wrote to {conversation} as {sender}"),
            Err(error) => error.code().cloned(),
        };
        ensure!(code == Some(SqlState::INSUFFICIENT_PRIVILEGE), "{code:?}");
    }
    Ok(())
}

#[scene_test]
async fn an_agent_sees_only_its_organization(scene: &mut Scene) -> Result<()> {
    let (theirs, _) = chat::found_organization(&scene.database, "Other").await?;
    chat::open_conversation(&scene.database, theirs, "Not Ours").await?;
    let ours = scene.conversation().await?;
    let agent = Caller::Agent { organization: ORGANIZATION, user: AGENT };
    for table in ["conversations", "realtime_conversations"] {
        let transaction = agent.begin(&mut scene.database).await?;
        let rows = transaction.query(&format!("select id from {table}"), &[]).await?;
        let seen: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
        ensure!(seen == [ours], "{table}: {seen:?}");
    }
    Ok(())
}

/// The error code with which a statement of one parameter is refused.
async fn refusal(scene: &mut Scene, caller: Caller, statement: &str, parameter: Uuid) -> Result<SqlState> {
    let transaction = caller.begin(&mut scene.database).await?;
    match transaction.execute(statement, &[&parameter]).await {
        Ok(_) => anyhow::bail!("{caller:?} could run {statement}"),
        Err(error) => error.code().cloned().context("an error of the server's"),
    }
}
