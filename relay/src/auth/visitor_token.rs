//! Tokens of visitors, which the relay signs itself: each is bound to one conversation.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::Role;
use super::token::ClaimPaths;

/// Signs them, by HS256.
pub struct VisitorTokens {
    key: EncodingKey,
    lifetime: Duration,
}

/// A visitor's token, and when it expires.
#[derive(Clone, PartialEq, Eq)]
pub struct VisitorToken {
    pub text: String,
    pub expires_at: SystemTime,
}

impl VisitorTokens {
    pub fn new(secret: &[u8], lifetime: Duration) -> Self {
        Self { key: EncodingKey::from_secret(secret), lifetime }
    }

    /// A token for the visitor of a conversation.
    pub fn mint(
        &self,
        paths: &ClaimPaths,
        organization: Uuid,
        conversation: Uuid,
        now: SystemTime,
    ) -> VisitorToken {
        let second = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let expires_at = UNIX_EPOCH + Duration::from_secs(second(now)) + self.lifetime;
        let mut claims = Map::new();
        put(&mut claims, &paths.organization, json!(organization));
        put(&mut claims, &paths.conversation, json!(conversation));
        claims.insert("role".to_owned(), json!(Role::Anon.name()));
        claims.insert("iat".to_owned(), json!(second(now)));
        claims.insert("exp".to_owned(), json!(second(expires_at)));
        let text = jsonwebtoken::encode(&Header::default(), &claims, &self.key)
            .expect("claims of texts and numbers are JSON, and any secret signs");
        VisitorToken { text, expires_at }
    }
}

/// Puts a claim where the path says.
fn put(claims: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => drop(claims.insert(path.to_owned(), value)),
        Some((name, rest)) => {
            let inner = claims.entry(name).or_insert_with(|| json!({}));
            if let Some(inner) = inner.as_object_mut() {
                put(inner, rest, value);
            }
        }
    }
}

impl fmt::Debug for VisitorTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VisitorTokens").field("lifetime", &self.lifetime).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Keys, TokenError};
    use super::*;

    const SECRET: &[u8] = b"a secret of at least thirty-two bytes";
    const ORG: Uuid = Uuid::from_u128(1);
    const CONV: Uuid = Uuid::from_u128(2);

    #[test]
    fn a_token_says_whose_it_is_where_the_database_looks() {
        let now = UNIX_EPOCH + Duration::from_millis(1_790_000_000_900);
        let tokens = VisitorTokens::new(SECRET, Duration::from_secs(60));
        for (organization, conversation) in
            [("org_id", "conversation_id"), ("app_metadata.org", "app_metadata.chat.conv"), ("a.b", "c")]
        {
            let paths =
                ClaimPaths { organization: organization.to_owned(), conversation: conversation.to_owned() };
            let token = tokens.mint(&paths, ORG, CONV, now);
            let claims = Keys::from_secrets([SECRET]).verify(&token.text, &paths, now).unwrap();
            assert_eq!((claims.organization, claims.conversation), (Some(ORG), Some(CONV)), "{paths:?}");
            assert_eq!((claims.role, claims.subject), (Role::Anon, None));
            assert_eq!(claims.expires_at, UNIX_EPOCH + Duration::from_secs(1_790_000_060));
            assert_eq!(claims.expires_at, token.expires_at);
        }
    }

    #[test]
    fn it_can_be_shown_some_time_after_its_end_to_get_another() {
        let (now, paths) = (UNIX_EPOCH + Duration::from_secs(1_790_000_000), ClaimPaths::default());
        let token = VisitorTokens::new(SECRET, Duration::from_secs(60)).mint(&paths, ORG, CONV, now);
        let keys = Keys::from_secrets([SECRET]);
        let late = |seconds: u64| {
            let later = now + Duration::from_secs(60 + seconds);
            keys.verify_late(&token.text, &paths, later, Duration::from_secs(10))
                .map(|claims| claims.conversation)
        };
        assert_eq!((late(0), late(9)), (Ok(Some(CONV)), Ok(Some(CONV))));
        assert_eq!(late(10), Err(TokenError::Expired { seconds_ago: 0 }));
        let other = Keys::from_secrets([&b"another secret of thirty-two bytes"[..]]);
        let forged = other.verify_late(&token.text, &paths, now, Duration::from_secs(10));
        assert_eq!(forged.map(|_| ()), Err(TokenError::Signature));
    }
}
