//! Verifies what clients show: API keys and tokens become credentials, by secrets and by published keys.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;

use super::jwks::Jwks;
use crate::auth::{ApiKeys, ClaimPaths, Claims, ConnectError, Credential, Keys, TokenError};

/// All that a verification depends on. It waits only for published keys.
pub struct Verifier {
    pub keys: Keys,
    pub api_keys: ApiKeys,
    /// Keeps the published keys current; None where only secrets verify.
    pub jwks: Option<Arc<Jwks>>,
    /// Where tokens keep the organization and the conversation: a setting of the database, read at each attach.
    pub claim_paths: watch::Receiver<ClaimPaths>,
}

impl Verifier {
    /// The credential of a socket or request with this key.
    pub(crate) async fn connect(&self, key: Option<&str>) -> Result<Credential, ConnectError> {
        let connect = || self.keys.connect(&self.api_keys, &self.claim_paths(), key, SystemTime::now());
        match (connect(), &self.jwks) {
            (Err(ConnectError::Token(TokenError::UnknownKey(_))), Some(jwks)) => {
                jwks.reload_for_unknown_key().await;
                connect()
            }
            (connected, _) => connected,
        }
    }

    /// The credential of a channel on a connection.
    pub(crate) async fn join(
        &self,
        connection: &Credential,
        token: Option<&str>,
    ) -> Result<Credential, TokenError> {
        let join =
            || self.keys.join(&self.api_keys, &self.claim_paths(), connection, token, SystemTime::now());
        match (join(), &self.jwks) {
            (Err(TokenError::UnknownKey(_)), Some(jwks)) => {
                jwks.reload_for_unknown_key().await;
                join()
            }
            (joined, _) => joined,
        }
    }

    /// What a token says that may have expired, `late` ago at most, by the keys that are known.
    pub(crate) fn read_late(&self, token: &str, late: Duration) -> Result<Claims, TokenError> {
        self.keys.verify_late(token, &self.claim_paths(), SystemTime::now(), late)
    }

    pub(crate) fn claim_paths(&self) -> ClaimPaths {
        self.claim_paths.borrow().clone()
    }

    /// Whether a text is an API key rather than a token.
    pub(crate) fn is_api_key(&self, text: &str) -> bool {
        self.api_keys.role(text).is_some()
    }
}
