//! The truth: every event that every channel must carry, in the order of commits, read from a slot of the oracle's own.
//!
//! The slot is read by SQL functions, with the relay's publications, so that changes are counted as the relay counts
//! them. What was read is noted before the slot is moved: a server that dies in between only makes us read it again.

use std::collections::{HashMap, HashSet};

use anyhow::{Context, Result};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::model::{Control, Event, Model};
use crate::pgoutput::{Change, Decoder, Transaction, Value};
use crate::position::{Position, parse_lsn};

/// The oracle's slot.
pub const SLOT: &str = "chaos_oracle";

/// Changes read at a time; a transaction is never split.
const BATCH: i32 = 20_000;

/// An event of one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    pub position: Position,
    pub name: String,
    pub payload: String,
    /// Microseconds since 1970.
    pub committed_at: i64,
}

/// From which position on, None for the beginning, and which time, an agent was active or not.
pub type Switch = (Option<Position>, i64, bool);

/// Whether an agent is active, from a position on (None: from the beginning) and a time in microseconds since 1970.
pub type Activity = (Option<Position>, i64, bool);

/// Everything that committed since the oracle's slot was made.
#[derive(Default)]
pub struct Truth {
    pub channels: HashMap<String, Vec<Expected>>,
    /// Events that come only by routes that are off at their place. A relay that lost where they were switched may send
    /// them all the same, up to the next place that it knows.
    pub switched_off: HashMap<String, Vec<Expected>>,
    /// Every position at which there is an event, on whatever channel.
    pub positions: HashSet<Position>,
    /// When an agent was active.
    pub agents: HashMap<(Uuid, Uuid), Vec<Switch>>,
    /// Where a conversation left an organization.
    pub gone: HashMap<(Uuid, Uuid), Vec<Position>>,
    /// Last position and time of each transaction.
    pub commits: Vec<(Position, i64)>,
    /// Where the routes changed: a relay that starts later reads what lies before by other routes than it had.
    pub routes: Vec<(Position, i64)>,
    /// Messages that are in the table, as the changes tell.
    pub messages: HashSet<String>,
    /// Messages that were deleted at some time.
    pub deleted: HashSet<String>,
    pub event_count: u64,
    model: Model,
    decoder: Decoder,
    last_commit: u64,
}

impl Truth {
    /// Makes the slot, and notes who is active now. Nobody may be writing.
    pub async fn begin(database: &Client) -> Result<Self> {
        database
            .execute("select pg_create_logical_replication_slot($1, 'pgoutput')", &[&SLOT])
            .await
            .context("cannot make the oracle's slot")?;
        let mut truth = Self::default();
        for row in database.query("select organization_id, user_id, active from agents", &[]).await? {
            truth.agents.insert((row.get(0), row.get(1)), vec![(None, i64::MIN, row.get(2))]);
        }
        for row in database.query("select id::text from messages", &[]).await? {
            truth.messages.insert(row.get(0));
        }
        Ok(truth)
    }

