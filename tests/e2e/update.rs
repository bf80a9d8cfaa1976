//! Updates of the extension: a database that was updated has what one has in which the version was made new, and has lost
//! nothing. Before the first release there is no version to come from, so the tests make a toy one, and its update.

mod toy;

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use campfire_tests::catalog::Catalog;
use campfire_tests::cluster::Options;
use campfire_tests::seed::{self, DATABASE, Seed};
use campfire_tests::server::Server;
use campfire_tests::{Cluster, extension, layout};

use crate::life_cycle::{self, dump, ensure_equal, ensure_live, facts, objects, path, program};

/// This version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A cluster without a database of ours, whose server has these scripts.
fn boot(scripts: Vec<(String, String)>) -> Result<Cluster> {
    Cluster::boot_with(Options { seed: Seed::Bare, scripts, ..Options::default() })
}

/// A new database with this version of the extension, by way of another, if one is named.
fn make(cluster: &Cluster, database: &str, from: Option<&str>, version: &str) -> Result<Catalog> {
    cluster.psql("postgres", &format!("create database \"{database}\""))?;
    let first = from.unwrap_or(version);
    cluster.psql(database, &format!("create extension campfire version '{first}'"))?;
    if from.is_some() {
        cluster.psql(database, &format!("alter extension campfire update to '{version}'"))?;
    }
    Catalog::read(cluster, database)
}

fn ensure_same(first: &Catalog, second: &Catalog, what: &str) -> Result<()> {
    let differences = first.differences(second);
    ensure!(differences.is_empty(), "{what}:\n  {}", differences.join("\n  "));
    Ok(())
}

