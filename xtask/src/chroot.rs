//! Another release of Debian in a directory, for a Postgres that this one does not carry. The same command runs again
//! inside, with the repository and the toolchain of this machine and everything else of that release.
//!
//! It is made once and kept in the cache. Nothing is mounted outside of a run: mounts live in a namespace of their own,
//! which goes with the last process in it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use campfire_tests::{layout, server};

use crate::{install, step, system};

/// The releases that carry a version of Postgres with its server headers. None carries 16.
const RELEASES: [(u32, &str); 3] = [(15, "bookworm"), (17, "trixie"), (18, "sid")];

/// Set for what runs inside: there is no chroot in a chroot.
const INSIDE: &str = "CAMPFIRE_CHROOT";

/// What is built inside is kept there too.
const CACHE: &str = "/var/cache";

/// What a compiler needs; the rest is installed by the command that runs inside.
const INCLUDED: &str = "--include=build-essential,ca-certificates,libssl-dev,pkg-config";

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

/// Mounts what the command needs at the paths it has here, and runs it.
const ENTER: &str = r#"
set -e
root=$1 count=$2
shift 2
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys"
while [ "$count" -gt 0 ]; do
  mkdir -p "$root$1"
  mount --bind "$1" "$root$1"
  shift
  count=$((count - 1))
done
cp /etc/resolv.conf /etc/hosts "$root/etc/"
# Also the authority of a proxy between us and the registries.
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/" 2>/dev/null || :
exec chroot "$root" "$@"
"#;

/// The release to test a version of Postgres in.
pub(crate) struct Chroot {
    release: &'static str,
    version: u32,
}

impl Chroot {
    /// The one for this version; an error says what to do where there is none.
    pub(crate) fn of(version: u32) -> Result<Self> {
        let advice = format!(
            "install Postgres {version} with its server headers, so that \
             /usr/lib/postgresql/{version}/bin/pg_config is there"
        );
        let Some((_, release)) = RELEASES.into_iter().find(|(known, _)| *known == version) else {
            bail!("neither this system nor a release of Debian carries Postgres {version}: {advice}");
        };
        if std::env::var_os(INSIDE).is_some() {
            bail!("Debian's {release} carries no Postgres {version} any more: {advice}");
        }
        if !system::has_program("apt-get") {
            bail!("this system is not a Debian, and Postgres {version} is not installed: {advice}");
        }
        if !server::is_root() {
            bail!(
                "Postgres {version} needs a chroot, and a chroot needs root: run this as root, or {advice}"
            );
        }
        if !step::command("unshare").args(["--mount", "true"]).status().is_ok_and(|status| status.success()) {
            bail!(
                "Postgres {version} needs a chroot, and nothing can be mounted here (a container?): {advice}"
            );
        }
        Ok(Self { release, version })
    }

    /// `cargo xtask test PARTS --pg VERSION`, inside. The chroot is made first if it is not there, and is ours alone
    /// until the file is closed.
    pub(crate) fn test(&self, parts: &[String]) -> Result<(Command, File)> {
        let chroots = install::cache()?.join("chroots");
        std::fs::create_dir_all(&chroots).with_context(|| chroots.display().to_string())?;
        let path = chroots.join(format!("{}.lock", self.release));
        let lock = File::create(&path).with_context(|| path.display().to_string())?;
        if lock.try_lock().is_err() {
            step::announce(&format!("waiting for who else uses the chroot of Debian {}", self.release));
            lock.lock().with_context(|| path.display().to_string())?;
        }
        let root = chroots.join(self.release);
        if !root.exists() {
            self.make(&root)?;
        }
        Ok((self.enter(&root, parts)?, lock))
    }

