//! The commands of the README: everything a developer or CI runs goes through here.
//!
//! Each step says what it does before it does it, installs what is missing, and
//! fails with the fix in its message.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod chroot;
mod demo;
mod install;
mod node;
mod page;
mod step;
mod system;
mod tally;
mod test;
mod up;

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "The commands of the campfire repository")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Everything up, a page with a widget and a dashboard, every event printed
    Demo(demo::Arguments),
    /// Postgres with the extension and a relay, for development, until Ctrl-C
    Up(up::Arguments),
    /// Build the extension and install it into a Postgres server
    Install {
        /// The server's pg_config; by default that of the lowest of Postgres 15 to 18 installed
        #[arg(long, value_name = "PATH")]
        pg_config: Option<PathBuf>,
        /// Optimize
        #[arg(long)]
        release: bool,
    },
    /// Measure, each figure beside its floor of the same run
    Bench(bench::Arguments),
    /// Run the tests, all that a change must pass or one part of them
    Test(test::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo(arguments) => demo::run(arguments),
        Command::Up(arguments) => up::run(arguments),
        Command::Install { pg_config, release } => install::run(pg_config.as_deref(), release),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
