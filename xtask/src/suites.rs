//! The test runners of `cargo xtask test` that are cargo's and Postgres's own.

use std::path::Path;

use anyhow::Result;
use campfire_tests::cluster::{Cluster, Options};
use campfire_tests::layout;
use campfire_tests::seed::Seed;
use campfire_tests::server::Server;

use crate::tally::{self, Tally};
use crate::{step, system};

/// Targets of cargo's.
const UNIT: [&str; 6] = ["--lib", "--bins", "--test", "tidy", "--test", "wal"];
const E2E: [&str; 2] = ["--test", "e2e"];

/// Compiles the tests in Rust, so that none waits for cargo later.
pub(crate) fn build() -> Result<()> {
    step::run(step::cargo().args(["test", "--no-run"]).args(UNIT).args(E2E))
}

pub(crate) fn unit(server: &Server) -> Result<Tally> {
    tally::watch(
        step::cargo()
            .args(["test", "--no-fail-fast"])
            .args(UNIT)
            .env("CAMPFIRE_TEST_PG", server.version.to_string()),
        tally::libtest,
    )
}

/// One of Postgres's own two test programs.
pub(crate) struct Regress {
    program: &'static str,
    schedule: &'static str,
    database: &'static str,
}

impl Regress {
    pub(crate) const SQL: Self =
        Self { program: system::PG_REGRESS, schedule: "schedule", database: "campfire_regress" };
    pub(crate) const RACES: Self = Self {
        program: system::PG_ISOLATION_REGRESS,
        schedule: "isolation_schedule",
        database: "campfire_isolation",
    };
}

/// Runs one schedule against a cluster of its own; shows the differences.
pub(crate) fn regress(server: &Server, which: &Regress) -> Result<Tally> {
    let cluster = Cluster::boot_with(Options {
        seed: Seed::Bare,
        version: Some(server.version),
        ..Options::default()
    })?;
    cluster.psql("postgres", &format!("create database {}", which.database))?;
    let input = layout::repository().join("pg_regress");
    let output = layout::target().join(which.database);
    let _ = std::fs::remove_dir_all(&output);
    std::fs::create_dir_all(&output)?;

    let mut command = step::command(server.pgxs.join(which.program));
    command
        .arg(option("--inputdir", &input))
        .arg(option("--outputdir", &output))
        .arg(option("--schedule", &input.join(which.schedule)))
        .arg(option("--bindir", server.bin()))
        .arg(format!("--dbname={}", which.database))
        .args(["--use-existing", "--host=127.0.0.1", "--user=postgres"])
        .arg(format!("--port={}", cluster.port))
        .env("PGPASSWORD", &cluster.credentials.superuser_password)
        .current_dir(&output);
    if server.version >= 16 {
        command.arg(option("--expecteddir", &input));
    }
    let tally = tally::watch(&mut command, tally::pg_regress)?;
    if tally.failed > 0 {
        let differences = output.join("regression.diffs");
        println!("{}", std::fs::read_to_string(differences).unwrap_or_default());
    }
    Ok(tally)
}

fn option(name: &str, path: &Path) -> String {
    format!("{name}={}", path.display())
}

pub(crate) fn e2e(server: &Server) -> Result<Tally> {
    tally::watch(
        step::cargo()
            .arg("test")
            .args(E2E)
            .arg("--")
            // Measurements are printed by tests that pass.
            .args(["--show-output", "--test-threads=4"])
            .env("CAMPFIRE_TEST_PG", server.version.to_string()),
        tally::libtest,
    )
}
