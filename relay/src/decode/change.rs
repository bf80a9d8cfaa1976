//! A decoded row event and the commit it belongs to.

use std::sync::Arc;

use bytes::Bytes;

use super::{OldTuple, Relation, Tuple};
use crate::postgres::{Lsn, Timestamp, Xid};

/// The commit that a change belongs to. The server sends committed transactions only, and says all this before
/// the first change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transaction {
    pub xid: Xid,
    pub commit_lsn: Lsn,
    pub committed_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub transaction: Transaction,
    /// Counts inserts, updates, deletes, truncates and transactional messages since Begin, from 0; with the commit
    /// LSN it names the change, the same after every restart.
    pub index: u32,
    pub kind: ChangeKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeKind {
    Insert {
        relation: Arc<Relation>,
        new: Tuple,
    },
    Update {
        relation: Arc<Relation>,
        old: Option<OldTuple>,
        new: Tuple,
    },
    Delete {
        relation: Arc<Relation>,
        old: OldTuple,
    },
    Truncate {
        relations: Vec<Arc<Relation>>,
        cascade: bool,
        restart_identity: bool,
    },
    /// Written by `pg_logical_emit_message(true, …)`. Any role may write one, so believe nothing in it unproved.
    Message {
        prefix: Bytes,
        content: Bytes,
    },
}
