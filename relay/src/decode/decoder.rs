//! Messages into changes: keeps the open transaction, counts its changes, remembers the relations.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::partitions::Partitions;
use super::{Change, ChangeKind, DecodeError, Message, OldTuple, Relation, Transaction, Tuple};
use crate::postgres::Lsn;

/// What one message meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    Begin(Transaction),
    Change(Change),
    /// Everything below `end_lsn` has come; it is what may be confirmed once applied.
    Commit {
        transaction: Transaction,
        end_lsn: Lsn,
    },
    /// Comes outside transactions, and also from a transaction that rolled back: never an event.
    NonTransactionalMessage {
        lsn: Lsn,
        prefix: Bytes,
        content: Bytes,
    },
    /// A table's description, which is remembered; its rows follow.
    Relation(Arc<Relation>),
    /// Of no use here.
    Nothing,
}

#[derive(Debug, Default)]
pub struct Decoder {
    relations: HashMap<u32, Arc<Relation>>,
    partitions: Partitions,
    open: Option<Open>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    transaction: Transaction,
    change_count: u32,
}

impl Decoder {
    pub fn new() -> Decoder {
        Decoder::default()
    }

    /// Whether Begin has come and Commit has not. A keepalive's end may be confirmed only outside a transaction.
    pub fn in_transaction(&self) -> bool {
        self.open.is_some()
    }

    /// Takes one pgoutput message. After an error the stream cannot be trusted any more.
    pub fn decode(&mut self, bytes: Bytes) -> Result<Decoded, DecodeError> {
        match Message::parse(bytes)? {
            Message::Begin(transaction) => {
                if let Some(open) = self.open {
                    return Err(DecodeError::NestedBegin { open: open.transaction.commit_lsn });
                }
                self.open = Some(Open { transaction, change_count: 0 });
                Ok(Decoded::Begin(transaction))
            }
            Message::Commit { commit_lsn, end_lsn, .. } => {
                let open = self.open.take().ok_or(DecodeError::OutsideTransaction { tag: 'C' })?;
                let announced = open.transaction.commit_lsn;
                if announced != commit_lsn {
                    return Err(DecodeError::CommitMismatch { announced, committed: commit_lsn });
                }
                Ok(Decoded::Commit { transaction: open.transaction, end_lsn })
            }
            Message::Relation(relation) => {
                self.partitions.describe(relation.id, relation.replica_identity);
                let relation = Arc::new(relation);
                self.relations.insert(relation.id, Arc::clone(&relation));
                Ok(Decoded::Relation(relation))
            }
            Message::Origin { .. } | Message::Type { .. } => Ok(Decoded::Nothing),
            Message::Insert { relation_id, new } => {
                self.partitions.write_to(relation_id);
                let relation = self.relation(relation_id)?;
                check_columns(&relation, &new)?;
                self.change('I', ChangeKind::Insert { relation, new })
            }
            Message::Update { relation_id, old, new } => {
                self.partitions.write_to(relation_id);
                let relation = self.relation(relation_id)?;
                check_columns(&relation, &new)?;
                if let Some(old) = &old {
                    check_columns(&relation, old.tuple())?;
                }
                let old = old.map(|old| self.as_logged(relation_id, old));
                self.change('U', ChangeKind::Update { relation, old, new })
            }
            Message::Delete { relation_id, old } => {
                self.partitions.write_to(relation_id);
                let relation = self.relation(relation_id)?;
                check_columns(&relation, old.tuple())?;
                let old = self.as_logged(relation_id, old);
                self.change('D', ChangeKind::Delete { relation, old })
            }
            Message::Truncate { relation_ids, cascade, restart_identity } => {
                self.partitions.forget_described();
                let relations = relation_ids.iter().map(|&id| self.relation(id)).collect::<Result<_, _>>()?;
                self.change('T', ChangeKind::Truncate { relations, cascade, restart_identity })
            }
            Message::Logical { transactional: true, prefix, content, .. } => {
                self.change('M', ChangeKind::Message { prefix, content })
            }
            Message::Logical { transactional: false, lsn, prefix, content } => {
                Ok(Decoded::NonTransactionalMessage { lsn, prefix, content })
            }
        }
    }

    /// An old row as its own table logged it. The server calls it whole by the identity of the table that is published.
    fn as_logged(&self, relation_id: u32, old: OldTuple) -> OldTuple {
        match old {
            OldTuple::Full(tuple) if self.partitions.log_keys_only(relation_id) => OldTuple::Key(tuple),
            old => old,
        }
    }

