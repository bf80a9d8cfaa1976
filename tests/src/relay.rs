//! A relay as a real process. Not in-process, because kill -9, exit codes, the
//! one-line errors and the log are part of what is promised, and because a leak
//! of tasks, sockets or memory shows in /proc only if nothing else lives there.
//!
//! An unexpected WARN or ERROR in its log fails the test that ran it; a test that
//! provokes one says so with [`Relay::expect_log`].

use std::io::{BufRead, BufReader};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::http::{self, Response};
use crate::wait::{DEADLINE, eventually};
use crate::watchdog::Watchdog;
use crate::{layout, port, server};

/// What bounds the relay's wait for somebody else.
const PATIENCE: [&str; 6] = [
    "CAMPFIRE_API_SECONDS",
    "CAMPFIRE_CREATE_SLOT_SECONDS",
    "CAMPFIRE_IDLE_SECONDS",
    "CAMPFIRE_POLICY_SECONDS",
    "CAMPFIRE_SNAPSHOT_SECONDS",
    "PGCONNECT_TIMEOUT",
];

/// How a relay is to be started.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    env: Vec<(String, String)>,
    binary: Option<PathBuf>,
    also_on: Vec<String>,
    open_files: Option<u32>,
}

impl Settings {
    /// For `cluster`, with the secrets kept there, on a port of its own.
    pub fn of(cluster: &Cluster) -> Result<Self> {
        let port = port::reserve()?;
        let credentials = &cluster.credentials;
        let (env, also_on) = (Vec::new(), Vec::new());
        let settings = Self { port, env, binary: None, also_on, open_files: None };
        Ok(settings
            .env("CAMPFIRE_DATABASE_URL", &cluster.relay_url())
            .env("CAMPFIRE_LISTEN", &format!("127.0.0.1:{port}"))
            .env("CAMPFIRE_JWT_SECRET", &credentials.jwt_secret)
            .env("CAMPFIRE_API_KEYS", &credentials.api_key)
            .patient()
            // Below what a developer's open-file limit allows, or it would warn.
            .env("CAMPFIRE_MAX_SOCKETS", "200")
            // A test is many people with one token.
            .env("CAMPFIRE_MAX_SOCKETS_PER_TOKEN", "0")
            // The routed events of the trace are how a test sees what was decoded.
            .env("CAMPFIRE_LOG", "info,campfire_relay::route=trace")
            .env("CAMPFIRE_LOG_FORMAT", "json"))
    }

    /// What takes long on a busy machine is not given up: a test that is about such a limit sets it.
    fn patient(self) -> Self {
        // More than a whole test takes: sockets are idle while others are busy.
        let seconds = (10 * DEADLINE).as_secs().to_string();
        PATIENCE.iter().fold(self, |settings, name| settings.env(name, &seconds))
    }

    /// With the limits of time that the program has by itself.
    #[must_use]
    pub fn impatient(self) -> Self {
        PATIENCE.iter().fold(self, |settings, name| settings.without(name))
    }

    /// Another build of the program than the one that was built with this.
    #[must_use]
    pub fn binary(mut self, path: &std::path::Path) -> Self {
        self.binary = Some(path.to_owned());
        self
    }

    /// Sets a variable of the relay's environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.retain(|(known, _)| known != name);
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Leaves a variable unset.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.env.retain(|(known, _)| known != name);
        self
    }

    /// Listens on another address, too.
    #[must_use]
    pub fn also_on(mut self, address: &str) -> Self {
        self.also_on.push(address.to_owned());
        self
    }

    /// Lets the program have so many files open, as `ulimit -n` does.
    #[must_use]
    pub fn open_files(mut self, count: u32) -> Self {
        self.open_files = Some(count);
        self
    }

    /// Starts the program and does not wait for anything.
    pub fn spawn(self) -> Result<Relay> {
        Relay::spawn(self)
    }

    /// Starts the program and waits until it has caught up with Postgres.
    pub async fn start(self) -> Result<Relay> {
        let mut relay = self.spawn()?;
        relay.wait_until_ready().await?;
        Ok(relay)
    }
}

/// A running relay; killed when dropped.
pub struct Relay {
    settings: Settings,
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    reader: Option<std::thread::JoinHandle<()>>,
    expected: Vec<String>,
    _watchdog: Watchdog,
}

/// The relay that was built together with this program.
pub fn binary() -> Result<PathBuf> {
    let path = layout::profile_dir().join("campfire-relay");
    if !path.exists() {
        bail!(
            "{} is not built: run `cargo build -p campfire-relay`, or the tests by `cargo xtask test e2e`",
            path.display()
        );
    }
    Ok(path)
}

