//! Publishable keys: what a client connects with before anybody has logged in. They do not expire.

use std::fmt;

use subtle::ConstantTimeEq;

use super::Role;

/// The keys that the configuration names, each with its role.
#[derive(Clone, Default)]
pub struct ApiKeys {
    keys: Vec<(Box<str>, Role)>,
}

/// The list of keys is not understood. Says where, never what: it is a list of secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiKeyError {
    #[error("key {0} of the list is followed by a role other than anon, authenticated and service_role")]
    UnknownRole(usize),
    #[error("key {0} of the list is empty")]
    Empty(usize),
}

impl ApiKeys {
    /// Parses `KEY,KEY=ROLE,…`. A key may be a JWT, which here counts as text and is not verified; its role is anon
    /// unless named. Empty text is no keys.
    pub fn parse(list: &str) -> Result<Self, ApiKeyError> {
        if list.trim().is_empty() {
            return Ok(Self::default());
        }
        let parse = |(index, entry)| Self::parse_entry(index + 1, entry);
        let keys = list.split(',').map(str::trim).enumerate().map(parse).collect::<Result<_, _>>()?;
        Ok(Self { keys })
    }

    fn parse_entry(number: usize, entry: &str) -> Result<(Box<str>, Role), ApiKeyError> {
        let (key, role) = match entry.rsplit_once('=') {
            // Base64 may end in its padding.
            Some((_, "")) | None => (entry, Role::Anon),
            Some((key, role)) => {
                (key.trim_end(), Role::parse(role.trim_start()).ok_or(ApiKeyError::UnknownRole(number))?)
            }
        };
        if key.is_empty() {
            return Err(ApiKeyError::Empty(number));
        }
        Ok((key.into(), role))
    }

    /// The role of a key, if it is one. The time taken tells nothing about how much of a key was right.
    pub fn role(&self, key: &str) -> Option<Role> {
        let mut found = None;
        for (known, role) in &self.keys {
            if bool::from(known.as_bytes().ct_eq(key.as_bytes())) {
                found = Some(*role);
            }
        }
        found
    }

    /// The first key with which anybody may connect.
    pub fn publishable(&self) -> Option<&str> {
        self.keys.iter().find(|(_, role)| *role == Role::Anon).map(|(key, _)| &**key)
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|(_, role)| ("***", role))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(list: &str, key: &str, expected: Option<Role>) {
        assert_eq!(ApiKeys::parse(list).unwrap().role(key), expected, "{key} in {list}");
    }

    #[test]
    fn keys_have_the_role_that_is_named() {
        check("sb_publishable_a", "sb_publishable_a", Some(Role::Anon));
        check("a, b=service_role ,c = authenticated", "b", Some(Role::ServiceRole));
        check("a, b=service_role ,c = authenticated", "c", Some(Role::Authenticated));
        check("YWJj==", "YWJj==", Some(Role::Anon));
        check("YWJj===anon", "YWJj==", Some(Role::Anon));
    }

    #[test]
    fn what_is_told_to_everybody_is_a_key_of_visitors() {
        let publishable = |list| ApiKeys::parse(list).unwrap().publishable().map(str::to_owned);
        assert_eq!(publishable("a=service_role,b,c").as_deref(), Some("b"));
        assert_eq!((publishable("a=service_role"), publishable("")), (None, None));
    }

    #[test]
    fn other_keys_have_none() {
        check("", "", None);
        check("abc", "", None);
        check("abc", "ab", None);
        check("abc", "abcd", None);
        check("abc=anon", "abc=anon", None);
    }

    #[test]
    fn lists_that_make_no_sense_are_refused() {
        assert_eq!(ApiKeys::parse("a,b=admin").unwrap_err(), ApiKeyError::UnknownRole(2));
        assert_eq!(ApiKeys::parse("a,").unwrap_err(), ApiKeyError::Empty(2));
        assert_eq!(ApiKeys::parse("=anon").unwrap_err(), ApiKeyError::Empty(1));
    }

    #[test]
    fn debug_masks_the_keys() {
        let keys = ApiKeys::parse("hunter2=service_role").unwrap();
        assert_eq!(format!("{keys:?}"), r#"[("***", ServiceRole)]"#);
    }
}