    fn relation(&self, relation_id: u32) -> Result<Arc<Relation>, DecodeError> {
        self.relations.get(&relation_id).cloned().ok_or(DecodeError::UnknownRelation { relation_id })
    }

    fn change(&mut self, tag: char, kind: ChangeKind) -> Result<Decoded, DecodeError> {
        let open = self.open.as_mut().ok_or(DecodeError::OutsideTransaction { tag })?;
        let Open { transaction, change_count: index } = *open;
        open.change_count =
            index.checked_add(1).ok_or(DecodeError::TooManyChanges { commit_lsn: transaction.commit_lsn })?;
        Ok(Decoded::Change(Change { transaction, index, kind }))
    }
}

fn check_columns(relation: &Relation, tuple: &Tuple) -> Result<(), DecodeError> {
    let (row, described) = (tuple.column_count(), relation.columns.len());
    if row == described {
        return Ok(());
    }
    Err(DecodeError::ColumnCount {
        relation: format!("{}.{}", relation.namespace, relation.name),
        row,
        described,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{any_message, encode, relation, tuple};
    use super::super::{Column, OldTuple, ReplicaIdentity};
    use super::*;
    use crate::postgres::{Timestamp, Xid};

    const TRANSACTION: Transaction =
        Transaction { xid: Xid(736), commit_lsn: Lsn(1000), committed_at: Timestamp(5) };

    fn commit(commit_lsn: u64) -> Message {
        Message::Commit {
            commit_lsn: Lsn(commit_lsn),
            end_lsn: Lsn(commit_lsn + 48),
            committed_at: TRANSACTION.committed_at,
        }
    }

    fn insert(relation_id: u32) -> Message {
        Message::Insert { relation_id, new: tuple(&[Column::Text(b"1"), Column::Null]) }
    }

    fn notes() -> Relation {
        relation(1, ReplicaIdentity::Default, &[("id", true), ("body", false)])
    }

    fn message(transactional: bool) -> Message {
        Message::Logical { transactional, lsn: Lsn(990), prefix: Bytes::new(), content: Bytes::new() }
    }

    /// Decodes all messages and gives the last one's outcome.
    fn decode(messages: &[Message]) -> (Decoder, Result<Decoded, DecodeError>) {
        let mut decoder = Decoder::new();
        let mut outcome = Ok(Decoded::Nothing);
        for message in messages {
            assert!(outcome.is_ok(), "only the last message may fail: {outcome:?}");
            outcome = decoder.decode(encode(message));
        }
        (decoder, outcome)
    }

    fn check_error(messages: &[Message], expected: DecodeError) {
        assert_eq!(decode(messages).1, Err(expected));
    }

    #[test]
    fn changes_are_counted_and_descriptions_are_not() {
        let origin = Message::Origin { lsn: Lsn(1), name: "other".to_owned() };
        let kind = Message::Type { id: 9, namespace: "public".to_owned(), name: "mood".to_owned() };
        let truncate = Message::Truncate { relation_ids: vec![1], cascade: false, restart_identity: false };
        let messages = [
            Message::Begin(TRANSACTION),
            origin,
            Message::Relation(notes()),
            insert(1),
            kind,
            message(true),
            message(false),
            Message::Relation(notes()),
            truncate,
            insert(1),
        ];
        let mut decoder = Decoder::new();
        let indexes: Vec<u32> = messages
            .iter()
            .filter_map(|message| match decoder.decode(encode(message)).expect("well-formed") {
                Decoded::Change(change) => Some(change.index),
                _ => None,
            })
            .collect();
        assert_eq!(indexes, [0, 1, 2, 3]);
    }

    #[test]
    fn a_transaction_is_open_from_begin_to_commit() {
        let begin = Message::Begin(TRANSACTION);
        assert!(!Decoder::new().in_transaction());
        assert!(decode(std::slice::from_ref(&begin)).0.in_transaction());
        let (decoder, outcome) = decode(&[begin, commit(1000)]);
        assert!(!decoder.in_transaction());
        assert_eq!(outcome, Ok(Decoded::Commit { transaction: TRANSACTION, end_lsn: Lsn(1048) }));
    }

    #[test]
    fn counting_starts_anew_with_each_transaction() {
        let later = Transaction { commit_lsn: Lsn(2000), ..TRANSACTION };
        let messages = [
            Message::Begin(TRANSACTION),
            Message::Relation(notes()),
            insert(1),
            commit(1000),
            Message::Begin(later),
            insert(1),
        ];
        let Ok(Decoded::Change(change)) = decode(&messages).1 else { panic!("a change") };
        assert_eq!((change.index, change.transaction), (0, later));
    }

    #[test]
    fn a_new_description_holds_from_there_on() {
        let wider = relation(1, ReplicaIdentity::Default, &[("id", true), ("body", false), ("extra", false)]);
        let new = tuple(&[Column::Text(b"1"), Column::Null, Column::Text(b"x")]);
        let messages = [
            Message::Begin(TRANSACTION),
            Message::Relation(notes()),
            insert(1),
            Message::Relation(wider.clone()),
            Message::Insert { relation_id: 1, new: new.clone() },
        ];
        let Ok(Decoded::Change(change)) = decode(&messages).1 else { panic!("a change") };
        assert_eq!(change.kind, ChangeKind::Insert { relation: Arc::new(wider), new });
    }

    #[test]
    fn columns_outside_the_key_of_an_old_row_are_not_values() {
        let row = tuple(&[Column::Text(b"1"), Column::Null]);
        assert_eq!(OldTuple::Key(row.clone()).get(0), Column::Text(b"1"));
        assert_eq!(OldTuple::Key(row.clone()).get(1), Column::Unchanged);
        assert_eq!(OldTuple::Full(row).get(1), Column::Null);
    }

    /// Rows of partitions come under the name of the partitioned table, which says `full`.
    #[test]
    fn an_old_row_is_whole_only_if_every_partition_logs_it_so() {
        let table = |id, identity| Message::Relation(relation(id, identity, &[("id", true), ("body", true)]));
        let root = || table(1, ReplicaIdentity::Full);
        let row = tuple(&[Column::Text(b"1"), Column::Null]);
        let delete = || Message::Delete { relation_id: 1, old: OldTuple::Full(row.clone()) };
        let old = |messages: &[Message]| {
            let messages = [&[Message::Begin(TRANSACTION)], messages, &[delete()]].concat();
            let Ok(Decoded::Change(Change { kind: ChangeKind::Delete { old, .. }, .. })) =
                decode(&messages).1
            else {
                panic!("a delete")
            };
            old
        };
        let (full, key) = (OldTuple::Full(row.clone()), OldTuple::Key(row.clone()));
        use ReplicaIdentity::{Default, Full};
        assert_eq!(old(&[root()]), full, "not partitioned");
        assert_eq!(old(&[root(), table(2, Full)]), full);
        assert_eq!(old(&[root(), table(2, Default)]), key);
        let one_of_two = [root(), table(2, Default), delete(), root(), table(3, Full)];
        assert_eq!(old(&one_of_two), key, "either may have logged it");
        let mended = [root(), table(2, Default), delete(), root(), table(2, Full)];
        assert_eq!(old(&mended), full);
        // Another table's description is no partition's: its own row follows.
        let insert = Message::Insert { relation_id: 2, new: row.clone() };
        assert_eq!(old(&[root(), delete(), table(2, Default), insert]), full);
        let truncate =
            Message::Truncate { relation_ids: vec![1, 2], cascade: false, restart_identity: false };
        assert_eq!(old(&[root(), table(2, Default), truncate]), full);
        let update =
            Message::Update { relation_id: 1, old: Some(OldTuple::Full(row.clone())), new: row.clone() };
        let messages = [Message::Begin(TRANSACTION), root(), table(2, Default), update];
        let Ok(Decoded::Change(change)) = decode(&messages).1 else { panic!("a change") };
        assert!(matches!(change.kind, ChangeKind::Update { old: Some(OldTuple::Key(_)), .. }));
    }

    #[test]
    fn what_does_not_fit_together_is_an_error() {
        let begin = || Message::Begin(TRANSACTION);
        check_error(&[begin(), begin()], DecodeError::NestedBegin { open: Lsn(1000) });
        check_error(&[commit(1000)], DecodeError::OutsideTransaction { tag: 'C' });
        check_error(
            &[begin(), commit(1001)],
            DecodeError::CommitMismatch { announced: Lsn(1000), committed: Lsn(1001) },
        );
        check_error(&[Message::Relation(notes()), insert(1)], DecodeError::OutsideTransaction { tag: 'I' });
        check_error(&[begin(), insert(1)], DecodeError::UnknownRelation { relation_id: 1 });
        let narrower = relation(1, ReplicaIdentity::Default, &[("id", true)]);
        check_error(
            &[begin(), Message::Relation(narrower), insert(1)],
            DecodeError::ColumnCount { relation: "public.table_1".to_owned(), row: 2, described: 1 },
        );
    }

    proptest! {
        #[test]
        fn no_sequence_of_messages_panics(messages in proptest::collection::vec(any_message(), 0..20)) {
            let mut decoder = Decoder::new();
            for message in &messages {
                let _ = decoder.decode(encode(message));
            }
        }
    }
}
