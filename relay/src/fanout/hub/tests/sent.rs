//! Private channels outside `org:` that get again what SQL has sent to them. The message that commits at an LSN did so
//! in the second of that number, and that is its row's id.

use std::time::{Duration, Instant, SystemTime};

use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

use super::snapshot::{reason, row, split};
use super::world::*;
use crate::auth::{Credential, Grants, Role};
use crate::fanout::{HubInput, RowEvent, RowsFailure, RowsRead, RowsWanted, SocketId};
use crate::postgres::{Lsn, Timestamp};
use crate::protocol::{Encoding, Frame, Vsn};
use crate::route::{DatabaseTag, Event, Position, RealtimeMessage, Topic};

const READER: Grants =
    Grants { read_broadcast: true, read_presence: true, write_broadcast: false, write_presence: false };

fn id(number: u64) -> Uuid {
    Uuid::from_u128(number.into())
}

fn room() -> Topic {
    Topic::Other("room:7".into())
}

/// A row of the table, as which it was sent.
fn sent(number: u64) -> RowEvent {
    RowEvent { id: Some(id(number)), ..row(&format!("at {number}")) }
}

impl World {
    /// Commits a message at the next LSN, a multiple of eight.
    fn send_by_sql(&mut self, private: bool, binary: bool) -> u64 {
        self.lsn += 8;
        let lsn = self.lsn;
        let message = Some(RealtimeMessage { id: id(lsn), binary });
        let (topic, event) = (room(), format!("at {lsn}").into());
        let event = Event { topic, event, payload: "{}".into(), private, sight: None, message };
        self.route_at(position(lsn), vec![event], vec![]);
        lsn
    }

