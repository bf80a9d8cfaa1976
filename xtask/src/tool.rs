//! Programs that are crates, kept in a cache that outlives a clone.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::step;

/// Where tools are kept that outlive a clone.
pub(crate) fn cache() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME") {
        Some(dir) if !dir.is_empty() => PathBuf::from(dir),
        _ => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    Ok(base.join("campfire"))
}

/// The program in exactly this version. Each has a directory of its own, so that another one of the developer's stays.
pub(crate) fn ensure(name: &str, version: &str) -> Result<PathBuf> {
    let root = cache()?.join(format!("{name}-{version}"));
    let program = root.join("bin").join(name);
    if !program.exists() {
        let step = step::begin(format!("installing {name} {version} (cargo; a few minutes, once)"));
        step::run(
            step::cargo().args(["install", name, "--locked", "--version", version]).arg("--root").arg(&root),
        )?;
        step.done();
        step::note_installed(format!("{name} {version}, in {}", root.display()));
    }
    Ok(program)
}
