//! The claims of a credential, as gates ask for them.

use campfire_gate::{Bound, Claim, Gate};
use serde_json::value::RawValue;

use super::credential::Credential;
use crate::protocol::json;

impl Credential {
    /// What a gate asks of the claims. An API key has a role and nothing more, as for the policies.
    pub fn bind(&self, gate: &Gate) -> Bound {
        gate.bind(|path| match (self, path) {
            (Self::Token(claims), path) => at_path(&claims.raw, path).map_or(Claim::Null, claim),
            (Self::ApiKey(role), [name]) if name == "role" => Claim::Text(role.name().to_owned()),
            (Self::ApiKey(_), _) => Claim::Null,
        })
    }
}

fn at_path<'a>(claims: &'a RawValue, path: &[String]) -> Option<&'a RawValue> {
    path.iter().try_fold(claims, |claims, name| json::members(claims.get(), [name.as_str()])?[0])
}

fn claim(value: &RawValue) -> Claim {
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'"') => json::string(value).map_or(Claim::Null, Claim::Text),
        Some(b't' | b'f') => Claim::Boolean(text == "true"),
        Some(b'-' | b'0'..=b'9') => Claim::Number(text.to_owned()),
        Some(b'[') => match serde_json::from_str::<Vec<&RawValue>>(text) {
            Ok(members) => Claim::List(members.into_iter().map(claim).collect()),
            Err(_) => Claim::Null,
        },
        Some(b'{') => Claim::Other,
        _ => Claim::Null,
    }
}

#[cfg(test)]
mod tests {
    use campfire_gate::Type;

    use super::*;
    use crate::auth::Role;

    fn check(text: &str, expected: &Claim) {
        let value: &RawValue = serde_json::from_str(text).unwrap();
        assert_eq!(claim(value), *expected, "{text}");
    }

    #[test]
    fn claims_have_the_form_of_the_token() {
        check(r#""a\u0062\n""#, &Claim::Text("ab\n".to_owned()));
        check("-12.50", &Claim::Number("-12.50".to_owned()));
        check("12345678901234567890123", &Claim::Number("12345678901234567890123".to_owned()));
        check("true", &Claim::Boolean(true));
        check("false", &Claim::Boolean(false));
        check("null", &Claim::Null);
        check(r#"{"a": 1}"#, &Claim::Other);
        let list = vec![
            Claim::Number("1".to_owned()),
            Claim::Null,
            Claim::Text("x".to_owned()),
            Claim::List(vec![]),
        ];
        check(r#"[1, null, "x", []]"#, &Claim::List(list));
    }

    #[test]
    fn a_key_has_its_role_alone() {
        let gate = |text: &str| Gate::new(text, |_| Some(Type::Text)).unwrap();
        let (role, sub) = (gate("claims.role = 'anon'"), gate("claims.sub is null"));
        let key = Credential::ApiKey(Role::Anon);
        let passes = |gate: &Gate| gate.passes(&gate.read(std::iter::empty()).unwrap(), &key.bind(gate));
        assert!(passes(&role) && passes(&sub));
        assert!(!passes(&gate("claims.role = 'authenticated'")));
    }
}
