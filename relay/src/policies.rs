//! Asks the database's policies on `realtime.messages` what a token may read and send on a private channel outside
//! `org:`: in a transaction that becomes the caller, tries, and is rolled back.
//!
//! A storm of joins must not become a storm of queries: equal questions that are asked at once are one, sessions are
//! few, and who waits too long is told so. A no is remembered for a moment; a yes only by the channel that it opens.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::metrics::gauge::Gauge;
use serde_json::json;
use tokio::sync::{OnceCell, Semaphore};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Transaction};
use tracing::{debug, info};
use uuid::Uuid;

use crate::auth::{Claims, Credential, Fingerprint, Grants, Role};
use crate::db;
use crate::metrics::Metrics;
use crate::protocol::Reason;
use crate::wal::{self, Conninfo, Purpose};

/// Denials remembered at most: about 2 MiB.
const DENIALS_KEPT: usize = 10_000;

const BROADCAST: &str = "broadcast";
const PRESENCE: &str = "presence";

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    pub grants: Grants,
    /// One failed when it was asked about writing: then nothing may be written, and who may read still may.
    pub write_failed: bool,
}

type Answer = Result<Findings, PolicyError>;

/// Why the policies cannot be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    #[error("the schema realtime is not installed")]
    NotInstalled,
    #[error("a policy failed")]
    Failed,
    #[error("the question was cancelled")]
    Cancelled,
    #[error("no partition of realtime.messages takes rows of today")]
    NoPartition,
    #[error("the database cannot be reached")]
    Unreachable,
    #[error("too many questions wait for a session")]
    Exhausted,
}

impl PolicyError {
    /// What a client that joins is told.
    pub fn reason(self, topic: &str) -> Reason {
        match self {
            // As the reference has it: whoever wrote the policy finds the cause in the log.
            Self::Failed => Reason::Unauthorized { topic: topic.to_owned() },
            Self::NotInstalled => Reason::PoliciesNotInstalled,
            Self::Cancelled => Reason::PolicyCancelled,
            Self::NoPartition => Reason::PartitionMissing,
            Self::Unreachable => Reason::DatabaseUnreachable,
            Self::Exhausted => Reason::PolicySessionsExhausted,
        }
    }
}

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
        }
    }

    /// What a credential may do on a topic, by the policies as they are now.
    pub async fn ask(&self, topic: &str, credential: &Credential, headers: &Arc<str>) -> Answer {
        let question = Question {
            topic: topic.to_owned(),
            role: credential.role(),
            token: credential.claims().map(|claims| claims.fingerprint),
            headers: Arc::clone(headers),
        };
        if let Some(denial) = self.remembered(&question, Instant::now()) {
            return denial;
        }
        let _asker = Asker::new(&self.metrics.policy_askers);
        let cell = Arc::clone(lock(&self.asking).entry(question.clone()).or_default());
        // Should whoever asks go away meanwhile, the next of those who wait asks instead.
        let answer = *cell.get_or_init(|| self.ask_database(&question, credential.claims())).await;
        let mut asking = lock(&self.asking);
        if asking.get(&question).is_some_and(|current| Arc::ptr_eq(current, &cell)) {
            asking.remove(&question);
            drop(asking);
            self.remember(question, answer, Instant::now());
        }
        answer
    }

    fn remembered(&self, question: &Question, now: Instant) -> Option<Answer> {
        let denials = lock(&self.denials);
        let (since, answer) = denials.get(question)?;
        (now.duration_since(*since) < self.limits.denial_age_max).then_some(*answer)
    }

    fn remember(&self, question: Question, answer: Answer, now: Instant) {
        let is_denial = match answer {
            Ok(Findings { grants, .. }) => !grants.read_broadcast && !grants.read_presence,
            Err(error) => matches!(error, PolicyError::NotInstalled | PolicyError::Failed),
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
        let outcome = probe(&mut client, question, claims, self.limits.timeout).await;
        if !client.is_closed() {
            lock(&self.idle).push(client);
        }
        outcome.map_err(|error| {
            let kind = kind_of(&error);
            let error = wal::cause(&error);
            match kind {
                PolicyError::NotInstalled => info!(
                    topic = question.topic,
                    error,
                    "private channels need the schema realtime: run `select campfire.install_supabase_api();`"
                ),
                _ => info!(
                    topic = question.topic,
                    role = question.role.name(),
                    error,
                    "policies could not be asked"
                ),
            }
            kind
        })
    }
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

fn kind_of(error: &tokio_postgres::Error) -> PolicyError {
    match error.code() {
        // The extension says so by 55000.
        Some(
            &SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE
            | &SqlState::UNDEFINED_TABLE
            | &SqlState::INVALID_SCHEMA_NAME
            | &SqlState::UNDEFINED_FUNCTION,
        ) => PolicyError::NotInstalled,
        Some(&SqlState::CHECK_VIOLATION) => PolicyError::NoPartition,
        Some(&SqlState::QUERY_CANCELED) => PolicyError::Cancelled,
        Some(_) => PolicyError::Failed,
        None => PolicyError::Unreachable,
    }
}

/// Tries in one transaction what a credential may do, and takes everything back.
async fn probe(
    client: &mut Client,
    question: &Question,
    claims: Option<&Claims>,
    timeout: Duration,
) -> Result<Findings, tokio_postgres::Error> {
    let transaction = client.transaction().await?;
    // A statement ends before its join does, so that the session can be used again.
    let timeout = format!("set local statement_timeout = {}", (timeout * 4 / 5).as_millis().max(1));
    transaction.batch_execute(&timeout).await?;
    let answer = try_all(&transaction, question, claims).await;
    // Nothing of it may become visible or be replicated.
    transaction.rollback().await?;
    answer
}

async fn try_all(
    transaction: &Transaction<'_>,
    question: &Question,
    claims: Option<&Claims>,
) -> Result<Findings, tokio_postgres::Error> {
    // Rows to look for, written by the table's owner, whom no policy binds.
    let probes = transaction
        .query(
            "select extension, id from campfire.realtime_probe($1, $2)",
            &[&question.topic, &[BROADCAST, PRESENCE].as_slice()],
        )
        .await?;
    let probes: Vec<(String, Uuid)> = probes.iter().map(|row| (row.get(0), row.get(1))).collect();
    become_caller(transaction, question, claims).await?;
    let ids: Vec<Uuid> = probes.iter().map(|(_, id)| *id).collect();
    let visible = transaction.query("select id from realtime.messages where id = any($1)", &[&ids]).await;
    let visible: Vec<Uuid> = match visible {
        Ok(rows) => rows.iter().map(|row| row.get(0)).collect(),
        // The role may not select at all: as good as no policy.
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            return Ok(Findings::default());
        }
        Err(error) => return Err(error),
    };
    let reads =
        |extension: &str| probes.iter().any(|(probed, id)| probed == extension && visible.contains(id));
    let (read_broadcast, read_presence) = (reads(BROADCAST), reads(PRESENCE));
    let mut write_failed = false;
    let mut writes = async |extension| match try_to_write(transaction, &question.topic, extension).await {
        Err(error) if kind_of(&error) == PolicyError::Failed => {
            info!(
                topic = question.topic,
                extension,
                error = wal::cause(&error),
                "a policy failed that was asked about writing"
            );
            write_failed = true;
            Ok(false)
        }
        outcome => outcome,
    };
    let (write_broadcast, write_presence) = (writes(BROADCAST).await?, writes(PRESENCE).await?);
    let grants = Grants { read_broadcast, read_presence, write_broadcast, write_presence };
    Ok(Findings { grants, write_failed })
}

