//! The harness itself: a test that trusts it is worth no more than these.

use std::os::unix::fs::MetadataExt;
use std::process::Command;

use anyhow::Result;
use campfire_tests::cluster::{Cluster, Options};
use campfire_tests::seed::Seed;
use campfire_tests::wait::DEADLINE;
use campfire_tests::{eventually, layout, server};

fn bare() -> Result<Cluster> {
    Cluster::boot_with(Options { seed: Seed::Bare, ..Options::default() })
}

#[test]
fn a_cluster_survives_stop_restart_and_kill_and_keeps_its_port() -> Result<()> {
    let mut cluster = bare()?;
    let port = cluster.port;
    cluster.psql("postgres", "create table kept as select 42 as answer")?;

    cluster.stop("fast")?;
    assert!(!cluster.is_running());
    cluster.start()?;
    cluster.psql("postgres", "checkpoint")?;
    let pid = cluster.pid();

    cluster.kill_9()?;
    assert!(!cluster.is_running());
    cluster.start()?;
    assert_ne!(cluster.pid(), pid);
    assert_eq!(cluster.port, port);
    assert_eq!(cluster.psql("postgres", "select answer from kept")?.trim(), "42");
    assert_eq!(cluster.psql("postgres", "show wal_level")?.trim(), "logical");
    Ok(())
}

#[test]
fn a_dropped_cluster_leaves_neither_process_nor_directory() -> Result<()> {
    let cluster = bare()?;
    let (dir, pid) = (cluster.dir.clone(), cluster.pid().expect("it runs"));
    drop(cluster);
    assert!(!dir.exists());
    assert!(server::wait_for_end(pid, DEADLINE), "postmaster {pid} still runs");
    Ok(())
}

#[test]
fn clusters_run_side_by_side_with_settings_of_their_own() -> Result<()> {
    let first = bare()?;
    let second = Cluster::boot_with(Options {
        seed: Seed::Bare,
        settings: vec![("wal_level".into(), "replica".into())],
        ..Options::default()
    })?;
    assert_ne!(first.port, second.port);
    assert_eq!(second.psql("postgres", "show wal_level")?.trim(), "replica");
    Ok(())
}

#[test]
fn the_scratch_directory_can_be_entered_by_the_servers_user() -> Result<()> {
    let scratch = layout::scratch();
    let mut command = server::as_server_user("test");
    assert!(command.arg("-x").arg(&scratch).status()?.success(), "{}", scratch.display());
    Ok(())
}

/// A killed test run cannot run destructors; its watchdog must.
#[tokio::test]
async fn a_watchdog_acts_when_its_process_is_killed() -> Result<()> {
    let mark = std::env::temp_dir().join(format!("cf-watchdog-{}", std::process::id()));
    let _ = std::fs::remove_file(&mark);
    let script = "sh -c 'while read -r _; do :; done; touch \"$1\"' watchdog \"$1\"";
    // A stand-in for the test process: it holds the pipe's only writing end.
    let mut owner =
        Command::new("sh").args(["-c", &format!("sleep 3600 | {script}"), "owner"]).arg(&mark).spawn()?;
    let sleeper = eventually("the owner's sleep runs", async || sleeping_child(owner.id())).await;
    assert!(!mark.exists());
    assert!(server::signal(sleeper, "KILL"));
    eventually("the watchdog left its mark", async || mark.exists().then_some(())).await;
    owner.wait()?;
    std::fs::remove_file(&mark)?;
    Ok(())
}

fn sleeping_child(parent: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(|pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "sleep")
    })
}

#[test]
fn data_directories_belong_to_a_user_that_is_not_root() -> Result<()> {
    let cluster = bare()?;
    assert_ne!(std::fs::metadata(cluster.data())?.uid(), 0);
    Ok(())
}
