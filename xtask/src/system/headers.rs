//! Server headers that apt cannot install: its index has another minor version of Postgres than the system, and the
//! development package of libpq asks for that very version of libpq. Headers of any minor version do for all of a major
//! one, so they are unpacked beside the system.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};
use campfire_tests::server::Server;

use super::apt;
use crate::{step, tool};

/// The server with the headers that were unpacked for it, if it has none of its own.
pub(super) fn complete(mut server: Server) -> Result<Server> {
    let unpacked = unpacked(server.version)?.join("usr/include/postgresql");
    let headers = unpacked.join(server.version.to_string()).join("server");
    if !server.has_headers() && headers.join("postgres.h").exists() {
        server.include_dir = headers;
    }
    Ok(server)
}

fn unpacked(version: u32) -> Result<PathBuf> {
    Ok(tool::cache()?.join(format!("postgresql-headers-{version}")))
}

/// Takes the package's files without installing it.
pub(super) fn unpack(version: u32, package: &str) -> Result<()> {
    let dir = unpacked(version)?;
    let step = step::begin(format!(
        "unpacking {package} in {} (apt has it in another minor version than this Postgres, and so cannot install it)",
        dir.display()
    ));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    apt::download(package, &dir)?;
    let files = std::fs::read_dir(&dir).with_context(|| dir.display().to_string())?;
    let Some(file) = files.flatten().map(|entry| entry.path()).find(|path| path.extension().is_some()) else {
        bail!("apt-get download {package} left no file");
    };
    step::run(Command::new("dpkg-deb").arg("--extract").arg(file).arg(&dir))?;
    step.done();
    step::note_installed(format!("the headers of {package}, in {}", dir.display()));
    Ok(())
}
