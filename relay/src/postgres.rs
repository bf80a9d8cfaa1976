//! Words and lines of Postgres: positions and transactions as it counts them, what its snapshots see, where it is and
//! how to get in, sessions and errors. Knows no slot, and nothing of what is done over a line.

mod answer;
mod connection;
mod conninfo;
mod error;
mod lsn;
mod quote;
mod session;
mod settings;
mod timestamp;
mod visibility;

pub use answer::answered;
pub use connection::Excerpt;
pub(crate) use connection::{Connection, Frames, XLOG_DATA_HEADER_BYTES, parse_error, unexpected};
pub use conninfo::Conninfo;
pub use error::{PostgresError, ServerError, cause};
pub use lsn::{Lsn, ParseLsnError, Xid};
pub(crate) use quote::{quote_identifier, quote_literal};
pub use session::{connect, connect_for};
pub use settings::Purpose;
pub use timestamp::Timestamp;
pub use visibility::{ParseSnapshotError, Snapshot};
