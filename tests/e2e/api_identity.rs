//! Verified identities: what binds a conversation to one, and what does not.

use anyhow::{Context, Result, ensure};
use campfire_tests::http::Response;
use campfire_tests::{ORGANIZATION, chat, token};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::api_widget::{Visit, ask, auth, check_error, visit};
use crate::scene::{Scene, scene_test};

const SECRET: &str = "the identity secret of the seeded organization";
const OTHER_SECRET: &str = "the identity secret of another organization";

/// Adds a secret, valid in this range of minutes from now.
async fn add_secret(
    scene: &Scene,
    organization: Uuid,
    secret: &str,
    from: i32,
    until: Option<i32>,
) -> Result<()> {
    let insert = "insert into organization_secrets (organization_id, secret, valid_from, valid_until)
                  values ($1, $2, now() + $3 * interval '1 minute', now() + $4 * interval '1 minute')";
    let (from, until) = (f64::from(from), until.map(f64::from));
    scene.database.execute(insert, &[&organization, &secret, &from, &until]).await?;
    Ok(())
}

fn claims(subject: &str) -> Value {
    json!({"sub": subject, "exp": token::in_an_hour()})
}

fn identity(subject: &str) -> String {
    token::mint(SECRET, &claims(subject))
}

async fn auth_as(scene: &Scene, token: Option<&str>, identity: &str) -> Result<Response> {
    let mut body = json!({"organizationId": ORGANIZATION, "identity": identity});
    if let Some(token) = token {
        body["token"] = token.into();
    }
    auth(scene, &body).await
}

async fn identify(scene: &Scene, visit: &Visit, identity: &str) -> Result<Response> {
    let body = json!({"identity": identity});
    ask(scene, "POST", "/api/widget/identify", Some(&visit.token), &body).await
}

async fn say(scene: &Scene, visit: &Visit) -> Result<()> {
    let body = json!({"content": "Hello?"});
    let response = ask(scene, "POST", "/api/widget/messages", Some(&visit.token), &body).await?;
    ensure!(response.status == 201, "{response:?}");
    Ok(())
}

/// The conversation of an answer that says it is verified.
fn verified(response: &Response) -> Result<Uuid> {
    let visit = Visit::of(response)?;
    ensure!(visit.answer["verified"] == true, "{response:?}");
    Ok(visit.conversation)
}

#[scene_test]
async fn an_identity_finds_its_conversation_on_every_device(scene: &mut Scene) -> Result<()> {
    add_secret(scene, ORGANIZATION, SECRET, 0, None).await?;
    let mut ada = claims("ada");
    ada["name"] = "Ada Lovelace".into();
    ada["email"] = "ada@example.com".into();
    let ada = token::mint(SECRET, &ada);
    let first = auth_as(scene, None, &ada).await?;
    ensure!(first.status == 201, "{first:?}");
    let conversation = verified(&first)?;
    let row = "select customer_name, customer_email, v.external_id, v.name, v.email from conversations as c
               join visitors as v on v.id = c.visitor_id where c.id = $1";
    let row = scene.database.query_one(row, &[&conversation]).await?;
    let columns: Vec<String> = (0..5).map(|column| row.get(column)).collect();
    ensure!(columns == ["Ada Lovelace", "ada@example.com", "ada", "Ada Lovelace", "ada@example.com"]);
    // Elsewhere, without a token.
    let second = auth_as(scene, None, &ada).await?;
    ensure!(second.status == 200 && verified(&second)? == conversation, "{second:?}");
    // Once it is closed, there is a new one.
    let close = "update conversations set status = 'closed' where id = $1";
    scene.database.execute(close, &[&conversation]).await?;
    let third = auth_as(scene, None, &ada).await?;
    ensure!(third.status == 201 && verified(&third)? != conversation, "{third:?}");
    Ok(())
}

#[scene_test]
async fn who_only_looks_for_a_conversation_begins_none(scene: &mut Scene) -> Result<()> {
    add_secret(scene, ORGANIZATION, SECRET, 0, None).await?;
    let ada = identity("ada");
    let look = async |identity: &str, token: Option<&str>| {
        let mut body = json!({"organizationId": ORGANIZATION, "identity": identity, "create": false});
        if let Some(token) = token {
            body["token"] = token.into();
        }
        auth(scene, &body).await
    };
    let count = async |table: &str| -> Result<i64> {
        Ok(scene.database.query_one(&format!("select count(*) from {table}"), &[]).await?.get(0))
    };
    let nothing = look(&ada, None).await?;
    ensure!(nothing.status == 204 && nothing.body.is_empty(), "{nothing:?}");
    ensure!(count("visitors").await? == 0 && count("conversations").await? == 0);
    // Nor does anybody without an identity begin one so.
    let body = json!({"organizationId": ORGANIZATION, "create": false});
    ensure!(auth(scene, &body).await?.status == 204 && count("conversations").await? == 0);

    let first = Visit::of(&auth_as(scene, None, &ada).await?)?;
    let found = look(&ada, None).await?;
    ensure!(found.status == 200 && verified(&found)? == first.conversation, "{found:?}");
    // What it answers opens the conversation, and tells what is unread there.
    let page =
        ask(scene, "GET", "/api/widget/messages", Some(&Visit::of(&found)?.token), &Value::Null).await?;
    ensure!(page.status == 200, "{page:?}");
    // Nobody's conversation becomes the identity's, as without `create`.
    let mine = visit(scene).await?;
    say(scene, &mine).await?;
    let bound = look(&ada, Some(&mine.token)).await?;
    ensure!(bound.status == 200 && verified(&bound)? == mine.conversation, "{bound:?}");
    // Another one's is left alone, and is not answered with a new one.
    let eve = identity("eve");
    ensure!(look(&eve, Some(&mine.token)).await?.status == 204);
    scene.database.execute("update conversations set status = 'closed'", &[]).await?;
    let before = count("conversations").await?;
    ensure!(look(&ada, None).await?.status == 204 && count("conversations").await? == before);
    check_error(&look("garbage", None).await?, 401, "identity_invalid")?;
    let demand = "update organizations set require_identity = true where id = $1";
    scene.database.execute(demand, &[&ORGANIZATION]).await?;
    check_error(&auth(scene, &body).await?, 401, "identity_required")?;
    Ok(())
}

