//! Makes things go wrong, one after the other, and leaves everything working after each.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result};
use campfire_tests::server;
use tokio::time::sleep;
use tokio_postgres::Client;

use crate::client::Shared;
use crate::journal::now;
use crate::plan::{Fault, Weather};
use crate::stage::Stage;
use crate::truth::Truth;

/// The relay's slot.
const SLOT: &str = "campfire";

/// How long a relay that is not killed sits out its own loss of the slot.
const ATTEMPTS: usize = 200;

/// Events that could not be had any more: who had not got them must be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Before it was made, and after the relay served again.
    pub began_at: i64,
    pub ended_at: i64,
    /// Nothing at or below this can be replayed any more.
    pub up_to_lsn: u64,
}

/// Does it, waits until it is over, and tells of a loss.
pub async fn strike(stage: &mut Stage, shared: &Arc<Shared>, fault: Fault) -> Result<Option<Loss>> {
    match fault {
        Fault::RelayKilled { down } => {
            stage.relay()?.kill_9().await?;
            sleep(down).await;
            stage.seat(stage.active)?;
            stage.ready().await?;
        }
        Fault::RelayStopped { for_ } => {
            let pid = stage.relay()?.pid();
            server::signal(pid, "STOP");
            sleep(for_).await;
            server::signal(pid, "CONT");
        }
        Fault::RelayRestarted => {
            let status = stage.relay()?.terminate().await?;
            anyhow::ensure!(status.success(), "the relay ended with {status} after SIGTERM");
            stage.seat(stage.active)?;
            stage.ready().await?;
        }
        Fault::WalsenderKilled => {
            end_walsender(&stage.database().await?).await?;
        }
        Fault::PostgresImmediate => stage.restart_postgres("immediate")?,
        Fault::PostgresFast => stage.restart_postgres("fast")?,
        Fault::SocketsCut { share } => stage.seats.iter().for_each(|seat| seat.proxy.cut(share)),
        Fault::PostgresCut => stage.postgres.cut(100),
        Fault::ClientWeather { weather, for_ } => {
            stage.seats.iter().for_each(|seat| seat.proxy.set_weather(weather));
            sleep(for_).await;
            stage.seats.iter().for_each(|seat| seat.proxy.set_weather(Weather::default()));
        }
        Fault::PostgresWeather { weather, for_ } => {
            stage.postgres.set_weather(weather);
            sleep(for_).await;
            stage.postgres.set_weather(Weather::default());
        }
        Fault::Silence { share, for_ } => {
            stage.seats.iter().for_each(|seat| seat.proxy.silence(share));
            sleep(for_).await;
            stage.seats.iter().for_each(|seat| seat.proxy.end_silence());
        }
        Fault::ClockStep { seconds, for_ } => {
            shared.clock_step.store(seconds, Ordering::Relaxed);
            // Who joins now does it by the wrong clock.
            stage.seats.iter().for_each(|seat| seat.proxy.cut(50));
            sleep(for_).await;
            shared.clock_step.store(0, Ordering::Relaxed);
        }
        Fault::SlotAdvanced => return lose(stage, Hand::Advances).await.map(Some),
        Fault::SlotDropped => return lose(stage, Hand::Drops).await.map(Some),
        Fault::Takeover => take_over(stage, "KILL").await?,
        Fault::TakeoverOfHung => take_over(stage, "STOP").await?,
    }
    Ok(None)
}

async fn end_walsender(database: &Client) -> Result<()> {
    let end = "select pg_terminate_backend(active_pid) from pg_replication_slots
               where slot_name = $1 and active_pid is not null";
    database.execute(end, &[&SLOT]).await.context("cannot end the walsender")?;
    Ok(())
}

#[derive(Clone, Copy)]
enum Hand {
    Advances,
    Drops,
}

/// Takes the slot from a relay that lives, or, if it is too quick, from one that is down.
async fn lose(stage: &mut Stage, hand: Hand) -> Result<Loss> {
    let database = stage.database().await?;
    let began_at = now();
    let act = match hand {
        Hand::Advances => "select pg_replication_slot_advance($1, pg_current_wal_lsn())",
        Hand::Drops => "select pg_drop_replication_slot($1)",
    };
    let mut done = false;
    for _ in 0..ATTEMPTS {
        end_walsender(&database).await?;
        if database.execute(act, &[&SLOT]).await.is_ok() {
            done = true;
            break;
        }
    }
    if !done {
        stage.relay()?.kill_9().await?;
        stage
            .wait_for(
                "the slot is free",
                "select not active from pg_replication_slots where slot_name = 'campfire'",
            )
            .await?;
        database.execute(act, &[&SLOT]).await.context("cannot take the slot away")?;
        stage.seat(stage.active)?;
    }
    stage
        .wait_for(
            "the relay is back on its slot",
            "select exists (select from pg_replication_slots where slot_name = 'campfire' and active
               and confirmed_flush_lsn is not null)",
        )
        .await?;
    // Trails behind by the window, so for minutes it is where the relay began.
    let up_to_lsn = Truth::confirmed(&database, SLOT).await?.context("the slot is there again")?;
    stage.ready().await?;
    Ok(Loss { began_at, ended_at: now(), up_to_lsn })
}

/// A standby waits in the other seat; then the one on the slot is sent a signal that it does not survive, or does not
/// answer to.
async fn take_over(stage: &mut Stage, signal: &str) -> Result<()> {
    let (old, new) = (stage.active, 1 - stage.active);
    stage.seat(new)?;
    // Long enough to be refused the slot at least once.
    sleep(Duration::from_millis(700)).await;
    let pid = stage.relay()?.pid();
    server::signal(pid, signal);
    stage.active = new;
    let outcome = stage.ready().await;
    server::signal(pid, "CONT");
    outcome?;
    // As an orchestrator does with one that is not ready any more: its clients move to the new one.
    sleep(Duration::from_millis(500)).await;
    stage.unseat(old);
    Ok(())
}
