//! What a command needs of the operating system: looked for before anything that takes long, and what is missing
//! installed at once, by the system's own package manager.

mod apt;
mod headers;
mod libclang;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use campfire_tests::extension::{self, Profile};
use campfire_tests::server::{self, Server};

use crate::{program, samples, step};

/// Postgres's own test programs, below `pgxs`.
pub(crate) const PG_REGRESS: &str = "src/test/regress/pg_regress";
pub(crate) const PG_ISOLATION_REGRESS: &str = "src/test/isolation/pg_isolation_regress";

/// What a command is going to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Run a cluster.
    Server,
    /// Build the extension, unless this build of it is installed.
    Extension(Profile),
    /// Compile the extension, whether or not it is installed.
    Compile,
    /// Run Postgres's own test programs.
    Regress,
    /// Run JavaScript.
    Node,
    /// Run Python in an environment of its own.
    Python,
    /// Run samples in Ruby, PHP and Go.
    Samples,
    /// Drive a browser.
    Browser,
    /// Make a Debian in a directory.
    Debootstrap,
    /// Build cargo-pgrx.
    Pgrx,
}

/// Which Postgres.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Which<'a> {
    /// The lowest version whose server is installed, else the distribution's.
    Any,
    /// The one of this major version.
    Version(u32),
    /// The one that this `pg_config` describes.
    PgConfig(&'a Path),
}

impl From<Option<u32>> for Which<'_> {
    fn from(version: Option<u32>) -> Self {
        version.map_or(Self::Any, Self::Version)
    }
}

/// Something that is not there, and the package that brings it.
struct Missing {
    what: String,
    package: String,
    /// Belongs to the server, so that only its own packages can bring it.
    is_of_server: bool,
}

/// A Postgres, and all that `needs` says. Where something is missing it is installed, if this system has apt.
pub(crate) fn ensure(which: Which<'_>, needs: &[Need]) -> Result<Server> {
    let (version, server) = find(which)?;
    let missing = missing(version, server.as_ref(), needs)?;
    if let Some(server) = &server {
        if missing.is_empty() {
            return Ok(server.clone());
        }
        ensure!(
            is_debians(server) || !missing.iter().any(|missing| missing.is_of_server),
            "{} describes a Postgres that lacks {}: install that ({} names the directory of the headers), or name \
             another Postgres by `cargo xtask install --pg-config PATH`",
            server.pg_config.display(),
            list(&missing),
            "`pg_config --includedir-server`"
        );
    }
    provide(version, &missing)?;

    // What the packages brought beside it is not asked for.
    let server = match which {
        Which::PgConfig(path) => Server::of(path)?,
        Which::Any | Which::Version(_) => Server::find(Some(version))?,
    };
    let server = headers::complete(server)?;
    let missing = self::missing(version, Some(&server), needs)?;
    ensure!(
        missing.is_empty(),
        "the packages are installed, but {} not found: Postgres is looked for by {}, libclang where LIBCLANG_PATH says \
         or in the library directories below /usr",
        list(&missing),
        server.pg_config.display()
    );
    Ok(server)
}

/// Whether [`ensure`] can have this version: it is here, or apt offers it.
pub(crate) fn can_have_postgres(version: u32) -> bool {
    let is_complete = |server: Server| server.has_server_programs() && server.has_headers();
    Server::find(Some(version)).is_ok_and(is_complete) || apt::offers(&server_dev(version))
}

/// A major version, and its installation as far as there is one.
fn find(which: Which<'_>) -> Result<(u32, Option<Server>)> {
    let found = match which {
        Which::PgConfig(path) => Some(Server::of(path)?),
        Which::Version(version) => match Server::find(Some(version)) {
            Ok(server) => Some(server),
            Err(_) => return Ok((version, None)),
        },
        Which::Any => match std::env::var("CAMPFIRE_TEST_PG") {
            Ok(text) => return find(Which::Version(text.parse().context("CAMPFIRE_TEST_PG is no number")?)),
            Err(_) => any(),
        },
    };
    match found {
        Some(server) => {
            let server = headers::complete(server)?;
            Ok((server.version, Some(server)))
        }
        None => Ok((distributed_version()?, None)),
    }
}

