//! `cargo xtask fuzz`: the targets of fuzz/, by cargo-fuzz.
//!
//! What it finds on the way (inputs that reach new code) stays in the target directory: the corpus in the repository is
//! small, and written by hand or by a real server.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use campfire_tests::layout;

use crate::{step, system, tool};

const CARGO_FUZZ_VERSION: &str = "0.13.2";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Targets, by their names in fuzz/fuzz_targets; default: all
    targets: Vec<String>,
    /// Minutes per target
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
}

/// `cargo xtask fuzz`.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let known = targets()?;
    if let Some(unknown) = arguments.targets.iter().find(|target| !known.contains(target)) {
        bail!("there is no fuzz target {unknown}; there are {}", known.join(", "));
    }
    let chosen = if arguments.targets.is_empty() { &known } else { &arguments.targets };
    system::ensure_fuzzing()?;
    let cargo_fuzz = tool::ensure("cargo-fuzz", CARGO_FUZZ_VERSION)?;
    for target in chosen {
        step::announce(&format!("fuzzing {target} for {} minutes", arguments.minutes));
        one(&cargo_fuzz, target, arguments.minutes)?;
    }
    println!("{} targets, nothing found", chosen.len());
    Ok(ExitCode::SUCCESS)
}

fn targets() -> Result<Vec<String>> {
    let dir = layout::repository().join("fuzz/fuzz_targets");
    let entries = std::fs::read_dir(&dir).with_context(|| dir.display().to_string())?;
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| Some(entry.path().file_stem()?.to_string_lossy().into_owned()))
        .collect();
    names.sort();
    Ok(names)
}

fn one(cargo_fuzz: &Path, target: &str, minutes: f64) -> Result<()> {
    let dir = layout::target().join("fuzz");
    let found = dir.join("corpus").join(target);
    std::fs::create_dir_all(&found)?;
    let artifacts = dir.join(format!("{target}-"));
    step::run(
        step::command(cargo_fuzz)
            .args(["run", target])
            .arg(&found)
            .arg(layout::repository().join("fuzz/corpus").join(target))
            .arg("--")
            .arg(format!("-max_total_time={}", (minutes * 60.0).ceil()))
            .arg(format!("-artifact_prefix={}", artifacts.display()))
            // The sanitizer's flags are unstable, and this toolchain has its runtime.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_TARGET_DIR", &dir),
    )
    .with_context(|| {
        format!(
            "{target} has found something: the input is in {}*; give it to the same command",
            artifacts.display()
        )
    })
}
