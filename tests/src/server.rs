//! An installed Postgres: where its programs are, and how to run them as somebody
//! who may (initdb and the server refuse root).

mod scripts;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// The operating system's user that runs Postgres when we are root.
pub const USER: &str = "postgres";

/// The major versions the extension builds for.
pub const VERSIONS: std::ops::RangeInclusive<u32> = 15..=18;

/// Programs and directories of one Postgres installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Path of its `pg_config`.
    pub pg_config: PathBuf,
    /// The major version.
    pub version: u32,
    bin: PathBuf,
    /// Where control files and extension scripts belong.
    pub extension_dir: PathBuf,
    /// Where shared objects belong.
    pub library_dir: PathBuf,
    /// `pgxs`, below which pg_regress lies.
    pub pgxs: PathBuf,
    /// Where the headers belong that an extension is built against.
    pub include_dir: PathBuf,
}

impl Server {
    /// The installation of major version `wanted`; without one, that of
    /// `CAMPFIRE_TEST_PG`, else 15, else the lowest there is (15 is what the
    /// project promises first, so it is what a plain run should try).
    pub fn find(wanted: Option<u32>) -> Result<Self> {
        let wanted = match (wanted, std::env::var("CAMPFIRE_TEST_PG")) {
            (Some(version), _) => Some(version),
            (None, Ok(text)) => Some(text.parse().context("CAMPFIRE_TEST_PG is no number")?),
            (None, Err(_)) => None,
        };
        let candidates = match wanted {
            Some(version) => version..=version,
            None => VERSIONS,
        };
        let mut client = None;
        for version in candidates {
            let debian = format!("/usr/lib/postgresql/{version}/bin/pg_config");
            if Path::new(&debian).exists() {
                let server = Self::of(Path::new(&debian))?;
                if server.has_server_programs() {
                    return Ok(server);
                }
                // Its programs may come from a client package alone: another version may have a server.
                client = client.or(Some(server));
            }
        }
        if let Some(client) = client {
            return Ok(client);
        }
        // Not Debian's layout: whatever pg_config the path names.
        if let Ok(server) = Self::of(Path::new("pg_config"))
            && wanted.is_none_or(|version| version == server.version)
        {
            return Ok(server);
        }
        match wanted {
            Some(version) => {
                bail!("Postgres {version} is not installed (no /usr/lib/postgresql/{version}/bin/pg_config)")
            }
            None => bail!("no Postgres 15 to 18 is installed, and pg_config is not in the path"),
        }
    }

    /// The installation that `pg_config` describes.
    pub fn of(pg_config: &Path) -> Result<Self> {
        let ask = |option: &str| -> Result<String> {
            let output = Command::new(pg_config)
                .arg(option)
                .output()
                .with_context(|| format!("cannot run {}", pg_config.display()))?;
            ensure!(
                output.status.success(),
                "{} {option} failed: {}",
                pg_config.display(),
                String::from_utf8_lossy(&output.stderr).trim()
            );
            Ok(String::from_utf8(output.stdout)?.trim().to_owned())
        };
        let text = ask("--version")?;
        let version = text
            .split_whitespace()
            .nth(1)
            .and_then(|number| number.split(|c: char| !c.is_ascii_digit()).next())
            .and_then(|major| major.parse().ok())
            .with_context(|| format!("cannot read a version from {text:?}"))?;
        ensure!(
            VERSIONS.contains(&version),
            "{} is of Postgres {version}; campfire builds for 15 to 18",
            pg_config.display()
        );
        let pgxs = PathBuf::from(ask("--pgxs")?);
        Ok(Self {
            pg_config: pg_config.to_path_buf(),
            version,
            bin: ask("--bindir")?.into(),
            extension_dir: Path::new(&ask("--sharedir")?).join("extension"),
            library_dir: ask("--pkglibdir")?.into(),
            // …/pgxs/src/makefiles/pgxs.mk names the directory three levels up.
            pgxs: pgxs.ancestors().nth(3).unwrap_or(&pgxs).to_path_buf(),
            include_dir: ask("--includedir-server")?.into(),
        })
    }

    /// Where its programs are.
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// Path of one of the server's programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// Whether the server's own programs are there; `pg_config` alone may come
    /// from a client package.
    pub fn has_server_programs(&self) -> bool {
        ["initdb", "pg_ctl", "postgres", "psql"].iter().all(|name| self.program(name).exists())
    }

    /// Whether an extension can be built for it. `pg_config` and pgxs.mk say nothing about that: Debian brings both
    /// with the client.
    pub fn has_headers(&self) -> bool {
        self.include_dir.join("postgres.h").exists()
    }

    /// A command that runs one of the server's programs as the server's user.
    pub fn command(&self, name: &str) -> Command {
        as_server_user(self.program(name))
    }
}

/// A command that runs `program` as the server's user, in a directory that user
/// can be in (ours may be a closed one, and Postgres's programs insist).
pub fn as_server_user(program: impl AsRef<OsStr>) -> Command {
    let mut command = if is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", USER, "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir("/").stdin(Stdio::null()).env_remove("PGDATA").env("LC_ALL", "C.UTF-8");
    command
}

/// Whether we run as root, by the owner of our own /proc entry.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    static ROOT: OnceLock<bool> = OnceLock::new();
    *ROOT.get_or_init(|| std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0))
}

/// Gives `path` and all below it to the server's user.
pub fn give_to_server_user(path: &Path) -> Result<()> {
    if !is_root() {
        return Ok(());
    }
    let mut command = Command::new("chown");
    command.arg("-R").arg(format!("{USER}:")).arg(path);
    run(&mut command).map(drop)
}

/// Runs `command` to its end and returns its standard output; its standard error
/// becomes part of the error.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} failed ({}):\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
        String::from_utf8_lossy(&output.stdout)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Sends a signal by name. The shell's own `kill` spares us an `unsafe` block.
pub fn signal(pid: u32, name: &str) -> bool {
    Command::new("sh")
        .args(["-c", "kill -s \"$1\" \"$2\"", "kill", name, &pid.to_string()])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Whether a process runs. One that has ended and that nobody has buried yet
/// still has an entry in /proc, and does not.
pub fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        // The name before the state is in parentheses and may hold anything.
        .is_ok_and(|stat| !stat.rsplit(") ").next().unwrap_or_default().starts_with(['Z', 'X']))
}

/// Waits until a process has ended; false if it still runs after `patience`.
pub fn wait_for_end(pid: u32, patience: Duration) -> bool {
    wait_while(patience, || is_alive(pid))
}

/// Waits until a process that has ended is gone from the table of processes too.
pub fn wait_for_burial(pid: u32, patience: Duration) {
    let entry = format!("/proc/{pid}");
    wait_while(patience, || Path::new(&entry).exists() && !is_alive(pid));
}

/// Processes that are not our children cannot be waited for, only watched.
fn wait_while(patience: Duration, mut lasts: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    while lasts() {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}
