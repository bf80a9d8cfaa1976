//! `campfire.slots`: what was true when a slot was made, so that a later relay can tell another cluster, or a
//! publication that only has the same name.

use std::collections::HashMap;

use tokio_postgres::Client;

use super::publication::Publication;
use crate::postgres::PostgresError;

pub(super) struct Registered {
    pub(super) system_identifier: String,
    /// Oids by name.
    pub(super) publications: HashMap<String, u32>,
}

pub(super) async fn find(sql: &Client, slot_name: &str) -> Result<Option<Registered>, PostgresError> {
    let row = sql
        .query_opt(
            "select system_identifier, publication_names::text[], publication_oids
             from campfire.slots where slot_name = $1::text",
            &[&slot_name],
        )
        .await?;
    let Some(row) = row else { return Ok(None) };
    let (names, oids): (Vec<String>, Vec<u32>) = (row.try_get(1)?, row.try_get(2)?);
    let publications = names.into_iter().zip(oids).collect();
    Ok(Some(Registered { system_identifier: row.try_get(0)?, publications }))
}

/// A publication that is not there any more, or not the one that the slot is read with. Up to Postgres 17 the stream
/// itself fails at its next row; from 18 on it goes on without the rows.
pub async fn publication_gone(
    sql: &Client,
    slot_name: &str,
    publications: &[String],
) -> Result<Option<String>, PostgresError> {
    let row = sql
        .query_opt(
            "select name::text from campfire.slots, unnest(publication_names, publication_oids) as known (name, oid)
             where slot_name = $1::text and name = any($2::text[])
                 and not exists (select from pg_publication p where p.pubname = known.name and p.oid = known.oid)
             limit 1",
            &[&slot_name, &publications],
        )
        .await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// Also over a row of an earlier slot of that name.
pub(super) async fn write(
    sql: &Client,
    slot_name: &str,
    system_identifier: &str,
    timeline: u32,
    publications: &[Publication],
) -> Result<(), PostgresError> {
    let names: Vec<&str> = publications.iter().map(|publication| publication.name.as_str()).collect();
    let oids: Vec<u32> = publications.iter().map(|publication| publication.oid).collect();
    let xmins: Vec<&str> = publications.iter().map(|publication| publication.xmin.as_str()).collect();
    sql.execute(
        "insert into campfire.slots
             (slot_name, system_identifier, timeline, publication_names, publication_oids, publication_xmins)
         values ($1::text, $2, $3, $4::text[]::name[], $5, $6)
         on conflict (slot_name) do update set
             system_identifier = excluded.system_identifier,
             timeline = excluded.timeline,
             publication_names = excluded.publication_names,
             publication_oids = excluded.publication_oids,
             publication_xmins = excluded.publication_xmins,
             created_at = excluded.created_at",
        &[&slot_name, &system_identifier, &i64::from(timeline), &names, &oids, &xmins],
    )
    .await?;
    Ok(())
}