/// What is installed: the lowest version that has a server, or a part of one that apt can complete.
fn any() -> Option<Server> {
    let found = Server::find(None).ok()?;
    (found.has_server_programs() || apt::offers(&server_package(found.version))).then_some(found)
}

/// The Postgres that this distribution carries.
fn distributed_version() -> Result<u32> {
    server::VERSIONS.rev().find(|&version| apt::offers(&server_dev(version))).context(
        "no Postgres 15 to 18 is installed, and apt offers none: install one with its server headers, and name it by \
         `cargo xtask install --pg-config PATH`",
    )
}

fn server_package(version: u32) -> String {
    format!("postgresql-{version}")
}

fn server_dev(version: u32) -> String {
    format!("postgresql-server-dev-{version}")
}

/// Whether packages named like Debian's brought it.
fn is_debians(server: &Server) -> bool {
    server.bin() == Path::new(&format!("/usr/lib/postgresql/{}/bin", server.version))
}

/// Everything that `needs` says and that is not there.
fn missing(version: u32, server: Option<&Server>, needs: &[Need]) -> Result<Vec<Missing>> {
    let mut missing = Vec::new();
    let mut lacks = |what: &str, package: &str| {
        missing.push(Missing { what: what.to_owned(), package: package.to_owned(), is_of_server: false });
    };
    let builds = needs.iter().any(|need| match need {
        // What is installed and up to date is not built again.
        Need::Extension(profile) => !server.is_some_and(|server| extension::is_current(server, *profile)),
        Need::Compile => true,
        _ => false,
    });
    if builds {
        if !compiles_c() {
            lacks("a C compiler that works (cc)", "gcc");
            lacks("the C library's headers", "libc6-dev");
        }
        if libclang::find()?.is_none() {
            lacks("a libclang that loads and has its headers", "clang");
        }
    }
    if needs.contains(&Need::Node) && !program::is_there("npm") {
        lacks("Node", "nodejs");
        lacks("npm", "npm");
    }
    if needs.contains(&Need::Python)
        && !program::succeeds(Command::new("python3").args(["-c", "import venv, ensurepip"]))
    {
        lacks("Python with venv", "python3-venv");
    }
    if needs.contains(&Need::Samples) {
        if !program::succeeds(Command::new("ruby").args(["-e", "require 'jwt'"])) {
            lacks("Ruby with jwt", "ruby");
            lacks("Ruby with jwt", "ruby-jwt");
        }
        if !program::succeeds(Command::new("php").args(["-r", ""])) {
            lacks("PHP", "php-cli");
        }
        if !program::succeeds(Command::new("go").arg("version")) {
            lacks("Go", "golang-go");
        }
        if !samples::has_go_jwt() {
            let packages = ["golang-github-golang-jwt-jwt-v5-dev", "golang-github-golang-jwt-jwt-dev"];
            let package = packages.into_iter().find(|package| apt::offers(package)).unwrap_or(packages[0]);
            lacks("the library of JWT for Go", package);
        }
    }
    if needs.contains(&Need::Browser) && browser().is_none() {
        lacks("Chromium", "chromium");
    }
    if needs.contains(&Need::Debootstrap) && !Path::new("/usr/sbin/debootstrap").exists() {
        lacks("debootstrap", "debootstrap");
    }
    if needs.contains(&Need::Pgrx) {
        if !program::is_there("pkg-config") {
            lacks("pkg-config", "pkg-config");
        }
        if !program::succeeds(Command::new("pkg-config").args(["--exists", "openssl"])) {
            lacks("OpenSSL's headers", "libssl-dev");
        }
    }

    let mut server_lacks = |what: String, package: String| {
        missing.push(Missing { what, package, is_of_server: true });
    };
    if needs.contains(&Need::Server) && !server.is_some_and(Server::has_server_programs) {
        server_lacks(format!("the server of Postgres {version}"), server_package(version));
    }
    if builds && !server.is_some_and(Server::has_headers) {
        server_lacks(format!("the server headers of Postgres {version} (postgres.h)"), server_dev(version));
    }
    let is_there = |program: &str| server.is_some_and(|server| server.pgxs.join(program).exists());
    if needs.contains(&Need::Regress) && ![PG_REGRESS, PG_ISOLATION_REGRESS].into_iter().all(is_there) {
        // Distributions put them into one or the other.
        let what = "pg_regress and pg_isolation_regress";
        server_lacks(what.to_owned(), format!("postgresql-client-{version}"));
        server_lacks(what.to_owned(), server_dev(version));
    }
    Ok(missing)
}

