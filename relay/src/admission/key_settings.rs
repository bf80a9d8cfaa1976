//! What verifies tokens, as the settings have it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::sync::watch;
use tracing::info;

use super::jwks::{Jwks, JwksSource};
use super::keys::Verifier;
use crate::auth::{ApiKeys, ClaimPaths, Keys, SECRET_BYTES_MIN};
use crate::config::{Secret, units};

#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Keys and channels")]
pub struct KeySettings {
    /// Secret that verifies HS256, HS384 and HS512 tokens, at least 32 bytes. Prefer the environment variable: a flag
    /// shows in process lists.
    #[arg(long, env = "CAMPFIRE_JWT_SECRET", hide_env_values = true)]
    pub jwt_secret: Option<Secret>,

    /// Secrets that were replaced but whose tokens are still accepted, comma-separated. Prefer the environment
    /// variable.
    #[arg(long, env = "CAMPFIRE_JWT_PREVIOUS_SECRETS", hide_env_values = true)]
    pub jwt_previous_secrets: Option<Secret>,

    /// Secret with which the relay signs the tokens of visitors where there is no CAMPFIRE_JWT_SECRET, at least 32 bytes.
    /// Tokens signed with it are accepted. Prefer the environment variable.
    #[arg(long, env = "CAMPFIRE_SIGNING_KEY", hide_env_values = true)]
    pub signing_key: Option<Secret>,

    /// Published keys (a JWKS) that verify RS256, ES256, EdDSA and similar signatures, chosen by the token's kid: a
    /// path or a URL.
    #[arg(long, env = "CAMPFIRE_JWKS", hide_env_values = true)]
    pub jwks: Option<JwksSource>,

    /// Seconds after which the published keys are read again. If a token names an unknown key, they are read earlier.
    #[arg(id = "JWKS_REFRESH_SECONDS", long = "jwks-refresh-seconds", env = "CAMPFIRE_JWKS_REFRESH_SECONDS", default_value = "600", value_parser = units::some_seconds)]
    pub jwks_refresh: Duration,

    /// Publishable keys with which sockets connect, comma-separated: KEY or KEY=ROLE (role anon if none is named).
    #[arg(long, env = "CAMPFIRE_API_KEYS", hide_env_values = true)]
    pub api_keys: Option<Secret>,
}

impl KeySettings {
    /// Checks the keys, and reads those that are published.
    pub(crate) async fn build(&self, claim_paths: watch::Receiver<ClaimPaths>) -> Result<Verifier> {
        let keys = self.keys()?;
        let jwks = self.jwks.clone().map(|source| Arc::new(Jwks::new(source, keys.clone())));
        if let Some(jwks) = &jwks {
            jwks.load_first().await.context("CAMPFIRE_JWKS cannot be read")?;
        }
        let api_keys = self.api_keys.as_ref().map_or("", |keys| keys.expose());
        let api_keys = ApiKeys::parse(api_keys).context("CAMPFIRE_API_KEYS")?;
        Ok(Verifier { keys, api_keys, jwks, claim_paths })
    }

    /// What signs tokens of visitors, if anything does.
    pub fn signing_secret(&self) -> Option<&str> {
        let secrets = [&self.jwt_secret, &self.signing_key].into_iter().flatten();
        secrets.map(Secret::expose).find(|secret| !secret.is_empty())
    }

    /// The keys that verify tokens; those that are published come later.
    fn keys(&self) -> Result<Keys> {
        let secret = self.jwt_secret.as_ref().map_or("", |secret| secret.expose());
        let previous = self.jwt_previous_secrets.as_ref().map_or("", |secrets| secrets.expose());
        let signing = self.signing_key.as_ref().map_or("", |secret| secret.expose());
        for (setting, secret) in [("CAMPFIRE_JWT_SECRET", secret), ("CAMPFIRE_SIGNING_KEY", signing)] {
            check_secret(setting, secret).map_err(anyhow::Error::msg)?;
        }
        // These may be short: otherwise nobody could replace a short secret without logging everybody out.
        let short =
            previous.split(',').map(str::trim).filter(|secret| check_secret("", secret).is_err()).count();
        if short > 0 {
            info!(
                short,
                "CAMPFIRE_JWT_PREVIOUS_SECRETS has secrets short enough to be guessed from a token: remove them once the last token signed with them has expired"
            );
        }
        let theirs = std::iter::once(secret).chain(previous.split(',').map(str::trim));
        let theirs = theirs.filter(|secret| !secret.is_empty()).map(str::as_bytes);
        if theirs.clone().next().is_none() && self.jwks.is_none() {
            bail!(
                "no key verifies tokens: set CAMPFIRE_JWT_SECRET to the secret with which your application signs them, or CAMPFIRE_JWKS to its published keys"
            );
        }
        // Last: only visitors have tokens of ours.
        let ours = Some(signing.as_bytes()).filter(|secret| !secret.is_empty());
        Ok(Keys::from_secrets(theirs.chain(ours)))
    }
}

/// Refuses a secret that is too short: RFC 7518, section 3.2, wants a key at least as long as the hash, which for HS256
/// has 256 bits. A shorter one can be guessed from any token that was signed with it.
///
/// # Errors
/// A sentence that names the setting and what to do.
fn check_secret(setting: &str, secret: &str) -> Result<(), String> {
    if secret.is_empty() || secret.len() >= SECRET_BYTES_MIN {
        return Ok(());
    }
    Err(format!(
        "{setting}: a secret has {} bytes, and {SECRET_BYTES_MIN} are the least for HS256 (RFC 7518, section 3.2): make a new one, as with `openssl rand -base64 48`, and have your application sign with it",
        secret.len()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_visitors_are_signed_with_what_there_is() {
        let [ours, theirs] = [Some("o".repeat(32)), Some("t".repeat(32))];
        let signed_with = |jwt_secret: &Option<String>, signing_key: &Option<String>| {
            let secret = |text: &Option<String>| text.as_ref().and_then(|text| text.parse().ok());
            let settings = KeySettings {
                jwt_secret: secret(jwt_secret),
                signing_key: secret(signing_key),
                ..crate::config::defaults()
            };
            (settings.signing_secret().map(str::to_owned), settings.keys().is_ok())
        };
        assert_eq!(signed_with(&theirs, &None), (theirs.clone(), true));
        assert_eq!(signed_with(&theirs, &ours), (theirs.clone(), true));
        // Nobody else's token could be verified.
        assert_eq!(signed_with(&None, &ours), (ours.clone(), false));
        assert_eq!(signed_with(&None, &None), (None, false));
        assert!(!signed_with(&theirs, &Some("short".to_owned())).1);
    }

    #[test]
    fn short_secrets_are_refused() {
        let error = check_secret("CAMPFIRE_JWT_SECRET", "12345").unwrap_err();
        assert!(
            ["CAMPFIRE_JWT_SECRET", "5 bytes", "32", "openssl"].iter().all(|word| error.contains(word)),
            "{error}"
        );
        assert!(!error.contains("12345"), "{error}");
        assert!(check_secret("X", &"x".repeat(SECRET_BYTES_MIN - 1)).is_err());
        assert!(check_secret("X", &"x".repeat(SECRET_BYTES_MIN)).is_ok() && check_secret("X", "").is_ok());
    }
}
