//! Who may join an organization's channels, and what they may send there.
//!
//! A join is a pure function of verified claims and of control state, decided where that state changes; there is no
//! query, hence no race with a change that is on its way.

use uuid::Uuid;

use super::Role;
use super::credential::Credential;
use crate::protocol::{Meta, Reason};
use crate::route::{Scope, Topic, is_reserved};

/// As whom a channel of an organization was joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    Agent {
        organization: Uuid,
        user: Uuid,
    },
    /// Known by the one conversation that is theirs.
    Visitor {
        organization: Uuid,
        conversation: Uuid,
    },
    /// A server of the application.
    Service,
}

/// Why a join is refused. For the log: clients are told [`Reason::Unauthorized`], whatever the cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JoinRefusal {
    #[error("not a channel of an organization")]
    NotOrganization,
    #[error("an API key, which proves no identity")]
    NoClaims,
    #[error("the token is another organization's, or none's")]
    WrongOrganization,
    #[error("sub is not a uuid")]
    NoSubject,
    #[error("no agent of the organization")]
    NoAgent,
    #[error("the agent is not active")]
    InactiveAgent,
    #[error("visitors have no access to channels of the whole organization")]
    WrongScope,
    #[error("the token is another conversation's, or none's")]
    WrongConversation,
}

/// Why a broadcast of a client is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendRefusal {
    #[error("only the relay sends events of this name")]
    Reserved,
    #[error("visitors send only typing:*")]
    Visitor,
}

impl JoinRefusal {
    /// What the client is told. `name` is the channel as it was joined, without `realtime:`.
    pub fn reason(self, name: &str) -> Reason {
        Reason::Unauthorized { topic: name.to_owned() }
    }
}

impl From<SendRefusal> for Reason {
    fn from(_: SendRefusal) -> Self {
        Self::EventNotAllowed
    }
}

/// Decides a join to a channel of an organization. `is_active` knows the agents: None for a user who is none of the
/// organization's.
///
/// Names outside `org:` are not admitted here: whether they are public, and the database's policies, are other rules.
pub fn authorize(
    topic: &Topic,
    credential: &Credential,
    is_active: impl FnOnce(/* organization */ Uuid, /* user */ Uuid) -> Option<bool>,
) -> Result<Identity, JoinRefusal> {
    let organization = topic.organization().ok_or(JoinRefusal::NotOrganization)?;
    if credential.role() == Role::ServiceRole {
        return Ok(Identity::Service);
    }
    let claims = credential.claims().ok_or(JoinRefusal::NoClaims)?;
    if claims.organization != Some(organization) {
        return Err(JoinRefusal::WrongOrganization);
    }
    if claims.role == Role::Authenticated {
        let user = claims.subject.ok_or(JoinRefusal::NoSubject)?;
        return match is_active(organization, user) {
            Some(true) => Ok(Identity::Agent { organization, user }),
            Some(false) => Err(JoinRefusal::InactiveAgent),
            None => Err(JoinRefusal::NoAgent),
        };
    }
    let (Some(Scope::Conversation | Scope::Widget), Some(conversation)) =
        (topic.scope(), topic.conversation())
    else {
        return Err(JoinRefusal::WrongScope);
    };
    if claims.conversation != Some(conversation) {
        return Err(JoinRefusal::WrongConversation);
    }
    Ok(Identity::Visitor { organization, conversation })
}

/// Whether a client may send an event on a channel of an organization that it has joined.
pub fn may_send(identity: &Identity, event: &str) -> Result<(), SendRefusal> {
    if is_reserved(event) {
        return Err(SendRefusal::Reserved);
    }
    // As it stands: what is spelled otherwise is not handled as typing either, and would escape its limits.
    if matches!(identity, Identity::Visitor { .. }) && !matches!(event, "typing:start" | "typing:stop") {
        return Err(SendRefusal::Visitor);
    }
    Ok(())
}

