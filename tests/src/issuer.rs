//! A key pair that signs tokens, and its public half as a JWKS publishes it.

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::Value;

/// Issues tokens under its `kid`.
pub struct Issuer {
    algorithm: Algorithm,
    key: EncodingKey,
    kid: String,
}

impl Issuer {
    /// A new pair: RSA of 2,048 bits for RS256, P-256 for ES256, else Ed25519.
    pub fn new(kid: &str, algorithm: Algorithm) -> Result<Self> {
        let arguments = match algorithm {
            Algorithm::RS256 => "genrsa -traditional 2048",
            Algorithm::ES256 => "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256",
            _ => "genpkey -algorithm ed25519",
        };
        let pem = Command::new("openssl").args(arguments.split(' ')).output().context("openssl")?.stdout;
        let mut der = Command::new("openssl");
        // genrsa writes no DER by itself.
        let kind = if algorithm == Algorithm::RS256 { "rsa -traditional" } else { "pkcs8 -topk8 -nocrypt" };
        der.args(kind.split(' ')).args(["-outform", "DER"]);
        let mut child = der.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        child.stdin.take().context("stdin")?.write_all(&pem)?;
        let der = child.wait_with_output()?.stdout;
        let key = match algorithm {
            Algorithm::RS256 => EncodingKey::from_rsa_der(&der),
            Algorithm::ES256 => EncodingKey::from_ec_der(&der),
            _ => EncodingKey::from_ed_der(&der),
        };
        Ok(Self { algorithm, key, kid: kid.to_owned() })
    }

    /// The public key, as an entry of a JWKS.
    pub fn published(&self) -> Result<Value> {
        let mut jwk = Jwk::from_encoding_key(&self.key, self.algorithm)?;
        jwk.common.key_id = Some(self.kid.clone());
        Ok(serde_json::to_value(jwk)?)
    }

    /// A token that names another key, or none.
    pub fn sign_as(&self, kid: Option<&str>, claims: &Value) -> Result<String> {
        let header = Header { kid: kid.map(str::to_owned), ..Header::new(self.algorithm) };
        Ok(jsonwebtoken::encode(&header, claims, &self.key)?)
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &Value) -> Result<String> {
        self.sign_as(Some(&self.kid), claims)
    }
}
