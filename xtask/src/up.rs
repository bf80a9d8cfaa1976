//! `cargo xtask up`: Postgres with the extension and a relay, for development.
//!
//! What it starts belongs to whoever uses it: a script may kill and restart the
//! relay or Postgres, and `up` neither interferes nor gives up. It stops Postgres
//! by its data directory, so it does not matter who started it last.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use campfire_tests::cluster::Cluster;
use campfire_tests::extension::{self, Profile};
use campfire_tests::server::{self, Server};
use campfire_tests::{ORGANIZATION, layout, port, relay, seed};
use serde_json::json;
use tokio::process::Child;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::system::{self, Need, Which};
use crate::{install, step};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Print one line of JSON once everything is ready
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(crate) stack: StackArguments,
    /// Port of the relay; default: 8080, or a free port if that is taken
    #[arg(long)]
    port: Option<u16>,
}

/// Where the database of `up` and `demo` is kept, in the scratch directory.
pub(crate) const DIRECTORY: &str = "up";

/// What `up` and `demo` have in common.
#[derive(clap::Args, Clone)]
pub(crate) struct StackArguments {
    /// Delete the database of earlier runs first
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Build relay and extension with optimizations
    #[arg(long)]
    pub(crate) release: bool,
    /// A setting for the relay; may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_env)]
    pub(crate) env: Vec<(String, String)>,
}