impl Identity {
    /// What is stamped on what a client sends. Senders are never believed about who they are.
    pub fn sender_meta(&self) -> Meta {
        match *self {
            Self::Agent { user, .. } => Meta::of_sender("agent", Some(user)),
            Self::Visitor { conversation, .. } => Meta::of_sender("visitor", Some(conversation)),
            Self::Service => Meta::of_sender("service", None),
        }
    }

    /// The same for visitors, who are not told which agent it was.
    pub fn sender_meta_for_visitors(&self) -> Meta {
        match self {
            Self::Agent { .. } => Meta::of_sender("agent", None),
            Self::Visitor { .. } | Self::Service => self.sender_meta(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use serde_json::value::RawValue;

    use super::super::{Claims, Fingerprint};
    use super::*;

    const ORG: Uuid = Uuid::from_u128(1);
    const OTHER_ORG: Uuid = Uuid::from_u128(2);
    const CONV: Uuid = Uuid::from_u128(3);
    const OTHER_CONV: Uuid = Uuid::from_u128(4);
    const ACTIVE: Uuid = Uuid::from_u128(5);
    const INACTIVE: Uuid = Uuid::from_u128(6);
    const STRANGER: Uuid = Uuid::from_u128(7);

    fn token(
        role: Role,
        organization: Option<Uuid>,
        subject: Option<Uuid>,
        conversation: Option<Uuid>,
    ) -> Credential {
        let raw = RawValue::NULL.to_owned().into();
        let expires_at = SystemTime::UNIX_EPOCH;
        Credential::Token(Arc::new(Claims {
            role,
            subject,
            organization,
            conversation,
            expires_at,
            raw,
            fingerprint: Fingerprint::default(),
        }))
    }

    fn agent(organization: Uuid, user: Uuid) -> Credential {
        token(Role::Authenticated, Some(organization), Some(user), None)
    }

    fn visitor(organization: Uuid, conversation: Uuid) -> Credential {
        token(Role::Anon, Some(organization), None, Some(conversation))
    }

    fn check(topic: &Topic, credential: &Credential, expected: Result<Identity, JoinRefusal>) {
        let is_active = |organization, user| match (organization, user) {
            (ORG, ACTIVE) => Some(true),
            (ORG, INACTIVE) => Some(false),
            _ => None,
        };
        assert_eq!(authorize(topic, credential, is_active), expected, "{topic} {credential:?}");
    }

    fn every_channel() -> [Topic; 4] {
        [
            Topic::channel_organization(ORG),
            Topic::channel_conversations(ORG),
            Topic::channel_conversation(ORG, CONV),
            Topic::channel_widget(ORG, CONV),
        ]
    }

    #[test]
    fn active_agents_join_every_channel_of_their_organization() {
        for topic in every_channel() {
            check(&topic, &agent(ORG, ACTIVE), Ok(Identity::Agent { organization: ORG, user: ACTIVE }));
        }
    }

    #[test]
    fn other_users_join_none() {
        for topic in every_channel() {
            check(&topic, &agent(ORG, INACTIVE), Err(JoinRefusal::InactiveAgent));
            check(&topic, &agent(ORG, STRANGER), Err(JoinRefusal::NoAgent));
            check(&topic, &agent(OTHER_ORG, ACTIVE), Err(JoinRefusal::WrongOrganization));
            check(
                &topic,
                &token(Role::Authenticated, Some(ORG), None, Some(CONV)),
                Err(JoinRefusal::NoSubject),
            );
            check(
                &topic,
                &token(Role::Authenticated, None, Some(ACTIVE), None),
                Err(JoinRefusal::WrongOrganization),
            );
        }
        let elsewhere = Topic::channel_conversation(OTHER_ORG, CONV);
        check(&elsewhere, &agent(OTHER_ORG, ACTIVE), Err(JoinRefusal::NoAgent));
    }

    #[test]
    fn visitors_join_the_two_channels_of_their_conversation() {
        let identity = Identity::Visitor { organization: ORG, conversation: CONV };
        let [organization, conversations, conversation, widget] = every_channel();
        for topic in [&conversation, &widget] {
            check(topic, &visitor(ORG, CONV), Ok(identity));
            check(topic, &visitor(ORG, OTHER_CONV), Err(JoinRefusal::WrongConversation));
            check(topic, &visitor(OTHER_ORG, CONV), Err(JoinRefusal::WrongOrganization));
            // Neither an agent's sub nor a missing claim makes a visitor.
            check(
                topic,
                &token(Role::Anon, Some(ORG), Some(ACTIVE), None),
                Err(JoinRefusal::WrongConversation),
            );
        }
        for topic in [&organization, &conversations] {
            check(topic, &visitor(ORG, CONV), Err(JoinRefusal::WrongScope));
        }
    }

    #[test]
    fn keys_prove_no_identity_but_the_services() {
        for topic in every_channel() {
            check(&topic, &Credential::ApiKey(Role::Anon), Err(JoinRefusal::NoClaims));
            check(&topic, &Credential::ApiKey(Role::Authenticated), Err(JoinRefusal::NoClaims));
            check(&topic, &Credential::ApiKey(Role::ServiceRole), Ok(Identity::Service));
            check(&topic, &token(Role::ServiceRole, None, None, None), Ok(Identity::Service));
        }
    }

    #[test]
    fn other_channels_are_not_decided_here() {
        let topic = Topic::parse("room:7").unwrap();
        check(&topic, &Credential::ApiKey(Role::ServiceRole), Err(JoinRefusal::NotOrganization));
    }

    fn identities() -> [Identity; 3] {
        [
            Identity::Agent { organization: ORG, user: ACTIVE },
            Identity::Service,
            Identity::Visitor { organization: ORG, conversation: CONV },
        ]
    }

    #[test]
    fn facts_are_the_relays_alone_to_tell() {
        for identity in identities() {
            for event in [
                "message:created",
                "conversation:",
                "read:receipt",
                "agent:status:online",
                "campfire:x",
                "Message:Created",
                "CAMPFİRE:x",
                "MESSAGE:created",
            ] {
                assert_eq!(may_send(&identity, event), Err(SendRefusal::Reserved), "{event}");
            }
        }
    }

    #[test]
    fn visitors_only_type() {
        let [agent, service, visitor] = identities();
        for event in ["typing:start", "typing:stop"] {
            assert_eq!(may_send(&visitor, event), Ok(()));
        }
        for event in [
            "cursor",
            "messages",
            "message",
            "typing",
            "",
            "x:typing:start",
            "Typing:start",
            "typing:",
            "typing:paused",
            "typing:start:x",
            "typing:start ",
        ] {
            assert_eq!(may_send(&visitor, event), Err(SendRefusal::Visitor), "{event}");
            assert_eq!((may_send(&agent, event), may_send(&service, event)), (Ok(()), Ok(())), "{event}");
        }
    }

    #[test]
    fn senders_are_stamped() {
        let metas = identities().map(|identity| identity.sender_meta());
        assert_eq!(
            metas[0].as_str(),
            r#"{"sender":{"type":"agent","id":"00000000-0000-0000-0000-000000000005"}}"#
        );
        assert_eq!(metas[1].as_str(), r#"{"sender":{"type":"service","id":null}}"#);
        assert_eq!(
            metas[2].as_str(),
            r#"{"sender":{"type":"visitor","id":"00000000-0000-0000-0000-000000000003"}}"#
        );
        let for_visitors = identities().map(|identity| identity.sender_meta_for_visitors());
        assert_eq!(for_visitors[0].as_str(), r#"{"sender":{"type":"agent","id":null}}"#);
        assert_eq!(for_visitors[1..], metas[1..]);
        for meta in metas.iter().chain(&for_visitors) {
            assert!(meta.as_str().len() <= 255, "fits into the header of a binary frame");
        }
    }
}
