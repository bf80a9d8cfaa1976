//! The campfire relay: reads a Postgres logical replication slot and broadcasts the rows that committed to
//! Phoenix channel clients.
//!
//! Modules stand in the order in which data flows. Each knows the one above it in this list through a small
//! type, never the one below: `wal` knows nothing of channels, `socket` knows nothing of Postgres.

// Known to all.
pub mod config;
pub mod metrics;
pub mod seldom;

// Words and lines of Postgres.
pub mod postgres;

// 1: the write-ahead log.
pub mod wal;

// 2: bytes to changes.
pub mod decode;

// 3: changes to events.
pub mod route;

// The words of clients, and who they are.
pub mod auth;
pub mod protocol;

// What few may do at once, by turns of who they are.
pub mod turns;

// 4: events to outboxes.
pub mod fanout;

// 5: outboxes to sockets.
pub mod http;
pub mod socket;

// What joins the stages, and starts and stops them.
pub mod app;
pub mod db;
pub mod ingest;
pub mod jwks;
pub mod policies;
pub mod snapshot;
pub mod vital;
