//! The README's first commands on machines that nobody has prepared: each a Debian in a directory, with a fresh clone of
//! the repository, nothing built, and what its line here says. `cargo xtask demo --once` is run on each, then the tests
//! that need no more building; on one, `.ci/run` from beginning to end.
//!
//! Lent to them are this machine's Rust and what cargo has downloaded, so that the network is not what is measured.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use campfire_tests::{layout, server};

use crate::tally::{self, Tally};
use crate::{debian, step};

/// Where this machine's Rust is inside.
const RUST: &str = "/opt/rust";

/// The user of those machines that are not root's.
const USER: &str = "dev";

struct Machine {
    /// Also the name of its directory.
    name: &'static str,
    what: &'static str,
    release: &'static str,
    /// What was installed before we came. `$security` is the archive of security updates, which has other minor
    /// versions than the release.
    before: &'static str,
    is_roots: bool,
    run: Run,
}

#[derive(PartialEq, Eq)]
enum Run {
    /// `cargo xtask demo --once`, and then pg_regress, which finds nothing left to build.
    Demo,
    /// `.ci/run`.
    Ci,
}

/// Rust's own requirement.
const LINKER: &str = "apt-get update; apt-get install --yes --no-install-recommends gcc libc6-dev";

const MACHINES: [Machine; 6] = [
    Machine {
        name: "nothing",
        what: "Debian 12 with nothing but Rust",
        release: "bookworm",
        before: "",
        is_roots: true,
        run: Run::Demo,
    },
    Machine {
        name: "no-headers",
        what: "Debian 12 with Postgres 15 and libpq-dev, but neither server headers nor libclang",
        release: "bookworm",
        before: "apt-get install --yes --no-install-recommends postgresql-15 libpq-dev",
        is_roots: true,
        run: Run::Demo,
    },
    Machine {
        name: "newer-index",
        what: "Debian 12 with Postgres 15 and libclang, and an index that has newer ones",
        release: "bookworm",
        before: "apt-get install --yes --no-install-recommends postgresql-15 libpq-dev libclang-dev
                 echo \"deb $security bookworm-security main\" > /etc/apt/sources.list.d/security.list",
        is_roots: false,
        run: Run::Demo,
    },
    Machine {
        name: "older-index",
        what: "Debian 12 with a Postgres 15 that is newer than the index",
        release: "bookworm",
        before: "echo \"deb $security bookworm-security main\" > /etc/apt/sources.list.d/security.list
                 apt-get update
                 apt-get install --yes --no-install-recommends postgresql-15
                 rm /etc/apt/sources.list.d/security.list",
        is_roots: true,
        run: Run::Demo,
    },
    Machine {
        name: "trixie",
        what: "Debian 13, which carries Postgres 17, as a user with sudo",
        release: "trixie",
        before: "",
        is_roots: false,
        run: Run::Demo,
    },
    Machine {
        name: "ci",
        what: ".ci/run on Debian 12 with nothing but Rust, as a user with sudo",
        release: "bookworm",
        before: "",
        is_roots: false,
        run: Run::Ci,
    },
];

/// What `--machine` takes.
pub(crate) const NAMES: [&str; MACHINES.len()] = {
    let mut names = [""; MACHINES.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = MACHINES[index].name;
        index += 1;
    }
    names
};

/// Those that are named, or all of them, one after the other.
pub(crate) fn check(tally: &mut Tally, names: &[String]) {
    let is_wanted = |machine: &&Machine| names.is_empty() || names.iter().any(|name| name == machine.name);
    for machine in MACHINES.iter().filter(is_wanted) {
        tally.include(&format!("fresh machine: {}", machine.what), || machine.check());
    }
}

impl Machine {
    fn check(&self) -> Result<Tally> {
        debian::ensure_possible("a fresh machine", "leave this part out")?;
        let name = format!("fresh-{}", self.name);
        let _lock = debian::lock(&name)?;
        let root = debian::directory()?.join(&name);
        debian::remove(&root)?;
        debian::copy(self.release, &root)?;
        let result = self.prepare(&root).and_then(|()| self.run_in(&root));
        debian::remove(&root)?;
        result
    }

    fn home(&self) -> PathBuf {
        if self.is_roots { "/root".into() } else { Path::new("/home").join(USER) }
    }

