//! How long Postgres may take for an answer.

use std::pin::pin;
use std::time::Duration;

use tokio::time::timeout;
use tracing::info;

use super::{Conninfo, PostgresError};

/// How long Postgres may take for an answer that it has at hand; where more is allowed for a connect, so long.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// From when on that is told.
const ANSWER_REPORT: Duration = Duration::from_secs(5);

/// Gives up, and before that tells, what Postgres does not answer. A pooler may take a command and never answer it.
pub async fn answered<T, E: From<PostgresError>>(
    conninfo: &Conninfo,
    what: &'static str,
    answer: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let mut answer = pin!(answer);
    match timeout(ANSWER_REPORT, &mut answer).await {
        Ok(answer) => return answer,
        Err(_) => info!(what, "waiting for Postgres to answer"),
    }
    let limit = ANSWER_TIMEOUT.max(conninfo.connect_timeout);
    let late = || PostgresError::NoAnswer { what, timeout: limit }.into();
    timeout(limit - ANSWER_REPORT, answer).await.unwrap_or_else(|_| Err(late()))
}
