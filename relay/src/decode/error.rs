//! What can be wrong with a stream of pgoutput messages.

use crate::postgres::Lsn;

/// The bytes are not what this version of the protocol allows. Reading them again would fail again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("pgoutput message ends within {field}")]
    Truncated { field: &'static str },

    #[error("pgoutput message {tag:?} has {bytes} bytes too many")]
    TrailingBytes { tag: char, bytes: usize },

    #[error("unknown pgoutput message {tag:?}")]
    UnknownTag { tag: char },

    #[error("{field} of a pgoutput message is {value:?}, which this version does not know")]
    UnknownValue { field: &'static str, value: char },

    /// The property belongs to the slot: such a slot sends rows at PREPARE, before anybody knows the outcome.
    #[error(
        "pgoutput message {tag:?} belongs to two-phase decoding; the slot must be made without two_phase"
    )]
    TwoPhase { tag: char },

    #[error("pgoutput message {tag:?} belongs to streaming of open transactions, which was not asked for")]
    Streaming { tag: char },

    #[error("column {column} came in binary format, which was not asked for")]
    BinaryValue { column: usize },

    #[error("a change names relation {relation_id}, which was never described")]
    UnknownRelation { relation_id: u32 },

    #[error("a row of {relation} has {row} columns, its description has {described}")]
    ColumnCount { relation: String, row: usize, described: usize },

    #[error("pgoutput message {tag:?} outside a transaction")]
    OutsideTransaction { tag: char },

    #[error("a transaction begins within the one that commits at {open}")]
    NestedBegin { open: Lsn },

    #[error("a transaction that announced {announced} as its commit committed at {committed}")]
    CommitMismatch { announced: Lsn, committed: Lsn },

    #[error("the transaction that commits at {commit_lsn} has more changes than a position can count")]
    TooManyChanges { commit_lsn: Lsn },
}
