//! Private channels outside `org:` that get again what SQL has sent to them. The message that commits at an LSN did so
//! in the second of that number, and that is its row's id.

use serde_json::{Value, json};
use uuid::Uuid;

use super::super::{RowsWanted, SnapshotFailure, SnapshotRow, SnapshotRows, SocketId};
use super::snapshot::{reason, row, split};
use super::world::*;
use crate::auth::{Credential, Grants, Role};
use crate::decode::Timestamp;
use crate::protocol::{Encoding, Frame, Vsn};
use crate::route::{DatabaseTag, Event, Position, RealtimeMessage, Topic};
use crate::wal::Lsn;

const READER: Grants =
    Grants { read_broadcast: true, read_presence: true, write_broadcast: false, write_presence: false };

fn id(number: u64) -> Uuid {
    Uuid::from_u128(number.into())
}

fn room() -> Topic {
    Topic::Other("room:7".into())
}

/// A row of the table, as which it was sent.
fn sent(number: u64) -> SnapshotRow {
    SnapshotRow { id: Some(id(number)), ..row(&format!("at {number}")) }
}

impl World {
    /// Commits a message at the next LSN, a multiple of eight.
    fn send_by_sql(&mut self, private: bool, binary: bool) -> u64 {
        self.lsn += 8;
        let lsn = self.lsn;
        let message = Some(RealtimeMessage { id: id(lsn), private, binary });
        let event = Event { topic: room(), event: format!("at {lsn}").into(), payload: "{}".into(), message };
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
        self.answer(Ok(SnapshotRows { snapshot: snapshot.parse().unwrap(), lsn: Lsn(0), rows }));
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
    let limits = super::super::OutboxLimits { bytes_max: 1 << 20, frames_max: 1024 };
    let (old, new) = (world.connect(), world.connect_with(Vsn::V2, limits));
    world.send_by_sql(true, false);
    world.send_by_sql(true, true);
    let rows = || vec![SnapshotRow { encoding: Encoding::Binary, ..sent(2) }, sent(3)];
    let show = |world: &mut World| {
        world.answer(Ok(SnapshotRows { snapshot: "17:17:".parse().unwrap(), lsn: Lsn(0), rows: rows() }));
    };
    world.ask_for(old, r#"{"since":1000}"#, READER);
    show(&mut world);
    let (replay, events) = split(world.take(old));
    assert_eq!((&replay["count"], events), (&json!(2), vec!["at 3".to_owned(), "at 8".to_owned()]));
    let config = r#"{"private":true,"broadcast":{"replay":{"since":1000}}}"#;
    let credential = Ok(Credential::ApiKey(Role::Authenticated));
    world.join_granted(new, "room:7", config, credential, Some(READER));
    show(&mut world);
    let is_bytes = |frame: &Frame| matches!(frame, Frame::Binary(_));
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
    world.answer(Err(SnapshotFailure::Query));
    let expected = "UnableToReplayMessages: Realtime was unable to replay messages";
    assert_eq!(refused(world.take(socket)), expected);
    // What was public is no part of the private room's history.
    world.send_by_sql(false, false);
    world.ask_for(socket, r#"{"since":1}"#, READER);
    world.show_sent("9:9:", &[]);
    assert_eq!(split(world.take(socket)).1, [""; 0]);
}
