//! An agent of an organization.

use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;

/// An agent of an organization.
pub(super) type Agent = (/* organization */ Uuid, /* user */ Uuid);

/// Names of agents, as the database has them.
pub(super) type AgentNames = HashMap<Agent, Arc<str>>;
