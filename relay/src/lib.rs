//! The campfire relay: reads a Postgres logical replication slot and broadcasts the rows that committed to
//! Phoenix channel clients.
//!
//! Modules stand in the order in which data flows. Each knows the one above it in this list through a small
//! type, never the one below: `wal` knows nothing of channels, `socket` knows nothing of Postgres.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "a test is where its tasks are noticed"))]

// Known to all.
pub mod config;
pub mod metrics;

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

// 4: events to outboxes.
pub mod fanout;

// Ordinary SQL: control state, and what is read on behalf of clients.
pub mod sql;

// What joins the stages from the log to the hub.
pub mod ingest;

// Who may come in.
pub mod admission;

// 5: outboxes to sockets.
pub mod socket;

// The edge that speaks HTTP.
pub mod http;

// What starts and stops everything.
pub mod app;
pub mod cli;
