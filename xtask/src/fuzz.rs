//! `cargo xtask fuzz`: libFuzzer on the targets of `fuzz/`, on a stable toolchain: the coverage that it needs comes
//! from a compiler pass that stable has, and there is no sanitizer, for the relay has no unsafe code.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use campfire_tests::layout;

use crate::step;

/// What cargo-fuzz passes, without its sanitizer.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions --cfg fuzzing";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The target; without it, each in turn
    #[arg(value_parser = targets())]
    target: Option<String>,
    /// How long each runs
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
}

/// As their corpora are named.
fn targets() -> Vec<&'static str> {
    vec!["pgoutput", "frame_text", "frame_binary", "channel", "token", "resume", "route"]
}

/// `cargo xtask fuzz`.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let chosen: Vec<&str> = match &arguments.target {
        Some(target) => vec![target],
        None => targets(),
    };
    let seconds = (arguments.minutes * 60.0).ceil() as u64;
    let mut found = Vec::new();
    for target in chosen {
        let program = build(target)?;
        let committed = layout::repository().join("fuzz/corpus").join(target);
        let grown = layout::target().join("fuzz/corpus").join(target);
        let artifacts = layout::target().join("fuzz/artifacts").join(target);
        for dir in [&grown, &artifacts] {
            std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        }
        step::announce(&format!("fuzzing {target} for {seconds} s"));
        let status = Command::new(&program)
            .arg(&grown)
            .arg(&committed)
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .args(["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1", "-verbosity=0"])
            .status()
            .with_context(|| program.display().to_string())?;
        println!("{target}: {}", if status.success() { "nothing found" } else { "FOUND SOMETHING" });
        if !status.success() {
            found.push((target, artifacts));
        }
    }
    for (target, artifacts) in &found {
        eprintln!(
            "{target}: see {}; mend it, and put the input into fuzz/corpus/{target}, where every test runs it",
            artifacts.display()
        );
    }
    Ok(if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn build(target: &str) -> Result<PathBuf> {
    let host = host()?;
    let dir = layout::target().join("fuzz");
    // With a target named, build scripts and macros are compiled without the flags, which they could not link with.
    step::run(
        step::cargo()
            .args(["build", "--release", "--package", "campfire-fuzz", "--features", "libfuzzer"])
            .args(["--bin", target, "--target", &host, "--target-dir"])
            .arg(&dir)
            .env("RUSTFLAGS", FLAGS),
    )?;
    let program = dir.join(host).join("release").join(target);
    ensure!(program.exists(), "{} was not built", program.display());
    Ok(program)
}

/// The triple that rustc compiles for.
fn host() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output().context("cannot run rustc")?;
    let text = String::from_utf8(output.stdout)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    Ok(host.to_owned())
}
