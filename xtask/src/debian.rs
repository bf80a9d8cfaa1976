//! A release of Debian in a directory. It is made once and kept in the cache, with nothing in it that a release does not
//! begin with; what uses it works on a copy.
//!
//! Nothing is mounted outside of a run: mounts live in a namespace of their own, which goes with the last process in it.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use campfire_tests::server;

use crate::{program, step, system, tool};

/// Packages start no services there, and Debian makes no cluster that nobody asked for.
const SETTLE: &str = r#"
set -e
printf '#!/bin/sh\nexit 101\n' > "$1/usr/sbin/policy-rc.d"
chmod 755 "$1/usr/sbin/policy-rc.d"
mkdir -p "$1/etc/postgresql-common"
echo 'create_main_cluster = false' > "$1/etc/postgresql-common/createcluster.conf"
# A mirror may lag behind; debootstrap asked for no date either.
echo 'Acquire::Check-Valid-Until "false";' > "$1/etc/apt/apt.conf.d/campfire"
"#;

/// Mounts what the command needs, and runs it. All that it starts ends with it.
const ENTER: &str = r#"
set -e
root=$1 count=$2
shift 2
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys"
while [ "$count" -gt 0 ]; do
  mkdir -p "$root$2"
  mount --bind "$1" "$root$2"
  shift 2
  count=$((count - 1))
done
cp /etc/resolv.conf /etc/hosts "$root/etc/"
# Also the authority of a proxy between us and the registries.
mkdir -p "$root/etc/ssl/certs"
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/" 2>/dev/null || :
# Not exec: the first process of a namespace has to bury those that nobody waits for.
status=0
chroot "$root" "$@" || status=$?
exit "$status"
"#;

/// Says what to do instead where there can be no chroot.
pub(crate) fn ensure_possible(what: &str, advice: &str) -> Result<()> {
    if !program::is_there("apt-get") {
        bail!("{what} needs a chroot of Debian, and this system is not Debian: {advice}");
    }
    if !server::is_root() {
        bail!("{what} needs a chroot, and a chroot needs root: run this as root, or {advice}");
    }
    if !step::command("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success()) {
        bail!("{what} needs a chroot, and nothing can be mounted here (a container?): {advice}");
    }
    Ok(())
}

/// Where chroots are kept.
pub(crate) fn directory() -> Result<PathBuf> {
    let chroots = tool::cache()?.join("chroots");
    std::fs::create_dir_all(&chroots).with_context(|| chroots.display().to_string())?;
    Ok(chroots)
}

/// Ours alone until the file is closed.
pub(crate) fn lock(name: &str) -> Result<File> {
    let path = directory()?.join(format!("{name}.lock"));
    let lock = File::create(&path).with_context(|| path.display().to_string())?;
    if lock.try_lock().is_err() {
        step::announce(&format!("waiting for another run that uses the chroot {name}"));
        lock.lock().with_context(|| path.display().to_string())?;
    }
    Ok(lock)
}

/// A copy of a release at `root`, which must not exist. It appears only when it is whole.
pub(crate) fn copy(release: &str, root: &Path) -> Result<()> {
    let base = base(release)?;
    let draft = root.with_extension("draft");
    remove(&draft)?;
    step::run(step::command("cp").arg("-a").arg(&base).arg(&draft))?;
    std::fs::rename(&draft, root).with_context(|| root.display().to_string())
}

/// A chroot that is not used any more, or was not finished.
pub(crate) fn remove(root: &Path) -> Result<()> {
    if root.exists() {
        // What a namespace has mounted is not seen from outside; this is for one that somebody entered by hand.
        step::run(step::command("rm").args(["-rf", "--one-file-system"]).arg(root))?;
        let _ = std::fs::remove_file(script_of(root));
    }
    Ok(())
}

/// The release as debootstrap makes it.
fn base(release: &str) -> Result<PathBuf> {
    let _lock = lock(&format!("{release}-base"))?;
    let base = directory()?.join(format!("{release}-base"));
    if base.exists() {
        return Ok(base);
    }
    if !Path::new("/usr/sbin/debootstrap").exists() {
        system::install(&["debootstrap"])?;
    }
    let mirror = mirror("Debian")?;
    let draft = base.with_extension("draft");
    remove(&draft)?;
    let step = step::begin(format!("making a chroot of Debian {release} (once; kept in {})", base.display()));
    step::run(
        step::command("/usr/sbin/debootstrap")
            .args(["--variant=minbase", "--include=ca-certificates", release])
            .arg(&draft)
            .arg(&mirror),
    )
    .with_context(|| {
        format!(
            "{mirror} gave no Debian {release}: if it is the keys that are missing, install a newer \
             debian-archive-keyring; then run the command again"
        )
    })?;
    step::run(step::command("sh").args(["-c", SETTLE, "settle"]).arg(&draft))?;
    std::fs::rename(&draft, &base).with_context(|| base.display().to_string())?;
    step.done();
    Ok(base)
}

/// What [`enter`] runs.
fn script_of(root: &Path) -> PathBuf {
    root.with_extension("enter")
}

/// A command that runs `program` inside, with nothing of this machine's environment but what leads to the registries, and
/// how CI wants its output. `binds` are directories of ours, and where they are inside.
pub(crate) fn enter(root: &Path, binds: &[(&Path, &Path)], program: &[&OsStr]) -> Result<Command> {
    // In a file, so that an error does not show all of it.
    let script = script_of(root);
    std::fs::write(&script, ENTER).with_context(|| script.display().to_string())?;
    let mut command = step::command("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "sh"]).arg(script).arg(root);
    command.arg(binds.len().to_string());
    for (ours, inside) in binds {
        command.args([ours, inside]);
    }
    command.args(program);
    Ok(command)
}

/// What of this machine's environment leads to the registries, and how CI wants its output.
pub(crate) fn passed_on() -> Vec<String> {
    ["http_proxy", "https_proxy", "no_proxy", "CI", "CARGO_TERM_COLOR"]
        .into_iter()
        .filter_map(|name| std::env::var(name).ok().map(|value| format!("{name}={value}")))
        .collect()
}

/// Where the compiler and its cargo are. A distribution's own needs that distribution's libraries.
pub(crate) fn toolchain() -> Result<PathBuf> {
    let sysroot = server::run(step::command("rustc").args(["--print", "sysroot"]))?;
    let sysroot = PathBuf::from(sysroot.trim());
    ensure!(
        !sysroot.starts_with("/usr") || sysroot.starts_with("/usr/local"),
        "the Rust in {} belongs to this release of the system and cannot be used in another: install Rust by rustup",
        sysroot.display()
    );
    Ok(sysroot)
}

/// Where cargo keeps what it downloads.
pub(crate) fn cargo_home() -> Result<PathBuf> {
    match std::env::var_os("CARGO_HOME") {
        Some(dir) => Ok(dir.into()),
        None => Ok(PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cargo")),
    }
}

/// The mirror that this machine takes its own Debian from; `label` tells the archive from that of security updates.
pub(crate) fn mirror(label: &str) -> Result<String> {
    let targets = server::run(step::command("apt-get").args([
        "indextargets",
        "--format",
        "$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(REPO_URI)",
        "Created-By: Packages",
    ]))?;
    let wanted = format!("Debian|{label}|main|");
    targets.lines().find_map(|line| line.strip_prefix(&wanted)).map(str::to_owned).with_context(|| {
        format!(
            "apt has no source of {label} here, so there is none to make a chroot from: run `apt-get update`"
        )
    })
}
