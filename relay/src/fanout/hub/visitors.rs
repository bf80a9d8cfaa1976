//! Whether a visitor is there: presence on the conversation's channel, which the relay itself keeps. Visitors may send
//! nothing but typing, and open mostly their widget's channel, where no agent is.

use std::time::Instant;

use tracing::debug;

use super::Hub;
use crate::auth::Identity;
use crate::fanout::room::RoomKey;
use crate::fanout::roster::PresenceId;
use crate::fanout::socket_id::SocketId;
use crate::route::Topic;

/// Members of a visitor's meta. Its key is the conversation's id, as in what visitors send.
const MEMBERS: &str = r#""type":"visitor""#;

impl Hub {
    /// A channel was opened, or became somebody else's. A visitor is present once for each socket, so that nobody takes
    /// more memory with many channels than with one.
    pub(super) fn visitor_comes(&mut self, id: SocketId, wire_topic: &str, now: Instant) {
        let Some(socket) = self.sockets.get(&id) else { return };
        let Some(identity) = socket.find(wire_topic).and_then(|channel| channel.identity) else { return };
        let Some((room, key)) = place_of(identity) else { return };
        let mut own = socket.channels.iter().filter(|channel| channel.identity == Some(identity));
        if own.any(|channel| channel.attendance.visit.is_some()) {
            return;
        }
        match self.roster.track(&room, None, &key.into(), MEMBERS, now) {
            Ok(visit) => {
                if let Some(channel) = self.channel_mut(id, wire_topic) {
                    channel.attendance.visit = Some(visit);
                }
                self.measure_presence();
            }
            Err(full) => debug!(socket_id = id.0, ?full, "no memory to show that a visitor is there"),
        }
    }

    /// A channel has ended that was this identity's, or it is no longer. Whichever way it ended, the visitor has the grace
    /// to come back: the next page of a site is a new socket.
    pub(super) fn visitor_goes(
        &mut self,
        id: SocketId,
        identity: Option<Identity>,
        visit: Option<PresenceId>,
        now: Instant,
    ) {
        let (Some((room, _)), Some(visit)) = (identity.and_then(place_of), visit) else { return };
        let socket = self.sockets.get_mut(&id);
        let other =
            socket.and_then(|socket| socket.channels.iter_mut().find(|channel| channel.identity == identity));
        match other {
            Some(channel) => channel.attendance.visit = Some(visit),
            None => self.roster.part(&room, visit, now),
        }
    }
}

/// Where a visitor is present, and under which key; None for everybody else.
fn place_of(identity: Identity) -> Option<(RoomKey, String)> {
    let Identity::Visitor { organization, conversation } = identity else { return None };
    let topic = Topic::channel_conversation(organization, conversation);
    Some((RoomKey { topic, private: false }, conversation.to_string()))
}
