//! Nobody receives what is not theirs.

use anyhow::{Result, ensure};
use campfire_tests::fence::Fence;
use campfire_tests::socket::{Vsn, default_config};
use campfire_tests::{AGENT, ORGANIZATION, Socket, chat, token};
use serde_json::json;
use uuid::Uuid;

use crate::scene::{Scene, scene_test};

/// All four channels of an organization.
fn channels(organization: Uuid, conversation: Uuid) -> [String; 4] {
    [
        chat::organization_channel(organization),
        chat::conversations_channel(organization),
        chat::conversation_channel(organization, conversation),
        chat::widget_channel(organization, conversation),
    ]
}

/// Fails unless the join is refused with a reason.
async fn refused(socket: &mut Socket, channel: &str, token: &str) -> Result<()> {
    let reply = socket.try_join(channel, Some(token), default_config()).await?;
    ensure!(reply.status == "error", "{channel} could be joined");
    ensure!(!reply.reason().is_empty(), "a refusal has a reason: {reply:?}");
    Ok(())
}

#[scene_test]
async fn an_agent_cannot_join_another_organizations_channels(scene: &mut Scene) -> Result<()> {
    let (theirs, _) = chat::found_organization(&scene.database, "Other").await?;
    let conversation = chat::open_conversation(&scene.database, theirs, "Not Ours").await?;
    let mut socket = scene.socket(Vsn::V2).await?;
    for channel in channels(theirs, conversation) {
        refused(&mut socket, &channel, &scene.agent()).await?;
        refused(&mut socket, &format!("bcast:{channel}"), &scene.agent()).await?;
    }
    // A token that claims their organization for our agent: no such agent there.
    let claimed = token::agent(scene.secret(), theirs, AGENT);
    for channel in channels(theirs, conversation) {
        refused(&mut socket, &channel, &claimed).await?;
    }
    Ok(())
}

#[scene_test]
async fn events_stay_in_their_organization_and_conversation(scene: &mut Scene) -> Result<()> {
    let (theirs, their_agent) = chat::found_organization(&scene.database, "Other").await?;
    let their_conversation = chat::open_conversation(&scene.database, theirs, "Theirs").await?;
    scene.settle().await?;
    let ours = scene.conversation().await?;
    let also_ours = scene.conversation().await?;

    let our_channels = channels(ORGANIZATION, ours);
    let names: Vec<&str> = our_channels.iter().map(String::as_str).collect();
    let mut our_socket = scene.dashboard(Vsn::V2, &names[2..]).await?;
    let mut their_socket = scene.socket(Vsn::V2).await?;
    let their_token = token::agent(scene.secret(), theirs, their_agent);
    for channel in channels(theirs, their_conversation) {
        their_socket.join(&channel, &their_token).await?;
    }

    scene.write_messages(also_ours, &["in another conversation".to_owned()]).await?;
    let our_fence = Fence::message(&scene.database, ORGANIZATION, ours).await?;
    let their_fence = Fence::message(&scene.database, theirs, their_conversation).await?;

    // conv and widget of one conversation: nothing of the other one.
    let before = our_socket.events_before(&our_fence, &our_channels[2]).await?;
    let strange: Vec<_> =
        before.iter().filter(|event| event.payload["conversation_id"] != json!(ours)).collect();
    ensure!(strange.is_empty(), "{strange:?}");
    let before =
        their_socket.events_before(&their_fence, &chat::widget_channel(theirs, their_conversation)).await?;
    let strange: Vec<_> =
        before.iter().filter(|event| event.payload["organization_id"] != json!(theirs)).collect();
    ensure!(strange.is_empty(), "{strange:?}");
    Ok(())
}

