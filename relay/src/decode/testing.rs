//! Writes pgoutput messages, for tests: the reverse of `Message::parse`, and arbitrary messages to try it on.

use bytes::{BufMut, Bytes};
use proptest::collection::vec;
use proptest::prelude::*;

use super::reader::Reader;
use super::{Column, Message, OldTuple, Relation, RelationColumn, ReplicaIdentity, Transaction, Tuple};
use crate::postgres::{Lsn, Timestamp, Xid};

pub(super) fn encode(message: &Message) -> Bytes {
    let mut out = Vec::new();
    match message {
        Message::Begin(transaction) => {
            out.put_u8(b'B');
            out.put_u64(transaction.commit_lsn.0);
            out.put_i64(transaction.committed_at.0);
            out.put_u32(transaction.xid.0);
        }
        Message::Commit { commit_lsn, end_lsn, committed_at } => {
            out.put_slice(b"C\0");
            out.put_u64(commit_lsn.0);
            out.put_u64(end_lsn.0);
            out.put_i64(committed_at.0);
        }
        Message::Origin { lsn, name } => {
            out.put_u8(b'O');
            out.put_u64(lsn.0);
            put_c_string(&mut out, name.as_bytes());
        }
        Message::Relation(relation) => put_relation(&mut out, relation),
        Message::Type { id, namespace, name } => {
            out.put_u8(b'Y');
            out.put_u32(*id);
            put_c_string(&mut out, namespace.as_bytes());
            put_c_string(&mut out, name.as_bytes());
        }
        Message::Insert { relation_id, new } => {
            out.put_u8(b'I');
            out.put_u32(*relation_id);
            put_tuple(&mut out, b'N', new);
        }
        Message::Update { relation_id, old, new } => {
            out.put_u8(b'U');
            out.put_u32(*relation_id);
            if let Some(old) = old {
                put_old_tuple(&mut out, old);
            }
            put_tuple(&mut out, b'N', new);
        }
        Message::Delete { relation_id, old } => {
            out.put_u8(b'D');
            out.put_u32(*relation_id);
            put_old_tuple(&mut out, old);
        }
        Message::Truncate { relation_ids, cascade, restart_identity } => {
            out.put_u8(b'T');
            out.put_u32(relation_ids.len() as u32);
            out.put_u8(u8::from(*cascade) | u8::from(*restart_identity) << 1);
            relation_ids.iter().for_each(|&id| out.put_u32(id));
        }
        Message::Logical { transactional, lsn, prefix, content } => {
            out.put_u8(b'M');
            out.put_u8(u8::from(*transactional));
            out.put_u64(lsn.0);
            put_c_string(&mut out, prefix);
            out.put_u32(content.len() as u32);
            out.put_slice(content);
        }
    }
    out.into()
}

