//! TRUNCATE has no rows: it is told where it happened, and what it removed does not come back.

use anyhow::{Context, Result, ensure};
use campfire_tests::frame::Frame;
use campfire_tests::relay::Settings;
use campfire_tests::socket::{Socket, Vsn, default_config};
use campfire_tests::{ORGANIZATION, chat};
use serde_json::json;

use crate::resume::resume;
use crate::scene::{Scene, contents, scene_test, with_settings};

/// What comes on a channel up to the event whose payload says this: contents of events, `-` for the notice.
async fn heard_until(socket: &mut Socket, channel: &str, end: &str) -> Result<Vec<String>> {
    let topic = format!("realtime:{channel}");
    let mut heard = Vec::new();
    loop {
        let is_news =
            |frame: &Frame| frame.topic == topic && matches!(frame.event.as_str(), "system" | "broadcast");
        let frame = socket.frame_where("news", is_news).await?;
        if frame.event == "system" {
            let message = frame.payload["message"].as_str().unwrap_or_default();
            let is_notice = frame.payload["status"] == "ok" && message.starts_with("ReplayIncomplete: ");
            ensure!(is_notice, "{frame:?}");
            heard.push("-".to_owned());
            continue;
        }
        let payload = &frame.payload["payload"];
        let Some(text) =
            ["content", "customer_name", "name"].iter().find_map(|column| payload[column].as_str())
        else {
            continue;
        };
        if text == end {
            return Ok(heard);
        }
        if frame.payload["event"] != "conversation:updated" {
            heard.push(text.to_owned());
        }
    }
}

#[scene_test]
async fn a_table_that_is_emptied_is_told_in_its_place_and_its_rows_stay_gone(
    scene: &mut Scene,
) -> Result<()> {
    let conversation = scene.conversation().await?;
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    let list = chat::conversations_channel(ORGANIZATION);
    let org = chat::organization_channel(ORGANIZATION);
    for vsn in Vsn::BOTH {
        let mut dashboard = scene.dashboard(vsn, &[&conv, &list, &org]).await?;
        let mut widget = scene.widget(vsn, conversation).await?;
        let widget_channel = chat::widget_channel(ORGANIZATION, conversation);
        scene.write_messages(conversation, &["dead".to_owned()]).await?;
        let topic = format!("realtime:{conv}");
        let is_it = |frame: &Frame| frame.topic == topic && frame.payload["event"] == "message:created";
        let dead = dashboard.frame_where("the row", is_it).await?.payload["meta"]["id"].clone();
        // In the middle of a transaction, too.
        let insert = |content: &str| {
            format!(
                "insert into messages (organization_id, conversation_id, content, sender_type)
                 values ('{ORGANIZATION}', '{conversation}', '{content}', 'visitor')"
            )
        };
        let script = format!(
            "begin; {}; truncate messages; {}; commit; {}",
            insert("dead too"),
            insert("alive"),
            insert("end")
        );
        scene.database.batch_execute(&script).await?;
        for (socket, channel) in [(&mut dashboard, &conv), (&mut widget, &widget_channel)] {
            let heard = heard_until(socket, channel, "end").await?;
            let first = heard.iter().position(|text| text == "dead too").context("no event before")?;
            ensure!(heard[first..] == ["dead too", "-", "alive"], "{channel}: {heard:?}");
        }
        let heard = heard_until(&mut dashboard, &list, "end").await?;
        ensure!(heard.contains(&"-".to_owned()), "{heard:?}");
        // Nothing of the organization's channel came from messages.
        chat::open_conversation(&scene.database, ORGANIZATION, &format!("end {vsn:?}")).await?;
        let heard = heard_until(&mut dashboard, &org, &format!("end {vsn:?}")).await?;
        ensure!(!heard.contains(&"-".to_owned()), "{heard:?}");

        let mut again = scene.socket(vsn).await?;
        let replay = resume(scene, &mut again, &conv, json!({"after": dead})).await?;
        ensure!(replay["complete"] == false && replay["count"] == 2, "{replay}");
        ensure!(contents(&again.next_events(2).await?) == ["alive", "end"]);
        // A position from after it is good.
        let replay = resume(scene, &mut again, &list, json!({})).await?;
        let mut after = scene.socket(vsn).await?;
        let replay = resume(scene, &mut after, &conv, json!({"after": replay["position"]})).await?;
        ensure!(replay["complete"] == true && replay["count"] == 0, "{replay}");
    }
    // After a restart the window is read again, and the same holds.
    let mut before = scene.socket(Vsn::V2).await?;
    let start = resume(scene, &mut before, &conv, json!({})).await?;
    scene.write_messages(conversation, &["dead".to_owned()]).await?;
    scene.database.batch_execute("truncate messages").await?;
    scene.write_messages(conversation, &["alive".to_owned()]).await?;
    scene.settle().await?;
    scene.relay.kill_9().await?;
    scene.relay.start_again().await?;
    let mut again = scene.socket(Vsn::V2).await?;
    let replay = resume(scene, &mut again, &conv, json!({"after": start["position"]})).await?;
    ensure!(replay["complete"] == false && replay["count"] == 1, "{replay}");
    ensure!(again.next_event().await?.payload["content"] == "alive");
    Ok(())
}

