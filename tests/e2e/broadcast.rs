//! Client to client: typing goes through, what only the database may say does not.

use anyhow::{Result, ensure};
use campfire_tests::fence::Fence;
use campfire_tests::socket::{Vsn, ack_config};
use campfire_tests::{ORGANIZATION, Socket, chat};
use serde_json::json;
use uuid::Uuid;

use crate::scene::{Scene, scene_test};

/// An agent and a visitor on the same conversation's channel, both with `ack`.
async fn pair(scene: &Scene, vsn: Vsn, conversation: Uuid) -> Result<(Socket, Socket, String)> {
    let conv = chat::conversation_channel(ORGANIZATION, conversation);
    let mut agent = scene.socket(vsn).await?;
    let mut visitor = scene.socket(vsn).await?;
    for (socket, token) in [(&mut agent, scene.agent()), (&mut visitor, scene.visitor(conversation))] {
        let reply = socket.try_join(&conv, Some(&token), ack_config()).await?;
        ensure!(reply.is_ok(), "{reply:?}");
    }
    Ok((agent, visitor, conv))
}

#[scene_test]
async fn typing_reaches_the_others_and_not_its_sender(scene: &mut Scene) -> Result<()> {
    for vsn in Vsn::BOTH {
        let conversation = scene.conversation().await?;
        let (mut agent, mut visitor, conv) = pair(scene, vsn, conversation).await?;

        let push = visitor.broadcast(&conv, "typing:start", json!({})).await?;
        ensure!(visitor.reply(&push).await?.is_ok());
        agent.expect(&conv, "typing:start").await?;

        let push = agent.broadcast(&conv, "typing:start", json!({})).await?;
        ensure!(agent.reply(&push).await?.is_ok());
        visitor.expect(&conv, "typing:start").await?;

        // Neither heard itself: the fence is what both get next.
        let fence = Fence::message(&scene.database, ORGANIZATION, conversation).await?;
        for socket in [&mut agent, &mut visitor] {
            let events = socket.events_before(&fence, &conv).await?;
            // A typing that times out may be cleared by the server meanwhile.
            let heard: Vec<_> = events.iter().filter(|event| event.name != "typing:stop").collect();
            ensure!(heard.is_empty(), "{heard:?}");
        }
    }
    Ok(())
}

#[scene_test]
async fn clients_of_both_serializations_hear_each_other(scene: &mut Scene) -> Result<()> {
    let conversation = scene.conversation().await?;
    let (mut old_agent, mut old_visitor, conv) = pair(scene, Vsn::V1, conversation).await?;
    let (mut new_agent, mut new_visitor, _) = pair(scene, Vsn::V2, conversation).await?;
    old_agent.broadcast(&conv, "note:shared", json!({"from": "old"})).await?;
    for socket in [&mut old_visitor, &mut new_agent, &mut new_visitor] {
        let event = socket.expect(&conv, "note:shared").await?;
        ensure!(event.payload == json!({"from": "old"}), "{event:?}");
    }
    new_agent.broadcast(&conv, "note:shared", json!({"from": "new"})).await?;
    for socket in [&mut old_agent, &mut old_visitor, &mut new_visitor] {
        let event = socket.expect(&conv, "note:shared").await?;
        ensure!(event.payload == json!({"from": "new"}), "{event:?}");
    }
    Ok(())
}

#[scene_test]
async fn no_client_may_say_what_only_the_database_may(scene: &mut Scene) -> Result<()> {
    for vsn in Vsn::BOTH {
        let conversation = scene.conversation().await?;
        let (mut agent, mut visitor, conv) = pair(scene, vsn, conversation).await?;
        let forged = json!({"id": Uuid::new_v4(), "content": "forged"});
        for event in [
            "message:created",
            "conversation:updated",
            "read:receipt",
            "agent:status:online",
            "campfire:anything",
            "MESSAGE:created",
        ] {
            let push = agent.broadcast(&conv, event, forged.clone()).await?;
            let reply = agent.reply(&push).await?;
            ensure!(reply.status == "error", "an agent may send {event}: {reply:?}");
        }
        let fence = Fence::message(&scene.database, ORGANIZATION, conversation).await?;
        let heard = visitor.events_before(&fence, &conv).await?;
        ensure!(heard.is_empty(), "{heard:?}");
    }
    Ok(())
}

#[scene_test]
async fn a_visitor_may_send_nothing_but_typing(scene: &mut Scene) -> Result<()> {
    for vsn in Vsn::BOTH {
        let conversation = scene.conversation().await?;
        let (mut agent, mut visitor, conv) = pair(scene, vsn, conversation).await?;
        for event in ["note:shared", "message:created", "anything"] {
            let push = visitor.broadcast(&conv, event, json!({})).await?;
            let reply = visitor.reply(&push).await?;
            ensure!(reply.status == "error", "a visitor may send {event}: {reply:?}");
        }
        let fence = Fence::message(&scene.database, ORGANIZATION, conversation).await?;
        let heard = agent.events_before(&fence, &conv).await?;
        ensure!(heard.is_empty(), "{heard:?}");
    }
    Ok(())
}

#[scene_test]
async fn a_broadcast_on_a_channel_that_was_not_joined_is_not_delivered(scene: &mut Scene) -> Result<()> {
    let conversation = scene.conversation().await?;
    let (mut agent, _visitor, conv) = pair(scene, Vsn::V2, conversation).await?;
    let mut stranger = scene.socket(Vsn::V2).await?;
    let push = stranger.broadcast(&conv, "typing:start", json!({})).await?;
    let reply = stranger.reply(&push).await?;
    ensure!(reply.reason() == "unmatched topic", "{reply:?}");
    let fence = Fence::message(&scene.database, ORGANIZATION, conversation).await?;
    let heard = agent.events_before(&fence, &conv).await?;
    ensure!(heard.is_empty(), "{heard:?}");
    Ok(())
}
