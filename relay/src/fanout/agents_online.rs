//! Which agents are online: those with a channel of their organization open, or closed a moment ago.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::agents::Agent;
use super::socket_id::SocketId;
use super::tight_queue::TightQueue;

/// Agents with a channel open.
#[derive(Debug)]
pub(super) struct AgentsOnline {
    grace: Duration,
    open: HashMap<Agent, Open>,
    /// Agents whose last channel has closed, by the time at which they count as offline.
    closed: TightQueue<(Instant, Agent)>,
    /// Agents online, by organization.
    online: HashMap<Uuid, usize>,
}

#[derive(Debug, Default)]
struct Open {
    /// Channels of each socket.
    sockets: HashMap<SocketId, usize>,
    /// The last channel has closed; if another opens until then, the agent was never offline.
    until: Option<Instant>,
}

impl AgentsOnline {
    pub(super) fn new(grace: Duration) -> Self {
        Self { grace, open: HashMap::new(), closed: TightQueue::default(), online: HashMap::new() }
    }

    /// True if that brings the agent online.
    pub(super) fn open(&mut self, agent: Agent, socket: SocketId) -> bool {
        let is_new = !self.open.contains_key(&agent);
        let open = self.open.entry(agent).or_default();
        *open.sockets.entry(socket).or_default() += 1;
        open.until = None;
        if is_new {
            *self.online.entry(agent.0).or_default() += 1;
        }
        is_new
    }

    pub(super) fn close(&mut self, agent: Agent, socket: SocketId, now: Instant) {
        let Some(open) = self.open.get_mut(&agent) else { return };
        let Some(channels) = open.sockets.get_mut(&socket) else { return };
        *channels -= 1;
        if *channels == 0 {
            open.sockets.remove(&socket);
        }
        if open.sockets.is_empty() {
            let until = now + self.grace;
            open.until = Some(until);
            self.closed.push_back((until, agent));
        }
    }

    /// The sockets with channels of an agent.
    pub(super) fn sockets(&self, agent: &Agent) -> Vec<SocketId> {
        self.open.get(agent).map(|open| open.sockets.keys().copied().collect()).unwrap_or_default()
    }

    /// Takes the agents who have been gone for the grace.
    pub(super) fn take_gone(&mut self, now: Instant) -> Vec<Agent> {
        let mut gone = Vec::new();
        while let Some((until, agent)) = self.closed.front().copied()
            && until <= now
        {
            self.closed.pop_front();
            if self.open.get(&agent).is_some_and(|open| open.until == Some(until)) {
                self.forget(agent);
                gone.push(agent);
            }
        }
        gone
    }

    /// Takes an agent who is none any more, if nothing of it is open: there is nothing to wait for.
    pub(super) fn take_ended(&mut self, agent: Agent) -> bool {
        let is_gone = self.open.get(&agent).is_some_and(|open| open.sockets.is_empty());
        if is_gone {
            self.forget(agent);
        }
        is_gone
    }

    /// All agents who are online.
    pub(super) fn agents(&self) -> impl Iterator<Item = &Agent> {
        self.open.keys()
    }

    fn forget(&mut self, agent: Agent) {
        self.open.remove(&agent);
        if let Some(online) = self.online.get_mut(&agent.0) {
            *online -= 1;
            if *online == 0 {
                self.online.remove(&agent.0);
            }
        }
    }

    /// Agents of the organization who are online.
    pub(super) fn online(&self, organization: Uuid) -> usize {
        self.online.get(&organization).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORG: Uuid = Uuid::from_u128(1);
    const ADA: Agent = (ORG, Uuid::from_u128(2));
    const BOB: Agent = (ORG, Uuid::from_u128(3));

    #[test]
    fn an_agent_is_online_from_the_first_dashboard_to_a_while_after_the_last() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut agents = AgentsOnline::new(Duration::from_secs(5));
        let [one, two] = [SocketId(1), SocketId(2)];
        assert!(agents.open(ADA, one) && !agents.open(ADA, two) && agents.open(BOB, one));
        assert_eq!(agents.online(ORG), 2);
        agents.close(ADA, one, at(0));
        assert_eq!(agents.sockets(&ADA), [two]);
        agents.close(ADA, two, at(1));
        assert_eq!(agents.take_gone(at(5)), []);
        assert!(!agents.open(ADA, two), "back in time");
        agents.close(ADA, two, at(10));
        assert_eq!(agents.take_gone(at(14)), []);
        assert_eq!(agents.take_gone(at(15)), [ADA]);
        assert_eq!((agents.online(ORG), agents.online(Uuid::nil())), (1, 0));
        assert!(!agents.take_ended(BOB), "a dashboard is open");
        agents.close(BOB, one, at(15));
        assert!(agents.take_ended(BOB), "no agent any more: at once");
        assert!(agents.online.is_empty() && agents.open.is_empty());
        assert_eq!(agents.take_gone(at(100)), []);
        assert!(agents.closed.is_empty());
    }
}
