//! What committed arrives whole and in order; what did not commit never arrives.

use anyhow::{Result, ensure};
use campfire_tests::fence::Fence;
use campfire_tests::socket::Vsn;
use campfire_tests::{ORGANIZATION, chat};

use crate::scene::{Scene, contents, numbered, scene_test};

#[scene_test]
async fn a_rolled_back_transaction_broadcasts_nothing(scene: &mut Scene) -> Result<()> {
    let conversation = scene.conversation().await?;
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    let mut dashboard = scene.dashboard(Vsn::V2, &[&conv]).await?;

    let statement = "insert into messages (organization_id, conversation_id, content, sender_type)
                     values ($1, $2, $3, 'visitor')";
    let transaction = scene.database.transaction().await?;
    transaction.execute(statement, &[&ORGANIZATION, &conversation, &"never"]).await?;
    transaction.rollback().await?;
    // A subtransaction that is taken back, inside one that commits.
    let mut transaction = scene.database.transaction().await?;
    transaction.execute(statement, &[&ORGANIZATION, &conversation, &"before"]).await?;
    let savepoint = transaction.savepoint("s").await?;
    savepoint.execute(statement, &[&ORGANIZATION, &conversation, &"never either"]).await?;
    savepoint.rollback().await?;
    transaction.execute(statement, &[&ORGANIZATION, &conversation, &"after"]).await?;
    transaction.commit().await?;

    let fence = Fence::message(&scene.database, ORGANIZATION, conversation).await?;
    let events = dashboard.events_before(&fence, &conv).await?;
    ensure!(contents(&events) == ["before", "after"], "{events:#?}");
    Ok(())
}

#[scene_test]
async fn a_transaction_of_many_rows_arrives_whole_and_in_order(scene: &mut Scene) -> Result<()> {
    let conversation = scene.conversation().await?;
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    let mut first = scene.dashboard(Vsn::V1, &[&conv]).await?;
    let mut second = scene.dashboard(Vsn::V2, &[&conv]).await?;
    let wanted = numbered("row", 300);

    let transaction = scene.database.transaction().await?;
    for content in &wanted {
        transaction
            .execute(
                "insert into messages (organization_id, conversation_id, content, sender_type)
                 values ($1, $2, $3, 'visitor')",
                &[&ORGANIZATION, &conversation, content],
            )
            .await?;
    }
    transaction.commit().await?;

    for socket in [&mut first, &mut second] {
        let events = socket.next_events(wanted.len()).await?;
        ensure!(contents(&events) == wanted, "out of order: {:?}", contents(&events));
        // tag.timeline.lsn is the commit's; only the change counts on.
        let commits: Vec<&str> = events.iter().map(|event| &event.id()[..30]).collect();
        ensure!(commits.iter().all(|commit| *commit == commits[0]), "{commits:?}");
        ensure!(events.is_sorted_by(|earlier, later| earlier.id() < later.id()), "ids do not rise");
    }
    Ok(())
}

#[scene_test]
async fn a_burst_of_messages_is_delivered_complete_and_in_order(scene: &mut Scene) -> Result<()> {
    const MESSAGES: usize = 1_000;
    let conversation = scene.conversation().await?;
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    let mut dashboard = scene.dashboard(Vsn::V2, &[&conv]).await?;
    let mut widget = scene.widget(Vsn::V1, conversation).await?;
    let wanted = numbered("burst", MESSAGES);

    // Read while writing, as clients do; nobody may fall behind on purpose.
    let (written, at_dashboard, at_widget) = tokio::join!(
        scene.write_messages(conversation, &wanted),
        dashboard.next_events(MESSAGES),
        widget.next_events(MESSAGES),
    );
    written?;
    for events in [at_dashboard?, at_widget?] {
        ensure!(contents(&events) == wanted, "{:?}", contents(&events));
        ensure!(events.is_sorted_by(|earlier, later| earlier.id() < later.id()));
    }
    let fence = Fence::message(&scene.database, ORGANIZATION, conversation).await?;
    let surplus = dashboard.events_before(&fence, &conv).await?;
    ensure!(surplus.is_empty(), "{surplus:?}");
    Ok(())
}

#[scene_test]
async fn transactions_arrive_in_commit_order_not_in_the_order_they_began(scene: &mut Scene) -> Result<()> {
    let conversation = scene.conversation().await?;
    let other = scene.conversation().await?;
    let list = chat::conversations_channel(ORGANIZATION);
    let mut dashboard = scene.dashboard(Vsn::V2, &[&list]).await?;
    let statement = "insert into messages (organization_id, conversation_id, content, sender_type)
                     values ($1, $2, $3, 'visitor')";
    // Two conversations: a message touches its conversation's row, and two
    // transactions on one row would wait for each other.
    let mut late = scene.cluster.connect().await?;
    let transaction = late.transaction().await?;
    transaction.execute(statement, &[&ORGANIZATION, &conversation, &"began first"]).await?;
    scene.database.execute(statement, &[&ORGANIZATION, &other, &"committed first"]).await?;
    transaction.commit().await?;
    let events = dashboard.next_events(2).await?;
    ensure!(contents(&events) == ["committed first", "began first"], "{events:?}");
    ensure!(events[0].id() < events[1].id());
    Ok(())
}
