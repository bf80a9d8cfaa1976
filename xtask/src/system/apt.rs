//! Packages, by Debian's package manager.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result};

use crate::{program, step};

/// `apt-get update`, once a run: on a fresh machine apt knows no packages at all, and an old index names files that the
/// mirror no longer has.
pub(super) fn refresh() {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| {
        let step = step::begin("updating apt's package lists");
        let updated =
            program::as_root("apt-get").and_then(|mut apt| step::run(apt.args(["update", "--quiet"])));
        match updated {
            Ok(()) => step.done(),
            // What apt knows already may do.
            Err(error) => {
                eprintln!("warning: {error:#}; continuing with the present package lists");
            }
        }
    });
}

/// Whether a mirror has the package.
pub(super) fn offers(package: &str) -> bool {
    if !program::is_there("apt-get") {
        return false;
    }
    refresh();
    Command::new("apt-cache")
        .args(["madison", package])
        .stdin(Stdio::null())
        .output()
        .is_ok_and(|output| !output.stdout.is_empty())
}

/// Those of `packages` that are installed and not asked for, in the words by which apt leaves them as they are. It would
/// else upgrade them with others of the same source, and so restart a server that others use.
pub(super) fn kept(packages: &[String], asked: &[String]) -> Vec<String> {
    packages
        .iter()
        .filter(|package| !asked.contains(package))
        .filter(|package| is_installed(package))
        .map(|package| format!("{package}/now"))
        .collect()
}

/// Not merely known, or removed with its settings kept.
fn is_installed(package: &str) -> bool {
    Command::new("dpkg-query")
        .args(["--show", "--showformat=${db:Status-Abbrev}", package])
        .stdin(Stdio::null())
        .output()
        .is_ok_and(|output| output.status.success() && output.stdout.starts_with(b"ii"))
}

/// Whether apt finds a way to install these without taking anything away.
pub(super) fn can_install(packages: &[String], kept: &[String]) -> bool {
    program::succeeds(Command::new("apt-get").args(OPTIONS).arg("--simulate").args(packages).args(kept))
}

/// A machine that has just been started may be installing updates by itself: that is waited for.
const OPTIONS: [&str; 7] = [
    "install",
    "--yes",
    "--quiet",
    "--no-install-recommends",
    "--no-remove",
    "--option=DPkg::Lock::Timeout=300",
    // A line for each package is enough.
    "--option=Dpkg::Use-Pty=0",
];

pub(super) fn install(packages: &[String], kept: &[String]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    let step = step::begin(format!("installing {list} (apt)"));
    program::as_root("apt-get")
        .and_then(|mut apt| step::run(apt.args(OPTIONS).args(packages).args(kept)))
        .with_context(|| {
            format!(
                "{list} must be installed first: run `apt-get install {list}` as root, then this command again"
            )
        })?;
    step.done();
    step::note_installed(format!("{list} (apt)"));
    Ok(())
}

/// A package's file, put into a directory.
pub(super) fn download(package: &str, into: &Path) -> Result<()> {
    step::run(Command::new("apt-get").args(["download", "--quiet", package]).current_dir(into))
}
