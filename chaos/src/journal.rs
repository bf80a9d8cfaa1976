//! What a client saw, in the order it saw it: the checker's only source besides the truth.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::plan::ClientSpec;
use crate::position::Position;

/// Microseconds since 1970, by the clock that Postgres reads too.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Everything of one client.
#[derive(Debug)]
pub struct Journal {
    pub client: ClientSpec,
    /// In the order they began.
    pub stays: Vec<Stay>,
    /// What no client may ever see, in words.
    pub scandals: Vec<String>,
    /// Closes for not reading, in the relay's words. Every client here reads, some slowly.
    pub dropped: Vec<String>,
    pub sockets: u64,
}

/// A channel joined on one socket, until it ended.
#[derive(Clone, Debug)]
pub struct Stay {
    pub channel: Arc<str>,
    pub asked: Asked,
    /// When the join was sent, and when its answer was read, perhaps much later than it was given.
    pub asked_at: i64,
    pub joined_at: i64,
    /// What the reply said of the replay; None if none was asked for.
    pub reply: Option<Reply>,
    pub records: Vec<Record>,
    pub end: End,
}

/// From where on a join wanted events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// As stock clients do.
    Nothing,
    /// `{}`
    PositionOnly,
    After(Position),
    Since {
        millis: i64,
        limit: usize,
    },
    /// The database's rows, this many of a table at most, and what they do not show.
    Snapshot {
        rows: usize,
    },
}

/// `response.replay` of a join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    pub complete: bool,
    pub position: Position,
    pub count: u64,
}

/// One thing that came on a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    Event {
        position: Position,
        name: Arc<str>,
        payload: Arc<str>,
        committed_at: i64,
        replayed: bool,
    },
    /// A row of a snapshot, in the shape of an event.
    Row {
        name: Arc<str>,
        payload: Arc<str>,
    },
    /// A heartbeat's position: everything up to here has come.
    Head(Position),
    /// The relay said that events are missing, and from which position on none is.
    Loss {
        at: i64,
        up_to: Position,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It lasted until the run was over.
    Running,
    /// The socket went.
    Cut,
    /// The relay ended the channel, for that reason.
    Closed(String),
}

/// Equal texts kept once: hundreds of clients get the same payload.
#[derive(Clone, Default)]
pub struct Texts(Arc<Mutex<HashSet<Arc<str>>>>);

impl Texts {
    /// The kept copy.
    pub fn keep(&self, text: &str) -> Arc<str> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match kept.get(text) {
            Some(known) => Arc::clone(known),
            None => {
                let new: Arc<str> = text.into();
                kept.insert(Arc::clone(&new));
                new
            }
        }
    }
}