#[scene_test]
async fn devices_that_come_at_once_have_one_conversation(scene: &mut Scene) -> Result<()> {
    add_secret(scene, ORGANIZATION, SECRET, 0, None).await?;
    let (scene, ada) = (&*scene, identity("ada"));
    let responses = futures_util::future::try_join_all((0..8).map(|_| auth_as(scene, None, &ada))).await?;
    let conversations: Vec<Uuid> = responses.iter().map(verified).collect::<Result<_>>()?;
    ensure!(conversations.iter().all(|conversation| *conversation == conversations[0]), "{responses:?}");
    let created = responses.iter().filter(|response| response.status == 201).count();
    ensure!(created == 1, "{responses:?}");
    Ok(())
}

#[scene_test]
async fn identify_binds_a_conversation_or_finds_the_one_that_is_there(scene: &mut Scene) -> Result<()> {
    add_secret(scene, ORGANIZATION, SECRET, 0, None).await?;
    let ada = identity("ada");
    let here = visit(scene).await?;
    say(scene, &here).await?;
    let response = identify(scene, &here, &ada).await?;
    ensure!(response.status == 200 && verified(&response)? == here.conversation, "{response:?}");
    // Again is nothing new.
    ensure!(verified(&identify(scene, &here, &ada).await?)? == here.conversation);
    // On another device nothing was written yet: that goes on here.
    let empty = visit(scene).await?;
    let response = identify(scene, &empty, &ada).await?;
    ensure!(verified(&response)? == here.conversation, "{response:?}");
    // And on a third there was: nothing of it is lost.
    let full = visit(scene).await?;
    say(scene, &full).await?;
    ensure!(verified(&identify(scene, &full, &ada).await?)? == full.conversation);
    // What the answer has opens the conversation that it names.
    let ours = Visit::of(&response)?;
    say(scene, &ours).await?;
    let count = "select count(*) from messages where conversation_id = $1";
    ensure!(scene.database.query_one(count, &[&here.conversation]).await?.get::<_, i64>(0) == 2);
    Ok(())
}

#[scene_test]
async fn a_conversation_of_one_identity_is_never_anothers(scene: &mut Scene) -> Result<()> {
    add_secret(scene, ORGANIZATION, SECRET, 0, None).await?;
    let (ada, eve) = (identity("ada"), identity("eve"));
    let hers = Visit::of(&auth_as(scene, None, &ada).await?)?;
    say(scene, &hers).await?;
    // Eve has got hold of the token, and has an identity of her own.
    check_error(&identify(scene, &hers, &eve).await?, 409, "identity_conflict")?;
    let response = auth_as(scene, Some(&hers.token), &eve).await?;
    ensure!(response.status == 201 && verified(&response)? != hers.conversation, "{response:?}");
    // Nothing of Eve's attempts shows in Ada's conversation.
    let owner = "select v.external_id from conversations as c join visitors as v on v.id = c.visitor_id where c.id = $1";
    let row = scene.database.query_one(owner, &[&hers.conversation]).await?;
    ensure!(row.get::<_, &str>(0) == "ada");
    // Who says the same name and address without a proof is nobody that is known.
    let body = json!({"organizationId": ORGANIZATION, "name": "ada", "email": "ada@example.com"});
    let unproven = Visit::of(&auth(scene, &body).await?)?;
    ensure!(unproven.conversation != hers.conversation && unproven.answer["verified"] == false);
    let visitor = "select visitor_id is null from conversations where id = $1";
    ensure!(scene.database.query_one(visitor, &[&unproven.conversation]).await?.get::<_, bool>(0));
    Ok(())
}

