//! JSON web tokens: signature, expiry, and the claims that decide.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use percent_encoding::percent_decode_str;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::Role;
use crate::protocol::{Reason, json};
use crate::route::parse_uuid;

/// Tokens never live longer than to the end of the year 9999: what is beyond only invites overflow.
const EXPIRY_MAX: f64 = 253_402_300_799.0;

/// The keys that verify tokens.
#[derive(Clone)]
pub struct Keys {
    secret: DecodingKey,
}

/// Where tokens keep what campfire looks for: names of members, the inner ones behind dots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimPaths {
    pub organization: String,
    pub conversation: String,
}

impl Default for ClaimPaths {
    fn default() -> Self {
        Self { organization: "org_id".to_owned(), conversation: "conversation_id".to_owned() }
    }
}

/// What a valid token says.
#[derive(Clone)]
pub struct Claims {
    pub role: Role,
    /// `sub`, if it is a uuid.
    pub subject: Option<Uuid>,
    pub organization: Option<Uuid>,
    pub conversation: Option<Uuid>,
    /// The token is not valid at this moment any more, nor after.
    pub expires_at: SystemTime,
    /// All claims as they were signed, for the database's policies.
    pub raw: Arc<RawValue>,
}

/// A token that is not accepted. Displays as the reference's texts, as `system` messages have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("The token provided is not a valid JWT")]
    Malformed,
    #[error("Failed to generate JWT signer, check your JWT secret or JWKS configuration")]
    Signer,
    #[error("Failed to validate JWT signature")]
    Signature,
    #[error("Token has expired {seconds_ago} seconds ago")]
    Expired { seconds_ago: u64 },
    #[error("Fields `role` and `exp` are required in JWT")]
    ClaimsMissing,
    /// Claims that are no object, `exp` or `iat` that are no number.
    #[error("Claims of the JWT have unexpected types")]
    ClaimInvalid,
    #[error("Role not allowed")]
    RoleNotAllowed,
}

impl From<TokenError> for Reason {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Malformed => Self::MalformedToken,
            TokenError::Signer => Self::TokenSigner,
            TokenError::Signature => Self::TokenSignature,
            TokenError::Expired { seconds_ago } => Self::TokenExpired { seconds_ago },
            TokenError::ClaimsMissing => Self::ClaimsMissing,
            TokenError::ClaimInvalid => Self::ClaimInvalid,
            TokenError::RoleNotAllowed => Self::RoleNotAllowed,
        }
    }
}

impl Keys {
    /// One secret for HS256, HS384 and HS512. An empty one would let anybody sign: the configuration refuses it.
    pub fn from_secret(secret: &[u8]) -> Self {
        Self { secret: DecodingKey::from_secret(secret) }
    }

    /// Checks a token and reads its claims. There is no leeway: a token is expired at the second it names.
    pub fn verify(&self, token: &str, paths: &ClaimPaths, now: SystemTime) -> Result<Claims, TokenError> {
        let token = cleaned(token);
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(TokenError::Malformed)?;
        let algorithm = algorithm(header)?;
        let key = self.key(algorithm)?;
        match jsonwebtoken::crypto::verify(signature, message.as_bytes(), key, algorithm) {
            Ok(true) => {}
            Ok(false) => return Err(TokenError::Signature),
            Err(_) => return Err(TokenError::Malformed),
        }
        let claims = URL_SAFE_NO_PAD.decode(claims).map_err(|_| TokenError::Malformed)?;
        let claims = serde_json::from_slice::<Box<RawValue>>(&claims).map_err(|_| TokenError::Malformed)?;
        Claims::read(claims, paths, now)
    }

    fn key(&self, algorithm: Algorithm) -> Result<&DecodingKey, TokenError> {
        match algorithm {
            Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => Ok(&self.secret),
            _ => Err(TokenError::Signer),
        }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("secret", &"***").finish()
    }
}

