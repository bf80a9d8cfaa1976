//! Python, and packages of PyPI.

use std::path::PathBuf;

use anyhow::Result;
use campfire_tests::layout;

use crate::step;

/// A Python that has this release of a package, in an environment of its own under the target directory.
pub(crate) fn ensure(package: &str, version: &str) -> Result<PathBuf> {
    let dir = layout::target().join("tools").join(format!("{package}-{version}"));
    let python = dir.join("bin/python");
    // Written last: an interrupted installation is begun again.
    let complete = dir.join("complete");
    if complete.exists() {
        return Ok(python);
    }
    let _ = std::fs::remove_dir_all(&dir);
    let step = step::begin(format!("installing {package} {version} (pip)"));
    step::run(step::command("python3").args(["-m", "venv"]).arg(&dir))?;
    let requirement = format!("{package}=={version}");
    step::run(step::command(&python).args(["-m", "pip", "install", "--quiet"]).arg(requirement))?;
    std::fs::write(&complete, "")?;
    step.done();
    Ok(python)
}