/// Each of them, once.
fn list(missing: &[Missing]) -> String {
    let mut whats: Vec<&str> = missing.iter().map(|missing| missing.what.as_str()).collect();
    whats.dedup();
    whats.join(", ")
}

/// Installs what is missing, in one go.
fn provide(version: u32, missing: &[Missing]) -> Result<()> {
    let mut packages: Vec<String> = missing.iter().map(|missing| missing.package.clone()).collect();
    packages.sort();
    packages.dedup();
    if !program::is_there("apt-get") {
        bail!(
            "this needs {}: install it (what Debian calls {}) and run the command again",
            list(missing),
            packages.join(" ")
        );
    }
    step::announce(&format!("missing: {}", list(missing)));
    apt::refresh();
    let headers = server_dev(version);
    let mut kept = Vec::new();
    if packages.contains(&headers) {
        kept = apt::kept(&[server_package(version), format!("postgresql-client-{version}")], &packages);
        if !apt::can_install(&packages, &kept) {
            // The index has another minor version, whose headers apt installs only with a library of that version.
            headers::unpack(version, &headers)?;
            packages.retain(|package| *package != headers);
            kept.clear();
        }
    }
    apt::install(&packages, &kept)
}

/// Installs packages that a later step turns out to need.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let packages: Vec<String> = packages.iter().map(|&package| package.to_owned()).collect();
    ensure!(
        program::is_there("apt-get"),
        "this needs what Debian calls {}: install it and run the command again",
        packages.join(" ")
    );
    apt::refresh();
    apt::install(&packages, &[])
}

/// What the fuzz targets are compiled with, and the library whose verdict one of them asks for.
pub(crate) fn ensure_fuzzing() -> Result<()> {
    let mut packages = Vec::new();
    if !program::is_there("c++") {
        packages.push("g++");
    }
    if !has_library("libpq.so.5") {
        packages.push("libpq5");
    }
    if packages.is_empty() { Ok(()) } else { install(&packages) }
}

/// Whether a library is where distributions put them.
fn has_library(name: &str) -> bool {
    let mut directories =
        vec![PathBuf::from("/usr/lib64"), PathBuf::from("/usr/local/lib"), PathBuf::from("/usr/lib")];
    directories
        .extend(std::fs::read_dir("/usr/lib").into_iter().flatten().flatten().map(|entry| entry.path()));
    directories.iter().any(|directory| directory.join(name).exists())
}

/// Whether cc makes a program: without the C library's headers it is there and makes none.
fn compiles_c() -> bool {
    program::succeeds(Command::new("sh").args([
        "-c",
        "printf '#include <stdlib.h>\\nint main(void) { return EXIT_SUCCESS; }\\n' | cc -x c -o /dev/null -",
    ]))
}

/// The browser to drive, under the names that distributions give it.
pub(crate) fn browser() -> Option<PathBuf> {
    ["chromium", "chromium-browser", "google-chrome"].into_iter().find_map(program::find)
}

/// The libclang that bindgen is to use.
pub(crate) fn libclang() -> Result<PathBuf> {
    libclang::find()?.context("there is no libclang that loads: install what Debian calls clang")
}
