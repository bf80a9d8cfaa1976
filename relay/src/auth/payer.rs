//! On whose account a client has the database asked.

use std::net::IpAddr;

use uuid::Uuid;

use super::{Credential, Fingerprint};

/// Somebody who is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Account {
    Organization(Uuid),
    /// The `sub` of a token.
    Subject(Uuid),
    Conversation(Uuid),
    Token(Fingerprint),
    /// Where a client comes from, of IPv6 a /64. None: from this machine, or it is not known.
    Address(Option<IpAddr>),
}

/// Who pays for a question. Accounts take turns, and so do the members of one: a new token, socket or address must not
/// make a second account of somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Payer {
    pub account: Account,
    pub member: Account,
}

impl Credential {
    /// What the application has signed counts first. An API key, or a token without a name, says nothing of who it is
    /// that comes: there the address counts.
    pub fn payer(&self, address: Option<IpAddr>) -> Payer {
        let address = Account::Address(address);
        let Some(claims) = self.claims() else { return Payer { account: address, member: address } };
        let subject = claims.subject.map(Account::Subject);
        let organization = claims.organization.map(Account::Organization);
        Payer {
            account: organization.or(subject).unwrap_or(Account::Token(claims.fingerprint)),
            member: subject.or(claims.conversation.map(Account::Conversation)).unwrap_or(address),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use serde_json::value::RawValue;

    use super::super::{Claims, Role};
    use super::*;

    fn check(names: [Option<u128>; 3], expected: [Account; 2]) {
        let [organization, subject, conversation] = names.map(|name| name.map(Uuid::from_u128));
        let claims = Claims {
            role: Role::Anon,
            subject,
            organization,
            conversation,
            expires_at: SystemTime::UNIX_EPOCH,
            raw: RawValue::NULL.to_owned().into(),
            fingerprint: Fingerprint::default(),
        };
        let Payer { account, member } = Credential::Token(Arc::new(claims)).payer(HERE);
        assert_eq!([account, member], expected, "{names:?}");
    }

    const HERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1)));

    #[test]
    fn what_is_signed_counts_before_where_it_comes_from() {
        let [organization, subject, conversation] = [1, 2, 3].map(Uuid::from_u128);
        let here = Account::Address(HERE);
        let organization = Account::Organization(organization);
        check([Some(1), Some(2), None], [organization, Account::Subject(subject)]);
        check([Some(1), None, Some(3)], [organization, Account::Conversation(conversation)]);
        check([Some(1), None, None], [organization, here]);
        check([None, Some(2), None], [Account::Subject(subject); 2]);
        // The same token for everybody, as where an API key is a token that is not listed.
        check([None, None, None], [Account::Token(Fingerprint::default()), here]);
        let key = Credential::ApiKey(Role::ServiceRole).payer(HERE);
        assert_eq!(key, Payer { account: here, member: here });
    }
}
