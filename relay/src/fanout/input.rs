//! What the hub may be told.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::oneshot;
use uuid::Uuid;

use super::outbox::Outbox;
use super::rows::{RowsFailure, RowsRead};
use super::socket_id::SocketId;
use crate::auth::{Credential, Grants, TokenError};
use crate::postgres::{Lsn, Snapshot, Timestamp, Xid};
use crate::protocol::{JoinPayload, Meta, PresenceCall, Reason, Ref, UserBroadcast, Vsn};
use crate::route::{DatabaseTag, Position, Routed, RoutedChannels, Topic};

/// What the hub may be told.
#[derive(Debug)]
pub enum HubInput {
    Client(SocketId, ClientInput),
    /// Broadcasts over HTTP.
    Publish(HttpBroadcasts),
    /// Attached to the slot: the agents as a snapshot showed them; from here on what it does not show moves them.
    /// Commits from `confirmed_flush_lsn` on will come. `loss`: why committed events cannot be had any more, if so.
    /// Told together, because a join in between would be promised what is lost. `is_elsewhere`: another server, or
    /// another history of it, which may give out LSNs and transaction ids once more.
    Attached {
        loss: Option<&'static str>,
        is_elsewhere: bool,
        agents: Vec<(Uuid, Uuid, bool)>,
        agent_names: Vec<(Uuid, Uuid, String)>,
        snapshot: Snapshot,
        tag: DatabaseTag,
        timeline: u32,
        confirmed_flush_lsn: Lsn,
    },
    /// What the routes say about channels that hold where the stream is.
    Rerouted(Arc<RoutedChannels>),
    /// All that had committed when we attached has been applied: clients may come.
    CaughtUp,
    /// The connection to Postgres is gone.
    Detached,
    /// Changes in commit order. `applied`: the end up to which all is told with them.
    Changes {
        changes: Vec<HubChange>,
        applied: Option<Lsn>,
    },
    /// The rows of a join, or why there are none.
    Rows {
        socket: SocketId,
        ticket: u64,
        outcome: Result<RowsRead, RowsFailure>,
    },
}

/// A change, and what it leads to.
#[derive(Debug)]
pub struct HubChange {
    pub position: Position,
    pub xid: Xid,
    pub committed_at: Timestamp,
    /// Of all its events.
    pub meta: Meta,
    pub routed: Routed,
}

/// What a session says for its socket. Topics are as on the wire.
#[derive(Debug)]
pub enum ClientInput {
    Connect {
        vsn: Vsn,
        outbox: Arc<Outbox>,
    },
    Disconnect,
    Join(Box<Join>),
    Leave {
        wire_topic: Arc<str>,
        join_ref: Ref,
        reference: Ref,
    },
    Heartbeat {
        reference: Ref,
    },
    /// The socket has written what waited, and the hub had asked to be told.
    Refill,
    /// A token that was verified, or why it could not be.
    AccessToken {
        wire_topic: Arc<str>,
        reference: Ref,
        credential: Result<Credential, TokenError>,
        /// As in [`Join`].
        grants: Option<Result<Grants, Reason>>,
    },
    Broadcast {
        wire_topic: Arc<str>,
        reference: Ref,
        broadcast: UserBroadcast,
        within_rate: bool,
    },
    Presence {
        wire_topic: Arc<str>,
        reference: Ref,
        call: PresenceCall,
        within_rate: bool,
    },
    /// An event that means nothing to us.
    Other {
        wire_topic: Arc<str>,
        reference: Ref,
    },
}

#[derive(Debug)]
pub struct Join {
    pub wire_topic: Arc<str>,
    pub join_ref: Ref,
    pub reference: Ref,
    /// What it asks for, or why that can not be had.
    pub payload: Result<JoinPayload, Reason>,
    /// The verified token, the socket's own credential where the join brought none, or why neither will do.
    pub credential: Result<Credential, TokenError>,
    /// What the database's policies say, where they decide: on private channels outside `org:`.
    pub grants: Option<Result<Grants, Reason>>,
    /// Where the socket comes from, as far as it is known.
    pub address: Option<IpAddr>,
    pub within_rate: bool,
}

/// Broadcasts of one request, and who waits for what became of each.
#[derive(Debug)]
pub struct HttpBroadcasts {
    pub credential: Credential,
    pub broadcasts: Vec<HttpBroadcast>,
    pub outcomes: oneshot::Sender<Vec<Result<(), Reason>>>,
}

/// One broadcast.
#[derive(Debug)]
pub struct HttpBroadcast {
    pub topic: Topic,
    /// Another channel outside `org:` that the sender may have meant.
    pub also: Option<Topic>,
    pub private: bool,
    pub broadcast: UserBroadcast,
    /// Becomes `meta.id` outside `org:`, where no other ids are.
    pub id: Option<String>,
    /// Whether the database's policies allow it. Only looked at where they decide: on private channels outside `org:`.
    pub is_granted: bool,
}
