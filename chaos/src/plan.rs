//! Everything that is decided before a run: by the seed alone, so that the same seed gives the same plan.

use std::fmt;
use std::time::Duration;

use campfire_tests::chat;
use campfire_tests::socket::Vsn;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use crate::attack::Attack;
use crate::world::World;
use crate::xids;

/// Nothing happens to the relay before this, so that everybody has joined once.
const CALM_BEFORE: Duration = Duration::from_secs(3);

/// In a run with faults: after as long a calm.
const ASSAULT: Assault =
    Assault { attack: Attack::Silent, at: Duration::from_secs(8), lasts: Duration::from_secs(5) };

/// Between one fault and the next.
const PAUSE_MS: std::ops::Range<u64> = 800..4_000;

/// Memory for the replay window in every fourth seed: events of a few seconds, so that they leave for want of room.
const SMALL_WINDOW_BYTES: u32 = 3_000_000;

/// How a client behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Manner {
    /// Remembers positions and comes back with them.
    Resuming,
    /// The same, and reads slowly.
    Slow,
    /// Comes back asking by time.
    Since,
    /// Asks for the database's rows and goes on from there; comes back so, or by position.
    Snapshot,
    /// Asks for nothing, as the stock client by default.
    Stock,
}

/// As whom a client joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Agent { organization: Uuid, user: Uuid },
    Visitor { organization: Uuid, conversation: Uuid },
}

#[derive(Clone, Debug)]
pub struct ClientSpec {
    pub number: usize,
    pub manner: Manner,
    pub vsn: Vsn,
    pub who: Who,
    pub channels: Vec<String>,
    pub seed: u64,
}

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    RelayKilled {
        down: Duration,
    },
    RelayStopped {
        for_: Duration,
    },
    RelayRestarted,
    WalsenderKilled,
    PostgresImmediate,
    PostgresFast,
    /// This share of the sockets, in a hundred.
    SocketsCut {
        share: u32,
    },
    /// Connections between relay and Postgres are cut.
    PostgresCut,
    /// A slow, narrow, splitting network.
    ClientWeather {
        weather: Weather,
        for_: Duration,
    },
    PostgresWeather {
        weather: Weather,
        for_: Duration,
    },
    /// Half-open: both ends think that they are connected, and nothing passes.
    Silence {
        share: u32,
        for_: Duration,
    },
    /// The clocks of some clients are wrong.
    ClockStep {
        seconds: i64,
        for_: Duration,
    },
    SlotAdvanced,
    SlotDropped,
    /// A second relay waits, and the first is killed.
    Takeover,
    /// A second relay waits, and the first hangs.
    TakeoverOfHung,
}

/// What a proxy does to what passes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Weather {
    pub delay: Duration,
    /// None: as much as there is.
    pub bytes_per_second: Option<u32>,
    /// Largest piece that is passed on at once.
    pub segment: Option<usize>,
}

impl Fault {
    /// The name it is counted by.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::RelayKilled { .. } => "relay SIGKILL",
            Self::RelayStopped { .. } => "relay SIGSTOP",
            Self::RelayRestarted => "relay SIGTERM, restart",
            Self::WalsenderKilled => "walsender killed",
            Self::PostgresImmediate => "Postgres immediate restart",
            Self::PostgresFast => "Postgres fast restart",
            Self::SocketsCut { .. } => "sockets cut",
            Self::PostgresCut => "relay cut from Postgres",
            Self::ClientWeather { .. } => "slow network, clients",
            Self::PostgresWeather { .. } => "slow network, Postgres",
            Self::Silence { .. } => "half-open sockets",
            Self::ClockStep { .. } => "clock step in clients",
            Self::SlotAdvanced => "slot advanced by hand",
            Self::SlotDropped => "slot dropped by hand",
            Self::Takeover => "relay killed, standby takes over",
            Self::TakeoverOfHung => "relay hung, standby takes over",
        }
    }
}

/// A run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub lasts: Duration,
    pub world: World,
    pub clients: Vec<ClientSpec>,
    pub hostile: usize,
    pub writers: usize,
    /// Memory for the replay window, where it is less than the relay's default.
    pub window_bytes: Option<u32>,
    /// The 64-bit transaction id that the run begins below, and crosses.
    pub xids: Option<u64>,
    /// What hostile clients try before anything else goes wrong, while others' latency is watched.
    pub assault: Option<Assault>,
    /// Writers write messages and do nothing else.
    pub is_steady: bool,
    /// When, from the beginning on.
    pub faults: Vec<(Duration, Fault)>,
}

