//! Joins that get rows first. A transaction that commits at an LSN has its number; `xmin:xmax:xip` are in these.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::world::*;
use crate::auth::Credential;
use crate::fanout::{ClientInput, HubInput, OutboxLimits, RowEvent, RowsFailure, RowsRead, SocketId};
use crate::postgres::{Lsn, Xid};
use crate::protocol::{Encoding, Vsn};
use crate::route::{ControlChange, DatabaseTag, Position, Topic};

const WANTS: &str = r#"{"broadcast":{"replay":{"snapshot":50}}}"#;

pub(super) fn row(event: &str) -> RowEvent {
    RowEvent { id: None, event: event.into(), encoding: Encoding::Json, payload: "{}".into() }
}

impl World {
    fn ask(&mut self, id: SocketId, topic: &Topic, credential: Credential) {
        self.join_with(id, &topic.to_string(), WANTS, Ok(credential));
    }

    /// Answers the request that waits longest.
    pub(super) fn answer(&mut self, outcome: Result<RowsRead, RowsFailure>) {
        let request = self.requests.try_recv().expect("a request waits");
        self.hub.apply(HubInput::Rows { socket: request.socket, ticket: request.ticket, outcome });
    }

    fn show(&mut self, snapshot: &str, lsn: u64, rows: &[&str]) {
        let rows = rows.iter().map(|event| row(event)).collect();
        self.answer(Ok(RowsRead { snapshot: snapshot.parse().unwrap(), lsn: Lsn(lsn), rows }));
    }

    fn head(&self) -> String {
        self.hub.window.head().id(DatabaseTag::new(1, 2)).to_string()
    }
}

/// The part of the reply about the replay, and what came after it.
pub(super) fn split(mut frames: Vec<Value>) -> (Value, Vec<String>) {
    let reply = frames.remove(0)["payload"].take();
    assert_eq!(reply["status"], "ok", "{reply}");
    let name = |frame: &Value| frame["payload"]["event"].as_str().unwrap_or("system").to_owned();
    (reply["response"]["replay"].clone(), frames.iter().map(name).collect())
}

pub(super) fn reason(frames: &[Value]) -> &str {
    frames[0]["payload"]["response"]["reason"].as_str().unwrap()
}

const UNAVAILABLE: &str = "SnapshotUnavailable: The snapshot could not be read now; join again in a moment";

#[test]
fn rows_come_first_and_then_what_they_do_not_show() {
    let mut world = World::new();
    let socket = world.connect();
    world.change(&[(&conversation(), "in the rows")], vec![]);
    let waiting = world.change(&[(&conversation(), "streamed, waits for a standby")], vec![]);
    world.ask(socket, &conversation(), agent());
    world.change(&[(&conversation(), "meanwhile, in the rows")], vec![]);
    world.change(&[(&conversation(), "meanwhile")], vec![]);
    assert!(world.take(socket).is_empty(), "the join is not answered yet");
    assert_eq!(waiting.commit_lsn.0, 16);
    world.show("16:32:16", 40, &["row 1", "row 2"]);
    let frames = world.take(socket);
    assert_eq!(frames[1]["payload"]["meta"], json!({"replayed": true, "snapshot": true}));
    assert_eq!(frames[3]["payload"]["meta"]["id"], "10");
    let (replay, events) = split(frames);
    assert_eq!(replay, json!({"complete": true, "position": world.head(), "count": 4}));
    assert_eq!(events, ["row 1", "row 2", "streamed, waits for a standby", "meanwhile"]);
    world.change(&[(&conversation(), "live")], vec![]);
    assert_eq!(world.heard(socket), ["live"]);
}

