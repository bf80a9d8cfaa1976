//! What one client asks, or one row changes, costs the hub no more where others have much: the same thing is done in a
//! small world and in one that is some hundred times as large, and the costs are compared. Each is the least of several
//! times, so that a busy machine changes neither.

use super::*;
use crate::fanout::roster::Roster;
use crate::fanout::views::Viewer;
use crate::fanout::window::Window;
use crate::protocol::PresenceCall;

const SMALL: usize = 50;
const LARGE: usize = 20_000;

/// Runs an operation in both worlds, and compares.
fn check(what: &str, build: impl Fn(usize) -> World, mut operation: impl FnMut(&mut World)) {
    let mut least = |size: usize| {
        let mut world = build(size);
        let time = |_| {
            let start = Instant::now();
            operation(&mut world);
            start.elapsed()
        };
        (0..15).map(time).min().unwrap()
    };
    let (small, large) = (least(SMALL), least(LARGE));
    // In proportion it would be 400.
    assert!(large < 12 * small, "{what}: {small:?} among {SMALL}, {large:?} among {LARGE}");
}

fn world() -> World {
    let mut world = World::new();
    let settings = &mut world.hub.settings;
    settings.channels_per_socket_max = usize::MAX;
    settings.presence.calls_max = 0;
    settings.presence.room_bytes_max = usize::MAX;
    settings.presence.bytes_max = usize::MAX;
    settings.window.bytes_max = 1 << 30;
    settings.window.organization_bytes_max = 1 << 30;
    world.hub.window = Window::new(world.hub.settings.window);
    world.hub.window.start_at(Position::before(1, Lsn(8)));
    world.hub.roster = Roster::new(&world.hub.settings.presence);
    world
}

fn row(number: usize) -> uuid::Uuid {
    uuid::Uuid::from_u128(number as u128 + 1)
}

/// A private channel with so many messages.
fn with_messages(count: usize) -> World {
    let mut world = world();
    for number in 0..count {
        world.lsn += 8;
        let position = Position { timeline: 1, commit_lsn: Lsn(world.lsn), change: 0 };
        let message = Some(RealtimeMessage { id: row(number), binary: false });
        let topic = Topic::Other("room".into());
        let event =
            Event { topic, event: "e".into(), payload: "{}".into(), private: true, sight: None, message };
        world.route_at(position, vec![event], vec![]);
    }
    world.connect();
    world
}