/// An attack: the same time is watched before it and while it lasts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Assault {
    pub attack: Attack,
    /// When it begins, from the beginning of the run on.
    pub at: Duration,
    pub lasts: Duration,
}

impl Assault {
    /// From here on the calm is watched with which it is compared.
    pub fn calm_from(&self) -> Duration {
        self.at.saturating_sub(self.lasts)
    }

    pub fn ends(&self) -> Duration {
        self.at + self.lasts
    }
}

/// How many of each.
#[derive(Clone, Copy, Debug)]
pub struct Crowd {
    pub resuming: usize,
    pub slow: usize,
    pub since: usize,
    pub snapshot: usize,
    pub stock: usize,
    pub hostile: usize,
    pub writers: usize,
}

impl Default for Crowd {
    fn default() -> Self {
        Self { resuming: 100, slow: 15, since: 15, snapshot: 30, stock: 40, hostile: 10, writers: 6 }
    }
}

impl Plan {
    /// The plan of a seed.
    pub fn new(seed: u64, lasts: Duration, crowd: Crowd) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let world = World::new(&mut rng);
        let manners = [
            (Manner::Resuming, crowd.resuming),
            (Manner::Slow, crowd.slow),
            (Manner::Since, crowd.since),
            (Manner::Snapshot, crowd.snapshot),
            (Manner::Stock, crowd.stock),
        ];
        let manners = manners.into_iter().flat_map(|(manner, count)| std::iter::repeat_n(manner, count));
        let clients =
            manners.enumerate().map(|(number, manner)| client(&mut rng, &world, number, manner)).collect();
        let attack = *Attack::ALL.choose(&mut rng).expect("there are attacks");
        // A run that is too short for both has faults alone.
        let assault = (lasts >= 3 * ASSAULT.ends()).then_some(Assault { attack, ..ASSAULT });
        let faults = faults(&mut rng, assault.map_or(CALM_BEFORE, |assault| assault.ends()), lasts);
        let window_bytes = seed.is_multiple_of(4).then_some(SMALL_WINDOW_BYTES);
        let Crowd { hostile, writers, .. } = crowd;
        let xids = xids::of_seed(seed);
        let is_steady = false;
        Self { seed, lasts, world, clients, hostile, writers, window_bytes, xids, assault, is_steady, faults }
    }

    /// One attack, a third of the time, between two calms; a hundred clients, steady traffic, and nothing else.
    pub fn alone(seed: u64, attack: Attack, lasts: Duration) -> Self {
        let lasts = lasts.max(6 * CALM_BEFORE);
        let third = (lasts - CALM_BEFORE) / 3;
        let mut plan = Self::new(seed, lasts, ALONE).calm();
        plan.assault = Some(Assault { attack, at: CALM_BEFORE + third, lasts: third });
        Self { is_steady: true, window_bytes: None, ..plan }
    }

    /// The same without faults, attacks, and years of transactions.
    #[must_use]
    pub fn calm(mut self) -> Self {
        self.faults.clear();
        self.assault = None;
        self.xids = None;
        self
    }
}

/// Who is there while one attack is tried alone.
const ALONE: Crowd =
    Crowd { resuming: 100, slow: 0, since: 0, snapshot: 0, stock: 0, hostile: 0, writers: 2 };

fn client(rng: &mut StdRng, world: &World, number: usize, manner: Manner) -> ClientSpec {
    let organization = world.organizations.choose(rng).expect("there are organizations");
    let conversation = *organization.conversations.choose(rng).expect("there are conversations");
    let conv = chat::conversation_channel(organization.id, conversation);
    let widget = chat::widget_channel(organization.id, conversation);
    let visitor = rng.random_ratio(1, 4);
    let (who, channels) = if manner == Manner::Snapshot && rng.random_ratio(1, 4) {
        let user = *organization.steady().choose(rng).expect("some are never switched off");
        (Who::Agent { organization: organization.id, user }, vec![organization.shop()])
    } else if manner == Manner::Snapshot {
        // Only these two kinds of channels of an organization have one.
        let user = *organization.agents.choose(rng).expect("there are agents");
        let list = chat::conversations_channel(organization.id);
        if visitor {
            (Who::Visitor { organization: organization.id, conversation }, vec![conv])
        } else {
            let who = Who::Agent { organization: organization.id, user };
            (who, if rng.random() { vec![conv] } else { vec![list, conv] })
        }
    } else if visitor {
        let who = Who::Visitor { organization: organization.id, conversation };
        (who, if rng.random() { vec![widget] } else { vec![conv, widget] })
    } else {
        let user = *organization.agents.choose(rng).expect("there are agents");
        let who = Who::Agent { organization: organization.id, user };
        let list = chat::conversations_channel(organization.id);
        let channels = match rng.random_range(0..10) {
            // The policies ask for the token alone; an agent who is switched off would lose the others.
            kind @ 6.. => {
                let user = *organization.steady().choose(rng).expect("some are never switched off");
                let who = Who::Agent { organization: organization.id, user };
                let (desk, shop) = (organization.desk(), organization.shop());
                let channels = match kind {
                    6 => vec![desk],
                    7 => vec![list, desk],
                    8 => vec![shop],
                    _ => vec![shop, desk],
                };
                let vsn = if rng.random() { Vsn::V1 } else { Vsn::V2 };
                return ClientSpec { number, manner, vsn, who, channels, seed: rng.random() };
            }
            0 => vec![list],
            1 => vec![chat::organization_channel(organization.id)],
            2 => vec![list, conv],
            3 => vec![widget, conv],
            _ => vec![conv],
        };
        (who, channels)
    };
    let vsn = if rng.random() { Vsn::V1 } else { Vsn::V2 };
    ClientSpec { number, manner, vsn, who, channels, seed: rng.random() }
}

