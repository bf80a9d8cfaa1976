//! The oracle's own reading of pgoutput, version 1: written for plainness, and apart from the relay's decoder, so that a
//! mistake of one is not a mistake of both.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};

/// A column's value as the server sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Null,
    Text(String),
    /// TOASTed and not changed, or not part of the key that was sent: unknown.
    Absent,
}

/// A table as its last Relation message described it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub name: String,
    /// Name and type oid.
    pub columns: Vec<(String, u32)>,
    keys: Vec<bool>,
}

/// Values by column.
pub type Row = BTreeMap<String, Value>;

/// What a transaction did at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Insert { table: Arc<Table>, new: Row },
    Update { table: Arc<Table>, old: Option<Row>, new: Row },
    Delete { table: Arc<Table>, old: Row },
    Truncate { tables: Vec<String> },
    Message { prefix: String, content: String },
}

/// A committed transaction, its changes in the order they are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    pub xid: u32,
    pub commit_lsn: u64,
    pub end_lsn: u64,
    /// Microseconds since 1970.
    pub committed_at: i64,
    pub changes: Vec<Change>,
}

const MICROS_1970_TO_2000: i64 = 946_684_800_000_000;

/// Puts transactions together from messages.
#[derive(Default)]
pub struct Decoder {
    tables: HashMap<u32, Arc<Table>>,
    open: Option<Transaction>,
}

impl Decoder {
    /// Takes one message; gives the transaction that it ends.
    pub fn decode(&mut self, bytes: &[u8]) -> Result<Option<Transaction>> {
        let mut reader = Reader(bytes);
        match reader.u8()? {
            b'B' => {
                let commit_lsn = reader.u64()?;
                let committed_at = reader.u64()? as i64 + MICROS_1970_TO_2000;
                let xid = reader.u32()?;
                let changes = Vec::new();
                self.open = Some(Transaction { xid, commit_lsn, end_lsn: 0, committed_at, changes });
            }
            b'C' => {
                reader.u8()?;
                let commit_lsn = reader.u64()?;
                let end_lsn = reader.u64()?;
                let mut done = self.open.take().context("a Commit without its Begin")?;
                ensure!(done.commit_lsn == commit_lsn, "Begin and Commit do not agree");
                done.end_lsn = end_lsn;
                return Ok(Some(done));
            }
            b'R' => {
                let id = reader.u32()?;
                reader.text()?;
                let name = reader.text()?;
                reader.u8()?;
                let (mut columns, mut keys) = (Vec::new(), Vec::new());
                for _ in 0..reader.u16()? {
                    keys.push(reader.u8()? & 1 == 1);
                    let column = reader.text()?;
                    columns.push((column, reader.u32()?));
                    reader.u32()?;
                }
                self.tables.insert(id, Arc::new(Table { name, columns, keys }));
            }
            b'I' => {
                let table = self.table(&mut reader)?;
                ensure!(reader.u8()? == b'N', "an Insert without its row");
                let new = reader.row(&table, false)?;
                self.push(Change::Insert { table, new })?;
            }
            b'U' => {
                let table = self.table(&mut reader)?;
                let mut kind = reader.u8()?;
                let mut old = None;
                if kind == b'K' || kind == b'O' {
                    old = Some(reader.row(&table, kind == b'K')?);
                    kind = reader.u8()?;
                }
                ensure!(kind == b'N', "an Update without its row");
                let new = reader.row(&table, false)?;
                self.push(Change::Update { table, old, new })?;
            }
            b'D' => {
                let table = self.table(&mut reader)?;
                let kind = reader.u8()?;
                let old = reader.row(&table, kind == b'K')?;
                self.push(Change::Delete { table, old })?;
            }
            b'T' => {
                let count = reader.u32()?;
                reader.u8()?;
                let mut tables = Vec::new();
                for _ in 0..count {
                    tables.push(self.table(&mut reader)?.name.clone());
                }
                self.push(Change::Truncate { tables })?;
            }
            b'M' => {
                let transactional = reader.u8()? & 1 == 1;
                reader.u64()?;
                let prefix = reader.text()?;
                let length = reader.u32()? as usize;
                let content = String::from_utf8_lossy(reader.take(length)?).into_owned();
                // Others come when they are written, also of transactions that roll back: never events.
                if transactional {
                    self.push(Change::Message { prefix, content })?;
                }
            }
            b'Y' | b'O' => {}
            other => bail!("an unknown message {:?}", char::from(other)),
        }
        Ok(None)
    }

