//! The hub against a model: random inputs, and for each channel what its client must hold.
//!
//! The model knows every event as a commit, and which agents are active after it. Reading is a fact of the model too:
//! sockets are never so slow that they overflow. What a channel was sent is compared when all is delivered.

use std::collections::{BTreeSet, HashMap};

use proptest::prelude::*;
use serde_json::Value;

use super::super::{
    ClientInput, HubInput, OutboxLimits, SnapshotFailure, SnapshotRow, SnapshotRows, SocketId,
};
use super::world::*;
use crate::protocol::Vsn;
use crate::route::{ControlChange, DatabaseTag, Position, Topic};
use crate::wal::Lsn;

const SOCKETS: u64 = 4;

#[derive(Clone, Debug)]
enum Step {
    /// A commit with an event on a channel, visible to snapshots from now on, or only from `Show` on.
    Commit {
        topic: u8,
        visible: bool,
    },
    /// Commits that wait for a standby wait no more.
    Show,
    /// A commit is visible before the stream brings it.
    Unstreamed {
        topic: u8,
    },
    /// The stream brings all of those.
    Stream,
    Deactivate,
    Activate,
    ConversationGone {
        topic: u8,
    },
    Join {
        socket: u8,
        topic: u8,
        how: u8,
    },
    Leave {
        socket: u8,
        topic: u8,
    },
    /// The database reads for the n-th request that waits; its answer waits too.
    Read {
        which: usize,
    },
    /// The n-th answer arrives.
    Answer {
        which: usize,
        fails: bool,
    },
    /// The session writes what waits, and asks for more if the hub wants that.
    Drain {
        socket: u8,
    },
    Reconnect,
    Loss,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let topic = 0_u8..3;
    let socket = 0_u8..SOCKETS as u8;
    let step = prop_oneof![
        8 => (topic.clone(), prop::bool::weighted(0.8)).prop_map(|(topic, visible)| Step::Commit { topic, visible }),
        1 => Just(Step::Show),
        3 => topic.clone().prop_map(|topic| Step::Unstreamed { topic }),
        2 => Just(Step::Stream),
        1 => Just(Step::Deactivate),
        2 => Just(Step::Activate),
        1 => topic.clone().prop_map(|topic| Step::ConversationGone { topic }),
        6 => (socket.clone(), topic.clone(), 0_u8..6).prop_map(|(socket, topic, how)| Step::Join { socket, topic, how }),
        1 => (socket.clone(), topic).prop_map(|(socket, topic)| Step::Leave { socket, topic }),
        5 => (0_usize..4).prop_map(|which| Step::Read { which }),
        5 => (0_usize..4, prop::bool::weighted(0.1)).prop_map(|(which, fails)| Step::Answer { which, fails }),
        4 => socket.prop_map(|socket| Step::Drain { socket }),
        1 => Just(Step::Reconnect),
        1 => Just(Step::Loss),
    ];
    prop::collection::vec(step, 1..120)
}