fn faults(rng: &mut StdRng, from: Duration, lasts: Duration) -> Vec<(Duration, Fault)> {
    let mut faults = Vec::new();
    let mut at = from;
    while at < lasts {
        faults.push((at, fault(rng)));
        at += Duration::from_millis(rng.random_range(PAUSE_MS));
    }
    faults
}

fn fault(rng: &mut StdRng) -> Fault {
    let mut millis = |range| Duration::from_millis(rng.random_range(range));
    let (short, long) = (millis(0..1500), millis(1000..4000));
    match rng.random_range(0..32) {
        0..4 => Fault::RelayKilled { down: short },
        4..6 => Fault::RelayStopped { for_: long },
        6..8 => Fault::RelayRestarted,
        8..11 => Fault::WalsenderKilled,
        11 | 12 => Fault::PostgresImmediate,
        13 | 14 => Fault::PostgresFast,
        15..18 => Fault::SocketsCut { share: rng.random_range(10..100) },
        18 | 19 => Fault::PostgresCut,
        20 | 21 => Fault::ClientWeather { weather: weather(rng), for_: long },
        22 | 23 => Fault::PostgresWeather { weather: weather(rng), for_: long },
        24 | 25 => Fault::Silence { share: rng.random_range(10..60), for_: long },
        26 => Fault::ClockStep { seconds: rng.random_range(-900..900), for_: long },
        27 => Fault::SlotAdvanced,
        28 => Fault::SlotDropped,
        29 | 30 => Fault::Takeover,
        _ => Fault::TakeoverOfHung,
    }
}

fn weather(rng: &mut StdRng) -> Weather {
    Weather {
        delay: Duration::from_millis(rng.random_range(0..80)),
        bytes_per_second: rng.random_ratio(1, 2).then(|| rng.random_range(100_000..1_000_000)),
        segment: rng.random_ratio(1, 2).then(|| rng.random_range(1..600)),
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "seed {}, {:?}, {} clients, {} hostile, {} writers, {} faults:",
            self.seed,
            self.lasts,
            self.clients.len(),
            self.hostile,
            self.writers,
            self.faults.len()
        )?;
        if let Some(bytes) = self.window_bytes {
            writeln!(f, "  the replay window has {bytes} bytes")?;
        }
        if let Some(boundary) = self.xids {
            writeln!(f, "  transaction ids begin below {boundary} and cross it")?;
        }
        if let Some(Assault { attack, at, lasts }) = self.assault {
            writeln!(f, "  {:>6.1} s  attack {} for {lasts:?}", at.as_secs_f64(), attack.name())?;
        }
        for (at, fault) in &self.faults {
            writeln!(f, "  {:>6.1} s  {fault:?}", at.as_secs_f64())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_plan_each_time() {
        let plan = |seed| format!("{:?}", Plan::new(seed, Duration::from_secs(60), Crowd::default()));
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
    }

    #[test]
    fn thirty_seeds_bring_every_fault() {
        let mut kinds = std::collections::BTreeSet::new();
        for seed in 1..=30 {
            let plan = Plan::new(seed, Duration::from_secs(60), Crowd::default());
            assert!(plan.faults.len() >= 10, "seed {seed} is too calm");
            kinds.extend(plan.faults.iter().map(|(_, fault)| fault.kind()));
        }
        assert_eq!(kinds.len(), 16, "{kinds:?}");
    }
}
