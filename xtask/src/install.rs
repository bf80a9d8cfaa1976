//! Builds the extension and puts it into a Postgres server.
//!
//! `cargo pgrx package` and a copy, not `cargo pgrx install`: only the copy needs
//! root, so nobody has to compile as root.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use campfire_tests::extension::{self, Profile};
use campfire_tests::layout;
use campfire_tests::server::Server;

use crate::{step, system};

/// Must be the version of `pgrx` in extension/Cargo.toml, to the last digit.
const CARGO_PGRX_VERSION: &str = "0.18.1";

/// The library's name for those who preload it.
const UNVERSIONED: &str = "campfire.so";

/// `cargo xtask install`.
pub(crate) fn run(pg_config: Option<&Path>, release: bool) -> Result<ExitCode> {
    let server = match pg_config {
        Some(path) => Server::of(path)?,
        None => system::ensure_postgres(None)?,
    };
    let profile = if release { Profile::Release } else { Profile::Debug };
    ensure_installed(&server, profile)?;
    eprintln!(
        "the extension is installed in Postgres {} ({})",
        server.version,
        server.extension_dir.display()
    );
    Ok(ExitCode::SUCCESS)
}

/// Installs the extension unless the server has exactly this build of it.
pub(crate) fn ensure_installed(server: &Server, profile: Profile) -> Result<()> {
    let _lock = lock()?;
    if extension::is_current(server, profile) {
        return Ok(());
    }
    system::ensure_build_tools()?;
    let cargo_pgrx = ensure_cargo_pgrx()?;
    ensure_pgrx_knows(server, &cargo_pgrx)?;

    // Before the build: what changes while it runs belongs to the next one.
    let sources = extension::source_hash()?;
    let package = package(server, &cargo_pgrx, profile)?;
    step::announce(&format!("installing the extension into Postgres {}", server.version));
    copy(&package, server)?;
    extension::note_installed(server, &sources, profile)
}

/// One installation at a time, whoever runs them.
fn lock() -> Result<File> {
    let dir = target();
    std::fs::create_dir_all(&dir)?;
    let path = dir.join("install.lock");
    let file = File::create(&path).with_context(|| path.display().to_string())?;
    file.lock().with_context(|| path.display().to_string())?;
    Ok(file)
}

/// The extension's own target directory: its bindings depend on environment that
/// other builds do not set, and sharing would rebuild them again and again.
pub(crate) fn target() -> PathBuf {
    layout::target().join("extension")
}