    /// Beside its final name and then renamed: what was interrupted begins anew.
    fn make(&self, root: &Path) -> Result<()> {
        let release = self.release;
        if !Path::new("/usr/sbin/debootstrap").exists() {
            system::install(&["debootstrap"])?;
        }
        let mirror = mirror()?;
        let draft = root.with_extension("draft");
        if draft.exists() {
            std::fs::remove_dir_all(&draft).with_context(|| draft.display().to_string())?;
        }
        step::announce(&format!(
            "making a chroot of Debian {release}, because Postgres {} is not for this system (once; some minutes, 3 GB \
             in the end, kept in {})",
            self.version,
            root.display()
        ));
        step::run(
            step::command("/usr/sbin/debootstrap")
                .args(["--variant=minbase", INCLUDED, release])
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
        lend_cargo_pgrx(&draft)?;
        std::fs::rename(&draft, root).with_context(|| root.display().to_string())
    }

    fn enter(&self, root: &Path, parts: &[String]) -> Result<Command> {
        let toolchain = toolchain()?;
        let cargo_home = match std::env::var_os("CARGO_HOME") {
            Some(dir) => PathBuf::from(dir),
            None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cargo"),
        };
        // In a file, so that an error does not show all of it.
        let script = root.with_extension("enter");
        std::fs::write(&script, ENTER).with_context(|| script.display().to_string())?;
        let binds = [layout::repository(), &toolchain, &cargo_home];
        let mut command = step::command("unshare");
        command.args(["--mount", "sh"]).arg(script).arg(root).arg(binds.len().to_string()).args(binds);

        // Nothing of this machine's environment but what leads to the registries, and how CI wants its output.
        command.args([
            "/usr/bin/env",
            "--ignore-environment",
            &format!("--chdir={}", layout::repository().display()),
        ]);
        for name in ["http_proxy", "https_proxy", "no_proxy", "CI", "CARGO_TERM_COLOR"] {
            if let Ok(value) = std::env::var(name) {
                command.arg(format!("{name}={value}"));
            }
        }
        command
            .arg(format!(
                "PATH={}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                toolchain.display()
            ))
            .arg(format!("CARGO_HOME={}", cargo_home.display()))
            .arg(format!("CARGO_TARGET_DIR={CACHE}/campfire/target"))
            .arg(format!("XDG_CACHE_HOME={CACHE}"))
            .args(["HOME=/root", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"])
            .arg(format!("{INSIDE}={}", self.release))
            .args(["cargo", "xtask", "test"])
            .args(parts)
            .args(["--pg", &self.version.to_string()]);
        Ok(command)
    }
}

/// Compiling cargo-pgrx takes minutes: where this machine's runs in the other release too, it is copied.
fn lend_cargo_pgrx(root: &Path) -> Result<()> {
    let ours = install::cargo_pgrx_root()?;
    let name = ours.file_name().expect("it has a name of its own");
    let inside = Path::new(CACHE).join("campfire").join(name);
    let copied = root.join(inside.strip_prefix("/").expect("an absolute path"));
    if !ours.exists() {
        return Ok(());
    }
    let parent = copied.parent().expect("it lies in the cache");
    std::fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
    step::run(step::command("cp").arg("-a").arg(&ours).arg(&copied))?;
    let program = inside.join("bin/cargo-pgrx");
    if server::run(step::command("chroot").arg(root).arg(program).args(["pgrx", "--version"])).is_err() {
        std::fs::remove_dir_all(&copied).with_context(|| copied.display().to_string())?;
    }
    Ok(())
}

/// Where the compiler and its cargo are. A distribution's own needs that distribution's libraries.
fn toolchain() -> Result<PathBuf> {
    let sysroot = server::run(step::command("rustc").args(["--print", "sysroot"]))?;
    let sysroot = PathBuf::from(sysroot.trim());
    ensure!(
        !sysroot.starts_with("/usr") || sysroot.starts_with("/usr/local"),
        "the Rust in {} belongs to this release of the system and cannot be used in another: install Rust by rustup",
        sysroot.display()
    );
    Ok(sysroot)
}

/// The mirror that this machine takes its own Debian from.
fn mirror() -> Result<String> {
    let targets = server::run(step::command("apt-get").args([
        "indextargets",
        "--format",
        "$(ORIGIN)|$(LABEL)|$(COMPONENT)|$(REPO_URI)",
        "Created-By: Packages",
    ]))?;
    targets
        .lines()
        .find_map(|line| line.strip_prefix("Debian|Debian|main|"))
        .map(str::to_owned)
        .context("apt has no source of Debian itself here, so there is none to make a chroot from: run `apt-get update`")
}
