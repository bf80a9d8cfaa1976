//! The hub as a state machine: no runtime, no sockets. Inputs go in, frames are read from outboxes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use tokio::sync::watch;
use uuid::Uuid;

use super::{
    ClientInput, Hub, HubChange, HubInput, HubSettings, Join, Outbox, OutboxLimits, SocketId, WindowLimits,
};
use crate::auth::{ApiKeys, ClaimPaths, Credential, Keys, Role, TokenError};
use crate::decode::Timestamp;
use crate::metrics::Metrics;
use crate::protocol::{Encoding, Frame, Incoming, JoinPayload, Ref, UserBroadcast, Vsn};
use crate::route::{ControlChange, DatabaseTag, Event, Position, Routed, Topic};
use crate::wal::Lsn;

const ORG: Uuid = Uuid::from_u128(0xa);
const OTHER_ORG: Uuid = Uuid::from_u128(0xb);
const CONV: Uuid = Uuid::from_u128(0xc);
const USER: Uuid = Uuid::from_u128(0xd);

struct World {
    hub: Hub,
    outboxes: Vec<Arc<Outbox>>,
    applied: Arc<AtomicU64>,
    ready: watch::Receiver<bool>,
    lsn: u64,
}

impl World {
    fn new() -> Self {
        let settings = HubSettings {
            channels_per_socket_max: 3,
            payload_bytes_max: 100_000,
            org_payload_bytes_max: 2_000,
            typing_timeout: Duration::from_secs(5),
            public_channels: true,
            window: WindowLimits {
                age_max: Duration::from_secs(300),
                bytes_max: 1 << 20,
                organization_bytes_max: 1 << 20,
            },
        };
        let applied = Arc::new(AtomicU64::new(0));
        let (ready_tx, ready) = watch::channel(false);
        let mut hub = Hub::new(settings, Metrics::default(), Arc::clone(&applied), ready_tx);
        hub.apply(attached(vec![(ORG, USER, true)]));
        Self { hub, outboxes: Vec::new(), applied, ready, lsn: 0 }
    }

    fn connect_with(&mut self, vsn: Vsn, limits: OutboxLimits) -> SocketId {
        let id = SocketId(self.outboxes.len() as u64);
        let outbox = Arc::new(Outbox::new(limits));
        self.outboxes.push(Arc::clone(&outbox));
        self.client(id, ClientInput::Connect { vsn, outbox });
        id
    }

    /// 1.0.0, whose frames are all text.
    fn connect(&mut self) -> SocketId {
        self.connect_with(Vsn::V1, OutboxLimits { bytes_max: 1 << 20, frames_max: 1024 })
    }

    fn client(&mut self, id: SocketId, input: ClientInput) {
        self.hub.apply(HubInput::Client(id, input));
    }