impl Claims {
    /// In the reference's order: what has expired says so even if it lacks a role.
    fn read(raw: Box<RawValue>, paths: &ClaimPaths, now: SystemTime) -> Result<Self, TokenError> {
        let [role, exp, iat, sub] =
            json::members(raw.get(), ["role", "exp", "iat", "sub"]).ok_or(TokenError::ClaimInvalid)?;
        let [role, exp, iat] = [role, exp, iat].map(|claim| claim.filter(|claim| !json::is_null(claim)));
        let number =
            |claim: &RawValue| serde_json::from_str::<f64>(claim.get()).map_err(|_| TokenError::ClaimInvalid);
        iat.map(number).transpose()?;
        let expires_at = exp.map(number).transpose()?.map(expiry);
        if let Some(expires_at) = expires_at {
            check_expiry(expires_at, now)?;
        }
        let (Some(role), Some(expires_at)) = (role, expires_at) else {
            return Err(TokenError::ClaimsMissing);
        };
        let role = json::string(role).as_deref().and_then(Role::parse).ok_or(TokenError::RoleNotAllowed)?;
        Ok(Self {
            role,
            subject: sub.and_then(uuid),
            organization: at_path(&raw, &paths.organization).and_then(uuid),
            conversation: at_path(&raw, &paths.conversation).and_then(uuid),
            expires_at,
            raw: raw.into(),
        })
    }

    /// Whether the token is still valid.
    pub fn check_expiry(&self, now: SystemTime) -> Result<(), TokenError> {
        check_expiry(self.expires_at, now)
    }
}

impl fmt::Debug for Claims {
    /// Without `raw`: it may hold names and addresses.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claims")
            .field("role", &self.role)
            .field("subject", &self.subject)
            .field("organization", &self.organization)
            .field("conversation", &self.conversation)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// Tokens arrive percent-encoded once too often, and with line breaks from being copied.
fn cleaned(token: &str) -> Cow<'_, str> {
    let token = percent_decode_str(token).decode_utf8().unwrap_or(Cow::Borrowed(token));
    if token.contains(char::is_whitespace) {
        return Cow::Owned(token.split_whitespace().collect());
    }
    token
}

fn algorithm(header: &str) -> Result<Algorithm, TokenError> {
    let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| TokenError::Malformed)?;
    let header = str::from_utf8(&header).map_err(|_| TokenError::Malformed)?;
    let [algorithm, critical] = json::members(header, ["alg", "crit"]).ok_or(TokenError::Malformed)?;
    // RFC 7515: whoever does not understand an extension that is marked critical must refuse the token. We know none.
    if critical.is_some() {
        return Err(TokenError::Signer);
    }
    let algorithm = algorithm.and_then(json::string).ok_or(TokenError::Signer)?;
    algorithm.parse().map_err(|_| TokenError::Signer)
}

/// Fractions of a second are rounded, as the reference does.
fn expiry(seconds: f64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs_f64(seconds.round().clamp(0.0, EXPIRY_MAX))
}

fn check_expiry(expires_at: SystemTime, now: SystemTime) -> Result<(), TokenError> {
    match now.duration_since(expires_at) {
        Ok(passed) => Err(TokenError::Expired { seconds_ago: passed.as_secs() }),
        Err(_) => Ok(()),
    }
}

fn at_path<'a>(claims: &'a RawValue, path: &str) -> Option<&'a RawValue> {
    path.split('.').try_fold(claims, |claims, name| json::members(claims.get(), [name])?[0])
}

/// As `campfire.uuid_or_null` has it: the database and the relay must agree on who somebody is.
fn uuid(claim: &RawValue) -> Option<Uuid> {
    json::string(claim).as_deref().and_then(parse_uuid)
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header};
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
        jsonwebtoken::encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret)).unwrap()
    }

    fn sign(claims: &Value) -> String {
        sign_with(Algorithm::HS256, SECRET, claims)
    }

    fn verify(token: &str) -> Result<Claims, TokenError> {
        Keys::from_secret(SECRET).verify(token, &ClaimPaths::default(), now())
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
            assert_eq!(
                (read.conversation, read.expires_at),
                (None, UNIX_EPOCH + Duration::from_secs(NOW + 60))
            );
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
        for token in ["", "a", "a.b", "a.b.c", "a.b.c.d", "..", "sb_publishable_x", "e30.e30.!", "%zz.%.%ff"]
        {
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
            r#"{"alg":"RS256","kid":"k"}"#,
            r#"{"alg":"EdDSA"}"#,
            r#"{"alg":"HS256","crit":["b64"],"b64":false}"#,
        ] {
            let header = URL_SAFE_NO_PAD.encode(header);
            check_refused(&format!("{header}.{claims}."), TokenError::Signer);
        }
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
    fn role_and_exp_are_required() {
        for claims in [
            json!({"exp": NOW + 1}),
            json!({"role": "anon"}),
            json!({"role": null, "exp": NOW + 1}),
            json!({}),
        ] {
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
            Keys::from_secret(SECRET).verify(&sign(claims), &paths, now()).unwrap().organization
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
        assert_eq!(format!("{:?}", Keys::from_secret(b"hunter2")), r#"Keys { secret: "***" }"#);
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
}
