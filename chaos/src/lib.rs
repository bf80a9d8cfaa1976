//! Faults against the real thing, and an oracle that knows what every client should have received.
//!
//! A run boots a Postgres and a relay, with a proxy on either side of the relay; writers change the chat tables, clients
//! listen, and faults come by a plan that follows from a seed. What should have been received is read from a second
//! replication slot, by a decoder and a model of the table in `docs/events.md` that share nothing with the relay. The
//! checker compares after the run, so that no verdict depends on how fast anything was.

pub mod attack;
pub mod checker;
pub mod client;
pub mod faults;
pub mod hostile;
pub mod journal;
pub mod latency;
pub mod model;
pub mod pgoutput;
pub mod plan;
pub mod position;
pub mod proxy;
pub mod report;
pub mod run;
pub mod sabotage;
pub mod self_test;
pub mod stage;
pub mod truth;
pub mod world;
pub mod writers;
pub mod xids;

pub use attack::Attack;
pub use plan::Plan;
pub use report::Report;
pub use run::{Options, run};
pub use sabotage::Sabotage;
