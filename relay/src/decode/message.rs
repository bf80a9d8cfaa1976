//! The messages of pgoutput, protocol version 1, as "Logical Replication Message Formats" in Postgres' manual has
//! them. Later versions' messages are known by name only, so that an error can say what came.

use bytes::Bytes;

use super::reader::Reader;
use super::{
    DecodeError, OldTuple, Relation, RelationColumn, ReplicaIdentity, Timestamp, Transaction, Tuple,
};
use crate::wal::{Lsn, Xid};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    Begin(Transaction),
    Commit {
        commit_lsn: Lsn,
        end_lsn: Lsn,
        committed_at: Timestamp,
    },
    /// The transaction was applied here by another replication.
    Origin {
        lsn: Lsn,
        name: String,
    },
    Relation(Relation),
    /// Names a type that is not built in, before the first relation that uses it.
    Type {
        id: u32,
        namespace: String,
        name: String,
    },
    Insert {
        relation_id: u32,
        new: Tuple,
    },
    Update {
        relation_id: u32,
        old: Option<OldTuple>,
        new: Tuple,
    },
    Delete {
        relation_id: u32,
        old: OldTuple,
    },
    Truncate {
        relation_ids: Vec<u32>,
        cascade: bool,
        restart_identity: bool,
    },
    /// From `pg_logical_emit_message`.
    Logical {
        transactional: bool,
        lsn: Lsn,
        prefix: Bytes,
        content: Bytes,
    },
}

impl Message {
    /// Takes exactly one message: bytes left over are an error too, since they mean that it was misread.
    pub fn parse(bytes: Bytes) -> Result<Message, DecodeError> {
        let mut reader = Reader::new(bytes);
        let tag = reader.u8("tag")?;
        let message = match tag {
            b'B' => begin(&mut reader)?,
            b'C' => commit(&mut reader)?,
            b'O' => Message::Origin {
                lsn: reader.lsn("origin LSN")?,
                name: reader.name("origin name")?,
            },
            b'R' => Message::Relation(relation(&mut reader)?),
            b'Y' => Message::Type {
                id: reader.u32("type oid")?,
                namespace: reader.name("type namespace")?,
                name: reader.name("type name")?,
            },
            b'I' => insert(&mut reader)?,
            b'U' => update(&mut reader)?,
            b'D' => delete(&mut reader)?,
            b'T' => truncate(&mut reader)?,
            b'M' => logical(&mut reader)?,
            b'b' | b'P' | b'K' | b'r' | b'p' => {
                return Err(DecodeError::TwoPhase {
                    tag: char::from(tag),
                });
            }
            b'S' | b'E' | b'c' | b'A' => {
                return Err(DecodeError::Streaming {
                    tag: char::from(tag),
                });
            }
            _ => {
                return Err(DecodeError::UnknownTag {
                    tag: char::from(tag),
                });
            }
        };
        match reader.remaining() {
            0 => Ok(message),
            bytes => Err(DecodeError::TrailingBytes {
                tag: char::from(tag),
                bytes,
            }),
        }
    }
}

fn begin(reader: &mut Reader) -> Result<Message, DecodeError> {
    Ok(Message::Begin(Transaction {
        commit_lsn: reader.lsn("final LSN")?,
        committed_at: reader.timestamp("commit timestamp")?,
        xid: Xid(reader.u32("xid")?),
    }))
}

fn commit(reader: &mut Reader) -> Result<Message, DecodeError> {
    reader.u8("commit flags")?;
    Ok(Message::Commit {
        commit_lsn: reader.lsn("commit LSN")?,
        end_lsn: reader.lsn("end LSN")?,
        committed_at: reader.timestamp("commit timestamp")?,
    })
}

fn relation(reader: &mut Reader) -> Result<Relation, DecodeError> {
    let id = reader.u32("relation oid")?;
    let namespace = match reader.name("relation namespace")? {
        // The protocol writes this one schema as nothing.
        empty if empty.is_empty() => "pg_catalog".to_owned(),
        namespace => namespace,
    };
    let name = reader.name("relation name")?;
    let replica_identity = match reader.u8("replica identity")? {
        b'd' => ReplicaIdentity::Default,
        b'n' => ReplicaIdentity::Nothing,
        b'f' => ReplicaIdentity::Full,
        b'i' => ReplicaIdentity::Index,
        other => {
            return Err(DecodeError::UnknownValue {
                field: "replica identity",
                value: char::from(other),
            });
        }
    };
    let columns = (0..reader.u16("column count")?)
        .map(|_| {
            Ok(RelationColumn {
                is_key: reader.u8("column flags")? & 1 != 0,
                name: reader.name("column name")?,
                type_oid: reader.u32("column type")?,
                type_modifier: reader.i32("column type modifier")?,
            })
        })
        .collect::<Result<_, _>>()?;
    Ok(Relation {
        id,
        namespace,
        name,
        replica_identity,
        columns,
    })
}

fn insert(reader: &mut Reader) -> Result<Message, DecodeError> {
    let relation_id = reader.u32("relation oid")?;
    match reader.u8("kind of row")? {
        b'N' => Ok(Message::Insert {
            relation_id,
            new: Tuple::read(reader)?,
        }),
        other => Err(unknown_row_kind(other)),
    }
}

fn update(reader: &mut Reader) -> Result<Message, DecodeError> {
    let relation_id = reader.u32("relation oid")?;
    let (old, kind) = match reader.u8("kind of row")? {
        b'K' => (
            Some(OldTuple::Key(Tuple::read(reader)?)),
            reader.u8("kind of row")?,
        ),
        b'O' => (
            Some(OldTuple::Full(Tuple::read(reader)?)),
            reader.u8("kind of row")?,
        ),
        kind => (None, kind),
    };
    match kind {
        b'N' => Ok(Message::Update {
            relation_id,
            old,
            new: Tuple::read(reader)?,
        }),
        other => Err(unknown_row_kind(other)),
    }
}

fn delete(reader: &mut Reader) -> Result<Message, DecodeError> {
    let relation_id = reader.u32("relation oid")?;
    let old = match reader.u8("kind of row")? {
        b'K' => OldTuple::Key(Tuple::read(reader)?),
        b'O' => OldTuple::Full(Tuple::read(reader)?),
        other => return Err(unknown_row_kind(other)),
    };
    Ok(Message::Delete { relation_id, old })
}

fn truncate(reader: &mut Reader) -> Result<Message, DecodeError> {
    let relation_count = reader.u32("relation count")?;
    let flags = reader.u8("truncate flags")?;
    // Collected without a capacity: the count is not to be believed before the oids have been seen.
    let relation_ids = (0..relation_count)
        .map(|_| reader.u32("relation oid"))
        .collect::<Result<_, _>>()?;
    Ok(Message::Truncate {
        relation_ids,
        cascade: flags & 1 != 0,
        restart_identity: flags & 2 != 0,
    })
}

fn logical(reader: &mut Reader) -> Result<Message, DecodeError> {
    let transactional = reader.u8("message flags")? & 1 != 0;
    let lsn = reader.lsn("message LSN")?;
    let prefix = reader.c_string("message prefix")?;
    let length = reader.u32("message length")?;
    let length = usize::try_from(length).map_err(|_| DecodeError::Truncated {
        field: "message content",
    })?;
    let content = reader.bytes(length, "message content")?;
    Ok(Message::Logical {
        transactional,
        lsn,
        prefix,
        content,
    })
}

fn unknown_row_kind(kind: u8) -> DecodeError {
    DecodeError::UnknownValue {
        field: "kind of row",
        value: char::from(kind),
    }
}
