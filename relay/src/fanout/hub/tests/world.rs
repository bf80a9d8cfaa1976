//! A hub with clients around it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use crate::auth::{ApiKeys, ClaimPaths, Credential, Grants, Keys, TokenError};
use crate::fanout::{
    ClientInput, HttpBroadcast, HttpBroadcasts, Hub, HubChange, HubInput, HubMetrics, HubSettings, Join,
    Outbox, OutboxLimits, PresenceLimits, RowsRequest, SocketId, Unread, WindowLimits,
};
use crate::postgres::{Lsn, Timestamp, Xid};
use crate::protocol::{
    Encoding, Frame, Incoming, JoinPayload, Meta, Reason, Ref, UserBroadcast, Vsn, Waiting,
};
use crate::route::{ControlChange, DatabaseTag, Event, Position, Routed, Topic};

pub(super) const ORG: Uuid = Uuid::from_u128(0xa);
pub(super) const OTHER_ORG: Uuid = Uuid::from_u128(0xb);
pub(super) const CONV: Uuid = Uuid::from_u128(0xc);
pub(super) const USER: Uuid = Uuid::from_u128(0xd);

pub(super) struct World {
    pub(super) hub: Hub,
    pub(super) outboxes: Vec<Arc<Outbox>>,
    /// Of all outboxes that are made from here on.
    pub(super) unread: Arc<Unread>,
    pub(super) applied: Arc<watch::Sender<Lsn>>,
    pub(super) ready: watch::Receiver<bool>,
    /// What the hub asked of the database.
    pub(super) requests: mpsc::Receiver<RowsRequest>,
    pub(super) lsn: u64,
}

impl World {
    pub(super) fn new() -> Self {
        let defaults = HubSettings::default();
        let settings = HubSettings {
            channels_per_socket_max: 3,
            sockets_per_token_max: 0,
            payload_bytes_max: 100_000,
            org_payload_bytes_max: 2_000,
            typing_timeout: Duration::from_secs(7),
            public_channels: true,
            presence: PresenceLimits {
                calls_max: 5,
                payload_bytes_max: 1_000,
                room_bytes_max: 100_000,
                bytes_max: 600_000,
                ..defaults.presence
            },
            window: WindowLimits { bytes_max: 1 << 20, organization_bytes_max: 1 << 20, ..defaults.window },
            snapshot_bytes_max: 10_000,
            ..defaults
        };
        let applied = Arc::new(watch::Sender::new(Lsn::INVALID));
        let (ready_tx, ready) = watch::channel(false);
        let (snapshots, requests) = mpsc::channel(2);
        let mut hub = Hub::new(settings, HubMetrics::default(), snapshots, Arc::clone(&applied), ready_tx);
        hub.apply(attached(vec![(ORG, USER, true)]));
        let unread = Unread::new(usize::MAX);
        Self { hub, outboxes: Vec::new(), unread, applied, ready, requests, lsn: 0 }
    }

    pub(super) fn connect_with(&mut self, vsn: Vsn, limits: OutboxLimits) -> SocketId {
        let id = SocketId(self.outboxes.len() as u64);
        let outbox = Arc::new(Outbox::new(limits, Arc::clone(&self.unread)));
        self.outboxes.push(Arc::clone(&outbox));
        self.client(id, ClientInput::Connect { vsn, outbox });
        id
    }

    /// 1.0.0, whose frames are all text.
    pub(super) fn connect(&mut self) -> SocketId {
        self.connect_with(Vsn::V1, OutboxLimits { bytes_max: 1 << 20, frames_max: 1024 })
    }

    pub(super) fn client(&mut self, id: SocketId, input: ClientInput) {
        self.hub.apply(HubInput::Client(id, input));
    }

    pub(super) fn join_with(
        &mut self,
        id: SocketId,
        channel: &str,
        config: &str,
        credential: Result<Credential, TokenError>,
    ) {
        self.join_granted(id, channel, config, credential, None);
    }

