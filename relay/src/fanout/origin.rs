//! Where broadcasts come from, and which channels do not get them back.

use std::sync::Arc;

use super::socket_id::SocketId;
use crate::auth::Identity;
use crate::route::Topic;

/// Where a client's broadcast came from. Typing indicators are kept by origin, so that a broadcast ends only those that
/// came from the same. Whatever differs from one origin to another is decided here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Origin {
    /// A channel of a socket.
    Channel { socket: SocketId, wire_topic: Arc<str> },
    /// A request over HTTP, which has no socket: known by its topic, and by the identity under which it was admitted.
    Http { topic: Topic, identity: Option<Identity> },
}

impl Origin {
    /// The channels that do not receive it: the one that sent it, unless its join asked for its own messages.
    pub(super) fn except(&self, echo: bool) -> Except<'_> {
        match self {
            Self::Channel { socket, wire_topic } if !echo => Except::Channel(*socket, wire_topic),
            Self::Channel { .. } | Self::Http { .. } => Except::Nobody,
        }
    }

    /// The channels that do not receive it if it is a typing indicator: all of the socket, whatever their joins asked
    /// for.
    pub(super) fn except_socket(&self) -> Except<'_> {
        match self {
            Self::Channel { socket, .. } => Except::Socket(*socket),
            Self::Http { .. } => Except::Nobody,
        }
    }
}

/// The channels of a room that do not receive a broadcast.
#[derive(Clone, Copy, Debug)]
pub(super) enum Except<'a> {
    Nobody,
    /// One channel: the sender's, unless it asked for its own messages.
    Channel(SocketId, &'a str),
    /// All channels of a socket.
    Socket(SocketId),
}

impl Except<'_> {
    pub(super) fn is(self, socket: SocketId, wire_topic: &str) -> bool {
        match self {
            Self::Nobody => false,
            Self::Channel(sender, topic) => socket == sender && *wire_topic == *topic,
            Self::Socket(sender) => socket == sender,
        }
    }
}
