//! Why the relay says no: the words that clients, and people who search for them, can rely on.

use std::borrow::Cow;
use std::fmt;

use self::Word::{Code, Label};
use crate::route::TopicError;

/// What a client should do about a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// The same will be refused again, unless somebody changes the client, the application or the settings.
    Never,
    /// Try again with another token.
    Token,
    /// Try the same again after a while.
    Later,
}

impl fmt::Display for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Never => "never",
            Self::Token => "token",
            Self::Later => "later",
        })
    }
}

/// The word by which a refusal goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Stands in front of the text, too.
    Code(&'static str),
    /// The reference sends the text alone; the word is for metrics.
    Label(&'static str),
}

/// The table: what a refusal is, its word, its text, and whether to try again. `docs/protocol.md` has it for clients.
macro_rules! reasons {
    ($(
        $(#[$about:meta])*
        $reason:ident $({ $($field:ident: $type:ty),+ })?: $word:expr, $text:literal, $retry:ident;
    )+) => {
        /// A refusal. Displays as the `reason` of an error reply, `Code: text`; as a `system` message it is the text alone.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Reason {
            $($(#[$about])* $reason $({ $($field: $type),+ })?,)+
        }

        impl Reason {
            /// Word, text, and whether to try again. In braces stands what differs from one refusal to the next.
            pub const TABLE: &'static [(Word, &'static str, Retry)] =
                &[$(($word, $text, Retry::$retry)),+];

            fn word(&self) -> Word {
                match self {
                    $(Self::$reason { .. } => $word,)+
                }
            }

            /// The text without its code.
            pub fn message(&self) -> Cow<'static, str> {
                match self {
                    $(Self::$reason $({ $($field),+ })? => text(format_args!($text)),)+
                }
            }
        }
    };
}

