//! What the operating system has to provide, and how it gets it: by its own
//! package manager, only what is missing, after saying so.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};
use campfire_tests::server::{self, Server};

use crate::step;

/// A Postgres of version `wanted` (by default 15, else the lowest there is, else
/// the distribution's) that the extension can be built for and a cluster run on.
pub(crate) fn ensure_postgres(wanted: Option<u32>) -> Result<Server> {
    let found = Server::find(wanted);
    if let Ok(server) = &found
        && is_complete(server)
    {
        return found;
    }
    let version = match (wanted, found) {
        (Some(version), _) => version,
        // Only its client or a part of it is there: the same version is completed.
        (None, Ok(server)) => server.version,
        (None, Err(_)) => distributed_version()?,
    };
    install(&[&format!("postgresql-{version}"), &format!("postgresql-server-dev-{version}")])?;
    let server = Server::find(Some(version))?;
    if !is_complete(&server) {
        bail!(
            "Postgres {version} is installed, but {} lacks server programs or headers: \
             install the packages postgresql-{version} and postgresql-server-dev-{version}",
            server.pg_config.display()
        );
    }
    Ok(server)
}

/// Has programs to run a server, and headers to build against.
fn is_complete(server: &Server) -> bool {
    server.has_server_programs() && server.pgxs.join("src/makefiles/pgxs.mk").exists()
}

/// Whether [`ensure_postgres`] can have this version: it is here, or apt offers it.
pub(crate) fn can_have_postgres(version: u32) -> Result<bool> {
    if Server::find(Some(version)).is_ok_and(|server| is_complete(&server)) {
        return Ok(true);
    }
    refresh_package_lists()?;
    Ok(is_available(&format!("postgresql-server-dev-{version}")))
}

/// The Postgres that this distribution carries.
fn distributed_version() -> Result<u32> {
    refresh_package_lists()?;
    server::VERSIONS.rev().find(|version| is_available(&format!("postgresql-server-dev-{version}"))).context(
        "no Postgres 15 to 18 is installed, and apt offers none: install one with its \
             server headers, and name it by `cargo xtask install --pg-config PATH`",
    )
}

fn is_available(package: &str) -> bool {
    quiet(Command::new("apt-cache").args(["show", "--quiet", package]))
}

/// What building the extension needs beside Postgres: bindgen's libclang, and what
/// cargo-pgrx links.
pub(crate) fn ensure_build_tools() -> Result<()> {
    let mut missing = Vec::new();
    if !has_program("cc") || !has_program("make") {
        missing.push("build-essential");
    }
    if !has_libclang() {
        missing.push("libclang-dev");
    }
    if !has_program("pkg-config") {
        missing.push("pkg-config");
    }
    if !quiet(Command::new("pkg-config").args(["--exists", "openssl"])) {
        missing.push("libssl-dev");
    }
    if missing.is_empty() {
        return Ok(());
    }
    install(&missing)
}

/// Whether bindgen would find libclang: where it is told to look, or where
/// distributions put it.
fn has_libclang() -> bool {
    if std::env::var_os("LIBCLANG_PATH").is_some() {
        return true;
    }
    let is_libclang = |path: &Path| {
        path.file_name().is_some_and(|name| {
            let name = name.to_string_lossy();
            name.starts_with("libclang") && name.contains(".so") && !name.contains("cpp")
        })
    };
    let llvm = std::fs::read_dir("/usr/lib")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("llvm-") || name.ends_with("-linux-gnu")
        })
        .flat_map(|path| [path.join("lib"), path]);
    llvm.chain(["/usr/lib".into(), "/usr/lib64".into()])
        .filter_map(|dir| std::fs::read_dir(dir).ok())
        .flat_map(|entries| entries.flatten())
        .any(|entry| is_libclang(&entry.path()))
}

/// Whether the path names such a program.
pub(crate) fn has_program(name: &str) -> bool {
    find_program(name).is_some()
}

/// The program that the path names.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|program| program.is_file())
}

/// Installs packages, as root or through sudo.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if !has_program("apt-get") {
        bail!("this needs what Debian calls {list}: install it and run the command again");
    }
    refresh_package_lists()?;
    step::announce(&format!("installing {list} (apt)"));
    step::run(
        as_root("apt-get")?.args(["install", "--yes", "--quiet", "--no-install-recommends"]).args(packages),
    )
    .with_context(|| format!("apt could not install {list}: install it and run the command again"))
}

/// `apt-get update`, once a run: on a fresh machine apt knows no packages at all.
fn refresh_package_lists() -> Result<()> {
    static DONE: OnceLock<()> = OnceLock::new();
    if DONE.get().is_some() || !has_program("apt-get") {
        return Ok(());
    }
    step::announce("asking apt for its package lists");
    // A list that cannot be fetched is a warning to apt; what it has may do.
    step::run(as_root("apt-get")?.args(["update", "--quiet"]))?;
    DONE.set(()).ok();
    Ok(())
}

/// A command with the rights to change the system.
pub(crate) fn as_root(program: &str) -> Result<Command> {
    let mut command = if server::is_root() {
        step::command(program)
    } else if has_program("sudo") {
        let mut sudo = step::command("sudo");
        // sudo drops the environment, so this is said on its command line.
        sudo.arg("DEBIAN_FRONTEND=noninteractive").arg(program);
        sudo
    } else {
        bail!("{program} needs root here, and there is no sudo: run this as root")
    };
    command.env("DEBIAN_FRONTEND", "noninteractive");
    Ok(command)
}

/// Whether a command that only asks says yes.
fn quiet(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
