//! `cargo xtask bench`: measurements, each beside a floor measured in the same run, so that a busy machine changes
//! both. Release builds, a real Postgres, the relay's own binary.

mod browser;
mod gate;
mod import;
mod joins;
mod presence;
mod refusals;
mod rejoin;
mod trigger;

use std::process::ExitCode;

use anyhow::Result;
use campfire_tests::extension::Profile;
use clap::ValueEnum;
use serde_json::Value;

use crate::system::{self, Need, Which};
use crate::{install, step, up};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// What to measure; default: everything
    #[arg(value_enum)]
    scenario: Option<Scenario>,
    /// Print one line of JSON per scenario
    #[arg(long)]
    json: bool,
    /// Number of clients that are connected at the same time
    #[arg(long, default_value_t = 5_000)]
    clients: usize,
    /// Number of rows in one transaction
    #[arg(long, default_value_t = 1_000_000)]
    rows: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// All clients rejoin at once with a replay, after the relay was killed with -9
    Rejoin,
    /// The relay reads one transaction with a million messages
    Import,
    /// A thousand clients join a private channel at once, and policies decide
    Joins,
    /// Members change their presence, on a small channel and on a large one
    Presence,
    /// Rows to a thousand members of a private channel, with and without a gate
    Gate,
    /// Handshakes with forged tokens are refused, beside those that show none
    Refusals,
    /// From a commit to the pixels of widget and dashboard, and from a key to one's own bubble
    Browser,
    /// Inserts and updates on conversations, with and without the trigger of the mirror
    Trigger,
}

/// `cargo xtask bench`.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let scenarios = arguments.scenario.map_or_else(|| Scenario::value_variants().to_vec(), |one| vec![one]);
    let mut needs = vec![Need::Server];
    needs.extend(scenarios.iter().map(|&scenario| Need::Extension(extension(scenario))));
    if scenarios.contains(&Scenario::Browser) {
        needs.extend([Need::Node, Need::Browser]);
    }
    let server = system::ensure(Which::Any, &needs)?;
    for scenario in scenarios {
        install::ensure_installed(&server, extension(scenario))?;
        let result: Value = match scenario {
            Scenario::Rejoin => up::block_on(rejoin::measure(&step::build_relay(true)?, arguments.clients))?,
            Scenario::Import => up::block_on(import::measure(&step::build_relay(true)?, arguments.rows))?,
            Scenario::Joins => up::block_on(joins::measure(&step::build_relay(true)?))?,
            Scenario::Presence => up::block_on(presence::measure(&step::build_relay(true)?))?,
            Scenario::Gate => up::block_on(gate::measure(&step::build_relay(true)?))?,
            Scenario::Refusals => up::block_on(refusals::measure(&step::build_relay(true)?))?,
            Scenario::Browser => browser::measure(&server, &step::build_relay(true)?)?,
            Scenario::Trigger => up::block_on(trigger::measure())?,
        };
        if arguments.json {
            println!("{result}");
        } else {
            print(&result);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the relay is measured, how fast the extension's trigger is makes no difference to it.
fn extension(scenario: Scenario) -> Profile {
    match scenario {
        Scenario::Browser | Scenario::Trigger => Profile::Release,
        _ => Profile::Debug,
    }
}

fn print(result: &Value) {
    for (name, value) in result.as_object().into_iter().flatten() {
        println!("{name:>32}  {value}");
    }
}
