//! Whoever holds the slot that we wait for: alive, or only connected?

use std::time::{Duration, Instant};

use tokio_postgres::Client;
use tracing::warn;

use super::{WalError, cause};

/// Watches the walsender that holds the slot. Its `reply_time` is stamped by the other relay's clock, so it is not
/// compared with ours; what counts is that it moves.
#[derive(Debug, Default)]
pub struct HolderWatch {
    seen: Option<Seen>,
}

#[derive(Debug)]
struct Seen {
    pid: i32,
    reply_time: Option<String>,
    since: Instant,
}

impl HolderWatch {
    /// Ends the walsender if its relay has said nothing for `limit`, and returns its pid if that was done. A relay
    /// that lives says something every ten seconds.
    pub async fn take_over(
        &mut self,
        sql: &Client,
        slot_name: &str,
        limit: Duration,
    ) -> Result<Option<i32>, WalError> {
        let query = "select s.active_pid, r.reply_time::text
             from pg_replication_slots s join pg_stat_replication r on r.pid = s.active_pid
             where s.slot_name = $1::text";
        let Some(row) = sql.query_opt(query, &[&slot_name]).await? else {
            self.seen = None;
            return Ok(None);
        };
        let (pid, reply_time): (i32, Option<String>) = (row.get(0), row.get(1));
        let now = Instant::now();
        let seen = match &mut self.seen {
            Some(seen) if seen.pid == pid && seen.reply_time == reply_time => seen,
            seen => seen.insert(Seen { pid, reply_time, since: now }),
        };
        let silence = seen.since.elapsed();
        if silence < limit {
            return Ok(None);
        }
        seen.since = now;
        let terminate = "select pg_terminate_backend($1)";
        match sql.query_one(terminate, &[&pid]).await {
            Ok(_) => {
                let silent_seconds = silence.as_secs();
                warn!(
                    pid,
                    silent_seconds, "the relay on the slot hangs; its walsender is ended, to take over"
                );
                Ok(Some(pid))
            }
            // Somebody else may have the right, and the server's own wal_sender_timeout needs none.
            Err(error) => {
                warn!(
                    pid,
                    error = cause(&error),
                    "the relay on the slot hangs, and its walsender cannot be ended; grant pg_signal_backend"
                );
                Ok(None)
            }
        }
    }
}
