//! Channels that are live while more happens than their socket takes.

use serde_json::json;

use super::world::*;
use crate::auth::{Credential, Grants, Role};
use crate::fanout::{ClientInput, OutboxLimits, PresenceLimits, SocketId, WindowLimits};
use crate::postgres::Lsn;
use crate::protocol::{Frame, PresenceCall, Vsn};
use crate::route::{ControlChange, DatabaseTag, Position, Template, Topic};

const LIMITS: OutboxLimits = OutboxLimits { bytes_max: 1 << 20, frames_max: 16 };

impl World {
    /// A burst of so many commits on a channel: `1`, `2`, …
    fn burst(&mut self, topic: &Topic, count: usize) -> Vec<String> {
        let names: Vec<String> = (1..=count).map(|number| number.to_string()).collect();
        for name in &names {
            self.change(&[(topic, name)], vec![]);
        }
        names
    }

    /// Reads until nothing more is to come, as a session does.
    fn read_all(&mut self, id: SocketId) -> Vec<String> {
        let mut heard = Vec::new();
        loop {
            let frames = self.heard(id);
            let more = self.outboxes[id.0 as usize].take_refill_request();
            heard.extend(frames);
            match more {
                true => self.client(id, ClientInput::Refill),
                false => return heard,
            }
        }
    }

    fn small(&mut self, vsn: Vsn) -> SocketId {
        self.connect_with(vsn, LIMITS)
    }

    fn position(&mut self, id: SocketId) -> String {
        self.client(id, ClientInput::Heartbeat { reference: reference("7") });
        let frame = self.take(id).pop().unwrap();
        frame["payload"]["response"]["position"].as_str().unwrap_or_default().to_owned()
    }
}

fn typing(who: &str) -> String {
    json!({ "user_id": who }).to_string()
}

