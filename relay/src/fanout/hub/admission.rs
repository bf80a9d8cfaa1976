//! Whether a credential opens a channel.

use tracing::debug;

use super::Hub;
use crate::auth::{self, Claims, Credential, Fingerprint, Grants, Identity};
use crate::fanout::expiries::expired;
use crate::fanout::socket_id::SocketId;
use crate::protocol::Reason;
use crate::route::Topic;

impl Hub {
    /// Whether a socket may use a token beside the others that do.
    pub(super) fn admit_token(&self, token: Option<Fingerprint>, id: SocketId) -> Result<(), Reason> {
        let sockets_max = self.settings.sockets_per_token_max;
        match token.is_none_or(|token| self.token_use.admits(token, id, sockets_max)) {
            true => Ok(()),
            false => Err(Reason::TooManySockets),
        }
    }

    /// As whom a credential opens a topic, and by which grants, if it does; as nobody outside `org:`.
    pub(super) fn authorize(
        &self,
        topic: &Topic,
        credential: &Credential,
        private: bool,
        grants: Option<Result<Grants, Reason>>,
        presence_enabled: bool,
    ) -> Result<(Option<Identity>, Option<Grants>), Reason> {
        // It was valid when it was verified.
        if let Some(reason) = expired(credential.expires_at(), self.wall_clock) {
            return Err(reason);
        }
        if topic.organization().is_some() {
            let is_active = |organization, user| self.agents.get(&(organization, user)).copied();
            let identity = auth::authorize(topic, credential, is_active).map_err(|refusal| {
                debug!(%topic, %refusal, "not authorized");
                refusal.reason(&topic.to_string())
            })?;
            return Ok((Some(identity), None));
        }
        match (private, self.settings.public_channels) {
            (true, _) => {
                // Who did not ask the policies has nothing from them.
                let grants = grants.transpose()?.unwrap_or_default();
                if grants.read_broadcast || (presence_enabled && grants.read_presence) {
                    Ok((None, Some(grants)))
                } else {
                    Err(Reason::Unauthorized { topic: topic.to_string() })
                }
            }
            (false, true) => Ok((None, None)),
            (false, false) => Err(Reason::PrivateOnly),
        }
    }
}

pub(super) fn fingerprint(credential: &Credential) -> Option<Fingerprint> {
    credential.claims().map(|claims: &Claims| claims.fingerprint)
}