    /// What was there before, and a clone of the repository.
    fn prepare(&self, root: &Path) -> Result<()> {
        let step = step::begin(format!("preparing {}", self.what));
        let home = self.home();
        let mut script =
            format!("set -e\nexport DEBIAN_FRONTEND=noninteractive\nsecurity={}\n", self.security()?);
        // .ci/run sees to that itself.
        script.push_str(if self.run == Run::Ci { "apt-get update" } else { LINKER });
        script.push('\n');
        if !self.is_roots {
            script.push_str(&format!(
                "apt-get install --yes --no-install-recommends sudo
                 useradd --create-home {USER}
                 echo '{USER} ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/{USER}\n"
            ));
        }
        script.push_str(self.before);
        let mut prepare = debian::enter(root, &[], &["sh", "-c", &script].map(AsRef::as_ref))?;
        // Pages of apt's output: shown if it fails.
        server::run(&mut prepare).context("preparing the machine")?;

        let inside = root.join(home.strip_prefix("/").expect("a home is an absolute path"));
        clone_into(&inside.join("campfire"))?;
        let registry = inside.join(".cargo/registry");
        std::fs::create_dir_all(&registry).with_context(|| registry.display().to_string())?;
        for part in ["index", "cache"] {
            let ours = debian::cargo_home()?.join("registry").join(part);
            step::run(step::command("cp").arg("-a").arg(ours).arg(&registry))?;
        }
        if !self.is_roots {
            let home = home.display().to_string();
            step::run(&mut debian::enter(root, &[], &["chown", "-R", USER, &home].map(AsRef::as_ref))?)?;
        }
        step.done();
        Ok(())
    }

    /// Only asked for where it is used: a machine may have none.
    fn security(&self) -> Result<String> {
        if self.before.contains("$security") { debian::mirror("Debian-Security") } else { Ok(String::new()) }
    }

    fn run_in(&self, root: &Path) -> Result<Tally> {
        if self.run == Run::Ci {
            return tally::watch(&mut self.command(root, ".ci/run")?, tally::xtask);
        }
        let begun = Instant::now();
        // On a busy machine the time of the processors says more than that of the clock.
        let demo =
            "TIMEFORMAT='of the processors: %U s, and %S s of the system'; time cargo xtask demo --once";
        step::run(&mut self.command(root, demo)?)?;
        let took = step::duration(begun.elapsed());
        println!("{}: from the clone to the end of `cargo xtask demo --once` in {took}", self.what);
        let mut tally = tally::watch(&mut self.command(root, "cargo xtask test regress")?, tally::xtask)?;
        tally.passed += 1;
        Ok(tally)
    }

    /// A command as its user types it, in the clone.
    fn command(&self, root: &Path, command: &str) -> Result<Command> {
        let home = self.home();
        let path = format!("PATH={RUST}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        let mut program: Vec<String> = Vec::new();
        if !self.is_roots {
            program.extend(["runuser", "-u", USER, "--"].map(str::to_owned));
        }
        program.extend(["env", "--ignore-environment"].map(str::to_owned));
        program.push(format!("--chdir={}", home.join("campfire").display()));
        program.extend(debian::passed_on());
        program.extend([path, format!("HOME={}", home.display()), "LC_ALL=C.UTF-8".to_owned()]);
        program.extend(["bash", "-c", command].map(str::to_owned));
        let toolchain = debian::toolchain()?;
        let binds = [(toolchain.as_path(), Path::new(RUST))];
        let program: Vec<_> = program.iter().map(AsRef::as_ref).collect();
        let mut command = debian::enter(root, &binds, &program)?;
        command.stdin(Stdio::null());
        Ok(command)
    }
}

/// What a clone of the repository would have, with what is not committed yet.
fn clone_into(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let script = "git ls-files -z --cached --others --exclude-standard | \
                  xargs -0 -r sh -c 'for f; do [ ! -e \"$f\" ] || printf \"%s\\0\" \"$f\"; done' list | \
                  tar --null --no-recursion -T - -c | tar -x -C \"$1\"";
    step::run(step::command("sh").args(["-c", script, "clone"]).arg(dir))?;
    ensure!(
        dir.join("Cargo.toml").exists(),
        "{} is no clone that git knows, so that its files cannot be told from what was built in it",
        layout::repository().display()
    );
    Ok(())
}
