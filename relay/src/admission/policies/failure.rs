//! Questions that ended in an error: which of them are the application's policies failing, and what is said of it.
//!
//! A SQLSTATE alone does not tell: a policy may raise any of them itself. What decides is the step that failed, and where
//! in the server the error comes from, which the server says in words that are not translated.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_postgres::error::{DbError, Severity, SqlState};
use tracing::{info, warn};

use super::metrics::PolicyMetrics;
use super::question::Question;
use crate::protocol::Reason;

/// How often one cause is logged; the causes that are told apart.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);
const CAUSES_KEPT: usize = 64;

/// Longest message that a client is told, in bytes.
const MESSAGE_BYTES_MAX: usize = 200;

/// What is done when a question fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Whether schema `realtime` is what the extension made; where it is not installed, whether there are policies.
    Require,
    /// Writing the rows to look for, as the table's owner.
    Probe,
    Become,
    Read {
        /// Whether the role may select from the table at all.
        granted: bool,
    },
    Write {
        granted: bool,
    },
}

/// What an error of the database was, for people.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cause {
    pub sqlstate: Arc<str>,
    /// One line.
    pub message: Arc<str>,
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.sqlstate, self.message)
    }
}

/// Why the policies cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    #[error("there are no policies for private channels, or schema realtime is damaged")]
    NotInstalled,
    #[error("a policy failed: {0}")]
    Failed(Cause),
    #[error("the question was cancelled")]
    Cancelled,
    #[error("no partition of realtime.messages takes rows of today")]
    NoPartition,
    #[error("the database cannot be reached")]
    Unreachable,
    #[error("too many questions wait for a session")]
    Exhausted,
    #[error("the headers have more than {} bytes", super::HEADERS_BYTES_MAX)]
    HeadersTooLarge,
}

impl PolicyError {
    /// What a client that joins is told.
    pub fn reason(self, topic: &str) -> Reason {
        match self {
            Self::Failed(cause) => Reason::PolicyFailed { topic: topic.to_owned(), cause: cause.to_string() },
            Self::NotInstalled => Reason::PoliciesNotInstalled,
            Self::Cancelled => Reason::PolicyCancelled,
            Self::NoPartition => Reason::PartitionMissing,
            Self::Unreachable => Reason::DatabaseUnreachable,
            Self::Exhausted => Reason::PolicySessionsExhausted,
            Self::HeadersTooLarge => Reason::HeadersTooLarge,
        }
    }
}

/// An error in one step, judged, with what the log says of it.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: PolicyError,
    step: Step,
    /// None where the connection broke.
    told: Option<Told>,
}

#[derive(Debug)]
struct Told {
    cause: Cause,
    detail: Option<String>,
    hint: Option<String>,
}

impl Failure {
    pub(super) fn of(step: Step, error: &tokio_postgres::Error) -> Self {
        let told = error.as_db_error().map(|error| Told {
            cause: cause(error.code(), error.message()),
            detail: error.detail().map(one_line),
            hint: error.hint().map(one_line),
        });
        let error = match error.as_db_error() {
            Some(error) => judge(step, &Facts::of(error)),
            None => PolicyError::Unreachable,
        };
        Self { error, step, told }
    }

    /// Not one that would have met every question.
    pub(super) fn is_of_policy(&self) -> bool {
        matches!(self.error, PolicyError::Failed(_))
    }

    pub(super) fn into_cause(self) -> Option<Cause> {
        match self.error {
            PolicyError::Failed(cause) => Some(cause),
            _ => None,
        }
    }
}

/// Whether an error in this step only means no: a policy that said so, or a role that was granted nothing.
pub(super) fn is_denial(step: Step, error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|error| denies(step, &Facts::of(error)))
}

/// What is looked at of an error.
struct Facts<'a> {
    code: &'a SqlState,
    message: &'a str,
    /// The function of the server that raised it.
    routine: Option<&'a str>,
    /// It comes from within a function or a trigger.
    is_nested: bool,
    is_fatal: bool,
    table: Option<&'a str>,
    constraint: Option<&'a str>,
}

impl<'a> Facts<'a> {
    fn of(error: &'a DbError) -> Self {
        Self {
            code: error.code(),
            message: error.message(),
            routine: error.routine(),
            is_nested: error.where_().is_some(),
            is_fatal: matches!(error.parsed_severity(), Some(Severity::Fatal | Severity::Panic)),
            table: error.table(),
            constraint: error.constraint(),
        }
    }
}

