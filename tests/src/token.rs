//! Tokens as the application would mint them: HS256, an hour long.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};
use uuid::Uuid;

/// An agent of `organization`; the dashboard's token.
pub fn agent(secret: &str, organization: Uuid, user: Uuid) -> String {
    mint(secret, &agent_claims(organization, user))
}

/// A visitor bound to one conversation; the widget's token.
pub fn visitor(secret: &str, organization: Uuid, conversation: Uuid) -> String {
    mint(secret, &visitor_claims(organization, conversation))
}

/// The application's own backend.
pub fn service(secret: &str) -> String {
    mint(secret, &json!({"role": "service_role", "exp": in_an_hour()}))
}

/// Claims of [`agent`], also what SQL sees in `request.jwt.claims`.
pub fn agent_claims(organization: Uuid, user: Uuid) -> Value {
    json!({
        "role": "authenticated",
        "sub": user,
        "org_id": organization,
        "exp": in_an_hour(),
    })
}

/// Claims of [`visitor`], also what SQL sees in `request.jwt.claims`.
pub fn visitor_claims(organization: Uuid, conversation: Uuid) -> Value {
    json!({
        "role": "anon",
        "org_id": organization,
        "conversation_id": conversation,
        "exp": in_an_hour(),
    })
}

/// Signs any claims, also wrong ones.
pub fn mint(secret: &str, claims: &Value) -> String {
    jsonwebtoken::encode(&Header::default(), claims, &EncodingKey::from_secret(secret.as_bytes()))
        .expect("claims that are JSON can be signed")
}

/// Seconds since 1970, an hour from now.
pub fn in_an_hour() -> u64 {
    now() + 3600
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_secs()
}
