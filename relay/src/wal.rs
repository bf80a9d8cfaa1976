//! Stage 1: the write-ahead log. Connection, slot, stream and standby status (what we may confirm).

mod lsn;

pub use lsn::{Lsn, ParseLsnError, Xid};
