//! Messages into changes: keeps the open transaction, counts its changes, remembers the relations.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{Change, ChangeKind, DecodeError, Message, Relation, Transaction, Tuple};
use crate::wal::Lsn;

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
    /// A description, remembered or of no use here.
    Nothing,
}

#[derive(Debug, Default)]
pub struct Decoder {
    relations: HashMap<u32, Arc<Relation>>,
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
                    return Err(DecodeError::NestedBegin {
                        open: open.transaction.commit_lsn,
                    });
                }
                self.open = Some(Open {
                    transaction,
                    change_count: 0,
                });
                Ok(Decoded::Begin(transaction))
            }
            Message::Commit {
                commit_lsn,
                end_lsn,
                ..
            } => {
                let open = self
                    .open
                    .take()
                    .ok_or(DecodeError::OutsideTransaction { tag: 'C' })?;
                let announced = open.transaction.commit_lsn;
                if announced != commit_lsn {
                    return Err(DecodeError::CommitMismatch {
                        announced,
                        committed: commit_lsn,
                    });
                }
                Ok(Decoded::Commit {
                    transaction: open.transaction,
                    end_lsn,
                })
            }
            Message::Relation(relation) => {
                self.relations.insert(relation.id, Arc::new(relation));
                Ok(Decoded::Nothing)
            }
            Message::Origin { .. } | Message::Type { .. } => Ok(Decoded::Nothing),
            Message::Insert { relation_id, new } => {
                let relation = self.relation(relation_id)?;
                check_columns(&relation, &new)?;
                self.change('I', ChangeKind::Insert { relation, new })
            }
            Message::Update {
                relation_id,
                old,
                new,
            } => {
                let relation = self.relation(relation_id)?;
                check_columns(&relation, &new)?;
                if let Some(old) = &old {
                    check_columns(&relation, old.tuple())?;
                }
                self.change('U', ChangeKind::Update { relation, old, new })
            }
            Message::Delete { relation_id, old } => {
                let relation = self.relation(relation_id)?;
                check_columns(&relation, old.tuple())?;
                self.change('D', ChangeKind::Delete { relation, old })
            }
            Message::Truncate {
                relation_ids,
                cascade,
                restart_identity,
            } => {
                let relations = relation_ids
                    .iter()
                    .map(|&id| self.relation(id))
                    .collect::<Result<_, _>>()?;
                self.change(
                    'T',
                    ChangeKind::Truncate {
                        relations,
                        cascade,
                        restart_identity,
                    },
                )
            }
            Message::Logical {
                transactional: true,
                prefix,
                content,
                ..
            } => self.change('M', ChangeKind::Message { prefix, content }),
            Message::Logical {
                transactional: false,
                lsn,
                prefix,
                content,
            } => Ok(Decoded::NonTransactionalMessage {
                lsn,
                prefix,
                content,
            }),
        }
    }

    fn relation(&self, relation_id: u32) -> Result<Arc<Relation>, DecodeError> {
        self.relations
            .get(&relation_id)
            .cloned()
            .ok_or(DecodeError::UnknownRelation { relation_id })
    }

    fn change(&mut self, tag: char, kind: ChangeKind) -> Result<Decoded, DecodeError> {
        let open = self
            .open
            .as_mut()
            .ok_or(DecodeError::OutsideTransaction { tag })?;
        let Open {
            transaction,
            change_count: index,
        } = *open;
        open.change_count = index.checked_add(1).ok_or(DecodeError::TooManyChanges {
            commit_lsn: transaction.commit_lsn,
        })?;
        Ok(Decoded::Change(Change {
            transaction,
            index,
            kind,
        }))
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
