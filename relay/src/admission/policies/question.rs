//! What is asked, and what tells questions apart.

use std::sync::Arc;

use ring::digest::{Context, SHA256};

use crate::auth::{Claims, Credential, Role};

/// All that a policy can see.
#[derive(Clone, Debug)]
pub(super) struct Question {
    /// Without `realtime:`.
    pub(super) topic: String,
    pub(super) credential: Credential,
    /// A JSON object.
    pub(super) headers: Arc<str>,
}

/// A question's SHA-256: what is remembered of one is small, however long it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 32]);

impl Question {
    pub(super) fn role(&self) -> Role {
        self.credential.role()
    }

    pub(super) fn claims(&self) -> Option<&Claims> {
        self.credential.claims()
    }

    pub(super) fn key(&self) -> Key {
        let token = self.claims().map(|claims| claims.fingerprint.to_bytes());
        let parts: [&[u8]; 4] = [
            self.topic.as_bytes(),
            self.role().name().as_bytes(),
            token.as_ref().map_or(&[], |token| token.as_slice()),
            self.headers.as_bytes(),
        ];
        let mut digest = Context::new(&SHA256);
        for part in parts {
            // So that no two questions are one text.
            digest.update(&(part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        Key(*digest.finish().as_ref().first_chunk().expect("SHA-256 has 32 bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_another_question() {
        let key = |topic: &str, role, headers: &str| {
            let credential = Credential::ApiKey(role);
            Question { topic: topic.to_owned(), credential, headers: headers.into() }.key()
        };
        assert_eq!(key("r", Role::Anon, "{}"), key("r", Role::Anon, "{}"));
        for (topic, role, headers) in [
            ("s", Role::Anon, "{}"),
            ("r", Role::ServiceRole, "{}"),
            ("r", Role::Anon, r#"{"x-a":""}"#),
            ("ranon", Role::Anon, "{}"),
            ("r{}", Role::Anon, ""),
        ] {
            assert_ne!(key("r", Role::Anon, "{}"), key(topic, role, headers), "{topic} {role:?} {headers}");
        }
    }
}
