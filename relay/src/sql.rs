//! Ordinary SQL: what the relay must know of the database before and while it streams, and what it reads there on behalf
//! of clients.

mod control;
mod installations;
mod rows;
mod rows_reader;
mod turns;

pub use self::control::{
    Control, DbError, SupabaseProblem, check_publications, check_role, connect, connect_for, domains,
    load_control, maintain_supabase_api, message_keys, tell_public_channels,
};
pub use self::installations::{Installation, installations, problems};
pub use self::rows_reader::{RowsReader, Sessions};
pub use self::turns::{Full, Place, TurnLimits, Turns};
