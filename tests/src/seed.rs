//! Data directories that are made once and copied for every test: initdb and the
//! extension's script take a second, a copy a quarter of one.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

use crate::cluster::{Cluster, Credentials};
use crate::server::{self, Server};
use crate::{AGENT, ORGANIZATION, extension, layout};

/// What a cluster holds when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Seed {
    /// What initdb makes, and nothing else.
    Bare,
    /// Database `campfire` with the extension, the chat schema, the relay's login
    /// role, one organization and one active agent.
    Chat,
}

/// The role the relay logs in as: never a superuser, only what an operator grants.
pub const RELAY_ROLE: &str = "relay";

/// The database of [`Seed::Chat`].
pub const DATABASE: &str = "campfire";

/// A directory with `data/` and `credentials.json`, to be copied from. Keyed by
/// Postgres's version and the build of the extension that is in it.
pub fn directory(server: &Server, seed: Seed) -> Result<PathBuf> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);

    let name = match seed {
        Seed::Bare => format!("{}-bare", server.version),
        Seed::Chat => {
            let build = extension::installed(server).with_context(|| {
                format!(
                    "the extension is not installed in Postgres {}: run `cargo xtask install`",
                    server.version
                )
            })?;
            format!("{}-chat-{build}", server.version)
        }
    };
    let seeds = layout::scratch().join("seeds");
    let dir = seeds.join(&name);
    if dir.join("credentials.json").exists() {
        return Ok(dir);
    }
    std::fs::create_dir_all(&seeds)?;
    remove_old(&seeds);

    // Made beside its final name and then renamed, since another test binary may
    // be doing the same at this moment.
    let draft = seeds.join(format!("{name}.{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&draft);
    match seed {
        Seed::Bare => init(server, &draft)?,
        Seed::Chat => {
            copy(&seeds_bare(server, &seeds)?, &draft)?;
            fill(server, &draft)?;
        }
    }
    if std::fs::rename(&draft, &dir).is_err() {
        std::fs::remove_dir_all(&draft)?;
    }
    Ok(dir)
}

/// The bare seed, without taking the lock that [`directory`] holds.
fn seeds_bare(server: &Server, seeds: &Path) -> Result<PathBuf> {
    let dir = seeds.join(format!("{}-bare", server.version));
    if !dir.join("credentials.json").exists() {
        let draft = seeds.join(format!("{}-bare.{}", server.version, std::process::id()));
        let _ = std::fs::remove_dir_all(&draft);
        init(server, &draft)?;
        if std::fs::rename(&draft, &dir).is_err() {
            std::fs::remove_dir_all(&draft)?;
        }
    }
    Ok(dir)
}

/// Copies a seed to `target`, which must not exist; owner and modes are kept.
pub fn copy(seed: &Path, target: &Path) -> Result<()> {
    let mut command = std::process::Command::new("cp");
    command.arg("-a").arg(seed).arg(target);
    server::run(&mut command).map(drop)
}

/// Makes a cluster with what [`Seed::Chat`] promises in `dir`, not by a copy: it
/// has a system identifier and secrets of its own.
pub fn make(server: &Server, dir: &Path) -> Result<()> {
    init(server, dir)?;
    fill(server, dir)
}

fn init(server: &Server, dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir)?;
    let credentials = Credentials::random();
    let password = dir.join("password");
    std::fs::write(&password, &credentials.superuser_password)?;
    server::give_to_server_user(dir)?;
    server::run(
        server
            .command("initdb")
            .arg("--pgdata")
            .arg(dir.join("data"))
            .args(["--username", "postgres", "--auth", "scram-sha-256", "--pwfile"])
            .arg(&password)
            .args(["--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync"]),
    )?;
    std::fs::remove_file(&password)?;
    let conf = dir.join("data/postgresql.conf");
    let mut text = std::fs::read_to_string(&conf)?;
    // Written anew at every start: ports and directories differ from copy to copy.
    text.push_str("\ninclude 'campfire.conf'\n");
    std::fs::write(&conf, text)?;
    // Last: its presence says that the seed is complete.
    credentials.write(dir)
}

fn fill(server: &Server, dir: &Path) -> Result<()> {
    let mut cluster = Cluster::adopt(server.clone(), dir)?;
    cluster.start()?;
    let result = create_database(&cluster, "create extension campfire");
    cluster.stop("fast")?;
    result
}

/// Makes what [`Seed::Chat`] promises in a cluster that has none of it. `create_extension` may say a version.
pub fn create_database(cluster: &Cluster, create_extension: &str) -> Result<()> {
    let password = &cluster.credentials.relay_password;
    cluster.psql("postgres", &format!("create database {DATABASE}"))?;
    cluster.psql(
        DATABASE,
        &format!(
            "set client_min_messages = warning;
             {create_extension};
             select campfire.install();
             create role {RELAY_ROLE} login replication password '{password}' in role campfire_relay;
             insert into organizations (id, name) values ('{ORGANIZATION}', 'Acme');
             insert into agents (organization_id, user_id, display_name, email, active)
             values ('{ORGANIZATION}', '{AGENT}', 'Ada', 'ada@example.com', true);",
        ),
    )?;
    Ok(())
}

/// Seeds of builds that nobody has for an hour are not worth their disk.
fn remove_old(seeds: &Path) {
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    for entry in std::fs::read_dir(seeds).into_iter().flatten().flatten() {
        let is_old = entry.metadata().and_then(|meta| meta.modified()).is_ok_and(|time| time < hour_ago);
        if is_old && entry.file_name().to_string_lossy().contains("-chat-") {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
