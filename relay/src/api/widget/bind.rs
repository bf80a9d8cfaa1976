//! Conversations and the verified identities that they belong to.
//!
//! Written by the relay itself: it alone has seen the proof. The database keeps an identity once for an organization, and
//! whoever writes its row holds it until the transaction ends, so that two devices find the same conversation.

use uuid::Uuid;

use crate::api::database::{Failure, Transaction};
use crate::api::error::Code;
use crate::auth::Proof;

/// Whether there is a visitor whom a proof is about.
pub(super) async fn is_known(sql: &Transaction, organization: Uuid, proof: &Proof) -> Result<bool, Failure> {
    let query = format!(
        "select from {}.visitors as v where v.organization_id = $1 and v.external_id = $2",
        sql.schema
    );
    Ok(sql.query_opt(&query, &[&organization, &proof.subject]).await?.is_some())
}

/// The visitor whom a proof is about; from now on there is one.
pub(super) async fn visitor_of(
    sql: &Transaction,
    organization: Uuid,
    proof: &Proof,
) -> Result<Uuid, Failure> {
    let schema = &sql.schema;
    let query = format!(
        "insert into {schema}.visitors as v (organization_id, external_id, name, email) values ($1, $2, $3, $4)
         on conflict (organization_id, external_id) do update
         set name = coalesce(excluded.name, v.name), email = coalesce(excluded.email, v.email),
             updated_at = pg_catalog.now()
         returning v.id"
    );
    let Proof { subject, name, email } = proof;
    Ok(sql.query_one(&query, &[&organization, subject, name, email]).await?.try_get(0)?)
}

/// The conversation that an identity goes on with, if it has one.
pub(super) async fn open_conversation(
    sql: &Transaction,
    organization: Uuid,
    visitor: Uuid,
) -> Result<Option<Uuid>, Failure> {
    let schema = &sql.schema;
    let query = format!(
        "select c.id from {schema}.conversations as c
         where c.organization_id = $1 and c.visitor_id = $2 and c.status in ('open', 'pending')
         order by c.updated_at desc, c.id limit 1"
    );
    let row = sql.query_opt(&query, &[&organization, &visitor]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// Whose conversation it is: None if there is none, and inside None if it is nobody's who is verified.
pub(super) async fn owner(
    sql: &Transaction,
    organization: Uuid,
    conversation: Uuid,
) -> Result<Option<Option<Uuid>>, Failure> {
    let schema = &sql.schema;
    let query = format!(
        "select c.visitor_id from {schema}.conversations as c
         where c.organization_id = $1 and c.id = $2 for no key update"
    );
    let row = sql.query_opt(&query, &[&organization, &conversation]).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// Gives an identity a conversation that is nobody's yet. If the conversation is empty and the identity has another one,
/// that is the one to go on with.
pub(super) async fn bind(
    sql: &Transaction,
    organization: Uuid,
    conversation: Uuid,
    visitor: Uuid,
    proof: &Proof,
) -> Result<Uuid, Failure> {
    let schema = &sql.schema;
    let has_messages = format!(
        "select exists (select from {schema}.messages as m
                        where m.organization_id = $1 and m.conversation_id = $2)"
    );
    let has_messages: bool =
        sql.query_one(&has_messages, &[&organization, &conversation]).await?.try_get(0)?;
    if !has_messages && let Some(other) = open_conversation(sql, organization, visitor).await? {
        return Ok(other);
    }
    give(sql, organization, conversation, visitor, proof).await?;
    Ok(conversation)
}

/// Writes whose conversation it is, with the names that were proven.
pub(super) async fn give(
    sql: &Transaction,
    organization: Uuid,
    conversation: Uuid,
    visitor: Uuid,
    proof: &Proof,
) -> Result<(), Failure> {
    let schema = &sql.schema;
    let query = format!(
        "update {schema}.conversations as c
         set visitor_id = $3, customer_name = coalesce($4, c.customer_name),
             customer_email = coalesce($5, c.customer_email)
         where c.organization_id = $1 and c.id = $2 and c.visitor_id is null"
    );
    let Proof { name, email, .. } = proof;
    match sql.execute(&query, &[&organization, &conversation, &visitor, name, email]).await? {
        0 => Err(Code::IdentityConflict.into()),
        _ => Ok(()),
    }
}
