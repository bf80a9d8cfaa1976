//! `agent:status:online` and `agent:status:offline`: to the organization who it is, to its widgets whether anybody is
//! there.

use std::time::Instant;

use serde_json::json;
use uuid::Uuid;

use super::Hub;
use crate::auth::Identity;
use crate::fanout::agents::Agent;
use crate::fanout::origin::Except;
use crate::fanout::room::RoomKey;
use crate::fanout::socket_id::SocketId;
use crate::protocol::{Broadcast, BroadcastPayload, encode_broadcast};
use crate::route::Topic;

const ONLINE: &str = "agent:status:online";
const OFFLINE: &str = "agent:status:offline";

fn event(is_online: bool) -> &'static str {
    if is_online { ONLINE } else { OFFLINE }
}

fn agent_of(identity: Option<Identity>) -> Option<Agent> {
    match identity {
        Some(Identity::Agent { organization, user }) => Some((organization, user)),
        _ => None,
    }
}

impl Hub {
    /// A channel was opened as this identity.
    pub(super) fn agent_opens(&mut self, identity: Option<Identity>, by: SocketId) {
        if let Some(agent) = agent_of(identity)
            && self.agents_online.open(agent, by)
        {
            self.tell_status(agent, true, Except::Socket(by));
            if self.agents_online.online(agent.0) == 1 {
                self.tell_widgets(agent.0, true);
            }
        }
    }

    pub(super) fn agent_closes(&mut self, identity: Option<Identity>, of: SocketId, now: Instant) {
        if let Some(agent) = agent_of(identity) {
            self.agents_online.close(agent, of, now);
        }
    }

    /// Tells of agents who are gone by the clock.
    pub(super) fn tell_who_is_gone(&mut self, now: Instant) {
        for agent in self.agents_online.take_gone(now) {
            self.tell_gone(agent);
        }
    }

    /// Tells that an agent is gone whose row is gone or inactive, and whose channels have been closed.
    pub(super) fn tell_who_ended(&mut self, agent: Agent) {
        if self.agents_online.take_ended(agent) {
            self.tell_gone(agent);
        }
    }

    fn tell_gone(&mut self, agent: Agent) {
        self.tell_status(agent, false, Except::Nobody);
        if self.agents_online.online(agent.0) == 0 {
            self.tell_widgets(agent.0, false);
        }
    }

    fn tell_status(&mut self, agent: Agent, is_online: bool, except: Except<'_>) {
        let (organization, user) = agent;
        let display_name = self.agents.name(agent);
        let payload = json!({"user_id": user, "display_name": display_name}).to_string();
        let room = RoomKey { topic: Topic::channel_organization(organization), private: false };
        let payload = BroadcastPayload::Json(payload.as_bytes());
        let broadcast = Broadcast { event: event(is_online), payload, meta: None };
        self.deliver_ephemeral(&room, &broadcast, except);
    }

    /// An organization's first agent has come, or its last one has gone.
    pub(super) fn tell_widgets(&mut self, organization: Uuid, is_online: bool) {
        let widgets = self.rooms.widgets(organization);
        let payload = widget_payload(is_online);
        let payload = BroadcastPayload::Json(payload.as_bytes());
        let broadcast = Broadcast { event: event(is_online), payload, meta: None };
        for room in widgets {
            self.deliver_ephemeral(&room, &broadcast, Except::Nobody);
        }
    }

    /// Tells a visitor's widget that has just become live whether anybody is there.
    pub(super) fn tell_widget(&mut self, id: SocketId, wire_topic: &str) {
        let Some(socket) = self.sockets.get(&id) else { return };
        let Some(organization) =
            socket.find(wire_topic).and_then(|channel| channel.room.topic.organization())
        else {
            return;
        };
        let is_online = self.agents_online.online(organization) > 0;
        let payload = widget_payload(is_online);
        let payload = BroadcastPayload::Json(payload.as_bytes());
        let broadcast = Broadcast { event: event(is_online), payload, meta: None };
        if let Some(frame) = encode_broadcast(socket.vsn, wire_topic, &broadcast) {
            self.push(id, frame);
        }
    }
}

fn widget_payload(is_online: bool) -> String {
    json!({ "online": is_online }).to_string()
}
