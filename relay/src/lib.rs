//! The campfire relay: reads a Postgres logical replication slot and broadcasts the rows that committed to
//! Phoenix channel clients.
//!
//! Modules stand in the order in which data flows, between what all know and what joins them. Each may name those above
//! it in this list and none below: `wal` knows nothing of channels, `socket` knows nothing of the slot.
//! `relay/tests/tidy.rs` checks that.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "a test is where its tasks are noticed"))]

// How settings are written.
pub mod config;

// The forms of figures.
pub mod metrics;

// Words and lines of Postgres.
pub mod postgres;

// 1: the write-ahead log.
pub mod wal;

// 2: bytes to changes.
pub mod decode;

// 3: changes to events.
pub mod route;

// The words of clients.
pub mod protocol;

// Who clients are.
pub mod auth;

// 4: events to outboxes.
pub mod fanout;

// Ordinary SQL: control state, and what is read on behalf of clients.
pub mod sql;

// Who may come in.
pub mod admission;

// What joins the stages from the log to the hub.
pub mod ingest;

// 5: outboxes to sockets.
pub mod socket;

// The edge that speaks HTTP.
pub mod http;

// What widget and dashboard ask over HTTP, and their files.
pub mod api;

// What the relay is told at its start.
pub mod cli;

// What starts and stops everything.
pub mod app;