fn judge(step: Step, facts: &Facts<'_>) -> PolicyError {
    let failed = || PolicyError::Failed(cause(facts.code, facts.message));
    if facts.is_fatal {
        // The session ends: a restart, a failover.
        return PolicyError::Unreachable;
    }
    if *facts.code == SqlState::QUERY_CANCELED && facts.routine == Some("ProcessInterrupts") {
        return PolicyError::Cancelled;
    }
    match step {
        Step::Require => match *facts.code {
            // The extension says so by 55000; the others: there is no extension.
            SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE
            | SqlState::UNDEFINED_TABLE
            | SqlState::INVALID_SCHEMA_NAME
            | SqlState::UNDEFINED_FUNCTION => PolicyError::NotInstalled,
            _ => failed(),
        },
        // A check constraint of the application has a name.
        Step::Probe | Step::Write { .. }
            if *facts.code == SqlState::CHECK_VIOLATION
                && facts.table == Some("messages")
                && facts.constraint.is_none() =>
        {
            PolicyError::NoPartition
        }
        _ => failed(),
    }
}

fn denies(step: Step, facts: &Facts<'_>) -> bool {
    *facts.code == SqlState::INSUFFICIENT_PRIVILEGE
        && match step {
            Step::Read { granted } => !granted,
            // The policy's own no, not one of a table that a trigger writes.
            Step::Write { granted } => {
                !granted || (facts.routine == Some("ExecWithCheckOptions") && !facts.is_nested)
            }
            Step::Require | Step::Probe | Step::Become => false,
        }
}

fn cause(code: &SqlState, message: &str) -> Cause {
    let message = one_line(message);
    let message = &message[..message.floor_char_boundary(MESSAGE_BYTES_MAX)];
    Cause { sqlstate: code.code().into(), message: message.into() }
}