impl Relay {
    /// A relay on `cluster` that has caught up.
    pub async fn start(cluster: &Cluster) -> Result<Self> {
        Settings::of(cluster)?.start().await
    }

    fn spawn(settings: Settings) -> Result<Self> {
        let binary = settings.binary.clone().map_or_else(binary, Ok)?;
        let mut command = match settings.open_files {
            // `exec` keeps the process, so that it is the one that is signalled and measured.
            Some(count) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("ulimit -n {count} && exec \"$0\" \"$@\"")]).arg(&binary);
                shell
            }
            None => Command::new(&binary),
        };
        let mut addresses = vec![format!("127.0.0.1:{}", settings.port)];
        addresses.extend(settings.also_on.iter().cloned());
        command
            .arg("run")
            .args(["--listen", &addresses.join(",")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0);
        // What the developer's shell sets must not decide a test.
        for (name, _) in std::env::vars() {
            if name.starts_with("CAMPFIRE_") || name.starts_with("PG") {
                command.env_remove(name);
            }
        }
        command.envs(settings.env.iter().map(|(name, value)| (name, value)));
        let mut child = command.spawn().with_context(|| format!("cannot start {}", binary.display()))?;
        let watchdog = Watchdog::start("kill -s KILL \"$1\"", &[&child.id().to_string()])?;
        let stderr = child.stderr.take().expect("standard error is piped");
        let log = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lock(&sink).push(line);
            }
        });
        Ok(Self { settings, child, log, reader: Some(reader), expected: Vec::new(), _watchdog: watchdog })
    }

    /// Where it listens, as `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.settings.port)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Declares that a WARN or ERROR line containing `text` is part of the test.
    pub fn expect_log(&mut self, text: &str) {
        self.expected.push(text.to_owned());
    }

    /// Waits for `/readyz`; fails at once if the relay exits.
    pub async fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + DEADLINE;
        let mut answer = String::from("no answer");
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("the relay exited ({status}) before it was ready:\n{}", self.finished_log());
            }
            match self.get("/readyz").await {
                Ok(response) if response.status == 200 => return Ok(()),
                Ok(response) => answer = format!("{} {}", response.status, response.body),
                Err(_) => {}
            }
            if Instant::now() > deadline {
                bail!("the relay is not ready after {DEADLINE:?} ({answer}):\n{}", self.log_text());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until the process is gone and returns how it went.
    pub async fn wait_for_exit(&mut self) -> Result<ExitStatus> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                self.finish_log();
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("the relay still runs after {DEADLINE:?}:\n{}", self.log_text());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Asks it to go, as a service manager does, and waits until it has.
    pub async fn terminate(&mut self) -> Result<ExitStatus> {
        server::signal(self.pid(), "TERM");
        self.wait_for_exit().await
    }

    /// Ends it as a power cut would.
    pub async fn kill_9(&mut self) -> Result<()> {
        self.child.kill()?;
        let status = self.wait_for_exit().await?;
        anyhow::ensure!(status.signal() == Some(9), "it ended by itself: {status}");
        Ok(())
    }

    /// Sets a variable of the environment of the next run.
    pub fn set(&mut self, name: &str, value: &str) {
        self.settings = self.settings.clone().env(name, value);
    }

    /// A second run with the same settings, after the first is gone. The log that
    /// has been read is the caller's to keep.
    pub async fn start_again(&mut self) -> Result<()> {
        self.check_log();
        let expected = self.expected.clone();
        let next = Self::spawn(self.settings.clone())?;
        let mut previous = std::mem::replace(self, next);
        previous.stop();
        self.expected = expected;
        self.wait_until_ready().await
    }

    /// All lines so far.
    pub fn log(&self) -> Vec<String> {
        lock(&self.log).clone()
    }

    /// Waits until some line has this text: what the relay has written is read a moment later.
    pub async fn wait_for_log(&self, text: &str) {
        let what = format!("the relay's log has {text:?}");
        eventually(&what, async || self.log().iter().any(|line| line.contains(text)).then_some(())).await;
    }

    /// All lines so far, as one text for a failure's message.
    pub fn log_text(&self) -> String {
        self.log().join("\n")
    }

    /// The log's lines that are JSON and of one target.
    pub fn log_of(&self, target: &str) -> Vec<Value> {
        self.log()
            .iter()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|line| line["target"] == target)
            .collect()
    }

    fn finish_log(&mut self) {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }

    /// The whole log of a relay that has exited.
    pub fn finished_log(&mut self) -> String {
        self.finish_log();
        self.log_text()
    }

    /// WARN and ERROR lines that no test declared.
    fn unexpected(&self) -> Vec<String> {
        self.log()
            .into_iter()
            .filter(|line| is_alarming(line))
            .filter(|line| !self.expected.iter().any(|text| line.contains(text)))
            .collect()
    }

    fn check_log(&self) {
        let unexpected = self.unexpected();
        assert!(unexpected.is_empty(), "the relay logged what no test expected:\n{}", unexpected.join("\n"));
    }

    fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.finish_log();
    }

    /// One HTTP request without a body.
    pub async fn get(&self, path: &str) -> Result<Response> {
        get(&self.address(), path).await
    }

    /// Posts JSON.
    pub async fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Result<Response> {
        let json = [&[("content-type", "application/json")], headers].concat();
        http::request(&self.address(), "POST", path, &json, body.to_string().as_bytes()).await
    }

    /// The sum of a metric over its labels; `None` if it is not there at all.
    pub async fn metric(&self, name: &str) -> Result<Option<f64>> {
        let response = self.get("/metrics").await?;
        anyhow::ensure!(response.status == 200, "/metrics answered {}", response.status);
        Ok(sum_metric(&response.body, name))
    }

    /// Open file descriptors of the process: sockets that leak show here.
    pub fn open_files(&self) -> Result<usize> {
        let dir = format!("/proc/{}/fd", self.pid());
        Ok(std::fs::read_dir(&dir).with_context(|| dir.clone())?.count())
    }

    /// Processor time of the process so far, in user and system mode.
    pub fn cpu_time(&self) -> Result<Duration> {
        /// `getconf CLK_TCK` on Linux, whatever the machine.
        const TICKS_PER_SECOND: u64 = 100;
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        // The name stands in parentheses and may have any character; utime and stime are the 12th and 13th after it.
        let (_, fields) = stat.rsplit_once(')').context("no name in /proc")?;
        let ticks =
            fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
        Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> Result<u64> {
        resident_bytes(self.pid())
    }
}

