//! Reads the stream as the relay does: decodes, and confirms what it has seen.

use std::collections::VecDeque;
use std::time::Duration;

use campfire_relay::decode::{Change, ChangeKind, Column, Decoded, Decoder, OldTuple, Relation, Tuple};
use campfire_relay::postgres::Lsn;
use campfire_relay::wal::{Attachment, WalConfig, WalError, WalFrame, WalStream, attach};
use tokio::time::timeout;
use tokio_postgres::Client;

use crate::wait::{DEADLINE, eventually};

pub(crate) struct Reader {
    pub(crate) attachment: Attachment,
    pub(crate) stream: WalStream,
    decoder: Decoder,
    frames: VecDeque<WalFrame>,
    /// A transaction was read and not confirmed: a keepalive's end behind it must not be either.
    is_holding: bool,
    /// Messages that came outside transactions: prefix and content.
    pub(crate) loose_messages: Vec<String>,
}

/// A committed transaction, its changes in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    pub(crate) commit_lsn: Lsn,
    pub(crate) end_lsn: Lsn,
    pub(crate) changes: Vec<String>,
}

impl Reader {
    pub(crate) async fn attach(config: &WalConfig, sql: &Client) -> Reader {
        let attached = async {
            loop {
                match attach(config, sql).await {
                    // The server takes a moment to free a slot whose reader has left.
                    Err(WalError::SlotActive { .. }) => tokio::time::sleep(Duration::from_millis(10)).await,
                    outcome => return outcome,
                }
            }
        };
        let (attachment, stream) = timeout(DEADLINE, attached).await.expect("a free slot").expect("attached");
        Reader {
            attachment,
            stream,
            decoder: Decoder::new(),
            frames: VecDeque::new(),
            is_holding: false,
            loose_messages: Vec::new(),
        }
    }

    /// The next transaction, confirmed as soon as it is whole.
    pub(crate) async fn transaction(&mut self) -> Committed {
        let committed = self.unconfirmed_transaction().await;
        self.stream.confirm_applied(committed.end_lsn);
        self.is_holding = false;
        committed
    }

    pub(crate) async fn unconfirmed_transaction(&mut self) -> Committed {
        timeout(DEADLINE, async {
            let mut changes = Vec::new();
            loop {
                match self.decoded().await.expect("the stream goes on") {
                    Decoded::Change(change) => changes.push(describe(&change)),
                    Decoded::Commit { transaction, end_lsn } => {
                        self.is_holding = true;
                        return Committed { commit_lsn: transaction.commit_lsn, end_lsn, changes };
                    }
                    Decoded::NonTransactionalMessage { prefix, content, .. } => {
                        let message = format!("{}: {}", lossy(&prefix), lossy(&content));
                        self.loose_messages.push(message);
                    }
                    Decoded::Begin(_) | Decoded::Relation(_) | Decoded::Nothing => {}
                }
            }
        })
        .await
        .expect("a transaction in time")
    }

    /// Reads until the stream ends, and says why and how many changes came.
    pub(crate) async fn end(&mut self) -> (WalError, usize) {
        let mut change_count = 0;
        timeout(DEADLINE, async {
            loop {
                match self.decoded().await {
                    Ok(Decoded::Change(_)) => change_count += 1,
                    Ok(_) => {}
                    Err(error) => return (error, change_count),
                }
            }
        })
        .await
        .expect("the stream ends in time")
    }

    /// Reads until `work` is done, confirming keepalives as the relay does.
    pub(crate) async fn idle<T>(&mut self, work: impl Future<Output = T>) -> T {
        let reading = async {
            loop {
                self.decoded().await.expect("the stream goes on");
            }
        };
        tokio::select! {
            done = work => done,
            () = reading => unreachable!("it reads on and on"),
        }
    }

    async fn decoded(&mut self) -> Result<Decoded, WalError> {
        loop {
            match self.frames.pop_front() {
                Some(WalFrame::Data(bytes)) => return Ok(self.decoder.decode(bytes).expect("pgoutput")),
                Some(WalFrame::Keepalive { end }) if !self.is_holding && !self.decoder.in_transaction() => {
                    self.stream.confirm_applied(end);
                }
                Some(WalFrame::Keepalive { .. }) => {}
                None => self.frames = self.stream.next().await?.into(),
            }
        }
    }
}

/// The slot's confirmed position.
pub(crate) async fn confirmed_flush_lsn(sql: &Client) -> Lsn {
    let query = "select confirmed_flush_lsn::text from pg_replication_slots where slot_name = 'campfire'";
    let row = sql.query_one(query, &[]).await.expect("the slot");
    row.get::<_, &str>(0).parse().expect("an LSN")
}

pub(crate) async fn current_wal_lsn(sql: &Client) -> Lsn {
    let row = sql.query_one("select pg_current_wal_lsn()::text", &[]).await.expect("an LSN");
    row.get::<_, &str>(0).parse().expect("an LSN")
}

/// Waits until `condition` holds of the slot's confirmed position.
pub(crate) async fn eventually_confirmed(sql: &Client, condition: impl Fn(Lsn) -> bool) -> Lsn {
    eventually("the slot is confirmed up to there", async || {
        Some(confirmed_flush_lsn(sql).await).filter(|confirmed| condition(*confirmed))
    })
    .await
}

fn describe(change: &Change) -> String {
    let index = change.index;
    match &change.kind {
        ChangeKind::Insert { relation, new } => {
            format!("{index} insert {} {}", relation.name, row(relation, new))
        }
        ChangeKind::Update { relation, old, new } => {
            let old = old.as_ref().map(|old| format!("{} -> ", old_row(relation, old))).unwrap_or_default();
            format!("{index} update {} {old}{}", relation.name, row(relation, new))
        }
        ChangeKind::Delete { relation, old } => {
            format!("{index} delete {} {}", relation.name, old_row(relation, old))
        }
        ChangeKind::Truncate { relations, cascade, restart_identity } => {
            let names: Vec<&str> = relations.iter().map(|relation| relation.name.as_str()).collect();
            format!("{index} truncate {} cascade={cascade} restart={restart_identity}", names.join(","))
        }
        ChangeKind::Message { prefix, content } => {
            format!("{index} message {}: {}", lossy(prefix), lossy(content))
        }
    }
}

fn row(relation: &Relation, tuple: &Tuple) -> String {
    assert_eq!(tuple.column_count(), relation.columns.len());
    columns(relation, |index| tuple.get(index))
}

fn old_row(relation: &Relation, old: &OldTuple) -> String {
    let kind = match old {
        OldTuple::Key(_) => "key",
        OldTuple::Full(_) => "full",
    };
    format!("{kind}{}", columns(relation, |index| old.get(index)))
}

/// `(id=1 body=null)`; long values by their length.
fn columns<'a>(relation: &Relation, column: impl Fn(usize) -> Column<'a>) -> String {
    let columns = relation.columns.iter().enumerate().map(|(index, described)| {
        let value = match column(index) {
            Column::Null => "null".to_owned(),
            Column::Unchanged => "unchanged".to_owned(),
            Column::Text(text) if text.len() > 40 => format!("{} bytes", text.len()),
            Column::Text(text) => lossy(text),
        };
        format!("{}={value}", described.name)
    });
    format!("({})", columns.collect::<Vec<_>>().join(" "))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
