//! The grammar of channels (`sql/channels.sql` has the same one): the text a client or a row names, parsed once.
//!
//! No I/O. The hazard is a name that looks like an organization's channel and is taken for some other channel, whose
//! rules are looser: whatever begins with `org:` is one of the four forms below or refused.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use uuid::Uuid;

/// What clients put in front of a channel's name on the wire.
pub const WIRE_PREFIX: &str = "realtime:";

/// Dropped once from the front of a name: `bcast:org:…` and `org:…` are one channel.
pub const OPTIONAL_PREFIX: &str = "bcast:";

/// Longest name of a channel outside `org:`. A socket may hold a hundred of them for as long as it likes.
pub const NAME_BYTES_MAX: usize = 1024;

/// A channel. Displays as its canonical name: without `bcast:`.
///
/// The key of the hub's rooms, so that it compares and hashes by uuids rather than by text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// `org:{org}`
    Organization { organization: Uuid },
    /// `org:{org}:conv:{conv}`
    Conversation { organization: Uuid, conversation: Uuid },
    /// `org:{org}:conversations`
    Conversations { organization: Uuid },
    /// `org:{org}:widget:{conv}`
    Widget { organization: Uuid, conversation: Uuid },
    /// A channel that is not campfire's own.
    Other(Arc<str>),
}

/// Which of its organization's channels a topic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    Organization,
    Conversation,
    Conversations,
    Widget,
}

/// The name is no channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    #[error("a channel needs a name")]
    Empty,
    #[error("a name has at most {NAME_BYTES_MAX} bytes")]
    TooLong,
    #[error("org is written in lower case")]
    OrganizationCase,
    #[error("org: is followed by the organization's uuid, in lower case")]
    MalformedOrganization,
    #[error("org:ORG is followed by nothing, :conversations, :conv:CONV or :widget:CONV")]
    UnknownScope,
    #[error("the conversation is not a uuid in lower case")]
    MalformedConversation,
}

/// The channel's name in a topic of the wire: what follows the first `realtime:`. None without that prefix.
pub fn strip_wire_prefix(wire_topic: &str) -> Option<&str> {
    wire_topic.strip_prefix(WIRE_PREFIX)
}

impl Topic {
    /// Parses a channel's name, with or without `bcast:`.
    ///
    /// Everything has one spelling, as in `campfire.parse_channel`: uuids that print in upper case, as Swift's do, are
    /// refused with a reason rather than taken for a second channel that nobody broadcasts to.
    pub fn parse(name: &str) -> Result<Self, TopicError> {
        let name = name.strip_prefix(OPTIONAL_PREFIX).unwrap_or(name);
        if name.is_empty() {
            return Err(TopicError::Empty);
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(TopicError::TooLong);
        }
        let (first, rest) = match name.split_once(':') {
            Some((first, rest)) => (first, Some(rest)),
            None => (name, None),
        };
        if !first.eq_ignore_ascii_case("org") {
            return Ok(Self::Other(name.into()));
        }
        if first != "org" {
            return Err(TopicError::OrganizationCase);
        }
        Self::parse_organization(rest.ok_or(TopicError::MalformedOrganization)?)
    }

    /// What follows `org:`.
    fn parse_organization(rest: &str) -> Result<Self, TopicError> {
        let (organization, scope) = match rest.split_once(':') {
            Some((organization, scope)) => (organization, Some(scope)),
            None => (rest, None),
        };
        let organization = parse_lower_uuid(organization).ok_or(TopicError::MalformedOrganization)?;
        let Some(scope) = scope else { return Ok(Self::channel_organization(organization)) };
        if scope == "conversations" {
            return Ok(Self::channel_conversations(organization));
        }
        let (scope, conversation) = scope.split_once(':').ok_or(TopicError::UnknownScope)?;
        let build = match scope {
            "conv" => Self::channel_conversation,
            "widget" => Self::channel_widget,
            _ => return Err(TopicError::UnknownScope),
        };
        let conversation = parse_lower_uuid(conversation).ok_or(TopicError::MalformedConversation)?;
        Ok(build(organization, conversation))
    }

    /// As the SQL function of this name.
    pub fn channel_organization(organization: Uuid) -> Self {
        Self::Organization { organization }
    }

    /// As the SQL function of this name.
    pub fn channel_conversation(organization: Uuid, conversation: Uuid) -> Self {
        Self::Conversation { organization, conversation }
    }

    /// As the SQL function of this name.
    pub fn channel_conversations(organization: Uuid) -> Self {
        Self::Conversations { organization }
    }

