//! Why the relay says no: the words that clients, and people who search for them, can rely on.

use std::borrow::Cow;
use std::fmt;

use crate::route::TopicError;

/// Told to every channel, with status ok, before the relay closes a socket on its own account.
pub const SERVER_REQUESTED_DISCONNECT: &str = "Server requested disconnect";

/// A refusal. Displays as the `reason` of an error reply, `Code: text`; as a `system` message it is the text alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A push on a topic that is not joined, or a join of one that does not begin with `realtime:`.
    UnmatchedTopic,
    TopicNameRequired,
    InvalidTopic(TopicError),
    /// The channel's name, without `realtime:`.
    Unauthorized {
        topic: String,
    },
    /// What was allowed at the join is no longer: an agent was deactivated, a conversation moved.
    PermissionLost {
        topic: String,
    },
    PrivateOnly,
    RoleNotAllowed,
    TokenExpired {
        seconds_ago: u64,
    },
    /// The token has no `role` or no `exp`.
    ClaimsMissing,
    /// A claim has a type with which nothing can be decided.
    ClaimInvalid,
    MalformedToken,
    TokenSignature,
    /// No key verifies tokens of this kind.
    TokenSigner,
    PostgresChangesNotSupported,
    InvalidPresenceKey,
    TooManyChannels,
    /// `replay` on a public channel.
    ReplayNotAllowed,
    /// Only the relay may send events of this name, or this client may not send it here.
    EventNotAllowed,
    /// A broadcast that names no event.
    InvalidBroadcast,
    PayloadTooLarge,
    TooManyMessages,
    Restarting,
}

impl Reason {
    /// The stable word in front of the text; some of the reference's reasons have none.
    pub fn code(&self) -> Option<&'static str> {
        Some(match self {
            Self::TopicNameRequired => "TopicNameRequired",
            Self::InvalidTopic(_) => "InvalidTopic",
            Self::Unauthorized { .. } | Self::PermissionLost { .. } => "Unauthorized",
            Self::PrivateOnly => "PrivateOnly",
            Self::TokenExpired { .. } | Self::ClaimsMissing | Self::ClaimInvalid => "InvalidJWTToken",
            Self::MalformedToken => "MalformedJWT",
            Self::TokenSignature => "JwtSignatureError",
            Self::TokenSigner => "JwtSignerError",
            Self::PostgresChangesNotSupported => "PostgresChangesNotSupported",
            Self::InvalidPresenceKey => "InvalidPresenceKey",
            Self::TooManyChannels => "ChannelRateLimitReached",
            Self::ReplayNotAllowed => "UnableToReplayMessages",
            Self::EventNotAllowed => "EventNotAllowed",
            Self::InvalidBroadcast => "InvalidBroadcast",
            Self::TooManyMessages => "MessagePerSecondRateLimitReached",
            Self::Restarting => "RealtimeRestarting",
            Self::UnmatchedTopic | Self::RoleNotAllowed | Self::PayloadTooLarge => return None,
        })
    }

    /// A word for metrics, also for reasons without a code.
    pub fn label(&self) -> &'static str {
        self.code().unwrap_or(match self {
            Self::RoleNotAllowed => "RoleNotAllowed",
            Self::PayloadTooLarge => "PayloadTooLarge",
            _ => "UnmatchedTopic",
        })
    }

    /// The text without its code.
    pub fn message(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::UnmatchedTopic => "unmatched topic",
            Self::TopicNameRequired => "You must provide a topic name",
            Self::InvalidTopic(error) => return error.to_string().into(),
            Self::Unauthorized { topic } => {
                return format!("You do not have permissions to read from this Channel topic: {topic}")
                    .into();
            }
            Self::PermissionLost { topic } => {
                return format!("You no longer have permission to read from this Channel topic: {topic}")
                    .into();
            }
            Self::PrivateOnly => "This project only allows private channels",
            Self::RoleNotAllowed => "Role not allowed",
            Self::TokenExpired { seconds_ago } => {
                return format!("Token has expired {seconds_ago} seconds ago").into();
            }
            Self::ClaimsMissing => "Fields `role` and `exp` are required in JWT",
            Self::ClaimInvalid => "Claims of the JWT have unexpected types",
            Self::MalformedToken => "The token provided is not a valid JWT",
            Self::TokenSignature => "Failed to validate JWT signature",
            Self::TokenSigner => "Failed to generate JWT signer, check your JWT secret or JWKS configuration",
            Self::PostgresChangesNotSupported => {
                "postgres_changes are not served here; listen to the broadcasts of a channel instead"
            }
            Self::InvalidPresenceKey => "`ids` cannot be a presence key, JavaScript clients would fail on it",
            Self::TooManyChannels => "Too many channels",
            Self::ReplayNotAllowed => "Replay is not allowed for public channels",
            Self::EventNotAllowed => "You may not send this event on this channel",
            Self::InvalidBroadcast => "A broadcast needs the name of an event",
            Self::PayloadTooLarge => "payload_size_exceeded",
            Self::TooManyMessages => "Too many messages per second",
            Self::Restarting => "Realtime is restarting, please standby",
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(code) = self.code() {
            write!(f, "{code}: ")?;
        }
        f.write_str(&self.message())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(reason: Reason, expected: &str) {
        assert_eq!(reason.to_string(), expected);
    }

    #[test]
    fn reasons_are_those_of_the_reference() {
        check(Reason::UnmatchedTopic, "unmatched topic");
        check(Reason::TopicNameRequired, "TopicNameRequired: You must provide a topic name");
        check(
            Reason::Unauthorized { topic: "room:7".into() },
            "Unauthorized: You do not have permissions to read from this Channel topic: room:7",
        );
        check(Reason::PrivateOnly, "PrivateOnly: This project only allows private channels");
        check(Reason::TokenExpired { seconds_ago: 7 }, "InvalidJWTToken: Token has expired 7 seconds ago");
        check(Reason::ClaimsMissing, "InvalidJWTToken: Fields `role` and `exp` are required in JWT");
        check(Reason::MalformedToken, "MalformedJWT: The token provided is not a valid JWT");
        check(Reason::TokenSignature, "JwtSignatureError: Failed to validate JWT signature");
        check(Reason::TooManyChannels, "ChannelRateLimitReached: Too many channels");
        check(Reason::Restarting, "RealtimeRestarting: Realtime is restarting, please standby");
    }

    #[test]
    fn reasons_of_campfire_begin_with_a_code_too() {
        check(Reason::RoleNotAllowed, "Role not allowed");
        check(
            Reason::InvalidTopic(TopicError::MalformedOrganization),
            "InvalidTopic: org: is followed by the organization's uuid",
        );
    }

    #[test]
    fn system_messages_are_the_text_alone() {
        assert_eq!(Reason::TokenExpired { seconds_ago: 0 }.message(), "Token has expired 0 seconds ago");
    }
}