    /// Reads on; true if there may be more.
    pub async fn read(&mut self, database: &Client) -> Result<bool> {
        let rows = database
            .query(
                "select data from pg_logical_slot_peek_binary_changes($1, null, $2, 'proto_version', '1',
                   'publication_names', 'campfire,campfire_control', 'messages', 'true')",
                &[&SLOT, &BATCH],
            )
            .await
            .context("cannot read the oracle's slot")?;
        let mut end = None;
        for row in &rows {
            if let Some(transaction) = self.decoder.decode(row.get(0))? {
                end = Some(transaction.end_lsn);
                self.apply(&transaction);
            }
        }
        if let Some(end) = end {
            let lsn = format!("{:X}/{:X}", end >> 32, end & 0xffff_ffff);
            database
                .execute("select pg_replication_slot_advance($1, $2::text::pg_lsn)", &[&SLOT, &lsn])
                .await
                .context("cannot move the oracle's slot")?;
        }
        Ok(rows.len() >= BATCH as usize)
    }

    /// Reads until everything that is committed now has been read.
    pub async fn read_to_end(&mut self, database: &Client) -> Result<()> {
        while self.read(database).await? {}
        Ok(())
    }

    /// Notes a transaction. One that was read before changes nothing.
    pub fn apply(&mut self, transaction: &Transaction) {
        if transaction.commit_lsn <= self.last_commit {
            return;
        }
        self.last_commit = transaction.commit_lsn;
        let committed_at = transaction.committed_at;
        let mut last = None;
        for (index, change) in transaction.changes.iter().enumerate() {
            // One server, never promoted: its timeline is the first.
            let position = Position { timeline: 1, commit_lsn: transaction.commit_lsn, change: index as u32 };
            last = Some(position);
            self.fold(change);
            if matches!(change, Change::Message { prefix, .. } if prefix == "campfire.routes") {
                self.routes.push((position, committed_at));
            }
            let (events, control) = self.model.apply(change);
            let (all, _) = Model::all_on().apply(change);
            let expected = |event: &Event| Expected {
                position,
                name: event.name.clone(),
                payload: event.payload.clone(),
                committed_at,
            };
            for event in all.iter().filter(|event| !events.contains(event)) {
                self.switched_off.entry(event.channel.clone()).or_default().push(expected(event));
            }
            for event in &events {
                self.positions.insert(position);
                self.event_count += 1;
                self.channels.entry(event.channel.clone()).or_default().push(expected(event));
            }
            for control in control {
                match control {
                    Control::Agent { organization, user, active } => {
                        let history = self.agents.entry((organization, user)).or_default();
                        history.push((Some(position), committed_at, active == Some(true)));
                    }
                    Control::ConversationGone { organization, conversation } => {
                        self.gone.entry((organization, conversation)).or_default().push(position);
                    }
                }
            }
        }
        if let Some(position) = last {
            self.commits.push((position, committed_at));
        }
    }

    /// Keeps the set of messages as the table should have it.
    fn fold(&mut self, change: &Change) {
        match change {
            Change::Insert { table, new } if table.name == "messages" => {
                if let Value::Text(id) = &new["id"] {
                    self.messages.insert(id.clone());
                }
            }
            Change::Delete { table, old } if table.name == "messages" => {
                if let Value::Text(id) = &old["id"] {
                    self.messages.remove(id);
                    self.deleted.insert(id.clone());
                }
            }
            _ => {}
        }
    }

    /// A channel's events.
    pub fn of(&self, channel: &str) -> &[Expected] {
        self.channels.get(channel).map_or(&[], Vec::as_slice)
    }

    /// Just before the first transaction that committed at or after a time; None if there is none.
    pub fn before_time(&self, micros: i64) -> Option<Position> {
        self.commits.iter().find(|(_, at)| *at >= micros).map(|(position, _)| position.before())
    }

    /// Whether the table of messages is what the changes made of it: the oracle's own check of itself.
    pub async fn disagreement(&self, database: &Client) -> Result<Option<String>> {
        let rows = database.query("select id::text from messages", &[]).await?;
        let table: HashSet<String> = rows.iter().map(|row| row.get(0)).collect();
        if table == self.messages {
            return Ok(None);
        }
        let (missing, surplus) =
            (table.difference(&self.messages).count(), self.messages.difference(&table).count());
        Ok(Some(format!(
            "of the messages in the table the truth lacks {missing}, and has {surplus} too many"
        )))
    }

    /// The tag and LSN up to which the slot of that name was confirmed.
    pub async fn confirmed(database: &Client, slot: &str) -> Result<Option<u64>> {
        let row = database
            .query_opt(
                "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = $1",
                &[&slot],
            )
            .await?;
        Ok(row.and_then(|row| row.get::<_, Option<String>>(0)).and_then(|lsn| parse_lsn(&lsn)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_that_is_read_twice_counts_once() {
        let message = |name: &str| Change::Message {
            prefix: "campfire.broadcast".to_owned(),
            content: format!("v1 1 00\nroom\n{name}\n{{}}"),
        };
        let transaction = Transaction {
            xid: 1,
            commit_lsn: 100,
            end_lsn: 110,
            committed_at: 5,
            changes: vec![message("a"), message("forged"), message("b")],
        };
        let mut truth = Truth::default();
        truth.apply(&transaction);
        truth.apply(&transaction);
        let positions: Vec<u32> = truth.of("room").iter().map(|event| event.position.change).collect();
        assert_eq!(positions, [0, 2]);
        assert_eq!(truth.before_time(5), Some(Position { timeline: 1, commit_lsn: 99, change: u32::MAX }));
        assert_eq!(truth.before_time(6), None);
    }
}