reasons! {
    /// A push on a topic that is not joined, or a join of one that does not begin with `realtime:`.
    UnmatchedTopic: Label("UnmatchedTopic"), "unmatched topic", Never;
    TopicNameRequired: Code("TopicNameRequired"), "You must provide a topic name", Never;
    InvalidTopic { error: TopicError }: Code("InvalidTopic"), "{error}", Never;

    // In these, the channel's name without `realtime:`.
    Unauthorized { topic: String }: Code("Unauthorized"),
        "You do not have permissions to read from this Channel topic: {topic}", Token;
    /// The policies do not let the channel send.
    SendUnauthorized { topic: String }: Code("Unauthorized"),
        "You do not have permissions to write to this Channel topic: {topic}", Token;
    /// A policy raised an error, so nothing was decided: its SQLSTATE and message.
    PolicyFailed { topic: String, cause: String }: Code("Unauthorized"),
        "You do not have permissions to read from this Channel topic: {topic} (a policy failed: {cause})", Later;
    /// A new token grants less than the one before.
    NoLongerAuthorized { topic: String }: Code("Unauthorized"),
        "You no longer have permission to read from this Channel topic: {topic}", Token;
    /// The agent's row went, or became inactive.
    AgentGone: Code("Unauthorized"), "The agent is no longer active in this organization", Token;
    ConversationGone: Code("Unauthorized"), "The conversation was deleted or moved", Never;
    PrivateOnly: Code("PrivateOnly"), "This project only allows private channels", Never;

    /// Private channels outside `org:` need policies, and the database has no table for them.
    PoliciesNotInstalled: Code("PoliciesNotInstalled"),
        "Private channels outside org: are not set up in this database", Later;
    PolicyCancelled: Code("QueryCanceled"), "The policies took too long to answer", Later;
    PartitionMissing: Code("MissingPartition"), "realtime.messages has no partition for today", Later;
    DatabaseUnreachable: Code("UnableToConnectToProject"),
        "Realtime was unable to connect to the project database", Later;
    PolicySessionsExhausted: Code("IncreaseConnectionPool"), "Please increase your connection pool size", Later;
    /// The headers of the handshake are more than policies are shown.
    HeadersTooLarge: Code("HeadersTooLarge"),
        "The connection's headers that begin with x- are too large to be shown to policies (16 KiB)", Never;

    /// Too many sockets have joined with one token.
    TooManySockets: Code("ConnectionRateLimitReached"), "Too many connected users", Later;
    ReplicationNotEstablished: Code("ReplicationNotEstablished"),
        "Replication connection was not established in time", Later;

    /// Handshakes and HTTP say the same.
    RoleNotAllowed: Label("RoleNotAllowed"),
        "Role not allowed: the role of a token must be anon, authenticated or service_role", Token;
    TokenExpired { seconds_ago: u64 }: Code("InvalidJWTToken"), "Token has expired {seconds_ago} seconds ago", Token;
    /// The token's `nbf` lies in the future.
    TokenNotYetValid { seconds: u64 }: Code("InvalidJWTToken"),
        "Token is not valid for another {seconds} seconds", Later;
    /// The token has no `role` or no `exp`.
    ClaimsMissing: Code("InvalidJWTToken"), "Fields `role` and `exp` are required in JWT", Token;
    /// A claim has a type with which nothing can be decided.
    ClaimInvalid: Code("InvalidJWTToken"), "Claims of the JWT have unexpected types", Token;
    MalformedToken: Code("MalformedJWT"), "The token provided is not a valid JWT", Token;
    TokenSignature: Code("JwtSignatureError"), "Failed to validate JWT signature", Token;
    /// No key verifies tokens of this kind.
    TokenSigner: Code("JwtSignerError"),
        "Failed to generate JWT signer, check your JWT secret or JWKS configuration", Token;
    /// No published key has the token's `kid`; it may be published soon.
    UnknownKey { kid: Box<str> }: Code("JwtSignerError"),
        "Failed to generate JWT signer for key ID (kid) \"{kid}\", check your JWT secret or JWKS configuration", Later;

    PostgresChangesNotSupported: Code("PostgresChangesNotSupported"),
        "postgres_changes are not served here; listen to the broadcasts of a channel instead", Never;
    InvalidPresenceKey: Code("InvalidPresenceKey"),
        "`ids` cannot be a presence key, JavaScript clients would fail on it", Never;
    PresenceKeyTooLong: Code("PresenceKeyTooLong"), "A presence key has at most 255 bytes", Never;
    /// `replay` on a public channel.
    ReplayNotAllowed: Code("UnableToReplayMessages"), "Replay is not allowed for public channels", Never;
    /// `replay` is none of the forms that exist.
    ReplayNotValid: Code("UnableToReplayMessages"), "Replay params are not valid", Never;
    /// What was sent cannot be read now.
    ReplayUnavailable: Code("UnableToReplayMessages"), "Realtime was unable to replay messages", Later;
    /// The database's rows cannot be had now.
    SnapshotUnavailable: Code("SnapshotUnavailable"),
        "The snapshot could not be read now; join again in a moment", Later;
    /// The client's role may not read what the rows of a private channel are read from.
    SnapshotDenied { grant: String }: Code("SnapshotDenied"),
        "Your role may not read the rows of this channel; it needs: {grant}", Later;

    /// The socket may leave some.
    TooManyChannels: Code("ChannelRateLimitReached"), "Too many channels", Later;
    /// Only the relay may send events of this name, or this client may not send it here.
    EventNotAllowed: Code("EventNotAllowed"), "You may not send this event on this channel", Never;
    EventNameTooLong: Code("EventNameTooLong"), "The name of an event has at most 255 bytes", Never;
    PayloadTooLarge: Label("PayloadTooLarge"), "payload_size_exceeded", Never;
    /// A join among more messages than the socket may send.
    TooManyJoins: Code("ClientJoinRateLimitReached"), "Too many joins per second", Later;
    TooManyMessages: Code("MessagePerSecondRateLimitReached"), "Too many messages per second", Later;

    /// `track` with something other than an object.
    PresenceNotAnObject: Label("InvalidPresencePayload"), "Presence track payload must be a map", Never;
    /// What a member tracks is larger than allowed. Ends the channel.
    PresenceTooLarge: Code("PresencePayloadTooLarge"), "Track message size exceeded", Never;
    /// What is tracked on the channel takes all the memory that one channel may take.
    PresenceChannelFull: Code("PresenceChannelFull"),
        "What is tracked on this channel takes all the memory it may take", Later;
    /// The same of all channels of the organization, of all outside `org:`, or of the relay.
    PresenceFull: Code("PresenceFull"), "What is tracked takes all the memory it may take", Later;
    /// More presence calls than one channel may make. Ends the channel.
    TooManyPresenceCalls: Code("ClientPresenceRateLimitReached"), "Client presence rate limit exceeded", Later;
}

impl Reason {
    /// The stable word in front of the text. The reference sends some texts without one.
    pub fn code(&self) -> Option<&'static str> {
        match self.word() {
            Code(code) => Some(code),
            Label(_) => None,
        }
    }

    /// A stable word for it, for metrics.
    pub fn label(&self) -> &'static str {
        match self.word() {
            Code(word) | Label(word) => word,
        }
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

/// Most have nothing in braces.
fn text(text: fmt::Arguments<'_>) -> Cow<'static, str> {
    text.as_str().map_or_else(|| text.to_string().into(), Cow::Borrowed)
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
            Reason::InvalidTopic { error: TopicError::MalformedOrganization },
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