/// From here on the transaction is the caller, as PostgREST would make it.
async fn become_caller(
    transaction: &Transaction<'_>,
    question: &Question,
    claims: Option<&Claims>,
) -> Result<(), tokio_postgres::Error> {
    let role = question.role.name();
    // An API key proves a role and nothing more.
    let all_claims =
        claims.map_or_else(|| json!({ "role": role }).to_string(), |claims| claims.raw.get().to_owned());
    let subject = claims.and_then(Claims::sub).unwrap_or_default();
    let set = "select set_config('realtime.topic', $1, true), set_config('request.jwt.claims', $2, true),
                      set_config('request.jwt.claim.sub', $3, true), set_config('request.jwt.claim.role', $4, true),
                      set_config('request.headers', $5, true), set_config('role', $4, true)";
    transaction.execute(set, &[&question.topic, &all_claims, &subject, &role, &&*question.headers]).await?;
    Ok(())
}

/// Without RETURNING, which would need the right to read.
async fn try_to_write(
    transaction: &Transaction<'_>,
    topic: &str,
    extension: &str,
) -> Result<bool, tokio_postgres::Error> {
    transaction.batch_execute("savepoint write").await?;
    let insert = "insert into realtime.messages (topic, extension, inserted_at, updated_at)
                  values ($1, $2, now(), now())";
    let outcome = transaction.execute(insert, &[&topic, &extension]).await;
    transaction.batch_execute("rollback to savepoint write").await?;
    match outcome {
        Ok(_) => Ok(true),
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Ok(false),
        Err(error) => Err(error),
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
        let found = |grants| Ok(Findings { grants, write_failed: false });
        for (topic, answer, is_remembered) in [
            ("granted", found(all), false),
            ("denied", found(Grants::default()), true),
            ("written only", found(Grants { write_broadcast: true, ..Grants::default() }), true),
            ("failed", Err(PolicyError::Failed), true),
            ("not installed", Err(PolicyError::NotInstalled), true),
            ("unreachable", Err(PolicyError::Unreachable), false),
            ("exhausted", Err(PolicyError::Exhausted), false),
        ] {
            policies.remember(question(topic), answer, start);
            let remembered = policies.remembered(&question(topic), start + Duration::from_secs(9));
            assert_eq!(remembered, is_remembered.then_some(answer), "{topic}");
            assert_eq!(
                policies.remembered(&question(topic), start + Duration::from_secs(10)),
                None,
                "{topic}"
            );
        }
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
