//! git, in one repository.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// A working tree.
#[derive(Clone, Copy)]
pub(super) struct Git<'a>(pub(super) &'a Path);

impl Git<'_> {
    /// What git prints; its complaint, if it fails.
    pub(super) fn run(self, arguments: &[&str]) -> Result<String> {
        let text = self.bytes(arguments)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// The same, of a file as a tag or commit holds it.
    pub(super) fn file(self, commit: &str, path: &str) -> Result<Vec<u8>> {
        self.bytes(&["cat-file", "blob", &format!("{commit}:{path}")])
    }

    /// The lines of what git prints.
    pub(super) fn lines(self, arguments: &[&str]) -> Result<Vec<String>> {
        Ok(self.run(arguments)?.lines().map(str::to_owned).collect())
    }

    fn bytes(self, arguments: &[&str]) -> Result<Vec<u8>> {
        let output =
            Command::new("git").arg("-C").arg(self.0).args(arguments).output().context("cannot run git")?;
        ensure!(
            output.status.success(),
            "git {}: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(output.stdout)
    }
}
