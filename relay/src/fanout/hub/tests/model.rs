//! The hub against a model: random inputs, and for each channel what its client must hold.
//!
//! The model knows every event as a commit, and which agents are active after it. Reading is a fact of the model too:
//! sockets read as slowly as they like, the window may hold a dozen events, and nobody is closed for it. Along what a
//! channel is sent runs a mark: everything up to it is accounted for, and what is missing was announced in its place.

use std::collections::{BTreeSet, HashMap};

use proptest::prelude::*;
use serde_json::Value;

use super::super::announce::EMPTIED;
use super::super::replay::OVERTAKEN;
use super::world::*;
use crate::auth::{Credential, Role};
use crate::fanout::{
    ClientInput, HttpBroadcast, HttpBroadcasts, HubInput, OutboxLimits, RowEvent, RowsFailure, RowsRead,
    SocketId, WindowLimits,
};
use crate::postgres::{Lsn, Timestamp};
use crate::protocol::{Encoding, UserBroadcast, Vsn};
use crate::route::{ControlChange, DatabaseTag, Position, Template, Topic};

const SOCKETS: u64 = 4;

/// A few KiB: some dozen events, beside the commits of the longest run.
const SMALL_WINDOW_BYTES: usize = 12 << 10;

#[derive(Clone, Debug)]
enum Step {
    /// A commit with an event on a channel, visible to snapshots from now on, or only from `Show` on.
    Commit {
        topic: u8,
        visible: bool,
    },
    /// Many commits before anybody reads.
    Burst {
        topic: u8,
        count: u8,
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
    /// It writes what waits and no more.
    Sip {
        socket: u8,
    },
    /// The client sends a heartbeat.
    Beat {
        socket: u8,
    },
    /// Somebody says something that is no event.
    Say {
        topic: u8,
    },
    /// TRUNCATE of the table behind the conversations' channels.
    Empty,
    /// The window forgets what is older than the newest commits, so many.
    Age {
        newest: u8,
    },
    Reconnect,
    /// To a new primary that has everything.
    FailOver,
    /// The slot is gone: what had committed and was not streamed never will be.
    Loss,
    /// What was read since may have been routed otherwise before.
    Guess,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let topic = 0_u8..3;
    let socket = 0_u8..SOCKETS as u8;
    let step = prop_oneof![
        8 => (topic.clone(), prop::bool::weighted(0.8)).prop_map(|(topic, visible)| Step::Commit { topic, visible }),
        2 => (topic.clone(), 1_u8..80).prop_map(|(topic, count)| Step::Burst { topic, count }),
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
        2 => socket.clone().prop_map(|socket| Step::Drain { socket }),
        4 => socket.clone().prop_map(|socket| Step::Sip { socket }),
        3 => socket.prop_map(|socket| Step::Beat { socket }),
        2 => (0_u8..3).prop_map(|topic| Step::Say { topic }),
        1 => Just(Step::Empty),
        1 => (0_u8..40).prop_map(|newest| Step::Age { newest }),
        1 => Just(Step::Reconnect),
        1 => Just(Step::FailOver),
        1 => Just(Step::Loss),
        1 => Just(Step::Guess),
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
    /// It will never be streamed.
    is_lost: bool,
    /// Its row was removed.
    is_dead: bool,
}

/// What a client of a channel did and got since its last join.
#[derive(Debug)]
struct Client {
    topic: u8,
    /// As the join asked: 0 live only, 1 a position, 2 after the first event there is, 3 a snapshot.
    how: u8,
    /// What the snapshot's rows held.
    rows: Option<BTreeSet<u64>>,
    /// The stream's commits on the topic below this are what it must have; None while it is joined.
    ended_at: Option<u64>,
    got: Vec<u64>,
    answered: bool,
    refused: bool,
    /// Everything up to here is accounted for.
    mark: u64,
    /// What was announced as missing up to here does not come any more.
    floor: u64,
    /// The answer was that events are missing: the notice follows it, and says up to where.
    awaits_notice: bool,
    /// Rows of commits up to here were removed before it asked.
    dead_until: u64,
    /// What was lost up to here was lost before it asked.
    lost_until: u64,
}

struct Model {
    world: World,
    commits: Vec<Commit>,
    number: u64,
    active: bool,
    clients: HashMap<(u8, u8), Client>,
    requests: Vec<(SocketId, u64, u8)>,
    answers: Vec<(SocketId, u64, RowsRead)>,
    /// What was streamed, in that order.
    order: Vec<u64>,
    /// Where the table behind the conversations' channels was emptied last.
    emptied: u64,
    /// Up to here events were lost, perhaps on every channel.
    lost: u64,
    /// Up to here the window has forgotten everything by age.
    aged: u64,
    /// Sockets that wait for the answer of a heartbeat.
    beating: BTreeSet<u8>,
}

impl Model {
    fn new(is_small: bool) -> Self {
        let mut world = World::new();
        if is_small {
            world.hub.window = crate::fanout::window::Window::new(WindowLimits {
                bytes_max: SMALL_WINDOW_BYTES,
                organization_bytes_max: SMALL_WINDOW_BYTES / 2,
                ..world.hub.settings.window
            });
            world.hub.window.start_at(Position::before(1, Lsn(8)));
        }
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
            emptied: 0,
            lost: 0,
            aged: 0,
            beating: BTreeSet::new(),
        }
    }

    fn commit(&mut self, topic: u8, visible: bool) -> u64 {
        self.number += 1;
        let number = self.number;
        self.commits.push(Commit { topic, number, visible, streamed: false, is_lost: false, is_dead: false });
        self.number
    }

    /// The stream brings what has committed, in order.
    fn stream(&mut self) {
        for index in 0..self.commits.len() {
            if !self.commits[index].streamed && !self.commits[index].is_lost {
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
            Step::Burst { topic, count } => {
                for _ in 0..count {
                    self.commit(topic, true);
                }
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
            Step::Sip { socket } => {
                self.sip(socket);
            }
            Step::Beat { socket } => {
                if self.beating.insert(socket) {
                    let reference = reference("7");
                    self.world.client(SocketId(socket.into()), ClientInput::Heartbeat { reference });
                }
            }
            Step::Say { topic: number } => self.say(number),
            Step::Empty => {
                let channels = vec![Template::parse("org:{o}:conv:{c}").unwrap()];
                self.control(vec![ControlChange::Emptied { channels, public: Vec::new() }]);
                self.emptied = self.number;
                self.commits
                    .iter_mut()
                    .filter(|commit| commit.topic < 2)
                    .for_each(|commit| commit.is_dead = true);
            }
            Step::Reconnect => {
                // What was streamed and is invisible is not in the agents as loaded, yet decided.
                self.stream();
                self.world.hub.apply(HubInput::Detached);
                let agents = vec![(ORG, USER, self.active)];
                self.world.hub.apply(attached(agents));
            }
            Step::Age { newest } => {
                // What was forgotten stays so.
                self.aged = self.aged.max(self.number.saturating_sub(newest.into()));
                let age_max = self.world.hub.settings.window.age_max.as_millis() as i64;
                let forgotten = 8 * 1_000 * self.aged as i64 + 1;
                self.world.hub.window.expire(Timestamp::from_unix_millis(forgotten + age_max));
            }
            Step::FailOver => {
                self.stream();
                let mut attached = attached(vec![(ORG, USER, self.active)]);
                let HubInput::Attached { is_elsewhere, .. } = &mut attached else { unreachable!() };
                *is_elsewhere = true;
                self.world.hub.apply(HubInput::Detached);
                self.world.hub.apply(attached);
            }
            Step::Loss => {
                self.commits.iter_mut().for_each(|commit| commit.is_lost |= !commit.streamed);
                self.number += 1;
                self.lost = self.number;
                self.world.hub.apply(attached_after_loss(self.number * 8, self.active));
            }
            Step::Guess => {
                self.control(vec![ControlChange::RoutedAnewUntilHere]);
                self.lost = self.number;
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
            _ => self.order.last().copied().unwrap_or_default().max(self.lost),
        };
        let credential =
            token(&format!(r#"{{"role":"authenticated","exp":100,"org_id":"{ORG}","sub":"{USER}"}}"#));
        self.clients.insert(
            (socket, number),
            Client {
                topic: number,
                how,
                rows: None,
                ended_at: None,
                got: Vec::new(),
                answered: false,
                refused: false,
                mark: if how == 3 { 0 } else { joined_at },
                floor: 0,
                awaits_notice: false,
                lost_until: self.lost,
                dead_until: if number < 2 && how == 2 { self.emptied } else { 0 },
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
        let shown = |commit: &&Commit| commit.visible && !commit.is_dead && commit.topic == number;
        let rows: Vec<RowEvent> = self
            .commits
            .iter()
            .filter(shown)
            .map(|commit| super::snapshot::row(&commit.number.to_string()))
            .collect();
        self.answers.push((socket, ticket, RowsRead { snapshot, lsn: Lsn(self.number * 8 + 1), rows }));
    }

    fn answer(&mut self, which: usize, fails: bool) {
        if self.answers.is_empty() {
            return;
        }
        let (socket, ticket, rows) = self.answers.remove(which % self.answers.len());
        let outcome = if fails { Err(RowsFailure::Timeout) } else { Ok(rows) };
        self.world.hub.apply(HubInput::Rows { socket, ticket, outcome });
    }

    /// Reads all that a socket is sent, to the end of its replays.
    fn drain(&mut self, socket: u8) {
        while self.sip(socket) {}
    }

    /// Reads what waits. False: nothing did.
    fn sip(&mut self, socket: u8) -> bool {
        let id = SocketId(socket.into());
        let frames = self.world.take(id);
        for frame in &frames {
            self.hear(socket, frame);
        }
        let is_refilled = self.world.outboxes[socket as usize].take_refill_request();
        if is_refilled {
            self.world.client(id, ClientInput::Refill);
        }
        is_refilled || !frames.is_empty()
    }

    /// A server says, over HTTP, how far the stream is.
    fn say(&mut self, number: u8) {
        let said = self.order.last().copied().unwrap_or_default();
        let (outcomes, _) = tokio::sync::oneshot::channel();
        let broadcast =
            UserBroadcast { event: format!("said {said}"), encoding: Encoding::Json, payload: "{}".into() };
        let broadcast = HttpBroadcast {
            topic: topic(number),
            also: None,
            private: false,
            broadcast,
            id: None,
            is_granted: false,
        };
        let credential = Credential::ApiKey(Role::ServiceRole);
        self.world.hub.apply(HubInput::Publish(HttpBroadcasts {
            credential,
            broadcasts: vec![broadcast],
            outcomes,
        }));
    }

    /// What a client is owed up to a commit and did not get.
    fn missing(&self, key: (u8, u8), to: u64) -> Vec<u64> {
        let client = &self.clients[&key];
        let from = self.commits.partition_point(|commit| commit.number <= client.mark);
        let is_owed = |commit: &&Commit| {
            commit.topic == client.topic
                // Rows of after a loss show what was lost.
                && (commit.streamed || commit.is_lost && client.how != 3)
                && client.rows.as_ref().is_none_or(|rows| !rows.contains(&commit.number))
                // Its rows are those of after.
                && !(client.how == 3 && commit.is_dead)
        };
        let commits = self.commits[from..].iter().take_while(|commit| commit.number <= to);
        commits.filter(is_owed).map(|commit| commit.number).collect()
    }

    /// Everything that a client is owed up to a commit has come.
    fn account(&mut self, key: (u8, u8), to: u64, by: &str) {
        let missing = self.missing(key, to);
        let client = self.clients.get_mut(&key).expect("a client");
        assert!(missing.is_empty(), "missing before {by} {to}: {missing:?}: {client:?}");
        client.mark = client.mark.max(to);
    }

    /// Events up to a commit are missing, says the relay: exactly those, and not without need.
    fn excuse(&mut self, key: (u8, u8), to: u64, cause: &str) {
        let missing = self.missing(key, to);
        let client = self.clients.get_mut(&key).expect("a client");
        let mark = client.mark;
        client.floor = client.floor.max(to);
        client.mark = mark.max(to);
        // By a snapshot, what is missing may be what its rows show.
        let is_moot = client.how == 3 || self.lost.max(self.aged).max(self.emptied) > mark;
        match cause {
            OVERTAKEN => assert!(!missing.is_empty() || is_moot, "a false alarm up to {to}: {client:?}"),
            EMPTIED => assert!(missing.is_empty(), "missing before a TRUNCATE: {missing:?}: {client:?}"),
            _ => {}
        }
    }

    fn hear(&mut self, socket: u8, frame: &Value) {
        let name = frame["topic"].as_str().unwrap();
        let payload = &frame["payload"];
        if name == "phoenix" {
            assert!(self.beating.remove(&socket));
            let Some(id) = payload["response"]["position"].as_str() else { return };
            let (_, position) = Position::parse_id(id).unwrap();
            let resumes = |((of, _), client): &(&(u8, u8), &Client)| {
                *of == socket
                    && client.how > 0
                    && client.answered
                    && !client.refused
                    && client.ended_at.is_none()
            };
            let keys: Vec<_> = self.clients.iter().filter(resumes).map(|(key, _)| *key).collect();
            return keys
                .iter()
                .for_each(|key| self.account(*key, position.commit_lsn.0 / 8, "a heartbeat of"));
        }
        let number = (0..3).find(|number| name == format!("realtime:{}", topic(*number))).expect("a topic");
        let key = (socket, number);
        let client = self.clients.get_mut(&key).expect("a frame on a channel never joined");
        let awaits_notice = std::mem::take(&mut client.awaits_notice);
        assert!(!awaits_notice || frame["event"] == "system", "no notice after {client:?}");
        match frame["event"].as_str().unwrap() {
            "phx_reply" => {
                assert!(!client.answered, "answered twice");
                client.answered = true;
                client.refused = payload["status"] == "error";
                let replay = &payload["response"]["replay"];
                client.awaits_notice = !replay.is_null() && replay["complete"] == false;
                assert!(client.how != 1 || !client.awaits_notice, "nothing was asked for: {client:?}");
            }
            "broadcast" => {
                assert!(client.answered && !client.refused, "an event before the answer, or after a refusal");
                let event = payload["event"].as_str().unwrap();
                if let Some(said) = event.strip_prefix("said ") {
                    let said: u64 = said.parse().unwrap();
                    let events = &client.got[client.rows.as_ref().map_or(0, BTreeSet::len)..];
                    let last = events.last().copied();
                    assert!(last.is_none_or(|last| self.place(last) <= self.place(said)), "late: {said}");
                    return self.account(key, said, "what was said at");
                }
                let event: u64 = event.parse().unwrap();
                if payload["meta"]["snapshot"] == true {
                    assert!(
                        client.got.len() == client.rows.as_ref().map_or(0, BTreeSet::len),
                        "a row after an event"
                    );
                    client.rows.get_or_insert_default().insert(event);
                    client.got.push(event);
                    return;
                }
                assert!(event > client.dead_until, "dead: {event} of {client:?}");
                assert!(event > client.floor, "announced as missing: {event} of {client:?}");
                client.got.push(event);
                self.account(key, event - 1, "the event after");
                let client = self.clients.get_mut(&key).expect("it was there");
                client.mark = client.mark.max(event);
            }
            "system" => {
                let message = payload["message"].as_str().unwrap();
                let Some(cause) = message.strip_prefix("ReplayIncomplete: ") else {
                    return assert!(!awaits_notice, "no notice after {client:?}");
                };
                let (_, position) = Position::parse_id(payload["position"].as_str().unwrap()).unwrap();
                self.excuse(key, position.commit_lsn.0 / 8, cause);
            }
            "phx_close" => {}
            other => panic!("{other}"),
        }
    }

    /// Where in the stream a commit stands.
    fn place(&self, number: u64) -> Option<usize> {
        self.order.iter().position(|known| *known == number)
    }

    /// A channel must have had, each once and in order: its rows, and all that they do not show up to its end.
    fn verify(&mut self, socket: u8, number: u8) {
        let Some(client) = self.clients.get(&(socket, number)) else { return };
        let events = &client.got[client.rows.as_ref().map_or(0, BTreeSet::len)..];
        let streamed =
            |event: &u64| self.commits.iter().find(|commit| commit.number == *event && commit.streamed);
        assert!(events.is_sorted_by_key(|event| self.place(*event)), "out of order: {client:?}");
        let distinct: BTreeSet<u64> = client.got.iter().copied().collect();
        assert_eq!(distinct.len(), client.got.len(), "twice: {client:?}");
        let end = client.ended_at.unwrap_or(u64::MAX);
        for event in events {
            let commit = streamed(event).expect("an event that was never streamed");
            assert_eq!(commit.topic, number, "foreign: {client:?}");
            assert!(*event < end, "past the cut: {client:?}");
        }
        // Of a channel that was ended in the midst of its replay only a beginning is owed.
        if client.answered && !client.refused && client.ended_at.is_none() {
            let is_told = client.lost_until == self.lost || client.floor + 1 >= self.lost;
            assert!(is_told, "a loss up to {} was not announced: {client:?}", self.lost);
            self.account((socket, number), u64::MAX - 1, "the end");
        }
        self.clients.remove(&(socket, number));
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
            assert!(self.world.hub.sockets.contains_key(&SocketId(socket.into())), "closed, though it read");
        }
    }
}

fn position(number: u64) -> Position {
    Position { timeline: 1, commit_lsn: Lsn(number * 8), change: 0 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn every_channel_gets_what_the_model_says(steps in steps(), is_small: bool) {
        let mut model = Model::new(is_small);
        for step in steps {
            model.step(step);
        }
        model.finish();
    }
}
