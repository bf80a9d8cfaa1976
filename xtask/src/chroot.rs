//! A chroot of another release of Debian, for a Postgres that this one does not carry. The same command runs again
//! inside, with the repository and the toolchain of this machine and everything else of that release. What is built
//! inside is kept there.

use std::fs::File;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use campfire_tests::layout;

use crate::{debian, step};

/// The releases that carry a version of Postgres with its server headers. None carries 16.
const RELEASES: [(u32, &str); 3] = [(15, "bookworm"), (17, "trixie"), (18, "sid")];

/// Set for what runs inside: there is no chroot in a chroot.
const INSIDE: &str = "CAMPFIRE_CHROOT";

/// What is built inside is kept there too.
const CACHE: &str = "/var/cache";

/// Rust links by it; all else is installed by the command that runs inside.
const COMPILER: &str =
    "apt-get update --quiet && apt-get install --yes --quiet --no-install-recommends gcc libc6-dev";

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
        debian::ensure_possible(&format!("Postgres {version}"), &advice)?;
        Ok(Self { release, version })
    }

    /// `cargo xtask test PARTS --pg VERSION`, inside. The chroot is made first if it is not there, and is ours alone
    /// until the file is closed.
    pub(crate) fn test(&self, parts: &[String]) -> Result<(Command, File)> {
        let lock = debian::lock(self.release)?;
        let root = debian::directory()?.join(self.release);
        if !root.exists() {
            debian::copy(self.release, &root)?;
        }
        if !root.join("usr/bin/cc").exists() {
            let step =
                step::begin(format!("installing a C compiler in the chroot of Debian {}", self.release));
            let program = ["/usr/bin/env", "DEBIAN_FRONTEND=noninteractive", "sh", "-c", COMPILER];
            step::run(&mut debian::enter(&root, &[], &program.map(AsRef::as_ref))?)?;
            step.done();
        }
        Ok((self.enter(&root, parts)?, lock))
    }

    fn enter(&self, root: &Path, parts: &[String]) -> Result<Command> {
        let toolchain = debian::toolchain()?;
        let cargo_home = debian::cargo_home()?;
        let repository = layout::repository();
        let mut program: Vec<String> = ["/usr/bin/env", "--ignore-environment"].map(str::to_owned).to_vec();
        program.push(format!("--chdir={}", repository.display()));
        program.extend(debian::passed_on());
        program.extend([
            format!(
                "PATH={}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                toolchain.display()
            ),
            format!("CARGO_HOME={}", cargo_home.display()),
            format!("CARGO_TARGET_DIR={CACHE}/campfire/target"),
            format!("XDG_CACHE_HOME={CACHE}"),
            format!("{INSIDE}={}", self.release),
        ]);
        program.extend(
            ["HOME=/root", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", "cargo", "xtask", "test"]
                .map(str::to_owned),
        );
        program.extend_from_slice(parts);
        program.extend(["--pg".to_owned(), self.version.to_string()]);
        let binds = [repository, &toolchain, &cargo_home].map(|path| (path, path));
        let program: Vec<_> = program.iter().map(AsRef::as_ref).collect();
        debian::enter(root, &binds, &program).context("cannot enter the chroot")
    }
}