/// Resident memory of a process, in bytes.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kilobytes: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .context("no VmRSS in /proc")?
        .trim()
        .parse()?;
    Ok(kilobytes * 1024)
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            let log = self.log();
            let tail = log.len().saturating_sub(60);
            eprintln!("\nthe relay's last lines:\n{}\n", log[tail..].join("\n"));
        } else {
            self.check_log();
        }
    }
}

fn lock(log: &Mutex<Vec<String>>) -> MutexGuard<'_, Vec<String>> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_alarming(line: &str) -> bool {
    match serde_json::from_str::<Value>(line) {
        Ok(line) => matches!(line["level"].as_str(), Some("WARN" | "ERROR")),
        // Not JSON: a panic's message, or the one line of a start that failed.
        Err(_) => line.contains("panicked at"),
    }
}

/// One GET of a relay's address.
pub async fn get(address: &str, path: &str) -> Result<Response> {
    http::request(address, "GET", path, &[], b"").await
}

/// Adds up one metric of Prometheus's text form.
fn sum_metric(text: &str, name: &str) -> Option<f64> {
    text.lines()
        .filter_map(|line| line.strip_prefix(name))
        .filter(|rest| rest.starts_with([' ', '{']))
        .filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok())
        .reduce(|sum, value| sum + value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_labels_and_not_over_its_namesakes() {
        let text = "# TYPE campfire_sockets gauge\n\
                    campfire_sockets{vsn=\"1\"} 2\ncampfire_sockets{vsn=\"2\"} 3\n\
                    campfire_sockets_total 99\ncampfire_tasks 7\n";
        assert_eq!(sum_metric(text, "campfire_sockets"), Some(5.0));
        assert_eq!(sum_metric(text, "campfire_tasks"), Some(7.0));
        assert_eq!(sum_metric(text, "campfire_channels"), None);
    }

    #[test]
    fn warnings_errors_and_panics_alarm() {
        assert!(is_alarming(r#"{"level":"WARN","fields":{"message":"slot"}}"#));
        assert!(is_alarming(r#"{"level":"ERROR"}"#));
        assert!(is_alarming("thread 'main' panicked at relay/src/main.rs:1"));
        assert!(!is_alarming(r#"{"level":"INFO","fields":{"message":"ERROR"}}"#));
        assert!(!is_alarming("campfire-relay: no keys"));
    }
}
