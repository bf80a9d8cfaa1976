//! Steps: a line that says what happens, a program that does it with its output
//! shown, a line that says how long it took, and an error that says what to do.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use campfire_tests::layout;

/// What this run has done so far, for the summary.
static DONE: Mutex<Done> = Mutex::new(Done { steps: Vec::new(), installed: Vec::new() });

struct Done {
    steps: Vec<(String, Duration)>,
    installed: Vec<String>,
}

/// When this program began.
static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// How long this program runs; the first call is its beginning.
pub(crate) fn running() -> Duration {
    BEGUN.elapsed()
}

/// Says what happens next, if that is a matter of an instant. On standard error: standard output is for results.
pub(crate) fn announce(what: &str) {
    eprintln!("==> {what}");
}

/// A step that has begun. One that fails is dropped, and its error says the rest.
#[must_use = "a step ends with `done`"]
pub(crate) struct Step {
    what: String,
    begun: Instant,
}

/// Says what happens next, and begins to measure.
pub(crate) fn begin(what: impl Into<String>) -> Step {
    let what = what.into();
    announce(&what);
    Step { what, begun: Instant::now() }
}

impl Step {
    /// Says how long it took.
    pub(crate) fn done(self) {
        let took = self.begun.elapsed();
        eprintln!("    done in {}", duration(took));
        done().steps.push((self.what, took));
    }
}

/// Something now is on this machine that was not there before.
pub(crate) fn note_installed(what: impl Into<String>) {
    done().installed.push(what.into());
}

/// What was installed, and how long each step took.
pub(crate) fn print_summary() {
    let done = done();
    eprintln!();
    for what in &done.installed {
        eprintln!("installed: {what}");
    }
    for (what, took) in &done.steps {
        eprintln!("{:>13}  {what}", duration(*took));
    }
    eprintln!("{:>13}  in all", duration(done.steps.iter().map(|(_, took)| *took).sum()));
}

fn done() -> std::sync::MutexGuard<'static, Done> {
    DONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As people say it: `0.3 s`, `42 s`, `3 min 02 s`.
pub(crate) fn duration(took: Duration) -> String {
    match took.as_secs() {
        0..10 => format!("{:.1} s", took.as_secs_f64()),
        seconds @ 10..60 => format!("{seconds} s"),
        seconds => format!("{} min {:02} s", seconds / 60, seconds % 60),
    }
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

/// Runs a program with its output shown, and hands every line to `read`.
pub(crate) fn stream(command: &mut Command, mut read: impl FnMut(&str)) -> Result<bool> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {}", show(command)))?;
    let stdout = child.stdout.take().expect("standard output is piped");
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        println!("{line}");
        read(&line);
    }
    Ok(child.wait()?.success())
}

/// Runs a program with all of its output kept in a file.
pub(crate) fn log_to(path: &Path, command: &mut Command) -> Result<ExitStatus> {
    let log = File::create(path).with_context(|| path.display().to_string())?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    command.status().with_context(|| format!("cannot run {}", show(command)))
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
    let step = begin(format!("building the relay{}", if release { " (release)" } else { "" }));
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
    step.done();
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_say_them() {
        for (millis, text) in
            [(0, "0.0 s"), (340, "0.3 s"), (10_000, "10 s"), (59_999, "59 s"), (182_000, "3 min 02 s")]
        {
            assert_eq!(duration(Duration::from_millis(millis)), text);
        }
    }
}
