//! Memory that all sockets share.

use std::time::{Instant, SystemTime};

use super::world::*;
use crate::fanout::{ClientInput, SocketId, Unread};
use crate::postgres::Lsn;
use crate::protocol::Vsn;
use crate::route::{DatabaseTag, Event, Position};

const EVENTS: usize = 20;
const EVENT_BYTES: usize = 20_000;

/// Less than a portion for each of [`CLIENTS`].
const BYTES_MAX: usize = 500_000;
const CLIENTS: usize = 40;

/// What one turn may take beyond the bound: a portion.
const PORTION: usize = 70 << 10;

impl World {
    /// Commits so many large events, and tells the position before them.
    fn large_events(&mut self) -> Position {
        let start = self.change(&[(&conversation(), "start")], vec![]);
        for number in 0..EVENTS {
            self.lsn += 8;
            let position = Position { timeline: 1, commit_lsn: Lsn(self.lsn), change: 0 };
            let payload = format!(r#""{}""#, "x".repeat(EVENT_BYTES)).into();
            let event = Event {
                topic: conversation(),
                event: number.to_string().into(),
                payload,
                private: false,
                sight: None,
                message: None,
            };
            self.route_at(position, vec![event], vec![]);
        }
        start
    }

    fn come_back(&mut self, vsn: Vsn, after: Position) -> SocketId {
        let socket =
            self.connect_with(vsn, crate::fanout::OutboxLimits { bytes_max: 1 << 20, frames_max: 1024 });
        let after = after.id(DatabaseTag::new(1, 2));
        let config = format!(r#"{{"broadcast":{{"replay":{{"after":"{after}"}}}}}}"#);
        self.join_with(socket, &conversation().to_string(), &config, Ok(agent()));
        socket
    }

    /// Takes what waits, as a session does that writes it at once; more is asked for if there is more.
    fn read_some(&mut self, id: SocketId) -> Vec<String> {
        let heard = self.heard(id);
        if self.outboxes[id.0 as usize].take_refill_request() {
            self.client(id, ClientInput::Refill);
        }
        heard
    }
}

#[test]
fn a_storm_of_replays_waits_for_memory_and_everybody_gets_all_of_it_in_turn() {
    let mut world = World::new();
    let start = world.large_events();
    world.unread = Unread::new(BYTES_MAX);
    let clients: Vec<_> = (0..CLIENTS).map(|_| world.come_back(Vsn::V1, start)).collect();
    let mut most = world.unread.bytes();
    assert!(most > BYTES_MAX / 2, "{most} is no storm");
    let mut heard = vec![Vec::new(); CLIENTS];
    // No more turns than it takes if each gives somebody a portion.
    for _ in 0..CLIENTS * EVENTS * EVENT_BYTES / (PORTION / 2) {
        for (client, heard) in clients.iter().zip(&mut heard) {
            heard.extend(world.read_some(*client));
            most = most.max(world.unread.bytes());
        }
        world.hub.tick(Instant::now(), SystemTime::UNIX_EPOCH);
    }
    assert!(most <= BYTES_MAX + PORTION, "{most} bytes");
    let mut expected = vec!["phx_reply ok".to_owned()];
    expected.extend((0..EVENTS).map(|number| number.to_string()));
    for heard in &heard {
        assert_eq!(heard, &expected);
    }
    assert_eq!(world.unread.bytes(), 0);
    // They are live.
    world.change(&[(&conversation(), "live")], vec![]);
    assert!(clients.iter().all(|client| world.heard(*client) == ["live"]));
}

#[test]
fn who_goes_while_it_waits_for_memory_is_forgotten() {
    let mut world = World::new();
    let start = world.large_events();
    world.unread = Unread::new(BYTES_MAX);
    let clients: Vec<_> = (0..CLIENTS).map(|_| world.come_back(Vsn::V1, start)).collect();
    let (last, gone) = clients.split_last().unwrap();
    assert_eq!(world.heard(*last), ["phx_reply ok"], "it waits");
    for client in gone {
        world.take(*client);
        world.client(*client, ClientInput::Disconnect);
    }
    let mut heard = Vec::new();
    while heard.len() < EVENTS {
        let some = world.read_some(*last);
        assert!(!some.is_empty(), "it waits for ever, with {} of {EVENTS}", heard.len());
        heard.extend(some);
    }
    assert!(world.hub.starved.is_empty());
}

#[test]
fn a_new_token_counts_for_its_sockets_as_in_a_join() {
    let mut world = World::new();
    world.hub.settings.sockets_per_token_max = 2;
    let topic = conversation().to_string();
    let leaked = visitor();
    let renew = |world: &mut World, socket: SocketId| {
        world.client(
            socket,
            ClientInput::AccessToken {
                wire_topic: format!("realtime:{topic}").into(),
                reference: reference("3"),
                credential: Ok(leaked.clone()),
                grants: None,
            },
        );
        world.heard(socket)
    };
    let sockets: Vec<_> = (0..3)
        .map(|number| {
            let socket = world.connect();
            let own = format!(
                r#"{{"role":"anon","exp":{},"org_id":"{ORG}","conversation_id":"{CONV}"}}"#,
                300 + number
            );
            assert_eq!(world.join(socket, &topic, token(&own)), "ok");
            socket
        })
        .collect();
    assert_eq!(renew(&mut world, sockets[0]), [""; 0]);
    assert_eq!(renew(&mut world, sockets[1]), [""; 0]);
    // Again, with what it has already.
    assert_eq!(renew(&mut world, sockets[1]), [""; 0]);
    assert_eq!(renew(&mut world, sockets[2]), ["system: Too many connected users", "phx_close"]);
    world.client(sockets[0], ClientInput::Disconnect);
    assert_eq!(world.join(sockets[2], &topic, leaked.clone()), "ok");
}