#[scene_test]
async fn proofs_that_prove_nothing_are_refused_everywhere(scene: &mut Scene) -> Result<()> {
    let (other, _) = chat::found_organization(&scene.database, "Other").await?;
    let here = visit(scene).await?;
    // Without any secret nothing can be proven.
    check_error(&auth_as(scene, None, &identity("ada")).await?, 401, "identity_invalid")?;
    add_secret(scene, ORGANIZATION, SECRET, 0, None).await?;
    add_secret(scene, other, OTHER_SECRET, 0, None).await?;
    let hers = Visit::of(&auth_as(scene, None, &identity("ada")).await?)?;
    let mut expired = claims("ada");
    expired["exp"] = (token::now() - 1).into();
    let mut endless = claims("ada");
    endless.as_object_mut().context("claims")?.remove("exp");
    let mut early = claims("ada");
    early["nbf"] = (token::now() + 600).into();
    let genuine = identity("ada");
    let (message, _) = genuine.rsplit_once('.').context("a signature")?;
    let (_, claims_part) = message.split_once('.').context("claims")?;
    for identity in [
        // Forged; of another organization; signed with what signs visitors' tokens.
        token::mint(&"x".repeat(40), &claims("ada")),
        token::mint(OTHER_SECRET, &claims("ada")),
        token::mint(scene.secret(), &claims("ada")),
        // Replayed too late, too early, and without an end.
        token::mint(SECRET, &expired),
        token::mint(SECRET, &early),
        token::mint(SECRET, &endless),
        // {"alg":"none"}, with and without a signature.
        format!("eyJhbGciOiJub25lIn0.{claims_part}."),
        format!("eyJhbGciOiJub25lIn0.{claims_part}.AAAA"),
        format!("{message}."),
        // The visitor's own token, and nonsense.
        here.token.clone(),
        hers.token.clone(),
        token::mint(SECRET, &claims("")),
        "x".to_owned(),
        String::new(),
    ] {
        for response in [
            auth_as(scene, None, &identity).await?,
            auth_as(scene, Some(&here.token), &identity).await?,
            identify(scene, &here, &identity).await?,
        ] {
            check_error(&response, 401, "identity_invalid")?;
        }
    }
    let owner = "select visitor_id is null from conversations where id = $1";
    ensure!(scene.database.query_one(owner, &[&here.conversation]).await?.get::<_, bool>(0));
    // An identity of one organization is nothing in another, even with the same `sub`.
    let theirs = token::mint(OTHER_SECRET, &claims("ada"));
    let response = auth(scene, &json!({"organizationId": other, "identity": theirs})).await?;
    ensure!(response.status == 201 && verified(&response)? != hers.conversation, "{response:?}");
    Ok(())
}

#[scene_test]
async fn secrets_rotate_without_a_gap(scene: &mut Scene) -> Result<()> {
    let (old, gone, future) = ("the secret before this one, still", "x".repeat(32), "y".repeat(32));
    add_secret(scene, ORGANIZATION, old, -60, Some(60)).await?;
    add_secret(scene, ORGANIZATION, SECRET, 0, None).await?;
    add_secret(scene, ORGANIZATION, &gone, -60, Some(-1)).await?;
    add_secret(scene, ORGANIZATION, &future, 60, None).await?;
    let by = async |secret: &str| auth_as(scene, None, &token::mint(secret, &claims("ada"))).await;
    let conversation = verified(&by(old).await?)?;
    ensure!(verified(&by(SECRET).await?)? == conversation);
    for secret in [&gone, &future] {
        check_error(&by(secret).await?, 401, "identity_invalid")?;
    }
    Ok(())
}

#[scene_test]
async fn an_organization_can_demand_identities(scene: &mut Scene) -> Result<()> {
    add_secret(scene, ORGANIZATION, SECRET, 0, None).await?;
    let unverified = visit(scene).await?;
    let demand = "update organizations set require_identity = true where id = $1";
    scene.database.execute(demand, &[&ORGANIZATION]).await?;
    check_error(&auth(scene, &json!({"organizationId": ORGANIZATION})).await?, 401, "identity_required")?;
    let resume = |token: &str| json!({"organizationId": ORGANIZATION, "token": token});
    check_error(&auth(scene, &resume(&unverified.token)).await?, 401, "identity_required")?;
    // With one the conversation goes on, and from then on by its token.
    let response = auth_as(scene, Some(&unverified.token), &identity("ada")).await?;
    ensure!(response.status == 200 && verified(&response)? == unverified.conversation, "{response:?}");
    let response = auth(scene, &resume(&Visit::of(&response)?.token)).await?;
    ensure!(response.status == 200 && verified(&response)? == unverified.conversation, "{response:?}");
    Ok(())
}

#[scene_test]
async fn an_old_token_does_not_keep_an_identity_out(scene: &mut Scene) -> Result<()> {
    add_secret(scene, ORGANIZATION, SECRET, 0, None).await?;
    let conversation = verified(&auth_as(scene, None, &identity("ada")).await?)?;
    let deleted = visit(scene).await?;
    scene.database.execute("delete from conversations where id = $1", &[&deleted.conversation]).await?;
    for token in ["garbage", &deleted.token] {
        let response = auth_as(scene, Some(token), &identity("ada")).await?;
        ensure!(response.status == 200 && verified(&response)? == conversation, "{response:?}");
    }
    Ok(())
}