#[scene_test]
async fn an_inactive_or_unknown_agent_is_refused(scene: &mut Scene) -> Result<()> {
    let conversation = scene.conversation().await?;
    let user = Uuid::new_v4();
    scene
        .database
        .execute(
            "insert into agents (organization_id, user_id, display_name, email, active)
             values ($1, $2, 'Former', 'former@example.com', false)",
            &[&ORGANIZATION, &user],
        )
        .await?;
    scene.settle().await?;

    let mut socket = scene.socket(Vsn::V2).await?;
    let secret = scene.secret();
    for user in [user, Uuid::new_v4()] {
        let token = token::agent(secret, ORGANIZATION, user);
        for channel in channels(ORGANIZATION, conversation) {
            refused(&mut socket, &channel, &token).await?;
        }
    }
    let nobody = token::mint(
        secret,
        &json!({"role": "authenticated", "sub": "root", "org_id": ORGANIZATION,
                "exp": token::in_an_hour()}),
    );
    refused(&mut socket, &chat::conversations_channel(ORGANIZATION), &nobody).await
}

#[scene_test]
async fn an_agent_who_is_activated_may_join_at_once(scene: &mut Scene) -> Result<()> {
    let user = Uuid::new_v4();
    scene
        .database
        .execute(
            "insert into agents (organization_id, user_id, display_name, email, active)
             values ($1, $2, 'New', 'new@example.com', true)",
            &[&ORGANIZATION, &user],
        )
        .await?;
    scene.settle().await?;
    let mut socket = scene.socket(Vsn::V2).await?;
    let list = chat::conversations_channel(ORGANIZATION);
    socket.join(&list, &token::agent(scene.secret(), ORGANIZATION, user)).await
}

#[scene_test]
async fn a_visitor_joins_only_its_own_conversation(scene: &mut Scene) -> Result<()> {
    let own = scene.conversation().await?;
    let other = scene.conversation().await?;
    let token = scene.visitor(own);
    let mut socket = scene.socket(Vsn::V2).await?;
    let [org, list, conv, widget] = channels(ORGANIZATION, own);
    socket.join(&conv, &token).await?;
    socket.join(&widget, &token).await?;
    for channel in [&org, &list] {
        refused(&mut socket, channel, &token).await?;
    }
    for channel in channels(ORGANIZATION, other) {
        refused(&mut socket, &channel, &token).await?;
    }
    Ok(())
}

#[scene_test]
async fn tokens_that_are_not_ours_or_no_longer_valid_are_refused(scene: &mut Scene) -> Result<()> {
    let org = chat::organization_channel(ORGANIZATION);
    let mut socket = scene.socket(Vsn::V2).await?;
    for token in bad_tokens(scene) {
        refused(&mut socket, &org, &token).await?;
    }
    // Without a token the join has the API key's rights: anon's, and no claims.
    let reply = socket.try_join(&org, None, default_config()).await?;
    ensure!(reply.status == "error", "{reply:?}");
    Ok(())
}

fn bad_tokens(scene: &Scene) -> Vec<String> {
    let good = token::agent_claims(ORGANIZATION, AGENT);
    let with = |key: &str, value: serde_json::Value| {
        let mut claims = good.clone();
        claims[key] = value;
        token::mint(scene.secret(), &claims)
    };
    let valid = scene.agent();
    let (head_and_claims, _) = valid.rsplit_once('.').expect("a token has a signature");
    vec![
        token::mint("another secret of sufficient length", &good),
        with("exp", json!(token::now() - 1)),
        with("nbf", json!(token::now() + 600)),
        with("role", json!("postgres")),
        with("role", json!("supabase_admin")),
        with("org_id", json!(Uuid::new_v4())),
        with("org_id", serde_json::Value::Null),
        // {"alg":"none"} and no signature.
        format!("eyJhbGciOiJub25lIn0.{}.", head_and_claims.split_once('.').expect("claims").1),
        format!("{head_and_claims}."),
        "not a token".to_owned(),
    ]
}

#[scene_test]
async fn service_role_joins_everything(scene: &mut Scene) -> Result<()> {
    let conversation = scene.conversation().await?;
    let mut socket = scene.socket(Vsn::V2).await?;
    let token = token::service(scene.secret());
    for channel in channels(ORGANIZATION, conversation) {
        socket.join(&channel, &token).await?;
    }
    Ok(())
}
