//! The messages of pgoutput, protocol version 1, as "Logical Replication Message Formats" in Postgres' manual has
//! them. Later versions' messages are known by name only, so that an error can say what came.

use bytes::Bytes;

use super::reader::Reader;
use super::{DecodeError, OldTuple, Relation, RelationColumn, ReplicaIdentity, Transaction, Tuple};
use crate::postgres::{Lsn, Timestamp, Xid};

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
            b'O' => Message::Origin { lsn: reader.lsn("origin LSN")?, name: reader.name("origin name")? },
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
                return Err(DecodeError::TwoPhase { tag: char::from(tag) });
            }
            b'S' | b'E' | b'c' | b'A' => {
                return Err(DecodeError::Streaming { tag: char::from(tag) });
            }
            _ => {
                return Err(DecodeError::UnknownTag { tag: char::from(tag) });
            }
        };
        match reader.remaining() {
            0 => Ok(message),
            bytes => Err(DecodeError::TrailingBytes { tag: char::from(tag), bytes }),
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
            return Err(DecodeError::UnknownValue { field: "replica identity", value: char::from(other) });
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
    Ok(Relation { id, namespace, name, replica_identity, columns })
}

fn insert(reader: &mut Reader) -> Result<Message, DecodeError> {
    let relation_id = reader.u32("relation oid")?;
    match reader.u8("kind of row")? {
        b'N' => Ok(Message::Insert { relation_id, new: Tuple::read(reader)? }),
        other => Err(unknown_row_kind(other)),
    }
}

