//! Asks the database's policies on `realtime.messages` what a token may read and send on a private channel outside
//! `org:`: in a transaction that becomes the caller, tries, and is rolled back.
//!
//! A storm of joins must not become a storm of queries: equal questions that are asked at once are one, sessions are
//! few, and who waits too long is told so. A no is remembered for a moment; a yes only by the channel that it opens.

mod failure;
mod probe;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{OnceCell, Semaphore};
use tokio_postgres::Client;
use tracing::debug;

use self::failure::Complaints;
pub use self::failure::{Cause, PolicyError};
use crate::auth::{Claims, Credential, Fingerprint, Grants, Role};
use crate::db;
use crate::metrics::Metrics;
use crate::wal::{Conninfo, Purpose};

/// Denials remembered at most: about 2 MiB.
const DENIALS_KEPT: usize = 10_000;

/// Headers that prove who somebody is. Policies see the claims instead: what is passed to SQL may be logged, as a
/// parameter of a slow statement or by pgaudit.
const CREDENTIALS: [&str; 6] =
    ["apikey", "authorization", "cookie", "proxy-authorization", "sec-websocket-protocol", "x-api-key"];

/// What is asked: all that a policy can see.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Question {
    /// Without `realtime:`.
    topic: String,
    role: Role,
    token: Option<Fingerprint>,
    /// A JSON object.
    headers: Arc<str>,
}

/// What the policies say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    pub grants: Grants,
    /// One failed when it was asked about writing: then nothing may be written, and who may read still may.
    pub write_failed: Option<Cause>,
}

type Answer = Result<Findings, PolicyError>;

/// What questions may cost.
#[derive(Clone, Copy, Debug)]
pub struct PolicyLimits {
    /// That ask at once.
    pub sessions: usize,
    /// Questions that may wait for a session, or are asked.
    pub queue: usize,
    /// For a question, waiting for a session included.
    pub timeout: Duration,
    /// How long a no holds without being asked again.
    pub denial_age_max: Duration,
}

/// The sessions that ask, and the questions that are being asked.
pub struct Policies {
    database: Conninfo,
    limits: PolicyLimits,
    metrics: Metrics,
    sessions: Semaphore,
    idle: Mutex<Vec<Client>>,
    waiting: AtomicUsize,
    asking: Mutex<HashMap<Question, Arc<OnceCell<Answer>>>>,
    denials: Mutex<HashMap<Question, (Instant, Answer)>>,
    complaints: Complaints,
}

impl Policies {
    pub fn new(database: Conninfo, limits: PolicyLimits, metrics: Metrics) -> Self {
        Self {
            database,
            limits,
            metrics,
            sessions: Semaphore::new(limits.sessions.max(1)),
            idle: Mutex::default(),
            waiting: AtomicUsize::new(0),
            asking: Mutex::default(),
            denials: Mutex::default(),
            complaints: Complaints::default(),
        }
    }

    /// What a credential may do on a topic, by the policies as they are now.
    pub async fn ask(&self, topic: &str, credential: &Credential, headers: &Arc<str>) -> Answer {
        let question = Question {
            topic: topic.to_owned(),
            role: credential.role(),
            token: credential.claims().map(|claims| claims.fingerprint),
            headers: without_credentials(headers),
        };
        if let Some(denial) = self.remembered(&question, Instant::now()) {
            return denial;
        }
        let _asker = Asker::new(&self.metrics.policy_askers);
        let cell = Arc::clone(lock(&self.asking).entry(question.clone()).or_default());
        // Should whoever asks go away meanwhile, the next of those who wait asks instead.
        let answer = cell.get_or_init(|| self.ask_database(&question, credential.claims())).await.clone();
        let mut asking = lock(&self.asking);
        if asking.get(&question).is_some_and(|current| Arc::ptr_eq(current, &cell)) {
            asking.remove(&question);
            drop(asking);
            self.remember(question, answer.clone(), Instant::now());
        }
        answer
    }

    fn remembered(&self, question: &Question, now: Instant) -> Option<Answer> {
        let denials = lock(&self.denials);
        let (since, answer) = denials.get(question)?;
        (now.duration_since(*since) < self.limits.denial_age_max).then(|| answer.clone())
    }

    fn remember(&self, question: Question, answer: Answer, now: Instant) {
        let is_denial = match &answer {
            Ok(Findings { grants, .. }) => !grants.read_broadcast && !grants.read_presence,
            Err(error) => matches!(error, PolicyError::NotInstalled | PolicyError::Failed(_)),
        };
        if !is_denial {
            return;
        }
        let mut denials = lock(&self.denials);
        if denials.len() >= DENIALS_KEPT {
            denials.retain(|_, (since, _)| now.duration_since(*since) < self.limits.denial_age_max);
        }
        if denials.len() < DENIALS_KEPT {
            denials.insert(question, (now, answer));
        }
    }

