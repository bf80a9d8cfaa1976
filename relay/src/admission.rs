//! Who may come in: what is decided about a client before the hub decides, or beside it.
//!
//! Decides nothing about `org:*`: that is the hub's, by the claims that were verified here.

mod addresses;
mod buckets;
mod jwks;
mod key_settings;
mod keys;
mod origin;
mod policies;
mod rate_limit;
mod rates;
mod refused_tokens;
mod request_rates;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

pub use self::addresses::AddressLimits;
pub(crate) use self::addresses::{Addresses, Full, Place};
pub use self::jwks::{Jwks, JwksError, JwksSource};
pub use self::key_settings::KeySettings;
pub use self::keys::Verifier;
pub(crate) use self::origin::Origin;
pub use self::policies::{
    Cause, Findings, HEADERS_BYTES_MAX, Headers, Policies, PolicyError, PolicyLimits, PolicyMetrics,
};
pub(crate) use self::rate_limit::RateLimit;
pub use self::rates::MessageRate;
pub(crate) use self::rates::Rates;
pub use self::refused_tokens::RefusedTokenRate;
pub(crate) use self::refused_tokens::RefusedTokens;
pub use self::request_rates::RequestRate;
pub(crate) use self::request_rates::RequestRates;
use crate::auth::{ClaimPaths, Claims, ConnectError, Credential};
use crate::metrics::Registry;
use crate::sql::Sessions;

/// What decides who may come in.
#[derive(Clone, Debug, clap::Args)]
pub struct AdmissionSettings {
    #[command(flatten)]
    pub keys: KeySettings,

    #[command(flatten)]
    pub policies: PolicyLimits,

    #[command(flatten)]
    pub addresses: AddressLimits,

    #[command(flatten)]
    pub message_rate: MessageRate,

    #[command(flatten)]
    pub refused_tokens: RefusedTokenRate,
}

/// All that admits sockets, requests and their messages.
pub struct Admission {
    pub verifier: Verifier,
    /// Decide about private channels outside `org:`.
    pub policies: Arc<Policies>,
    pub(crate) addresses: Addresses,
    pub address_limits: AddressLimits,
    pub(crate) rates: Rates,
    pub message_rate: MessageRate,
    pub(crate) refused_tokens: RefusedTokens,
}

impl Admission {
    /// Checks the keys, and reads those that are published.
    pub async fn build(
        settings: &AdmissionSettings,
        sessions: Arc<Sessions>,
        claim_paths: watch::Receiver<ClaimPaths>,
        registry: &mut Registry,
    ) -> anyhow::Result<Self> {
        let AdmissionSettings { keys, policies, addresses, message_rate, refused_tokens } = settings;
        Ok(Self {
            verifier: keys.build(claim_paths).await?,
            policies: Policies::new(sessions, *policies, PolicyMetrics::new(registry)),
            addresses: Addresses::default(),
            address_limits: *addresses,
            rates: Rates::default(),
            message_rate: *message_rate,
            refused_tokens: RefusedTokens::new(*refused_tokens),
        })
    }

    /// The credential of a socket or request with this key, which is not verified if too many from there were refused.
    pub(crate) async fn connect(
        &self,
        origin: Origin,
        key: Option<&str>,
    ) -> Result<Credential, ConnectError> {
        let token = key.filter(|key| !key.is_empty() && !self.verifier.is_api_key(key));
        if token.is_some_and(|token| !self.refused_tokens.may_be_verified(origin, token, Instant::now())) {
            return Err(ConnectError::TooManyRefused);
        }
        let connected = self.verifier.connect(key).await;
        if let Some(token) = token {
            self.refused_tokens.note(origin, token, connected.is_ok(), Instant::now());
        }
        connected
    }

    /// What a token says that may have expired, `late` ago at most. With it another one can be had, and nothing else.
    pub(crate) fn read_late(
        &self,
        origin: Origin,
        token: &str,
        late: Duration,
    ) -> Result<Claims, ConnectError> {
        let now = Instant::now();
        if !self.refused_tokens.may_be_verified(origin, token, now) {
            return Err(ConnectError::TooManyRefused);
        }
        let claims = self.verifier.read_late(token, late);
        self.refused_tokens.note(origin, token, claims.is_ok(), now);
        claims.map_err(ConnectError::Token)
    }
}
