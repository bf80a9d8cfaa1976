//! Tokens: as they come, and with claims that somebody with the key has signed.

use std::time::{Duration, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use campfire_relay::auth::{ClaimPaths, Keys};
use jsonwebtoken::{Algorithm, EncodingKey};

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// A token, and the same bytes as claims.
pub fn token(data: &[u8]) {
    let keys = Keys::from_secret(SECRET);
    let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let paths =
        ClaimPaths { organization: "app.org_id".to_owned(), conversation: "conversation_id".to_owned() };
    if let Ok(text) = str::from_utf8(data) {
        // Without the key nobody makes one.
        assert!(keys.verify(text, &paths, now).is_err());
    }
    let header = URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256","typ":"JWT"}"#);
    let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(data));
    let key = EncodingKey::from_secret(SECRET);
    let signature =
        jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).expect("a signature");
    if let Ok(claims) = keys.verify(&format!("{message}.{signature}"), &paths, now) {
        assert!(claims.expires_at > now, "what has expired is refused");
        assert!(claims.check_expiry(now).is_ok());
    }
    let other = Keys::from_secret(b"another secret that is as long as one");
    assert!(other.verify(&format!("{message}.{signature}"), &paths, now).is_err());
}