#[test]
fn an_update_gives_what_a_new_database_has() -> Result<()> {
    let cluster = boot(toy::scripts(&Server::find(None)?)?)?;
    let fresh = make(&cluster, "fresh", None, VERSION)?;
    let updated = make(&cluster, "updated", Some(toy::VERSION), VERSION)?;
    ensure_same(&updated, &fresh, "updated, and made new")?;
    let version = "select extversion from pg_extension where extname = 'campfire'";
    ensure!(cluster.psql("updated", version)?.trim() == VERSION);

    // That is worth something, because there is much to compare, and each kind of difference is found.
    let kinds = fresh.kinds();
    ensure!(kinds.values().sum::<usize>() > 1000, "{kinds:?}");
    let differences = make(&cluster, "behind", None, toy::VERSION)?.differences(&fresh);
    let unseen: Vec<_> = toy::DIFFERENCES
        .iter()
        .filter(|start| !differences.iter().any(|line| line.starts_with(**start)))
        .collect();
    ensure!(unseen.is_empty(), "not found: {unseen:?}; found:\n  {}", differences.join("\n  "));
    let is_tried = |kind: &str| toy::DIFFERENCES.iter().any(|start| start.starts_with(&format!("{kind} ")));
    let untried: Vec<_> = kinds.keys().filter(|kind| !is_tried(kind)).collect();
    ensure!(untried == [&"extension"], "{untried:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_keeps_what_a_database_holds() -> Result<()> {
    let cluster = boot(toy::scripts(&Server::find(None)?)?)?;
    seed::create_database(&cluster, &format!("create extension campfire version '{}'", toy::VERSION))?;
    life_cycle::live(&cluster)?;
    // Facts of this cluster, which no dump carries: they would be all that differs below.
    cluster.psql(DATABASE, "delete from campfire.slots; delete from campfire.slot_events")?;
    let before = kept(facts(&cluster, DATABASE)?);
    let older = dump(&cluster, "custom")?;
    cluster.psql("postgres", "create database restored_older")?;
    let url = cluster.superuser_url("restored_older");
    program(&cluster, "pg_restore", &["--exit-on-error", "-d", &url, path(&older)])?;

    cluster.psql(DATABASE, "alter extension campfire update")?;
    let again = "select campfire.install(); select campfire.install('chat')";
    cluster.psql(DATABASE, again)?;
    ensure_equal(&before, &kept(facts(&cluster, DATABASE)?))?;
    let updated = Catalog::read(&cluster, DATABASE)?;
    let versions = "select string_agg(distinct version, ',') from campfire.installations";
    ensure!(cluster.psql(DATABASE, versions)?.trim() == VERSION);

    // As if it had never been another version.
    let fresh = Cluster::boot()?;
    life_cycle::live(&fresh)?;
    fresh.psql(DATABASE, "delete from campfire.slots; delete from campfire.slot_events")?;
    ensure_same(&updated, &Catalog::read(&fresh, DATABASE)?, "updated, and made new")?;
    ensure_equal(&timeless(objects(&cluster, DATABASE)?), &timeless(objects(&fresh, DATABASE)?))?;
    drop(fresh);

    // A dump of the version before makes this one: it does not name a version.
    cluster.psql("restored_older", again)?;
    ensure_same(&updated, &Catalog::read(&cluster, "restored_older")?, "updated, and a dump from before")?;

    let source = facts(&cluster, DATABASE)?;
    let file = dump(&cluster, "custom")?;
    cluster.psql("postgres", "create database restored")?;
    let url = cluster.superuser_url("restored");
    program(&cluster, "pg_restore", &["--exit-on-error", "-d", &url, path(&file)])?;
    ensure_equal(&source, &facts(&cluster, "restored")?)?;
    ensure_same(&updated, &Catalog::read(&cluster, "restored")?, "updated, and its dump")?;
    ensure_live(cluster, "restored").await
}

/// Without what the toy's update changes on purpose.
fn kept(facts: Vec<String>) -> Vec<String> {
    let changed =
        ["extension ", "event trigger ", "installation ", "route ", "setting ", "type campfire.mood"];
    facts.into_iter().filter(|line| !changed.iter().any(|start| line.starts_with(start))).collect()
}

/// Without the lines that tell when something was made.
fn timeless(objects: Vec<String>) -> Vec<String> {
    let dated = ["installation ", "projection "];
    objects.into_iter().filter(|line| !dated.iter().any(|start| line.starts_with(start))).collect()
}

/// For every pair of scripts in extension/sql and of this version.
#[test]
fn every_released_version_can_be_updated_to_every_later_one() -> Result<()> {
    let scripts = released(&layout::repository().join("extension/sql"))?;
    let mut versions: BTreeSet<&str> =
        scripts.iter().filter_map(|(name, _)| extension::version_of(name)).collect();
    versions.insert(VERSION);
    if versions.len() == 1 {
        println!(
            "extension/sql has no script of an earlier version than {VERSION}: there is no update to try"
        );
        return Ok(());
    }
    let cluster = boot(scripts.clone())?;
    let paths =
        "select source || ' ' || target from pg_extension_update_paths('campfire') where path is not null";
    let paths = cluster.psql("postgres", paths)?;
    let has_path = |from: &str, to: &str| paths.lines().any(|line| line == format!("{from} {to}"));
    for from in versions.iter().filter(|from| **from != VERSION) {
        ensure!(has_path(from, VERSION), "extension/sql has no update from {from} to {VERSION}");
    }
    for to in &versions {
        let fresh = make(&cluster, to, None, to)?;
        for from in versions.iter().filter(|from| has_path(from, to)) {
            let what = format!("{to} by update from {from}, and made new");
            let updated = make(&cluster, &format!("{from} to {to}"), Some(from), to).context(what.clone())?;
            ensure_same(&updated, &fresh, &what)?;
            println!("{what}: equal");
        }
    }
    Ok(())
}

/// Scripts that were frozen, and updates; none before the first release.
fn released(dir: &Path) -> Result<Vec<(String, String)>> {
    let mut scripts = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten() {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if extension::is_ours(&name) {
            scripts.push((name, std::fs::read_to_string(entry.path())?));
        }
    }
    Ok(scripts)
}
