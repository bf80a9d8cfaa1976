//! Who is typing. The server ends what its sender forgets to end.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::hub::SocketId;
use super::room::RoomKey;
use crate::auth::Identity;

/// One typing indicator: a channel that said `typing:start` and not yet `typing:stop`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Typist {
    pub(super) socket: SocketId,
    pub(super) wire_topic: Arc<str>,
}

#[derive(Debug)]
struct On {
    room: RoomKey,
    identity: Identity,
    until: Instant,
}

/// All typing indicators that are on.
#[derive(Debug)]
pub(super) struct Typing {
    timeout: Duration,
    on: HashMap<Typist, On>,
}

impl Typing {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, on: HashMap::new() }
    }

    pub(super) fn start(&mut self, typist: Typist, room: RoomKey, identity: Identity, now: Instant) {
        self.on.insert(typist, On { room, identity, until: now + self.timeout });
    }

    /// Where it was on, and whose it was.
    pub(super) fn stop(&mut self, typist: &Typist) -> Option<(RoomKey, Identity)> {
        self.on.remove(typist).map(|On { room, identity, .. }| (room, identity))
    }

    /// Takes those whose time is over.
    pub(super) fn expired(&mut self, now: Instant) -> Vec<(Typist, RoomKey, Identity)> {
        let expired = self.on.extract_if(|_, on| on.until <= now);
        expired.map(|(typist, On { room, identity, .. })| (typist, room, identity)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Topic;

    #[test]
    fn an_indicator_expires_unless_renewed() {
        let room = RoomKey { topic: Topic::parse("lobby").unwrap(), private: false };
        let typist = |socket| Typist { socket: SocketId(socket), wire_topic: "realtime:lobby".into() };
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut typing = Typing::new(Duration::from_secs(5));
        typing.start(typist(1), room.clone(), Identity::Service, start);
        typing.start(typist(2), room.clone(), Identity::Service, start);
        typing.start(typist(3), room.clone(), Identity::Service, start);
        typing.start(typist(2), room.clone(), Identity::Service, at(3));
        assert_eq!(typing.stop(&typist(3)), Some((room.clone(), Identity::Service)));
        assert_eq!(typing.expired(at(4)), []);
        assert_eq!(typing.expired(at(5)), [(typist(1), room.clone(), Identity::Service)]);
        assert_eq!(typing.expired(at(8)), [(typist(2), room, Identity::Service)]);
        assert_eq!(typing.stop(&typist(2)), None);
    }
}