fn topic(number: u8) -> Topic {
    match number {
        0 => Topic::channel_conversation(ORG, CONV),
        1 => Topic::channel_conversation(ORG, OTHER_ORG),
        _ => Topic::channel_conversations(ORG),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Commit {
    topic: u8,
    /// Its number, which is its xid as well, and eight times that its LSN.
    number: u64,
    visible: bool,
    streamed: bool,
}

/// What a client of a channel did and got since its last join.
#[derive(Debug)]
struct Client {
    topic: u8,
    /// As the join asked: 0 live only, 1 a position, 2 after the first event there is, 3 a snapshot.
    how: u8,
    /// The last commit streamed when it asked.
    joined_at: u64,
    /// What the snapshot's rows held.
    rows: Option<BTreeSet<u64>>,
    /// The stream's commits on the topic below this are what it must have; None while it is joined.
    ended_at: Option<u64>,
    got: Vec<u64>,
    answered: bool,
    refused: bool,
    complete: bool,
    /// Told that something is missing.
    lossy: bool,
}

struct Model {
    world: World,
    commits: Vec<Commit>,
    number: u64,
    active: bool,
    clients: HashMap<(u8, u8), Client>,
    requests: Vec<(SocketId, u64, u8)>,
    answers: Vec<(SocketId, u64, SnapshotRows)>,
    /// What was streamed, in that order.
    order: Vec<u64>,
}

impl Model {
    fn new() -> Self {
        let mut world = World::new();
        for _ in 0..SOCKETS {
            world.connect_with(Vsn::V1, OutboxLimits { bytes_max: 1 << 20, frames_max: 64 });
        }
        Self {
            world,
            commits: Vec::new(),
            number: 10,
            active: true,
            clients: HashMap::new(),
            requests: Vec::new(),
            answers: Vec::new(),
            order: Vec::new(),
        }
    }

    fn commit(&mut self, topic: u8, visible: bool) -> u64 {
        self.number += 1;
        self.commits.push(Commit { topic, number: self.number, visible, streamed: false });
        self.number
    }

    /// The stream brings what has committed, in order.
    fn stream(&mut self) {
        for index in 0..self.commits.len() {
            if !self.commits[index].streamed {
                self.commits[index].streamed = true;
                let Commit { topic: number_of_topic, number, .. } = self.commits[index];
                self.order.push(number);
                let name = number.to_string();
                self.apply(number, &[(&topic(number_of_topic), &name)], vec![]);
            }
        }
    }

    fn apply(&mut self, number: u64, events: &[(&Topic, &str)], control: Vec<ControlChange>) {
        self.world.change_at(position(number), events, control);
    }

    /// A change without events of its own.
    fn control(&mut self, control: Vec<ControlChange>) {
        self.stream();
        self.number += 1;
        let number = self.number;
        self.apply(number, &[], control);
    }

    fn end(&mut self, is_ended: impl Fn(u8) -> bool) {
        let number = self.number;
        for client in self.clients.values_mut().filter(|client| is_ended(client.topic)) {
            client.ended_at.get_or_insert(number);
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Commit { topic, visible } => {
                self.stream();
                self.commit(topic, visible);
                self.stream();
            }
            Step::Show => self.commits.iter_mut().for_each(|commit| commit.visible = true),
            Step::Unstreamed { topic } => {
                self.commit(topic, true);
            }
            Step::Stream => self.stream(),
            Step::Deactivate => {
                self.control(vec![ControlChange::Agent {
                    organization: ORG,
                    user: USER,
                    active: Some(false),
                }]);
                self.active = false;
                self.end(|_| true);
            }
            Step::Activate => {
                self.control(vec![ControlChange::Agent {
                    organization: ORG,
                    user: USER,
                    active: Some(true),
                }]);
                self.active = true;
            }
            Step::ConversationGone { topic: number } => {
                let Some(conversation) = topic(number).conversation() else { return };
                self.control(vec![ControlChange::ConversationGone { organization: ORG, conversation }]);
                self.end(|topic| topic == number);
            }
            Step::Join { socket, topic: number, how } => self.join(socket, number, how),
            Step::Leave { socket, topic: number } => {
                self.drain(socket);
                self.verify(socket, number);
                let leave = ClientInput::Leave {
                    wire_topic: format!("realtime:{}", topic(number)).into(),
                    join_ref: reference("1"),
                    reference: reference("2"),
                };
                self.world.client(SocketId(socket.into()), leave);
                self.world.take(SocketId(socket.into()));
            }
            Step::Read { which } => self.read(which),
            Step::Answer { which, fails } => self.answer(which, fails),
            Step::Drain { socket } => self.drain(socket),
            Step::Reconnect => {
                // What was streamed and is invisible is not in the agents as loaded, yet decided.
                self.stream();
                self.world.hub.apply(HubInput::Detached);
                let agents = vec![(ORG, USER, self.active)];
                self.world.hub.apply(attached(agents));
            }
            Step::Loss => {
                self.world.hub.apply(HubInput::Loss { cause: "the slot was dropped" });
                // What had committed by then and was not streamed never will be.
                self.commits.retain(|commit| commit.streamed);
                self.number += 1;
                let number = self.number;
                for client in self.clients.values_mut() {
                    client.lossy = true;
                }
                let head = Position::before(1, Lsn(number * 8));
                self.world.hub.apply(HubInput::Attached {
                    agents: vec![(ORG, USER, self.active)],
                    agent_names: vec![],
                    snapshot: "1:1:".parse().unwrap(),
                    tag: DatabaseTag::new(1, 2),
                    timeline: 1,
                    confirmed_flush_lsn: head.commit_lsn,
                });
                // Read before it, the rows may lack what is lost.
                self.answers.clear();
            }
        }
    }

    fn join(&mut self, socket: u8, number: u8, how: u8) {
        let how = how.min(3);
        self.drain(socket);
        self.verify(socket, number);
        let id = SocketId(socket.into());
        let first = self.commits.iter().find(|commit| commit.streamed && commit.topic == number);
        let config = match (how, first) {
            (1, _) => r#"{"broadcast":{"replay":{}}}"#.to_owned(),
            (2, Some(first)) => {
                let after = position(first.number).id(DatabaseTag::new(1, 2));
                format!(r#"{{"broadcast":{{"replay":{{"after":"{after}"}}}}}}"#)
            }
            (3, _) => r#"{"broadcast":{"replay":{"snapshot":200}}}"#.to_owned(),
            _ => "{}".to_owned(),
        };
        let how = if how == 2 && first.is_none() { 0 } else { how };
        let joined_at = match how {
            2 => first.map_or(0, |first| first.number),
            _ => self.order.last().copied().unwrap_or_default(),
        };
        let credential =
            token(&format!(r#"{{"role":"authenticated","exp":100,"org_id":"{ORG}","sub":"{USER}"}}"#));
        self.clients.insert(
            (socket, number),
            Client {
                topic: number,
                how,
                joined_at,
                rows: None,
                ended_at: None,
                got: Vec::new(),
                answered: false,
                refused: false,
                complete: true,
                lossy: false,
            },
        );
        self.world.join_with(id, &topic(number).to_string(), &config, Ok(credential));
        while let Ok(request) = self.world.requests.try_recv() {
            self.requests.push((request.socket, request.ticket, number));
        }
        self.drain(socket);
        let client = &self.clients[&(socket, number)];
        assert!(self.active || client.refused, "an agent who is not active joined");
    }

    /// The database shows what is visible at this moment.
    fn read(&mut self, which: usize) {
        if self.requests.is_empty() {
            return;
        }
        let (socket, ticket, number) = self.requests.remove(which % self.requests.len());
        let next = self.number + 1;
        let hidden: Vec<u64> =
            self.commits.iter().filter(|commit| !commit.visible).map(|commit| commit.number * 8).collect();
        let list: Vec<String> = hidden.iter().map(u64::to_string).collect();
        let xmin = hidden.first().copied().unwrap_or(next * 8);
        let snapshot = format!("{xmin}:{}:{}", next * 8, list.join(",")).parse().unwrap();
        let shown = |commit: &&Commit| commit.visible && commit.topic == number;
        let rows: Vec<SnapshotRow> = self
            .commits
            .iter()
            .filter(shown)
            .map(|commit| super::snapshot::row(&commit.number.to_string()))
            .collect();
        self.answers.push((socket, ticket, SnapshotRows { snapshot, lsn: Lsn(self.number * 8 + 1), rows }));
    }

    fn answer(&mut self, which: usize, fails: bool) {
        if self.answers.is_empty() {
            return;
        }
        let (socket, ticket, rows) = self.answers.remove(which % self.answers.len());
        let outcome = if fails { Err(SnapshotFailure::Timeout) } else { Ok(rows) };
        self.world.hub.apply(HubInput::Snapshot { socket, ticket, outcome });
    }

    /// Reads all that a socket is sent, to the end of its replays.
    fn drain(&mut self, socket: u8) {
        let id = SocketId(socket.into());
        loop {
            let frames = self.world.take(id);
            for frame in &frames {
                self.hear(socket, frame);
            }
            if self.world.outboxes[socket as usize].take_refill_request() {
                self.world.client(id, ClientInput::Refill);
            } else if frames.is_empty() {
                return;
            }
        }
    }

    fn hear(&mut self, socket: u8, frame: &Value) {
        let name = frame["topic"].as_str().unwrap();
        let number = (0..3).find(|number| name == format!("realtime:{}", topic(*number))).expect("a topic");
        let client = self.clients.get_mut(&(socket, number)).expect("a frame on a channel never joined");
        let payload = &frame["payload"];
        match frame["event"].as_str().unwrap() {
            "phx_reply" => {
                assert!(!client.answered, "answered twice");
                client.answered = true;
                client.refused = payload["status"] == "error";
                let replay = &payload["response"]["replay"];
                client.complete = replay.is_null() || replay["complete"] == true;
            }
            "broadcast" => {
                assert!(client.answered && !client.refused, "an event before the answer, or after a refusal");
                let event: u64 = payload["event"].as_str().unwrap().parse().unwrap();
                if payload["meta"]["snapshot"] == true {
                    assert!(
                        client.got.len() == client.rows.as_ref().map_or(0, BTreeSet::len),
                        "a row after an event"
                    );
                    client.rows.get_or_insert_default().insert(event);
                }
                client.got.push(event);
            }
            "system" | "phx_close" => {}
            other => panic!("{other}"),
        }
    }

    /// A channel must have had, each once and in order: its rows, and all that they do not show up to its end.
    fn verify(&mut self, socket: u8, number: u8) {
        let Some(client) = self.clients.remove(&(socket, number)) else { return };
        let (rows, events) = client.got.split_at(client.rows.as_ref().map_or(0, BTreeSet::len));
        let streamed =
            |event: &u64| self.commits.iter().find(|commit| commit.number == *event && commit.streamed);
        let place = |event: &u64| self.order.iter().position(|known| known == event);
        assert!(events.is_sorted_by_key(place), "out of order: {client:?}");
        let distinct: BTreeSet<u64> = client.got.iter().copied().collect();
        assert_eq!(distinct.len(), client.got.len(), "twice: {client:?}");
        let end = client.ended_at.unwrap_or(u64::MAX);
        for event in events {
            let commit = streamed(event).expect("an event that was never streamed");
            assert_eq!(commit.topic, number, "foreign: {client:?}");
            assert!(*event < end, "past the cut: {client:?}");
        }
        if !client.answered || client.refused || client.lossy || !client.complete {
            return;
        }
        let oldest = if client.how == 3 { 0 } else { client.joined_at };
        let must = |commit: &&Commit| {
            commit.topic == number && commit.streamed && (oldest + 1..end).contains(&commit.number)
        };
        // Of a channel that was ended in the midst of its replay only a beginning is owed.
        if client.ended_at.is_some() {
            return;
        }
        let missing: Vec<u64> = self
            .commits
            .iter()
            .filter(must)
            .map(|commit| commit.number)
            .filter(|event| !distinct.contains(event))
            .collect();
        assert!(missing.is_empty(), "missing {missing:?}: {client:?}, rows {rows:?}");
    }

    fn finish(mut self) {
        self.stream();
        while !self.requests.is_empty() {
            self.read(0);
        }
        while !self.answers.is_empty() {
            self.answer(0, false);
        }
        for socket in 0..SOCKETS as u8 {
            self.drain(socket);
            for number in 0..3 {
                self.verify(socket, number);
            }
        }
    }
}

fn position(number: u64) -> Position {
    Position { timeline: 1, commit_lsn: Lsn(number * 8), change: 0 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn every_channel_gets_what_the_model_says(steps in steps()) {
        let mut model = Model::new();
        for step in steps {
            model.step(step);
        }
        model.finish();
    }
}
