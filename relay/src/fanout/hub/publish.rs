//! Broadcasts that come over HTTP: from the application's servers, and from clients that have not joined.
//!
//! Decided in the hub's turn like those of channels, so that an agent who was deactivated sends nothing from there on.

use super::Hub;
use super::admit::Sender;
use super::send::Admitted;
use crate::auth::{Credential, Identity};
use crate::fanout::input::{HttpBroadcast, HttpBroadcasts};
use crate::fanout::origin::Origin;
use crate::fanout::room::RoomKey;
use crate::protocol::{Meta, Reason};

impl Hub {
    pub(super) fn publish(&mut self, publish: HttpBroadcasts) {
        let HttpBroadcasts { credential, broadcasts, outcomes } = publish;
        let outcome = |published| self.publish_one(&credential, published);
        let told = broadcasts.into_iter().map(outcome).collect();
        // The client may be gone by now.
        outcomes.send(told).ok();
    }

    fn publish_one(&mut self, credential: &Credential, published: HttpBroadcast) -> Result<(), Reason> {
        let HttpBroadcast { topic, also, private, broadcast, is_granted, .. } = &published;
        let admit = |topic| {
            let sender = Sender::Http { credential, topic, private: *private, is_granted: *is_granted };
            self.admit_broadcast(sender, broadcast)
        };
        let outcome = match also {
            Some(also) => admit(topic).and_then(|_| admit(also)),
            None => admit(topic),
        };
        match &outcome {
            Ok(identity) => {
                self.metrics.client_messages.inc();
                self.send_published(*identity, published);
            }
            Err(reason) => self.metrics.client_messages_dropped.count(reason.label()),
        }
        outcome.map(drop)
    }

    fn send_published(&mut self, identity: Option<Identity>, published: HttpBroadcast) {
        let HttpBroadcast { topic, also, private, broadcast, id, .. } = published;
        let meta = id.as_deref().map(Meta::of_http);
        // The rooms of organizations' channels are neither public nor private, and have no other that may be meant.
        let (also, private) = if identity.is_some() { (None, false) } else { (also, private) };
        for topic in std::iter::once(topic).chain(also) {
            let origin = Origin::Http { topic: topic.clone(), identity };
            let admitted =
                Admitted { origin, identity, broadcast: &broadcast, meta: meta.as_ref(), echo: true };
            self.send(&RoomKey { topic, private }, admitted);
        }
    }
}
