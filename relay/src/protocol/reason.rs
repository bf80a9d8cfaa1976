//! Why the relay says no: the words that clients, and people who search for them, can rely on.

use std::borrow::Cow;
use std::fmt;

use crate::route::TopicError;

/// Said by joins, handshakes and HTTP alike: the reference's words, and which roles there are.
pub const ROLE_NOT_ALLOWED: &str =
    "Role not allowed: the role of a token must be anon, authenticated or service_role";

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
    /// The policies do not let the channel send. The channel's name, without `realtime:`.
    SendUnauthorized {
        topic: String,
    },
    /// A policy raised an error, so nothing was decided. The channel's name, without `realtime:`, and the error's
    /// SQLSTATE and message.
    PolicyFailed {
        topic: String,
        cause: String,
    },
    /// A new token grants less than the one before. The channel's name, without `realtime:`.
    NoLongerAuthorized {
        topic: String,
    },
    PrivateOnly,
    /// Private channels outside `org:` need policies, and the database has no table for them.
    PoliciesNotInstalled,
    PolicyCancelled,
    PartitionMissing,
    DatabaseUnreachable,
    PolicySessionsExhausted,
    /// The headers of the handshake are more than policies are shown.
    HeadersTooLarge,
    /// Too many sockets have joined with one token.
    TooManySockets,
    ReplicationNotEstablished,
    RoleNotAllowed,
    TokenExpired {
        seconds_ago: u64,
    },
    /// The token's `nbf` lies in the future.
    TokenNotYetValid {
        seconds: u64,
    },
    /// The token has no `role` or no `exp`.
    ClaimsMissing,
    /// A claim has a type with which nothing can be decided.
    ClaimInvalid,
    MalformedToken,
    TokenSignature,
    /// No key verifies tokens of this kind.
    TokenSigner,
    /// No published key has the token's `kid`.
    UnknownKey {
        kid: Box<str>,
    },
    PostgresChangesNotSupported,
    InvalidPresenceKey,
    PresenceKeyTooLong,
    /// `replay` on a channel outside `org:`.
    ReplayNotAllowed,
    /// `replay` is none of the forms that exist.
    ReplayNotValid,
    /// What was sent cannot be read now; joining again may do.
    ReplayUnavailable,
    /// The database's rows cannot be had now; joining again may do.
    SnapshotUnavailable,
    /// The agent's row went, or became inactive.
    AgentGone,
    ConversationGone,
    TooManyChannels,
    /// Only the relay may send events of this name, or this client may not send it here.
    EventNotAllowed,
    EventNameTooLong,
    PayloadTooLarge,
    /// A join among more messages than the socket may send.
    TooManyJoins,
    TooManyMessages,
    /// `track` with something other than an object.
    PresenceNotAnObject,
    /// What a member tracks is larger than allowed. Ends the channel.
    PresenceTooLarge,
    /// What is tracked on the channel takes all the memory that one channel may take.
    PresenceChannelFull,
    /// The same of all channels of the organization, of all outside `org:`, or of the relay.
    PresenceFull,
    /// More presence calls than one channel may make. Ends the channel.
    TooManyPresenceCalls,
}

