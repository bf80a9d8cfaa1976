//! Asks the database's policies on `realtime.messages` what a token may read and send on a private channel outside
//! `org:`: in a transaction that becomes the caller, tries, and is rolled back.
//!
//! A storm of joins must not become a storm of queries: identical concurrent questions share one query, sessions are
//! few, and a question that waits too long is refused. A denial is remembered for some seconds; a grant only by the
//! channel that it opens. Sessions are taken by turns, so that an organization with many questions delays only its own.

mod denials;
mod failure;
mod headers;
mod metrics;
mod probe;
mod question;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::SetOnce;
use tracing::debug;

use self::denials::Denials;
use self::failure::Complaints;
pub use self::failure::{Cause, PolicyError};
pub use self::headers::{HEADERS_BYTES_MAX, Headers};
pub use self::metrics::PolicyMetrics;
use self::question::{Key, Question};
use crate::auth::{Account, Credential, Grants, Payer, TokenError};
use crate::config::units;
use crate::postgres::Purpose;
use crate::protocol::Reason;
use crate::sql::{Sessions, TurnLimits, Turns};

/// What the policies say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    pub grants: Grants,
    /// Set if a policy failed when it was asked about writing: then nothing may be written; what may be read stays.
    pub write_failed: Option<Cause>,
}

type Answer = Result<Findings, PolicyError>;

/// What questions may cost.
#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Keys and channels")]
pub struct PolicyLimits {
    /// SQL sessions that evaluate the policies on realtime.messages, for private channels outside `org:`.
    #[arg(id = "POLICY_SESSIONS", long = "policy-sessions", env = "CAMPFIRE_POLICY_SESSIONS", default_value_t = 4, value_parser = units::some::<usize>)]
    pub sessions: usize,

    /// Joins that may wait for one of these sessions; more are refused.
    #[arg(id = "POLICY_QUEUE", long = "policy-queue", env = "CAMPFIRE_POLICY_QUEUE", default_value_t = 1_000, value_parser = units::count::<usize>)]
    pub queue: usize,

    /// Seconds that such a join may take, including the wait; clients give up after ten.
    #[arg(id = "POLICY_SECONDS", long = "policy-seconds", env = "CAMPFIRE_POLICY_SECONDS", default_value = "5", value_parser = units::some_seconds)]
    pub timeout: Duration,

    /// Seconds for which a denial by the policies is cached. 0: the policies are evaluated each time.
    #[arg(id = "POLICY_DENIAL_SECONDS", long = "policy-denial-seconds", env = "CAMPFIRE_POLICY_DENIAL_SECONDS", default_value = "10", value_parser = units::seconds)]
    pub denial_age_max: Duration,
}

/// The sessions that ask, and the questions that are being asked.
pub struct Policies {
    sessions: Arc<Sessions>,
    limits: PolicyLimits,
    metrics: PolicyMetrics,
    turns: Arc<Turns<Key>>,
    asking: Mutex<Asking>,
    denials: Mutex<Denials>,
    complaints: Complaints,
}

/// Questions that wait for their answer, by account: those of one account wait for one turn.
type Asking = HashMap<Key, HashMap<Account, Arc<Inquiry>>>;

#[derive(Default)]
struct Inquiry {
    /// Held by the asker that asks for all. If it goes away meanwhile, the next one asks instead.
    speaker: tokio::sync::Mutex<()>,
    answer: SetOnce<Answer>,
}

impl Policies {
    pub fn new(sessions: Arc<Sessions>, limits: PolicyLimits, metrics: PolicyMetrics) -> Arc<Self> {
        Arc::new(Self {
            sessions,
            limits,
            metrics,
            turns: Turns::new(TurnLimits { at_once: limits.sessions, crowd: limits.queue }),
            asking: Mutex::default(),
            denials: Mutex::default(),
            complaints: Complaints::default(),
        })
    }

    /// What a credential may do on a topic, by the policies as they are now. `address`: where it comes from.
    pub async fn ask(
        self: &Arc<Self>,
        topic: &str,
        credential: &Credential,
        headers: &Headers,
        address: Option<IpAddr>,
    ) -> Answer {
        let headers = Arc::clone(headers.json().ok_or(PolicyError::HeadersTooLarge)?);
        let question = Question { topic: topic.to_owned(), credential: credential.clone(), headers };
        let (key, payer) = (question.key(), credential.payer(address));
        if let Some(denial) = self.remembered(&key, Instant::now()) {
            return denial;
        }
        let asker = Asker::new(self, key, payer.account);
        let inquiry = &asker.inquiry;
        tokio::select! {
            biased;
            answer = inquiry.answer.wait() => answer.clone(),
            answer = async {
                let _speaker = inquiry.speaker.lock().await;
                let answer = self.ask_in_turn(question, key, payer).await;
                self.settle(key, payer.account, inquiry, &answer);
                answer
            } => answer,
        }
    }

