//! The `wal` and `decode` stages against a real Postgres: every test boots a server of its own, with plain tables and
//! a hand-made `campfire.slots`; no extension is needed.

mod attach;
mod cluster;
mod feedback;
mod login;
mod reader;
mod rows;
mod stream;
mod tls;