#[scene_test]
async fn a_cascade_reaches_the_mirror_and_ends_the_conversations_channels(scene: &mut Scene) -> Result<()> {
    let conversation = scene.conversation().await?;
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    let org = chat::organization_channel(ORGANIZATION);
    let mut dashboard = scene.dashboard(Vsn::V2, &[&conv, &org]).await?;
    scene.database.batch_execute("truncate conversations cascade").await?;
    let topic = format!("realtime:{conv}");
    dashboard.frame_where("the close", |frame| frame.topic == topic && frame.event == "phx_close").await?;
    chat::open_conversation(&scene.database, ORGANIZATION, "end").await?;
    let heard = heard_until(&mut dashboard, &org, "end").await?;
    ensure!(heard == ["-"], "{heard:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_of_ones_own_are_told_of_on_their_channels() {
    let public = |settings: Settings| settings.env("CAMPFIRE_PUBLIC_CHANNELS", "allow");
    with_settings(public, async |scene| {
        scene
            .database
            .batch_execute(
                "create table shops (id integer, name text, primary key (id)) partition by range (id);
                 create table shops_1 partition of shops for values from (0) to (100);
                 select campfire.publish('campfire', 'shops');
                 select campfire.add_route('shops', 'INSERT', 'shop:{id}', 'shop:opened', '{id,name}', public => true)",
            )
            .await?;
        scene.settle().await?;
        let mut socket = scene.socket(Vsn::V2).await?;
        for channel in ["shop:1", "market"] {
            ensure!(socket.try_join(channel, None, default_config()).await?.is_ok());
        }
        scene
            .database
            .batch_execute(
                "insert into shops values (1, 'old'); truncate shops; insert into shops values (1, 'end')",
            )
            .await?;
        let heard = heard_until(&mut socket, "shop:1", "end").await?;
        ensure!(heard == ["old", "-"], "{heard:?}");
        socket.heartbeat().await?;
        let other = socket.frame_where("nothing", |frame| frame.topic == "realtime:market");
        ensure!(tokio::time::timeout(std::time::Duration::ZERO, other).await.is_err());
        Ok(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_name_no_channel_are_logged_once_a_table() {
    let public = |settings: Settings| settings.env("CAMPFIRE_PUBLIC_CHANNELS", "allow");
    with_settings(public, async |scene| {
        scene.relay.expect_log("a row names no channel");
        scene
            .database
            .batch_execute(
                "create table shops (id integer primary key, code char(10), name text);
                 select campfire.publish('campfire', 'shops');
                 select campfire.add_route('shops', 'INSERT', 'shop:{code}', 'shop:opened', '{id,name}', public => true)",
            )
            .await?;
        scene.settle().await?;
        let mut socket = scene.socket(Vsn::V1).await?;
        ensure!(socket.try_join("shop:b7", None, default_config()).await?.is_ok());
        let rows = "insert into shops values (1, null, 'nowhere'), (2, null, 'nowhere'), (3, 'b7', 'here')";
        scene.database.batch_execute(rows).await?;
        let event = socket.expect("shop:b7", "shop:opened").await?;
        ensure!(event.payload["name"] == "here", "{event:?}");
        scene.relay.wait_for_log("names no channel").await;
        let lines = scene.relay.log_of("campfire_relay::ingest::translator");
        let told: Vec<_> = lines
            .iter()
            .filter(|line| {
                line["fields"]["message"].as_str().is_some_and(|text| text.contains("names no channel"))
            })
            .collect();
        ensure!(told.len() == 1, "{told:?}");
        ensure!(told[0]["fields"]["table"] == "public.shops", "{told:?}");
        ensure!(told[0]["fields"]["problem"] == r#"column "code" is null"#, "{told:?}");
        ensure!(scene.relay.metric("campfire_events_unaddressed_total").await? == Some(2.0));
        Ok(())
    })
    .await;
}
