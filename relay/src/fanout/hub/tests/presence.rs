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
        // Who has no name is a visitor.
        let name = |meta: &Value| meta.get("name").unwrap_or(&meta["type"]).as_str().unwrap().to_owned();
        let name = |key: &String, meta: &Value| format!("{sign}{key}={}", name(meta));
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
    assert_eq!(seen(&world, agent_socket), ["state".to_owned(), format!("+{CONV}=visitor +{USER}=A")]);
    assert_eq!(world.heard(visitor_socket), ["phx_reply ok", "phx_reply error"]);
}

#[test]
fn agents_see_that_a_visitor_is_there_for_as_long_as_one_of_its_sockets_is() {
    let mut world = World::new();
    let (agent_socket, phone, laptop) = (world.connect(), world.connect(), world.connect());
    let (conv, own) = (conversation().to_string(), widget().to_string());
    world.join_with(agent_socket, &conv, ENABLED, Ok(agent()));
    assert_eq!(seen(&world, agent_socket), ["state"]);
    // Once for each socket, whatever it has joined, and however often.
    for channel in [&own, &conv, &format!("bcast:{own}"), &own] {
        world.join_with(phone, channel, "{}", Ok(visitor()));
    }
    wait(&mut world, 0);
    assert_eq!(seen(&world, agent_socket), [format!("+{CONV}=visitor")]);
    world.join_with(laptop, &own, "{}", Ok(visitor()));
    wait(&mut world, 0);
    assert_eq!(seen(&world, agent_socket), [format!("+{CONV}=visitor")]);
    let late = world.connect();
    world.join_with(late, &conv, ENABLED, Ok(agent()));
    assert_eq!(seen(&world, late), [format!("state {CONV}=visitor {CONV}=visitor")]);

    // A channel that ends is not the visitor's end while the socket has another one.
    let leave = |world: &mut World, id: SocketId, channel: &str| {
        let wire_topic = format!("realtime:{channel}").into();
        let leave = ClientInput::Leave { wire_topic, join_ref: reference("1"), reference: reference("2") };
        world.client(id, leave);
    };
    leave(&mut world, phone, &own);
    leave(&mut world, phone, &conv);
    wait(&mut world, 6);
    assert_eq!(seen(&world, agent_socket), [""; 0]);
    // From one page to the next: neither the end of the one nor the beginning of the other is news.
    world.client(phone, ClientInput::Disconnect);
    wait(&mut world, 4);
    let next = world.connect();
    world.join_with(next, &own, "{}", Ok(visitor()));
    wait(&mut world, 10);
    assert_eq!(seen(&world, agent_socket), [""; 0]);
    // Without a word or politely, after the grace.
    world.client(next, ClientInput::Disconnect);
    leave(&mut world, laptop, &own);
    wait(&mut world, 4);
    assert_eq!(seen(&world, agent_socket), [""; 0]);
    wait(&mut world, 6);
    assert_eq!(seen(&world, agent_socket), [format!("-{CONV}=visitor -{CONV}=visitor")]);
    assert_eq!(world.hub.metrics.presences.get(), 0);
}

#[test]
fn a_channel_that_becomes_an_agents_is_no_visitors_any_more() {
    let mut world = World::new();
    let (watcher, socket) = (world.connect(), world.connect());
    let (conv, own) = (conversation().to_string(), widget().to_string());
    world.join_with(watcher, &conv, ENABLED, Ok(agent()));
    world.join_with(socket, &own, "{}", Ok(visitor()));
    let renew = |world: &mut World, credential: Credential| {
        let wire_topic = format!("realtime:{own}").into();
        let credential = Ok(credential);
        world.client(
            socket,
            ClientInput::AccessToken { wire_topic, reference: reference("5"), credential, grants: None },
        );
    };
    wait(&mut world, 0);
    renew(&mut world, visitor());
    wait(&mut world, 6);
    assert_eq!(seen(&world, watcher), ["state".to_owned(), format!("+{CONV}=visitor")]);
    renew(&mut world, agent());
    wait(&mut world, 6);
    assert_eq!(seen(&world, watcher), [format!("-{CONV}=visitor")]);
    renew(&mut world, visitor());
    wait(&mut world, 0);
    assert_eq!(seen(&world, watcher), [format!("+{CONV}=visitor")]);
}

#[test]
fn visitors_without_memory_for_their_presence_chat_all_the_same() {
    let mut world = World::new();
    world.hub.settings.presence.room_bytes_max = 100;
    world.hub.roster = crate::fanout::roster::Roster::new(&world.hub.settings.presence);
    let (agent_socket, visitor_socket) = (world.connect(), world.connect());
    world.join_with(agent_socket, &conversation().to_string(), ENABLED, Ok(agent()));
    assert_eq!(world.join(visitor_socket, &widget().to_string(), visitor()), "ok");
    wait(&mut world, 0);
    world.client(visitor_socket, ClientInput::Disconnect);
    wait(&mut world, 6);
    assert_eq!(seen(&world, agent_socket), ["state"]);
}

