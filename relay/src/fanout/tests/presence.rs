//! Presence, seen from the channels.

use serde_json::Value;

use super::*;
use crate::protocol::PresenceCall;

const ENABLED: &str = r#"{"presence":{"enabled":true}}"#;

fn keyed(key: &str) -> String {
    format!(r#"{{"presence":{{"enabled":true,"key":"{key}"}}}}"#)
}

fn call(world: &mut World, id: SocketId, channel: &str, payload: &str) {
    let wire_topic = format!("realtime:{channel}").into();
    let call = PresenceCall::parse(serde_json::from_str(payload).unwrap());
    world
        .client(id, ClientInput::Presence { wire_topic, reference: reference("7"), call, within_rate: true });
}

fn track(world: &mut World, id: SocketId, channel: &str, name: &str) {
    call(world, id, channel, &format!(r#"{{"event":"track","payload":{{"name":"{name}"}}}}"#));
}

/// Lets so many seconds pass and differences go out. Returns the moment that then is.
fn wait(world: &mut World, seconds: u64) -> Instant {
    let now = Instant::now() + Duration::from_secs(seconds);
    world.hub.tick(now, SystemTime::UNIX_EPOCH);
    world.hub.tell_differences(now);
    now
}

/// `event key: names` of each presence frame that waits; joins with +, leaves with -.
fn seen(world: &World, id: SocketId) -> Vec<String> {
    let names = |metas: &Value, sign: &str| -> Vec<String> {
        let metas = metas.as_object().unwrap().iter();
        let name = |key: &String, meta: &Value| format!("{sign}{key}={}", meta["name"].as_str().unwrap());
        metas
            .flat_map(|(key, value)| {
                value["metas"].as_array().unwrap().iter().map(|meta| name(key, meta)).collect::<Vec<_>>()
            })
            .collect()
    };
    let show = |frame: &Value| match frame["event"].as_str().unwrap() {
        "presence_state" => Some([vec!["state".to_owned()], names(&frame["payload"], "")].concat().join(" ")),
        "presence_diff" => {
            let (joins, leaves) = (&frame["payload"]["joins"], &frame["payload"]["leaves"]);
            Some([names(joins, "+"), names(leaves, "-")].concat().join(" "))
        }
        _ => None,
    };
    world.take(id).iter().filter_map(show).collect()
}

#[test]
fn a_state_follows_the_join_and_differences_follow_the_state() {
    let mut world = World::new();
    let (ann, bob) = (world.connect(), world.connect());
    world.join_with(ann, "room", &keyed("ann"), Ok(agent()));
    assert_eq!(world.heard(ann), ["phx_reply ok", "presence_state"]);
    track(&mut world, ann, "room", "Ann");
    wait(&mut world, 0);
    assert_eq!(seen(&world, ann), ["+ann=Ann"]);
    world.join_with(bob, "room", &keyed("bob"), Ok(agent()));
    assert_eq!(seen(&world, bob), ["state ann=Ann"]);
    track(&mut world, ann, "room", "Ann B");
    track(&mut world, bob, "room", "Bob");
    wait(&mut world, 0);
    for socket in [ann, bob] {
        assert_eq!(seen(&world, socket), ["+ann=Ann B +bob=Bob -ann=Ann"]);
    }
}

#[test]
fn who_asks_for_no_presence_is_seen_and_told_of_differences_alone() {
    let mut world = World::new();
    let (quiet, other) = (world.connect(), world.connect());
    world.join_with(quiet, "room", r#"{"presence":{"key":"quiet"}}"#, Ok(agent()));
    world.join_with(other, "room", ENABLED, Ok(agent()));
    track(&mut world, quiet, "room", "Q");
    wait(&mut world, 0);
    assert_eq!(seen(&world, quiet), ["+quiet=Q"]);
    assert_eq!(seen(&world, other), ["state", "+quiet=Q"]);
}

#[test]
fn leaving_is_told_at_once_and_a_lost_socket_after_the_grace() {
    let mut world = World::new();
    let (ann, bob, watcher) = (world.connect(), world.connect(), world.connect());
    for (socket, key) in [(ann, "ann"), (bob, "bob"), (watcher, "watcher")] {
        world.join_with(socket, "room", &keyed(key), Ok(agent()));
    }
    track(&mut world, ann, "room", "A");
    track(&mut world, bob, "room", "B");
    wait(&mut world, 0);
    seen(&world, watcher);
    let wire_topic = "realtime:room".into();
    world.client(ann, ClientInput::Leave { wire_topic, join_ref: reference("1"), reference: reference("2") });
    world.client(bob, ClientInput::Disconnect);
    wait(&mut world, 0);
    assert_eq!(seen(&world, watcher), ["-ann=A"]);
    wait(&mut world, 6);
    assert_eq!(seen(&world, watcher), ["-bob=B"]);
    assert_eq!(world.hub.metrics.presences.get(), 0);
}

#[test]
fn a_socket_that_comes_back_in_time_is_not_noticed() {
    let mut world = World::new();
    let (first, watcher) = (world.connect(), world.connect());
    world.join_with(watcher, "room", ENABLED, Ok(agent()));
    world.join_with(first, "room", &keyed("ann"), Ok(agent()));
    track(&mut world, first, "room", "A");
    wait(&mut world, 0);
    assert_eq!(seen(&world, watcher), ["state", "+ann=A"]);
    world.client(first, ClientInput::Disconnect);
    let second = world.connect();
    world.join_with(second, "room", &keyed("ann"), Ok(agent()));
    assert_eq!(seen(&world, second), ["state ann=A"]);
    track(&mut world, second, "room", "A");
    wait(&mut world, 60);
    assert_eq!(seen(&world, watcher), [""; 0]);
}

#[test]
fn what_cannot_be_tracked_is_answered() {
    let mut world = World::new();
    let socket = world.connect();
    world.join_with(socket, "room", "{}", Ok(agent()));
    world.take(socket);
    let mut reply = |payload: &str| {
        call(&mut world, socket, "room", payload);
        world.take(socket).remove(0)["payload"].to_string()
    };
    let not_an_object = r#"{"response":{"reason":"Presence track payload must be a map"},"status":"error"}"#;
    assert_eq!(reply(r#"{"event":"track","payload":"x"}"#), not_an_object);
    assert_eq!(reply(r#"{"event":"dance"}"#), r#"{"response":{},"status":"error"}"#);
    assert_eq!(reply(r#"{"event":"untrack"}"#), r#"{"response":{},"status":"ok"}"#);
    assert_eq!(reply(r#"{"type":"presence"}"#), r#"{"response":{},"status":"ok"}"#);
}

#[test]
fn too_many_calls_and_too_large_ones_end_the_channel() {
    let mut world = World::new();
    let socket = world.connect();
    world.join_with(socket, "room", "{}", Ok(agent()));
    for name in ["1", "2", "3", "4", "5"] {
        track(&mut world, socket, "room", name);
    }
    world.take(socket);
    track(&mut world, socket, "room", "6");
    assert_eq!(world.heard(socket), ["system: Client presence rate limit exceeded", "phx_close"]);
    world.join_with(socket, "room", "{}", Ok(agent()));
    world.take(socket);
    track(&mut world, socket, "room", &"x".repeat(1_000));
    assert_eq!(world.heard(socket), ["system: Track message size exceeded", "phx_close"]);
    wait(&mut world, 0);
    assert_eq!(world.hub.metrics.presences.get(), 0);
}

#[test]
fn agents_are_present_as_who_they_are_and_visitors_see_nobody() {
    let mut world = World::new();
    let (agent_socket, visitor_socket) = (world.connect(), world.connect());
    let channel = conversation().to_string();
    world.join_with(visitor_socket, &channel, ENABLED, Ok(visitor()));
    world.join_with(agent_socket, &channel, &keyed("somebody else"), Ok(agent()));
    track(&mut world, agent_socket, &channel, "A");
    track(&mut world, visitor_socket, &channel, "V");
    wait(&mut world, 0);
    assert_eq!(seen(&world, agent_socket), ["state".to_owned(), format!("+{USER}=A")]);
    assert_eq!(world.heard(visitor_socket), ["phx_reply ok", "phx_reply error"]);
}

#[test]
fn a_key_is_kept_only_where_it_names_somebody() {
    let mut world = World::new();
    let socket = world.connect();
    let channel = conversation().to_string();
    for (credential, kept) in
        [(agent(), None), (visitor(), None), (Credential::ApiKey(Role::ServiceRole), Some("somebody"))]
    {
        world.join_with(socket, &channel, &keyed("somebody"), Ok(credential));
        let channel = world.hub.channel(socket, &format!("realtime:{channel}")).unwrap();
        assert_eq!(channel.attendance.key.as_deref(), kept, "{:?}", channel.identity);
    }
}

#[test]
fn the_state_waits_for_the_replay_and_for_room() {
    let mut world = World::new();
    let watcher = world.connect_with(Vsn::V1, OutboxLimits { bytes_max: 4_000, frames_max: 1024 });
    let crowd: Vec<_> = (0..20).map(|_| world.connect()).collect();
    for socket in &crowd {
        world.join_with(*socket, "room", ENABLED, Ok(agent()));
        track(&mut world, *socket, "room", &"x".repeat(200));
    }
    wait(&mut world, 0);
    for channel in ["a", "b"] {
        world.join_with(watcher, channel, "{}", Ok(agent()));
    }
    world.join_with(watcher, "room", ENABLED, Ok(agent()));
    assert_eq!(world.heard(watcher), ["phx_reply ok"; 3]);
    world.client(watcher, ClientInput::Refill);
    let told = seen(&world, watcher);
    assert_eq!((told.len(), told[0].matches('=').count()), (1, 20));
}
