//! What proves an identity, and what does not.

use std::time::{Duration, SystemTime};

use jsonwebtoken::EncodingKey;
use serde_json::{Value, json};

use super::*;

const NOW: u64 = 1_790_000_000;
const SECRET: &str = "the identity secret of an organization";
const OLD_SECRET: &str = "the identity secret that it replaces";

fn sign_with(algorithm: Algorithm, secret: &str, claims: &Value) -> String {
    let header = jsonwebtoken::Header::new(algorithm);
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

fn sign(claims: &Value) -> String {
    sign_with(Algorithm::HS256, SECRET, claims)
}

fn read(token: &str) -> Result<Proof, ProofError> {
    let secrets = [SECRET, OLD_SECRET].map(str::to_owned);
    Proof::read(token, &secrets, SystemTime::UNIX_EPOCH + Duration::from_secs(NOW))
}

fn check_claims(claims: &Value, expected: Result<(&str, Option<&str>, Option<&str>), ProofError>) {
    let expected = expected.map(|(subject, name, email)| Proof {
        subject: subject.to_owned(),
        name: name.map(str::to_owned),
        email: email.map(str::to_owned),
    });
    assert_eq!(read(&sign(claims)), expected, "{claims}");
}

#[test]
fn a_genuine_token_proves_who_somebody_is() {
    check_claims(&json!({"sub": "42", "exp": NOW + 1}), Ok(("42", None, None)));
    let all =
        json!({"sub": "ü 1", "exp": NOW + 1, "iat": NOW + 60, "nbf": NOW, "name": " Ada ", "email": ""});
    check_claims(&all, Ok(("ü 1", Some("Ada"), None)));
    check_claims(&json!({"sub": "42", "exp": NOW + 1, "name": null, "iat": null}), Ok(("42", None, None)));
}

#[test]
fn two_secrets_are_valid_while_they_rotate() {
    let claims = json!({"sub": "42", "exp": NOW + 1});
    for secret in [SECRET, OLD_SECRET] {
        assert!(read(&sign_with(Algorithm::HS256, secret, &claims)).is_ok());
    }
    let forged = sign_with(Algorithm::HS256, "the identity secret of another organization", &claims);
    assert_eq!(read(&forged), Err(TokenError::Signature.into()));
    let none = Proof::read(&sign(&claims), &[], SystemTime::UNIX_EPOCH);
    assert_eq!(none, Err(ProofError::NoSecret));
}

#[test]
fn the_token_does_not_choose_how_it_is_checked() {
    let claims = json!({"sub": "42", "exp": NOW + 1});
    for algorithm in [Algorithm::HS384, Algorithm::HS512] {
        assert_eq!(read(&sign_with(algorithm, SECRET, &claims)), Err(ProofError::Algorithm));
    }
    let body = URL_SAFE_NO_PAD.encode(claims.to_string());
    let with_header = |header: &str| format!("{}.{body}.", URL_SAFE_NO_PAD.encode(header));
    for header in [r#"{"alg":"none"}"#, r#"{"alg":"None"}"#, r#"{"alg":"HS256","crit":["b64"]}"#, "{}"] {
        assert_eq!(read(&with_header(header)), Err(TokenError::Signer.into()), "{header}");
    }
    assert_eq!(read(&with_header(r#"{"alg":"RS256"}"#)), Err(ProofError::Algorithm));
    // Nothing where the signature should be.
    assert_eq!(read(&with_header(r#"{"alg":"HS256"}"#)), Err(TokenError::Signature.into()));
    for token in ["", "..", "a.b", "a.b.c", "é.é.é"] {
        assert_eq!(read(token), Err(TokenError::Malformed.into()), "{token}");
    }
}

#[test]
fn times_are_checked() {
    check_claims(&json!({"sub": "42", "exp": NOW}), Err(TokenError::Expired { seconds_ago: 0 }.into()));
    check_claims(&json!({"sub": "42"}), Err(ProofError::ExpiryMissing));
    check_claims(&json!({"sub": "42", "exp": "tomorrow"}), Err(TokenError::ClaimInvalid.into()));
    for name in ["iat", "nbf"] {
        let claims = json!({"sub": "42", "exp": NOW + 900, name: NOW + 61});
        check_claims(&claims, Err(TokenError::NotYetValid { seconds: 61 }.into()));
    }
}

#[test]
fn what_it_says_must_fit() {
    let claims = |name: &str, value: Value| {
        let mut claims = json!({"sub": "42", "exp": NOW + 1});
        claims[name] = value;
        claims
    };
    let long = "x".repeat(SUBJECT_BYTES_MAX + 1);
    for value in [json!(""), json!(42), json!(null), json!(long), json!("a\0b")] {
        check_claims(&claims("sub", value), Err(ProofError::Subject));
    }
    for name in ["name", "email"] {
        for value in [json!(42), json!({}), json!(long), json!("a\0b")] {
            check_claims(&claims(name, value), Err(ProofError::Detail));
        }
    }
}
