//! End-to-end tests: a real Postgres with the extension, the relay's own binary,
//! and clients that speak the wire. Each test owns its cluster.
//!
//! Run them by `cargo xtask test e2e`, which installs and builds what they need.

mod agent_status;
mod api_dashboard;
mod api_identity;
mod api_widget;
mod assets;
mod authorization_cut;
mod broadcast;
mod burst;
mod channel_names;
mod conformance;
mod conformance_presence;
mod connections;
mod emptied;
mod events;
mod foreign_messages;
mod gate_verdicts;
mod gates;
mod handshake;
mod harness;
mod hostile_sockets;
mod installations;
mod isolation;
mod latency;
mod life_cycle;
mod limits;
mod live_tables;
mod memory;
mod message_flow;
mod misconfiguration;
mod policies;
mod presence;
mod private_routes;
mod proxies;
mod rest_broadcast;
mod restart;
mod restore_of_a_part;
mod resume;
mod row_level_security;
mod scene;
mod secrets;
mod session_settings;
mod slot_guard;
mod slot_life;
mod snapshot;
mod sql_messages;
mod stability;
mod supabase_api;
mod tables;
mod tokens;
mod transactions;
mod types;
mod update;
mod visitor_events;
