//! An attack in a run: a calm to compare with, the attack, and what both cost.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use campfire_tests::relay::resident_bytes;
use campfire_tests::socket::{Socket, Vsn, default_config};
use campfire_tests::{chat, token};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{Attack, Ground};
use crate::journal::now;
use crate::latency::{Latency, Phase, Spread};
use crate::plan::{Assault, Plan};
use crate::world::World;

/// Others may wait so many times as long as without the attack …
const LATENCY_RATIO: u32 = 10;

/// … or as if it had been this long without: attackers and clients share the relay's processors here.
const LATENCY_FLOOR: Duration = Duration::from_millis(500);

/// The same where writers import by the thousand, in the calm or not.
const LATENCY_FLOOR_OF_BURSTS: Duration = Duration::from_secs(2);

/// What an attack may add to the relay's resident memory.
const RSS_GROWTH_MAX: u64 = 256 << 20;

/// One connection of an attacker.
const PATIENCE: Duration = Duration::from_secs(20);

const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Somebody new comes so often while the run watches, and gives up after so long.
const NEWCOMER_EVERY: Duration = Duration::from_millis(200);
const NEWCOMER_PATIENCE: Duration = Duration::from_secs(30);

/// What an attack cost others.
#[derive(Clone, Debug)]
pub struct Figures {
    pub attack: Attack,
    /// A calm shorter than this counts as this.
    pub latency_floor: Duration,
    /// From commit to live delivery: before, and while it lasted.
    pub delivery: [Spread; 2],
    /// From connecting to being joined, of clients that are new.
    pub joining: [Spread; 2],
    /// The relay's resident memory, in bytes: just before, at most, and at the end of the run.
    pub rss_before: u64,
    pub rss_most: u64,
    pub rss_after: u64,
    /// Attackers' connections.
    pub connections: u64,
}

impl Figures {
    /// What others had to pay too much.
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        let name = self.attack.name();
        for (what, [calm, attacked]) in [("an event", self.delivery), ("a join", self.joining)] {
            let bound = calm.p99.max(self.latency_floor) * LATENCY_RATIO;
            if attacked.p99 > bound {
                complaints.push(format!(
                    "{name}: the p99 of {what} was {:?}, more than {bound:?} (without the attack {:?})",
                    attacked.p99, calm.p99
                ));
            }
            // Where writers do all kinds of things on a busy machine, none may commit in those few seconds.
            let must_be_measured = self.latency_floor == LATENCY_FLOOR;
            if must_be_measured && (calm.count == 0 || attacked.count == 0) {
                complaints.push(format!("{name}: nobody waited for {what}, so that nothing was measured"));
            }
        }
        let growth = self.rss_most.saturating_sub(self.rss_before);
        if growth > RSS_GROWTH_MAX {
            complaints.push(format!(
                "{name}: the relay grew by {} MiB, more than {} MiB",
                growth >> 20,
                RSS_GROWTH_MAX >> 20
            ));
        }
        complaints
    }

    pub fn to_json(&self) -> Value {
        json!({
            "attack": self.attack.name(), "connections": self.connections,
            "delivery": {"calm": self.delivery[0].to_json(), "attack": self.delivery[1].to_json()},
            "joining": {"calm": self.joining[0].to_json(), "attack": self.joining[1].to_json()},
            "rss_mib": {"before": self.rss_before >> 20, "most": self.rss_most >> 20, "after": self.rss_after >> 20},
        })
    }
}

/// Carries out an attack on the relay of that process, at its time; what came of it, but for the deliveries, which are
/// known at the end of the run.
pub async fn carry_out(
    ground: Ground,
    plan: Plan,
    relay_pid: u32,
    assault: Assault,
    began: Instant,
) -> Result<Figures> {
    let Assault { attack, at, .. } = assault;
    let Plan { seed, world, is_steady, .. } = plan;
    // Before the calm, which it would disturb.
    if attack.needs_history() {
        ground.write_history().await?;
    }
    sleep_until(began + assault.calm_from()).await;
    let joining = Arc::new(Latency::default());
    let begin = |bound| {
        ground.shared.latency.begin(bound);
        joining.begin(bound);
    };
    begin(0);
    let (stop, stopped) = watch::channel(false);
    let mut newcomers = JoinSet::new();
    newcomers.spawn(welcome(ground.clone(), world, Arc::clone(&joining), stopped.clone()));
    sleep_until(began + at).await;
    let rss_before = resident_bytes(relay_pid)?;

    begin(1);
    let threads = Threads::start()?;
    let mut attackers = JoinSet::new();
    for number in 0..attack.workers() {
        let rng = StdRng::seed_from_u64(seed ^ (0xdead_0000 + number as u64));
        let attacker = keep_on(attack, ground.clone(), number, rng, stopped.clone());
        attackers.spawn_on(attacker, &threads.handle);
    }
    let mut rss_most = rss_before;
    // After its end faults may strike, and the relay may be gone.
    let lasts = || Instant::now() < began + assault.ends();
    while lasts() {
        match resident_bytes(relay_pid) {
            Ok(bytes) => rss_most = rss_most.max(bytes),
            Err(error) if lasts() => return Err(error.context("the relay under attack")),
            Err(_) => {}
        }
        sleep(LOOK_EVERY).await;
    }
    begin(2);
    stop.send_replace(true);
    let mut connections = 0;
    while let Some(made) = attackers.join_next().await {
        connections += made.context("an attacker panicked")?;
    }
    drop(threads);
    while let Some(welcomed) = newcomers.join_next().await {
        welcomed.context("a newcomer panicked")?;
    }
    ensure!(connections > 0, "attack {}: no attacker came through", attack.name());
    let joining = [joining.spread(Phase::Calm), joining.spread(Phase::Attack)];
    let delivery = [Spread::default(); 2];
    let latency_floor = if is_steady { LATENCY_FLOOR } else { LATENCY_FLOOR_OF_BURSTS };
    Ok(Figures {
        attack,
        latency_floor,
        delivery,
        joining,
        rss_before,
        rss_most,
        rss_after: rss_most,
        connections,
    })
}