/// A row with these values.
pub(super) fn tuple(columns: &[Column<'_>]) -> Tuple {
    let mut out = Vec::new();
    put_columns(&mut out, columns.len(), columns.iter().copied());
    Tuple::read(&mut Reader::new(out.into())).expect("well-formed")
}

pub(super) fn relation(id: u32, identity: ReplicaIdentity, columns: &[(&str, bool)]) -> Relation {
    let columns = columns
        .iter()
        .map(|&(name, is_key)| RelationColumn {
            name: name.to_owned(),
            type_oid: 25,
            type_modifier: -1,
            is_key,
        })
        .collect();
    Relation {
        id,
        namespace: "public".to_owned(),
        name: format!("table_{id}"),
        replica_identity: identity,
        columns,
    }
}

pub(super) fn any_message() -> impl Strategy<Value = Message> {
    prop_oneof![
        any_transaction().prop_map(Message::Begin),
        any::<(u64, u64, i64)>().prop_map(|(commit, end, at)| Message::Commit {
            commit_lsn: Lsn(commit),
            end_lsn: Lsn(end),
            committed_at: Timestamp(at),
        }),
        (any::<u64>(), any_name()).prop_map(|(lsn, name)| Message::Origin { lsn: Lsn(lsn), name }),
        any_relation().prop_map(Message::Relation),
        (any::<u32>(), any_name(), any_name()).prop_map(|(id, namespace, name)| Message::Type {
            id,
            namespace,
            name
        }),
        (any::<u32>(), any_tuple()).prop_map(|(relation_id, new)| Message::Insert { relation_id, new }),
        (any::<u32>(), prop::option::of(any_old_tuple()), any_tuple())
            .prop_map(|(relation_id, old, new)| Message::Update { relation_id, old, new }),
        (any::<u32>(), any_old_tuple()).prop_map(|(relation_id, old)| Message::Delete { relation_id, old }),
        (vec(any::<u32>(), 0..5), any::<bool>(), any::<bool>()).prop_map(
            |(relation_ids, cascade, restart_identity)| Message::Truncate {
                relation_ids,
                cascade,
                restart_identity
            }
        ),
        (any::<bool>(), any::<u64>(), any_name(), vec(any::<u8>(), 0..50)).prop_map(
            |(transactional, lsn, prefix, content)| Message::Logical {
                transactional,
                lsn: Lsn(lsn),
                prefix: prefix.into(),
                content: content.into(),
            }
        ),
    ]
}

fn any_transaction() -> impl Strategy<Value = Transaction> {
    any::<(u32, u64, i64)>().prop_map(|(xid, lsn, at)| Transaction {
        xid: Xid(xid),
        commit_lsn: Lsn(lsn),
        committed_at: Timestamp(at),
    })
}

/// A C string cannot hold a zero byte, and an empty namespace would come back as pg_catalog.
fn any_name() -> impl Strategy<Value = String> {
    "[^\0]{1,20}"
}

fn any_relation() -> impl Strategy<Value = Relation> {
    let identity = prop::sample::select(vec![
        ReplicaIdentity::Default,
        ReplicaIdentity::Nothing,
        ReplicaIdentity::Full,
        ReplicaIdentity::Index,
    ]);
    let column = (any_name(), any::<u32>(), any::<i32>(), any::<bool>()).prop_map(
        |(name, type_oid, type_modifier, is_key)| RelationColumn { name, type_oid, type_modifier, is_key },
    );
    (any::<u32>(), any_name(), any_name(), identity, vec(column, 0..6)).prop_map(
        |(id, namespace, name, replica_identity, columns)| Relation {
            id,
            namespace,
            name,
            replica_identity,
            columns,
        },
    )
}

fn any_tuple() -> impl Strategy<Value = Tuple> {
    #[derive(Debug, Clone)]
    enum Owned {
        Null,
        Unchanged,
        Text(Vec<u8>),
    }
    let column = prop_oneof![
        Just(Owned::Null),
        Just(Owned::Unchanged),
        vec(any::<u8>(), 0..20).prop_map(Owned::Text),
    ];
    vec(column, 0..6).prop_map(|columns| {
        let columns: Vec<Column<'_>> = columns
            .iter()
            .map(|column| match column {
                Owned::Null => Column::Null,
                Owned::Unchanged => Column::Unchanged,
                Owned::Text(text) => Column::Text(text),
            })
            .collect();
        tuple(&columns)
    })
}

fn any_old_tuple() -> impl Strategy<Value = OldTuple> {
    prop_oneof![any_tuple().prop_map(OldTuple::Key), any_tuple().prop_map(OldTuple::Full)]
}

fn put_relation(out: &mut Vec<u8>, relation: &Relation) {
    out.put_u8(b'R');
    out.put_u32(relation.id);
    put_c_string(out, relation.namespace.as_bytes());
    put_c_string(out, relation.name.as_bytes());
    out.put_u8(match relation.replica_identity {
        ReplicaIdentity::Default => b'd',
        ReplicaIdentity::Nothing => b'n',
        ReplicaIdentity::Full => b'f',
        ReplicaIdentity::Index => b'i',
    });
    out.put_u16(relation.columns.len() as u16);
    for column in &relation.columns {
        out.put_u8(u8::from(column.is_key));
        put_c_string(out, column.name.as_bytes());
        out.put_u32(column.type_oid);
        out.put_i32(column.type_modifier);
    }
}

fn put_old_tuple(out: &mut Vec<u8>, old: &OldTuple) {
    match old {
        OldTuple::Key(tuple) => put_tuple(out, b'K', tuple),
        OldTuple::Full(tuple) => put_tuple(out, b'O', tuple),
    }
}

fn put_tuple(out: &mut Vec<u8>, kind: u8, tuple: &Tuple) {
    out.put_u8(kind);
    put_columns(out, tuple.column_count(), tuple.columns());
}

fn put_columns<'a>(out: &mut Vec<u8>, column_count: usize, columns: impl Iterator<Item = Column<'a>>) {
    out.put_u16(column_count as u16);
    for column in columns {
        match column {
            Column::Null => out.put_u8(b'n'),
            Column::Unchanged => out.put_u8(b'u'),
            Column::Text(text) => {
                out.put_u8(b't');
                out.put_u32(text.len() as u32);
                out.put_slice(text);
            }
        }
    }
}

fn put_c_string(out: &mut Vec<u8>, text: &[u8]) {
    out.put_slice(text);
    out.put_u8(0);
}
