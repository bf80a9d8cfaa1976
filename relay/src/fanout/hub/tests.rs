//! The hub as a state machine: no runtime, no sockets. Inputs go in, frames are read from outboxes.

mod burst;
mod cut;
mod expiry;
mod growth;
mod memory;
mod model;
mod presence;
mod resume;
mod sent;
mod snapshot;
mod world;

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use self::world::*;
use crate::auth::{Credential, Grants, Role, TokenError};
use crate::fanout::{ClientInput, HubInput, OutboxLimits, SocketId};
use crate::postgres::Lsn;
use crate::protocol::{Encoding, Reason, UserBroadcast, Vsn};
use crate::route::{ControlChange, Event, Position, RealtimeMessage, Topic};

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
    assert_eq!(*world.applied.borrow(), second.commit_lsn);
}

#[test]
fn rows_of_realtime_messages_go_to_the_room_they_name() {
    let mut world = World::new();
    let socket = world.connect();
    assert_eq!(world.join(socket, "r", agent()), "ok");
    for (lsn, event, private, binary) in [
        (8, "private", true, false),
        // No bytes for 1.0.0.
        (16, "bytes", false, true),
        (24, "public", false, false),
    ] {
        let message = Some(RealtimeMessage { id: ORG, binary });
        let topic = Topic::Other("r".into());
        let event = Event { topic, event: event.into(), payload: "{}".into(), private, sight: None, message };
        let position = Position { timeline: 1, commit_lsn: Lsn(lsn), change: 0 };
        world.route_at(position, vec![event], vec![]);
    }
    assert_eq!(world.heard(socket), ["public"]);
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
    world.take(on_widget);
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
        grants: None,
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
fn the_name_of_an_event_is_bounded_on_every_way_in() {
    let longest = "n".repeat(255);
    let too_long = [format!("{longest}n"), "é".repeat(128), format!("typing:{}", "x".repeat(1_500_000))];
    let refused = "EventNameTooLong: The name of an event has at most 255 bytes";
    let service = || Credential::ApiKey(Role::ServiceRole);
    for (channel, credential) in [
        ("lobby".to_owned(), agent()),
        (organization().to_string(), agent()),
        (conversation().to_string(), service()),
        (widget().to_string(), visitor()),
    ] {
        let mut world = World::new();
        let (sender, listener) = (world.connect(), world.connect());
        let config = r#"{"broadcast":{"ack":true}}"#;
        world.join_with(sender, &channel, config, Ok(credential.clone()));
        world.join(listener, &channel, if channel == "lobby" { agent() } else { service() });
        world.take(sender);
        for event in &too_long {
            world.send(sender, &channel, event, "{}");
            let told = world.take(sender);
            assert_eq!(told[0]["payload"]["response"]["reason"], refused, "{channel}");
            let outcome = world.publish(credential.clone(), &channel, event, "{}");
            assert_eq!(outcome.map_err(|reason| reason.to_string()), Err(refused.to_owned()), "{channel}");
        }
        assert_eq!(world.heard(listener), [""; 0], "{channel}");
        if channel != widget().to_string() {
            world.send(sender, &channel, &longest, "{}");
            assert_eq!(world.heard(sender), ["phx_reply ok"]);
            assert_eq!(world.publish(credential, &channel, &longest, "{}"), Ok(()));
            assert_eq!(world.heard(listener), [longest.clone(), longest.clone()]);
        }
    }
}

#[test]
fn a_broadcast_with_several_faults_is_refused_for_the_same_one_on_every_way_in() {
    let too_long = format!("message:{}", "n".repeat(255));
    let (large, larger) = ("x".repeat(2_001), "x".repeat(100_001));
    for (channel, event, payload, expected) in [
        (conversation().to_string(), &*too_long, &*large, Reason::EventNameTooLong),
        (conversation().to_string(), "message:created", &large, Reason::PayloadTooLarge),
        (conversation().to_string(), "typing:start", &large, Reason::PayloadTooLarge),
        (conversation().to_string(), "message:created", "{}", Reason::EventNotAllowed),
        ("lobby".to_owned(), &too_long, &larger, Reason::EventNameTooLong),
        ("lobby".to_owned(), "message:created", &larger, Reason::PayloadTooLarge),
    ] {
        let mut world = World::new();
        let sender = world.connect();
        world.join_with(sender, &channel, r#"{"broadcast":{"ack":true}}"#, Ok(agent()));
        world.take(sender);
        world.send(sender, &channel, event, payload);
        let told = world.take(sender).remove(0)["payload"]["response"]["reason"].take();
        assert_eq!(told, expected.to_string(), "{channel}");
        assert_eq!(world.publish(agent(), &channel, event, payload), Err(expected), "{channel}");
    }
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
    let typing_timeout = world.hub.settings.typing_timeout;
    world.hub.tick(Instant::now() + typing_timeout - Duration::from_secs(1), SystemTime::UNIX_EPOCH);
    assert_eq!(world.heard(agent_socket), [""; 0]);
    world.hub.tick(Instant::now() + typing_timeout, SystemTime::UNIX_EPOCH);
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
    let sender = world.connect();
    for socket in [slow, good, sender] {
        assert_eq!(world.join(socket, &conversation().to_string(), agent()), "ok");
    }
    for _ in 0..10 {
        world.send(sender, &conversation().to_string(), "said once", "{}");
    }
    assert_eq!(world.heard(good).len(), 10);
    assert_eq!(world.heard(slow), [""; 0]);
    assert_eq!(world.hub.metrics.channels.get(), 2);
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
    world.hub.apply(attached_after_loss(1000, true));
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
fn a_token_opens_a_bounded_number_of_sockets() {
    let mut world = World::new();
    world.hub.settings.sockets_per_token_max = 2;
    let sockets: Vec<_> = (0..3).map(|_| world.connect()).collect();
    for socket in &sockets[..2] {
        assert_eq!(world.join(*socket, "a", agent()), "ok");
        assert_eq!(world.join(*socket, "b", agent()), "ok");
    }
    let refused = "error ConnectionRateLimitReached: Too many connected users";
    assert_eq!(world.join(sockets[2], "a", agent()), refused);
    assert_eq!(world.join(sockets[2], "a", Credential::ApiKey(Role::Anon)), "ok");
    world.client(sockets[0], ClientInput::Disconnect);
    assert_eq!(world.join(sockets[2], "b", agent()), "ok");
}

#[test]
fn too_many_events_end_their_receivers_channels_where_that_is_asked_for() {
    let mut world = World::new();
    world.hub.event_rate = crate::fanout::event_rate::EventRate::new(1);
    let (sender, receiver) = (world.connect(), world.connect());
    for socket in [sender, receiver] {
        world.join(socket, "lobby", agent());
    }
    for _ in 0..4 {
        world.send(sender, "lobby", "e", "{}");
    }
    assert_eq!(world.heard(receiver), ["e", "e", "e", "system: Too many messages per second", "phx_close"]);
    world.send(sender, "lobby", "e", "{}");
    assert_eq!(world.heard(sender), [""; 0]);
    // Rows are never limited.
    world.join(receiver, &conversation().to_string(), agent());
    world.change(&[(&conversation(), "row")], vec![]);
    assert_eq!(world.heard(receiver), ["row"]);
}

#[test]
fn who_may_not_send_is_told_where_an_answer_was_asked_for() {
    let mut world = World::new();
    let grants = Grants { read_broadcast: true, ..Grants::default() };
    for (ack, expected) in [("true", 1), ("false", 0)] {
        let socket = world.connect();
        let config = format!(r#"{{"private":true,"broadcast":{{"ack":{ack}}}}}"#);
        world.join_granted(socket, "room", &config, Ok(agent()), Some(grants));
        world.take(socket);
        world.send(socket, "room", "e", "{}");
        let told = world.take(socket);
        assert_eq!(told.len(), expected, "{told:?}");
        if let [reply] = &told[..] {
            let reason = "Unauthorized: You do not have permissions to write to this Channel topic: room";
            assert_eq!(reply["payload"]["response"]["reason"], reason);
        }
    }
}

#[test]
fn who_asks_is_told_when_the_database_streams() {
    let mut world = World::new();
    let socket = world.connect();
    let config = r#"{"broadcast":{"replication_ready":"true"},"presence":{"enabled":true}}"#;
    world.join_with(socket, "lobby", config, Ok(agent()));
    assert_eq!(world.heard(socket), ["phx_reply ok", "presence_state"]);
    world.hub.apply(HubInput::CaughtUp);
    let ready = "system: Replication connection established";
    assert_eq!(world.heard(socket), [ready]);
    world.join_with(socket, "lobby 2", config, Ok(agent()));
    assert_eq!(world.heard(socket), ["phx_reply ok", ready, "presence_state"]);
    world.hub.apply(HubInput::Detached);
    world.join_with(socket, "lobby 3", config, Ok(agent()));
    world.take(socket);
    world.hub.tick(Instant::now() + Duration::from_secs(61), SystemTime::UNIX_EPOCH);
    let late = "system: Replication connection was not established in time";
    assert_eq!(world.heard(socket), [late, "phx_close"]);
}

#[test]
fn agents_come_online_and_go_for_their_organization_and_its_widgets() {
    let mut world = World::new();
    let (service, visitor_socket) = (world.connect(), world.connect());
    world.join(service, &organization().to_string(), Credential::ApiKey(Role::ServiceRole));
    world.join_with(visitor_socket, &widget().to_string(), "{}", Ok(visitor()));
    let told = world.take(visitor_socket);
    assert_eq!(told[1]["payload"]["event"], "agent:status:offline");
    assert_eq!(told[1]["payload"]["payload"], serde_json::json!({"online": false}));
    let (first, second) = (world.connect(), world.connect());
    world.join_with(first, &organization().to_string(), "{}", Ok(agent()));
    world.join_with(second, &conversation().to_string(), "{}", Ok(agent()));
    assert_eq!(world.heard(first), ["phx_reply ok"], "nobody is told of himself");
    let told = world.take(service);
    let ada = serde_json::json!({"user_id": USER, "display_name": "Ada"});
    assert_eq!((told.len(), &told[0]["payload"]["payload"]), (1, &ada));
    assert_eq!(world.heard(visitor_socket), ["agent:status:online"]);
    // From one dashboard to another, or back in a moment: no news.
    world.client(first, ClientInput::Disconnect);
    world.client(second, ClientInput::Disconnect);
    let third = world.connect();
    world.join(third, &organization().to_string(), agent());
    let after = |seconds| Instant::now() + Duration::from_secs(seconds);
    world.hub.tick(after(60), SystemTime::UNIX_EPOCH);
    assert_eq!((world.heard(service), world.heard(visitor_socket)), (vec![], vec![]));
    world.client(third, ClientInput::Disconnect);
    world.hub.tick(after(60), SystemTime::UNIX_EPOCH);
    assert_eq!(world.heard(service), ["agent:status:offline"]);
    assert_eq!(world.heard(visitor_socket), ["agent:status:offline"]);
}

#[test]
fn an_agent_who_is_deactivated_is_offline_at_once() {
    let mut world = World::new();
    let (service, dashboard) = (world.connect(), world.connect());
    world.join(service, &organization().to_string(), Credential::ApiKey(Role::ServiceRole));
    world.join(dashboard, &organization().to_string(), agent());
    let gone = ControlChange::Agent { organization: ORG, user: USER, active: Some(false) };
    world.change(&[], vec![gone]);
    assert_eq!(world.heard(service), ["agent:status:online", "agent:status:offline"]);
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
    let frames = world.frames(two);
    let [reply, blob] = &frames[..] else { panic!("{frames:?}") };
    assert!(reply.is_text() && !blob.is_text() && blob.payload().ends_with(b"\xde\xad"));
}