    /// What the policies allow; None where they are not asked: no name, or no valid token.
    pub(crate) async fn grants(
        self: &Arc<Self>,
        name: Option<&str>,
        credential: &Result<Credential, TokenError>,
        headers: &Headers,
        address: Option<IpAddr>,
    ) -> Option<Result<Grants, Reason>> {
        let (name, credential) = (name?, credential.as_ref().ok()?);
        let answer = self.ask(name, credential, headers, address).await;
        Some(answer.map(|findings| findings.grants).map_err(|error| error.reason(name)))
    }

    fn remembered(&self, key: &Key, now: Instant) -> Option<Answer> {
        lock(&self.denials).get(key, now, self.limits.denial_age_max)
    }

    fn remember(&self, key: Key, answer: &Answer, now: Instant) {
        let is_denial = match answer {
            Ok(Findings { grants, .. }) => !grants.read_broadcast && !grants.read_presence,
            Err(error) => matches!(error, PolicyError::NotInstalled | PolicyError::Failed(_)),
        };
        if is_denial && !self.limits.denial_age_max.is_zero() {
            lock(&self.denials).insert(key, answer.clone(), now, self.limits.denial_age_max);
        }
    }

    /// Tells all who wait for this answer. That there was no turn, or no time, concerns one account alone.
    fn settle(&self, key: Key, account: Account, inquiry: &Inquiry, answer: &Answer) {
        use PolicyError::{Cancelled, Exhausted, Unreachable};
        let is_for_all = !matches!(answer, Err(Cancelled | Exhausted | Unreachable));
        let mut asking = lock(&self.asking);
        if is_for_all {
            for other in asking.remove(&key).into_iter().flat_map(HashMap::into_values) {
                other.answer.set(answer.clone()).ok();
            }
            self.remember(key, answer, Instant::now());
        } else if let Some(accounts) = asking.get_mut(&key) {
            accounts.remove(&account);
        }
        inquiry.answer.set(answer.clone()).ok();
    }

    async fn ask_in_turn(self: &Arc<Self>, question: Question, key: Key, payer: Payer) -> Answer {
        let mut has_turn = false;
        let asked = async {
            let place = self.turns.line_up(payer, key).map_err(|_| PolicyError::Exhausted)?;
            let turn = place.turn().await.map_err(|_| PolicyError::Exhausted)?;
            has_turn = true;
            self.metrics.policy_questions.inc();
            // In a task of its own: the asker may go away, and the session is busy for as long as the database is.
            let policies = Arc::clone(self);
            #[expect(
                clippy::disallowed_methods,
                reason = "awaited below, unless the client that asks goes away"
            )]
            let asked = tokio::spawn(async move {
                let _turn = turn;
                tokio::time::timeout(policies.limits.timeout, policies.ask_session(&question)).await
            });
            match asked.await {
                Ok(answer) => answer.unwrap_or(Err(PolicyError::Cancelled)),
                Err(_) => Err(PolicyError::Unreachable),
            }
        };
        match tokio::time::timeout(self.limits.timeout, asked).await {
            Ok(answer) => answer,
            Err(_) if has_turn => Err(PolicyError::Cancelled),
            Err(_) => Err(PolicyError::Exhausted),
        }
    }

    async fn ask_session(&self, question: &Question) -> Answer {
        let session = self.sessions.take(Purpose::Policies).await.map_err(|error| {
            debug!(%error, "no session for policies");
            PolicyError::Unreachable
        })?;
        let outcome = probe::probe(session, question, self.limits.timeout).await;
        let answer = outcome.map_err(|failure| {
            self.complaints.tell(&self.metrics, question, &failure);
            failure.error
        })?;
        if let Some(failure) = &answer.write_failure {
            self.complaints.tell(&self.metrics, question, failure);
        }
        Ok(answer.findings())
    }
}

/// A client that asks; counted until dropped.
struct Asker<'a> {
    asking: &'a Mutex<Asking>,
    key: Key,
    account: Account,
    inquiry: Arc<Inquiry>,
    askers: &'a Gauge,
}

impl<'a> Asker<'a> {
    fn new(policies: &'a Policies, key: Key, account: Account) -> Self {
        let mut asking = lock(&policies.asking);
        let inquiry = Arc::clone(asking.entry(key).or_default().entry(account).or_default());
        let (asking, askers) = (&policies.asking, &policies.metrics.policy_askers);
        askers.inc();
        Self { asking, key, account, inquiry, askers }
    }
}

impl Drop for Asker<'_> {
    fn drop(&mut self) {
        self.askers.dec();
        let mut asking = lock(self.asking);
        let Some(accounts) = asking.get_mut(&self.key) else { return };
        // The table's and our own: nobody else waits. Another cannot come in meanwhile, as it would have to ask the table.
        let is_last =
            |known: &Arc<Inquiry>| Arc::ptr_eq(known, &self.inquiry) && Arc::strong_count(known) == 2;
        if accounts.get(&self.account).is_some_and(is_last) {
            accounts.remove(&self.account);
        }
        if accounts.is_empty() {
            asking.remove(&self.key);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
