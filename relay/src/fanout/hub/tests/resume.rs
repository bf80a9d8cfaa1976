//! Clients that come back with a position.

use serde_json::Value;

use super::world::*;
use crate::fanout::{ClientInput, OutboxLimits, SocketId};
use crate::postgres::Lsn;
use crate::protocol::Vsn;
use crate::route::{ControlChange, DatabaseTag, Position, Topic};

impl World {
    /// Joins with a replay and returns its part of the reply and what else came.
    fn resume(&mut self, id: SocketId, topic: &Topic, replay: &str) -> (Value, Vec<Value>) {
        let config = format!(r#"{{"broadcast":{{"replay":{replay}}}}}"#);
        self.join_with(id, &topic.to_string(), &config, Ok(agent()));
        let mut frames = self.take(id);
        let reply = frames.remove(0)["payload"]["response"].take();
        (reply["replay"].clone(), frames)
    }

    fn id(position: Position) -> String {
        position.id(DatabaseTag::new(1, 2)).to_string()
    }
}

fn events(frames: &[Value]) -> Vec<&str> {
    frames.iter().map(|frame| frame["payload"]["event"].as_str().unwrap_or("system")).collect()
}

#[test]
fn resuming_gives_what_was_missed_and_then_what_is_live() {
    let mut world = World::new();
    let first = world.change(&[(&conversation(), "first")], vec![]);
    world.change(&[(&conversation(), "second"), (&organization(), "elsewhere")], vec![]);
    let third = world.change(&[(&conversation(), "third")], vec![]);
    let socket = world.connect();
    let after = format!(r#"{{"after":"{}"}}"#, World::id(first));
    let (replay, frames) = world.resume(socket, &conversation(), &after);
    assert_eq!(replay, serde_json::json!({"complete": true, "position": World::id(third), "count": 2}));
    assert_eq!(events(&frames), ["second", "third"]);
    assert_eq!(frames[0]["payload"]["meta"]["replayed"], true);
    assert_eq!(frames[0]["payload"]["meta"]["id"], "10");
    world.change(&[(&conversation(), "fourth")], vec![]);
    assert_eq!(world.heard(socket), ["fourth"]);
}

#[test]
fn a_position_that_is_not_ours_is_incomplete_and_said_so() {
    let mut world = World::new();
    let socket = world.connect();
    world.change(&[(&conversation(), "first")], vec![]);
    let head = world.change(&[(&conversation(), "second")], vec![]);
    let foreign = head.id(DatabaseTag::new(8, 9)).to_string();
    let ahead = World::id(Position { commit_lsn: Lsn(10_000), ..head });
    for after in [foreign, ahead] {
        let (replay, frames) = world.resume(socket, &conversation(), &format!(r#"{{"after":"{after}"}}"#));
        assert_eq!(replay, serde_json::json!({"complete": false, "position": World::id(head), "count": 0}));
        assert!(
            frames[0]["payload"]["message"].as_str().unwrap().starts_with("ReplayIncomplete"),
            "{frames:?}"
        );
        assert_eq!(frames[0]["payload"]["status"], "ok");
    }
    let before = World::id(Position::default());
    let (replay, frames) = world.resume(socket, &conversation(), &format!(r#"{{"after":"{before}"}}"#));
    assert_eq!((&replay["complete"], &replay["count"]), (&Value::from(false), &Value::from(2)));
    assert_eq!(events(&frames), ["system", "first", "second"]);
}

#[test]
fn what_may_have_been_routed_otherwise_is_not_gone_on_from() {
    let mut world = World::new();
    let first = world.change(&[(&conversation(), "first")], vec![]);
    let here = world.change(&[], vec![ControlChange::RoutedAnewUntilHere]);
    let socket = world.connect();
    let after = |position| format!(r#"{{"after":"{}"}}"#, World::id(position));
    let (replay, _) = world.resume(socket, &conversation(), &after(first));
    assert_eq!(replay["complete"], false);
    world.change(&[(&conversation(), "second")], vec![]);
    let socket = world.connect();
    let (replay, frames) = world.resume(socket, &conversation(), &after(here));
    assert_eq!((&replay["complete"], events(&frames)), (&Value::from(true), vec!["second"]));
}

#[test]
fn channels_that_live_while_routes_are_guessed_are_told() {
    let mut world = World::new();
    world.change(&[(&conversation(), "first")], vec![]);
    let (live, resuming, pending) = (world.connect(), world.connect(), world.connect());
    world.join(live, &conversation().to_string(), agent());
    world.resume(resuming, &conversation(), "{}");
    let wants = r#"{"broadcast":{"replay":{"snapshot":50}}}"#;
    world.join_with(pending, &conversation().to_string(), wants, Ok(agent()));
    world.change(&[(&conversation(), "perhaps to others")], vec![ControlChange::RoutedAnewUntilHere]);
    world.change(&[(&conversation(), "as it was routed")], vec![]);
    for socket in [live, resuming] {
        assert_eq!(events(&world.take(socket)), ["perhaps to others", "system", "as it was routed"]);
    }
    let refused = world.take(pending);
    assert_eq!(refused[0]["payload"]["status"], "error", "{refused:?}");
}

#[test]
fn a_replay_flows_as_the_socket_drains_and_what_commits_meanwhile_follows() {
    let mut world = World::new();
    let start = world.change(&[(&conversation(), "start")], vec![]);
    for _ in 0..20 {
        world.change(&[(&conversation(), "missed")], vec![]);
    }
    let socket = world.connect_with(Vsn::V1, OutboxLimits { bytes_max: 1 << 20, frames_max: 8 });
    let after = format!(r#"{{"after":"{}"}}"#, World::id(start));
    let (replay, mut frames) = world.resume(socket, &conversation(), &after);
    assert_eq!(replay["count"], 20);
    assert!(frames.len() < 8, "the outbox bounds it: {}", frames.len());
    let mut live = 0;
    while world.outboxes[socket.0 as usize].take_refill_request() {
        world.change(&[(&conversation(), "meanwhile")], vec![]);
        live += 1;
        world.client(socket, ClientInput::Refill);
        frames.extend(world.take(socket));
    }
    world.change(&[(&conversation(), "live")], vec![]);
    frames.extend(world.take(socket));
    let expected = [vec!["missed"; 20], vec!["meanwhile"; live], vec!["live"]].concat();
    assert_eq!(events(&frames), expected);
    let ids: Vec<u64> = frames
        .iter()
        .map(|frame| u64::from_str_radix(frame["payload"]["meta"]["id"].as_str().unwrap(), 16).unwrap())
        .collect();
    assert!(ids.is_sorted_by(|earlier, later| earlier < later), "{ids:?}");
}

#[test]
fn heartbeats_carry_a_position_while_a_channel_resumes() {
    let mut world = World::new();
    let socket = world.connect();
    let beat = |world: &mut World| {
        world.client(socket, ClientInput::Heartbeat { reference: reference("7") });
        world.take(socket).remove(0)["payload"]["response"].take()
    };
    world.join(socket, &conversation().to_string(), agent());
    assert_eq!(beat(&mut world), serde_json::json!({}));
    let (replay, _) = world.resume(socket, &widget(), "{}");
    assert_eq!(replay["count"], 0);
    assert_eq!(beat(&mut world)["position"], replay["position"]);
    let head = world.change(&[(&organization(), "elsewhere")], vec![]);
    assert_eq!(beat(&mut world)["position"], World::id(head));
    let (replay, frames) = world.resume(socket, &widget(), &format!(r#"{{"after":"{}"}}"#, World::id(head)));
    assert_eq!((&replay["complete"], frames.len()), (&Value::from(true), 0));
}

#[test]
fn after_a_loss_nothing_before_it_is_complete() {
    let mut world = World::new();
    let before = world.change(&[(&conversation(), "before")], vec![]);
    world.hub.apply(attached_after_loss(1000, true));
    world.lsn = 1000;
    world.change(&[(&conversation(), "after")], vec![]);
    let socket = world.connect();
    let (replay, frames) =
        world.resume(socket, &conversation(), &format!(r#"{{"after":"{}"}}"#, World::id(before)));
    assert_eq!(replay["complete"], false);
    assert_eq!(events(&frames), ["system", "after"]);
}

#[test]
fn a_join_from_before_a_loss_is_never_promised_what_is_lost() {
    let mut world = World::new();
    let before = world.change(&[(&conversation(), "before")], vec![]);
    let socket = world.connect();
    let after = format!(r#"{{"after":"{}"}}"#, World::id(before));
    // There is no turn between the loss and the new beginning in which it could be admitted: it comes first or last.
    let (replay, _) = world.resume(socket, &conversation(), &after);
    assert_eq!(replay["complete"], true);
    world.hub.apply(attached_after_loss(1000, true));
    assert_eq!(events(&world.take(socket)), ["system"]);
    let (replay, frames) = world.resume(socket, &conversation(), &after);
    assert_eq!((&replay["complete"], events(&frames)), (&Value::from(false), vec!["system"]));
}

#[test]
fn replay_is_for_channels_of_organizations_and_well_formed() {
    let mut world = World::new();
    let socket = world.connect();
    let mut reason = |channel: &str, replay: &str| {
        let config = format!(r#"{{"broadcast":{{"replay":{replay}}}}}"#);
        world.join_with(socket, channel, &config, Ok(agent()));
        world.take(socket)[0]["payload"]["response"]["reason"].as_str().map(str::to_owned)
    };
    let text = |text: &str| Some(format!("UnableToReplayMessages: {text}"));
    assert_eq!(reason("lobby", "{}"), text("Replay is not allowed for public channels"));
    assert_eq!(reason(&conversation().to_string(), r#"{"after":"x"}"#), text("Replay params are not valid"));
    assert_eq!(reason(&conversation().to_string(), "null"), None);
}
