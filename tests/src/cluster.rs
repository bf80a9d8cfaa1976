//! A Postgres cluster of one's own: slots, WAL and crashes are cluster-wide, so
//! tests cannot share one.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use crate::port;
use crate::seed::{self, DATABASE, RELAY_ROLE, Seed};
use crate::server::{self, Server};
use crate::wait::DEADLINE;
use crate::watchdog::Watchdog;

/// Secrets of one cluster and of the relay that serves it, kept beside the data.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Credentials {
    /// Of role `postgres`.
    pub superuser_password: String,
    /// Of the role the relay logs in as.
    pub relay_password: String,
    /// Signs the tokens of visitors and agents.
    pub jwt_secret: String,
    /// What clients put into the socket's URL.
    pub api_key: String,
}

impl Credentials {
    /// New ones; nobody has to remember them.
    pub fn random() -> Self {
        let secret = || Uuid::new_v4().simple().to_string();
        Self {
            superuser_password: secret(),
            relay_password: secret(),
            jwt_secret: format!("{}{}", secret(), secret()),
            api_key: format!("cf_publishable_{}", secret()),
        }
    }

    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        let path = dir.join("credentials.json");
        std::fs::write(&path, serde_json::to_vec_pretty(self)?).with_context(|| path.display().to_string())
    }

    fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("credentials.json");
        let text = std::fs::read(&path).with_context(|| path.display().to_string())?;
        serde_json::from_slice(&text).with_context(|| path.display().to_string())
    }
}

/// How long a start waits for the port of the run before, which was not reserved meanwhile.
const PORT_PATIENCE: Duration = Duration::from_secs(5);

/// What a test may want different.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the cluster holds at its start.
    pub seed: Seed,
    /// Settings that win over the harness's, as in postgresql.conf.
    pub settings: Vec<(String, String)>,
    /// The major version; `None` is the one the run is about.
    pub version: Option<u32>,
    /// Scripts of the extension that this cluster alone has beside those that are installed: names of files, and what is
    /// in them.
    pub scripts: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self { seed: Seed::Chat, settings: Vec::new(), version: None, scripts: Vec::new() }
    }
}

/// One Postgres with its data directory. A throwaway one goes with the value.
pub struct Cluster {
    /// The installation it runs on.
    pub server: Server,
    /// Holds `data/`, `postgres.log`, `credentials.json` and the socket.
    pub dir: PathBuf,
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    /// Secrets of this cluster.
    pub credentials: Credentials,
    settings: Vec<(String, String)>,
    /// Present in a throwaway cluster: cleans up if this process cannot.
    watchdog: Option<Watchdog>,
}

impl Cluster {
    /// A running throwaway cluster with the chat schema.
    pub fn boot() -> Result<Self> {
        Self::boot_with(Options::default())
    }

    /// A running throwaway cluster.
    pub fn boot_with(options: Options) -> Result<Self> {
        let server = Server::find(options.version)?;
        let seed = seed::directory(&server, options.seed)?;
        // Short: a socket's path has at most 107 bytes.
        let name = &Uuid::new_v4().simple().to_string()[..8];
        let dir = std::env::temp_dir().join(format!("cf-{name}"));
        seed::copy(&seed, &dir)?;
        let server = match options.scripts.as_slice() {
            [] => server,
            scripts => server.with_scripts(&dir.join("server"), scripts)?,
        };
        let mut cluster = Self::adopt(server, &dir)?;
        cluster.watchdog = Some(cluster.watchdog()?);
        // A crash of the machine is not among the things tests survive.
        cluster.set("fsync", "off");
        cluster.set("unix_socket_directories", &dir.display().to_string());
        for (name, value) in &options.settings {
            cluster.set(name, value);
        }
        cluster.start()?;
        Ok(cluster)
    }

