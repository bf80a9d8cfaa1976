//! Which agents are online: those with a channel of their organization open, or closed a moment ago.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use uuid::Uuid;

/// An agent of an organization.
pub(super) type Agent = (/* organization */ Uuid, /* user */ Uuid);

/// What is open, by agent.
#[derive(Debug)]
pub(super) struct Dashboards {
    grace: Duration,
    open: HashMap<Agent, Open>,
    /// Agents online, by organization.
    online: HashMap<Uuid, usize>,
}

#[derive(Debug, Default)]
struct Open {
    channels: usize,
    /// The last has closed, and until then another may open.
    until: Option<Instant>,
}

impl Dashboards {
    pub(super) fn new(grace: Duration) -> Self {
        Self { grace, open: HashMap::new(), online: HashMap::new() }
    }

    /// True if that brings the agent online.
    pub(super) fn open(&mut self, agent: Agent) -> bool {
        let is_new = !self.open.contains_key(&agent);
        let open = self.open.entry(agent).or_default();
        open.channels += 1;
        open.until = None;
        if is_new {
            *self.online.entry(agent.0).or_default() += 1;
        }
        is_new
    }

    pub(super) fn close(&mut self, agent: Agent, now: Instant) {
        if let Some(open) = self.open.get_mut(&agent) {
            open.channels = open.channels.saturating_sub(1);
            if open.channels == 0 {
                open.until = Some(now + self.grace);
            }
        }
    }

    /// Takes the agents who have been gone for the grace, or who are none any more.
    pub(super) fn take_gone(&mut self, now: Instant, is_active: impl Fn(&Agent) -> bool) -> Vec<Agent> {
        let is_over = |agent: &Agent, open: &mut Open| {
            open.until.is_some_and(|until| until <= now || !is_active(agent))
        };
        let gone: Vec<Agent> = self.open.extract_if(is_over).map(|(agent, _)| agent).collect();
        for (organization, _) in &gone {
            if let Some(online) = self.online.get_mut(organization) {
                *online -= 1;
                if *online == 0 {
                    self.online.remove(organization);
                }
            }
        }
        gone
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
        let mut dashboards = Dashboards::new(Duration::from_secs(5));
        assert!(dashboards.open(ADA) && !dashboards.open(ADA) && dashboards.open(BOB));
        assert_eq!(dashboards.online(ORG), 2);
        dashboards.close(ADA, at(0));
        dashboards.close(ADA, at(1));
        assert_eq!(dashboards.take_gone(at(5), |_| true), []);
        assert!(!dashboards.open(ADA), "back in time");
        dashboards.close(ADA, at(10));
        assert_eq!(dashboards.take_gone(at(14), |_| true), []);
        assert_eq!(dashboards.take_gone(at(15), |_| true), [ADA]);
        assert_eq!((dashboards.online(ORG), dashboards.online(Uuid::nil())), (1, 0));
        dashboards.close(BOB, at(15));
        assert_eq!(dashboards.take_gone(at(15), |agent| *agent != BOB), [BOB], "no agent any more: at once");
        assert!(dashboards.online.is_empty() && dashboards.open.is_empty());
    }
}