    /// As the SQL function of this name.
    pub fn channel_widget(organization: Uuid, conversation: Uuid) -> Self {
        Self::Widget { organization, conversation }
    }

    /// None for channels that are not an organization's.
    pub fn organization(&self) -> Option<Uuid> {
        match self {
            Self::Organization { organization }
            | Self::Conversation { organization, .. }
            | Self::Conversations { organization }
            | Self::Widget { organization, .. } => Some(*organization),
            Self::Other(_) => None,
        }
    }

    /// The one conversation this channel is about, if it is about one.
    pub fn conversation(&self) -> Option<Uuid> {
        match self {
            Self::Conversation { conversation, .. } | Self::Widget { conversation, .. } => {
                Some(*conversation)
            }
            Self::Organization { .. } | Self::Conversations { .. } | Self::Other(_) => None,
        }
    }

    /// None for channels that are not an organization's.
    pub fn scope(&self) -> Option<Scope> {
        match self {
            Self::Organization { .. } => Some(Scope::Organization),
            Self::Conversation { .. } => Some(Scope::Conversation),
            Self::Conversations { .. } => Some(Scope::Conversations),
            Self::Widget { .. } => Some(Scope::Widget),
            Self::Other(_) => None,
        }
    }

    /// The same conversation's other channel: conv for widget, widget for conv. Typing reaches both.
    pub fn sibling(&self) -> Option<Self> {
        match *self {
            Self::Conversation { organization, conversation } => {
                Some(Self::Widget { organization, conversation })
            }
            Self::Widget { organization, conversation } => {
                Some(Self::Conversation { organization, conversation })
            }
            Self::Organization { .. } | Self::Conversations { .. } | Self::Other(_) => None,
        }
    }
}

impl FromStr for Topic {
    type Err = TopicError;

    fn from_str(name: &str) -> Result<Self, TopicError> {
        Self::parse(name)
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Organization { organization } => write!(f, "org:{organization}"),
            Self::Conversation { organization, conversation } => {
                write!(f, "org:{organization}:conv:{conversation}")
            }
            Self::Conversations { organization } => write!(f, "org:{organization}:conversations"),
            Self::Widget { organization, conversation } => {
                write!(f, "org:{organization}:widget:{conversation}")
            }
            // One prefix was dropped and another follows: without the first the name would parse as another channel.
            Self::Other(name) if name.starts_with(OPTIONAL_PREFIX) => write!(f, "{OPTIONAL_PREFIX}{name}"),
            Self::Other(name) => f.write_str(name),
        }
    }
}

fn parse_lower_uuid(text: &str) -> Option<Uuid> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) { None } else { parse_uuid(text) }
}

