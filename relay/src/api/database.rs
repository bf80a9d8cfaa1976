//! Transactions for requests.
//!
//! Requests take turns at a few sessions, by account, and those about one conversation come one after the other. The
//! transaction runs in a task of its own: a client may go away, and the session is busy for as long as the database is.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tracing::{Instrument, debug, error, info};
use uuid::Uuid;

use super::error::{ApiError, Code};
use super::settings::ApiSettings;
use crate::auth::{Credential, Payer};
use crate::http::Seldom;
use crate::postgres::{self, Purpose, quote_identifier};
use crate::sql::{self, Full, Lease, Mode, Sessions, TurnLimits, Turns};

/// The sessions of the API.
pub(super) struct Database {
    sessions: Arc<Sessions>,
    turns: Arc<Turns<Uuid>>,
    timeout: Duration,
    /// Quoted.
    schema: Arc<str>,
    /// Bounds the log lines of what should not happen, and that somebody may cause again and again.
    failures: Seldom,
}

/// An open transaction. It begins as the relay's own, and is the caller's once that is said.
pub(super) struct Transaction {
    session: Lease,
    /// The schema of the chat tables, quoted.
    pub(super) schema: Arc<str>,
}

/// Why a transaction did not come to its end.
#[derive(Debug)]
pub(super) enum Failure {
    Refused(ApiError),
    Sql(tokio_postgres::Error),
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Refused(error)
    }
}

impl From<Code> for Failure {
    fn from(code: Code) -> Self {
        Self::Refused(code.into())
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Sql(error)
    }
}

impl Deref for Transaction {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.session
    }
}

impl Transaction {
    /// From here on row-level security decides, by the claims of this credential.
    pub(super) async fn become_caller(&self, credential: &Credential) -> Result<(), Failure> {
        Ok(sql::become_caller(self, credential, &[]).await?)
    }

    /// The relay itself again.
    pub(super) async fn become_relay(&self) -> Result<(), Failure> {
        Ok(self.batch_execute("set local role none").await?)
    }
}

impl Database {
    pub(super) fn new(sessions: Arc<Sessions>, settings: &ApiSettings) -> Self {
        let at_once = usize::from(settings.sessions);
        let limits = TurnLimits { at_once, crowd: at_once + usize::from(settings.queue) };
        Self {
            sessions,
            turns: Turns::new(limits),
            timeout: settings.timeout,
            schema: quote_identifier(&settings.schema).into(),
            failures: Seldom::every(Duration::from_secs(10)),
        }
    }

    /// Does some work in a transaction, which commits if the work succeeds. Work about the same thing comes one after
    /// the other.
    pub(super) async fn transact<T: Send + 'static>(
        self: &Arc<Self>,
        payer: Payer,
        about: Uuid,
        mode: Mode,
        work: impl for<'a> FnOnce(&'a Transaction) -> BoxFuture<'a, Result<T, Failure>> + Send + 'static,
    ) -> Result<T, ApiError> {
        let busy = |_: Full| ApiError::of(Code::Overloaded);
        let deadline = Instant::now() + self.timeout;
        let place = self.turns.line_up(payer, about).map_err(busy)?;
        let turn = timeout_at(deadline, place.turn()).await.map_err(|_| Code::Overloaded)?.map_err(busy)?;
        let database = Arc::clone(self);
        let transaction = async move {
            let _turn = turn;
            timeout_at(deadline, database.run(deadline, mode, work)).await.unwrap_or_else(|_| {
                info!("the database took longer than CAMPFIRE_API_SECONDS");
                Err(Code::Overloaded.into())
            })
        };
        #[expect(clippy::disallowed_methods, reason = "awaited here, unless the client goes away")]
        let done = tokio::spawn(transaction.in_current_span()).await;
        done.unwrap_or_else(|_| Err(Code::Internal.into()))
    }

    async fn run<T>(
        &self,
        deadline: Instant,
        mode: Mode,
        work: impl for<'a> FnOnce(&'a Transaction) -> BoxFuture<'a, Result<T, Failure>>,
    ) -> Result<T, ApiError> {
        let transaction = self.begin(deadline, mode).await?;
        let done = work(&transaction).await;
        let end = if done.is_ok() { "commit" } else { "rollback" };
        let ended = transaction.batch_execute(end).await;
        if ended.is_ok() {
            transaction.session.give_back();
        }
        match (done, ended) {
            (Ok(done), Ok(())) => Ok(done),
            (Err(Failure::Refused(error)), _) => Err(error),
            (Err(Failure::Sql(error)), _) | (Ok(_), Err(error)) => Err(self.answer(&error)),
        }
    }

    async fn begin(&self, deadline: Instant, mode: Mode) -> Result<Transaction, ApiError> {
        loop {
            let session = self.sessions.take(Purpose::Rows).await.map_err(|error| {
                debug!(%error, "no session for the API");
                Code::Unavailable
            })?;
            let left = deadline.saturating_duration_since(Instant::now());
            match sql::begin(&session, mode, left).await {
                Ok(()) => return Ok(Transaction { session, schema: Arc::clone(&self.schema) }),
                // One that was idle when the server went away. A new one cannot be had if it is still away.
                Err(error) if error.is_closed() => {}
                Err(error) => return Err(self.answer(&error)),
            }
        }
    }

    /// What the client is told of an error of the database: nothing that it says.
    fn answer(&self, error: &tokio_postgres::Error) -> ApiError {
        let Some(state) = error.code() else {
            debug!(error = postgres::cause(error), "lost the database");
            return Code::Unavailable.into();
        };
        let code = code_of(state);
        if matches!(code, Code::Invalid | Code::Refused) {
            debug!(error = postgres::cause(error), "request refused");
        } else if let Some(others) = self.failures.admit(Instant::now().into_std()) {
            let (cause, answer) = (postgres::cause(error), code.name());
            match code {
                Code::Internal => error!(others, error = cause, "requests failed"),
                _ => info!(others, error = cause, answer, "requests failed"),
            }
        }
        code.into()
    }
}

fn code_of(state: &SqlState) -> Code {
    match (state.code(), &state.code()[..2]) {
        // No such table, schema, column or function.
        ("42P01" | "3F000" | "42703" | "42883" | "42704", _) => Code::NotInstalled,
        ("57014" | "55P03", _) | (_, "40" | "53") => Code::Overloaded,
        (_, "08" | "57") => Code::Unavailable,
        // Also of the application's triggers.
        (_, "22") => Code::Invalid,
        (_, "23" | "P0") => Code::Refused,
        _ => Code::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_of_sql_have_their_codes() {
        for (state, code) in [
            ("42P01", Code::NotInstalled),
            ("57014", Code::Overloaded),
            ("40P01", Code::Overloaded),
            ("53300", Code::Overloaded),
            ("57P01", Code::Unavailable),
            ("22021", Code::Invalid),
            ("23514", Code::Refused),
            ("P0001", Code::Refused),
            ("42501", Code::Internal),
            ("XX000", Code::Internal),
        ] {
            assert_eq!(code_of(&SqlState::from_code(state)), code, "{state}");
        }
    }
}