fn parse_env(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

/// `cargo xtask up`.
pub(crate) fn run(arguments: Arguments) -> Result<ExitCode> {
    let prepared = prepare(&arguments.stack, &[])?;
    block_on(async {
        let mut interrupt = Interrupt::listen()?;
        let mut stack = Stack::start(prepared, DIRECTORY, &arguments.stack, arguments.port).await?;
        if arguments.json {
            println!("{}", stack.describe());
        } else {
            step::print_summary();
            stack.print();
        }
        loop {
            tokio::select! {
                () = interrupt.wait() => break,
                () = stack.relay_gone() => {}
            }
        }
        stack.stop().await?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Runs async code on this thread.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// Ctrl-C or SIGTERM, whichever comes first.
pub(crate) struct Interrupt {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupt {
    /// From here on the signals no longer end the process by themselves.
    pub(crate) fn listen() -> Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    pub(crate) async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// What takes long and may be interrupted without leaving anything behind.
pub(crate) struct Prepared {
    server: Server,
    relay: PathBuf,
}

/// Installs and builds what a stack needs, and first of all installs what `more` says.
pub(crate) fn prepare(arguments: &StackArguments, more: &[Need]) -> Result<Prepared> {
    let profile = if arguments.release { Profile::Release } else { Profile::Debug };
    let server = system::ensure(Which::Any, &[&[Need::Server, Need::Extension(profile)], more].concat())?;
    install::ensure_installed(&server, profile)?;
    let relay = step::build_relay(arguments.release)?;
    Ok(Prepared { server, relay })
}

/// A running Postgres and relay.
pub(crate) struct Stack {
    pub(crate) cluster: Cluster,
    pub(crate) port: u16,
    relay: Option<Child>,
    relay_pid: u32,
    /// Held as long as the data directory is ours.
    _lock: File,
}

impl Stack {
    /// `directory` is the name under which the data are kept.
    pub(crate) async fn start(
        prepared: Prepared,
        directory: &str,
        arguments: &StackArguments,
        port: Option<u16>,
    ) -> Result<Self> {
        let dir = layout::scratch().join(directory);
        let lock = lock(&dir)?;
        let mut cluster = open_cluster(prepared.server, &dir, arguments.fresh)?;
        let step = step::begin(format!(
            "starting Postgres {} on {}",
            cluster.server.version,
            cluster.data().display()
        ));
        cluster.start()?;
        step.done();
        std::fs::write(dir.join("port"), cluster.port.to_string())?;
        let port = relay_port(port)?;
        match start_relay(&cluster, &prepared.relay, port, arguments).await {
            Ok(relay) => {
                let relay_pid = relay.id().context("the relay exited at once")?;
                std::fs::write(dir.join("relay.pid"), relay_pid.to_string())?;
                Ok(Self { cluster, port, relay: Some(relay), relay_pid, _lock: lock })
            }
            Err(error) => {
                cluster.stop("fast")?;
                Err(error)
            }
        }
    }

    /// Where the relay listens.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What scripts read: one line of JSON.
    fn describe(&self) -> String {
        json!({
            "postgres": self.cluster.superuser_url(seed::DATABASE),
            "relay": format!("http://{}", self.address()),
            "console": null,
            "jwt_secret": self.cluster.credentials.jwt_secret,
            "api_key": self.cluster.credentials.api_key,
            "organization": ORGANIZATION,
            "relay_pid": self.relay_pid,
            "postgres_pid": self.cluster.pid(),
        })
        .to_string()
    }

    fn print(&self) {
        let credentials = &self.cluster.credentials;
        println!(
            "\n  postgres      {postgres}\n  \
             relay         http://{address}  (pid {pid})\n  \
             api key       {api_key}\n  \
             jwt secret    {jwt_secret}\n  \
             organization  {ORGANIZATION}\n  \
             agent         {agent}\n\n\
             Ctrl-C stops Postgres and relay; the database is kept for the next time.",
            postgres = self.cluster.superuser_url(seed::DATABASE),
            address = self.address(),
            pid = self.relay_pid,
            api_key = credentials.api_key,
            jwt_secret = credentials.jwt_secret,
            agent = campfire_tests::AGENT,
        );
    }

    /// Resolves when our relay has exited, and tells; never again after that.
    pub(crate) async fn relay_gone(&mut self) {
        let Some(child) = &mut self.relay else {
            return std::future::pending().await;
        };
        let status = child.wait().await;
        self.relay = None;
        match status {
            Ok(status) => eprintln!("the relay (pid {}) has exited: {status}", self.relay_pid),
            Err(error) => eprintln!("cannot watch the relay (pid {}): {error}", self.relay_pid),
        }
    }

    /// Stops the relay if it is still ours, then whatever Postgres runs on the data.
    pub(crate) async fn stop(mut self) -> Result<()> {
        if let Some(child) = &mut self.relay {
            let step = step::begin("stopping the relay");
            server::signal(self.relay_pid, "TERM");
            let drained = tokio::time::timeout(Duration::from_secs(15), child.wait()).await;
            if drained.is_err() {
                eprintln!("the relay does not drain; killing it");
                child.kill().await?;
            }
            step.done();
        }
        let step = step::begin("stopping Postgres");
        if self.cluster.stop("fast").is_err() {
            self.cluster.stop("immediate")?;
        }
        step.done();
        Ok(())
    }
}

/// Makes sure that no other `up` uses the directory.
fn lock(dir: &Path) -> Result<File> {
    std::fs::create_dir_all(dir)?;
    let path = dir.with_extension("lock");
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .with_context(|| path.display().to_string())?;
    if file.try_lock().is_err() {
        let mut owner = String::new();
        file.read_to_string(&mut owner)?;
        bail!(
            "`cargo xtask up` or `demo` already runs here (pid {}): stop it first, \
             or give this one a target directory of its own (CARGO_TARGET_DIR)",
            owner.trim()
        );
    }
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "{}", std::process::id())?;
    Ok(file)
}

/// The kept cluster, or a new one; what an earlier run left running is stopped.
fn open_cluster(server: Server, dir: &Path, fresh: bool) -> Result<Cluster> {
    stop_stale_relay(dir);
    if dir.join("credentials.json").exists() {
        let stale = Cluster::adopt(server.clone(), dir)?;
        if stale.is_running() {
            step::announce("stopping the Postgres that an earlier run left");
            if stale.stop("fast").is_err() {
                stale.stop("immediate")?;
            }
        }
    }
    let built_from = extension::source_hash()?;
    let made_from = dir.join("extension-sources");
    // A run that was cut short while it made the cluster left no credentials.
    if fresh || !made_from.exists() {
        let _ = std::fs::remove_dir_all(dir);
        let step = step::begin(format!("making a database in {}", dir.display()));
        seed::make(&server, dir)?;
        std::fs::write(&made_from, &built_from)?;
        step.done();
    } else if std::fs::read_to_string(&made_from)? != built_from {
        eprintln!(
            "note: the extension has changed since this database was made; \
             --fresh makes a new one"
        );
    }
    let version = std::fs::read_to_string(dir.join("data/PG_VERSION"))?;
    ensure!(
        version.trim() == server.version.to_string(),
        "the kept database is of Postgres {}, and Postgres {} would open it: use --fresh",
        version.trim(),
        server.version
    );
    let mut cluster = Cluster::adopt(server, dir)?;
    // The same port as last time, if it is free, so that noted URLs stay true.
    cluster.port =
        std::fs::read_to_string(dir.join("port")).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    Ok(cluster)
}

/// Ends the relay of a run that could not do it itself: it would hold the slot.
fn stop_stale_relay(dir: &Path) {
    let Some(pid) =
        std::fs::read_to_string(dir.join("relay.pid")).ok().and_then(|text| text.parse::<u32>().ok())
    else {
        return;
    };
    // The number may belong to somebody else by now.
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    if String::from_utf8_lossy(&arguments).contains("campfire-relay\0run") {
        step::announce(&format!("stopping the relay (pid {pid}) that an earlier run left"));
        server::signal(pid, "TERM");
        if !server::wait_for_end(pid, Duration::from_secs(15)) {
            server::signal(pid, "KILL");
        }
    }
    let _ = std::fs::remove_file(dir.join("relay.pid"));
}

fn relay_port(wanted: Option<u16>) -> Result<u16> {
    match wanted {
        Some(number) => {
            ensure!(
                port::is_free(number),
                "port {number} is taken: choose another by --port, or leave it out for any free one"
            );
            Ok(number)
        }
        None if port::is_free(8080) => Ok(8080),
        None => Ok(port::reserve()?),
    }
}

async fn start_relay(
    cluster: &Cluster,
    program: &Path,
    port: u16,
    arguments: &StackArguments,
) -> Result<Child> {
    let address = format!("127.0.0.1:{port}");
    let step = step::begin(format!("starting the relay on {address}"));
    let mut command = Command::new(program);
    for name in not_of_the_relay(program)? {
        command.env_remove(name);
    }
    // Both in argv and in the environment, so that a script can start it again
    // from either.
    command
        .args(["run", "--listen", &address])
        .env("CAMPFIRE_LISTEN", &address)
        .env("CAMPFIRE_DATABASE_URL", cluster.relay_url())
        .env("CAMPFIRE_JWT_SECRET", &cluster.credentials.jwt_secret)
        .env("CAMPFIRE_API_KEYS", &cluster.credentials.api_key)
        // As many as a developer's open-file limit allows without a warning.
        .env("CAMPFIRE_MAX_SOCKETS", "400")
        .envs(arguments.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .process_group(0);
    let mut child = tokio::process::Command::from(command)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;

    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(status) = child.try_wait()? {
            bail!("the relay exited before it was ready ({status}); its message is above");
        }
        if let Ok(response) = relay::get(&address, "/readyz").await
            && response.status == 200
        {
            step.done();
            return Ok(child);
        }
        if Instant::now() > deadline {
            child.kill().await?;
            bail!("the relay was not ready within a minute; its log is above");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Variables of our own environment that the relay would refuse: a developer's shell may have those of tests and clients.
fn not_of_the_relay(program: &Path) -> Result<Vec<String>> {
    let help = Command::new(program).args(["run", "--help"]).output();
    let help = help.with_context(|| format!("cannot run {}", program.display()))?;
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    let is_setting =
        |name: &str| help.contains(&format!("[env: {name}=")) || help.contains(&format!("[env: {name}]"));
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    Ok(names.filter(|name| name.starts_with("CAMPFIRE_") && !is_setting(name)).collect())
}
