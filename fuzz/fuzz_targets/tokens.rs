//! Tokens as they come, which must not be believed, and claims that are well signed, which must not be misread.
#![no_main]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use campfire_relay::auth::{ApiKeys, ClaimPaths, Keys, TokenError};
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use libfuzzer_sys::fuzz_target;

const SECRET: &[u8] = b"a secret that nobody would guess";
const NOW: Duration = Duration::from_secs(1_800_000_000);
/// {"alg":"HS256","typ":"JWT"}
const HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9";

fn now() -> SystemTime {
    UNIX_EPOCH + NOW
}

fuzz_target!(|data: &[u8]| {
    let keys = Keys::from_secrets([SECRET]);
    let Some((&mode, data)) = data.split_first() else { return };
    let paths = match mode & 1 {
        0 => ClaimPaths::default(),
        _ => ClaimPaths { organization: "app_metadata.org".to_owned(), conversation: "a.b.c".to_owned() },
    };
    if mode & 2 == 0 {
        let Ok(token) = str::from_utf8(data) else { return };
        if let Ok(claims) = keys.verify(token, &paths, now()) {
            // Nothing here knows the secret but the corpus, whose token says so.
            assert!(claims.raw.get().contains("of the corpus"));
        }
        let _ = ApiKeys::parse(token);
        return;
    }
    let claims = base64(data);
    let message = format!("{HEADER}.{claims}");
    let key = EncodingKey::from_secret(SECRET);
    let signature = crypto::sign(message.as_bytes(), &key, Algorithm::HS256).expect("a signature");
    match keys.verify(&format!("{message}.{signature}"), &paths, now()) {
        Ok(claims) => {
            assert!(claims.expires_at > now());
            assert!(claims.check_expiry(now()).is_ok());
            assert!(claims.check_expiry(claims.expires_at).is_err());
            assert_eq!(claims.raw.get().as_bytes(), data.trim_ascii());
        }
        Err(error) => assert_ne!(error, TokenError::Signature),
    }
});

/// Base64url without padding.
fn base64(data: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in data.chunks(3) {
        let bits =
            chunk.iter().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        for digit in 0..=chunk.len() {
            text.push(char::from(DIGITS[(bits >> (18 - 6 * digit)) as usize & 63]));
        }
    }
    text
}
