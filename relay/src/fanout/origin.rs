//! Where broadcasts come from, and who is not to get them back.

use std::sync::Arc;

use super::socket_id::SocketId;
use crate::auth::Identity;
use crate::route::Topic;

/// Where a client's broadcast came from. It is also what speaks for those who type, so that an end of typing comes from
/// where its beginning did. What is done differently for different origins is decided here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Origin {
    /// A channel of a socket.
    Channel { socket: SocketId, wire_topic: Arc<str> },
    /// A request over HTTP, which has no socket to come from: known by its topic and by as whom it was admitted there.
    Http { topic: Topic, identity: Option<Identity> },
}

impl Origin {
    /// Who is not to receive it: the channel that sent it, unless it asked for its own messages.
    pub(super) fn except(&self, echo: bool) -> Except<'_> {
        match self {
            Self::Channel { socket, wire_topic } if !echo => Except::Channel(*socket, wire_topic),
            Self::Channel { .. } | Self::Http { .. } => Except::Nobody,
        }
    }

    /// Who is not to receive that somebody types: all channels of the socket, whatever they asked for.
    pub(super) fn except_socket(&self) -> Except<'_> {
        match self {
            Self::Channel { socket, .. } => Except::Socket(*socket),
            Self::Http { .. } => Except::Nobody,
        }
    }
}

/// Who is not to receive a broadcast.
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
