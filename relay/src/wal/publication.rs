//! The publications that the slot is read with, as SQL tells of them.

use tokio_postgres::{Client, Row};

use super::{WalConfig, WalError};

pub(super) struct Publication {
    pub(super) name: String,
    pub(super) oid: u32,
    /// The transaction that made it, or last changed its options.
    pub(super) xmin: String,
    /// It was there before everything that the slot may still decode. Can be false for one that was.
    pub(super) older_than_slot: bool,
}

/// The configured publications, in that order; one that is missing is an error.
pub(super) async fn find(
    sql: &Client,
    config: &WalConfig,
    database: &str,
) -> Result<Vec<Publication>, WalError> {
    let rows = sql
        .query(
            "select p.pubname::text, p.oid, p.xmin::text,
                 coalesce((select age(p.xmin) > age(s.catalog_xmin) from pg_replication_slots s
                           where s.slot_name = $2::text), false)
             from pg_publication p where p.pubname = any($1::text[])",
            &[&config.publications, &config.settings.slot_name],
        )
        .await?;
    let publication = |row: &Row| {
        Ok(Publication {
            name: row.try_get(0)?,
            oid: row.try_get(1)?,
            xmin: row.try_get(2)?,
            older_than_slot: row.try_get(3)?,
        })
    };
    let mut found = rows.iter().map(publication).collect::<Result<Vec<_>, tokio_postgres::Error>>()?;
    let missing = |name: &String| !found.iter().any(|publication| &publication.name == name);
    if let Some(name) = config.publications.iter().find(|name| missing(name)) {
        return Err(WalError::PublicationMissing {
            publication: name.clone(),
            database: database.to_owned(),
        });
    }
    found.sort_by_key(|publication| config.publications.iter().position(|name| *name == publication.name));
    Ok(found)
}