fn one_line(text: &str) -> String {
    text.split(char::is_control).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Logs failures, each cause once a minute: a storm of joins must not become one of log lines.
#[derive(Debug, Default)]
pub(super) struct Complaints(Mutex<HashMap<Cause, Complaint>>);

#[derive(Debug)]
struct Complaint {
    at: Instant,
    suppressed: u64,
}

impl Complaints {
    pub(super) fn tell(&self, metrics: &PolicyMetrics, question: &Question, failure: &Failure) {
        metrics.policy_failures.inc();
        let Some(Told { cause, detail, hint }) = &failure.told else {
            info!(topic = question.topic, "lost the session that evaluated the policies");
            return;
        };
        let Some(suppressed) = self.admit(cause, Instant::now()) else { return };
        let what = match failure.error {
            PolicyError::NotInstalled if detail.is_some() => {
                "private channels are shut: schema realtime was changed, run the hint"
            }
            PolicyError::NotInstalled => {
                "private channels are shut: there are no policies that say who may join"
            }
            PolicyError::NoPartition => "no partition of realtime.messages takes rows of today",
            PolicyError::Cancelled => "the policies on private channels took too long to answer",
            _ if failure.step == Step::Require => "the policies could not be asked",
            _ => "a policy on private channels failed",
        };
        // Nobody has to have it.
        if failure.error == PolicyError::NotInstalled && detail.is_none() {
            info!(topic = question.topic, message_of_postgres = &*cause.message, hint, "{what}");
            return;
        }
        warn!(
            topic = question.topic,
            role = question.role().name(),
            action = failure.step.action(),
            sqlstate = &*cause.sqlstate,
            message_of_postgres = &*cause.message,
            detail,
            hint,
            suppressed,
            "{what}"
        );
    }

    /// How many of this cause were not logged since the last that was; None if this one is not, either.
    fn admit(&self, cause: &Cause, now: Instant) -> Option<u64> {
        let mut complaints = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(complaint) = complaints.get_mut(cause) {
            if now.duration_since(complaint.at) < COMPLAINT_INTERVAL {
                complaint.suppressed += 1;
                return None;
            }
            complaint.at = now;
            return Some(std::mem::take(&mut complaint.suppressed));
        }
        if complaints.len() >= CAUSES_KEPT {
            complaints.retain(|_, complaint| now.duration_since(complaint.at) < COMPLAINT_INTERVAL);
        }
        if complaints.len() >= CAUSES_KEPT {
            return None;
        }
        complaints.insert(cause.clone(), Complaint { at: now, suppressed: 0 });
        Some(0)
    }
}

impl Step {
    fn action(self) -> &'static str {
        match self {
            Self::Require | Self::Probe | Self::Become => "prepare",
            Self::Read { .. } => "read",
            Self::Write { .. } => "write",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: Step = Step::Read { granted: true };
    const WRITE: Step = Step::Write { granted: true };

    fn facts(code: &SqlState) -> Facts<'_> {
        Facts {
            code,
            message: "said",
            routine: None,
            is_nested: false,
            is_fatal: false,
            table: None,
            constraint: None,
        }
    }

    fn failed(code: &SqlState) -> PolicyError {
        PolicyError::Failed(cause(code, "said"))
    }

    #[test]
    fn only_the_first_step_can_find_that_nothing_is_installed() {
        for code in [
            SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE,
            SqlState::UNDEFINED_TABLE,
            SqlState::INVALID_SCHEMA_NAME,
            SqlState::UNDEFINED_FUNCTION,
        ] {
            assert_eq!(judge(Step::Require, &facts(&code)), PolicyError::NotInstalled);
            for step in [Step::Probe, Step::Become, READ, WRITE] {
                assert_eq!(judge(step, &facts(&code)), failed(&code), "{step:?} {code:?}");
            }
        }
        let code = SqlState::INSUFFICIENT_PRIVILEGE;
        assert_eq!(judge(Step::Require, &facts(&code)), failed(&code));
    }

    #[test]
    fn a_time_out_is_told_from_a_policy_that_raises_its_sqlstate() {
        let code = SqlState::QUERY_CANCELED;
        let timeout = Facts { routine: Some("ProcessInterrupts"), ..facts(&code) };
        assert_eq!(judge(READ, &timeout), PolicyError::Cancelled);
        let raised = Facts { routine: Some("exec_stmt_raise"), is_nested: true, ..facts(&code) };
        assert_eq!(judge(READ, &raised), failed(&code));
    }

    #[test]
    fn a_missing_partition_is_told_from_a_check_constraint() {
        let code = SqlState::CHECK_VIOLATION;
        let partition = Facts { table: Some("messages"), ..facts(&code) };
        assert_eq!(judge(Step::Probe, &partition), PolicyError::NoPartition);
        assert_eq!(judge(WRITE, &partition), PolicyError::NoPartition);
        assert_eq!(judge(READ, &partition), failed(&code));
        let constraint = Facts { table: Some("messages"), constraint: Some("short"), ..facts(&code) };
        assert_eq!(judge(Step::Probe, &constraint), failed(&code));
    }

    #[test]
    fn a_session_that_is_ended_says_nothing_about_policies() {
        let code = SqlState::ADMIN_SHUTDOWN;
        let ended = Facts { is_fatal: true, ..facts(&code) };
        assert_eq!(judge(READ, &ended), PolicyError::Unreachable);
    }

    #[test]
    fn a_policys_no_is_told_from_a_grant_that_it_lacks_itself() {
        let code = SqlState::INSUFFICIENT_PRIVILEGE;
        let missing = Facts { routine: Some("aclcheck_error"), ..facts(&code) };
        assert!(!denies(READ, &missing) && !denies(WRITE, &missing));
        assert!(denies(Step::Read { granted: false }, &missing));
        assert!(denies(Step::Write { granted: false }, &missing));
        let no = Facts { routine: Some("ExecWithCheckOptions"), ..facts(&code) };
        assert!(denies(WRITE, &no));
        // Of another table, which a trigger or a function writes.
        assert!(!denies(WRITE, &Facts { is_nested: true, ..no }));
        assert!(!denies(WRITE, &facts(&SqlState::DIVISION_BY_ZERO)));
    }

    #[test]
    fn what_clients_are_told_is_one_short_line() {
        let long = format!("two\nlines{}", "ü".repeat(200));
        let cause = cause(&SqlState::RAISE_EXCEPTION, &long);
        assert!(cause.message.starts_with("two lines") && cause.message.len() <= MESSAGE_BYTES_MAX);
        assert_eq!(cause.sqlstate.as_ref(), "P0001");
    }

    #[test]
    fn a_cause_is_logged_once_a_minute_and_causes_are_bounded() {
        let complaints = Complaints::default();
        let start = Instant::now();
        let later = |seconds| start + Duration::from_secs(seconds);
        let named = |name: &str| cause(&SqlState::RAISE_EXCEPTION, name);
        assert_eq!(complaints.admit(&named("a"), start), Some(0));
        assert_eq!(complaints.admit(&named("b"), start), Some(0));
        assert_eq!(complaints.admit(&named("a"), later(1)), None);
        assert_eq!(complaints.admit(&named("a"), later(59)), None);
        assert_eq!(complaints.admit(&named("a"), later(60)), Some(2));
        for number in 0..1_000 {
            complaints.admit(&named(&number.to_string()), later(61));
        }
        assert_eq!(complaints.0.lock().unwrap().len(), CAUSES_KEPT);
        assert_eq!(complaints.admit(&named("new"), later(62)), None);
        assert_eq!(complaints.admit(&named("new"), later(122)), Some(0));
    }
}