impl Reason {
    /// The stable word in front of the text. The reference sends some texts without one.
    pub fn code(&self) -> Option<&'static str> {
        match self {
            Self::UnmatchedTopic
            | Self::RoleNotAllowed
            | Self::PayloadTooLarge
            | Self::PresenceNotAnObject => None,
            _ => Some(self.label()),
        }
    }

    /// A stable word for it, for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::UnmatchedTopic => "UnmatchedTopic",
            Self::TopicNameRequired => "TopicNameRequired",
            Self::InvalidTopic(_) => "InvalidTopic",
            Self::Unauthorized { .. }
            | Self::SendUnauthorized { .. }
            | Self::PolicyFailed { .. }
            | Self::NoLongerAuthorized { .. }
            | Self::AgentGone
            | Self::ConversationGone => "Unauthorized",
            Self::PrivateOnly => "PrivateOnly",
            Self::PoliciesNotInstalled => "PoliciesNotInstalled",
            Self::PolicyCancelled => "QueryCanceled",
            Self::PartitionMissing => "MissingPartition",
            Self::DatabaseUnreachable => "UnableToConnectToProject",
            Self::PolicySessionsExhausted => "IncreaseConnectionPool",
            Self::HeadersTooLarge => "HeadersTooLarge",
            Self::TooManySockets => "ConnectionRateLimitReached",
            Self::ReplicationNotEstablished => "ReplicationNotEstablished",
            Self::RoleNotAllowed => "RoleNotAllowed",
            Self::TokenExpired { .. }
            | Self::TokenNotYetValid { .. }
            | Self::ClaimsMissing
            | Self::ClaimInvalid => "InvalidJWTToken",
            Self::MalformedToken => "MalformedJWT",
            Self::TokenSignature => "JwtSignatureError",
            Self::TokenSigner | Self::UnknownKey { .. } => "JwtSignerError",
            Self::PostgresChangesNotSupported => "PostgresChangesNotSupported",
            Self::InvalidPresenceKey => "InvalidPresenceKey",
            Self::PresenceKeyTooLong => "PresenceKeyTooLong",
            Self::ReplayNotAllowed | Self::ReplayNotValid | Self::ReplayUnavailable => {
                "UnableToReplayMessages"
            }
            Self::SnapshotUnavailable => "SnapshotUnavailable",
            Self::TooManyChannels => "ChannelRateLimitReached",
            Self::EventNotAllowed => "EventNotAllowed",
            Self::EventNameTooLong => "EventNameTooLong",
            Self::PayloadTooLarge => "PayloadTooLarge",
            Self::TooManyJoins => "ClientJoinRateLimitReached",
            Self::TooManyMessages => "MessagePerSecondRateLimitReached",
            Self::PresenceNotAnObject => "InvalidPresencePayload",
            Self::PresenceTooLarge => "PresencePayloadTooLarge",
            Self::PresenceChannelFull => "PresenceChannelFull",
            Self::PresenceFull => "PresenceFull",
            Self::TooManyPresenceCalls => "ClientPresenceRateLimitReached",
        }
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
            Self::SendUnauthorized { topic } => {
                return format!("You do not have permissions to write to this Channel topic: {topic}").into();
            }
            Self::PolicyFailed { topic, cause } => {
                return format!(
                    "You do not have permissions to read from this Channel topic: {topic} (a policy failed: {cause})"
                )
                .into();
            }
            Self::NoLongerAuthorized { topic } => {
                return format!("You no longer have permission to read from this Channel topic: {topic}")
                    .into();
            }
            Self::PoliciesNotInstalled => "Private channels outside org: are not set up in this database",
            Self::PolicyCancelled => "The policies took too long to answer",
            Self::PartitionMissing => "realtime.messages has no partition for today",
            Self::DatabaseUnreachable => "Realtime was unable to connect to the project database",
            Self::PolicySessionsExhausted => "Please increase your connection pool size",
            Self::HeadersTooLarge => {
                "The connection's headers that begin with x- are too large to be shown to policies (16 KiB)"
            }
            Self::TooManySockets => "Too many connected users",
            Self::ReplicationNotEstablished => "Replication connection was not established in time",
            Self::PrivateOnly => "This project only allows private channels",
            Self::RoleNotAllowed => ROLE_NOT_ALLOWED,
            Self::TokenExpired { seconds_ago } => {
                return format!("Token has expired {seconds_ago} seconds ago").into();
            }
            Self::TokenNotYetValid { seconds } => {
                return format!("Token is not valid for another {seconds} seconds").into();
            }
            Self::ClaimsMissing => "Fields `role` and `exp` are required in JWT",
            Self::ClaimInvalid => "Claims of the JWT have unexpected types",
            Self::MalformedToken => "The token provided is not a valid JWT",
            Self::TokenSignature => "Failed to validate JWT signature",
            Self::UnknownKey { kid } => {
                return format!(
                    "Failed to generate JWT signer for key ID (kid) \"{kid}\", check your JWT secret or JWKS configuration"
                )
                .into();
            }
            Self::TokenSigner => "Failed to generate JWT signer, check your JWT secret or JWKS configuration",
            Self::PostgresChangesNotSupported => {
                "postgres_changes are not served here; listen to the broadcasts of a channel instead"
            }
            Self::ReplayNotAllowed => "Replay is not allowed for public channels",
            Self::ReplayNotValid => "Replay params are not valid",
            Self::ReplayUnavailable => "Realtime was unable to replay messages",
            Self::SnapshotUnavailable => "The snapshot could not be read now; join again in a moment",
            Self::AgentGone => "The agent is no longer active in this organization",
            Self::ConversationGone => "The conversation was deleted or moved",
            Self::InvalidPresenceKey => "`ids` cannot be a presence key, JavaScript clients would fail on it",
            Self::PresenceKeyTooLong => "A presence key has at most 255 bytes",
            Self::TooManyChannels => "Too many channels",
            Self::EventNotAllowed => "You may not send this event on this channel",
            Self::EventNameTooLong => "The name of an event has at most 255 bytes",
            Self::PayloadTooLarge => "payload_size_exceeded",
            Self::TooManyJoins => "Too many joins per second",
            Self::TooManyMessages => "Too many messages per second",
            Self::PresenceNotAnObject => "Presence track payload must be a map",
            Self::PresenceTooLarge => "Track message size exceeded",
            Self::PresenceChannelFull => "What is tracked on this channel takes all the memory it may take",
            Self::PresenceFull => "What is tracked takes all the memory it may take",
            Self::TooManyPresenceCalls => "Client presence rate limit exceeded",
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
        check(Reason::TooManySockets, "ConnectionRateLimitReached: Too many connected users");
        check(Reason::TooManyJoins, "ClientJoinRateLimitReached: Too many joins per second");
        check(Reason::TooManyMessages, "MessagePerSecondRateLimitReached: Too many messages per second");
        check(
            Reason::TokenSigner,
            "JwtSignerError: Failed to generate JWT signer, check your JWT secret or JWKS configuration",
        );
        check(
            Reason::UnknownKey { kid: "k".into() },
            "JwtSignerError: Failed to generate JWT signer for key ID (kid) \"k\", check your JWT secret or JWKS configuration",
        );
        check(
            Reason::DatabaseUnreachable,
            "UnableToConnectToProject: Realtime was unable to connect to the project database",
        );
        check(
            Reason::PolicySessionsExhausted,
            "IncreaseConnectionPool: Please increase your connection pool size",
        );
        for (reason, text) in [
            (Reason::ReplayNotAllowed, "Replay is not allowed for public channels"),
            (Reason::ReplayNotValid, "Replay params are not valid"),
            (Reason::ReplayUnavailable, "Realtime was unable to replay messages"),
        ] {
            check(reason, &format!("UnableToReplayMessages: {text}"));
        }
    }

    #[test]
    fn reasons_of_campfire_begin_with_a_code_too() {
        check(
            Reason::RoleNotAllowed,
            "Role not allowed: the role of a token must be anon, authenticated or service_role",
        );
        check(
            Reason::PolicyFailed { topic: "room:7".into(), cause: "22012: division by zero".into() },
            "Unauthorized: You do not have permissions to read from this Channel topic: room:7 \
             (a policy failed: 22012: division by zero)",
        );
        check(
            Reason::InvalidTopic(TopicError::MalformedOrganization),
            "InvalidTopic: org: is followed by the organization's uuid, in lower case",
        );
        check(
            Reason::SnapshotUnavailable,
            "SnapshotUnavailable: The snapshot could not be read now; join again in a moment",
        );
        check(Reason::ConversationGone, "Unauthorized: The conversation was deleted or moved");
    }

    #[test]
    fn system_messages_are_the_text_alone() {
        for (reason, text) in [
            (Reason::TokenExpired { seconds_ago: 0 }, "Token has expired 0 seconds ago"),
            (
                Reason::NoLongerAuthorized { topic: "r".into() },
                "You no longer have permission to read from this Channel topic: r",
            ),
            (Reason::TooManyMessages, "Too many messages per second"),
            (Reason::TooManyPresenceCalls, "Client presence rate limit exceeded"),
            (Reason::PresenceTooLarge, "Track message size exceeded"),
            (Reason::PresenceNotAnObject, "Presence track payload must be a map"),
            (Reason::ReplicationNotEstablished, "Replication connection was not established in time"),
        ] {
            assert_eq!(reason.message(), text);
        }
    }
}