    /// The same with what the policies say.
    pub(super) fn join_granted(
        &mut self,
        id: SocketId,
        channel: &str,
        config: &str,
        credential: Result<Credential, TokenError>,
        grants: Option<Grants>,
    ) {
        let payload = format!(r#"{{"config":{config}}}"#);
        let join = Join {
            wire_topic: format!("realtime:{channel}").into(),
            join_ref: reference("1"),
            reference: reference("1"),
            payload: JoinPayload::parse(serde_json::from_str(&payload).unwrap(), false),
            credential,
            grants: grants.map(Ok),
            address: None,
            within_rate: true,
        };
        self.client(id, ClientInput::Join(Box::new(join)));
    }

    pub(super) fn join(&mut self, id: SocketId, channel: &str, credential: Credential) -> String {
        self.join_with(id, channel, "{}", Ok(credential));
        let reply = self.take(id).remove(0);
        format!("{}{}", reply["payload"]["status"].as_str().unwrap(), {
            let reason = reply["payload"]["response"]["reason"].as_str();
            reason.map(|reason| format!(" {reason}")).unwrap_or_default()
        })
    }

    pub(super) fn send(&mut self, id: SocketId, channel: &str, event: &str, payload: &str) {
        let broadcast = UserBroadcast {
            event: event.to_owned(),
            encoding: Encoding::Json,
            payload: payload.to_owned().into(),
        };
        let wire_topic = format!("realtime:{channel}").into();
        self.client(
            id,
            ClientInput::Broadcast { wire_topic, reference: reference("9"), broadcast, within_rate: true },
        );
    }

    /// A broadcast over HTTP.
    pub(super) fn publish(
        &mut self,
        credential: Credential,
        channel: &str,
        event: &str,
        payload: &str,
    ) -> Result<(), Reason> {
        let (outcomes, mut told) = oneshot::channel();
        let broadcast = HttpBroadcast {
            topic: Topic::parse(channel).unwrap(),
            also: None,
            private: false,
            broadcast: UserBroadcast {
                event: event.to_owned(),
                encoding: Encoding::Json,
                payload: payload.to_owned().into(),
            },
            id: None,
            is_granted: false,
        };
        self.hub.apply(HubInput::Publish(HttpBroadcasts {
            credential,
            broadcasts: vec![broadcast],
            outcomes,
        }));
        told.try_recv().unwrap().remove(0)
    }

    pub(super) fn change(&mut self, events: &[(&Topic, &str)], control: Vec<ControlChange>) -> Position {
        self.lsn += 8;
        let position = Position { timeline: 1, commit_lsn: Lsn(self.lsn), change: 0 };
        self.change_at(position, events, control);
        position
    }

    pub(super) fn change_at(
        &mut self,
        position: Position,
        events: &[(&Topic, &str)],
        control: Vec<ControlChange>,
    ) {
        let event = |(topic, event): &(&Topic, &str)| Event {
            topic: (*topic).clone(),
            event: (*event).into(),
            payload: "{}".into(),
            private: false,
            sight: None,
            message: None,
        };
        self.route_at(position, events.iter().map(event).collect(), control);
    }

    pub(super) fn route_at(&mut self, position: Position, events: Vec<Event>, control: Vec<ControlChange>) {
        self.route_by(Xid(position.commit_lsn.0 as u32), position, events, control);
    }

    /// A change of a transaction of that number.
    pub(super) fn route_by(
        &mut self,
        xid: Xid,
        position: Position,
        events: Vec<Event>,
        control: Vec<ControlChange>,
    ) {
        let row = events.iter().find_map(|event| event.message).map(|message| message.id.to_string());
        let id = row.unwrap_or_else(|| format!("{:x}", position.commit_lsn.0));
        let meta = Meta::of_http(&id);
        let routed = Routed { events, control, ..Routed::default() };
        let committed_at = Timestamp::from_unix_millis(1_000 * position.commit_lsn.0 as i64);
        let changes = vec![HubChange { position, xid, committed_at, meta, routed }];
        self.hub.apply(HubInput::Changes { changes, applied: Some(position.commit_lsn) });
    }

    /// What waits for a socket.
    pub(super) fn frames(&self, id: SocketId) -> Vec<Frame> {
        let mut frames = Vec::new();
        self.outboxes[id.0 as usize].take(&mut frames);
        frames.iter().map(|waiting: &Waiting| Frame::clone(waiting)).collect()
    }

    /// What waits for a socket of 1.0.0.
    pub(super) fn take(&self, id: SocketId) -> Vec<Value> {
        let parse = |frame: Frame| {
            assert!(frame.is_text(), "{frame:?}");
            serde_json::from_slice(frame.payload()).unwrap()
        };
        self.frames(id).into_iter().map(parse).collect()
    }

    /// The frames that wait, short: `message:created`, `phx_close`, `system: text`, `phx_reply ok`.
    pub(super) fn heard(&self, id: SocketId) -> Vec<String> {
        let short = |frame: &Value| match frame["event"].as_str().unwrap() {
            "broadcast" => frame["payload"]["event"].as_str().unwrap().to_owned(),
            "system" => format!("system: {}", frame["payload"]["message"].as_str().unwrap()),
            "phx_reply" => format!("phx_reply {}", frame["payload"]["status"].as_str().unwrap()),
            other => other.to_owned(),
        };
        self.take(id).iter().map(short).collect()
    }
}

pub(super) fn attached(agents: Vec<(Uuid, Uuid, bool)>) -> HubInput {
    attached_with(agents, "1:1:")
}

/// Attached, with agents as this snapshot showed them. The transaction of [`World::change`] that commits at an LSN has
/// its number.
pub(super) fn attached_with(agents: Vec<(Uuid, Uuid, bool)>, snapshot: &str) -> HubInput {
    HubInput::Attached {
        loss: None,
        is_elsewhere: false,
        agents,
        agent_names: vec![(ORG, USER, "Ada".to_owned())],
        snapshot: snapshot.parse().unwrap(),
        tag: DatabaseTag::new(1, 2),
        timeline: 1,
        confirmed_flush_lsn: Lsn(8),
    }
}

/// Attached anew, where what committed before this LSN and was not streamed is lost.
pub(super) fn attached_after_loss(lsn: u64, active: bool) -> HubInput {
    HubInput::Attached {
        loss: Some("the slot was dropped"),
        is_elsewhere: false,
        agents: vec![(ORG, USER, active)],
        agent_names: vec![],
        snapshot: "1:1:".parse().unwrap(),
        tag: DatabaseTag::new(1, 2),
        timeline: 1,
        confirmed_flush_lsn: Lsn(lsn),
    }
}

pub(super) fn reference(number: &str) -> Ref {
    let text = format!(r#"["{number}","{number}","phoenix","heartbeat",{{}}]"#);
    Incoming::parse_text(Vsn::V2, &text).unwrap().reference
}

/// A credential as it comes of a token that was verified.
pub(super) fn token(claims: &str) -> Credential {
    let key = jsonwebtoken::EncodingKey::from_secret(b"secret");
    let claims: Value = serde_json::from_str(claims).unwrap();
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
    let keys = Keys::from_secrets([b"secret".as_slice()]);
    keys.connect(&ApiKeys::default(), &ClaimPaths::default(), Some(&token), SystemTime::UNIX_EPOCH).unwrap()
}

pub(super) fn agent() -> Credential {
    token(&format!(r#"{{"role":"authenticated","exp":100,"org_id":"{ORG}","sub":"{USER}"}}"#))
}

pub(super) fn visitor() -> Credential {
    token(&format!(r#"{{"role":"anon","exp":200,"org_id":"{ORG}","conversation_id":"{CONV}"}}"#))
}

pub(super) fn organization() -> Topic {
    Topic::channel_organization(ORG)
}

pub(super) fn conversation() -> Topic {
    Topic::channel_conversation(ORG, CONV)
}

pub(super) fn widget() -> Topic {
    Topic::channel_widget(ORG, CONV)
}
