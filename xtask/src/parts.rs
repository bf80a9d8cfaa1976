//! The long parts of `cargo xtask test`. They mostly wait: for faults to be noticed, tokens to expire, relays to start.
//! So several run beside each other, each in a process of its own with databases of its own, the longest first. What one
//! prints is shown in one piece when it ends.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};
use campfire_chaos::Sabotage;
use campfire_tests::layout;
use campfire_tests::server::Server;
use clap::ValueEnum;

use crate::system::{self, Need, Which};
use crate::tally::Tally;
use crate::{api, chaos, clients, demo, samples, step, suites};

/// In the order in which they begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    E2e,
    Browser,
    Clients,
    Chaos,
    Unit,
    Regress,
    Api,
    Samples,
    Demo,
}

/// How thorough they are.
#[derive(clap::Args, Clone, Copy)]
pub(crate) struct Scope {
    /// Every pinned release of the clients
    #[arg(long)]
    pub(crate) every_client: bool,
    /// Every kind of sabotage
    #[arg(long)]
    pub(crate) every_sabotage: bool,
}

/// One part, in the process that was started for it.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[arg(value_enum)]
    part: Part,
    #[arg(long)]
    pg: u32,
    #[command(flatten)]
    scope: Scope,
    /// Where the counts go
    #[arg(long)]
    tally: PathBuf,
}

/// `cargo xtask part`, which is for us alone.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let server = system::ensure(Which::Version(arguments.pg), &[Need::Server])?;
    let mut tally = Tally::default();
    arguments.part.run(&mut tally, &server, arguments.scope);
    std::fs::write(&arguments.tally, serde_json::to_vec(&tally)?)?;
    Ok(tally.exit_code())
}

/// Runs these parts: one in this process, several beside each other. What they need has been built and installed.
pub(crate) fn run_all(tally: &mut Tally, parts: &[Part], server: &Server, scope: Scope) {
    if let [part] = parts {
        return part.run(tally, server, scope);
    }
    let logs = layout::target().join("parts");
    let names: Vec<String> = parts.iter().map(Part::to_string).collect();
    step::announce(&format!(
        "{}: beside each other, output until then in {}",
        names.join(", "),
        logs.display()
    ));
    let waiting = Mutex::new(parts.iter().copied().collect::<VecDeque<_>>());
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let all = Mutex::new(tally);
    std::thread::scope(|threads| {
        for _ in 0..at_once().min(parts.len()) {
            threads.spawn(|| {
                while let Some(part) = next() {
                    let begun = Instant::now();
                    let result = part.run_apart(&logs, server, scope);
                    // One at a time, also for what they print.
                    let mut tally = all.lock().unwrap_or_else(PoisonError::into_inner);
                    println!("\n==> {part}, in {}", step::duration(begun.elapsed()));
                    match result {
                        Ok((output, counted)) => {
                            println!("{}", output.trim_end());
                            tally.merge(counted);
                        }
                        Err(error) => {
                            tally.attempt(&part.to_string(), || Err(error));
                        }
                    }
                }
            });
        }
    });
}

/// One more than there are processors, since each waits more than it works.
fn at_once() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from) + 1
}

impl std::fmt::Display for Part {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.to_possible_value().expect("no part is skipped").get_name())
    }
}

impl Part {
    /// Whether it needs a relay that is built.
    pub(crate) fn needs_relay(self) -> bool {
        !matches!(self, Part::Unit | Part::Regress)
    }

    /// Whether it needs what web/ gives.
    pub(crate) fn needs_web(self) -> bool {
        matches!(self, Part::Browser | Part::Clients)
    }

    fn run(self, tally: &mut Tally, server: &Server, scope: Scope) {
        match self {
            Part::Unit => {
                tally.include("unit and property tests", || suites::unit(server));
            }
            Part::Regress => {
                tally.include("pg_regress", || suites::regress(server, &suites::Regress::SQL));
                tally.include("pg_isolation_regress", || suites::regress(server, &suites::Regress::RACES));
            }
            Part::E2e => {
                tally.include("end-to-end tests", || suites::e2e(server));
            }
            Part::Clients => {
                tally.include("the client helper", clients::helper);
                tally.include("widget and dashboard", clients::embedded);
                tally.attempt("what the relay embeds is what web/ gives", clients::check_assets);
                tally.include("stock clients", || clients::stock(server));
                let every_client = scope.every_client;
                tally.include("conformance of stock clients", || clients::conformance(server, every_client));
            }
            Part::Browser => {
                tally.include("pages in a browser", || clients::browser(server));
            }
            Part::Api => {
                tally.include("the API, by its own description", || api::fuzz(server));
            }
            Part::Samples => {
                tally.include("samples of docs/api.md", || samples::check(server));
            }
            Part::Chaos => {
                let sabotages = if scope.every_sabotage { Sabotage::ALL.as_slice() } else { &chaos::COMMON };
                tally.attempt("chaos: what errs on purpose is caught", || chaos::self_test(sabotages));
                tally.attempt("chaos: a minute of faults", chaos::check_once);
            }
            Part::Demo => {
                tally.attempt("demo --once", demo::check_once);
            }
        }
    }

    /// In a process of its own; returns what it prints, and what it counts.
    fn run_apart(self, logs: &Path, server: &Server, scope: Scope) -> Result<(String, Tally)> {
        std::fs::create_dir_all(logs)?;
        let counts = logs.join(format!("{self}.json"));
        let _ = std::fs::remove_file(&counts);
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["part", &self.to_string(), "--pg", &server.version.to_string(), "--tally"])
            .arg(&counts);
        command.args(scope.every_client.then_some("--every-client"));
        command.args(scope.every_sabotage.then_some("--every-sabotage"));
        let output = logs.join(format!("{self}.log"));
        let status = step::log_to(&output, &mut command)?;
        let text = String::from_utf8_lossy(&std::fs::read(&output)?).into_owned();
        let tally = std::fs::read(&counts)
            .map_err(anyhow::Error::from)
            .and_then(|json| Ok(serde_json::from_slice(&json)?))
            .with_context(|| format!("it ended before it had counted ({status})\n{text}"))?;
        Ok((text, tally))
    }
}