/// The answer to a call: ok, or why not.
fn answer(world: &mut World, id: SocketId, channel: &str, payload: &str) -> String {
    world.take(id);
    call(world, id, channel, payload);
    let reply = world.take(id).remove(0);
    let reason = reply["payload"]["response"]["reason"].as_str().map(str::to_owned);
    reason.unwrap_or_else(|| reply["payload"]["status"].as_str().unwrap().to_owned())
}

fn tracked(bytes: usize) -> String {
    format!(r#"{{"event":"track","payload":{{"name":"{}"}}}}"#, "x".repeat(bytes - 9))
}

const UNTRACK: &str = r#"{"event":"untrack"}"#;

#[test]
fn what_a_room_tracks_is_bounded() {
    let full = "PresenceChannelFull: What is tracked on this channel takes all the memory it may take";
    let bytes = 2 * (900 + 36) + 512;
    let mut world = World::new();
    world.hub.settings.presence.calls_max = 0;
    world.hub.settings.presence.room_bytes_max = 40 * bytes + 10;
    world.hub.roster = crate::fanout::roster::Roster::new(&world.hub.settings.presence);
    let crowd: Vec<_> = (0..100).map(|_| world.connect()).collect();
    let mut admitted = 0;
    for socket in &crowd {
        world.join_with(*socket, "room", "{}", Ok(agent()));
        match &*answer(&mut world, *socket, "room", &tracked(900)) {
            "ok" => admitted += 1,
            refused => assert_eq!(refused, full),
        }
    }
    assert_eq!(admitted, 40);
    // Another room is none of its business, nor is a channel that was refused closed.
    let (first, last) = (crowd[0], crowd[99]);
    assert_eq!(answer(&mut world, last, "room", &tracked(900)), full);
    world.join_with(last, "other", "{}", Ok(agent()));
    assert_eq!(answer(&mut world, last, "other", &tracked(900)), "ok");
    // What is there may change, but not grow; what it was stays where it may not.
    assert_eq!(answer(&mut world, first, "room", &tracked(901)), "ok", "there is some room left");
    assert_eq!(answer(&mut world, first, "room", &tracked(999)), full);
    assert_eq!(answer(&mut world, first, "room", &tracked(900)), "ok");
    assert_eq!(answer(&mut world, first, "room", &tracked(100)), "ok");
    wait(&mut world, 0);
    assert_eq!(answer(&mut world, last, "room", &tracked(500)), "ok", "a place was given back");
    for socket in &crowd {
        if world.hub.channel(*socket, "realtime:room").unwrap().attendance.tracked.is_some() {
            assert_eq!(answer(&mut world, *socket, "room", UNTRACK), "ok");
        }
    }
    world.client(last, ClientInput::Disconnect);
    wait(&mut world, 60);
    let metrics = &world.hub.metrics;
    assert_eq!((metrics.presences.get(), metrics.presence_bytes.get()), (0, 0));
}

#[test]
fn nobody_fills_the_memory_of_presence_for_others() {
    let full = "PresenceFull: What is tracked takes all the memory it may take";
    let mut world = World::new();
    world.hub.settings.channels_per_socket_max = 1_000;
    world.hub.settings.presence.calls_max = 0;
    let service = || Credential::ApiKey(Role::ServiceRole);
    let (hostile, honest) = (world.connect(), world.connect());
    let mut admitted = 0;
    for number in 0..200 {
        let room = format!("room {number}");
        world.join_with(hostile, &room, "{}", Ok(service()));
        match &*answer(&mut world, hostile, &room, &tracked(900)) {
            "ok" => admitted += 1,
            refused => assert_eq!(refused, full),
        }
    }
    assert_eq!(admitted, 150_000 / (2 * (900 + 36) + 512), "a quarter");
    // An organization's channels are another account, and so is each organization.
    for organization in [ORG, OTHER_ORG] {
        let room = Topic::channel_organization(organization).to_string();
        world.join_with(honest, &room, "{}", Ok(service()));
        assert_eq!(answer(&mut world, honest, &room, &tracked(900)), "ok");
    }
    world.client(hostile, ClientInput::Disconnect);
    wait(&mut world, 60);
    world.join_with(honest, "room", "{}", Ok(service()));
    assert_eq!(answer(&mut world, honest, "room", &tracked(900)), "ok");
}

/// Merges what a socket was told as the JavaScript client does, and says how long the longest frame was.
fn merge(world: &World, id: SocketId, known: &mut std::collections::BTreeMap<String, Vec<Value>>) -> usize {
    let mut longest = 0;
    for frame in world.take(id) {
        longest = longest.max(frame.to_string().len());
        let metas = |of: &Value| -> Vec<(String, Vec<Value>)> {
            let metas = of.as_object().unwrap().iter();
            metas.map(|(key, of)| (key.clone(), of["metas"].as_array().unwrap().clone())).collect()
        };
        match frame["event"].as_str().unwrap() {
            "presence_state" => *known = metas(&frame["payload"]).into_iter().collect(),
            "presence_diff" => {
                for (key, joined) in metas(&frame["payload"]["joins"]) {
                    let known = known.entry(key).or_default();
                    for meta in joined {
                        let is_new = known.iter().all(|old| old["phx_ref"] != meta["phx_ref"]);
                        assert!(is_new, "told twice: {meta}");
                        known.push(meta);
                    }
                }
                for (key, left) in metas(&frame["payload"]["leaves"]) {
                    let of_key = known.get_mut(&key).expect("who left was known");
                    for meta in left {
                        let index = of_key.iter().position(|old| old["phx_ref"] == meta["phx_ref"]);
                        of_key.swap_remove(index.expect("who left was known"));
                    }
                    if of_key.is_empty() {
                        known.remove(&key);
                    }
                }
            }
            _ => {}
        }
    }
    longest
}

#[test]
fn a_large_room_is_told_in_pieces_to_who_joins_while_it_changes() {
    let mut world = World::new();
    world.hub.settings.presence.calls_max = 0;
    world.hub.settings.presence.room_bytes_max = 10_000_000;
    world.hub.settings.presence.bytes_max = 100_000_000;
    world.hub.roster = crate::fanout::roster::Roster::new(&world.hub.settings.presence);
    let crowd: Vec<_> = (0..1_000).map(|_| world.connect()).collect();
    for (number, socket) in crowd.iter().enumerate() {
        world.join_with(*socket, "room", &keyed(&format!("user {}", number % 600)), Ok(agent()));
        track(&mut world, *socket, "room", &format!("{number} {}", "x".repeat(400)));
    }
    while world.hub.roster.tell_at().is_some() {
        wait(&mut world, 0);
    }
    let slow = world.connect();
    world.join_with(slow, "room", ENABLED, Ok(agent()));
    let mut known = std::collections::BTreeMap::new();
    let (mut longest, mut reads) = (0, 0);
    loop {
        longest = longest.max(merge(&world, slow, &mut known));
        if !world.outboxes[slow.0 as usize].take_refill_request() {
            break;
        }
        // Meanwhile some change, some go, and some come.
        for index in [reads, 999 - reads] {
            track(&mut world, crowd[index], "room", &format!("changed {reads} {}", "y".repeat(400)));
            call(&mut world, crowd[500 + index % 200], "room", UNTRACK);
        }
        let newcomer = world.connect();
        world.join_with(newcomer, "room", &keyed(&format!("new {reads}")), Ok(agent()));
        track(&mut world, newcomer, "room", "N");
        wait(&mut world, 0);
        world.client(slow, ClientInput::Refill);
        reads += 1;
        assert!(reads < 100);
    }
    assert!(reads >= 4, "it was told in {reads} pieces");
    assert!(longest < 2 * 64 * 1024, "a frame of {longest} bytes");
    let fast = world.connect_with(Vsn::V1, OutboxLimits { bytes_max: 1 << 30, frames_max: 1 << 20 });
    world.join_with(fast, "room", ENABLED, Ok(agent()));
    let mut expected = std::collections::BTreeMap::new();
    merge(&world, fast, &mut expected);
    while world.outboxes[fast.0 as usize].take_refill_request() {
        world.client(fast, ClientInput::Refill);
        merge(&world, fast, &mut expected);
    }
    let sorted = |known: std::collections::BTreeMap<String, Vec<Value>>| {
        let sorted = |(key, mut metas): (String, Vec<Value>)| {
            metas.sort_by_key(|meta| meta["phx_ref"].to_string());
            metas.iter_mut().for_each(|meta| drop(meta.as_object_mut().unwrap().remove("phx_ref_prev")));
            (key, metas)
        };
        known.into_iter().map(sorted).collect::<Vec<_>>()
    };
    assert_eq!(sorted(known), sorted(expected));
}

#[test]
fn a_crowd_that_tracks_nothing_makes_no_large_frames_either() {
    let mut world = World::new();
    world.hub.settings.presence.room_bytes_max = 10_000_000;
    world.hub.settings.presence.bytes_max = 100_000_000;
    world.hub.roster = crate::fanout::roster::Roster::new(&world.hub.settings.presence);
    let watcher = world.connect();
    world.join_with(watcher, "room", ENABLED, Ok(agent()));
    let crowd: Vec<_> = (0..1_000).map(|_| world.connect()).collect();
    for (number, socket) in crowd.iter().enumerate() {
        let key = format!("{number} {}", "k".repeat(200));
        world.join_with(*socket, "room", &format!(r#"{{"presence":{{"key":"{key}"}}}}"#), Ok(agent()));
        call(&mut world, *socket, "room", r#"{"event":"track","payload":{}}"#);
    }
    let mut known = std::collections::BTreeMap::new();
    let mut longest = 0;
    while world.hub.roster.tell_at().is_some() {
        wait(&mut world, 0);
        longest = longest.max(merge(&world, watcher, &mut known));
    }
    assert_eq!(known.len(), 1_000);
    assert!(longest < 2 * 64 * 1024, "a frame of {longest} bytes");
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
