//! Ordinary SQL: what the relay must know of the database before and while it streams, and what it reads there on behalf
//! of clients.

mod caller;
mod columns;
mod control;
mod error;
mod installations;
mod routed_rows;
mod rows;
mod rows_reader;
mod sessions;
mod turns;

pub(crate) use self::caller::{Mode, become_caller, begin};
pub use self::control::{
    Control, SupabaseProblem, check_publications, check_role, domains, load_control, maintain_supabase_api,
    message_keys, tell_public_channels,
};
pub use self::error::SqlError;
pub use self::installations::{Installation, installations, problems};
pub use self::rows_reader::{Answering, RowsMetrics, RowsReader, RowsSettings};
pub use self::sessions::{Lease, Sessions};
pub use self::turns::{Full, Place, TurnLimits, Turns};
