//! A throwaway Postgres.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use std::{env, fs, process, thread};

use campfire_relay::postgres::{self, Conninfo, Purpose};
use campfire_relay::wal::{WalConfig, WalSettings};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use crate::servers;
use crate::wait::DEADLINE;
use crate::watchdog::Watchdog;
use crate::{port, wait};

/// Stands in for the extension.
pub(crate) const SLOTS_TABLE: &str = "create schema campfire;
    create table campfire.slots (
        slot_name name primary key, system_identifier text, timeline bigint, publication_names name[],
        publication_oids oid[], publication_xmins text[], created_at timestamptz default now())";

/// A server on a busy machine may take long to answer.
const PATIENT: &str = "connect_timeout=120";

/// For the watchdog: ends a server by its pid file, and removes its directory.
const TIDY: &str = r#"kill -QUIT "$(head -n 1 "$1/data/postmaster.pid")"; sleep 1; rm -rf "$1""#;

/// A server in a directory under /tmp, which keeps socket paths short. Stopped and removed when dropped; kept for
/// inspection when the test has failed.
pub(crate) struct Cluster {
    directory: PathBuf,
    port: u16,
    _seed: Arc<Seed>,
    /// Stops the server of a test run that was killed.
    _watchdog: Watchdog,
}

/// What `initdb` made, copied for each cluster.
struct Seed {
    directory: PathBuf,
    _watchdog: Watchdog,
}

impl Cluster {
    /// A server with `wal_level=logical`, the table `campfire.slots`, and what `setup` does.
    pub(crate) async fn boot(setup: &str) -> (Cluster, Client) {
        Cluster::boot_with(&[], setup).await
    }

    /// The same with settings, which win over the usual ones.
    pub(crate) async fn boot_with(settings: &[&str], setup: &str) -> (Cluster, Client) {
        let seed = Seed::get();
        let directory = temporary_directory();
        let data = directory.join("data");
        as_postgres(&["cp", "-a", text(&seed.directory.join("data")), text(&data)]);
        let port = port::reserve().expect("a free port");
        let mut configuration = format!(
            "unix_socket_directories = '{}'\nport = {port}\nlisten_addresses = '127.0.0.1'\n\
             wal_level = logical\nfsync = off\nautovacuum = off\nshared_buffers = 16MB\n",
            directory.display()
        );
        settings.iter().for_each(|setting| configuration += &format!("{setting}\n"));
        fs::write(data.join("postgresql.auto.conf"), configuration).expect("written");
        // The last to be dropped, so that it finds nothing left to do.
        let watchdog = Watchdog::start(TIDY, &[text(&directory)]).expect("a watchdog");
        let cluster = Cluster { directory, port, _seed: seed, _watchdog: watchdog };
        cluster.start();
        let sql = cluster.sql().await;
        sql.batch_execute(SLOTS_TABLE).await.expect("campfire.slots");
        sql.batch_execute(setup).await.expect("the test's setup");
        (cluster, sql)
    }

    /// An ordinary session as superuser.
    pub(crate) async fn sql(&self) -> Client {
        self.sql_in("postgres").await
    }

    pub(crate) async fn sql_in(&self, database: &str) -> Client {
        // Of the sessions that the relay opens, the one that makes tables where they usually are.
        postgres::connect_for(&self.database(database), Purpose::Rows).await.expect("a session")
    }

    /// A slot that confirms at once.
    pub(crate) fn wal(&self, publications: &[&str]) -> WalConfig {
        WalConfig {
            settings: WalSettings {
                frame_bytes_max: 64 << 20,
                create_slot_timeout: DEADLINE,
                window_wal_bytes: u64::MAX,
                ..WalSettings::default()
            },
            database: self.database("postgres"),
            publications: publications.iter().map(|&name| name.to_owned()).collect(),
            window: Duration::ZERO,
            status_interval: Duration::from_secs(10),
            excerpt: campfire_relay::decode::excerpt,
            stop: CancellationToken::new(),
        }
    }

    pub(crate) fn database(&self, name: &str) -> Conninfo {
        let (directory, port) = (self.directory.display(), self.port);
        conninfo(&format!("host={directory} port={port} user=postgres dbname={name} {PATIENT}"))
    }

    /// The same server over TCP, as a login role.
    pub(crate) fn tcp(&self, user: &str, password: Option<&str>) -> Conninfo {
        let password = password.map(|password| format!(" password='{password}'")).unwrap_or_default();
        self.tcp_with(user, &password)
    }