    fn table(&self, reader: &mut Reader<'_>) -> Result<Arc<Table>> {
        let id = reader.u32()?;
        self.tables.get(&id).cloned().with_context(|| format!("no Relation message for {id}"))
    }

    fn push(&mut self, change: Change) -> Result<()> {
        self.open.as_mut().context("a change outside a transaction")?.changes.push(change);
        Ok(())
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (part, rest) = self.0.split_at_checked(length).context("a message ends too early")?;
        self.0 = rest;
        Ok(part)
    }

    fn u8(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(self.take(2)?.try_into()?))
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.take(4)?.try_into()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_be_bytes(self.take(8)?.try_into()?))
    }

    fn text(&mut self) -> Result<String> {
        let end = self.0.iter().position(|byte| *byte == 0).context("a text without its end")?;
        let text = String::from_utf8_lossy(self.take(end)?).into_owned();
        self.u8()?;
        Ok(text)
    }

    /// Of a key alone, the columns outside it come as nulls that mean nothing.
    fn row(&mut self, table: &Table, only_key: bool) -> Result<Row> {
        let count = self.u16()? as usize;
        ensure!(count == table.columns.len(), "a row of {} has {count} columns", table.name);
        let mut row = Row::new();
        for ((name, _), is_key) in table.columns.iter().zip(&table.keys) {
            let value = match self.u8()? {
                b'n' => Value::Null,
                b'u' => Value::Absent,
                b't' => {
                    let length = self.u32()? as usize;
                    Value::Text(String::from_utf8_lossy(self.take(length)?).into_owned())
                }
                other => bail!("an unknown kind of value {:?}", char::from(other)),
            };
            row.insert(name.clone(), if only_key && !is_key { Value::Absent } else { value });
        }
        Ok(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relation() -> Vec<u8> {
        let mut bytes = b"R\0\0\0\x07public\0messages\0i\0\x02".to_vec();
        for (key, name) in [(1, "id"), (0, "content")] {
            bytes.push(key);
            bytes.extend(name.as_bytes());
            bytes.extend([0, 0, 0, 0, 25, 0xff, 0xff, 0xff, 0xff]);
        }
        bytes
    }

    #[test]
    fn a_transaction_is_put_together() {
        let mut decoder = Decoder::default();
        let begin =
            [b"B".as_slice(), &9_u64.to_be_bytes(), &0_u64.to_be_bytes(), &5_u32.to_be_bytes()].concat();
        assert_eq!(decoder.decode(&begin).unwrap(), None);
        assert_eq!(decoder.decode(&relation()).unwrap(), None);
        assert_eq!(decoder.decode(b"I\0\0\0\x07N\0\x02t\0\0\0\x01at\0\0\0\x01b").unwrap(), None);
        assert_eq!(decoder.decode(b"D\0\0\0\x07K\0\x02t\0\0\0\x01an").unwrap(), None);
        let commit = [b"C\0".as_slice(), &9_u64.to_be_bytes(), &10_u64.to_be_bytes(), &[0; 8]].concat();
        let done = decoder.decode(&commit).unwrap().unwrap();
        assert_eq!((done.xid, done.commit_lsn, done.end_lsn), (5, 9, 10));
        assert_eq!(done.committed_at, MICROS_1970_TO_2000);
        let [Change::Insert { new, .. }, Change::Delete { old, .. }] = done.changes.as_slice() else {
            panic!("{done:?}")
        };
        assert_eq!(new["content"], Value::Text("b".to_owned()));
        assert_eq!((&old["id"], &old["content"]), (&Value::Text("a".to_owned()), &Value::Absent));
    }

    #[test]
    fn what_is_cut_short_is_an_error() {
        let whole = relation();
        for length in 0..whole.len() {
            assert!(Decoder::default().decode(&whole[..length]).is_err(), "{length}");
        }
    }
}