    /// The cluster kept in `dir`, which is not started and outlives this value.
    pub fn adopt(server: Server, dir: &Path) -> Result<Self> {
        let defaults = [
            ("listen_addresses", "127.0.0.1"),
            ("unix_socket_directories", ""),
            ("wal_level", "logical"),
            ("max_slot_wal_keep_size", "1GB"),
            ("max_wal_senders", "20"),
            ("max_replication_slots", "20"),
            ("max_connections", "100"),
            ("shared_buffers", "64MB"),
            ("timezone", "UTC"),
            ("log_line_prefix", "%m [%p] %u "),
        ];
        Ok(Self {
            server,
            dir: dir.to_path_buf(),
            port: 0,
            credentials: Credentials::read(dir)?,
            settings: defaults.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
            watchdog: None,
        })
    }

    fn watchdog(&self) -> Result<Watchdog> {
        let pg_ctl = self.server.program("pg_ctl").display().to_string();
        let dir = self.dir.display().to_string();
        let stop = if server::is_root() {
            format!("runuser -u {} -- \"$1\"", server::USER)
        } else {
            "\"$1\"".to_owned()
        };
        let script = format!("{stop} -D \"$2/data\" -m immediate stop; rm -rf \"$2\"");
        Ok(Watchdog::start(&script, &[&pg_ctl, &dir])?)
    }

    /// Changes a setting for the next start.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings.retain(|(known, _)| known != name);
        self.settings.push((name.to_owned(), value.to_owned()));
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The server's log.
    pub fn log_path(&self) -> PathBuf {
        self.dir.join("postgres.log")
    }

    /// Starts the server, on the port it had before if that is free.
    pub fn start(&mut self) -> Result<()> {
        // After a kill -9 the last backend may hold the shared memory for a moment,
        // and a free port can be taken between finding and using it.
        // For the same reason `pg_ctl start` refuses while init has not yet buried a
        // postmaster that was killed.
        if let Some(pid) = self.pid() {
            server::wait_for_burial(pid, DEADLINE);
        }
        let began = Instant::now();
        let deadline = began + DEADLINE;
        loop {
            if self.port == 0 || (!port::is_free(self.port) && began.elapsed() > PORT_PATIENCE) {
                self.port = port::reserve()?;
            }
            self.write_settings()?;
            let log_before = std::fs::read(self.log_path()).map_or(0, |log| log.len());
            let seconds = DEADLINE.as_secs().to_string();
            let started = server::run(
                self.pg_ctl().arg("-l").arg(self.log_path()).args(["-w", "-t", &seconds, "start"]),
            );
            let Err(error) = started else {
                return Ok(());
            };
            let log = std::fs::read(self.log_path()).unwrap_or_default();
            let log = String::from_utf8_lossy(log.get(log_before..).unwrap_or_default());
            let passes = log.contains("is still in use") || log.contains("Address already in use");
            if !passes || Instant::now() > deadline {
                bail!("{error:#}\n{log}");
            }
        }
    }

    fn write_settings(&self) -> Result<()> {
        let mut text = String::from("# Written by campfire's harness at every start.\n");
        for (name, value) in &self.settings {
            text.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
        }
        text.push_str(&format!("port = {}\n", self.port));
        let path = self.data().join("campfire.conf");
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
        server::give_to_server_user(&path)
    }

    fn pg_ctl(&self) -> std::process::Command {
        let mut command = self.server.command("pg_ctl");
        command.arg("-D").arg(self.data());
        command
    }

    /// Stops the server, if it runs, and says how long that took. Works by data
    /// directory, whoever started it. `mode` is smart, fast or immediate.
    pub fn stop(&self, mode: &str) -> Result<Duration> {
        let started = Instant::now();
        if self.is_running() {
            let seconds = DEADLINE.as_secs().to_string();
            server::run(self.pg_ctl().args(["-m", mode, "-w", "-t", &seconds, "stop"]))?;
        }
        Ok(started.elapsed())
    }

    /// Stops and starts the server; it keeps its port.
    pub fn restart(&mut self, mode: &str) -> Result<()> {
        self.stop(mode)?;
        self.start()
    }