    /// With further parameters.
    pub(crate) fn tcp_with(&self, user: &str, parameters: &str) -> Conninfo {
        let port = self.port;
        conninfo(&format!(
            "hostaddr=127.0.0.1 port={port} user={user} dbname=postgres {PATIENT} {parameters}"
        ))
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Replaces pg_hba.conf's rules for TCP.
    pub(crate) fn authenticate_tcp(&self, rules: &str) {
        let path = self.directory.join("data/pg_hba.conf");
        fs::write(path, format!("local all all trust\n{rules}\n")).expect("written");
        self.control(&["reload"]);
    }

    pub(crate) fn start(&self) {
        let log = self.directory.join("log");
        self.control(&["start", "-w", "-l", text(&log)]);
    }

    /// From the next start on: in recovery, with nobody to follow.
    pub(crate) fn make_standby(&mut self) {
        as_postgres(&["touch", text(&self.directory.join("data/standby.signal"))]);
    }

    /// Modes: smart, fast, immediate.
    pub(crate) fn stop(&self, mode: &str) {
        self.control(&["stop", "-w", "-m", mode]);
    }

    fn control(&self, arguments: &[&str]) {
        let (program, data) = (program("pg_ctl"), self.directory.join("data"));
        let seconds = DEADLINE.as_secs().to_string();
        as_postgres(&[&[text(&program), "-s", "-t", &seconds, "-D", text(&data)], arguments].concat());
    }
}

/// Waits until nobody reads the slot: the server takes a moment to notice that a reader has left.
pub(crate) async fn eventually_free(sql: &Client) {
    wait::eventually("nobody reads a slot", async || {
        let active = "select from pg_replication_slots where active";
        sql.query(active, &[]).await.expect("slots").is_empty().then_some(())
    })
    .await;
}

/// Waits until the server has heard so many further status updates of whoever reads a slot.
pub(crate) async fn eventually_heard(sql: &Client, updates: usize) {
    let heard_at = async || {
        let query = "select max(reply_time)::text from pg_stat_replication";
        sql.query_one(query, &[]).await.expect("walsenders").get::<_, Option<String>>(0)
    };
    for _ in 0..updates {
        let before = heard_at().await;
        wait::eventually("a status update", async || (heard_at().await != before).then_some(())).await;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let (program, data) = (program("pg_ctl"), self.directory.join("data"));
        let stop = [text(&program), "-s", "-D", text(&data), "stop", "-m", "immediate"];
        let _ = command(&stop).output();
        if thread::panicking() {
            let log = fs::read_to_string(self.directory.join("log")).unwrap_or_default();
            let end = log.lines().rev().take(30).collect::<Vec<_>>();
            eprintln!("the server's last words:\n{}", end.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Seed {
    fn get() -> Arc<Seed> {
        static SEED: Mutex<Weak<Seed>> = Mutex::new(Weak::new());
        let mut shared = SEED.lock().expect("no test fails while it makes the seed");
        if let Some(seed) = shared.upgrade() {
            return seed;
        }
        let directory = temporary_directory();
        let (program, data) = (program("initdb"), directory.join("data"));
        as_postgres(&[
            text(&program),
            "--no-sync",
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "-D",
            text(&data),
        ]);
        let watchdog = Watchdog::start(r#"rm -rf "$1""#, &[text(&directory)]).expect("a watchdog");
        let seed = Arc::new(Seed { directory, _watchdog: watchdog });
        *shared = Arc::downgrade(&seed);
        seed
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Nothing comes from the environment.
pub(crate) fn conninfo(text: &str) -> Conninfo {
    Conninfo::parse(text, |_| None).expect("a connection string")
}

pub(crate) fn temporary_directory() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let directory = env::temp_dir().join(format!("cf-wal-{}-{number}", process::id()));
    as_postgres(&["mkdir", "-m", "700", text(&directory)]);
    directory
}

pub(crate) fn program(name: &str) -> PathBuf {
    servers::programs().join(name)
}

/// Postgres refuses to run as root.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let prefix: &[&str] = if is_root() { &["runuser", "-u", "postgres", "--"] } else { &[] };
    let words = [prefix, arguments].concat();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir("/tmp");
    command
}

pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

pub(crate) fn as_postgres(arguments: &[&str]) {
    // A server inherits the output; a pipe would wait for its end.
    let status = command(arguments).stdout(process::Stdio::null()).status();
    let status = status.unwrap_or_else(|error| panic!("cannot run {arguments:?}: {error}"));
    assert!(status.success(), "{arguments:?} failed");
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("our own paths are UTF-8")
}
