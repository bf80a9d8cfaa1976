//! The checker tried on a relay that errs on purpose: each fault must be caught, as the kind of violation that it is.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::checker::{Kind, count};
use crate::plan::{Crowd, Fault, Plan};
use crate::report::Report;
use crate::run::{Options, run};
use crate::sabotage::Sabotage;

/// One frame in so many: rare enough that most of a run is sound, often enough that a short run has some.
const ONE_IN: u64 = 400;

/// Some hit who would not notice, such as a client that has just left.
const STRIKES_MIN: u64 = 10;

/// At least; a busy machine takes longer until enough has gone wrong.
const LASTS: Duration = Duration::from_secs(8);

/// Who was kept from the end of a channel never gets to the end of the run: not worth long waiting.
const PATIENCE: Duration = Duration::from_secs(15);

const SEED: u64 = 4711;

const CROWD: Crowd = Crowd { resuming: 30, slow: 0, since: 0, snapshot: 0, stock: 6, hostile: 0, writers: 4 };

/// A short run with this sabotage, and with the faults that it needs.
pub async fn try_out(sabotage: Sabotage) -> Result<Report> {
    let mut plan = Plan::new(SEED, LASTS, CROWD).calm();
    let seconds = Duration::from_secs;
    let (one_in, strikes_min) = match sabotage {
        Sabotage::HushLoss => {
            plan.faults = vec![(seconds(3), Fault::SlotDropped), (seconds(5), Fault::SlotAdvanced)];
            (1, 1)
        }
        Sabotage::CryWolf => {
            plan.faults = vec![(seconds(3), Fault::SocketsCut { share: 100 })];
            (10, 1)
        }
        Sabotage::OutstayCut => (1, 1),
        _ => (ONE_IN, STRIKES_MIN),
    };
    let sabotage = Some((sabotage, one_in));
    run(&plan, Options { sabotage, strikes_min, patience: Some(PATIENCE), ..Options::default() }).await
}

/// What a sabotage must be caught as.
pub fn expected(sabotage: Sabotage) -> Kind {
    match sabotage {
        Sabotage::Drop | Sabotage::HushLoss => Kind::Gap,
        Sabotage::Duplicate => Kind::Duplicate,
        Sabotage::Swap => Kind::Reordered,
        Sabotage::Leak => Kind::Foreign,
        Sabotage::Corrupt => Kind::WrongPayload,
        Sabotage::Invent => Kind::Phantom,
        Sabotage::OutstayCut => Kind::PastCut,
        Sabotage::CryWolf => Kind::FalseAlarm,
    }
}

/// Fails if it was not caught; else says as what.
pub fn judge(sabotage: Sabotage, report: &Report) -> Result<String> {
    let counts = count(&report.verdict.violations);
    let kind = expected(sabotage);
    let name = sabotage.name();
    ensure!(report.struck > 0, "{name}: the saboteur had no occasion");
    ensure!(counts.contains_key(&kind), "{name} was not caught as {}:\n{report}", kind.name());
    let found: Vec<String> = counts.iter().map(|(kind, count)| format!("{} {count}", kind.name())).collect();
    Ok(found.join(", "))
}
