//! Where things lie: the repository, the target directory, and a place that the
//! operating system's user `postgres` can enter.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::server;

/// The repository this program works on.
///
/// What cargo says when it runs us comes first: clones that share a target directory may share this binary too.
pub fn repository() -> &'static Path {
    static REPOSITORY: OnceLock<PathBuf> = OnceLock::new();
    REPOSITORY.get_or_init(|| {
        let built_from = Path::new(env!("CARGO_MANIFEST_DIR"));
        let run_from = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let package = run_from.filter(|package| package.is_dir()).unwrap_or_else(|| built_from.to_owned());
        package.parent().expect("every package lies in the repository").to_owned()
    })
}

/// Cargo's target directory, found from the running program: `target/debug/xtask`
/// and `target/debug/deps/e2e-0123` both say where they were built.
pub fn target() -> PathBuf {
    let profile = profile_dir();
    profile.parent().unwrap_or(&profile).to_path_buf()
}

/// `target/debug` or `target/release`: where sibling binaries of this build lie.
pub fn profile_dir() -> PathBuf {
    let exe = std::env::current_exe().expect("a running program has a path");
    let dir = exe.parent().expect("a program lies in a directory");
    match dir.file_name() {
        Some(name) if name == "deps" => dir.parent().unwrap_or(dir).to_path_buf(),
        _ => dir.to_path_buf(),
    }
}

/// A directory for clusters that live longer than a test: `target/postgres`, or,
/// where the server's user cannot enter that (a clone under /root), one under
/// /var/tmp named after the repository.
pub fn scratch() -> PathBuf {
    static SCRATCH: OnceLock<PathBuf> = OnceLock::new();
    SCRATCH.get_or_init(choose_scratch).clone()
}

fn choose_scratch() -> PathBuf {
    let preferred = target().join("postgres");
    if make_enterable(&preferred) {
        return preferred;
    }
    let mut hasher = DefaultHasher::new();
    preferred.hash(&mut hasher);
    let fallback = PathBuf::from(format!("/var/tmp/campfire-{:016x}", hasher.finish()));
    assert!(
        make_enterable(&fallback),
        "user {} can enter neither {} nor {}",
        server::USER,
        preferred.display(),
        fallback.display()
    );
    eprintln!(
        "note: user {} cannot enter {}; clusters are kept in {}",
        server::USER,
        preferred.display(),
        fallback.display()
    );
    fallback
}

/// Creates `dir` and says whether the server's user may pass through it.
fn make_enterable(dir: &Path) -> bool {
    if std::fs::create_dir_all(dir).is_err() {
        return false;
    }
    if !server::is_root() {
        return true;
    }
    // Only our own directory is opened up, never an ancestor such as /root.
    let _ = std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755));
    Command::new("runuser")
        .args(["-u", server::USER, "--", "test", "-x"])
        .arg(dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
