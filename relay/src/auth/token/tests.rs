use jsonwebtoken::EncodingKey;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const SECRET: &[u8] = b"a secret of at least thirty-two bytes";
const NOW: u64 = 1_790_000_000;
const ORG: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

fn sign_with(algorithm: Algorithm, secret: &[u8], claims: &Value) -> String {
    jsonwebtoken::encode(&jsonwebtoken::Header::new(algorithm), claims, &EncodingKey::from_secret(secret))
        .unwrap()
}

fn sign(claims: &Value) -> String {
    sign_with(Algorithm::HS256, SECRET, claims)
}

fn verify(token: &str) -> Result<Claims, TokenError> {
    Keys::from_secrets([SECRET]).verify(token, &ClaimPaths::default(), now())
}

fn check_refused(token: &str, expected: TokenError) {
    assert_eq!(verify(token).unwrap_err(), expected, "{token}");
}

fn check_claims_refused(claims: &Value, expected: TokenError) {
    assert_eq!(verify(&sign(claims)).unwrap_err(), expected, "{claims}");
}

#[test]
fn valid_tokens_are_read() {
    let claims = json!({"role": "authenticated", "exp": NOW + 60, "iat": NOW, "sub": ORG, "org_id": ORG.to_uppercase()});
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        let read = verify(&sign_with(algorithm, SECRET, &claims)).unwrap();
        let org = Uuid::parse_str(ORG).ok();
        assert_eq!((read.role, read.subject, read.organization), (Role::Authenticated, org, org));
        assert_eq!((read.conversation, read.expires_at), (None, UNIX_EPOCH + Duration::from_secs(NOW + 60)));
        assert_eq!(serde_json::from_str::<Value>(read.raw.get()).unwrap(), claims);
    }
}

#[test]
fn tokens_may_have_been_mangled_on_their_way() {
    let token = sign(&json!({"role": "anon", "exp": NOW + 1}));
    for token in [format!(" {token}\n"), token.replace('.', "%2E"), token.replace('.', " .\r\n")] {
        assert!(verify(&token).is_ok(), "{token:?}");
    }
}

#[test]
fn what_is_no_token_is_malformed() {
    for token in ["", "a", "a.b", "a.b.c", "a.b.c.d", "..", "sb_publishable_x", "e30.e30.!", "%zz.%.%ff"] {
        let error = verify(token).unwrap_err();
        assert!(matches!(error, TokenError::Malformed | TokenError::Signer), "{token}: {error}");
    }
    check_refused("sb_publishable_x", TokenError::Malformed);
    check_refused("garbage", TokenError::Malformed);
    check_refused("a.b.c", TokenError::Malformed);
}

#[test]
fn forged_tokens_are_refused() {
    let claims = json!({"role": "anon", "exp": NOW + 60});
    check_refused(&sign_with(Algorithm::HS256, b"another secret", &claims), TokenError::Signature);
    let token = sign(&claims);
    let (head, signature) = token.rsplit_once('.').unwrap();
    let (header, _) = head.split_once('.').unwrap();
    let promoted = URL_SAFE_NO_PAD.encode(json!({"role": "service_role", "exp": NOW + 60}).to_string());
    check_refused(&format!("{header}.{promoted}.{signature}"), TokenError::Signature);
    check_refused(&format!("{head}."), TokenError::Signature);
    // HS512 over the same bytes has another signature; the header cannot be swapped.
    let other_header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS512"}"#);
    check_refused(&token.replacen(header, &other_header, 1), TokenError::Signature);
}

#[test]
fn algorithms_without_a_key_are_refused() {
    let claims = URL_SAFE_NO_PAD.encode(json!({"role": "service_role", "exp": NOW + 60}).to_string());
    for header in [
        r#"{"alg":"none"}"#,
        r#"{"alg":"None"}"#,
        r#"{"alg":""}"#,
        r#"{"typ":"JWT"}"#,
        r#"{"alg":null}"#,
        r#"{"alg":"PS256","kid":"k"}"#,
        r#"{"alg":"RS256"}"#,
        r#"{"alg":"EdDSA"}"#,
        r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
    ] {
        let header = URL_SAFE_NO_PAD.encode(header);
        check_refused(&format!("{header}.{claims}."), TokenError::Signer);
    }
}