/// A uuid in its usual form only: the crate's parser also takes braces, `urn:uuid:` and no hyphens.
pub(crate) fn parse_uuid(text: &str) -> Option<Uuid> {
    if text.len() == uuid::fmt::Hyphenated::LENGTH { Uuid::try_parse(text).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ORG: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
    const CONV: &str = "0e37df36-f698-11e6-8dd4-cb9ced3df976";

    /// `{o}` and `{c}` stand for two uuids.
    fn spell(name: &str) -> String {
        name.replace("{o}", ORG).replace("{c}", CONV)
    }

    fn check(name: &str, scope: Option<Scope>, canonical: &str) {
        let topic = Topic::parse(&spell(name)).unwrap();
        assert_eq!((topic.scope(), topic.to_string()), (scope, spell(canonical)), "{name}");
        assert_eq!(topic.organization().is_some(), scope.is_some(), "{name}");
        assert_eq!(Topic::parse(&topic.to_string()).as_ref(), Ok(&topic), "{name}");
    }

    fn check_refused(name: &str, error: TopicError) {
        assert_eq!(Topic::parse(&spell(name)), Err(error), "{name}");
    }

    #[test]
    fn organization_channels_are_recognised() {
        check("org:{o}", Some(Scope::Organization), "org:{o}");
        check("org:{o}:conversations", Some(Scope::Conversations), "org:{o}:conversations");
        check("org:{o}:conv:{c}", Some(Scope::Conversation), "org:{o}:conv:{c}");
        check("org:{o}:widget:{c}", Some(Scope::Widget), "org:{o}:widget:{c}");
    }

    #[test]
    fn bcast_is_dropped_once() {
        check("bcast:org:{o}:conv:{c}", Some(Scope::Conversation), "org:{o}:conv:{c}");
        check("bcast:room:1", None, "room:1");
        check("bcast:bcast:org:{o}", None, "bcast:bcast:org:{o}");
        check("BCAST:org:{o}", None, "BCAST:org:{o}");
    }

    #[test]
    fn uuids_in_upper_case_are_refused() {
        check_refused(&format!("org:{}", ORG.to_uppercase()), TopicError::MalformedOrganization);
        check_refused(&format!("org:{ORG}:conv:{}", CONV.to_uppercase()), TopicError::MalformedConversation);
    }

    #[test]
    fn what_looks_like_an_organization_is_never_another_channel() {
        check_refused("org", TopicError::MalformedOrganization);
        check_refused("org:", TopicError::MalformedOrganization);
        check_refused("org:7", TopicError::MalformedOrganization);
        check_refused("org: {o}", TopicError::MalformedOrganization);
        check_refused("org:{{o}}", TopicError::MalformedOrganization);
        check_refused(&format!("org:{}", ORG.replace('-', "")), TopicError::MalformedOrganization);
        check_refused(&format!("org:urn:uuid:{ORG}"), TopicError::MalformedOrganization);
        check_refused("ORG:{o}", TopicError::OrganizationCase);
        check_refused("Org", TopicError::OrganizationCase);
        check_refused("bcast:oRg:{o}", TopicError::OrganizationCase);
        check_refused("org:{o}:", TopicError::UnknownScope);
        check_refused("org:{o}:messages", TopicError::UnknownScope);
        check_refused("org:{o}:conv", TopicError::UnknownScope);
        check_refused("org:{o}:CONV:{c}", TopicError::UnknownScope);
        check_refused("org:{o}:conversations:{c}", TopicError::UnknownScope);
        check_refused("org:{o}:conv:", TopicError::MalformedConversation);
        check_refused("org:{o}:conv:{c}:x", TopicError::MalformedConversation);
        check_refused("org:{o}:widget:{c}\n", TopicError::MalformedConversation);
    }

    #[test]
    fn other_names_are_kept_as_they_are() {
        for name in ["room:7", "organization:7", "org-7", " org:7", "café/ö:1", "orgs:{o}"] {
            check(name, None, name);
        }
    }

    #[test]
    fn names_are_neither_empty_nor_endless() {
        check_refused("", TopicError::Empty);
        check_refused("bcast:", TopicError::Empty);
        check_refused(&"x".repeat(NAME_BYTES_MAX + 1), TopicError::TooLong);
        assert!(Topic::parse(&"x".repeat(NAME_BYTES_MAX)).is_ok());
    }

    #[test]
    fn siblings_are_the_two_channels_of_a_conversation() {
        let sibling =
            |name: &str| Topic::parse(&spell(name)).unwrap().sibling().map(|topic| topic.to_string());
        assert_eq!(sibling("org:{o}:conv:{c}"), Some(spell("org:{o}:widget:{c}")));
        assert_eq!(sibling("org:{o}:widget:{c}"), Some(spell("org:{o}:conv:{c}")));
        for name in ["org:{o}", "org:{o}:conversations", "room:7"] {
            assert_eq!(sibling(name), None);
        }
    }

    #[test]
    fn the_wire_prefix_is_taken_off_once() {
        assert_eq!(strip_wire_prefix("realtime:realtime:x"), Some("realtime:x"));
        assert_eq!(strip_wire_prefix("realtime:"), Some(""));
        assert_eq!(strip_wire_prefix("Realtime:x"), None);
        assert_eq!(strip_wire_prefix("phoenix"), None);
    }

    proptest! {
        #[test]
        fn display_then_parse_is_identity(name in "(bcast:){0,3}(org|room|ORG)?:?[0-9a-f:-]{0,40}|\\PC{0,40}") {
            if let Ok(topic) = Topic::parse(&name) {
                prop_assert_eq!(Topic::parse(&topic.to_string()), Ok(topic));
            }
        }

        #[test]
        fn every_pair_of_uuids_survives(organization: [u8; 16], conversation: [u8; 16]) {
            let (organization, conversation) = (Uuid::from_bytes(organization), Uuid::from_bytes(conversation));
            for topic in [
                Topic::channel_organization(organization),
                Topic::channel_conversations(organization),
                Topic::channel_conversation(organization, conversation),
                Topic::channel_widget(organization, conversation),
            ] {
                prop_assert_eq!(Topic::parse(&topic.to_string()), Ok(topic));
            }
        }
    }
}
