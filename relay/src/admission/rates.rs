//! How fast each client sends over HTTP.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::Origin;
use super::buckets::Buckets;
use super::rate_limit::RateLimit;
use crate::auth::{Credential, Fingerprint};
use crate::config::units;

/// Whose messages are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Source {
    Token(Fingerprint),
    /// Everybody there with an API key.
    Origin(Origin),
}

/// How fast a client may send.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Limits")]
pub struct MessageRate {
    /// Messages per second that a socket may send, on average.
    #[arg(id = "CLIENT_MESSAGES_PER_SECOND", long = "client-messages-per-second", env = "CAMPFIRE_CLIENT_MESSAGES_PER_SECOND", default_value_t = 50, value_parser = units::count::<u32>)]
    pub per_second: u32,

    /// Messages that a socket may send at once after a quiet period.
    #[arg(id = "CLIENT_MESSAGES_BURST", long = "client-messages-burst", env = "CAMPFIRE_CLIENT_MESSAGES_BURST", default_value_t = 100, value_parser = units::count::<u32>)]
    pub burst: u32,
}

/// How fast each of them sends.
#[derive(Default)]
pub(crate) struct Rates {
    limits: Mutex<Buckets<Source>>,
}

/// What is left to a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowance {
    pub(crate) is_admitted: bool,
    pub(crate) remaining: u32,
}

impl Rates {
    /// Whether whoever shows this token may send nothing now, be it genuine or not.
    pub(crate) fn is_spent(&self, token: Fingerprint, now: Instant) -> bool {
        let limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        limits.get(&Source::Token(token)).is_some_and(|limit| limit.remaining(now) == 0)
    }

    /// Takes the worth of so many messages, if there is.
    pub(crate) fn admit(
        &self,
        credential: &Credential,
        origin: Origin,
        fresh: impl FnOnce() -> RateLimit,
        messages: u32,
        now: Instant,
    ) -> Allowance {
        let source = match credential {
            Credential::Token(claims) => Source::Token(claims.fingerprint),
            Credential::ApiKey(_) => Source::Origin(origin),
        };
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = limits.entry(source, fresh, now);
        let is_admitted = limit.admit_many(messages, now);
        Allowance { is_admitted, remaining: limit.remaining(now) }
    }
}