fn update(reader: &mut Reader) -> Result<Message, DecodeError> {
    let relation_id = reader.u32("relation oid")?;
    let (old, kind) = match reader.u8("kind of row")? {
        b'K' => (Some(OldTuple::Key(Tuple::read(reader)?)), reader.u8("kind of row")?),
        b'O' => (Some(OldTuple::Full(Tuple::read(reader)?)), reader.u8("kind of row")?),
        kind => (None, kind),
    };
    match kind {
        b'N' => Ok(Message::Update { relation_id, old, new: Tuple::read(reader)? }),
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
    let relation_ids = (0..relation_count).map(|_| reader.u32("relation oid")).collect::<Result<_, _>>()?;
    Ok(Message::Truncate { relation_ids, cascade: flags & 1 != 0, restart_identity: flags & 2 != 0 })
}

fn logical(reader: &mut Reader) -> Result<Message, DecodeError> {
    let transactional = reader.u8("message flags")? & 1 != 0;
    let lsn = reader.lsn("message LSN")?;
    let prefix = reader.c_string("message prefix")?;
    let length = reader.u32("message length")?;
    let length = usize::try_from(length).map_err(|_| DecodeError::Truncated { field: "message content" })?;
    let content = reader.bytes(length, "message content")?;
    Ok(Message::Logical { transactional, lsn, prefix, content })
}

fn unknown_row_kind(kind: u8) -> DecodeError {
    DecodeError::UnknownValue { field: "kind of row", value: char::from(kind) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Column;
    use super::super::testing::{any_message, encode, tuple};
    use super::*;

    fn check(bytes: &'static [u8], expected: Message) {
        assert_eq!(Message::parse(Bytes::from_static(bytes)), Ok(expected.clone()));
        assert_eq!(encode(&expected), bytes, "the tests' encoder agrees");
    }

    fn check_error(bytes: &'static [u8], expected: DecodeError) {
        assert_eq!(Message::parse(Bytes::from_static(bytes)), Err(expected));
    }

    #[test]
    fn begin_and_commit() {
        check(
            b"B\0\0\0\0\x01\x94\x28\x40\0\0\0\0\0\0\0\x07\0\0\x02\xe0",
            Message::Begin(Transaction {
                xid: Xid(736),
                commit_lsn: Lsn(0x194_2840),
                committed_at: Timestamp(7),
            }),
        );
        check(
            b"C\0\0\0\0\0\x01\x94\x28\x40\0\0\0\0\x01\x94\x28\x70\0\0\0\0\0\0\0\x07",
            Message::Commit {
                commit_lsn: Lsn(0x194_2840),
                end_lsn: Lsn(0x194_2870),
                committed_at: Timestamp(7),
            },
        );
    }

    #[test]
    fn relation_with_key_and_type_modifier() {
        let column = |name: &str, type_oid, type_modifier, is_key| RelationColumn {
            name: name.to_owned(),
            type_oid,
            type_modifier,
            is_key,
        };
        check(
            b"R\0\0\x40\x01public\0notes\0d\0\x02\x01id\0\0\0\0\x14\xff\xff\xff\xff\0price\0\0\0\x06\xa4\0\x0a\0\x06",
            Message::Relation(Relation {
                id: 0x4001,
                namespace: "public".to_owned(),
                name: "notes".to_owned(),
                replica_identity: ReplicaIdentity::Default,
                columns: vec![column("id", 20, -1, true), column("price", 1700, 655_366, false)],
            }),
        );
    }

    #[test]
    fn an_empty_namespace_is_pg_catalog() {
        let parsed = Message::parse(Bytes::from_static(b"R\0\0\0\x01\0t\0n\0\0"));
        assert!(matches!(parsed, Ok(Message::Relation(relation)) if relation.namespace == "pg_catalog"));
    }

    #[test]
    fn rows() {
        check(
            b"I\0\0\x40\x01N\0\x03t\0\0\0\x01\x37nt\0\0\0\0",
            Message::Insert {
                relation_id: 0x4001,
                new: tuple(&[Column::Text(b"7"), Column::Null, Column::Text(b"")]),
            },
        );
        check(
            b"U\0\0\x40\x01K\0\x02t\0\0\0\x01\x37nN\0\x02t\0\0\0\x01\x38u",
            Message::Update {
                relation_id: 0x4001,
                old: Some(OldTuple::Key(tuple(&[Column::Text(b"7"), Column::Null]))),
                new: tuple(&[Column::Text(b"8"), Column::Unchanged]),
            },
        );
        check(
            b"D\0\0\x40\x01O\0\x01t\0\0\0\x01\x37",
            Message::Delete { relation_id: 0x4001, old: OldTuple::Full(tuple(&[Column::Text(b"7")])) },
        );
    }

    #[test]
    fn truncate_of_several() {
        check(
            b"T\0\0\0\x02\x03\0\0\0\x01\0\0\0\x02",
            Message::Truncate { relation_ids: vec![1, 2], cascade: true, restart_identity: true },
        );
    }

    #[test]
    fn logical_message() {
        check(
            b"M\x01\0\0\0\0\0\0\x01\0campfire\0\0\0\0\x02hi",
            Message::Logical {
                transactional: true,
                lsn: Lsn(256),
                prefix: Bytes::from_static(b"campfire"),
                content: Bytes::from_static(b"hi"),
            },
        );
    }

    #[test]
    fn origin_and_type() {
        check(b"O\0\0\0\0\0\0\0\x09other\0", Message::Origin { lsn: Lsn(9), name: "other".to_owned() });
        check(
            b"Y\0\0\x40\x02public\0mood\0",
            Message::Type { id: 0x4002, namespace: "public".to_owned(), name: "mood".to_owned() },
        );
    }

    #[test]
    fn what_was_not_asked_for_has_a_name() {
        check_error(b"b", DecodeError::TwoPhase { tag: 'b' });
        check_error(b"K", DecodeError::TwoPhase { tag: 'K' });
        check_error(b"S\0\0\0\x01\x01", DecodeError::Streaming { tag: 'S' });
        check_error(b"?", DecodeError::UnknownTag { tag: '?' });
        check_error(b"I\0\0\0\x01N\0\x01b\0\0\0\0", DecodeError::BinaryValue { column: 0 });
    }

    #[test]
    fn malformed_messages_are_errors() {
        check_error(b"", DecodeError::Truncated { field: "tag" });
        check_error(b"O\0\0\0\0\0\0\0\x09oth", DecodeError::Truncated { field: "origin name" });
        check_error(b"I\0\0\0\x01N\0\x01t\xff\xff\xff\xff", DecodeError::Truncated { field: "row" });
        check_error(b"T\xff\xff\xff\xff\0", DecodeError::Truncated { field: "relation oid" });
        check_error(b"T\0\0\0\0\0!", DecodeError::TrailingBytes { tag: 'T', bytes: 1 });
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(message in any_message()) {
            prop_assert_eq!(Message::parse(encode(&message)), Ok(message));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Message::parse(bytes.into());
        }

        /// Nearly right bytes get further than random ones.
        #[test]
        fn no_damage_panics(message in any_message(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
            let mut bytes = encode(&message).to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = Message::parse(Bytes::from(bytes.clone()));
            bytes.truncate(cut.index(bytes.len()));
            let _ = Message::parse(bytes.into());
        }
    }
}