    fn join_with(
        &mut self,
        id: SocketId,
        channel: &str,
        config: &str,
        credential: Result<Credential, TokenError>,
    ) {
        let payload = format!(r#"{{"config":{config}}}"#);
        let join = Join {
            wire_topic: format!("realtime:{channel}").into(),
            join_ref: reference("1"),
            reference: reference("1"),
            payload: JoinPayload::parse(serde_json::from_str(&payload).unwrap()),
            credential,
            within_rate: true,
        };
        self.client(id, ClientInput::Join(Box::new(join)));
    }

    fn join(&mut self, id: SocketId, channel: &str, credential: Credential) -> String {
        self.join_with(id, channel, "{}", Ok(credential));
        let reply = self.take(id).remove(0);
        format!("{}{}", reply["payload"]["status"].as_str().unwrap(), {
            let reason = reply["payload"]["response"]["reason"].as_str();
            reason.map(|reason| format!(" {reason}")).unwrap_or_default()
        })
    }

    fn send(&mut self, id: SocketId, channel: &str, event: &str, payload: &str) {
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

    fn change(&mut self, events: &[(&Topic, &str)], control: Vec<ControlChange>) -> Position {
        self.lsn += 8;
        let position = Position { timeline: 1, commit_lsn: Lsn(self.lsn), change: 0 };
        self.change_at(position, events, control);
        position
    }

    fn change_at(&mut self, position: Position, events: &[(&Topic, &str)], control: Vec<ControlChange>) {
        let event = |(topic, event): &(&Topic, &str)| Event {
            topic: (*topic).clone(),
            event: (*event).into(),
            payload: "{}".into(),
        };
        let routed = Routed { events: events.iter().map(event).collect(), control, ..Routed::default() };
        let meta = format!(r#"{{"id":"{:x}"}}"#, position.commit_lsn.0).into_bytes().into();
        let committed_at = Timestamp::from_unix_millis(1_000 * position.commit_lsn.0 as i64);
        let changes = vec![HubChange { position, committed_at, meta, routed }];
        self.hub.apply(HubInput::Changes { changes, applied: Some(position.commit_lsn) });
    }

    /// What waits for a socket of 1.0.0.
    fn take(&self, id: SocketId) -> Vec<Value> {
        let mut frames = Vec::new();
        let waker = std::task::Waker::noop();
        let mut taking = Box::pin(self.outboxes[id.0 as usize].take(&mut frames));
        let _ = taking.as_mut().poll(&mut std::task::Context::from_waker(waker));
        drop(taking);
        let parse = |frame: Frame| match frame {
            Frame::Text(text) => serde_json::from_str(&text).unwrap(),
            Frame::Binary(bytes) => panic!("binary: {bytes:?}"),
        };
        frames.into_iter().map(parse).collect()
    }

    /// The frames that wait, short: `message:created`, `phx_close`, `system: text`, `phx_reply ok`.
    fn heard(&self, id: SocketId) -> Vec<String> {
        let short = |frame: &Value| match frame["event"].as_str().unwrap() {
            "broadcast" => frame["payload"]["event"].as_str().unwrap().to_owned(),
            "system" => format!("system: {}", frame["payload"]["message"].as_str().unwrap()),
            "phx_reply" => format!("phx_reply {}", frame["payload"]["status"].as_str().unwrap()),
            other => other.to_owned(),
        };
        self.take(id).iter().map(short).collect()
    }
}

fn attached(agents: Vec<(Uuid, Uuid, bool)>) -> HubInput {
    HubInput::Attached { agents, tag: DatabaseTag::new(1, 2), timeline: 1, confirmed_flush_lsn: Lsn(8) }
}

fn reference(number: &str) -> Ref {
    let text = format!(r#"["{number}","{number}","phoenix","heartbeat",{{}}]"#);
    Incoming::parse_text(Vsn::V2, &text).unwrap().reference
}

/// A credential as it comes of a token that was verified.
fn token(claims: &str) -> Credential {
    let key = jsonwebtoken::EncodingKey::from_secret(b"secret");
    let claims: Value = serde_json::from_str(claims).unwrap();
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
    let keys = Keys::from_secret(b"secret");
    keys.connect(&ApiKeys::default(), &ClaimPaths::default(), Some(&token), SystemTime::UNIX_EPOCH).unwrap()
}

fn agent() -> Credential {
    token(&format!(r#"{{"role":"authenticated","exp":100,"org_id":"{ORG}","sub":"{USER}"}}"#))
}

fn visitor() -> Credential {
    token(&format!(r#"{{"role":"anon","exp":200,"org_id":"{ORG}","conversation_id":"{CONV}"}}"#))
}

fn organization() -> Topic {
    Topic::channel_organization(ORG)
}

fn conversation() -> Topic {
    Topic::channel_conversation(ORG, CONV)
}

fn widget() -> Topic {
    Topic::channel_widget(ORG, CONV)
}

#[test]
fn events_reach_the_members_of_their_topic_in_order_under_both_spellings() {
    let mut world = World::new();
    let (plain, prefixed, elsewhere) = (world.connect(), world.connect(), world.connect());
    assert_eq!(world.join(plain, &conversation().to_string(), agent()), "ok");
    assert_eq!(world.join(prefixed, &format!("bcast:{}", conversation()), visitor()), "ok");
    assert_eq!(world.join(elsewhere, &organization().to_string(), agent()), "ok");
    world.change(&[(&conversation(), "first")], vec![]);
    world.change(&[(&conversation(), "second"), (&organization(), "third")], vec![]);
    assert_eq!(world.heard(plain), ["first", "second"]);
    let frames = world.take(prefixed);
    assert_eq!(frames[0]["topic"], format!("realtime:bcast:{}", conversation()));
    assert_eq!(frames[0]["payload"]["meta"]["id"], "8");
    assert_eq!(frames.len(), 2);
    assert_eq!(world.heard(elsewhere), ["third"]);
}

#[test]
fn what_was_applied_is_skipped_when_it_comes_again() {
    let mut world = World::new();
    let socket = world.connect();
    world.join(socket, &conversation().to_string(), agent());
    let first = world.change(&[(&conversation(), "first")], vec![]);
    let second = world.change(&[(&conversation(), "second")], vec![]);
    world.change_at(first, &[(&conversation(), "first")], vec![]);
    world.change_at(second, &[(&conversation(), "second")], vec![]);
    world.change_at(Position { change: 1, ..second }, &[(&conversation(), "rest of it")], vec![]);
    assert_eq!(world.heard(socket), ["first", "second", "rest of it"]);
    assert_eq!(world.applied.load(Ordering::Relaxed), second.commit_lsn.0);
}

#[test]
fn joins_are_decided_by_claims_and_the_agents_row() {
    let mut world = World::new();
    let socket = world.connect();
    let mut check = |channel: String, credential: Credential, expected: &str| {
        assert!(world.join(socket, &channel, credential).starts_with(expected), "{channel}");
    };
    let refused = "error Unauthorized: ";
    check(format!("org:{OTHER_ORG}"), agent(), refused);
    check(organization().to_string(), visitor(), refused);
    check(Topic::channel_conversation(ORG, USER).to_string(), visitor(), refused);
    check(conversation().to_string(), Credential::ApiKey(Role::Anon), refused);
    check("org:nonsense".to_owned(), agent(), "error InvalidTopic: ");
    check(String::new(), agent(), "error TopicNameRequired: ");
    check(widget().to_string(), visitor(), "ok");
    check(format!("org:{OTHER_ORG}"), Credential::ApiKey(Role::ServiceRole), "ok");
}

#[test]
fn an_agent_who_is_deactivated_hears_nothing_from_then_on() {
    let mut world = World::new();
    let (agent_socket, visitor_socket) = (world.connect(), world.connect());
    world.join(agent_socket, &conversation().to_string(), agent());
    world.join(visitor_socket, &conversation().to_string(), visitor());
    let gone = |active| vec![ControlChange::Agent { organization: ORG, user: USER, active }];
    world.change(&[(&conversation(), "before")], vec![]);
    world.change(&[], gone(Some(false)));
    world.change(&[(&conversation(), "after")], vec![]);
    let closed = "system: The agent is no longer active in this organization";
    assert_eq!(world.heard(agent_socket), ["before", closed, "phx_close"]);
    assert_eq!(world.heard(visitor_socket), ["before", "after"]);
    let refused = world.join(agent_socket, &conversation().to_string(), agent());
    assert!(refused.starts_with("error Unauthorized"), "{refused}");
    world.change(&[], gone(Some(true)));
    assert_eq!(world.join(agent_socket, &conversation().to_string(), agent()), "ok");
    world.change(&[], vec![ControlChange::AllAgentsGone]);
    assert_eq!(world.heard(agent_socket), [closed, "phx_close"]);
}

#[test]
fn attaching_anew_ends_the_channels_of_agents_who_are_gone() {
    let mut world = World::new();
    let socket = world.connect();
    world.join(socket, &organization().to_string(), agent());
    world.hub.apply(attached(vec![]));
    assert_eq!(world.heard(socket).last().unwrap(), "phx_close");
}

#[test]
fn a_conversation_that_is_gone_ends_its_channels_after_saying_so() {
    let mut world = World::new();
    let (on_widget, on_organization) = (world.connect(), world.connect());
    world.join(on_widget, &widget().to_string(), visitor());
    world.join(on_organization, &organization().to_string(), agent());
    let gone = ControlChange::ConversationGone { organization: ORG, conversation: CONV };
    world.change(
        &[(&widget(), "conversation:deleted"), (&organization(), "conversation:deleted")],
        vec![gone],
    );
    let reason = "system: The conversation was deleted or moved";
    assert_eq!(world.heard(on_widget), ["conversation:deleted", reason, "phx_close"]);
    assert_eq!(world.heard(on_organization), ["conversation:deleted"]);
    world.join(on_widget, &conversation().to_string(), visitor());
    world.change(&[], vec![ControlChange::AllConversationsGone]);
    assert_eq!(world.heard(on_widget), [reason, "phx_close"]);
}

#[test]
fn tokens_that_expire_end_their_channels_and_not_the_socket() {
    let mut world = World::new();
    let socket = world.connect();
    world.join(socket, &organization().to_string(), agent());
    world.join(socket, &widget().to_string(), visitor());
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    world.hub.tick(Instant::now(), at(99));
    assert_eq!(world.heard(socket), [""; 0]);
    world.hub.tick(Instant::now(), at(101));
    assert_eq!(world.heard(socket), ["system: Token has expired 1 seconds ago", "phx_close"]);
    world.change(&[(&widget(), "still there")], vec![]);
    assert_eq!(world.heard(socket), ["still there"]);
}

#[test]
fn a_new_token_extends_a_channel_and_a_bad_one_ends_it() {
    let mut world = World::new();
    let socket = world.connect();
    world.join(socket, &organization().to_string(), agent());
    let wire_topic: Arc<str> = format!("realtime:{}", organization()).into();
    let renew = |credential| ClientInput::AccessToken {
        wire_topic: Arc::clone(&wire_topic),
        reference: reference("5"),
        credential,
    };
    let longer = token(&format!(r#"{{"role":"authenticated","exp":500,"org_id":"{ORG}","sub":"{USER}"}}"#));
    world.client(socket, renew(Ok(longer)));
    world.hub.tick(Instant::now(), SystemTime::UNIX_EPOCH + Duration::from_secs(101));
    assert_eq!(world.heard(socket), [""; 0]);
    world.client(socket, renew(Err(TokenError::Signature)));
    assert_eq!(world.heard(socket), ["system: Failed to validate JWT signature", "phx_close"]);
}

#[test]
fn broadcasts_of_clients_are_stamped_and_spare_their_sender() {
    let mut world = World::new();
    let (sender, visitor_socket, service) = (world.connect(), world.connect(), world.connect());
    let channel = conversation().to_string();
    world.join(sender, &channel, agent());
    world.join(visitor_socket, &channel, visitor());
    world.join(service, &channel, Credential::ApiKey(Role::ServiceRole));
    world.send(sender, &channel, "note", r#"{"a":1}"#);
    assert_eq!(world.heard(sender), [""; 0]);
    let frame = &world.take(service)[0]["payload"];
    assert_eq!(frame["payload"]["a"], 1);
    assert_eq!(frame["meta"]["sender"]["id"], USER.to_string());
    let frame = &world.take(visitor_socket)[0]["payload"];
    assert_eq!(frame["meta"]["sender"], serde_json::json!({"type": "agent", "id": null}));
}

#[test]
fn ack_and_self_are_as_the_join_asked() {
    let mut world = World::new();
    let socket = world.connect();
    world.join_with(socket, "lobby", r#"{"broadcast":{"ack":true,"self":true}}"#, Ok(agent()));
    world.take(socket);
    world.send(socket, "lobby", "hello", "{}");
    assert_eq!(world.heard(socket), ["hello", "phx_reply ok"]);
    world.send(socket, "lobby", "hello", &"x".repeat(100_001));
    assert_eq!(world.heard(socket), ["phx_reply error"]);
}

#[test]
fn reserved_events_and_a_visitors_own_are_refused() {
    let mut world = World::new();
    let (visitor_socket, agent_socket) = (world.connect(), world.connect());
    let channel = conversation().to_string();
    let ack = r#"{"broadcast":{"ack":true}}"#;
    world.join_with(visitor_socket, &channel, ack, Ok(visitor()));
    world.join_with(agent_socket, &channel, ack, Ok(agent()));
    world.take(visitor_socket);
    world.take(agent_socket);
    for event in
        ["message:created", "Conversation:updated", "read:receipt", "agent:status:online", "campfire:x"]
    {
        world.send(agent_socket, &channel, event, "{}");
        assert_eq!(world.heard(agent_socket), ["phx_reply error"], "{event}");
    }
    world.send(visitor_socket, &channel, "note", "{}");
    assert_eq!(world.heard(visitor_socket), ["phx_reply error"]);
    world.send(visitor_socket, &channel, "typing:start", &"x".repeat(1025));
    assert_eq!(world.heard(visitor_socket), ["phx_reply error"]);
    assert_eq!(world.heard(agent_socket), [""; 0]);
}

#[test]
fn typing_crosses_to_the_widget_and_is_ended_by_the_server() {
    let mut world = World::new();
    let (agent_socket, visitor_socket) = (world.connect(), world.connect());
    world.join(agent_socket, &conversation().to_string(), agent());
    world.join(visitor_socket, &widget().to_string(), visitor());
    world.send(visitor_socket, &widget().to_string(), "typing:start", "{}");
    assert_eq!(world.heard(agent_socket), ["typing:start"]);
    assert_eq!(world.heard(visitor_socket), [""; 0]);
    world.hub.tick(Instant::now() + Duration::from_secs(6), SystemTime::UNIX_EPOCH);
    assert_eq!(world.heard(agent_socket), ["typing:stop"]);
    world.hub.tick(Instant::now() + Duration::from_secs(60), SystemTime::UNIX_EPOCH);
    assert_eq!(world.heard(agent_socket), [""; 0]);
    world.send(agent_socket, &conversation().to_string(), "typing:start", "{}");
    world.client(agent_socket, ClientInput::Disconnect);
    assert_eq!(world.heard(visitor_socket), ["typing:start", "typing:stop"]);
}

#[test]
fn a_socket_that_does_not_read_is_given_up_and_nobody_else() {
    let mut world = World::new();
    let slow = world.connect_with(Vsn::V1, OutboxLimits { bytes_max: 1 << 20, frames_max: 4 });
    let good = world.connect();
    for socket in [slow, good] {
        assert_eq!(world.join(socket, &conversation().to_string(), agent()), "ok");
    }
    for _ in 0..10 {
        world.change(&[(&conversation(), "event")], vec![]);
    }
    assert_eq!(world.heard(good).len(), 10);
    assert_eq!(world.heard(slow), [""; 0]);
    assert_eq!(world.hub.metrics.channels.get(), 1);
}

#[test]
fn joining_again_replaces_the_channel() {
    let mut world = World::new();
    let socket = world.connect();
    world.join(socket, "lobby", agent());
    world.join(socket, "lobby", agent());
    assert_eq!(world.hub.metrics.channels.get(), 1);
    let other = world.connect();
    world.join(other, "lobby", agent());
    world.send(other, "lobby", "hello", "{}");
    assert_eq!(world.heard(socket), ["hello"]);
}

#[test]
fn leaving_is_answered_and_pushes_afterwards_are_unmatched() {
    let mut world = World::new();
    let socket = world.connect();
    world.join(socket, "lobby", agent());
    let wire_topic: Arc<str> = "realtime:lobby".into();
    let leave = || ClientInput::Leave {
        wire_topic: Arc::clone(&wire_topic),
        join_ref: reference("1"),
        reference: reference("2"),
    };
    world.client(socket, leave());
    assert_eq!(world.heard(socket), ["phx_reply ok", "phx_close"]);
    world.client(socket, leave());
    assert_eq!(world.heard(socket), ["phx_reply ok"]);
    world.send(socket, "lobby", "hello", "{}");
    assert_eq!(world.heard(socket), ["phx_reply error"]);
    assert_eq!(world.hub.metrics.topics.get(), 0);
}

#[test]
fn a_socket_has_a_bounded_number_of_channels() {
    let mut world = World::new();
    let socket = world.connect();
    for room in ["a", "b", "c"] {
        assert_eq!(world.join(socket, room, agent()), "ok");
    }
    assert_eq!(world.join(socket, "d", agent()), "error ChannelRateLimitReached: Too many channels");
    assert_eq!(world.join(socket, "a", agent()), "ok");
}

#[test]
fn a_loss_is_told_to_every_channel() {
    let mut world = World::new();
    let socket = world.connect();
    world.join(socket, "lobby", agent());
    world.join(socket, &organization().to_string(), agent());
    world.hub.apply(HubInput::Loss { cause: "the slot was dropped" });
    let told = "system: ReplayIncomplete: the slot was dropped; fetch anew what you show";
    assert_eq!(world.heard(socket), [told, told]);
}

#[test]
fn readiness_follows_the_stream() {
    let mut world = World::new();
    assert!(!*world.ready.borrow());
    world.hub.apply(HubInput::CaughtUp);
    assert!(*world.ready.borrow());
    world.hub.apply(HubInput::Detached);
    assert!(!*world.ready.borrow());
}

#[test]
fn binary_payloads_reach_2_0_0_only() {
    let mut world = World::new();
    let limits = OutboxLimits { bytes_max: 1 << 20, frames_max: 1024 };
    let (two, one, sender) = (world.connect_with(Vsn::V2, limits), world.connect(), world.connect());
    for socket in [one, sender] {
        world.join(socket, "lobby", agent());
    }
    world.join_with(two, "lobby", "{}", Ok(agent()));
    let broadcast =
        UserBroadcast { event: "blob".into(), encoding: Encoding::Binary, payload: vec![0xde, 0xad].into() };
    let wire_topic = "realtime:lobby".into();
    world.client(
        sender,
        ClientInput::Broadcast { wire_topic, reference: reference("9"), broadcast, within_rate: true },
    );
    assert_eq!(world.heard(one), [""; 0]);
    let mut frames = Vec::new();
    let mut taking = Box::pin(world.outboxes[two.0 as usize].take(&mut frames));
    let _ = taking.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
    drop(taking);
    assert!(matches!(&frames[..], [Frame::Text(_), Frame::Binary(bytes)] if bytes.ends_with(b"\xde\xad")));
}

impl World {
    /// Joins with a replay and returns its part of the reply and what else came.
    fn resume(&mut self, id: SocketId, topic: &Topic, replay: &str) -> (Value, Vec<Value>) {
        let config = format!(r#"{{"broadcast":{{"replay":{replay}}}}}"#);
        self.join_with(id, &topic.to_string(), &config, Ok(agent()));
        let mut frames = self.take(id);
        let reply = frames.remove(0)["payload"]["response"].take();
        (reply["replay"].clone(), frames)
    }

    fn id(position: Position) -> String {
        position.id(DatabaseTag::new(1, 2)).to_string()
    }
}

fn events(frames: &[Value]) -> Vec<&str> {
    frames.iter().map(|frame| frame["payload"]["event"].as_str().unwrap_or("system")).collect()
}

#[test]
fn resuming_gives_what_was_missed_and_then_what_is_live() {
    let mut world = World::new();
    let first = world.change(&[(&conversation(), "first")], vec![]);
    world.change(&[(&conversation(), "second"), (&organization(), "elsewhere")], vec![]);
    let third = world.change(&[(&conversation(), "third")], vec![]);
    let socket = world.connect();
    let after = format!(r#"{{"after":"{}"}}"#, World::id(first));
    let (replay, frames) = world.resume(socket, &conversation(), &after);
    assert_eq!(replay, serde_json::json!({"complete": true, "position": World::id(third), "count": 2}));
    assert_eq!(events(&frames), ["second", "third"]);
    assert_eq!(frames[0]["payload"]["meta"]["replayed"], true);
    assert_eq!(frames[0]["payload"]["meta"]["id"], "10");
    world.change(&[(&conversation(), "fourth")], vec![]);
    assert_eq!(world.heard(socket), ["fourth"]);
}

#[test]
fn a_position_that_is_not_ours_is_incomplete_and_said_so() {
    let mut world = World::new();
    let socket = world.connect();
    world.change(&[(&conversation(), "first")], vec![]);
    let head = world.change(&[(&conversation(), "second")], vec![]);
    let foreign = head.id(DatabaseTag::new(8, 9)).to_string();
    let ahead = World::id(Position { commit_lsn: Lsn(10_000), ..head });
    for after in [foreign, ahead] {
        let (replay, frames) = world.resume(socket, &conversation(), &format!(r#"{{"after":"{after}"}}"#));
        assert_eq!(replay, serde_json::json!({"complete": false, "position": World::id(head), "count": 0}));
        assert!(
            frames[0]["payload"]["message"].as_str().unwrap().starts_with("ReplayIncomplete"),
            "{frames:?}"
        );
        assert_eq!(frames[0]["payload"]["status"], "ok");
    }
    let before = World::id(Position::default());
    let (replay, frames) = world.resume(socket, &conversation(), &format!(r#"{{"after":"{before}"}}"#));
    assert_eq!((&replay["complete"], &replay["count"]), (&Value::from(false), &Value::from(2)));
    assert_eq!(events(&frames), ["system", "first", "second"]);
}

#[test]
fn a_replay_flows_as_the_socket_drains_and_what_commits_meanwhile_follows() {
    let mut world = World::new();
    let start = world.change(&[(&conversation(), "start")], vec![]);
    for _ in 0..20 {
        world.change(&[(&conversation(), "missed")], vec![]);
    }
    let socket = world.connect_with(Vsn::V1, OutboxLimits { bytes_max: 1 << 20, frames_max: 8 });
    let after = format!(r#"{{"after":"{}"}}"#, World::id(start));
    let (replay, mut frames) = world.resume(socket, &conversation(), &after);
    assert_eq!(replay["count"], 20);
    assert!(frames.len() < 8, "the outbox bounds it: {}", frames.len());
    let mut live = 0;
    while world.outboxes[socket.0 as usize].take_refill_request() {
        world.change(&[(&conversation(), "meanwhile")], vec![]);
        live += 1;
        world.client(socket, ClientInput::Refill);
        frames.extend(world.take(socket));
    }
    world.change(&[(&conversation(), "live")], vec![]);
    frames.extend(world.take(socket));
    let expected = [vec!["missed"; 20], vec!["meanwhile"; live], vec!["live"]].concat();
    assert_eq!(events(&frames), expected);
    let ids: Vec<u64> = frames
        .iter()
        .map(|frame| u64::from_str_radix(frame["payload"]["meta"]["id"].as_str().unwrap(), 16).unwrap())
        .collect();
    assert!(ids.is_sorted_by(|earlier, later| earlier < later), "{ids:?}");
}

#[test]
fn heartbeats_carry_a_position_while_a_channel_resumes() {
    let mut world = World::new();
    let socket = world.connect();
    let beat = |world: &mut World| {
        world.client(socket, ClientInput::Heartbeat { reference: reference("7") });
        world.take(socket).remove(0)["payload"]["response"].take()
    };
    world.join(socket, &conversation().to_string(), agent());
    assert_eq!(beat(&mut world), serde_json::json!({}));
    let (replay, _) = world.resume(socket, &widget(), "{}");
    assert_eq!(replay["count"], 0);
    assert_eq!(beat(&mut world)["position"], replay["position"]);
    let head = world.change(&[(&organization(), "elsewhere")], vec![]);
    assert_eq!(beat(&mut world)["position"], World::id(head));
    let (replay, frames) = world.resume(socket, &widget(), &format!(r#"{{"after":"{}"}}"#, World::id(head)));
    assert_eq!((&replay["complete"], frames.len()), (&Value::from(true), 0));
}

#[test]
fn after_a_loss_nothing_before_it_is_complete() {
    let mut world = World::new();
    let before = world.change(&[(&conversation(), "before")], vec![]);
    world.hub.apply(HubInput::Loss { cause: "the slot was dropped" });
    world.lsn = 1000;
    let tag = DatabaseTag::new(1, 2);
    let agents = vec![(ORG, USER, true)];
    world.hub.apply(HubInput::Attached { agents, tag, timeline: 1, confirmed_flush_lsn: Lsn(1000) });
    world.change(&[(&conversation(), "after")], vec![]);
    let socket = world.connect();
    let (replay, frames) =
        world.resume(socket, &conversation(), &format!(r#"{{"after":"{}"}}"#, World::id(before)));
    assert_eq!(replay["complete"], false);
    assert_eq!(events(&frames), ["system", "after"]);
}

#[test]
fn replay_is_for_channels_of_organizations_and_well_formed() {
    let mut world = World::new();
    let socket = world.connect();
    let mut reason = |channel: &str, replay: &str| {
        let config = format!(r#"{{"broadcast":{{"replay":{replay}}}}}"#);
        world.join_with(socket, channel, &config, Ok(agent()));
        world.take(socket)[0]["payload"]["response"]["reason"].as_str().map(str::to_owned)
    };
    let text = |text: &str| Some(format!("UnableToReplayMessages: {text}"));
    assert_eq!(reason("lobby", "{}"), text("Replay is not allowed for public channels"));
    assert_eq!(reason(&conversation().to_string(), r#"{"after":"x"}"#), text("Replay params are not valid"));
    assert_eq!(reason(&conversation().to_string(), "null"), None);
}