#[test]
fn what_the_stream_brings_late_is_not_sent_twice() {
    let mut world = World::new();
    let socket = world.connect();
    world.ask(socket, &conversation(), agent());
    world.show("24:24:", 20, &["row"]);
    assert_eq!(split(world.take(socket)).1, ["row"]);
    world.change(&[(&conversation(), "at 8, in the rows")], vec![]);
    world.change(&[(&conversation(), "at 16, in the rows")], vec![]);
    assert_eq!(world.heard(socket), [""; 0]);
    assert_eq!(world.hub.behind.len(), 1);
    world.change(&[(&conversation(), "at 24")], vec![]);
    assert_eq!(world.heard(socket), ["at 24"]);
    assert!(world.hub.behind.is_empty(), "the stream has passed the snapshot");
    // A transaction number that would look shown, of one that committed after: the snapshot is forgotten by then.
    world.lsn = (1 << 32) + 2;
    world.change(&[(&conversation(), "after the wrap")], vec![]);
    assert_eq!(world.heard(socket), ["after the wrap"]);
}

#[test]
fn many_rows_follow_as_the_socket_drains() {
    let mut world = World::new();
    let limits = crate::fanout::OutboxLimits { bytes_max: 1 << 20, frames_max: 8 };
    let socket = world.connect_with(crate::protocol::Vsn::V1, limits);
    world.ask(socket, &conversation(), agent());
    let rows: Vec<String> = (0..40).map(|number| format!("row {number}")).collect();
    world.change(&[(&conversation(), "meanwhile")], vec![]);
    world.show("1:1:", 0, &rows.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(world.hub.metrics.snapshot_bytes.get() > 0);
    let beat = |world: &mut World| {
        world.client(socket, ClientInput::Heartbeat { reference: reference("7") });
    };
    beat(&mut world);
    let mut frames = world.take(socket);
    let reply = frames.pop().unwrap();
    assert_eq!(reply["payload"]["response"], json!({}), "no position before the rows are there");
    world.change(&[(&conversation(), "later")], vec![]);
    while world.outboxes[socket.0 as usize].take_refill_request() {
        world.client(socket, ClientInput::Refill);
        frames.extend(world.take(socket));
    }
    let (replay, events) = split(frames);
    assert_eq!(replay["count"], 41);
    assert_eq!(events[..40], rows);
    assert_eq!(events[40..], ["meanwhile", "later"]);
    assert_eq!(world.hub.metrics.snapshot_bytes.get(), 0, "memory is given back");
    beat(&mut world);
    assert_eq!(world.take(socket)[0]["payload"]["response"]["position"], world.head());
}

#[test]
fn without_rows_the_join_is_refused_and_may_be_tried_again() {
    let mut world = World::new();
    let socket = world.connect();
    let channel = conversation();
    for failure in [RowsFailure::Timeout, RowsFailure::Query] {
        world.ask(socket, &channel, agent());
        world.answer(Err(failure));
        assert_eq!(reason(&world.take(socket)), UNAVAILABLE);
    }
    world.ask(socket, &channel, agent());
    let large = RowEvent { payload: vec![b' '; 20_000].into(), ..row("e") };
    let snapshot: crate::postgres::Snapshot = "1:1:".parse().unwrap();
    world.answer(Ok(RowsRead { snapshot, lsn: Lsn(0), rows: vec![large] }));
    assert_eq!(reason(&world.take(socket)), UNAVAILABLE);
    assert_eq!(world.hub.metrics.snapshot_bytes.get(), 0);
    world.ask(socket, &channel, agent());
    world.hub.apply(attached_after_loss(1000, true));
    assert_eq!(reason(&world.take(socket)), UNAVAILABLE);
    assert_eq!((world.hub.metrics.channels.get(), world.hub.metrics.topics.get()), (0, 0));
}

#[test]
fn a_storm_is_refused_beyond_the_queue() {
    let mut world = World::new();
    let sockets: Vec<SocketId> = (0..4).map(|_| world.connect()).collect();
    for socket in &sockets {
        world.ask(*socket, &conversation(), agent());
    }
    for socket in &sockets[2..] {
        assert_eq!(reason(&world.take(*socket)), UNAVAILABLE);
    }
    for socket in &sockets[..2] {
        world.show("1:1:", 0, &["row"]);
        assert_eq!(split(world.take(*socket)).1, ["row"]);
    }
}

#[test]
fn only_conversations_have_snapshots() {
    let mut world = World::new();
    let socket = world.connect();
    for topic in [organization(), widget()] {
        world.ask(socket, &topic, agent());
        assert_eq!(reason(&world.take(socket)), "UnableToReplayMessages: Replay params are not valid");
    }
    world.ask(socket, &Topic::channel_conversations(ORG), agent());
    world.show("1:1:", 0, &["row"]);
    assert_eq!(split(world.take(socket)).1, ["row"]);
}

#[test]
fn an_answer_finds_only_the_join_that_asked() {
    let mut world = World::new();
    let socket = world.connect();
    let channel = conversation();
    let leave = || ClientInput::Leave {
        wire_topic: format!("realtime:{}", conversation()).into(),
        join_ref: reference("1"),
        reference: reference("2"),
    };
    world.ask(socket, &channel, agent());
    world.client(socket, leave());
    assert_eq!(world.heard(socket), ["phx_reply ok", "phx_close"]);
    world.ask(socket, &channel, agent());
    world.show("1:1:", 0, &["of the join that was left"]);
    assert!(world.take(socket).is_empty());
    world.show("1:1:", 0, &["row"]);
    assert_eq!(split(world.take(socket)).1, ["row"]);
    world.ask(socket, &channel, agent());
    world.client(socket, ClientInput::Disconnect);
    world.show("1:1:", 0, &["to nobody"]);
    assert!(world.take(socket).is_empty());
}

#[test]
fn a_pending_join_passes_the_same_valve() {
    let gone = ControlChange::ConversationGone { organization: ORG, conversation: CONV };
    let inactive = ControlChange::Agent { organization: ORG, user: USER, active: Some(false) };
    for (control, expected) in [
        (gone, "Unauthorized: The conversation was deleted or moved"),
        (inactive, "Unauthorized: The agent is no longer active in this organization"),
    ] {
        let mut world = World::new();
        let socket = world.connect();
        world.ask(socket, &conversation(), agent());
        world.change(&[(&conversation(), "at the cut")], vec![control]);
        let frames = world.take(socket);
        assert_eq!((frames.len(), reason(&frames)), (1, expected));
        world.show("1:1:", 0, &["row"]);
        assert!(world.take(socket).is_empty());
    }
    let mut world = World::new();
    let socket = world.connect();
    world.ask(socket, &conversation(), agent());
    world.hub.tick(Instant::now(), SystemTime::UNIX_EPOCH + Duration::from_secs(101));
    assert_eq!(reason(&world.take(socket)), "InvalidJWTToken: Token has expired 1 seconds ago");
}

#[test]
fn a_renewed_token_does_not_open_the_valve_early() {
    let mut world = World::new();
    let socket = world.connect();
    let wire_topic: Arc<str> = format!("realtime:{}", conversation()).into();
    // As a service, whose frames are the same, and as a visitor, whose are not.
    for (credential, lsn) in [(Credential::ApiKey(crate::auth::Role::ServiceRole), 8), (visitor(), 16)] {
        world.ask(socket, &conversation(), agent());
        let renewal = ClientInput::AccessToken {
            wire_topic: Arc::clone(&wire_topic),
            reference: reference("5"),
            grants: None,
            credential: Ok(credential),
        };
        world.client(socket, renewal);
        world.change(&[(&conversation(), "meanwhile")], vec![]);
        assert!(world.take(socket).is_empty());
        world.show(&format!("{lsn}:{lsn}:"), 100, &["row"]);
        assert_eq!(split(world.take(socket)).1, ["row", "meanwhile"]);
        world.change_at(world.hub.window.head(), &[(&conversation(), "again")], vec![]);
        assert_eq!(world.heard(socket), [""; 0]);
    }
}

#[test]
fn evicted_events_make_it_incomplete_or_unavailable() {
    let mut world = World::new();
    let socket = world.connect();
    let now = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    world.change(&[(&conversation(), "evicted before")], vec![]);
    world.hub.tick(Instant::now(), now(9 + 300));
    let later = token(&format!(r#"{{"role":"authenticated","exp":9000,"org_id":"{ORG}","sub":"{USER}"}}"#));
    world.ask(socket, &conversation(), later.clone());
    world.show("8:9:8", 0, &["row"]);
    let (replay, events) = split(world.take(socket));
    assert_eq!((&replay["complete"], events), (&json!(false), vec!["system".to_owned(), "row".to_owned()]));
    world.ask(socket, &conversation(), later);
    world.change(&[(&conversation(), "evicted meanwhile")], vec![]);
    world.hub.tick(Instant::now(), now(17 + 300));
    world.show("8:16:8", 0, &["row"]);
    assert_eq!(reason(&world.take(socket)), UNAVAILABLE);
}

#[test]
fn a_reader_that_stays_behind_misses_nothing_however_old_its_snapshot_is() {
    let mut world = World::new();
    world.hub.apply(attached_with(vec![(ORG, USER, true)], "4294967297:4294967297:"));
    let socket = world.connect_with(Vsn::V1, OutboxLimits { bytes_max: 1 << 20, frames_max: 8 });
    world.ask(socket, &conversation(), agent());
    for number in 1..=20 {
        world.change(&[(&conversation(), &format!("missed {number}"))], vec![]);
    }
    // 2^32 + 20 is the first that it does not show.
    world.show("4294967316:4294967316:", 21, &["row"]);
    world.lsn = 2_147_483_680;
    world.change(&[(&conversation(), "2^31 transactions later")], vec![]);
    let mut heard = world.heard(socket);
    while world.outboxes[socket.0 as usize].take_refill_request() {
        world.client(socket, ClientInput::Refill);
        heard.extend(world.heard(socket));
    }
    let missed = (3..=20).map(|number| format!("missed {number}"));
    let expected: Vec<String> = ["phx_reply ok".to_owned(), "row".to_owned()]
        .into_iter()
        .chain(missed)
        .chain(["2^31 transactions later".to_owned()])
        .collect();
    assert_eq!(heard, expected);
}

#[test]
fn rows_of_a_history_that_was_left_are_fetched_anew() {
    let mut world = World::new();
    let (behind, lagging, pending, live) = (
        world.connect(),
        world.connect_with(Vsn::V1, OutboxLimits { bytes_max: 1 << 20, frames_max: 8 }),
        world.connect(),
        world.connect(),
    );
    world.join(live, &conversation().to_string(), agent());
    world.take(live);
    for socket in [behind, lagging] {
        world.ask(socket, &conversation(), agent());
        if socket == lagging {
            (1..=20).for_each(|_| {
                world.change(&[(&conversation(), "event")], vec![]);
            });
        }
        // The stream is far behind what the rows show.
        world.show("8:8:", 1_000, &["row"]);
    }
    world.take(behind);
    world.take(live);
    world.ask(pending, &conversation(), agent());
    let HubInput::Attached { loss, agents, agent_names, snapshot, tag, confirmed_flush_lsn, .. } =
        attached(vec![(ORG, USER, true)])
    else {
        panic!("attached")
    };
    world.hub.apply(HubInput::Attached {
        loss,
        is_elsewhere: true,
        agents,
        agent_names,
        snapshot,
        tag,
        timeline: 1,
        confirmed_flush_lsn,
    });
    // Of another transaction with an id that the rows show.
    let again = Position { timeline: 2, commit_lsn: Lsn(900), change: 0 };
    let event = crate::route::Event {
        topic: conversation(),
        event: "of the new history".into(),
        payload: "{}".into(),
        private: false,
        sight: None,
        message: None,
    };
    world.route_by(Xid(7), again, vec![event], vec![]);
    let notice = "system: ReplayIncomplete: the new primary may not have the rows of your snapshot; fetch anew what you show";
    assert_eq!(world.heard(behind), [notice, "of the new history"]);
    let mut heard = world.heard(lagging);
    world.client(lagging, ClientInput::Refill);
    heard.extend(world.heard(lagging));
    assert_eq!(heard[heard.len() - 2..], [notice, "of the new history"], "{heard:?}");
    assert_eq!(reason(&world.take(pending)), UNAVAILABLE);
    assert_eq!(world.heard(live), ["of the new history"]);
}
