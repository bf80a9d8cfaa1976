//! What the policies have denied a moment ago. Neither topics nor headers are kept, only what tells questions apart.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::Answer;
use super::question::Key;

/// Denials remembered at most, the newest: about 3 MiB.
pub(super) const DENIALS_KEPT: usize = 10_000;

/// Each with the time at which it was given.
#[derive(Default)]
pub(super) struct Denials {
    answers: HashMap<Key, (Instant, Answer)>,
    /// The oldest first.
    by_age: VecDeque<(Instant, Key)>,
}

impl Denials {
    /// The answer to a question, unless it is too old.
    pub(super) fn get(&mut self, key: &Key, now: Instant, age_max: Duration) -> Option<Answer> {
        self.forget(now, age_max, DENIALS_KEPT);
        self.answers.get(key).map(|(_, answer)| answer.clone())
    }

    pub(super) fn insert(&mut self, key: Key, answer: Answer, now: Instant, age_max: Duration) {
        self.forget(now, age_max, DENIALS_KEPT - 1);
        self.answers.insert(key, (now, answer));
        self.by_age.push_back((now, key));
    }

    fn forget(&mut self, now: Instant, age_max: Duration, count_max: usize) {
        while let Some((since, key)) = self.by_age.front() {
            if now.duration_since(*since) < age_max && self.by_age.len() <= count_max {
                return;
            }
            // It may have been denied again since.
            if self.answers.get(key).is_some_and(|(known, _)| known == since) {
                self.answers.remove(key);
            }
            self.by_age.pop_front();
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert!(self.answers.len() <= self.by_age.len());
        self.by_age.len()
    }
}
