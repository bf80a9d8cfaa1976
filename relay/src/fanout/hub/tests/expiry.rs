//! Tokens that end, by the clock that their verification goes by.

use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::world::*;
use crate::fanout::{ClientInput, HubChange, HubInput, SocketId};
use crate::postgres::{Lsn, Timestamp, Xid};
use crate::protocol::{Frame, Waiting};
use crate::route::{Event, Position, Routed};

fn event(lsn: u64, name: &str) -> HubInput {
    let position = Position { timeline: 1, commit_lsn: Lsn(lsn), change: 0 };
    let event = Event {
        topic: organization(),
        event: name.into(),
        payload: "{}".into(),
        private: false,
        sight: None,
        message: None,
    };
    let change = HubChange {
        position,
        xid: Xid(lsn as u32),
        committed_at: Timestamp::from_unix_millis(0),
        meta: "{}".into(),
        routed: Routed { events: vec![event], ..Routed::default() },
    };
    HubInput::Changes { changes: vec![change], applied: Some(Lsn(lsn)) }
}

/// The hub as it runs, with its clocks.
#[tokio::test]
async fn nothing_is_delivered_once_a_token_has_ended() {
    let mut world = World::new();
    let (ends, stays) = (world.connect(), world.connect());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let ends_at = now.as_secs() + 1;
    let until = |exp: u64| {
        token(&format!(r#"{{"role":"authenticated","exp":{exp},"org_id":"{ORG}","sub":"{USER}"}}"#))
    };
    assert_eq!(world.join(ends, &organization().to_string(), until(ends_at)), "ok");
    assert_eq!(world.join(stays, &organization().to_string(), until(ends_at + 3_600)), "ok");
    let (_clients, clients) = mpsc::channel(1);
    let (wal, changes) = mpsc::channel(1);
    let World { hub, outboxes, applied, .. } = world;
    let stop = CancellationToken::new();
    let running = tokio::spawn(hub.run(clients, changes, stop.clone()));
    // As many as come, so that some of them fall between the end and whatever looks for it next.
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(ends_at);
    let mut applied = applied.subscribe();
    let mut late = 0;
    for lsn in (8..).step_by(8) {
        let is_late = SystemTime::now() >= end;
        late += u64::from(is_late);
        wal.send(event(lsn, if is_late { "late" } else { "early" })).await.unwrap();
        applied.wait_for(|applied| applied.0 == lsn).await.unwrap();
        if late == 20 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    stop.cancel();
    running.await.unwrap();
    let heard = |id: SocketId| {
        let mut frames = Vec::new();
        outboxes[id.0 as usize].take(&mut frames);
        frames
    };
    let has = |frame: &Frame, text: &str| String::from_utf8_lossy(frame.payload()).contains(text);
    let count = |frames: &[Waiting], text: &str| frames.iter().filter(|frame| has(frame, text)).count();
    let (ended, stayed) = (heard(ends), heard(stays));
    assert!(count(&ended, "early") > 0);
    assert_eq!((count(&ended, "late"), count(&ended, "phx_close")), (0, 1), "{:?}", ended.last());
    assert_eq!((count(&stayed, "late"), count(&stayed, "phx_close")), (20, 0));
}

#[test]
fn a_token_that_ends_on_the_way_to_the_hub_opens_nothing() {
    let mut world = World::new();
    let socket = world.connect();
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    world.hub.end_tokens(at(99));
    assert_eq!(world.join(socket, &organization().to_string(), agent()), "ok");
    world.hub.end_tokens(at(100));
    let closed = ["system: Token has expired 0 seconds ago", "phx_close"];
    assert_eq!(world.heard(socket), closed);
    let refused = "error InvalidJWTToken: Token has expired 0 seconds ago";
    assert_eq!(world.join(socket, &organization().to_string(), agent()), refused);
    // Nor does it prolong what it came to prolong.
    assert_eq!(world.join(socket, &conversation().to_string(), visitor()), "ok");
    world.hub.end_tokens(at(150));
    let renewal = ClientInput::AccessToken {
        wire_topic: format!("realtime:{}", conversation()).into(),
        reference: reference("5"),
        credential: Ok(agent()),
        grants: None,
    };
    world.client(socket, renewal);
    assert_eq!(world.heard(socket), ["system: Token has expired 50 seconds ago", "phx_close"]);
}

#[test]
fn a_channel_ends_with_the_last_of_its_tokens() {
    let mut world = World::new();
    let socket = world.connect();
    let until = |exp: u64| {
        token(&format!(r#"{{"role":"authenticated","exp":{exp},"org_id":"{ORG}","sub":"{USER}"}}"#))
    };
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    // Joined again, renewed, left: what ended before concerns it no more.
    world.join(socket, &organization().to_string(), until(100));
    world.join(socket, &organization().to_string(), until(200));
    for exp in [300, 250] {
        let renewal = ClientInput::AccessToken {
            wire_topic: format!("realtime:{}", organization()).into(),
            reference: reference("5"),
            credential: Ok(until(exp)),
            grants: None,
        };
        world.client(socket, renewal);
    }
    world.hub.end_tokens(at(249));
    assert_eq!(world.heard(socket), [""; 0]);
    world.hub.end_tokens(at(250));
    assert_eq!(world.heard(socket), ["system: Token has expired 0 seconds ago", "phx_close"]);
    world.join(socket, &organization().to_string(), until(400));
    world.client(socket, ClientInput::Disconnect);
    assert!(world.hub.expiries.next().is_none());
}
