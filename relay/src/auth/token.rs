//! JSON web tokens: signature, expiry, and the claims that decide.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use percent_encoding::percent_decode_str;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::Role;
use super::key_set::KeySet;
use crate::protocol::{Reason, json};
use crate::route::parse_uuid;

/// Tokens never live longer than to the end of the year 9999: what is beyond only invites overflow.
const EXPIRY_MAX: f64 = 253_402_300_799.0;

/// How much earlier than its `nbf` a token is taken: clocks of two machines are not one.
const NOT_BEFORE_LEEWAY: Duration = Duration::from_secs(60);

/// Longest `kid` that is told of, in bytes.
const KID_BYTES_MAX: usize = 128;

/// The keys that verify tokens. Clones share the published ones.
#[derive(Clone, Default)]
pub struct Keys {
    /// Any of them may have signed: while secrets rotate there are two.
    secrets: Vec<DecodingKey>,
    published: Arc<RwLock<Arc<KeySet>>>,
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
    pub fingerprint: Fingerprint,
}

/// Tells tokens apart without keeping them: by what was signed. Of some kinds of signatures anybody can make a second
/// form that verifies as well, so these tell nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fingerprint(u128);

impl Fingerprint {
    fn of(message: &str) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, message.as_bytes());
        let bytes = digest.as_ref().first_chunk().expect("SHA-256 has 32 bytes");
        Self(u128::from_be_bytes(*bytes))
    }

    /// Of a token that was not verified; None if it does not have the form of one.
    pub fn of_token(token: &str) -> Option<Self> {
        let token = cleaned(token);
        let (message, _) = token.rsplit_once('.')?;
        Some(Self::of(message))
    }

    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

/// A token that is not accepted. Displays as the reference's texts, as `system` messages have them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("The token provided is not a valid JWT")]
    Malformed,
    #[error("Failed to generate JWT signer, check your JWT secret or JWKS configuration")]
    Signer,
    /// The published keys have none of this id; they may have changed since they were read.
    #[error(
        "Failed to generate JWT signer for key ID (kid) \"{0}\", check your JWT secret or JWKS configuration"
    )]
    UnknownKey(Box<str>),
    #[error("Failed to validate JWT signature")]
    Signature,
    #[error("Token has expired {seconds_ago} seconds ago")]
    Expired { seconds_ago: u64 },
    /// Its `nbf` is further in the future than clocks may disagree.
    #[error("Token is not valid for another {seconds} seconds")]
    NotYetValid { seconds: u64 },
    #[error("Fields `role` and `exp` are required in JWT")]
    ClaimsMissing,
    /// Claims that are no object, `exp`, `iat` or `nbf` that are no number.
    #[error("Claims of the JWT have unexpected types")]
    ClaimInvalid,
    #[error("{}", Reason::RoleNotAllowed.message())]
    RoleNotAllowed,
}

impl From<TokenError> for Reason {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Malformed => Self::MalformedToken,
            TokenError::Signer => Self::TokenSigner,
            TokenError::UnknownKey(kid) => Self::UnknownKey { kid },
            TokenError::Signature => Self::TokenSignature,
            TokenError::Expired { seconds_ago } => Self::TokenExpired { seconds_ago },
            TokenError::NotYetValid { seconds } => Self::TokenNotYetValid { seconds },
            TokenError::ClaimsMissing => Self::ClaimsMissing,
            TokenError::ClaimInvalid => Self::ClaimInvalid,
            TokenError::RoleNotAllowed => Self::RoleNotAllowed,
        }
    }
}

impl Keys {
    /// Secrets for HS256, HS384 and HS512. An empty one would let anybody sign: the configuration refuses it.
    pub fn from_secrets<'a>(secrets: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let secrets = secrets.into_iter().map(DecodingKey::from_secret).collect();
        Self { secrets, ..Self::default() }
    }

    /// Whether published keys are known.
    pub fn has_published(&self) -> bool {
        !self.published.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Replaces the published keys, for all clones.
    pub fn publish(&self, keys: KeySet) {
        *self.published.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }

    /// Checks a token and reads its claims. It is expired at the second it names, and valid [`NOT_BEFORE_LEEWAY`]
    /// earlier than it names.
    pub fn verify(&self, token: &str, paths: &ClaimPaths, now: SystemTime) -> Result<Claims, TokenError> {
        self.verify_late(token, paths, now, Duration::ZERO)
    }

    /// The same of a token that may have expired, `late` ago at most.
    pub fn verify_late(
        &self,
        token: &str,
        paths: &ClaimPaths,
        now: SystemTime,
        late: Duration,
    ) -> Result<Claims, TokenError> {
        let token = cleaned(token);
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(TokenError::Malformed)?;
        let Header { algorithm, kid } = Header::read(header)?;
        URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenError::Malformed)?;
        let verifies = |key: &DecodingKey| {
            jsonwebtoken::crypto::verify(signature, message.as_bytes(), key, algorithm).unwrap_or(false)
        };
        let published = Arc::clone(&self.published.read().unwrap_or_else(PoisonError::into_inner));
        let key = kid.as_deref().and_then(|kid| published.find(kid, algorithm));
        let is_genuine = match (key, kid) {
            (Some(key), _) => verifies(key),
            (None, _) if AlgorithmFamily::Hmac.algorithms().contains(&algorithm) => {
                if self.secrets.is_empty() {
                    return Err(TokenError::Signer);
                }
                self.secrets.iter().any(verifies)
            }
            (None, Some(kid)) => return Err(TokenError::UnknownKey(shortened(kid))),
            // Only a key of one's own choosing may verify what names none.
            (None, None) => return Err(TokenError::Signer),
        };
        if !is_genuine {
            return Err(TokenError::Signature);
        }
        let claims = URL_SAFE_NO_PAD.decode(claims).map_err(|_| TokenError::Malformed)?;
        let claims = serde_json::from_slice::<Box<RawValue>>(&claims).map_err(|_| TokenError::Malformed)?;
        Claims::read(claims, paths, now, late, Fingerprint::of(message))
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("secrets", &vec!["***"; self.secrets.len()]).finish_non_exhaustive()
    }
}

