//! Broadcasts that come over HTTP: from the application's servers, and from clients that have not joined.
//!
//! Decided in the hub's turn like those of channels, so that an agent who was deactivated sends nothing from there on.

use super::Hub;
use super::admit::Sender;
use super::send::Admitted;
use crate::auth::{Credential, Identity};
use crate::fanout::input::{Publication, Publish};
use crate::fanout::origin::Origin;
use crate::fanout::room::RoomKey;
use crate::protocol::{Meta, Reason};

impl Hub {
    pub(super) fn publish(&mut self, publish: Publish) {
        let Publish { credential, publications, outcomes } = publish;
        let outcome = |publication| self.publish_one(&credential, publication);
        let told = publications.into_iter().map(outcome).collect();
        // The client may be gone by now.
        outcomes.send(told).ok();
    }

    fn publish_one(&mut self, credential: &Credential, publication: Publication) -> Result<(), Reason> {
        let Publication { topic, private, broadcast, is_granted, .. } = &publication;
        let sender = Sender::Http { credential, topic, private: *private, is_granted: *is_granted };
        let outcome = self.admit_broadcast(sender, broadcast);
        match &outcome {
            Ok(identity) => {
                self.metrics.client_messages.inc();
                self.send_publication(*identity, publication);
            }
            Err(reason) => self.metrics.drop_message(reason.label()),
        }
        outcome.map(drop)
    }

    fn send_publication(&mut self, identity: Option<Identity>, publication: Publication) {
        let Publication { topic, also, private, broadcast, id, .. } = publication;
        let meta = id.as_deref().map(Meta::of_publication);
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
