//! Sockets and their channels: one channel is one socket joined to one topic.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::attendance::Attendance;
use super::cursor::{Cursor, Held};
use super::cut::Cut;
use super::outbox::Outbox;
use super::room::{GroupKey, RoomKey, Valve};
use super::rows::Pending;
use crate::auth::{Credential, Fingerprint, Grants, Identity};
use crate::protocol::{Envelope, Ref, Vsn};
use crate::route::Scope;

/// A socket and the channels it joined.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) vsn: Vsn,
    pub(super) outbox: Arc<Outbox>,
    /// At most a hundred, mostly one to three: looking through them beats hashing.
    pub(super) channels: Vec<Channel>,
    /// What it is to be sent out of the window waits for memory.
    pub(super) is_starved: bool,
}

#[derive(Debug)]
pub(super) struct Channel {
    pub(super) wire_topic: Arc<str>,
    pub(super) room: RoomKey,
    pub(super) join_ref: Ref,
    pub(super) ack: bool,
    pub(super) echo: bool,
    /// Who this is to an organization; None on channels outside `org:`.
    pub(super) identity: Option<Identity>,
    /// What the database's policies allow; None where they do not decide.
    pub(super) grants: Option<Grants>,
    /// Of the token it runs with; API keys are not told apart.
    pub(super) token: Option<Fingerprint>,
    /// By whose claims gates decide; None where there are none.
    pub(super) viewer: Option<Credential>,
    /// When the token ends; API keys do not.
    pub(super) expires_at: Option<SystemTime>,
    /// Asked for a replay, so it is told positions.
    pub(super) resumes: bool,
    /// The attachment to the database whose agents admitted it.
    pub(super) attachment: u64,
    pub(super) stage: Stage,
    pub(super) attendance: Attendance,
    /// It asked to be told when the database streams, and waits for that until then.
    pub(super) replication_due: Option<Instant>,
}

/// How far a channel has come.
#[derive(Debug)]
pub(super) enum Stage {
    /// Its snapshot is being read, and its join is not answered yet.
    Pending(Box<Pending>),
    /// It is being sent what it missed.
    CatchingUp(Box<Cursor>),
    /// It is live, except for what its snapshot shows and the stream has not passed yet.
    Behind(Arc<Cut>),
    Live,
}

impl Stage {
    pub(super) fn valve(&self) -> Valve {
        match self {
            Self::Pending(_) => Valve::Shut,
            Self::CatchingUp(_) => Valve::Lagging,
            Self::Behind(cut) => Valve::Behind(Arc::clone(cut)),
            Self::Live => Valve::Open,
        }
    }
}

impl Channel {
    pub(super) fn group(&self, vsn: Vsn) -> GroupKey {
        let visitor = matches!(self.identity, Some(Identity::Visitor { .. }));
        GroupKey { vsn, wire_topic: Arc::clone(&self.wire_topic), visitor }
    }

    pub(super) fn may_read_broadcasts(&self) -> bool {
        self.grants.is_none_or(|grants| grants.read_broadcast)
    }

    /// Whether it has what it missed, and gets what is delivered to its room.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.stage, Stage::Behind(_) | Stage::Live)
    }

    /// Whether it has rows of a snapshot that the stream may not have come to yet.
    pub(super) fn has_cut(&self) -> bool {
        match &self.stage {
            Stage::Pending(_) | Stage::Behind(_) => true,
            Stage::CatchingUp(cursor) => cursor.cut.is_some(),
            Stage::Live => false,
        }
    }

    /// Visitors are not told which agents are there, so they take no part in presence.
    pub(super) fn may_read_presence(&self) -> bool {
        match (&self.identity, self.grants) {
            (Some(identity), _) => !matches!(identity, Identity::Visitor { .. }),
            (None, Some(grants)) => grants.read_presence,
            (None, None) => true,
        }
    }

    pub(super) fn may_write_presence(&self) -> bool {
        match (&self.identity, self.grants) {
            (Some(identity), _) => !matches!(identity, Identity::Visitor { .. }),
            (None, Some(grants)) => grants.write_presence,
            (None, None) => true,
        }
    }

    /// Whether the room is one where everybody hears of everybody, as the reference has it for public channels.
    pub(super) fn is_public(&self) -> bool {
        self.identity.is_none() && !self.room.private
    }

    /// Whether it is a visitor's widget, which is told whether an agent is there.
    pub(super) fn is_widget(&self) -> bool {
        matches!(self.identity, Some(Identity::Visitor { .. }))
            && self.room.topic.scope() == Some(Scope::Widget)
    }

    /// What waits for the events before it.
    pub(super) fn held(&mut self) -> Option<&mut VecDeque<Held>> {
        match &mut self.stage {
            Stage::CatchingUp(cursor) => Some(&mut cursor.held),
            _ => None,
        }
    }
}

impl Socket {
    pub(super) fn envelope<'a>(&'a self, channel: &'a Channel) -> Envelope<'a> {
        self.envelope_of(&channel.wire_topic, &channel.join_ref)
    }

    pub(super) fn envelope_of<'a>(&self, topic: &'a str, join_ref: &'a Ref) -> Envelope<'a> {
        Envelope { vsn: self.vsn, topic, join_ref }
    }

    /// Whether a channel is still to be sent something out of the window.
    pub(super) fn is_behind(&self) -> bool {
        self.channels.iter().any(|channel| matches!(channel.stage, Stage::CatchingUp(_)))
    }

    pub(super) fn find_mut(&mut self, wire_topic: &str) -> Option<&mut Channel> {
        self.channels.iter_mut().find(|channel| *channel.wire_topic == *wire_topic)
    }

    pub(super) fn find(&self, wire_topic: &str) -> Option<&Channel> {
        self.channels.iter().find(|channel| *channel.wire_topic == *wire_topic)
    }
}
