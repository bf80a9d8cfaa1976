//! What ends a channel, and what was decided before we attached.

use super::world::*;
use crate::fanout::HubInput;
use crate::route::ControlChange;

const CLOSED: [&str; 2] = ["system: The agent is no longer active in this organization", "phx_close"];

fn agent_row(active: Option<bool>) -> Vec<ControlChange> {
    vec![ControlChange::Agent { organization: ORG, user: USER, active }]
}

#[test]
fn the_change_that_ends_an_agent_is_not_told_to_it() {
    for gone in [agent_row(Some(false)), agent_row(None), vec![ControlChange::AllAgentsGone]] {
        let mut world = World::new();
        let (agent_socket, service) = (world.connect(), world.connect());
        world.join(agent_socket, &organization().to_string(), agent());
        let key = crate::auth::Credential::ApiKey(crate::auth::Role::ServiceRole);
        world.join(service, &organization().to_string(), key);
        world.change(&[(&organization(), "before")], vec![]);
        // A route of the application's may tell of agents' rows.
        world.change(&[(&organization(), "agent row changed")], gone);
        assert_eq!(world.heard(agent_socket), ["before", CLOSED[0], CLOSED[1]]);
        assert_eq!(world.heard(service), ["before", "agent:status:offline", "agent row changed"]);
    }
}

#[test]
fn a_replay_ends_at_the_cut_too() {
    let mut world = World::new();
    let limits = crate::fanout::OutboxLimits { bytes_max: 1 << 20, frames_max: 8 };
    let socket = world.connect_with(crate::protocol::Vsn::V1, limits);
    let start = world.change(&[], vec![]);
    for _ in 0..20 {
        world.change(&[(&organization(), "missed")], vec![]);
    }
    let after = start.id(crate::route::DatabaseTag::new(1, 2));
    let config = format!(r#"{{"broadcast":{{"replay":{{"after":"{after}"}}}}}}"#);
    world.join_with(socket, &organization().to_string(), &config, Ok(agent()));
    assert_eq!(world.heard(socket), ["phx_reply ok", "missed", "missed", "missed"]);
    world.change(&[], agent_row(Some(false)));
    world.client(socket, crate::fanout::ClientInput::Refill);
    assert_eq!(world.heard(socket), CLOSED);
}

#[test]
fn changes_that_the_loaded_agents_show_do_not_move_them() {
    let mut world = World::new();
    let stranger = world.connect();
    // Deactivated at 8, active again at 16: both are shown. Neither is what the agent is now.
    world.hub.apply(attached_with(vec![(ORG, USER, true)], "20:20:"));
    world.change(&[], agent_row(Some(false)));
    assert_eq!(world.join(stranger, &organization().to_string(), agent()), "ok");
    world.change(&[], agent_row(Some(true)));
    world.change(&[], agent_row(None));
    assert_eq!(world.heard(stranger), CLOSED, "24 is not shown");
}

#[test]
fn a_channel_of_before_ends_at_a_change_that_happened_meanwhile() {
    let mut world = World::new();
    let (old, new) = (world.connect(), world.connect());
    world.join(old, &organization().to_string(), agent());
    world.hub.apply(HubInput::Detached);
    world.hub.apply(attached_with(vec![(ORG, USER, true)], "100:100:"));
    world.join(new, &organization().to_string(), agent());
    world.change(&[(&organization(), "before")], vec![]);
    world.change(&[], agent_row(Some(false)));
    world.change(&[(&organization(), "after")], agent_row(Some(true)));
    assert_eq!(world.heard(old), ["before", CLOSED[0], CLOSED[1]]);
    assert_eq!(world.heard(new), ["before", "after"], "admitted by what came after");
}

#[test]
fn a_change_that_was_streamed_and_is_not_shown_counts_after_a_reconnect() {
    let mut world = World::new();
    let socket = world.connect();
    // Waits for a synchronous standby: streamed, invisible.
    let waiting = world.change(&[], agent_row(Some(false)));
    world.hub.apply(attached_with(vec![(ORG, USER, true)], "8:9:8"));
    world.change_at(waiting, &[], agent_row(Some(false)));
    let refused = world.join(socket, &organization().to_string(), agent());
    assert!(refused.starts_with("error Unauthorized"), "{refused}");
}

#[test]
fn changes_count_however_many_transactions_came_since_the_agents_were_loaded() {
    let mut world = World::new();
    let socket = world.connect();
    // 2^32 + 10.
    world.hub.apply(attached_with(vec![(ORG, USER, true)], "4294967306:4294967306:"));
    world.hub.apply(HubInput::CaughtUp);
    assert_eq!(world.join(socket, &organization().to_string(), agent()), "ok");
    // 2^31 later, the same lower halves stand for what the snapshot shows, and for what happens now.
    world.lsn = 2_147_483_656;
    world.change(&[(&organization(), "before")], vec![]);
    world.change(&[(&organization(), "agent row changed")], agent_row(Some(false)));
    assert_eq!(world.heard(socket), ["before", CLOSED[0], CLOSED[1]]);
    let refused = world.join(socket, &organization().to_string(), agent());
    assert!(refused.starts_with("error Unauthorized"), "{refused}");
    world.change(&[], agent_row(Some(true)));
    assert_eq!(world.join(socket, &organization().to_string(), agent()), "ok");
    world.change(&[], vec![ControlChange::AllAgentsGone]);
    assert_eq!(world.heard(socket), CLOSED);
}
