//! Proof of a customer's identity: a token that the customer's own server signed with a secret of its organization.

use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::value::RawValue;

use super::token::{Header, TokenError, check_begun, check_expiry, moment, number};
use crate::protocol::json;

/// Longest `sub`, in bytes.
const SUBJECT_BYTES_MAX: usize = 255;

/// What a genuine token says of a customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// `sub`: how the customer's server calls this person.
    pub subject: String,
    pub name: Option<String>,
    pub email: Option<String>,
}

/// A token that proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("Only HS256 is accepted for identities")]
    Algorithm,
    #[error("The organization has no identity secret that is valid now")]
    NoSecret,
    #[error("Claim `exp` is required")]
    ExpiryMissing,
    #[error("Claim `sub` must be a string of 1 to {SUBJECT_BYTES_MAX} bytes")]
    Subject,
    #[error("Claims `name` and `email` must be strings of at most {SUBJECT_BYTES_MAX} bytes")]
    Detail,
}

impl Proof {
    /// Checks a token. Any of the secrets may have signed it: while they rotate there are two.
    pub fn read(token: &str, secrets: &[String], now: SystemTime) -> Result<Self, ProofError> {
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(TokenError::Malformed)?;
        // The algorithm is ours to choose, not the token's.
        if Header::read(header)?.algorithm != Algorithm::HS256 {
            return Err(ProofError::Algorithm);
        }
        if secrets.is_empty() {
            return Err(ProofError::NoSecret);
        }
        let is_signed = |secret: &String| {
            let key = DecodingKey::from_secret(secret.as_bytes());
            jsonwebtoken::crypto::verify(signature, message.as_bytes(), &key, Algorithm::HS256)
                .unwrap_or(false)
        };
        if !secrets.iter().any(is_signed) {
            return Err(TokenError::Signature.into());
        }
        let claims = URL_SAFE_NO_PAD.decode(claims).map_err(|_| TokenError::Malformed)?;
        let claims = str::from_utf8(&claims).map_err(|_| TokenError::Malformed)?;
        Self::of_claims(claims, now)
    }

    fn of_claims(claims: &str, now: SystemTime) -> Result<Self, ProofError> {
        let names = ["sub", "exp", "iat", "nbf", "name", "email"];
        let claims = json::members(claims, names).ok_or(TokenError::ClaimInvalid)?;
        let [subject, exp, iat, nbf, name, email] =
            claims.map(|claim| claim.filter(|claim| !json::is_null(claim)));
        let expires_at = exp.map(number).transpose()?.map(moment).ok_or(ProofError::ExpiryMissing)?;
        check_expiry(expires_at, now)?;
        for claim in [iat, nbf].into_iter().flatten() {
            check_begun(moment(number(claim)?), now)?;
        }
        let subject = subject.and_then(json::string).ok_or(ProofError::Subject)?;
        if subject.is_empty() || !is_storable(&subject) {
            return Err(ProofError::Subject);
        }
        let detail = |claim: Option<&RawValue>| {
            let Some(claim) = claim else { return Ok(None) };
            let text = json::string(claim).filter(|text| is_storable(text)).ok_or(ProofError::Detail)?;
            Ok::<_, ProofError>(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
        };
        Ok(Self { subject, name: detail(name)?, email: detail(email)? })
    }
}

/// Whether Postgres takes a text, and it is not too long.
fn is_storable(text: &str) -> bool {
    text.len() <= SUBJECT_BYTES_MAX && !text.contains('\0')
}

#[cfg(test)]
mod tests;
