//! The relay that holds the slot we wait for: alive, or only connected?

use std::time::{Duration, Instant};

use tokio_postgres::Client;
use tracing::warn;

use crate::postgres::{PostgresError, cause};

/// Watches the walsender that holds the slot. Its `reply_time` is stamped by the other relay's clock, so it is not
/// compared with ours; what counts is that it moves.
#[derive(Debug, Default)]
pub struct HolderWatch {
    last: Option<Look>,
    silent_since: Option<Instant>,
}

/// What the server shows of the walsender.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Look {
    pid: i32,
    reply_time: Option<String>,
    sent_lsn: Option<String>,
    /// For WAL, or for its client.
    is_waiting: bool,
}

impl HolderWatch {
    /// Ends the walsender if its relay has said nothing for `limit`, and returns its pid if that was done. A relay
    /// that lives says something every ten seconds.
    pub async fn take_over(
        &mut self,
        sql: &Client,
        slot_name: &str,
        limit: Duration,
    ) -> Result<Option<i32>, PostgresError> {
        // What we are not allowed to see is taken for waiting: then replies alone count.
        let query = "select s.active_pid, r.reply_time::text, r.sent_lsn::text,
                 coalesce(a.wait_event_type in ('Activity', 'Client'), a.backend_type is null)
             from pg_replication_slots s join pg_stat_replication r on r.pid = s.active_pid
                 join pg_stat_activity a on a.pid = s.active_pid
             where s.slot_name = $1::text";
        let look = match sql.query_opt(query, &[&slot_name]).await? {
            Some(row) => Some(Look {
                pid: row.try_get(0)?,
                reply_time: row.try_get(1)?,
                sent_lsn: row.try_get(2)?,
                is_waiting: row.try_get(3)?,
            }),
            None => None,
        };
        let silence = self.silence(look.clone(), Instant::now());
        let Some(pid) = look.map(|look| look.pid).filter(|_| silence >= limit) else { return Ok(None) };
        self.silent_since = None;
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

    /// For how long the relay could have been heard and was not.
    ///
    /// In the midst of a transaction a walsender hears nobody: it decodes, spills, or waits for a lock, and its
    /// `sent_lsn` stands still meanwhile. One whose `sent_lsn` moves would have heard a relay that speaks.
    fn silence(&mut self, look: Option<Look>, now: Instant) -> Duration {
        let heard = match (&self.last, &look) {
            (Some(last), Some(look)) => {
                let is_other = last.pid != look.pid || last.reply_time != look.reply_time;
                is_other || (!look.is_waiting && last.sent_lsn == look.sent_lsn)
            }
            _ => true,
        };
        self.last = look;
        if heard {
            self.silent_since = None;
        }
        now.duration_since(*self.silent_since.get_or_insert(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks that come a second apart: pid, reply, sent, waiting. Gives the silence after the last, in seconds.
    fn silence(looks: &[(i32, &str, &str, bool)]) -> u64 {
        let mut watch = HolderWatch::default();
        let start = Instant::now();
        let mut silence = Duration::ZERO;
        for (second, &(pid, reply, sent, is_waiting)) in (0..).zip(looks) {
            let look = Look { pid, reply_time: Some(reply.into()), sent_lsn: Some(sent.into()), is_waiting };
            silence = watch.silence(Some(look), start + Duration::from_secs(second));
        }
        silence.as_secs()
    }

    #[test]
    fn a_relay_that_says_nothing_is_silent_whether_wal_is_written_or_not() {
        assert_eq!(silence(&[(1, "a", "0/1", true); 4]), 3);
        assert_eq!(silence(&[(1, "a", "0/1", true), (1, "a", "0/2", false), (1, "a", "0/3", false)]), 2);
    }

    #[test]
    fn a_walsender_in_the_midst_of_a_transaction_hears_nobody() {
        assert_eq!(silence(&[(1, "a", "0/1", false); 9]), 0);
        let done =
            [(1, "a", "0/1", true), (1, "a", "0/1", false), (1, "a", "0/9", true), (1, "a", "0/9", true)];
        assert_eq!(silence(&done), 2, "from its end on it could have heard");
    }

    #[test]
    fn a_reply_and_another_holder_begin_anew() {
        assert_eq!(silence(&[(1, "a", "0/1", true), (1, "a", "0/1", true), (1, "b", "0/1", true)]), 0);
        assert_eq!(silence(&[(1, "a", "0/1", true), (1, "a", "0/1", true), (2, "a", "0/1", true)]), 0);
    }
}