#[test]
fn a_burst_closes_nobody_and_comes_once_and_in_order() {
    let mut world = World::new();
    let stock = world.small(Vsn::V1);
    world.join(stock, &conversation().to_string(), agent());
    let resuming = world.small(Vsn::V1);
    world.join_with(resuming, &conversation().to_string(), r#"{"broadcast":{"replay":{}}}"#, Ok(agent()));
    world.take(resuming);
    let names = world.burst(&conversation(), 100);
    for socket in [stock, resuming] {
        assert_eq!(world.read_all(socket), names);
    }
    // And live again.
    world.change(&[(&conversation(), "live")], vec![]);
    assert_eq!(world.heard(stock), ["live"]);
    assert_eq!(world.hub.metrics.channels_lagged.get(), 2);
    assert_eq!(world.hub.metrics.replays_overtaken.get(), 0);
}

#[test]
fn events_of_a_burst_look_as_if_they_had_been_live() {
    let mut world = World::new();
    for vsn in [Vsn::V1, Vsn::V2] {
        let (roomy, small) = (
            world.connect_with(vsn, OutboxLimits { bytes_max: 1 << 20, frames_max: 1024 }),
            world.small(vsn),
        );
        for socket in [roomy, small] {
            world.join_with(socket, &conversation().to_string(), "{}", Ok(agent()));
            world.frames(socket);
        }
        world.burst(&conversation(), 40);
        let live = world.frames(roomy);
        let mut paced: Vec<Frame> = Vec::new();
        loop {
            paced.extend(world.frames(small));
            if !world.outboxes[small.0 as usize].take_refill_request() {
                break;
            }
            world.client(small, ClientInput::Refill);
        }
        assert_eq!((paced.len(), &paced), (40, &live), "{vsn:?}");
    }
}

#[test]
fn private_channels_elsewhere_go_on_from_the_window_and_public_ones_have_none() {
    let mut world = World::new();
    let room = Topic::Other("room:7".into());
    let grants = Grants { read_broadcast: true, ..Grants::default() };
    let private = world.small(Vsn::V1);
    let public = world.small(Vsn::V1);
    let key = || Ok(Credential::ApiKey(Role::Authenticated));
    world.join_granted(private, "room:7", r#"{"private":true}"#, key(), Some(grants));
    world.join_with(public, "room:7", "{}", key());
    for socket in [private, public] {
        world.take(socket);
    }
    for is_private in [true, false] {
        for number in 1..=40_u64 {
            world.lsn += 8;
            let position = Position { timeline: 1, commit_lsn: Lsn(world.lsn), change: 0 };
            let id = uuid::Uuid::from_u128(world.lsn.into());
            let message = Some(crate::route::RealtimeMessage { id, binary: false });
            let event = crate::route::Event {
                topic: room.clone(),
                event: number.to_string().into(),
                payload: "{}".into(),
                private: is_private,
                sight: None,
                message,
            };
            world.route_at(position, vec![event], vec![]);
        }
    }
    let names: Vec<String> = (1..=40).map(|number| number.to_string()).collect();
    assert_eq!(world.read_all(private), names);
    assert!(!world.hub.sockets.contains_key(&public), "what is not kept is lost with the socket");
}

#[test]
fn channels_of_one_socket_are_sent_what_happened_in_its_order() {
    let mut world = World::new();
    let socket = world.small(Vsn::V1);
    for topic in [conversation(), widget(), organization()] {
        world.join(socket, &topic.to_string(), agent());
    }
    let names: Vec<String> = (1..=90).map(|number| number.to_string()).collect();
    for (index, name) in names.iter().enumerate() {
        let topic = [conversation(), widget(), organization()][index % 3].clone();
        world.change(&[(&topic, name)], vec![]);
    }
    assert_eq!(world.read_all(socket), names);
}

#[test]
fn a_heartbeat_tells_no_more_than_was_sent() {
    let mut world = World::new();
    let socket = world.small(Vsn::V1);
    let replay = r#"{"broadcast":{"replay":{}}}"#;
    world.join_with(socket, &conversation().to_string(), replay, Ok(agent()));
    world.take(socket);
    let names = world.burst(&conversation(), 40);
    let sent = world.heard(socket);
    assert!(sent.len() < names.len() && names.starts_with(&sent), "{sent:?}");
    let id = |lsn: u64| {
        let position = Position { timeline: 1, commit_lsn: Lsn(lsn), change: 0 };
        position.id(DatabaseTag::new(1, 2)).to_string()
    };
    assert_eq!(world.position(socket), id(8 * sent.len() as u64));
    let mut rest = world.read_all(socket);
    assert_eq!(rest.len(), names.len() - sent.len(), "{:?}", rest.pop());
    assert_eq!(world.position(socket), id(world.lsn));
}

#[test]
fn what_the_window_has_lost_is_announced_to_stock_clients_too() {
    let mut world = World::new();
    world.hub.window = crate::fanout::window::Window::new(WindowLimits {
        age_max: std::time::Duration::from_secs(300),
        bytes_max: 20_000,
        organization_bytes_max: 20_000,
    });
    let socket = world.small(Vsn::V1);
    world.join(socket, &conversation().to_string(), agent());
    world.burst(&conversation(), 100);
    let heard = world.read_all(socket);
    let incomplete = "system: ReplayIncomplete: events are missing before this point; fetch them anew";
    let notices: Vec<usize> =
        heard.iter().enumerate().filter(|(_, name)| *name == incomplete).map(|(index, _)| index).collect();
    let [notice] = notices[..] else { panic!("{heard:?}") };
    let numbers =
        |names: &[String]| names.iter().map(|name| name.parse::<usize>().unwrap()).collect::<Vec<_>>();
    let (before, after) = (numbers(&heard[..notice]), numbers(&heard[notice + 1..]));
    assert!(before.iter().copied().eq(1..=before.len()), "{before:?}");
    assert!(!after.is_empty() && after.iter().copied().eq(101 - after.len()..=100), "{after:?}");
    assert_eq!(world.hub.metrics.replays_overtaken.get(), 1);
    world.change(&[(&conversation(), "live")], vec![]);
    assert_eq!(world.heard(socket), ["live"]);
}

#[test]
fn commits_that_are_forgotten_are_no_loss_to_who_missed_no_event() {
    let mut world = World::new();
    let socket = world.small(Vsn::V1);
    world.join(socket, &conversation().to_string(), agent());
    let names = world.burst(&conversation(), 16);
    // Time passes, without events here: a commit is forgotten together with the events before it.
    world.lsn += 240_000;
    for _ in 0..3 {
        world.lsn += 8;
        world.change(&[(&organization(), "elsewhere")], vec![]);
    }
    let head = world.hub.window.head();
    let late = crate::postgres::Timestamp::from_unix_millis(1_000 * (head.commit_lsn.0 as i64) + 290_000);
    world.hub.window.expire(late);
    let heard = world.read_all(socket);
    // Those that were queued came; the others had left, and that is said once.
    let sent = heard.iter().position(|name| name.starts_with("system")).unwrap();
    assert_eq!(heard[..sent], names[..sent]);
    assert_eq!(heard.len(), sent + 1);
    // The cursor stands where there is nothing to lose.
    let others = world.connect();
    world.join(others, &organization().to_string(), agent());
    assert_eq!(world.heard(socket), [""; 0]);
}

#[test]
fn what_clients_say_keeps_its_place_among_the_events() {
    let mut world = World::new();
    let (socket, visitor_socket) = (world.small(Vsn::V1), world.connect());
    world.join(socket, &conversation().to_string(), agent());
    world.join(visitor_socket, &widget().to_string(), visitor());
    world.burst(&conversation(), 20);
    world.send(visitor_socket, &widget().to_string(), "typing:start", "{}");
    world.change(&[(&conversation(), "said")], vec![]);
    world.send(visitor_socket, &widget().to_string(), "typing:stop", "{}");
    world.burst(&conversation(), 20);
    let heard = world.read_all(socket);
    let names = |count: usize| (1..=count).map(|number| number.to_string()).collect::<Vec<_>>();
    let expected =
        [names(20), ["typing:start", "said", "typing:stop"].map(str::to_owned).to_vec(), names(20)].concat();
    assert_eq!(heard, expected);
}

#[test]
fn what_clients_say_during_a_replay_follows_what_was_missed() {
    let mut world = World::new();
    let start = world.change(&[(&conversation(), "start")], vec![]);
    let names = world.burst(&conversation(), 30);
    let (socket, visitor_socket) = (world.small(Vsn::V1), world.connect());
    let after = start.id(DatabaseTag::new(1, 2));
    let config = format!(r#"{{"broadcast":{{"replay":{{"after":"{after}"}}}}}}"#);
    world.join_with(socket, &conversation().to_string(), &config, Ok(agent()));
    world.join(visitor_socket, &widget().to_string(), visitor());
    world.send(visitor_socket, &widget().to_string(), "typing:start", "{}");
    world.change(&[(&conversation(), "meanwhile")], vec![]);
    let heard = world.read_all(socket);
    let expected =
        [vec!["phx_reply ok".to_owned()], names, vec!["typing:start".into(), "meanwhile".into()]].concat();
    assert_eq!(heard, expected);
}

#[test]
fn what_clients_say_to_a_channel_that_lags_is_bounded() {
    let mut world = World::new();
    world.hub.settings.public_channels = true;
    let (socket, sender) = (world.small(Vsn::V1), world.connect());
    for id in [socket, sender] {
        world.join(id, &conversation().to_string(), agent());
    }
    world.burst(&conversation(), 40);
    world.send(sender, &conversation().to_string(), "typing:stop", "{}");
    for number in 0..20 {
        world.send(sender, &conversation().to_string(), &format!("cursor {number}"), "{}");
    }
    let dropped = |world: &World| world.hub.metrics.client_messages_dropped.get("lagging");
    assert_eq!(dropped(&world), 17, "a quarter of the outbox waits, and what ends something is among it");
    let heard = world.read_all(socket);
    assert_eq!(heard[40..], ["typing:stop", "cursor 17", "cursor 18", "cursor 19"]);
    // Where nothing may be lost, the socket goes.
    world.burst(&conversation(), 40);
    for _ in 0..5 {
        world.send(sender, &conversation().to_string(), "typing:stop", "{}");
    }
    assert!(!world.hub.sockets.contains_key(&socket));
}

#[test]
fn presence_is_told_anew_after_a_burst() {
    let mut world = World::new();
    world.hub.settings.presence = PresenceLimits { calls_max: 0, ..world.hub.settings.presence };
    let (socket, other) = (world.small(Vsn::V1), world.connect());
    let config = r#"{"presence":{"enabled":true}}"#;
    world.join_with(socket, &conversation().to_string(), config, Ok(agent()));
    world.join_with(other, &conversation().to_string(), config, Ok(agent()));
    world.take(socket);
    let track = |world: &mut World, name: &str| {
        let members = format!(r#""name":"{name}""#);
        let input = ClientInput::Presence {
            wire_topic: format!("realtime:{}", conversation()).into(),
            reference: reference("9"),
            call: PresenceCall::Track(members.into()),
            within_rate: true,
        };
        world.client(other, input);
        world.hub.tell_differences(std::time::Instant::now() + std::time::Duration::from_secs(1));
    };
    let names = world.burst(&conversation(), 40);
    ["a", "b", "c"].iter().for_each(|name| track(&mut world, name));
    let expected = [names, vec!["presence_state".to_owned()]].concat();
    assert_eq!(world.read_all(socket), expected, "the differences are in the state");
    track(&mut world, "d");
    assert_eq!(world.heard(socket), ["presence_diff"]);
}

#[test]
fn a_table_that_is_emptied_is_announced_in_its_place_and_its_rows_do_not_come_back() {
    let mut world = World::new();
    let first = world.change(&[(&conversation(), "dead")], vec![]);
    let (live, elsewhere, lagging) = (world.connect(), world.connect(), world.small(Vsn::V1));
    world.join(live, &conversation().to_string(), agent());
    world.join(elsewhere, &organization().to_string(), agent());
    world.join(lagging, &conversation().to_string(), agent());
    world.burst(&conversation(), 20);
    let channels = vec![Template::parse("org:{organization_id}:conv:{conversation_id}").unwrap()];
    let emptied = world.change(&[], vec![ControlChange::Emptied { channels, public: Vec::new() }]);
    world.change(&[(&conversation(), "new")], vec![]);
    let notice =
        "system: ReplayIncomplete: rows were removed all at once (TRUNCATE); fetch anew what you show";
    let heard = world.read_all(live);
    assert_eq!(heard[20..], [notice, "new"]);
    assert_eq!(world.heard(elsewhere), [""; 0]);
    let heard = world.read_all(lagging);
    let notices = heard.iter().filter(|name| name.starts_with("system: ReplayIncomplete")).count();
    assert_eq!((notices, heard.last().map(String::as_str)), (1, Some("new")), "{heard:?}");
    // Clients that come back, by whatever they have, and on channels without any event.
    let mut resume = |after: Position, topic: &Topic| {
        let socket = world.connect();
        let after = after.id(DatabaseTag::new(1, 2));
        let config = format!(r#"{{"broadcast":{{"replay":{{"after":"{after}"}}}}}}"#);
        world.join_with(socket, &topic.to_string(), &config, Ok(agent()));
        let frames = world.take(socket);
        let names = frames.iter().filter_map(|frame| frame["payload"]["event"].as_str());
        let names: Vec<String> = names.map(str::to_owned).collect();
        (frames[0]["payload"]["response"]["replay"]["complete"] == true, names)
    };
    let other = Topic::channel_conversation(ORG, OTHER_ORG);
    assert_eq!(resume(first, &conversation()), (false, vec!["new".to_owned()]));
    assert_eq!(resume(first, &other), (false, vec![]), "it was away when that happened");
    assert_eq!(resume(emptied, &conversation()), (true, vec!["new".to_owned()]));
    assert!(resume(first, &organization()).0);
}

#[test]
fn typists_behind_one_identity_end_each_by_itself() {
    let mut world = World::new();
    let (service, listener) = (world.connect(), world.connect());
    world.join(service, &conversation().to_string(), Credential::ApiKey(Role::ServiceRole));
    world.join(listener, &widget().to_string(), visitor());
    let channel = conversation().to_string();
    for who in ["a", "b"] {
        world.send(service, &channel, "typing:start", &typing(who));
    }
    world.send(service, &channel, "typing:stop", &typing("a"));
    world.take(listener);
    let later = std::time::Instant::now() + std::time::Duration::from_secs(60);
    world.hub.tick(later, std::time::SystemTime::UNIX_EPOCH);
    let told = world.take(listener);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(
        (&told[0]["payload"]["event"], &told[0]["payload"]["payload"]),
        (&json!("typing:stop"), &json!({"user_id": "b"}))
    );
    // All of them end with their channel.
    for who in ["a", "b"] {
        world.send(service, &channel, "typing:start", &typing(who));
    }
    world.take(listener);
    world.client(service, ClientInput::Disconnect);
    let mut ended: Vec<_> =
        world.take(listener).iter().map(|frame| frame["payload"]["payload"]["user_id"].clone()).collect();
    ended.sort_by_key(ToString::to_string);
    assert_eq!(ended, ["a", "b"]);
}
