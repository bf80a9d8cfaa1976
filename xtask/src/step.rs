//! Steps: a line that says what happens, a program that does it with its output
//! shown, and an error that says what to do.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use campfire_tests::layout;

/// Says what happens next. On standard error: standard output is for results.
pub(crate) fn announce(what: &str) {
    eprintln!("==> {what}");
}

/// Runs a program in the repository with its output shown. Its standard output
/// goes where ours reports progress, so that `up --json` prints nothing but JSON.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .stdout(std::io::stderr())
        .status()
        .with_context(|| format!("cannot run {}", show(command)))?;
    ensure!(status.success(), "`{}` failed ({status})", show(command));
    Ok(())
}

/// A program to be run in the repository.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(layout::repository());
    command
}

/// Cargo, the one that runs us.
pub(crate) fn cargo() -> Command {
    command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// The command as one would type it.
pub(crate) fn show(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let mut text = program.file_name().unwrap_or(command.get_program()).to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}

/// Builds the relay in the profile asked for; returns the program's path.
pub(crate) fn build_relay(release: bool) -> Result<std::path::PathBuf> {
    announce(&format!("building the relay{}", if release { " (release)" } else { "" }));
    let mut build = cargo();
    // By target, not by package: with `--package` cargo chooses other features for shared dependencies, and every
    // command would compile them again.
    build.args(["build", "--bin", "campfire-relay"]);
    if release {
        build.arg("--release");
    }
    run(&mut build)?;
    let profile = if release { "release" } else { "debug" };
    let path = layout::target().join(profile).join("campfire-relay");
    ensure!(path.exists(), "{} was not built", path.display());
    Ok(path)
}
