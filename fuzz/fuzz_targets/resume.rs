//! Positions, and `replay` of a join, against a hub that has a history: it answers, and what it answers is well-formed.
#![no_main]

use campfire_relay::protocol::JoinPayload;
use campfire_relay::route::Position;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Some((tag, position)) = Position::parse_id(text) {
        assert_eq!(position.id(tag).to_string(), text);
    }
    let join = format!(r#"{{"config":{{"broadcast":{{"replay":{text}}}}}}}"#);
    if let Ok(payload) = serde_json::from_str(&join)
        && let Ok(join) = JoinPayload::parse(payload, false)
    {
        hub::join(join);
    }
});

mod hub {
    use std::cell::RefCell;
    use std::sync::Arc;

    use campfire_relay::auth::{Credential, Grants, Role};
    use campfire_relay::fanout::{
        ClientInput, Hub, HubChange, HubInput, HubMetrics, HubSettings, Join, Outbox, OutboxLimits, SocketId,
        Unread, WindowLimits,
    };
    use campfire_relay::postgres::{Lsn, Timestamp, Xid};
    use campfire_relay::protocol::{JoinPayload, Meta, Ref, Vsn};
    use campfire_relay::route::{DatabaseTag, Event, Position, RealtimeMessage, Routed, Topic};
    use tokio::sync::{mpsc, watch};
    use uuid::Uuid;

    const ORGANIZATION: Uuid = Uuid::from_u128(0xa);
    const ROOM: &str = "room";
    const SOCKET: SocketId = SocketId(1);
    const BIG: usize = 1 << 24;

    thread_local! {
        static HUB: RefCell<Hub> = RefCell::new(with_history());
    }

    fn event(topic: Topic, message: Option<RealtimeMessage>) -> Event {
        let private = message.is_some();
        Event { topic, event: "e".into(), payload: b"{}".as_slice().into(), private, sight: None, message }
    }

    fn with_history() -> Hub {
        let defaults = HubSettings::default();
        let window = WindowLimits { bytes_max: BIG, organization_bytes_max: BIG, ..defaults.window };
        let settings = HubSettings {
            payload_bytes_max: BIG,
            org_payload_bytes_max: BIG,
            snapshot_bytes_max: BIG,
            window,
            ..defaults
        };
        let (ready, _) = watch::channel(false);
        let (snapshots, _) = mpsc::channel(1);
        let mut hub =
            Hub::new(settings, HubMetrics::default(), snapshots, Arc::new(watch::Sender::new(Lsn(0))), ready);
        hub.apply(HubInput::Attached {
            loss: None,
            is_elsewhere: false,
            agents: Vec::new(),
            agent_names: Vec::new(),
            snapshot: Default::default(),
            tag: DatabaseTag::new(1, 2),
            timeline: 1,
            confirmed_flush_lsn: Lsn(1),
        });
        let changes = (1..10).map(|n| HubChange {
            position: Position { timeline: 1, commit_lsn: Lsn(n * 16), change: 0 },
            xid: Xid(n as u32),
            committed_at: Timestamp::from_unix_millis(1_800_000_000_000 + n as i64),
            meta: Meta::of_http("id"),
            routed: Routed {
                events: vec![
                    event(Topic::channel_conversations(ORGANIZATION), None),
                    event(
                        Topic::Other(ROOM.into()),
                        Some(RealtimeMessage { id: ORGANIZATION, binary: n % 2 == 0 }),
                    ),
                ],
                ..Routed::default()
            },
        });
        hub.apply(HubInput::Changes { changes: changes.collect(), applied: None });
        hub.apply(HubInput::CaughtUp);
        hub
    }

    /// Joins as a server of the application, on a socket of its own: an organization's channel and a private one.
    pub(super) fn join(payload: JoinPayload) {
        let private = JoinPayload { private: true, ..payload.clone() };
        join_channel(&format!("org:{ORGANIZATION}:conversations"), payload, None);
        join_channel(ROOM, private, Some(Grants::ALL));
    }

    fn join_channel(channel: &str, payload: JoinPayload, grants: Option<Grants>) {
        HUB.with_borrow_mut(|hub| {
            let limits = OutboxLimits { bytes_max: BIG, frames_max: 10_000 };
            let outbox = Arc::new(Outbox::new(limits, Unread::new(BIG)));
            let mut say = |input| hub.apply(HubInput::Client(SOCKET, input));
            say(ClientInput::Connect { vsn: Vsn::V2, outbox: Arc::clone(&outbox) });
            say(ClientInput::Join(Box::new(Join {
                wire_topic: format!("realtime:{channel}").into(),
                join_ref: Ref::Null,
                reference: Ref::Null,
                payload: Ok(payload),
                credential: Ok(Credential::ApiKey(Role::ServiceRole)),
                grants: grants.map(Ok),
                address: None,
                within_rate: true,
            })));
            say(ClientInput::Refill);
            say(ClientInput::Disconnect);
        });
    }
}
