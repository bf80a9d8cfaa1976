//! Builds the extension and puts it into a Postgres server.
//!
//! The library is an ordinary build of cargo, told by its environment which Postgres it is for; script and control file
//! are put together here. Only the copy needs root, so nobody has to compile as root.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use campfire_tests::extension::{self, Profile};
use campfire_tests::layout;
use campfire_tests::server::Server;

use crate::system::{self, Need, Which};
use crate::{program, script, step};

/// The library's name for those who preload it.
const UNVERSIONED: &str = "campfire.so";

/// `cargo xtask install`.
pub(crate) fn run(pg_config: Option<&Path>, profile: Profile) -> Result<ExitCode> {
    let server = system::ensure(pg_config.map_or(Which::Any, Which::PgConfig), &[Need::Extension(profile)])?;
    ensure_installed(&server, profile)?;
    step::print_summary();
    eprintln!(
        "the extension is installed in Postgres {} ({}, {})",
        server.version,
        server.extension_dir.display(),
        server.library_dir.display()
    );
    Ok(ExitCode::SUCCESS)
}

/// How a server of one's own gets the extension. Without optimizations every write would pay for a trigger that nobody debugs.
pub(crate) fn profile(debug: bool) -> Profile {
    if debug { Profile::Debug } else { Profile::Release }
}

/// Installs the extension unless the server has exactly this build of it.
pub(crate) fn ensure_installed(server: &Server, profile: Profile) -> Result<()> {
    let _lock = lock()?;
    if extension::is_current(server, profile) {
        return Ok(());
    }
    // Before the build: what changes while it runs belongs to the next one.
    let sources = extension::source_hash()?;
    let package = package(server, profile)?;
    let step = step::begin(format!("installing the extension into Postgres {}", server.version));
    copy(&package, server)?;
    extension::note_installed(server, &sources, profile)?;
    step.done();
    step::note_installed(format!(
        "the extension, in {} and {}",
        server.extension_dir.display(),
        server.library_dir.display()
    ));
    Ok(())
}

/// One installation at a time, whoever runs them.
fn lock() -> Result<File> {
    let dir = directory();
    std::fs::create_dir_all(&dir)?;
    let path = dir.join("install.lock");
    let file = File::create(&path).with_context(|| path.display().to_string())?;
    file.lock().with_context(|| path.display().to_string())?;
    Ok(file)
}

/// Where packages and stamps are kept.
fn directory() -> PathBuf {
    layout::target().join("extension")
}

/// A cargo command on the extension for this server. The bindings depend on the environment, so that it must be the same
/// each time, or they would be made again and again.
pub(crate) fn cargo(command: &str, server: &Server) -> Result<Command> {
    let mut cargo = step::cargo();
    cargo
        .args([command, "--package", "campfire", "--lib", "--no-default-features"])
        .args(["--features", &format!("pg{}", server.version)])
        .envs(environment(server)?);
    Ok(cargo)
}

/// What the build of pgrx is told.
pub(crate) fn environment(server: &Server) -> Result<[(&'static str, PathBuf); 4]> {
    Ok([
        ("PGRX_PG_CONFIG_PATH", pg_config_path(server)?),
        ("PGRX_INCLUDEDIR_SERVER", server.include_dir.clone()),
        ("LIBCLANG_PATH", system::libclang()?),
        // It formats two megabytes of bindings that nobody reads, and fails where there is no rustfmt.
        ("RUSTFMT", "true".into()),
    ])
}

/// Absolute, since the build runs elsewhere.
fn pg_config_path(server: &Server) -> Result<PathBuf> {
    let path = if server.pg_config.components().count() > 1 {
        std::path::absolute(&server.pg_config)?
    } else {
        server.program("pg_config")
    };
    ensure!(path.exists(), "{} does not exist", path.display());
    Ok(path)
}

/// Builds a directory that mirrors where the files belong.
fn package(server: &Server, profile: Profile) -> Result<PathBuf> {
    let step = step::begin(format!(
        "building the extension for Postgres {}{}",
        server.version,
        if profile == Profile::Release { " (release)" } else { "" }
    ));
    let mut build = cargo("build", server)?;
    if profile == Profile::Release {
        build.arg("--release");
    }
    step::run(&mut build)?;

    let out = directory().join(format!("package-pg{}", server.version));
    let _ = std::fs::remove_dir_all(&out);
    let (extension, libraries) = (within(&out, &server.extension_dir), within(&out, &server.library_dir));
    for dir in [&extension, &libraries] {
        std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    }
    write(&extension.join(format!("campfire--{}.sql", script::VERSION)), &script::write()?)?;
    add_released_scripts(&extension)?;
    write(&extension.join("campfire.control"), &script::control()?)?;
    let library = format!("{}.so", script::library());
    let dir = if profile == Profile::Release { "release" } else { "debug" };
    let built = layout::target().join(dir).join("libcampfire.so");
    std::fs::copy(&built, libraries.join(&library)).with_context(|| built.display().to_string())?;
    // `shared_preload_libraries = 'campfire'` names no version, as the functions of the extension do. A link and not a
    // copy: Postgres knows the file by its inode, and loads it once.
    std::os::unix::fs::symlink(&library, libraries.join(UNVERSIONED))
        .with_context(|| libraries.display().to_string())?;
    step.done();
    Ok(out)
}

/// Scripts of released versions, and updates: by these `alter extension campfire update` finds its way.
fn add_released_scripts(to: &Path) -> Result<()> {
    let from = layout::repository().join(script::RELEASED);
    // None before the first release.
    if !from.exists() {
        return Ok(());
    }
    for name in names_of_ours(&from)? {
        let script = to.join(&name);
        if !script.exists() {
            std::fs::copy(from.join(&name), &script).with_context(|| script.display().to_string())?;
        }
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| path.display().to_string())
}

/// Where the package has what belongs to `dir`.
fn within(package: &Path, dir: &Path) -> PathBuf {
    package.join(dir.strip_prefix("/").unwrap_or(dir))
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
    program::as_root(program)
}