#[test]
fn a_secret_that_was_replaced_still_verifies_while_it_is_named() {
    let token = sign(&json!({"role": "anon", "exp": NOW + 60}));
    let verify = |secrets: &[&[u8]]| {
        let keys = Keys::from_secrets(secrets.iter().copied());
        keys.verify(&token, &ClaimPaths::default(), now()).map(|claims| claims.role)
    };
    assert_eq!(verify(&[b"new", SECRET]), Ok(Role::Anon));
    assert_eq!(verify(&[b"new"]), Err(TokenError::Signature));
    assert_eq!(verify(&[]), Err(TokenError::Signer));
}

// An Ed25519 key pair of this test alone, PKCS #8 and JWK.
const ED_PRIVATE: &str = "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g";
const ED_PUBLIC: &str =
    r#"{"kty":"OKP","crv":"Ed25519","kid":"ed","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

fn sign_ed(kid: Option<&str>, claims: &Value) -> String {
    let der = base64::engine::general_purpose::STANDARD.decode(ED_PRIVATE).unwrap();
    let header =
        jsonwebtoken::Header { kid: kid.map(str::to_owned), ..jsonwebtoken::Header::new(Algorithm::EdDSA) };
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_ed_der(&der)).unwrap()
}

#[test]
fn published_keys_are_picked_by_their_id_and_come_and_go() {
    let keys = Keys::from_secrets([SECRET]);
    let verify = |token: &str| keys.verify(token, &ClaimPaths::default(), now()).map(|claims| claims.role);
    let claims = json!({"role": "authenticated", "exp": NOW + 60});
    let token = sign_ed(Some("ed"), &claims);
    assert_eq!(verify(&token), Err(TokenError::UnknownKey("ed".into())));
    keys.clone().publish(KeySet::parse(&format!(r#"{{"keys":[{ED_PUBLIC}]}}"#)).unwrap());
    assert_eq!(verify(&token), Ok(Role::Authenticated));
    assert_eq!(verify(&sign_ed(None, &claims)), Err(TokenError::Signer), "a key must be named");
    assert_eq!(verify(&sign_ed(Some("other"), &claims)), Err(TokenError::UnknownKey("other".into())));
    assert_eq!(verify(&sign(&claims)), Ok(Role::Authenticated), "the secret still holds");
    // A secret may be published too; it wins over ours under its id, and verifies nothing else.
    let oct = URL_SAFE_NO_PAD.encode(b"a published secret of 32 bytes ok");
    let set = format!(r#"{{"keys":[{{"kty":"oct","kid":"s","k":"{oct}"}}]}}"#);
    keys.publish(KeySet::parse(&set).unwrap());
    let header = jsonwebtoken::Header { kid: Some("s".into()), ..jsonwebtoken::Header::default() };
    let signed =
        |secret: &[u8]| jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(secret)).unwrap();
    assert_eq!(verify(&signed(b"a published secret of 32 bytes ok")), Ok(Role::Authenticated));
    assert_eq!(verify(&signed(SECRET)), Err(TokenError::Signature));
    assert!(verify(&token).is_err(), "taken back");
}

#[test]
fn a_public_key_is_no_secret() {
    // The classic confusion: sign with the public key's bytes as an HMAC secret.
    let keys = Keys::default();
    keys.publish(KeySet::parse(&format!(r#"{{"keys":[{ED_PUBLIC}]}}"#)).unwrap());
    let public = URL_SAFE_NO_PAD.decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo").unwrap();
    let header = jsonwebtoken::Header { kid: Some("ed".into()), ..jsonwebtoken::Header::default() };
    let claims = json!({"role": "service_role", "exp": NOW + 60});
    let token = jsonwebtoken::encode(&header, &claims, &EncodingKey::from_secret(&public)).unwrap();
    assert_eq!(keys.verify(&token, &ClaimPaths::default(), now()).unwrap_err(), TokenError::Signer);
}

#[test]
fn tokens_expire_at_the_second_they_name() {
    let expired = |seconds_ago| TokenError::Expired { seconds_ago };
    check_claims_refused(&json!({"role": "anon", "exp": NOW}), expired(0));
    check_claims_refused(&json!({"role": "anon", "exp": NOW - 7}), expired(7));
    check_claims_refused(&json!({"role": "anon", "exp": NOW as f64 - 6.6}), expired(7));
    check_claims_refused(&json!({"role": "anon", "exp": -1e300}), expired(NOW));
    check_claims_refused(&json!({"exp": NOW - 1}), expired(1));
    for exp in [json!(NOW + 1), json!(NOW as f64 + 0.5), json!(1e300)] {
        assert!(verify(&sign(&json!({"role": "anon", "exp": exp}))).is_ok(), "{exp}");
    }
    let claims = verify(&sign(&json!({"role": "anon", "exp": NOW + 1}))).unwrap();
    assert_eq!(claims.check_expiry(now()), Ok(()));
    assert_eq!(claims.check_expiry(now() + Duration::from_millis(3900)), Err(expired(2)));
}

#[test]
fn tokens_are_not_valid_before_their_time_but_for_clocks_that_disagree() {
    let token = |nbf: Value| sign(&json!({"role": "anon", "exp": NOW + 600, "nbf": nbf}));
    let leeway = NOT_BEFORE_LEEWAY.as_secs();
    for nbf in [
        json!(NOW - 1),
        json!(NOW),
        json!(NOW + leeway),
        json!(NOW as f64 + 59.7),
        json!(-1e300),
        json!(null),
    ] {
        assert!(verify(&token(nbf.clone())).is_ok(), "{nbf}");
    }
    for (nbf, seconds) in [
        (json!(NOW + leeway + 1), leeway + 1),
        (json!(NOW as f64 + 60.7), 61),
        (json!(NOW + 300), 300),
        (json!(1e300), EXPIRY_MAX as u64 - NOW),
    ] {
        check_refused(&token(nbf), TokenError::NotYetValid { seconds });
    }
    for nbf in [json!("1"), json!([1]), json!(true)] {
        check_refused(&token(nbf), TokenError::ClaimInvalid);
    }
    // What has expired says so, whatever else it lacks.
    check_claims_refused(
        &json!({"role": "anon", "exp": NOW - 7, "nbf": NOW + 600}),
        TokenError::Expired { seconds_ago: 7 },
    );
    check_claims_refused(
        &json!({"exp": NOW + 600, "nbf": NOW + 600}),
        TokenError::NotYetValid { seconds: 600 },
    );
}

#[test]
fn payloads_that_are_not_what_they_look_like_are_refused() {
    let claims = URL_SAFE_NO_PAD.encode(json!({"role": "anon", "exp": NOW + 60}).to_string());
    let signed = |header: &str| {
        let message = format!("{}.{claims}", URL_SAFE_NO_PAD.encode(header));
        let key = EncodingKey::from_secret(SECRET);
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
        format!("{message}.{signature}")
    };
    for header in
        [r#"{"alg":"HS256"}"#, r#"{"alg":"HS256","b64":true}"#, r#"{"typ":"JWT","alg":"HS256","x":1}"#]
    {
        assert!(verify(&signed(header)).is_ok(), "{header}");
    }
    for header in [
        r#"{"alg":"HS256","b64":false}"#,
        r#"{"alg":"HS256","b64":false,"crit":["b64"]}"#,
        r#"{"alg":"HS256","b64":true,"b64":false}"#,
        r#"{"alg":"HS256","b64":null}"#,
        r#"{"alg":"HS256","b64":"false"}"#,
        r#"{"alg":"HS256","b64":0}"#,
        r#"{"alg":"HS256","b\u00364":false}"#,
        r#"{"alg":"HS256","crit":["b64"],"b64":true}"#,
        r#"{"alg":"HS256","crit":["exp"]}"#,
        r#"{"alg":"HS256","crit":[]}"#,
        r#"{"alg":"HS256","crit":null}"#,
    ] {
        check_refused(&signed(header), TokenError::Signer);
    }
}

// A P-256 key pair of this test alone, PKCS #8 and JWK.
const EC_PRIVATE: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgp4GkXVwdn99cEwaKpFnphGAtdfD9HqtF6Gf3cyhDeJqhRANCAAQh0uUcvjvfevzy3gqrgbqMe8rzg4NbK5DZm7Wf4VsXPGMOXMJ2JvI52OKdbT/RAAO8j68zMBhFwKIu6i+aqRPw";
const EC_PUBLIC: &str = r#"{"kty":"EC","crv":"P-256","kid":"ec","x":"IdLlHL4733r88t4Kq4G6jHvK84ODWyuQ2Zu1n-FbFzw","y":"Yw5cwnYm8jnY4p1tP9EAA7yPrzMwGEXAoi7qL5qpE_A"}"#;
/// The order of its group.
const EC_ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";

/// The signature (r, n - s), which verifies wherever (r, s) does.
fn twin(token: &str) -> String {
    let (message, signature) = token.rsplit_once('.').unwrap();
    let mut signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let order = (0..32).map(|index| u8::from_str_radix(&EC_ORDER[2 * index..2 * index + 2], 16).unwrap());
    let mut borrow = 0;
    for (index, digit) in order.enumerate().collect::<Vec<_>>().into_iter().rev() {
        let difference = i16::from(digit) - i16::from(signature[32 + index]) - borrow;
        borrow = i16::from(difference < 0);
        signature[32 + index] = difference.rem_euclid(256) as u8;
    }
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn the_two_forms_of_a_signature_are_one_token() {
    let keys = Keys::default();
    keys.publish(KeySet::parse(&format!(r#"{{"keys":[{EC_PUBLIC}]}}"#)).unwrap());
    let der = base64::engine::general_purpose::STANDARD.decode(EC_PRIVATE).unwrap();
    let header =
        jsonwebtoken::Header { kid: Some("ec".into()), ..jsonwebtoken::Header::new(Algorithm::ES256) };
    let sign =
        |claims: &Value| jsonwebtoken::encode(&header, claims, &EncodingKey::from_ec_der(&der)).unwrap();
    let fingerprint = |token: &str| keys.verify(token, &ClaimPaths::default(), now()).unwrap().fingerprint;
    let token = sign(&json!({"role": "anon", "exp": NOW + 60}));
    assert_ne!(token, twin(&token));
    assert_eq!(twin(&twin(&token)), token);
    assert_eq!(fingerprint(&token), fingerprint(&twin(&token)));
    assert_ne!(fingerprint(&token), fingerprint(&sign(&json!({"role": "anon", "exp": NOW + 61}))));
}

#[test]
fn role_and_exp_are_required() {
    for claims in
        [json!({"exp": NOW + 1}), json!({"role": "anon"}), json!({"role": null, "exp": NOW + 1}), json!({})]
    {
        check_claims_refused(&claims, TokenError::ClaimsMissing);
    }
}

#[test]
fn claims_of_unexpected_types_are_refused() {
    for claims in [
        json!([]),
        json!("x"),
        json!({"role": "anon", "exp": "1"}),
        json!({"role": "anon", "exp": NOW + 1, "iat": "now"}),
    ] {
        check_claims_refused(&claims, TokenError::ClaimInvalid);
    }
}

#[test]
fn only_three_roles_exist() {
    for role in [json!("postgres"), json!("ANON"), json!(""), json!(7), json!(["anon"])] {
        check_claims_refused(&json!({"role": role, "exp": NOW + 1}), TokenError::RoleNotAllowed);
    }
}

#[test]
fn claims_are_found_at_their_paths() {
    let paths = ClaimPaths { organization: "app_metadata.org".into(), conversation: "c".into() };
    let read = |claims: &Value| {
        Keys::from_secrets([SECRET]).verify(&sign(claims), &paths, now()).unwrap().organization
    };
    let claims =
        |metadata: Value| json!({"role": "anon", "exp": NOW + 1, "org": ORG, "app_metadata": metadata});
    assert_eq!(read(&claims(json!({"org": ORG}))), Uuid::parse_str(ORG).ok());
    for metadata in
        [json!({}), json!(null), json!([ORG]), json!({"org": 7}), json!({"org": format!("{{{ORG}}}")})]
    {
        assert_eq!(read(&claims(metadata)), None);
    }
}

#[test]
fn debug_tells_no_secrets() {
    assert_eq!(
        format!("{:?}", Keys::from_secrets([b"hunter2".as_slice()])),
        r#"Keys { secrets: ["***"], .. }"#
    );
    let claims = verify(&sign(&json!({"role": "anon", "exp": NOW + 1, "email": "hunter2"}))).unwrap();
    assert!(!format!("{claims:?}").contains("hunter2"));
}

proptest! {
    #[test]
    fn no_text_panics(token in "\\PC{0,40}|[A-Za-z0-9_.%-]{0,80}") {
        let _ = verify(&token);
    }

    #[test]
    fn no_signed_claims_panic(claims in "\\PC{0,40}|\\{\"exp\":[-0-9.e]{1,12},\"role\":\"anon\"\\}") {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#), URL_SAFE_NO_PAD.encode(claims));
        let key = EncodingKey::from_secret(SECRET);
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
        let _ = verify(&format!("{message}.{signature}"));
    }
}