    async fn ask_database(&self, question: &Question, claims: Option<&Claims>) -> Answer {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.limits.queue {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(PolicyError::Exhausted);
        }
        // Counted down also if whoever asks goes away.
        let _waiting = Waiting(&self.waiting);
        let ask = async {
            let _session = self.sessions.acquire().await.map_err(|_| PolicyError::Unreachable)?;
            self.metrics.policy_questions.inc();
            self.ask_session(question, claims).await
        };
        match tokio::time::timeout(self.limits.timeout, ask).await {
            Ok(answer) => answer,
            Err(_) if self.sessions.available_permits() == 0 => Err(PolicyError::Exhausted),
            Err(_) => Err(PolicyError::Cancelled),
        }
    }

    async fn ask_session(&self, question: &Question, claims: Option<&Claims>) -> Answer {
        let kept = lock(&self.idle).pop().filter(|client| !client.is_closed());
        let mut client = match kept {
            Some(client) => client,
            None => db::connect_for(&self.database, Purpose::Policies).await.map_err(|error| {
                debug!(%error, "no session for policies");
                PolicyError::Unreachable
            })?,
        };
        let outcome = probe::probe(&mut client, question, claims, self.limits.timeout).await;
        if !client.is_closed() {
            lock(&self.idle).push(client);
        }
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

/// A JSON object of headers, as policies may see it.
fn without_credentials(headers: &Arc<str>) -> Arc<str> {
    let Ok(mut shown) = serde_json::from_str::<BTreeMap<String, String>>(headers) else { return "{}".into() };
    let count = shown.len();
    shown.retain(|name, _| !CREDENTIALS.contains(&name.as_str()));
    if shown.len() == count {
        return Arc::clone(headers);
    }
    serde_json::to_string(&shown).expect("text is JSON").into()
}

/// One who asks; counted until dropped.
struct Asker<'a>(&'a Gauge);

impl<'a> Asker<'a> {
    fn new(askers: &'a Gauge) -> Self {
        askers.inc();
        Self(askers)
    }
}

impl Drop for Asker<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policies() -> Policies {
        let database = Conninfo::parse("postgres://nobody@127.0.0.1:9/nothing", |_| None).unwrap();
        let limits = PolicyLimits {
            sessions: 1,
            queue: 7,
            timeout: Duration::from_secs(5),
            denial_age_max: Duration::from_secs(10),
        };
        Policies::new(database, limits, Metrics::default())
    }

    fn question(topic: &str) -> Question {
        Question { topic: topic.into(), role: Role::Anon, token: None, headers: "{}".into() }
    }

    #[test]
    fn only_what_is_denied_is_remembered_and_not_for_long() {
        let policies = policies();
        let start = Instant::now();
        let all =
            Grants { read_broadcast: true, read_presence: true, write_broadcast: true, write_presence: true };
        let found = |grants| Ok(Findings { grants, write_failed: None });
        let cause = Cause { sqlstate: "22012".into(), message: "division by zero".into() };
        for (topic, answer, is_remembered) in [
            ("granted", found(all), false),
            ("denied", found(Grants::default()), true),
            ("written only", found(Grants { write_broadcast: true, ..Grants::default() }), true),
            ("failed", Err(PolicyError::Failed(cause)), true),
            ("not installed", Err(PolicyError::NotInstalled), true),
            ("unreachable", Err(PolicyError::Unreachable), false),
            ("exhausted", Err(PolicyError::Exhausted), false),
        ] {
            policies.remember(question(topic), answer.clone(), start);
            let remembered = policies.remembered(&question(topic), start + Duration::from_secs(9));
            assert_eq!(remembered, is_remembered.then_some(answer), "{topic}");
            assert_eq!(
                policies.remembered(&question(topic), start + Duration::from_secs(10)),
                None,
                "{topic}"
            );
        }
    }

    #[test]
    fn policies_see_no_keys_and_tokens() {
        let shown = |headers: &str| without_credentials(&headers.into()).to_string();
        let headers = r#"{"authorization":"Bearer a.b.c","apikey":"k","x-api-key":"k","x-tenant":"blue"}"#;
        assert_eq!(shown(headers), r#"{"x-tenant":"blue"}"#);
        assert_eq!(shown(r#"{"x-tenant":"blue"}"#), r#"{"x-tenant":"blue"}"#);
        assert_eq!(shown("{}"), "{}");
    }

    #[tokio::test]
    async fn a_database_that_is_away_is_told_apart_from_a_no() {
        let policies = policies();
        let answer = policies.ask("room", &Credential::ApiKey(Role::Anon), &"{}".into()).await;
        assert_eq!(answer, Err(PolicyError::Unreachable));
        assert_eq!(policies.waiting.load(Ordering::Relaxed), 0);
        assert!(lock(&policies.asking).is_empty());
    }

    #[tokio::test]
    async fn who_waits_is_bounded() {
        let policies = policies();
        policies.waiting.store(7, Ordering::Relaxed);
        let answer = policies.ask("room", &Credential::ApiKey(Role::Anon), &"{}".into()).await;
        assert_eq!(answer, Err(PolicyError::Exhausted));
        assert_eq!(policies.waiting.load(Ordering::Relaxed), 7);
    }
}