fn join_private(world: &mut World, replay: &str) {
    let grants = Grants { read_broadcast: true, ..Grants::default() };
    let config = format!(r#"{{"private":true,"broadcast":{{"replay":{replay}}}}}"#);
    world.join_granted(SocketId(0), "room", &config, Ok(agent()), Some(grants));
    assert_eq!(world.take(SocketId(0))[0]["payload"]["status"], "ok");
}

#[test]
fn going_on_after_a_row() {
    // A newest and an oldest one, and one that the window does not have.
    check("the newest", with_messages, |world| {
        let newest = world.hub.window.event_count() - 1;
        join_private(world, &format!(r#"{{"after":"{}"}}"#, row(newest)));
    });
    check("the oldest", with_messages, |world| join_private(world, &format!(r#"{{"after":"{}"}}"#, row(0))));
    check("none", with_messages, |world| join_private(world, &format!(r#"{{"after":"{}"}}"#, row(1 << 40))));
}

#[test]
fn going_on_from_a_time() {
    check("the middle", with_messages, |world| {
        let middle = crate::postgres::Timestamp::from_unix_millis(1_000 * world.lsn as i64 / 2);
        let (start, _) =
            world.hub.window.since(&Topic::Other("room".into()), middle, 1, &mut Viewer::new(None));
        assert_eq!(start.commit_lsn, Lsn(world.lsn - 8));
    });
}

#[test]
fn a_snapshot_of_a_channel_with_a_long_history() {
    let build = |count| {
        let mut world = world();
        for _ in 0..count {
            world.change(&[(&conversation(), "e")], vec![]);
        }
        world.connect();
        world
    };
    check("a snapshot", build, |world| {
        let config = r#"{"broadcast":{"replay":{"snapshot":10}}}"#;
        world.join_with(SocketId(0), &conversation().to_string(), config, Ok(agent()));
        let request = world.requests.try_recv().unwrap();
        let xmax = world.lsn + 1;
        let rows = crate::fanout::RowsRead {
            snapshot: format!("{xmax}:{xmax}:").parse().unwrap(),
            lsn: Lsn(world.lsn),
            rows: vec![],
        };
        let (socket, ticket) = (request.socket, request.ticket);
        world.hub.apply(HubInput::Rows { socket, ticket, outcome: Ok(rows) });
        let reply = &world.take(SocketId(0))[0]["payload"]["response"]["replay"];
        assert_eq!((&reply["count"], &reply["complete"]), (&0.into(), &true.into()));
    });
}

fn track(world: &mut World, id: SocketId, room: &str, name: &str) {
    let call = PresenceCall::Track(format!(r#""name":"{name}""#).into());
    let wire_topic = format!("realtime:{room}").into();
    world
        .client(id, ClientInput::Presence { wire_topic, reference: reference("7"), call, within_rate: true });
}

#[test]
fn presence_where_many_rooms_have_some() {
    let build = |count| {
        let mut world = world();
        let crowd = world.connect();
        for number in 0..count {
            let room = format!("room {number}");
            // One socket for each, as looking for one of its channels is linear.
            let socket =
                if number % 50 == 0 { world.connect() } else { SocketId(world.outboxes.len() as u64 - 1) };
            world.join_with(socket, &room, "{}", Ok(Credential::ApiKey(Role::Anon)));
            track(&mut world, socket, &room, "x");
            world.take(socket);
        }
        world.hub.tell_differences(Instant::now());
        world.join_with(crowd, "room", "{}", Ok(Credential::ApiKey(Role::Anon)));
        world
    };
    let mut number = 0;
    check("a track and its difference", build, |world| {
        number += 1;
        track(world, SocketId(0), "room", &number.to_string());
        world.hub.tell_differences(Instant::now());
        world.take(SocketId(0));
    });
}

#[test]
fn an_agent_of_an_organization_comes_and_goes() {
    let build = |count| {
        let mut world = world();
        for number in 0..count {
            let socket = world.connect();
            let topic = Topic::channel_widget(OTHER_ORG, uuid::Uuid::from_u128(number as u128));
            world.join_with(socket, &topic.to_string(), "{}", Ok(Credential::ApiKey(Role::ServiceRole)));
            world.take(socket);
        }
        world
    };
    check("widgets are told", build, |world| world.hub.tell_widgets(ORG, true));
}

#[test]
fn an_agent_comes_and_goes_where_many_others_are() {
    let build = |count| {
        let mut world = world();
        for number in 0..count {
            let user = uuid::Uuid::from_u128(number as u128);
            world.hub.agents_online.open((OTHER_ORG, user), SocketId(number as u64));
        }
        world
    };
    check("somebody is gone", build, |world| world.hub.tell_who_is_gone(Instant::now()));
}

#[test]
fn a_row_of_an_inactive_agent_changes() {
    let credential = agent();
    let build = |count| {
        let mut world = world();
        for _ in 0..count {
            let socket = world.connect();
            world.join_with(socket, &organization().to_string(), "{}", Ok(credential.clone()));
        }
        world
    };
    let gone = |user| ControlChange::Agent { organization: ORG, user, active: Some(false) };
    check("an agent that nobody is", build, |world| {
        world.change(&[], vec![gone(uuid::Uuid::from_u128(1))]);
    });
    // A change that was applied before the agents were loaded.
    let attached_again = |count| {
        let mut world = build(count);
        let again = attached_with(vec![(ORG, USER, true)], "1000000000:1000000000:");
        world.hub.apply(again);
        world
    };
    check("one that the snapshot showed", attached_again, |world| {
        world.change(&[], vec![gone(uuid::Uuid::from_u128(1))]);
    });
}

#[test]
fn one_of_a_crowd_under_one_key_breaks_and_comes_back() {
    let config = r#"{"presence":{"key":"crowd"}}"#;
    let join = |world: &mut World, socket: SocketId| {
        world.join_with(socket, "room", config, Ok(Credential::ApiKey(Role::Anon)));
    };
    let build = |count| {
        let mut world = world();
        for number in 0..count {
            let socket = world.connect();
            join(&mut world, socket);
            track(&mut world, socket, "room", &number.to_string());
            world.client(socket, ClientInput::Disconnect);
        }
        world.connect();
        world
    };
    check("coming back", build, |world| {
        let socket = SocketId(world.outboxes.len() as u64 - 1);
        let outbox = Arc::clone(&world.outboxes[socket.0 as usize]);
        world.client(socket, ClientInput::Connect { vsn: Vsn::V1, outbox });
        join(world, socket);
        let last = world.outboxes.len() - 2;
        track(world, socket, "room", &last.to_string());
        world.take(socket);
        world.client(socket, ClientInput::Disconnect);
    });
}

/// Heartbeats, joins and cuts go on while a transaction is sent to a large room, and nothing changes its order.
#[tokio::test]
async fn a_burst_into_a_large_room_leaves_turns_to_others() {
    const MEMBERS: usize = 300;
    const CHANGES: u64 = 1_000;
    let mut world = world();
    let limits = OutboxLimits { bytes_max: usize::MAX, frames_max: usize::MAX };
    for number in 0..MEMBERS {
        // Most fall behind soon, and cost something all the same.
        let frames_max = if number == 0 { usize::MAX } else { 64 };
        let socket = world.connect_with(Vsn::V1, OutboxLimits { frames_max, ..limits });
        let replay = r#"{"broadcast":{"replay":{}}}"#;
        world.join_with(
            socket,
            &conversation().to_string(),
            replay,
            Ok(Credential::ApiKey(Role::ServiceRole)),
        );
        world.take(socket);
    }
    let change = |number: u64| crate::fanout::HubChange {
        position: Position { timeline: 1, commit_lsn: Lsn(8 * number), change: 0 },
        xid: crate::postgres::Xid(number as u32),
        committed_at: crate::postgres::Timestamp::from_unix_millis(1_000),
        meta: "{}".into(),
        routed: crate::route::Routed {
            events: vec![Event {
                topic: conversation(),
                event: number.to_string().into(),
                payload: "{}".into(),
                private: false,
                sight: None,
                message: None,
            }],
            ..Default::default()
        },
    };
    let batch = |numbers: std::ops::Range<u64>| HubInput::Changes {
        applied: Some(Lsn(8 * (numbers.end - 1))),
        changes: numbers.map(change).collect(),
    };
    let ((wal, wal_inputs), (clients, client_inputs)) =
        (tokio::sync::mpsc::channel(4), tokio::sync::mpsc::channel(4));
    wal.send(batch(2..CHANGES)).await.unwrap();
    wal.send(batch(CHANGES..CHANGES + 2)).await.unwrap();
    let beat = ClientInput::Heartbeat { reference: reference("7") };
    clients.send(HubInput::Client(SocketId(0), beat)).await.unwrap();
    let stop = tokio_util::sync::CancellationToken::new();
    let mut applied = world.applied.subscribe();
    let World { hub, outboxes, .. } = world;
    let running = tokio::spawn(hub.run(client_inputs, wal_inputs, stop.clone()));
    applied.wait_for(|lsn| *lsn == Lsn(8 * (CHANGES + 1))).await.unwrap();
    stop.cancel();
    running.await.unwrap();
    let mut frames = Vec::new();
    outboxes[0].take(&mut frames);
    let told: Vec<String> = frames.iter().map(|frame| format!("{frame:?}")).collect();
    let answered = told.iter().position(|frame| frame.contains("phx_reply")).unwrap();
    // Two turns.
    assert!(
        answered <= 2 * (8_192 / MEMBERS + 1),
        "the heartbeat was answered after {answered} of {} events",
        told.len()
    );
    let events = told.iter().filter(|frame| !frame.contains("phx_reply"));
    for (number, frame) in (2..CHANGES + 2).zip(events) {
        assert!(frame.contains(&format!(r#"\"event\":\"{number}\""#)), "{number}: {frame}");
    }
    assert_eq!(told.len() as u64, CHANGES + 1);
}
