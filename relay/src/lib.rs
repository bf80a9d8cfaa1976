//! The campfire relay: reads a Postgres logical replication slot and broadcasts the rows that committed to
//! Phoenix channel clients.
//!
//! Modules stand in the order in which data flows. Each knows the one above it in this list through a small
//! type, never the one below: `wal` knows nothing of channels, `socket` knows nothing of Postgres.

pub mod wal;

pub mod decode;

pub mod route;

pub mod fanout;

pub mod protocol;

pub mod auth;

pub mod socket;

pub mod http;
