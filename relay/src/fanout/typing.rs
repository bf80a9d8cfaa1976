//! Who is typing. The server ends what its sender forgets to end.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Deserialize;

use super::origin::Origin;
use super::room::RoomKey;
use crate::auth::Identity;
use crate::protocol::Encoding;

/// One typing indicator that is on: `typing:start` was said and not yet `typing:stop`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Indicator {
    pub(super) room: RoomKey,
    pub(super) identity: Identity,
    /// Of the last `typing:start`. Its end is told by the same, so that it says whose it is in the application's words.
    pub(super) payload: Bytes,
    pub(super) encoding: Encoding,
}

#[derive(Debug)]
struct On {
    who: Option<Box<str>>,
    indicator: Indicator,
    until: Instant,
}

/// All typing indicators that are on.
#[derive(Debug)]
pub(super) struct Typing {
    timeout: Duration,
    /// By what speaks for those who type.
    on: HashMap<Origin, Vec<On>>,
}

impl Typing {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, on: HashMap::new() }
    }

    pub(super) fn start(&mut self, origin: Origin, indicator: Indicator, now: Instant) {
        let who = who(&indicator);
        let on = self.on.entry(origin).or_default();
        on.retain(|known| known.who != who);
        on.push(On { who, indicator, until: now + self.timeout });
    }

    /// What is said of this typist is over.
    pub(super) fn stop(&mut self, origin: &Origin, indicator: &Indicator) {
        let Some(on) = self.on.get_mut(origin) else { return };
        let who = who(indicator);
        on.retain(|known| known.who != who);
        if on.is_empty() {
            self.on.remove(origin);
        }
    }

    /// Takes all that one spoke for.
    pub(super) fn silence(&mut self, origin: &Origin) -> Vec<Indicator> {
        let on = self.on.remove(origin).unwrap_or_default();
        on.into_iter().map(|on| on.indicator).collect()
    }

    /// Takes those whose time is over.
    pub(super) fn expired(&mut self, now: Instant) -> Vec<(Origin, Indicator)> {
        let mut expired = Vec::new();
        self.on.retain(|origin, on| {
            let over = on.extract_if(.., |on| on.until <= now);
            expired.extend(over.map(|on| (origin.clone(), on.indicator)));
            !on.is_empty()
        });
        expired
    }
}

/// Which of the typists behind one identity it is. Agents and visitors are one person each, whatever they say; a
/// service speaks for many, and names them by `user_id`, or in words of its own: then the whole payload tells them apart.
fn who(indicator: &Indicator) -> Option<Box<str>> {
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow)]
        user_id: &'a serde_json::value::RawValue,
    }
    if indicator.identity != Identity::Service {
        return None;
    }
    let named =
        serde_json::from_slice::<Named<'_>>(&indicator.payload).map(|named| named.user_id.get().into());
    Some(named.unwrap_or_else(|_| String::from_utf8_lossy(&indicator.payload).into()))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::socket_id::SocketId;
    use super::*;
    use crate::route::Topic;

    fn indicator(identity: Identity, payload: &str) -> Indicator {
        let room = RoomKey { topic: Topic::parse("lobby").unwrap(), private: false };
        Indicator { room, identity, payload: payload.to_owned().into(), encoding: Encoding::Json }
    }

    fn origin(socket: u64) -> Origin {
        Origin::Channel { socket: SocketId(socket), wire_topic: "realtime:lobby".into() }
    }

    fn typing() -> (Typing, impl Fn(u64) -> Instant) {
        let start = Instant::now();
        (Typing::new(Duration::from_secs(5)), move |seconds| start + Duration::from_secs(seconds))
    }

    #[test]
    fn an_indicator_expires_unless_renewed() {
        let (mut typing, at) = typing();
        let on = indicator(Identity::Service, "{}");
        for socket in 1..=3 {
            typing.start(origin(socket), on.clone(), at(0));
        }
        typing.start(origin(2), on.clone(), at(3));
        typing.stop(&origin(3), &on);
        assert_eq!(typing.expired(at(4)), []);
        assert_eq!(typing.expired(at(5)), [(origin(1), on.clone())]);
        assert_eq!(typing.expired(at(8)), [(origin(2), on)]);
        assert_eq!(typing.silence(&origin(2)), []);
    }

    #[test]
    fn a_service_speaks_for_many_and_everybody_else_for_one() {
        let (mut typing, at) = typing();
        let of = |payload: &str| indicator(Identity::Service, payload);
        let (ada, bob) = (r#"{"user_id":"ada","name":"Ada"}"#, r#"{"user_id":"bob"}"#);
        typing.start(origin(1), of(ada), at(0));
        typing.start(origin(1), of(bob), at(0));
        typing.start(origin(1), of(r#"{"nick":"cy"}"#), at(0));
        typing.stop(&origin(1), &of(r#"{ "user_id": "ada" }"#));
        typing.stop(&origin(1), &of(r#"{"nick":"cy"}"#));
        assert_eq!(typing.silence(&origin(1)), [of(bob)]);
        let visitor =
            Identity::Visitor { organization: Uuid::from_u128(1), conversation: Uuid::from_u128(2) };
        typing.start(origin(1), indicator(visitor, ada), at(0));
        typing.stop(&origin(1), &indicator(visitor, bob));
        assert_eq!(typing.silence(&origin(1)), []);
    }
}
