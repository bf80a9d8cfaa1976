//! Programs of this machine: whether one is there, what it says, and how to run one as root.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};
use campfire_tests::server;

use crate::step;

/// The program that the path names.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|program| program.is_file())
}

/// Whether the path names such a program.
pub(crate) fn is_there(name: &str) -> bool {
    find(name).is_some()
}

/// A command with the rights to change the system.
pub(crate) fn as_root(program: &str) -> Result<Command> {
    let mut command = if server::is_root() {
        step::command(program)
    } else if is_there("sudo") {
        let mut sudo = step::command("sudo");
        // sudo drops the environment, so this is said on its command line.
        sudo.arg("DEBIAN_FRONTEND=noninteractive").arg(program);
        sudo
    } else {
        bail!("{program} needs root here, and there is no sudo: run this as root");
    };
    command.env("DEBIAN_FRONTEND", "noninteractive");
    Ok(command)
}

/// Whether a command that only asks says yes.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
