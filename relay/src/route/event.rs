//! What a change leads to: events, and changes of who may listen.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::routed_channels::RoutedChannels;
use super::sight::Sight;
use super::template::Template;
use super::topic::Topic;

/// An event for one topic. Events of one change that carry the same columns share the payload's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub topic: Topic,
    pub event: Arc<str>,
    /// A JSON object.
    pub payload: Bytes,
    /// Whether it goes to the private room of its topic, or to the public one. False on channels of an organization.
    pub private: bool,
    /// For whom of the channel it is. None: for all.
    pub sight: Option<Arc<Sight>>,
    /// Set where the event is a row of `realtime.messages`.
    pub message: Option<RealtimeMessage>,
}

/// What a row of `realtime.messages` says besides topic, event and payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RealtimeMessage {
    /// Of the row; clients see it as `meta.id`.
    pub id: Uuid,
    /// Whether the payload is bytes rather than JSON.
    pub binary: bool,
}

/// A change that decides who may listen, besides what it tells those who do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlChange {
    /// An agent's row: None when it is gone.
    Agent { organization: Uuid, user: Uuid, active: Option<bool> },
    /// What others call an agent.
    AgentNamed { organization: Uuid, user: Uuid, display_name: Arc<str> },
    /// Every agent's row is gone (TRUNCATE).
    AllAgentsGone,
    /// A conversation was deleted or left the organization: its channels there end.
    ConversationGone { organization: Uuid, conversation: Uuid },
    /// Every conversation is gone (TRUNCATE).
    AllConversationsGone,
    /// Other routes hold from here on.
    Rerouted(Arc<RoutedChannels>),
    /// What lies before was read again, and routed as is right only from here on.
    RoutedAnewUntilHere,
    /// Tables were emptied (TRUNCATE) whose rows went to channels of these names: what came of them there tells of rows
    /// that are gone.
    Emptied {
        /// Of organizations, and private ones.
        channels: Vec<Template>,
        public: Vec<Template>,
    },
}

/// What a change leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routed {
    pub events: Vec<Event>,
    pub control: Vec<ControlChange>,
    /// Events that a second route would have sent to the same channel for the same change; the lowest id won.
    pub collisions: u32,
    /// Events whose channel could not be built: a column of the template is null, unknown or no uuid.
    pub unaddressed: u32,
    /// The first of those, for the log.
    pub misaddress: Option<Misaddress>,
}

/// A row that names no channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misaddress {
    pub route: i64,
    /// Without any value of the row.
    pub problem: String,
}