/// Where tools are kept that outlive a clone.
pub(crate) fn cache() -> Result<PathBuf> {
    let base = match std::env::var_os("XDG_CACHE_HOME") {
        Some(dir) if !dir.is_empty() => PathBuf::from(dir),
        _ => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    Ok(base.join("campfire"))
}

/// The environment in which pgrx finds what `cargo pgrx init` wrote.
pub(crate) fn pgrx_home() -> Result<PathBuf> {
    Ok(cache()?.join("pgrx"))
}

/// The directory that [`ensure_cargo_pgrx`] fills.
pub(crate) fn cargo_pgrx_root() -> Result<PathBuf> {
    tool_root("cargo-pgrx", CARGO_PGRX_VERSION)
}

/// cargo-pgrx in exactly our version.
pub(crate) fn ensure_cargo_pgrx() -> Result<PathBuf> {
    ensure_tool("cargo-pgrx", CARGO_PGRX_VERSION)
}

/// A directory of its own for each version of a tool, so that another one of the developer's stays.
fn tool_root(name: &str, version: &str) -> Result<PathBuf> {
    Ok(cache()?.join(format!("{name}-{version}")))
}

/// A program that is a crate.
pub(crate) fn ensure_tool(name: &str, version: &str) -> Result<PathBuf> {
    let root = tool_root(name, version)?;
    let program = root.join("bin").join(name);
    if !program.exists() {
        step::announce(&format!("installing {name} {version} (cargo; a few minutes, once)"));
        step::run(
            step::cargo().args(["install", name, "--locked", "--version", version]).arg("--root").arg(&root),
        )?;
    }
    Ok(program)
}

/// `cargo pgrx init` for this server, which only notes its pg_config.
pub(crate) fn ensure_pgrx_knows(server: &Server, cargo_pgrx: &Path) -> Result<()> {
    let home = pgrx_home()?;
    let label = format!("pg{}", server.version);
    let pg_config = pg_config_path(server)?;
    let known = std::fs::read_to_string(home.join("config.toml")).unwrap_or_default();
    let is_known =
        known.lines().any(|line| line.starts_with(&label) && line.contains(&format!("\"{pg_config}\"")));
    if is_known {
        return Ok(());
    }
    std::fs::create_dir_all(&home)?;
    step::announce(&format!("making Postgres {} known to pgrx", server.version));
    step::run(
        step::command(cargo_pgrx)
            .args(["pgrx", "init", &format!("--{label}"), &pg_config])
            .env("PGRX_HOME", &home),
    )
}

/// Absolute, since pgrx notes it for later runs in other directories.
fn pg_config_path(server: &Server) -> Result<String> {
    let path = if server.pg_config.components().count() > 1 {
        std::path::absolute(&server.pg_config)?
    } else {
        server.program("pg_config")
    };
    ensure!(path.exists(), "{} does not exist", path.display());
    Ok(path.display().to_string())
}

/// Builds a directory that mirrors where the files belong.
fn package(server: &Server, cargo_pgrx: &Path, profile: Profile) -> Result<PathBuf> {
    step::announce(&format!(
        "building the extension for Postgres {}{}",
        server.version,
        if profile == Profile::Release { " (release)" } else { "" }
    ));
    let out = target().join(format!("package-pg{}", server.version));
    let _ = std::fs::remove_dir_all(&out);
    let mut build = step::command(cargo_pgrx);
    build
        .args(["pgrx", "package", "--pg-config", &pg_config_path(server)?])
        .args(["--no-default-features", "--features", &format!("pg{}", server.version)])
        .arg("--out-dir")
        .arg(&out)
        .current_dir(layout::repository().join("extension"))
        .env("PGRX_HOME", pgrx_home()?)
        .env("CARGO_TARGET_DIR", target());
    if profile == Profile::Debug {
        build.arg("--debug");
    }
    step::run(&mut build)?;
    add_unversioned_name(&within(&out, &server.library_dir))?;
    Ok(out)
}

/// Where the package has what belongs to `dir`.
fn within(package: &Path, dir: &Path) -> PathBuf {
    package.join(dir.strip_prefix("/").unwrap_or(dir))
}

/// `shared_preload_libraries = 'campfire'` names no version, as the functions of the extension do. A link and not a
/// copy: Postgres knows the file by its inode, and loads it once.
fn add_unversioned_name(to: &Path) -> Result<()> {
    let names = names_of_ours(to)?;
    let [library] = names.as_slice() else {
        bail!("the package has not one library but {}: {}", names.len(), names.join(", "));
    };
    std::os::unix::fs::symlink(library, to.join(UNVERSIONED)).with_context(|| to.display().to_string())
}

/// Copies the package's files into the server, and takes away files of ours that
/// the package no longer has.
fn copy(package: &Path, server: &Server) -> Result<()> {
    for dir in [&server.extension_dir, &server.library_dir] {
        let from = within(package, dir);
        let names = names_of_ours(&from)?;
        if names.is_empty() {
            bail!("the package has no files for {}", dir.display());
        }
        let stale: Vec<PathBuf> = names_of_ours(dir)?
            .into_iter()
            .filter(|name| !names.contains(name))
            .map(|name| dir.join(name))
            .collect();
        let (links, files): (Vec<_>, Vec<_>) =
            names.iter().map(|name| from.join(name)).partition(|path| path.is_symlink());
        let mut install = writer_for(dir, "install")?;
        // `install` unlinks first, so backends that have the old library mapped keep it.
        install.args(["-m", "644", "-t"]).arg(dir).args(files);
        step::run(&mut install)?;
        for link in links {
            let target = std::fs::read_link(&link).with_context(|| link.display().to_string())?;
            step::run(writer_for(dir, "ln")?.arg("-sfn").arg(target).arg(dir.join(UNVERSIONED)))?;
        }
        if !stale.is_empty() {
            step::run(writer_for(dir, "rm")?.arg("-f").args(stale))?;
        }
    }
    Ok(())
}

fn names_of_ours(dir: &Path) -> Result<Vec<String>> {
    let entries = std::fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    Ok(entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| extension::is_ours(name))
        .collect())
}

/// A server of one's own in the home directory needs no root.
fn writer_for(dir: &Path, program: &str) -> Result<std::process::Command> {
    let probe = dir.join(format!(".campfire-{}", std::process::id()));
    if File::create(&probe).is_ok() {
        std::fs::remove_file(&probe)?;
        return Ok(step::command(program));
    }
    system::as_root(program)
}