/// Threads of the attackers' own: what they compute must not keep the clients of this process from reading.
struct Threads {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl Threads {
    fn start() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // A runtime must not wait for its threads on a thread of another.
        self.runtime.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

/// One attacker, over and over; tells how often.
async fn keep_on(
    attack: Attack,
    ground: Ground,
    number: usize,
    mut rng: StdRng,
    mut stop: watch::Receiver<bool>,
) -> u64 {
    let mut connections = 0;
    loop {
        connections += 1;
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return connections,
            _ = timeout(PATIENCE, attack.once(&ground, number, &mut rng)) => {}
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// Honest clients that come one after the other; each joins and goes.
async fn welcome(ground: Ground, world: World, joining: Arc<Latency>, mut stop: watch::Receiver<bool>) {
    let mut rng = StdRng::seed_from_u64(0xfeed);
    let mut guests = JoinSet::new();
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            () = sleep(NEWCOMER_EVERY) => {}
        }
        let organization = world.organizations.choose(&mut rng).expect("there are organizations");
        let token = token::agent(&ground.shared.jwt_secret, organization.id, organization.agents[0]);
        let channel = chat::conversations_channel(organization.id);
        let (ground, joining) = (ground.clone(), Arc::clone(&joining));
        guests.spawn(async move {
            let since = now();
            let visit = async || {
                let address = ground.address();
                let connecting = Socket::try_connect(&address, &ground.shared.api_key, Vsn::V2).await?;
                let mut socket = connecting.map_err(|refused| anyhow::anyhow!("{refused:?}"))?;
                socket.try_join(&channel, Some(&token), default_config()).await
            };
            // As clients do, one that is turned away comes again.
            let come_in = async {
                while !visit().await.is_ok_and(|reply| reply.is_ok()) {
                    sleep(NEWCOMER_EVERY).await;
                }
            };
            timeout(NEWCOMER_PATIENCE, come_in).await.ok();
            joining.note(since);
        });
    }
    while guests.join_next().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(p99: u64) -> Spread {
        let p99 = Duration::from_millis(p99);
        Spread { count: 100, half: p99 / 2, p99, most: p99 }
    }

    fn complaints(delivery: [u64; 2], joining: [u64; 2], rss_most: u64) -> usize {
        let figures = Figures {
            attack: Attack::Deaf,
            latency_floor: LATENCY_FLOOR,
            delivery: delivery.map(spread),
            joining: joining.map(spread),
            rss_before: 20 << 20,
            rss_most: rss_most << 20,
            rss_after: 20 << 20,
            connections: 1,
        };
        figures.complaints().len()
    }

    #[test]
    fn each_bound_is_judged_by_itself() {
        assert_eq!(complaints([10, 4_900], [10, 4_900], 270), 0);
        assert_eq!(complaints([10, 5_100], [10, 4_900], 270), 1);
        assert_eq!(complaints([10, 4_900], [10, 5_100], 270), 1);
        assert_eq!(complaints([10, 4_900], [10, 4_900], 280), 1);
        // A machine that is slow by itself.
        assert_eq!(complaints([500, 4_900], [900, 8_900], 270), 0);
        assert_eq!(complaints([500, 5_100], [900, 9_100], 280), 3);
    }

    #[test]
    fn what_was_not_measured_is_no_success() {
        let nothing = [Spread::default(); 2];
        let figures = Figures {
            attack: Attack::Deaf,
            latency_floor: LATENCY_FLOOR,
            delivery: nothing,
            joining: nothing,
            rss_before: 0,
            rss_most: 0,
            rss_after: 0,
            connections: 1,
        };
        assert_eq!(figures.complaints().len(), 2);
    }
}
