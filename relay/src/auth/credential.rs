//! What a socket connects with, and what a channel runs with.

use std::sync::Arc;
use std::time::SystemTime;

use axum::http::StatusCode;

use super::Role;
use super::api_key::ApiKeys;
use super::token::{ClaimPaths, Claims, Keys, TokenError};

/// Proof of a role: a key that does not expire, or a token that does.
#[derive(Clone, Debug)]
pub enum Credential {
    ApiKey(Role),
    Token(Arc<Claims>),
}

/// A handshake that is refused. Displays as the `error` of its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectError {
    KeyMissing,
    /// The token was not verified: too many others from its address were refused.
    TooManyRefused,
    Token(TokenError),
}

impl Credential {
    pub fn role(&self) -> Role {
        match self {
            Self::ApiKey(role) => *role,
            Self::Token(claims) => claims.role,
        }
    }

    /// None for API keys.
    pub fn claims(&self) -> Option<&Claims> {
        match self {
            Self::ApiKey(_) => None,
            Self::Token(claims) => Some(claims),
        }
    }

    /// None: never.
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.claims().map(|claims| claims.expires_at)
    }
}

impl Keys {
    /// The credential of a socket that connects with `key`, an API key or a token.
    pub fn connect(
        &self,
        api_keys: &ApiKeys,
        paths: &ClaimPaths,
        key: Option<&str>,
        now: SystemTime,
    ) -> Result<Credential, ConnectError> {
        let key = key.filter(|key| !key.is_empty()).ok_or(ConnectError::KeyMissing)?;
        self.identify(api_keys, paths, key, now).map_err(ConnectError::Token)
    }

    /// The credential of a channel: its own token's or API key's, otherwise that of its connection, which may have
    /// expired since the handshake.
    pub fn join(
        &self,
        api_keys: &ApiKeys,
        paths: &ClaimPaths,
        connection: &Credential,
        token: Option<&str>,
        now: SystemTime,
    ) -> Result<Credential, TokenError> {
        match token.filter(|token| !token.is_empty()) {
            Some(token) => self.identify(api_keys, paths, token, now),
            None => {
                connection.claims().map_or(Ok(()), |claims| claims.check_expiry(now))?;
                Ok(connection.clone())
            }
        }
    }

    /// API keys come first: one that is a JWT is accepted as it stands, whatever its `exp`.
    fn identify(
        &self,
        api_keys: &ApiKeys,
        paths: &ClaimPaths,
        key: &str,
        now: SystemTime,
    ) -> Result<Credential, TokenError> {
        match api_keys.role(key) {
            Some(role) => Ok(Credential::ApiKey(role)),
            None => self.verify(key, paths, now).map(|claims| Credential::Token(Arc::new(claims))),
        }
    }
}

impl ConnectError {
    /// A word of a fixed vocabulary, for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::KeyMissing => "key_missing",
            Self::TooManyRefused => "too_many_refused_tokens",
            Self::Token(TokenError::Expired { .. }) => "token_expired",
            Self::Token(TokenError::NotYetValid { .. }) => "token_not_yet_valid",
            Self::Token(_) => "key_or_token_refused",
        }
    }

    pub fn status(&self) -> StatusCode {
        match self {
            // The reference has no word for it, and answers as for a fault of its own.
            Self::Token(TokenError::ClaimInvalid) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::TooManyRefused => StatusCode::TOO_MANY_REQUESTS,
            Self::KeyMissing | Self::Token(_) => StatusCode::UNAUTHORIZED,
        }
    }
}

impl std::error::Error for ConnectError {}

impl std::fmt::Display for ConnectError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::KeyMissing => f.write_str("API key is missing"),
            Self::TooManyRefused => f.write_str("Too many tokens were refused, try again later"),
            // At the handshake the reference does not say for how long.
            Self::Token(TokenError::Expired { .. }) => f.write_str("Token has expired"),
            Self::Token(TokenError::ClaimInvalid) => f.write_str("Error connecting to Realtime"),
            Self::Token(error) => error.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jsonwebtoken::{EncodingKey, Header};
    use serde_json::{Value, json};

    use super::*;

    const SECRET: &[u8] = b"a secret of at least thirty-two bytes";

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000)
    }

    fn sign(claims: Value) -> String {
        jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET)).unwrap()
    }

    fn connect(list: &str, key: Option<&str>) -> Result<Credential, ConnectError> {
        let api_keys = ApiKeys::parse(list).unwrap();
        Keys::from_secrets([SECRET]).connect(&api_keys, &ClaimPaths::default(), key, now())
    }

    fn check_refused(key: Option<&str>, status: u16, text: &str) {
        let error = connect("key", key).unwrap_err();
        assert_eq!((error.status().as_u16(), error.to_string().as_str()), (status, text));
    }

    #[test]
    fn handshakes_are_refused_in_the_words_of_the_reference() {
        check_refused(None, 401, "API key is missing");
        check_refused(Some(""), 401, "API key is missing");
        check_refused(Some("garbage"), 401, "The token provided is not a valid JWT");
        check_refused(Some(&sign(json!({"role": "anon", "exp": 1}))), 401, "Token has expired");
        let missing = "Fields `role` and `exp` are required in JWT";
        check_refused(Some(&sign(json!({"exp": 1_800_000_000}))), 401, missing);
        let root = sign(json!({"role": "root", "exp": 1_800_000_000}));
        check_refused(Some(&root), 401, &crate::protocol::Reason::RoleNotAllowed.message());
        check_refused(Some(&sign(json!({"role": "anon", "exp": "x"}))), 500, "Error connecting to Realtime");
        let token = sign(json!({"role": "anon", "exp": 1_800_000_000}));
        let (head, _) = token.rsplit_once('.').unwrap();
        check_refused(Some(&format!("{head}.AAAA")), 401, "Failed to validate JWT signature");
        let none = "eyJhbGciOiJub25lIn0.e30.";
        let signer = "Failed to generate JWT signer, check your JWT secret or JWKS configuration";
        check_refused(Some(none), 401, signer);
    }

    #[test]
    fn api_keys_do_not_expire_even_if_they_are_tokens() {
        let expired = sign(json!({"role": "service_role", "exp": 1}));
        let credential = connect(&format!("key,{expired}"), Some(&expired)).unwrap();
        assert_eq!((credential.role(), credential.expires_at()), (Role::Anon, None));
    }

    #[test]
    fn a_channel_runs_with_its_own_token_or_the_connections() {
        let keys = Keys::from_secrets([SECRET]);
        let api_keys = ApiKeys::parse("key").unwrap();
        let join = |connection: &Credential, token: Option<&str>, now| {
            keys.join(&api_keys, &ClaimPaths::default(), connection, token, now)
                .map(|credential| credential.role())
        };
        let anon = connect("key", Some("key")).unwrap();
        let agent = sign(json!({"role": "authenticated", "exp": 1_790_000_060}));
        assert_eq!(join(&anon, None, now()), Ok(Role::Anon));
        assert_eq!(join(&anon, Some(""), now()), Ok(Role::Anon));
        assert_eq!(join(&anon, Some(&agent), now()), Ok(Role::Authenticated));
        let connection = connect("key", Some(&agent)).unwrap();
        assert_eq!(join(&connection, None, now()), Ok(Role::Authenticated));
        assert_eq!(join(&connection, Some("key"), now()), Ok(Role::Anon));
        let later = now() + Duration::from_secs(70);
        assert_eq!(join(&connection, None, later), Err(TokenError::Expired { seconds_ago: 10 }));
        assert_eq!(join(&anon, Some("garbage"), now()), Err(TokenError::Malformed));
    }
}