    /// Kills the postmaster as the kernel's OOM killer would. Its children notice.
    pub fn kill_9(&self) -> Result<()> {
        let pid = self.pid().context("no postmaster to kill")?;
        server::signal(pid, "KILL");
        ensure!(server::wait_for_end(pid, DEADLINE), "postmaster {pid} survives a kill -9");
        Ok(())
    }

    /// Whether a server runs on the data directory, whoever started it. Not by
    /// `pg_ctl status`, which takes a process that is dead and not yet buried for
    /// a running one.
    pub fn is_running(&self) -> bool {
        self.pid().is_some_and(|pid| {
            server::is_alive(pid)
                && std::fs::read_to_string(format!("/proc/{pid}/comm"))
                    .is_ok_and(|name| name.trim() == "postgres")
        })
    }

    /// The postmaster's process, as its pid file has it.
    pub fn pid(&self) -> Option<u32> {
        let text = std::fs::read_to_string(self.data().join("postmaster.pid")).ok()?;
        text.lines().next()?.trim().parse().ok()
    }

    /// Connects the superuser.
    pub fn superuser_url(&self, database: &str) -> String {
        self.url("postgres", &self.credentials.superuser_password, database)
    }

    /// Connects the relay's own role.
    pub fn relay_url(&self) -> String {
        self.url(RELAY_ROLE, &self.credentials.relay_password, DATABASE)
    }

    /// The same by way of a proxy on another port of 127.0.0.1.
    pub fn relay_url_by(&self, port: u16) -> String {
        let password = &self.credentials.relay_password;
        format!("postgres://{RELAY_ROLE}:{password}@127.0.0.1:{port}/{DATABASE}")
    }

    /// A libpq URL for any role.
    pub fn url(&self, user: &str, password: &str, database: &str) -> String {
        format!("postgres://{user}:{password}@127.0.0.1:{}/{database}", self.port)
    }

    /// A superuser's session in the chat database.
    pub async fn connect(&self) -> Result<Client> {
        connect(&self.superuser_url(DATABASE)).await
    }

    /// Runs a script with psql as superuser, stopping at the first error; returns
    /// what it printed, unaligned and without headings.
    pub fn psql(&self, database: &str, script: &str) -> Result<String> {
        server::run(&mut self.psql_command(database, script))
    }

    /// The command that [`Cluster::psql`] runs.
    pub fn psql_command(&self, database: &str, script: &str) -> std::process::Command {
        let mut command = std::process::Command::new(self.server.program("psql"));
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]).args([
            "-d",
            &self.superuser_url(database),
            "-c",
            script,
        ]);
        command
    }
}

/// Opens a session; its connection ends with the client.
pub async fn connect(url: &str) -> Result<Client> {
    let (client, connection) =
        tokio_postgres::connect(url, NoTls).await.context("cannot connect to the cluster")?;
    // An error here also fails the client's next call, which is where it is seen.
    tokio::spawn(async move { connection.await.ok() });
    Ok(client)
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let Some(watchdog) = self.watchdog.take() else {
            return;
        };
        let stopped = self.stop("immediate");
        drop(watchdog);
        if let Err(error) = stopped {
            eprintln!("could not stop the throwaway cluster: {error:#}");
        }
        if std::thread::panicking() {
            self.print_how_to_open();
        } else {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

impl Cluster {
    fn print_how_to_open(&self) {
        let user = if server::is_root() { format!("runuser -u {} -- ", server::USER) } else { String::new() };
        eprintln!(
            "\nthe test's cluster is kept in {dir}; its log is {log}\n  \
             {user}{pg_ctl} -D {dir}/data -l {log} -w start\n  \
             psql {url}\n  \
             {user}{pg_ctl} -D {dir}/data -m immediate stop; rm -rf {dir}\n",
            dir = self.dir.display(),
            log = self.log_path().display(),
            pg_ctl = self.server.program("pg_ctl").display(),
            url = self.superuser_url(DATABASE),
        );
    }
}
