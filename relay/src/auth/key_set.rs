//! Keys that somebody else publishes (a JWKS, RFC 7517), picked by the `kid` of a token.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

/// The keys of one JWKS that verify signatures.
#[derive(Clone, Default)]
pub struct KeySet {
    keys: Vec<Key>,
}

#[derive(Clone)]
struct Key {
    kid: String,
    family: AlgorithmFamily,
    /// What the key says that it is for; None: any algorithm of its family.
    algorithm: Option<String>,
    key: DecodingKey,
}

/// The text is no JWKS. Says what, and quotes nothing: a set may hold secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    #[error("it is not a JSON object with an array `keys`")]
    NotASet,
    #[error("it has no key with a `kid` that verifies HS, RS, ES or EdDSA signatures")]
    NoUsableKey,
    #[error(
        "a key of kind oct has fewer than {SECRET_BYTES_MIN} bytes, the least for HS256 (RFC 7518, section 3.2): publish a longer one"
    )]
    ShortSecret,
}

/// Shortest secret that may verify signatures.
pub const SECRET_BYTES_MIN: usize = 32;

#[derive(Deserialize)]
struct Published {
    keys: Vec<Value>,
}

impl KeySet {
    /// Reads a JWKS. Keys of kinds that are not known, or for encryption, are passed over: a set may have them beside
    /// others.
    pub fn parse(text: &str) -> Result<Self, KeySetError> {
        let published: Published = serde_json::from_str(text).map_err(|_| KeySetError::NotASet)?;
        let keys: Vec<Key> = published.keys.into_iter().filter_map(Key::read).collect::<Result<_, _>>()?;
        if keys.is_empty() { Err(KeySetError::NoUsableKey) } else { Ok(Self { keys }) }
    }

    /// The key of this id that fits an algorithm.
    pub(super) fn find(&self, kid: &str, algorithm: Algorithm) -> Option<&DecodingKey> {
        let name = format!("{algorithm:?}");
        let fits = |key: &&Key| {
            key.kid == kid
                && key.family.algorithms().contains(&algorithm)
                && key.algorithm.as_ref().is_none_or(|only| *only == name)
        };
        self.keys.iter().find(fits).map(|key| &key.key)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl Key {
    /// None: passed over.
    fn read(published: Value) -> Option<Result<Self, KeySetError>> {
        // Not by the crate's own type, which knows no name but EdDSA for Ed25519.
        let algorithm = match published.get("alg").and_then(Value::as_str) {
            Some("Ed25519") => Some("EdDSA".to_owned()),
            algorithm => algorithm.map(str::to_owned),
        };
        let mut published = published;
        published.as_object_mut()?.remove("alg");
        let jwk: Jwk = serde_json::from_value(published).ok()?;
        if matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption)) {
            return None;
        }
        let family = match jwk.algorithm {
            AlgorithmParameters::OctetKey(_) => AlgorithmFamily::Hmac,
            AlgorithmParameters::RSA(_) => AlgorithmFamily::Rsa,
            AlgorithmParameters::EllipticCurve(_) => AlgorithmFamily::Ec,
            AlgorithmParameters::OctetKeyPair(_) => AlgorithmFamily::Ed,
            _ => return None,
        };
        let key = DecodingKey::from_jwk(&jwk).ok()?;
        let kid = jwk.common.key_id?;
        if let AlgorithmParameters::OctetKey(secret) = &jwk.algorithm
            && URL_SAFE_NO_PAD.decode(&secret.value).is_ok_and(|secret| secret.len() < SECRET_BYTES_MIN)
        {
            return Some(Err(KeySetError::ShortSecret));
        }
        Some(Ok(Self { kid, family, algorithm, key }))
    }
}

impl fmt::Debug for KeySet {
    /// Ids only: keys of kind oct are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.kid)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = r#"{"kty":"oct","kid":"s","k":"aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMmh1bnRlcjI"}"#;
    const ED: &str = r#"{"kty":"OKP","crv":"Ed25519","kid":"e","alg":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

    fn check(keys: &[&str], expected: Result<usize, KeySetError>) {
        let set = KeySet::parse(&format!(r#"{{"keys":[{}]}}"#, keys.join(",")));
        assert_eq!(set.map(|set| set.len()), expected);
    }

    #[test]
    fn what_cannot_verify_is_passed_over() {
        check(&[SECRET, ED], Ok(2));
        let encrypts = SECRET.replace("\"oct\"", r#""oct","use":"enc""#);
        let nameless = SECRET.replace(r#""kid":"s","#, "");
        check(&[SECRET, &encrypts, &nameless, r#"{"kty":"new"}"#, "{}", "7"], Ok(1));
        check(&[&encrypts], Err(KeySetError::NoUsableKey));
        check(&[], Err(KeySetError::NoUsableKey));
        let short = r#"{"kty":"oct","kid":"s","k":"aHVudGVyMg"}"#;
        check(&[ED, short], Err(KeySetError::ShortSecret));
        check(&[ED, &short.replace("\"oct\"", r#""oct","use":"enc""#)], Ok(1));
        for text in ["", "[]", "{}", r#"{"keys":{}}"#] {
            assert_eq!(KeySet::parse(text).unwrap_err(), KeySetError::NotASet);
        }
    }

    #[test]
    fn a_key_is_used_for_its_own_kind_alone() {
        let set = KeySet::parse(&format!(r#"{{"keys":[{SECRET},{ED}]}}"#)).unwrap();
        assert!(set.find("s", Algorithm::HS256).is_some() && set.find("s", Algorithm::HS512).is_some());
        assert!(set.find("e", Algorithm::EdDSA).is_some());
        for (kid, algorithm) in [("s", Algorithm::RS256), ("e", Algorithm::HS256), ("x", Algorithm::EdDSA)] {
            assert!(set.find(kid, algorithm).is_none(), "{kid}");
        }
        let bound =
            KeySet::parse(&format!(r#"{{"keys":[{}]}}"#, SECRET.replace("\"k\"", r#""alg":"HS256","k""#)));
        assert!(bound.unwrap().find("s", Algorithm::HS512).is_none());
    }

    #[test]
    fn debug_tells_no_secrets() {
        let set = KeySet::parse(&format!(r#"{{"keys":[{SECRET}]}}"#)).unwrap();
        assert_eq!(format!("{set:?}"), r#"["s"]"#);
    }
}
