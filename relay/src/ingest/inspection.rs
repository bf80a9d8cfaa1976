//! What is wrong with single tables and installations: looked for while the relay runs, logged once, counted for health
//! checks, and never a reason to stop.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_postgres::Client;
use tracing::{info, warn};

use super::Status;
use super::metrics::IngestMetrics;
use crate::sql::{self, Installation, SqlError};

/// The part of the time that may go into looking: many thousand tables take their time.
const SHARE: u32 = 20;

#[derive(Debug, Default)]
pub(super) struct Inspection {
    /// Each problem, and what mends it.
    problems: BTreeMap<String, String>,
    /// As their agents were loaded.
    loaded: Vec<Installation>,
    next: Option<Instant>,
}

impl Inspection {
    /// Agents were loaded anew.
    pub(super) fn load(&mut self, installations: Vec<Installation>) {
        self.loaded = installations;
    }

    /// Looks, unless it has just looked for long. An error that agents have to be read anew ends the connection.
    pub(super) async fn look(
        &mut self,
        sql: &Client,
        publications: &[String],
        metrics: &IngestMetrics,
        status: &watch::Sender<Status>,
    ) -> Result<(), SqlError> {
        let began = Instant::now();
        if self.next.is_some_and(|next| began < next) {
            return Ok(());
        }
        let found = sql::problems(sql, publications).await;
        self.next =
            Some(Instant::now() + began.elapsed().saturating_mul(SHARE).min(Duration::from_secs(600)));
        self.tell(found?.into_iter().collect());
        metrics.problems.set(i64::try_from(self.problems.len()).unwrap_or(i64::MAX));
        status.send_modify(|status| status.problems = self.problems.len());
        let Some(control) = publications.last() else { return Ok(()) };
        self.compare(sql::installations(sql, control).await?)
    }

    fn tell(&mut self, found: BTreeMap<String, String>) {
        for (problem, fix) in &found {
            if !self.problems.contains_key(problem) {
                warn!(problem, fix, "some of what is published cannot be sent; everything else continues");
            }
        }
        for problem in self.problems.keys().filter(|problem| !found.contains_key(*problem)) {
            info!(problem, "problem fixed");
        }
        self.problems = found;
    }

    /// An installation that was not there has no agents but those that the stream tells of.
    fn compare(&mut self, now: Vec<Installation>) -> Result<(), SqlError> {
        let is_same = |known: &Installation, installation: &Installation| {
            (&known.schema, &known.made_at) == (&installation.schema, &installation.made_at)
        };
        self.loaded.retain(|known| now.iter().any(|installation| is_same(known, installation)));
        for installation in now {
            let Some(known) = self.loaded.iter_mut().find(|known| is_same(known, &installation)) else {
                self.loaded.push(installation);
                continue;
            };
            match (known.agents, installation.agents) {
                // What changes until it is fit again does not come.
                (_, None) => known.agents = None,
                (before, after) if before == after => {}
                _ => return Err(SqlError::AgentsToRead { schema: installation.schema }),
            }
        }
        Ok(())
    }
}
