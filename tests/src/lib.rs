//! What end-to-end tests and `cargo xtask` share: a throwaway Postgres, a relay
//! process, a raw socket, tokens, and ways to wait for facts instead of time.
//!
//! Nothing here knows the relay's insides: the harness sees what an operator and
//! a client see (a process, its exit code, its log, HTTP, WebSocket frames), so a
//! test that passes says something about the program that is shipped.

pub mod catalog;
pub mod chat;
pub mod cluster;
pub mod extension;
pub mod fence;
pub mod frame;
pub mod http;
pub mod issuer;
pub mod layout;
pub mod port;
pub mod relay;
pub mod seed;
pub mod server;
pub mod socket;
pub mod timestamp;
pub mod token;
pub mod wait;
pub mod watchdog;

pub use cluster::Cluster;
pub use relay::Relay;
pub use socket::Socket;
pub use wait::eventually;

/// The agent every seeded database has: active, in the seeded organization.
pub const AGENT: uuid::Uuid = uuid::uuid!("00000000-0000-4000-8000-000000000001");

/// The seeded organization.
pub const ORGANIZATION: uuid::Uuid = uuid::uuid!("00000000-0000-4000-8000-0000000000a0");
