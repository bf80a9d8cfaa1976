//! Who a client is, and what it may do: API keys and tokens to a [`Credential`], a credential and a topic to an
//! [`Identity`], an identity and an event to yes or no.
//!
//! Decides, and looks nothing up: no SQL, no clock, no network. What it needs to know of agents is asked through a
//! closure, so that the hub decides a join in its own turn. Its hazard is a secret in a log: the types that hold one
//! are masked.

mod api_key;
mod authorization;
mod credential;
mod gate_claims;
mod key_set;
mod payer;
mod proof;
mod token;
mod visitor_token;

pub use api_key::{ApiKeyError, ApiKeys};
pub use authorization::{Identity, JoinRefusal, SendRefusal, authorize, may_send};
pub use credential::{ConnectError, Credential};
pub use key_set::{KeySet, KeySetError, SECRET_BYTES_MIN};
pub use payer::{Account, Payer};
pub use proof::{Proof, ProofError};
pub use token::{ClaimPaths, Claims, Fingerprint, Keys, TokenError};
pub use visitor_token::{VisitorToken, VisitorTokens};

/// What the database's policies allow on a private channel outside `org:`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    pub read_broadcast: bool,
    pub read_presence: bool,
    pub write_broadcast: bool,
    pub write_presence: bool,
}

impl Grants {
    pub const ALL: Self =
        Self { read_broadcast: true, read_presence: true, write_broadcast: true, write_presence: true };
}

/// The database role behind a credential. Other roles in tokens are refused: a token must not choose
/// any role of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Visitors, and everybody with nothing but a publishable key.
    Anon,
    /// Agents.
    Authenticated,
    /// The application's own servers.
    ServiceRole,
}

impl Role {
    /// None for all other roles.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "anon" => Some(Self::Anon),
            "authenticated" => Some(Self::Authenticated),
            "service_role" => Some(Self::ServiceRole),
            _ => None,
        }
    }

    /// The role's name in Postgres.
    pub fn name(self) -> &'static str {
        match self {
            Self::Anon => "anon",
            Self::Authenticated => "authenticated",
            Self::ServiceRole => "service_role",
        }
    }
}