    fn ask_for(&mut self, socket: SocketId, replay: &str, grants: Grants) -> Vec<Value> {
        let config = format!(r#"{{"private":true,"broadcast":{{"replay":{replay}}}}}"#);
        let credential = Ok(Credential::ApiKey(Role::Authenticated));
        self.join_granted(socket, "room:7", &config, credential, Some(grants));
        self.take(socket)
    }

    fn show_sent(&mut self, snapshot: &str, numbers: &[u64]) {
        let rows = numbers.iter().map(|number| sent(*number)).collect();
        self.answer(Ok(RowsRead { snapshot: snapshot.parse().unwrap(), lsn: Lsn(0), rows }));
    }
}

fn position(lsn: u64) -> Position {
    Position { timeline: 1, commit_lsn: Lsn(lsn), change: 0 }
}

fn position_id(lsn: u64) -> String {
    position(lsn).id(DatabaseTag::new(1, 2)).to_string()
}

fn wanted(since: i64, limit: usize) -> RowsWanted {
    RowsWanted::SentSince { since: Timestamp::from_unix_millis(since), limit }
}

#[test]
fn what_the_window_holds_needs_no_question() {
    let mut world = World::new();
    let socket = world.connect();
    for _ in 0..4 {
        world.send_by_sql(true, false);
    }
    let replay = |world: &mut World, form: &str| split(world.ask_for(socket, form, READER));
    let all = json!({"complete": true, "position": position_id(32), "count": 2});
    assert_eq!(replay(&mut world, r#"{"since":24000}"#), (all, vec!["at 24".into(), "at 32".into()]));
    // Cut by the client's own limit: the newest, oldest first, and no word besides the reply.
    let newest = json!({"complete": false, "position": position_id(32), "count": 2});
    let (cut, events) = replay(&mut world, r#"{"since":16000,"limit":2}"#);
    assert_eq!((cut, events), (newest.clone(), vec!["at 24".into(), "at 32".into()]));
    // Nobody knows what was before the window, and nobody asks.
    assert_eq!(replay(&mut world, r#"{"since":0,"limit":2}"#).0, newest);
    assert!(world.requests.try_recv().is_err());
    world.send_by_sql(true, false);
    assert_eq!(world.heard(socket), ["at 40"]);
}

#[test]
fn after_takes_the_rows_id_and_the_position() {
    let mut world = World::new();
    let socket = world.connect();
    for _ in 0..3 {
        world.send_by_sql(true, false);
    }
    for after in [id(8).to_string(), position_id(8)] {
        let frames = world.ask_for(socket, &format!(r#"{{"after":"{after}"}}"#), READER);
        assert_eq!(frames[1]["payload"]["meta"], json!({"id": id(16).to_string(), "replayed": true}));
        let (replay, events) = split(frames);
        assert_eq!(replay, json!({"complete": true, "position": position_id(24), "count": 2}));
        assert_eq!(events, ["at 16", "at 24"]);
    }
    let (replay, events) = split(world.ask_for(socket, &format!(r#"{{"after":"{}"}}"#, id(7)), READER));
    assert_eq!(replay["complete"], false, "a row that nobody remembers");
    assert_eq!(events, ["system", "at 8", "at 16", "at 24"]);
}

#[test]
fn rows_that_are_older_than_the_window_come_first_and_none_twice() {
    let mut world = World::new();
    let socket = world.connect();
    world.send_by_sql(true, false);
    world.send_by_sql(true, false);
    assert!(world.ask_for(socket, r#"{"since":1000}"#, READER).is_empty(), "not answered yet");
    world.send_by_sql(true, false);
    assert_eq!(world.requests.try_recv().map(|request| request.wanted).unwrap(), wanted(1000, 25));
    // Asked again: the request above was taken to be looked at.
    world.ask_for(socket, r#"{"since":1000}"#, READER);
    // A message that committed late stands where it committed, not where it was written.
    world.show_sent("24:24:", &[2, 16, 3, 8]);
    let frames = world.take(socket);
    assert_eq!(frames[1]["payload"]["meta"], json!({"id": id(2).to_string(), "replayed": true}));
    let (replay, events) = split(frames);
    assert_eq!(replay, json!({"complete": true, "position": position_id(24), "count": 5}));
    assert_eq!(events, ["at 2", "at 3", "at 8", "at 16", "at 24"]);
    world.send_by_sql(true, false);
    assert_eq!(world.heard(socket), ["at 32"]);
}

#[test]
fn the_newest_are_kept_where_there_are_more_than_the_limit() {
    let mut world = World::new();
    let socket = world.connect();
    world.send_by_sql(true, false);
    let limited = |world: &mut World, rows: &[u64]| {
        world.ask_for(socket, r#"{"since":1000,"limit":3}"#, READER);
        world.show_sent("9:9:", rows);
        let (replay, events) = split(world.take(socket));
        (replay["complete"] == true, replay["count"].as_u64().unwrap(), events)
    };
    let three = ["at 3", "at 4", "at 8"].map(str::to_owned).to_vec();
    assert_eq!(limited(&mut world, &[2, 3, 4, 8]), (false, 3, three.clone()));
    assert_eq!(limited(&mut world, &[3, 4, 8]), (true, 3, three));
    // More came meanwhile than were asked for.
    world.ask_for(socket, r#"{"since":1000,"limit":3}"#, READER);
    for _ in 0..3 {
        world.send_by_sql(true, false);
    }
    world.show_sent("9:9:", &[8]);
    let (replay, events) = split(world.take(socket));
    assert_eq!(replay, json!({"complete": false, "position": position_id(32), "count": 3}));
    assert_eq!(events, ["at 16", "at 24", "at 32"]);
}

#[test]
fn bytes_are_neither_told_to_1_0_0_nor_counted() {
    let mut world = World::new();
    let limits = crate::fanout::OutboxLimits { bytes_max: 1 << 20, frames_max: 1024 };
    let (old, new) = (world.connect(), world.connect_with(Vsn::V2, limits));
    world.send_by_sql(true, false);
    world.send_by_sql(true, true);
    let rows = || vec![RowEvent { encoding: Encoding::Binary, ..sent(2) }, sent(3)];
    let show = |world: &mut World| {
        world.answer(Ok(RowsRead { snapshot: "17:17:".parse().unwrap(), lsn: Lsn(0), rows: rows() }));
    };
    world.ask_for(old, r#"{"since":1000}"#, READER);
    show(&mut world);
    let (replay, events) = split(world.take(old));
    assert_eq!((&replay["count"], events), (&json!(2), vec!["at 3".to_owned(), "at 8".to_owned()]));
    let config = r#"{"private":true,"broadcast":{"replay":{"since":1000}}}"#;
    let credential = Ok(Credential::ApiKey(Role::Authenticated));
    world.join_granted(new, "room:7", config, credential, Some(READER));
    show(&mut world);
    let is_bytes = |frame: &Frame| !frame.is_text();
    let frames = world.frames(new);
    assert_eq!(frames.iter().map(is_bytes).collect::<Vec<_>>(), [false, true, false, false, true]);
}

#[test]
fn who_may_not_hear_broadcasts_gets_none_again() {
    let mut world = World::new();
    let socket = world.connect();
    let refused = |frames: Vec<Value>| reason(&frames).to_owned();
    let watcher = Grants { read_broadcast: false, ..READER };
    let config = r#"{"private":true,"presence":{"enabled":true},"broadcast":{"replay":{"since":1}}}"#;
    let credential = || Ok(Credential::ApiKey(Role::Authenticated));
    world.join_granted(socket, "room:7", config, credential(), Some(watcher));
    assert_eq!(
        refused(world.take(socket)),
        "Unauthorized: You do not have permissions to read from this Channel topic: room:7"
    );
    for replay in ["null", r#"{"since":1}"#, "7"] {
        let config = format!(r#"{{"broadcast":{{"replay":{replay}}}}}"#);
        world.join_with(socket, "room:7", &config, credential());
        let expected = "UnableToReplayMessages: Replay is not allowed for public channels";
        assert_eq!(refused(world.take(socket)), expected, "{replay}");
    }
    for replay in ["{}", r#"{"limit":3}"#, r#"{"since":"1"}"#] {
        let frames = world.ask_for(socket, replay, READER);
        assert_eq!(refused(frames), "UnableToReplayMessages: Replay params are not valid", "{replay}");
    }
    assert!(world.ask_for(socket, r#"{"since":1}"#, READER).is_empty());
    world.answer(Err(RowsFailure::Query));
    let expected = "UnableToReplayMessages: Realtime was unable to replay messages";
    assert_eq!(refused(world.take(socket)), expected);
    // What was public is no part of the private room's history.
    world.send_by_sql(false, false);
    world.ask_for(socket, r#"{"since":1}"#, READER);
    world.show_sent("9:9:", &[]);
    assert_eq!(split(world.take(socket)).1, [""; 0]);
}

/// What happens around a join, in the property below.
#[derive(Clone, Debug)]
enum Step {
    /// A message commits and is streamed; snapshots show it at once, or only from `Show` on.
    Send {
        visible: bool,
    },
    /// A message commits that the stream brings later.
    Unstreamed,
    Stream,
    Show,
    /// Half of what the window holds leaves it.
    Forget,
    Join {
        socket: usize,
        back: u64,
        limit: usize,
    },
    /// The database reads for whoever waits longest; the answer waits for the stream.
    Read,
    Answer,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => prop::bool::weighted(0.8).prop_map(|visible| Step::Send { visible }),
        3 => Just(Step::Unstreamed),
        2 => Just(Step::Stream),
        1 => Just(Step::Show),
        2 => Just(Step::Forget),
        4 => (0_usize..3, 0_u64..20, 1_usize..8)
            .prop_map(|(socket, back, limit)| Step::Join { socket, back, limit }),
        3 => Just(Step::Read),
        3 => Just(Step::Answer),
    ];
    prop::collection::vec(step, 1..80)
}

/// The database and the stream, beside the hub.
struct Model {
    world: World,
    /// Messages in the order of their commits: number, and whether snapshots show it.
    sent: Vec<(u64, bool)>,
    streamed: usize,
    /// Of each socket: since when it asked, and how many at most.
    joins: [Option<(u64, usize)>; 3],
    answers: Vec<(SocketId, u64, RowsRead)>,
}

impl Model {
    fn new() -> Self {
        let mut world = World::new();
        for _ in 0..3 {
            world.connect();
        }
        Self { world, sent: Vec::new(), streamed: 0, joins: [None; 3], answers: Vec::new() }
    }

    fn commit(&mut self, visible: bool) {
        let last = self.sent.last().map_or(8, |(number, _)| *number);
        self.sent.push((last + 8, visible));
    }

    fn stream(&mut self) {
        for (number, _) in &self.sent[self.streamed..] {
            self.world.lsn = number - 8;
            self.world.send_by_sql(true, false);
        }
        self.streamed = self.sent.len();
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Send { visible } => {
                self.commit(visible);
                self.stream();
            }
            Step::Unstreamed => self.commit(true),
            Step::Stream => self.stream(),
            Step::Show => self.sent.iter_mut().for_each(|(_, visible)| *visible = true),
            Step::Forget => {
                let (first, last) = (self.world.hub.window.event_count(), self.streamed);
                if let Some((number, _)) = self.sent[..last].get(last - first / 2 - first % 2) {
                    let oldest = Duration::from_secs(number + 300);
                    self.world.hub.tick(Instant::now(), SystemTime::UNIX_EPOCH + oldest);
                }
            }
            Step::Join { socket, back, limit } => {
                self.check(socket);
                let last = self.sent.last().map_or(8, |(number, _)| *number);
                let since = last.saturating_sub(8 * back);
                let replay = format!(r#"{{"since":{},"limit":{limit}}}"#, since * 1000);
                let config = format!(r#"{{"private":true,"broadcast":{{"replay":{replay}}}}}"#);
                let credential = Ok(Credential::ApiKey(Role::Authenticated));
                self.world.join_granted(SocketId(socket as u64), "room:7", &config, credential, Some(READER));
                self.joins[socket] = Some((since, limit));
            }
            Step::Read => self.read(),
            Step::Answer => {
                // What the rows show has been streamed by then.
                self.stream();
                if !self.answers.is_empty() {
                    let (socket, ticket, rows) = self.answers.remove(0);
                    self.world.hub.apply(HubInput::Rows { socket, ticket, outcome: Ok(rows) });
                }
            }
        }
    }

    /// Shows what is visible at this moment.
    fn read(&mut self) {
        let Ok(request) = self.world.requests.try_recv() else { return };
        let RowsWanted::SentSince { since, limit } = request.wanted else { panic!("{request:?}") };
        let next = self.sent.last().map_or(8, |(number, _)| *number) + 8;
        let hidden: Vec<String> =
            self.sent.iter().filter(|(_, visible)| !visible).map(|(number, _)| number.to_string()).collect();
        let xmin = hidden.first().cloned().unwrap_or_else(|| next.to_string());
        let snapshot = format!("{xmin}:{next}:{}", hidden.join(",")).parse().unwrap();
        let is_shown = |(number, visible): &&(u64, bool)| {
            *visible && Timestamp::from_unix_millis(1000 * *number as i64) >= since
        };
        let mut rows: Vec<RowEvent> =
            self.sent.iter().filter(is_shown).map(|(number, _)| sent(*number)).collect();
        rows.drain(..rows.len().saturating_sub(limit + 1));
        let read = RowsRead { snapshot, lsn: Lsn(next - 8), rows };
        self.answers.push((request.socket, request.ticket, read));
    }

    /// What a socket got since its join is whole, or it was told that it is not.
    fn check(&mut self, socket: usize) {
        let frames = self.world.take(SocketId(socket as u64));
        let Some((since, limit)) = self.joins[socket].take() else { return };
        // Refused, or not answered yet.
        let Some(reply) = frames.iter().find(|frame| frame["event"] == "phx_reply") else { return };
        if reply["payload"]["status"] == "error" {
            return;
        }
        let replay = &reply["payload"]["response"]["replay"];
        let number =
            |frame: &&Value| frame["payload"]["event"].as_str()?.strip_prefix("at ")?.parse::<u64>().ok();
        let told: Vec<u64> = frames.iter().filter_map(|frame| number(&frame)).collect();
        let count = replay["count"].as_u64().unwrap() as usize;
        assert!(told.len() >= count && count <= limit, "{replay} {told:?}");
        assert!(told.is_sorted_by(|a, b| a < b), "out of order, or twice: {told:?}");
        let is_announced = frames.iter().any(|frame| frame["event"] == "system");
        assert!(!is_announced || replay["complete"] == false, "{replay}");
        if is_announced {
            return;
        }
        let streamed: Vec<u64> = self.sent[..self.streamed].iter().map(|(number, _)| *number).collect();
        assert!(streamed.ends_with(&told), "a gap: {told:?} of {streamed:?}");
        match replay["complete"] == true {
            true => {
                let missing = streamed.iter().find(|number| **number >= since && !told.contains(number));
                assert_eq!(missing, None, "since {since}: {replay} {told:?}");
            }
            // Nothing but the limit.
            false => assert_eq!(count, limit, "{replay} {told:?} of {streamed:?}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn every_replay_is_whole_or_says_that_it_is_not(steps in steps()) {
        let mut model = Model::new();
        for step in &steps {
            model.step(step);
        }
        // Whoever still waits is answered.
        for _ in 0..3 {
            model.step(&Step::Read);
            model.step(&Step::Answer);
        }
        (0..3).for_each(|socket| model.check(socket));
    }
}
