//! Stage 2: pgoutput bytes into the changes of committed transactions. No I/O; malformed input is an error, never
//! a panic. The one hazard: a `Decoder` belongs to one connection, since the server sends a relation's description
//! once a connection; a new connection needs a new `Decoder`.

mod change;
mod decoder;
mod error;
mod excerpt;
mod json;
mod message;
mod partitions;
mod reader;
mod relation;
#[cfg(test)]
mod testing;
mod tuple;

pub use change::{Change, ChangeKind, Transaction};
pub use decoder::{Decoded, Decoder};
pub use error::DecodeError;
pub use excerpt::excerpt;
pub use json::{Domains, write_json, write_json_string};
pub use message::Message;
pub use relation::{Relation, RelationColumn, ReplicaIdentity};
pub use tuple::{Column, Columns, OldTuple, Tuple};
