//! What a run plays on: a Postgres, one relay or two, and the proxies around them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use campfire_tests::cluster::Options as ClusterOptions;
use campfire_tests::relay::Settings;
use campfire_tests::wait::DEADLINE;
use campfire_tests::{Cluster, Relay, server};
use tokio_postgres::Client;

use crate::journal::now;
use crate::plan::Plan;
use crate::proxy::Proxy;
use crate::sabotage::Saboteur;
use crate::xids;

/// How soon a standby ends a relay that hangs.
const TAKEOVER_SECONDS: &str = "3";

/// Where a relay can be: its settings, and what clients reach it by.
pub struct Seat {
    pub settings: Settings,
    pub relay: Option<Relay>,
    pub proxy: Proxy,
}

pub struct Stage {
    pub cluster: Cluster,
    /// Between relays and Postgres.
    pub postgres: Proxy,
    /// Two; one is empty most of the time.
    pub seats: Vec<Seat>,
    /// The seat whose relay reads the slot.
    pub active: usize,
    /// When relays started, and were ready; the end of time where that is still awaited.
    pub starts: Vec<(i64, i64)>,
    /// Lines that no relay may write.
    pub panics: Vec<String>,
}

impl Stage {
    /// Boots Postgres, and no relay yet.
    pub async fn build(
        binary: Option<PathBuf>,
        saboteur: Option<Arc<Saboteur>>,
        plan: &Plan,
    ) -> Result<Self> {
        let settings = [("max_slot_wal_keep_size", "-1"), ("max_connections", "200")];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let cluster = tokio::task::block_in_place(|| {
            let mut cluster = Cluster::boot_with(ClusterOptions { settings, ..ClusterOptions::default() })?;
            if let Some(boundary) = plan.xids {
                xids::move_below(&mut cluster, boundary)?;
            }
            anyhow::Ok(cluster)
        })?;
        let postgres = Proxy::start(cluster.port, None).await?;
        let mut seats = Vec::new();
        for _ in 0..2 {
            let mut settings = Settings::of(&cluster)?
                .impatient()
                .env("CAMPFIRE_DATABASE_URL", &cluster.relay_url_by(postgres.port))
                .env("CAMPFIRE_LOG", "info")
                .env("CAMPFIRE_MAX_SOCKETS", "2000")
                .env("CAMPFIRE_HEARTBEAT_SECONDS", "1")
                .env("CAMPFIRE_TAKEOVER_SECONDS", TAKEOVER_SECONDS)
                .env("CAMPFIRE_SHUTDOWN_GRACE_SECONDS", "2");
            if let Some(binary) = &binary {
                settings = settings.binary(binary);
            }
            if plan.is_steady {
                // Attackers come from an address of their own, not from this machine.
                settings = settings.env("CAMPFIRE_TRUSTED_PROXIES", "1");
            }
            if let Some(bytes) = plan.window_bytes {
                settings = settings.env("CAMPFIRE_WINDOW_BYTES", &bytes.to_string());
            }
            let proxy = Proxy::start(settings.port, saboteur.clone()).await?;
            seats.push(Seat { settings, relay: None, proxy });
        }
        Ok(Self { cluster, postgres, seats, active: 0, starts: Vec::new(), panics: Vec::new() })
    }

    /// Starts a relay in a seat, and does not wait for it.
    pub fn seat(&mut self, seat: usize) -> Result<()> {
        self.unseat(seat);
        self.starts.push((now(), i64::MAX));
        let mut relay = self.seats[seat].settings.clone().spawn()?;
        // Faults are what a run is made of; panics are not declared, and so fail it.
        for level in ["WARN", "ERROR"] {
            relay.expect_log(&format!(r#""level":"{level}""#));
        }
        self.seats[seat].relay = Some(relay);
        Ok(())
    }

    /// Kills whatever sits there, and keeps what it should not have said.
    pub fn unseat(&mut self, seat: usize) {
        let Some(mut relay) = self.seats[seat].relay.take() else { return };
        server::signal(relay.pid(), "KILL");
        let log = relay.finished_log();
        let panics: Vec<String> =
            log.lines().filter(|line| line.contains("panicked at")).map(str::to_owned).collect();
        for line in &panics {
            relay.expect_log(line);
        }
        self.panics.extend(panics);
    }

    pub fn relay(&mut self) -> Result<&mut Relay> {
        self.seats[self.active].relay.as_mut().context("no relay in the active seat")
    }

    /// Waits until the active seat's relay, which perhaps has just started, serves.
    pub async fn ready(&mut self) -> Result<()> {
        self.relay()?.wait_until_ready().await?;
        let begun = self.starts.iter_mut().filter(|(_, ready_at)| *ready_at == i64::MAX);
        begun.for_each(|(_, ready_at)| *ready_at = now());
        Ok(())
    }

    /// Stops and starts Postgres, and leads the proxy to where it is now.
    pub fn restart_postgres(&mut self, mode: &str) -> Result<()> {
        tokio::task::block_in_place(|| self.cluster.restart(mode))?;
        self.postgres.lead_to(self.cluster.port);
        Ok(())
    }

    /// A superuser's session, not by the proxy.
    pub async fn database(&self) -> Result<Client> {
        self.cluster.connect().await
    }

    /// Asks until it is so.
    pub async fn wait_for(&self, what: &str, query: &str) -> Result<()> {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        loop {
            if let Ok(database) = self.database().await
                && let Ok(row) = database.query_one(query, &[]).await
                && row.get::<_, Option<bool>>(0) == Some(true)
            {
                return Ok(());
            }
            anyhow::ensure!(tokio::time::Instant::now() < deadline, "waited {DEADLINE:?} for: {what}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
