//! `cargo xtask chaos`: faults against the real thing, and an oracle that knows what every client should have received.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use campfire_chaos::plan::{Crowd, Plan};
use campfire_chaos::{Attack, Options, Report, Sabotage, report};
use campfire_tests::extension::Profile;

use crate::system::{self, Need, Which};
use crate::{install, step};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Seed of the plan; default: a random one
    #[arg(long)]
    seed: Option<u64>,
    /// Number of seeds to run, one after the other, counting up from that one
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Minutes per seed
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,
    /// Print one line of JSON per seed
    #[arg(long)]
    json: bool,
    /// Print the plan and run nothing
    #[arg(long)]
    plan: bool,
    /// Run one attack alone, or `all` in turn, and measure what it costs 100 honest clients and the relay's memory
    #[arg(long, value_name = "NAME", value_parser = attack_names())]
    attack: Vec<String>,
    /// Test the checker itself: it must catch every relay that errs on purpose
    #[arg(long)]
    self_test: bool,
}

/// `cargo xtask chaos`.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let seed = arguments.seed.unwrap_or_else(|| u64::from(std::process::id()) << 16 | u64::from(rand_seed()));
    let lasts = Duration::from_secs_f64(arguments.minutes * 60.0);
    let seeds = seed..seed + arguments.seeds;
    if arguments.plan {
        seeds.for_each(|seed| print!("{}", Plan::new(seed, lasts, Crowd::default())));
        return Ok(ExitCode::SUCCESS);
    }
    let server = system::ensure(Which::Any, &[Need::Server, Need::Extension(Profile::Debug)])?;
    install::ensure_installed(&server, Profile::Debug)?;
    step::build_relay(false)?;
    if arguments.self_test {
        self_test(&Sabotage::ALL)?;
        return Ok(ExitCode::SUCCESS);
    }
    if !arguments.attack.is_empty() {
        return attack(arguments, seed, lasts);
    }
    let mut failed = Vec::new();
    for seed in seeds {
        let report = play(seed, lasts)?;
        if arguments.json {
            println!("{}", report.to_json());
        } else {
            print!("{report}");
        }
        if !report.is_clean() {
            failed.push(seed);
        }
    }
    for seed in &failed {
        eprintln!(
            "seed {seed} failed; again: cargo xtask chaos --seed {seed} --minutes {}",
            arguments.minutes
        );
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// All names of attacks, and one for all.
fn attack_names() -> Vec<&'static str> {
    Attack::ALL.iter().map(|attack| attack.name()).chain(["all"]).collect()
}

/// Attacks alone, each with a stage of its own, and a table of what they cost.
fn attack(arguments: &Arguments, seed: u64, lasts: Duration) -> Result<ExitCode> {
    let is_wanted = |attack: &Attack| {
        let names = [attack.name(), "all"];
        arguments.attack.iter().any(|wanted| names.contains(&wanted.as_str()))
    };
    let (mut reports, mut failed) = (Vec::new(), 0);
    for attack in Attack::ALL.into_iter().filter(is_wanted) {
        step::announce(&format!("attack {}: {}", attack.name(), attack.description()));
        let plan = Plan::alone(seed, attack, lasts);
        let report = block_on(campfire_chaos::run(&plan, Options::default()))?;
        if arguments.json {
            println!("{}", report.to_json());
        }
        failed += usize::from(!report.is_clean());
        reports.push(report);
    }
    if !arguments.json {
        println!("{}", report::table(reports.iter().filter_map(|report| report.assault.as_ref())));
        for violation in reports.iter().flat_map(|report| &report.verdict.violations) {
            println!("{violation}");
        }
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn rand_seed() -> u16 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| since.subsec_micros() as u16)
}

/// One seed, its plan said before.
fn play(seed: u64, lasts: Duration) -> Result<Report> {
    let plan = Plan::new(seed, lasts, Crowd::default());
    step::announce(&format!(
        "chaos, seed {seed}: {} faults in {:.0} s",
        plan.faults.len(),
        lasts.as_secs_f64()
    ));
    block_on(campfire_chaos::run(&plan, Options { progress: true, ..Options::default() }))
}

/// One minute of one seed, for `cargo xtask test`: fails on any violation.
pub(crate) fn check_once() -> Result<()> {
    const SEED: u64 = 1;
    let report = play(SEED, Duration::from_secs(60))?;
    print!("{report}");
    ensure!(report.is_clean(), "seed {SEED} failed; again: cargo xtask chaos --seed {SEED}");
    Ok(())
}

/// What a plain run of the tests has time for: dropped, doubled, swapped and leaked events.
pub(crate) const COMMON: [Sabotage; 4] =
    [Sabotage::Drop, Sabotage::Duplicate, Sabotage::Swap, Sabotage::Leak];

/// Each way to err must be caught, as what it is.
pub(crate) fn self_test(sabotages: &[Sabotage]) -> Result<()> {
    for &sabotage in sabotages {
        let report = block_on(campfire_chaos::self_test::try_out(sabotage))?;
        let caught = campfire_chaos::self_test::judge(sabotage, &report)?;
        println!("{:>12}: struck {} times, caught as {caught}", sabotage.name(), report.struck);
    }
    Ok(())
}

/// Hundreds of clients want more than one thread.
fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}