impl Claims {
    /// In the reference's order: what has expired says so even if it lacks a role.
    fn read(
        raw: Box<RawValue>,
        paths: &ClaimPaths,
        now: SystemTime,
        late: Duration,
        fingerprint: Fingerprint,
    ) -> Result<Self, TokenError> {
        let [role, exp, iat, nbf, sub] =
            json::members(raw.get(), ["role", "exp", "iat", "nbf", "sub"]).ok_or(TokenError::ClaimInvalid)?;
        let [role, exp, iat, nbf] =
            [role, exp, iat, nbf].map(|claim| claim.filter(|claim| !json::is_null(claim)));
        iat.map(number).transpose()?;
        let not_before = nbf.map(number).transpose()?.map(moment);
        let expires_at = exp.map(number).transpose()?.map(moment);
        if let Some(expires_at) = expires_at {
            check_expiry(expires_at + late, now)?;
        }
        if let Some(not_before) = not_before {
            check_begun(not_before, now)?;
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
            fingerprint,
        })
    }

    /// The claim `sub` as it stands, uuid or not.
    pub fn sub(&self) -> Option<String> {
        json::members(self.raw.get(), ["sub"])?[0].and_then(json::string)
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

/// How a token is signed.
pub(super) struct Header {
    pub(super) algorithm: Algorithm,
    kid: Option<String>,
}

impl Header {
    pub(super) fn read(header: &str) -> Result<Self, TokenError> {
        let header = URL_SAFE_NO_PAD.decode(header).map_err(|_| TokenError::Malformed)?;
        let header = str::from_utf8(&header).map_err(|_| TokenError::Malformed)?;
        let [algorithm, kid, critical, encoded] =
            json::members(header, ["alg", "kid", "crit", "b64"]).ok_or(TokenError::Malformed)?;
        // RFC 7515: whoever does not understand an extension that is marked critical must refuse the token. We know
        // none. RFC 7797's `b64` says that the claims are not encoded, and is to be refused also where it is not marked.
        let is_encoded = encoded.is_none_or(|encoded| encoded.get() == "true");
        if critical.is_some() || !is_encoded {
            return Err(TokenError::Signer);
        }
        let algorithm = match algorithm.and_then(json::string).as_deref() {
            Some("Ed25519") => Algorithm::EdDSA,
            // The reference does not know RSASSA-PSS.
            Some(name) if !name.starts_with("PS") => name.parse().map_err(|_| TokenError::Signer)?,
            _ => return Err(TokenError::Signer),
        };
        Ok(Self { algorithm, kid: kid.and_then(json::string) })
    }
}

/// A key's id as it is told to whoever sent it.
fn shortened(mut kid: String) -> Box<str> {
    kid.truncate(kid.floor_char_boundary(KID_BYTES_MAX));
    kid.into()
}

pub(super) fn number(claim: &RawValue) -> Result<f64, TokenError> {
    serde_json::from_str(claim.get()).map_err(|_| TokenError::ClaimInvalid)
}

/// Fractions of a second are rounded, as the reference does.
pub(super) fn moment(seconds: f64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs_f64(seconds.round().clamp(0.0, EXPIRY_MAX))
}

pub(super) fn check_expiry(expires_at: SystemTime, now: SystemTime) -> Result<(), TokenError> {
    match now.duration_since(expires_at) {
        Ok(passed) => Err(TokenError::Expired { seconds_ago: passed.as_secs() }),
        Err(_) => Ok(()),
    }
}

pub(super) fn check_begun(not_before: SystemTime, now: SystemTime) -> Result<(), TokenError> {
    match not_before.duration_since(now) {
        Ok(early) if early > NOT_BEFORE_LEEWAY => Err(TokenError::NotYetValid { seconds: early.as_secs() }),
        _ => Ok(()),
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
mod tests;
