//! Tokens that were refused, by where they came from: the check of a signature costs up to twenty times the rest of a
//! handshake (`cargo xtask bench refusals`), and is made for anybody.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::Origin;
use super::buckets::Buckets;
use super::rate_limit::RateLimit;
use crate::config::units;

/// Tokens that are remembered as accepted: at least as many as these, and at most twice as many.
const ACCEPTED_KEPT: usize = 10_000;

/// So many times as many as a second may be refused at once.
const BURST_SECONDS: u32 = 10;

/// How many tokens may be refused.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Connections")]
pub struct RefusedTokenRate {
    /// Tokens of one address that may be refused a second, and ten times as many at once; beyond it, its tokens are
    /// refused with 429 before they are verified, except those that were accepted lately. From this machine any number.
    /// 0: no limit.
    #[arg(id = "MAX_REFUSED_TOKENS_PER_SECOND", long = "max-refused-tokens-per-second", env = "CAMPFIRE_MAX_REFUSED_TOKENS_PER_SECOND", default_value_t = 20, value_parser = units::count::<u32>)]
    pub per_second: u32,
}

/// Bounds how many tokens are verified in vain for one address.
pub(crate) struct RefusedTokens {
    /// Zero: any number.
    per_second: u32,
    hasher: RandomState,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    refused: Buckets<Origin>,
    /// Tokens that were accepted lately, signature and all: others behind the same address show them again and again. The
    /// newer ones, and those before them.
    accepted: [HashSet<u64>; 2],
}

impl RefusedTokens {
    pub(crate) fn new(RefusedTokenRate { per_second }: RefusedTokenRate) -> Self {
        Self { per_second, hasher: RandomState::new(), state: Mutex::default() }
    }

    /// Whether a token is worth the check of its signature: not too many from there were refused, or it was accepted.
    pub(crate) fn may_be_verified(&self, origin: Origin, token: &str, now: Instant) -> bool {
        if self.is_unlimited(origin) {
            return true;
        }
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_spent = state.refused.get(&origin).is_some_and(|limit| limit.remaining(now) == 0);
        let token = self.hasher.hash_one(token);
        !is_spent || state.accepted.iter().any(|accepted| accepted.contains(&token))
    }

    /// Notes what came of a check.
    pub(crate) fn note(&self, origin: Origin, token: &str, is_accepted: bool, now: Instant) {
        if self.is_unlimited(origin) {
            return;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if is_accepted {
            let [newer, older] = &mut state.accepted;
            if newer.len() >= ACCEPTED_KEPT {
                *older = std::mem::take(newer);
            }
            newer.insert(self.hasher.hash_one(token));
        } else {
            let fresh = || RateLimit::new(self.per_second, self.per_second * BURST_SECONDS, now);
            state.refused.entry(origin, fresh, now).admit(now);
        }
    }

    /// From this machine come the operator, and everybody behind a proxy that the relay was not told of.
    fn is_unlimited(&self, origin: Origin) -> bool {
        self.per_second == 0 || origin == Origin::Local
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_address_has_so_many_in_vain() {
        let tokens = RefusedTokens::new(RefusedTokenRate { per_second: 2 });
        let [here, there] = [1, 2].map(|last| Origin::network([192, 0, 2, last].into()));
        let start = Instant::now();
        let try_all = |origin, now| {
            (0..100)
                .take_while(|number| {
                    let token = format!("forged {number}");
                    let may = tokens.may_be_verified(origin, &token, now);
                    tokens.note(origin, &token, false, now);
                    may
                })
                .count()
        };
        tokens.note(here, "genuine", true, start);
        assert_eq!(try_all(here, start), 20);
        assert_eq!(try_all(here, start + Duration::from_millis(499)), 0);
        // Others are not charged, and neither is who was accepted before.
        assert!(tokens.may_be_verified(there, "forged", start));
        assert!(
            tokens.may_be_verified(here, "genuine", start) && !tokens.may_be_verified(here, "genuin", start)
        );
        assert_eq!(try_all(here, start + Duration::from_secs(1)), 2);
        assert_eq!(try_all(Origin::Local, start), 100);
    }

    #[test]
    fn what_was_accepted_is_remembered_for_a_while_and_takes_bounded_memory() {
        let tokens = RefusedTokens::new(RefusedTokenRate { per_second: 1 });
        let here = Origin::Untold;
        let now = Instant::now();
        (0..BURST_SECONDS).for_each(|_| tokens.note(here, "forged", false, now));
        for number in 0..3 * ACCEPTED_KEPT {
            tokens.note(here, &number.to_string(), true, now);
        }
        let known = |number: usize| tokens.may_be_verified(here, &number.to_string(), now);
        assert!(known(3 * ACCEPTED_KEPT - 1) && known(2 * ACCEPTED_KEPT) && !known(0));
        let state = tokens.state.lock().unwrap();
        assert!(state.accepted.iter().map(HashSet::len).sum::<usize>() <= 2 * ACCEPTED_KEPT);
    }
}
