//! Finds or makes the slot, holds it against what is known of it, and starts the stream.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tracing::{info, warn};

use super::publication::{self, Publication};
use super::registry::{self, Registered};
use super::slot::{self, Slot};
use super::stream::{StreamSettings, spawn};
use super::timeline;
use super::{Attachment, OnLostSlot, WalConfig, WalError, WalStream};
use crate::postgres::{Connection, Lsn, PostgresError, answered, quote_identifier, quote_literal};

/// What IDENTIFY_SYSTEM tells.
struct System {
    identifier: String,
    timeline: u32,
}

/// Opens the replication connection and starts the stream at the slot's confirmed position. `sql` is an ordinary
/// session in the same database; it may `SET ROLE`, the login role is what counts.
///
/// Not safe to cancel by dropping while a slot is being made: the server would finish it alone, and the next attach
/// finds a slot without a row in `campfire.slots` and adopts it. To stop, cancel `config.stop`.
pub async fn attach(config: &WalConfig, sql: &Client) -> Result<(Attachment, WalStream), WalError> {
    let server = slot::server(sql).await?;
    let publications = publication::find(sql, config, &server.database).await?;
    let mut existing = slot::find(sql, &config.settings.slot_name).await?;
    if let Some(slot) = &existing {
        slot.check(&server.database)?;
    }
    let registered = registry::find(sql, &config.settings.slot_name).await?;
    let slot_replaced = existing.is_none() && registered.is_some();
    if slot_replaced && config.settings.on_lost_slot == OnLostSlot::Stop {
        return Err(WalError::SlotDropped { slot_name: config.settings.slot_name.clone() });
    }

    let mut connection =
        Connection::open(&config.database, config.settings.frame_bytes_max, config.excerpt).await?;
    let system = answered(&config.database, "IDENTIFY_SYSTEM", identify(&mut connection)).await?;

    let slot_created =
        existing.is_none() && slot::create(&mut connection, config, sql, server.version_num).await?;
    if slot_created {
        info!(slot = %config.settings.slot_name, "slot created");
    }
    if existing.is_none() {
        existing = slot::find(sql, &config.settings.slot_name).await?;
    }
    let Some(slot) = existing else {
        // Somebody dropped it in the very moment; the next attempt makes it anew.
        return Err(WalError::StreamEnded);
    };

    if slot_created {
        if let Err(error) = registry::write(
            sql,
            &config.settings.slot_name,
            &system.identifier,
            system.timeline,
            &publications,
        )
        .await
        {
            // A slot that nobody knows would hold WAL for ever.
            slot::drop(&mut connection, &config.settings.slot_name).await?;
            return Err(error.into());
        }
    } else {
        check_registered(config, &slot, registered.as_ref(), &system, &publications)?;
        if registered.is_none_or(|row| {
            publications.iter().any(|publication| !row.publications.contains_key(&publication.name))
        }) {
            registry::write(
                sql,
                &config.settings.slot_name,
                &system.identifier,
                system.timeline,
                &publications,
            )
            .await?;
        }
    }

    let history = timeline::history(&mut connection, system.timeline);
    let timeline_history = answered(&config.database, "the history of its timeline", history).await?;
    let sender_timeout =
        answered(&config.database, "wal_sender_timeout", wal_sender_timeout(&mut connection)).await?;
    let command = start_command(config);
    let started = answered(&config.database, "START_REPLICATION", connection.start_copy_both(&command));
    let frames = match config.stop.run_until_cancelled(started).await {
        None => return Err(WalError::Stopped),
        Some(Ok(frames)) => frames,
        Some(Err(error)) => {
            return Err(slot::explain_refusal(sql, &config.settings.slot_name, &server.database, error).await);
        }
    };
    // Looked at again, now that nobody else can move it: whoever advanced it just before START_REPLICATION would
    // otherwise make a loss that nobody notices.
    let Some(slot) = slot::find(sql, &config.settings.slot_name).await? else {
        return Err(WalError::StreamEnded);
    };
    let settings = StreamSettings::new(config, sender_timeout, slot.confirmed_flush_lsn);
    info!(slot = %config.settings.slot_name, lsn = %slot.confirmed_flush_lsn, "attached");
    let attachment = Attachment {
        system_identifier: system.identifier.parse().map_err(|_| bad_answer("IDENTIFY_SYSTEM"))?,
        timeline: system.timeline,
        database_oid: server.database_oid,
        confirmed_flush_lsn: slot.confirmed_flush_lsn,
        slot_created,
        slot_replaced: slot_created && slot_replaced,
        timeline_history,
        server_version_num: server.version_num,
    };
    Ok((attachment, spawn(frames, settings)))
}

/// Compares a slot that we did not make just now with what was written down when it was made.
fn check_registered(
    config: &WalConfig,
    slot: &Slot,
    registered: Option<&Registered>,
    system: &System,
    publications: &[Publication],
) -> Result<(), WalError> {
    let slot_name = &config.settings.slot_name;
    let Some(registered) = registered else {
        warn!(
            slot = %slot_name, lsn = %slot.confirmed_flush_lsn,
            "slot has no row in campfire.slots; adopting it, although a publication may be newer than the slot"
        );
        return Ok(());
    };
    if registered.system_identifier != system.identifier {
        return Err(WalError::OtherSystem {
            slot_name: slot_name.clone(),
            expected: registered.system_identifier.clone(),
            found: system.identifier.clone(),
        });
    }
    for publication in publications {
        let known = match registered.publications.get(&publication.name) {
            Some(&oid) => oid == publication.oid,
            // Added to our settings later. Sound only if the slot can no longer see a time without it.
            None => publication.older_than_slot,
        };
        if !known {
            return Err(WalError::PublicationNewerThanSlot {
                publication: publication.name.clone(),
                slot_name: slot_name.clone(),
            });
        }
    }
    Ok(())
}

async fn identify(connection: &mut Connection) -> Result<System, PostgresError> {
    // Unknown to a session that is not in replication mode, which a pooler opens in its own way.
    let rows = connection.query("IDENTIFY_SYSTEM").await.map_err(|error| match error {
        PostgresError::Server(server) if server.is(&SqlState::SYNTAX_ERROR) => PostgresError::Pooler(server),
        other => other,
    })?;
    match rows.into_iter().next().as_deref() {
        Some([Some(identifier), Some(timeline), ..]) => Ok(System {
            identifier: identifier.clone(),
            timeline: timeline.parse().map_err(|_| bad_answer("IDENTIFY_SYSTEM"))?,
        }),
        _ => Err(bad_answer("IDENTIFY_SYSTEM")),
    }
}

/// In milliseconds, as this very session has it: the setting can differ by role and database. Zero: no time-out.
async fn wal_sender_timeout(connection: &mut Connection) -> Result<u64, PostgresError> {
    let setting = "select setting from pg_settings where name = 'wal_sender_timeout'";
    connection.query_value(setting).await?.parse().map_err(|_| bad_answer(setting))
}

/// Starts at 0/0, which means the slot's own position: any later one would skip silently what lies between.
fn start_command(config: &WalConfig) -> String {
    let publications: Vec<String> = config.publications.iter().map(|name| quote_identifier(name)).collect();
    format!(
        "START_REPLICATION SLOT {} LOGICAL {} (proto_version '1', publication_names {}, messages 'true')",
        quote_identifier(&config.settings.slot_name),
        Lsn::INVALID,
        quote_literal(&publications.join(",")),
    )
}

fn bad_answer(command: &str) -> PostgresError {
    PostgresError::Protocol(format!("the answer to {command} is not what it should be"))
}
