//! The SQL sessions that serve what clients ask for: one bounded pool, whatever they ask.
//!
//! A session is kept open between uses. It is on loan to one user at a time, and comes back only if that user says that
//! nothing is left behind in it: one that is cut off in the middle of something is closed instead. Whose turn it is at a
//! session is decided before ([`Turns`](super::Turns)); here nothing waits as long as all users keep to their shares.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_postgres::Client;

use crate::postgres::{self, Conninfo, PostgresError, Purpose};

/// All such sessions: those on loan, and those that are idle.
pub struct Sessions {
    database: Conninfo,
    loans: Arc<Semaphore>,
    /// The one that came back last is at the end.
    idle: Mutex<Vec<(Purpose, Client)>>,
}

/// A session on loan. Closed when dropped.
pub struct Lease {
    client: Client,
    purpose: Purpose,
    sessions: Arc<Sessions>,
    _loan: OwnedSemaphorePermit,
}

impl Sessions {
    /// No more than `sessions_max` are open, besides those that are being closed.
    pub fn new(database: Conninfo, sessions_max: usize) -> Arc<Self> {
        let loans = Arc::new(Semaphore::new(sessions_max.min(Semaphore::MAX_PERMITS)));
        Arc::new(Self { database, loans, idle: Mutex::default() })
    }

    /// Lends a session: one that is idle, or else a new one.
    pub async fn take(self: &Arc<Self>, purpose: Purpose) -> Result<Lease, PostgresError> {
        let loan = Arc::clone(&self.loans).acquire_owned().await.expect("it is never closed");
        let client = match self.take_idle(purpose) {
            Some(client) => client,
            None => postgres::connect_for(&self.database, purpose).await?,
        };
        Ok(Lease { client, purpose, sessions: Arc::clone(self), _loan: loan })
    }

    fn take_idle(&self, purpose: Purpose) -> Option<Client> {
        let mut idle = self.lock();
        idle.retain(|(_, client)| !client.is_closed());
        if let Some(index) = idle.iter().rposition(|(known, _)| *known == purpose) {
            return Some(idle.remove(index).1);
        }
        // Of another purpose; there would be one too many with the new one.
        if idle.len() > self.loans.available_permits() {
            idle.remove(0);
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Purpose, Client)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    /// Gives the session back for others to use. No transaction is open in it, and no setting was left behind.
    pub fn give_back(self) {
        let Self { client, purpose, sessions, _loan } = self;
        sessions.lock().push((purpose, client));
    }
}

impl Deref for Lease {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}
