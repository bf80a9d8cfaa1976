//! Broadcasts that come over HTTP: from the application's servers, and from clients that have not joined.
//!
//! Decided in the hub's turn like those of channels, so that an agent who was deactivated sends nothing from there on.

use std::time::Instant;

use tracing::debug;

use super::Hub;
use crate::auth::{self, Credential, Identity};
use crate::fanout::input::{Publication, Publish};
use crate::fanout::room::{Except, RoomKey};
use crate::fanout::socket_id::SocketId;
use crate::fanout::typing::Mouth;
use crate::protocol::{EVENT_BYTES_MAX, Meta, Reason};

impl Hub {
    pub(super) fn publish(&mut self, publish: Publish) {
        let Publish { credential, publications, outcomes } = publish;
        let outcome = |publication| self.publish_one(&credential, publication);
        let told = publications.into_iter().map(outcome).collect();
        // Whoever asked may have gone meanwhile.
        outcomes.send(told).ok();
    }

    fn publish_one(&mut self, credential: &Credential, publication: Publication) -> Result<(), Reason> {
        let outcome = self.admit_publication(credential, &publication);
        match &outcome {
            Ok(identity) => {
                self.metrics.client_messages.inc();
                self.send_publication(*identity, publication);
            }
            Err(reason) => self.metrics.drop_message(reason.label()),
        }
        outcome.map(drop)
    }

    fn admit_publication(
        &self,
        credential: &Credential,
        publication: &Publication,
    ) -> Result<Option<Identity>, Reason> {
        let Publication { topic, private, broadcast, is_granted, .. } = publication;
        if broadcast.event.len() > EVENT_BYTES_MAX {
            return Err(Reason::EventNameTooLong);
        }
        if topic.organization().is_none() {
            return match (private, self.settings.public_channels) {
                _ if broadcast.payload.len() > self.settings.payload_bytes_max => {
                    Err(Reason::PayloadTooLarge)
                }
                (true, _) if *is_granted => Ok(None),
                (true, _) => Err(Reason::Unauthorized { topic: topic.to_string() }),
                (false, true) => Ok(None),
                (false, false) => Err(Reason::PrivateOnly),
            };
        }
        let is_active = |organization, user| self.agents.get(&(organization, user)).copied();
        let identity = auth::authorize(topic, credential, is_active).map_err(|refusal| {
            debug!(%topic, %refusal, "not authorized to broadcast");
            refusal.reason(&topic.to_string())
        })?;
        if broadcast.payload.len() > self.payload_bytes_max(Some(&identity), &broadcast.event) {
            return Err(Reason::PayloadTooLarge);
        }
        auth::may_send(&identity, &broadcast.event)?;
        Ok(Some(identity))
    }

    fn send_publication(&mut self, identity: Option<Identity>, publication: Publication) {
        let Publication { topic, also, private, broadcast, id, .. } = publication;
        let Some(identity) = identity else {
            let meta = id.as_deref().map(Meta::of_publication);
            let stamped = |_| broadcast.stamped(meta.as_ref());
            for topic in std::iter::once(topic).chain(also) {
                self.deliver_of_client(&RoomKey { topic, private }, stamped, Except::Nobody);
            }
            return;
        };
        let mouth = Mouth {
            socket: SocketId::NONE,
            wire_topic: format!("{topic} {}", identity.sender_meta().as_str()).into(),
        };
        let room = RoomKey { topic, private: false };
        if Self::is_typing_on(&room, &broadcast) {
            return self.relay_typing(mouth, room, identity, &broadcast, Instant::now());
        }
        self.deliver_stamped(&room, &identity, &broadcast, Except::Nobody);
    }
}
