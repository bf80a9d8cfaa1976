//! Unmodified clients against the relay: `cargo xtask test clients`, and the table in docs/clients.md.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};
use campfire_tests::cluster::{Cluster, Options};
use campfire_tests::relay::Settings;
use campfire_tests::server::Server;
use campfire_tests::{AGENT, ORGANIZATION, Relay, layout, seed, token};
use serde::Deserialize;

use crate::node;
use crate::tally::{self, Tally};
use crate::{python, runtimes, step, system, up};

/// Packages of tests/clients/versions, oldest first. The current release is that of tests/clients.
const OLDER_JS: [&str; 7] = [
    "supabase-js-2.40",
    "supabase-js-2.45",
    "supabase-js-2.50",
    "supabase-js-2.57",
    "supabase-js-2.84",
    "supabase-js-2.99",
    "supabase-js-2.109",
];

/// Releases of `realtime` on PyPI, oldest first; the last is the current one.
const PYTHON: [&str; 3] = ["2.4.2", "2.20.0", "2.34.1"];

/// Of tests/clients/conformance.
const SUITES: [&str; 7] = ["broadcast", "channels", "http", "presence", "private", "rows", "tokens"];

/// Policies and a trigger that the suites count on.
const CONFORMANCE_SQL: &str = include_str!("../../tests/clients/conformance.sql");

/// Stands around the table in docs/clients.md.
const MARKS: [&str; 2] = ["<!-- written by `cargo xtask test clients --every-client` -->\n", "<!-- end -->"];

const HELPER: &str = "web/client";

pub(crate) const CLIENTS: &str = "tests/clients";

pub(crate) const BROWSER: &str = "tests/browser";

/// Builds web/client, which all the others here use. Before they run: those that run beside each other share it.
pub(crate) fn build_helper() -> Result<()> {
    let node = node::ensure()?;
    for dir in [node::WORKSPACE, CLIENTS, "examples/ai-handover"] {
        node.ensure_packages(dir)?;
    }
    // What was compiled of a file that is gone would be run too.
    let _ = std::fs::remove_dir_all(layout::repository().join(HELPER).join("dist"));
    step::run(node.command(HELPER).arg("../node_modules/typescript/bin/tsc"))
}

/// Unit tests of web/client.
pub(crate) fn helper() -> Result<Tally> {
    let node = node::ensure()?;
    // The stock client keeps a timer of ten seconds when it disconnects.
    let mut command = node.command(HELPER);
    command.args(["--test", "--test-reporter=spec", "--test-force-exit", "dist/test/"]);
    tally::watch(&mut command, tally::node)
}

/// What the relay embeds.
const EMBEDDED: [&str; 2] = ["web/dashboard", "web/widget"];

/// Unit tests of what the relay embeds.
pub(crate) fn embedded() -> Result<Tally> {
    let node = node::ensure()?;
    let mut sum = Tally::default();
    for package in EMBEDDED {
        let _ = std::fs::remove_dir_all(layout::repository().join(package).join("dist"));
        step::run(node.command(package).arg("../node_modules/typescript/bin/tsc"))?;
        let mut command = node.command(package);
        command.args(["--test", "--test-reporter=spec", "--test-force-exit", "dist/test/"]);
        sum.include(package, || tally::watch(&mut command, tally::node));
    }
    Ok(sum)
}

/// What is committed of it is what its sources give.
pub(crate) fn check_assets() -> Result<()> {
    let node = node::ensure()?;
    step::run(node.command("web/dashboard").arg("scripts/check.js"))?;
    step::run(node.command("web/widget").args(["scripts/bundle.js", "--check"]))?;
    step::run(node.command("web/widget").arg("scripts/size.js"))
}

/// Node's own test runner on tests/clients, against a relay started for it.
pub(crate) fn stock(server: &Server) -> Result<Tally> {
    let node = node::ensure()?;
    let cluster = Cluster::boot_with(Options { version: Some(server.version), ..Options::default() })?;
    up::block_on(async {
        let relay = Relay::start(&cluster).await?;
        let mut command = node.command(CLIENTS);
        command.args(["--test", "--test-reporter=spec", "--test-force-exit", "test/"]);
        environment(&mut command, server, &cluster, &relay);
        tally::watch(&mut command, tally::node)
    })
}

/// The helper, the dashboard and the widget in the Chromium of the distribution. Several files at once, since they wait
/// for timers more than they work; each row of them with a database and a relay of its own.
pub(crate) fn browser(server: &Server) -> Result<Tally> {
    /// The longest; they begin first.
    const LONG: [&str; 3] = ["widget/faults", "dashboard/faults", "dashboard/flow"];
    const ROWS: usize = 3;
    let node = node::ensure()?;
    node.ensure_packages(BROWSER)?;
    let chromium = system::browser().context("there is no Chromium: install the package chromium")?;
    let mut files = vec!["content_policy.test.js".to_owned()];
    for folder in ["dashboard", "widget"] {
        files.extend(suites(BROWSER, folder)?);
    }
    files.sort_by_key(|file| !LONG.iter().any(|long| file.starts_with(long)));
    let waiting = Mutex::new(files.into_iter().collect::<VecDeque<_>>());
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let sum = Mutex::new(Tally::default());
    let row = |number: usize| {
        let cluster = Cluster::boot_with(Options { version: Some(server.version), ..Options::default() })?;
        up::block_on(async {
            let relay = Settings::of(&cluster)?.env("CAMPFIRE_DASHBOARD", "on").start().await?;
            while let Some(file) = next() {
                let mut command = node.command(BROWSER);
                command.args(["--test", "--test-reporter=spec", "--test-force-exit", &file]);
                environment(&mut command, server, &cluster, &relay);
                command.env("CAMPFIRE_CHROMIUM", &chromium);
                let log = layout::target().join(format!("browser-{number}.log"));
                let begun = Instant::now();
                let result = tally::watch_quietly(&mut command, &log, tally::node);
                let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
                let output = std::fs::read_to_string(&log).unwrap_or_default();
                println!("==> {file}, in {}\n{}", step::duration(begun.elapsed()), output.trim_end());
                sum.put(&file, result, begun.elapsed());
            }
            anyhow::Ok(())
        })
    };
    std::thread::scope(|threads| {
        let rows: Vec<_> = (0..ROWS).map(|number| threads.spawn(move || row(number))).collect();
        rows.into_iter().try_for_each(|row| row.join().expect("a row of tests does not panic"))
    })?;
    Ok(sum.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// The test files in a folder of `dir`; not every Node takes a folder.
fn suites(dir: &str, folder: &str) -> Result<Vec<String>> {
    let files = std::fs::read_dir(layout::repository().join(dir).join(folder)).context(folder.to_owned())?;
    let names = files.filter_map(|file| file.ok()?.file_name().into_string().ok());
    let mut suites: Vec<String> =
        names.filter(|name| name.ends_with(".test.js")).map(|name| format!("{folder}/{name}")).collect();
    suites.sort_unstable();
    Ok(suites)
}

/// The conformance suites: the current releases, or every pinned one, which also writes the table.
pub(crate) fn conformance(server: &Server, every_client: bool) -> Result<Tally> {
    let node = node::ensure()?;
    if every_client {
        node.ensure_packages("tests/clients/versions")?;
    }
    let results = layout::target().join("conformance.jsonl");
    let _ = std::fs::remove_file(&results);
    let cluster = Cluster::boot_with(Options { version: Some(server.version), ..Options::default() })?;
    cluster.psql(seed::DATABASE, "select campfire.install_supabase_api()")?;
    cluster.psql(seed::DATABASE, CONFORMANCE_SQL)?;
    let mut sum = Tally::default();
    up::block_on(async {
        // As the reference is set up for older clients, too. Nobody waits for who is lost longer than need be.
        let settings = Settings::of(&cluster)?.env("CAMPFIRE_PUBLIC_CHANNELS", "allow");
        let settings = settings.env("CAMPFIRE_PRESENCE_DEFAULT", "true");
        // However long the twenty-one calls of one test take.
        let settings = settings.env("CAMPFIRE_PRESENCE_CALLS_SECONDS", "3600");
        let relay = settings.env("CAMPFIRE_PRESENCE_GRACE_SECONDS", "1").start().await?;
        let older = if every_client { OLDER_JS.as_slice() } else { &[] };
        for package in older.iter().copied().map(Some).chain([None]) {
            let mut command = node.command(CLIENTS);
            // They mostly wait: for tokens to expire, and for lost connections to be made anew.
            let at_once = format!("--test-concurrency={}", SUITES.len());
            command.args(["--test", "--test-reporter=spec", "--test-force-exit", &at_once]);
            command.args(SUITES.map(|suite| format!("conformance/{suite}.test.js")));
            command.envs(package.map(|package| ("CAMPFIRE_CLIENT", package)));
            environment(&mut command, server, &cluster, &relay);
            command.env("CAMPFIRE_CONFORMANCE", &results);
            sum.include(package.unwrap_or("supabase-js"), || tally::watch(&mut command, tally::node));
        }
        let mut command = node.command(CLIENTS);
        command.args(["--test", "--test-reporter=spec", "--test-force-exit", "phoenix/phoenix.test.js"]);
        environment(&mut command, server, &cluster, &relay);
        command.env("CAMPFIRE_CONFORMANCE", &results);
        sum.include("phoenix.js", || tally::watch(&mut command, tally::node));
        if every_client {
            let suites = SUITES.map(|suite| format!("conformance/{suite}.test.js"));
            let files: Vec<&str> =
                suites.iter().map(String::as_str).chain(["runtimes/helper.test.js"]).collect();
            for runtime in &runtimes::ALL {
                sum.include(&format!("supabase-js on {}", runtime.label()), || {
                    runtime.test(&files, |command| {
                        environment(command, server, &cluster, &relay);
                        command.env("CAMPFIRE_CONFORMANCE", &results);
                    })
                });
            }
            sum.include("clients in Rust", || {
                let mut command = rust_clients("test");
                environment(&mut command, server, &cluster, &relay);
                let token = token::agent(&cluster.credentials.jwt_secret, ORGANIZATION, AGENT);
                command.env("CAMPFIRE_CONFORMANCE", &results).env("CAMPFIRE_TOKEN", token);
                // One of them links the system's OpenSSL.
                if step::run(rust_clients("build").arg("--tests")).is_err() {
                    system::install(&["build-essential", "pkg-config", "libssl-dev"])?;
                }
                tally::watch(&mut command, tally::libtest)
            });
        }
        let skipped = if every_client { 0 } else { PYTHON.len() - 1 };
        for version in &PYTHON[skipped..] {
            let mut command = step::command(python::ensure("realtime", version)?);
            command.arg("tests/clients/python/conformance.py");
            environment(&mut command, server, &cluster, &relay);
            command.env("CAMPFIRE_CONFORMANCE", &results);
            sum.include(&format!("realtime {version} (Python)"), || {
                tally::watch(&mut command, tally::libtest)
            });
        }
        anyhow::Ok(())
    })?;
    // What failed is no lack of the release.
    if every_client && sum.failed == 0 {
        write_table(&results)?;
    }
    Ok(sum)
}

/// Cargo on tests/clients/rust, which is no member of the workspace.
fn rust_clients(subcommand: &str) -> Command {
    let mut command = step::cargo();
    command.args([subcommand, "--locked", "--manifest-path", "tests/clients/rust/Cargo.toml"]);
    command.env("CARGO_TARGET_DIR", layout::target().join("rust-clients"));
    command
}

/// What the suites must know.
pub(crate) fn environment(command: &mut Command, server: &Server, cluster: &Cluster, relay: &Relay) {
    command
        .env("CAMPFIRE_RELAY", format!("http://{}", relay.address()))
        .env("CAMPFIRE_API_KEY", &cluster.credentials.api_key)
        .env("CAMPFIRE_JWT_SECRET", &cluster.credentials.jwt_secret)
        .env("CAMPFIRE_DATABASE", cluster.superuser_url(seed::DATABASE))
        .env("CAMPFIRE_PSQL", server.program("psql"))
        .env("CAMPFIRE_ORGANIZATION", ORGANIZATION.to_string())
        .env("CAMPFIRE_AGENT", AGENT.to_string())
        // Some start a relay of their own from its argv and environment, to kill it.
        .env("CAMPFIRE_RELAY_PID", relay.pid().to_string());
}

/// What passed, as the suites note it: a line of JSON each.
#[derive(Deserialize)]
struct Passed {
    client: String,
    version: String,
    vsn: String,
    feature: String,
}

/// Puts the table of what passed into docs/clients.md.
fn write_table(results: &Path) -> Result<()> {
    let lines = std::fs::read_to_string(results).context("no suite noted that anything passed")?;
    let passed: Vec<Passed> = lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let page = layout::repository().join("docs/clients.md");
    let text = std::fs::read_to_string(&page)?;
    let (head, rest) = text.split_once(MARKS[0]).context("docs/clients.md has no place for the table")?;
    let (_, tail) = rest.split_once(MARKS[1]).context("docs/clients.md: the table does not end")?;
    std::fs::write(&page, [head, MARKS[0], &table(&passed), MARKS[1], tail].concat())?;
    Ok(())
}

/// A row a feature, a column a release; in a cell the serializations that passed.
fn table(passed: &[Passed]) -> String {
    let mut releases: Vec<(&str, &str)> = Vec::new();
    let mut features: Vec<&str> = Vec::new();
    let mut cells: BTreeMap<(&str, &str, &str), BTreeSet<&str>> = BTreeMap::new();
    for Passed { client, version, vsn, feature } in passed {
        if !releases.contains(&(client, version)) {
            releases.push((client, version));
        }
        if !features.contains(&feature.as_str()) {
            features.push(feature);
        }
        cells.entry((client, version, feature)).or_default().insert(vsn);
    }
    features.sort_unstable();
    let mut text = String::from("| |");
    for (client, version) in &releases {
        write!(text, " {client} {version} |").expect("a string takes all");
    }
    text.push_str("\n|---|");
    text.push_str(&"---|".repeat(releases.len()));
    text.push('\n');
    for feature in features {
        write!(text, "| {feature} |").expect("a string takes all");
        for (client, version) in &releases {
            let vsns = cells.get(&(*client, *version, feature));
            let cell = vsns.map_or("–".to_owned(), |vsns| {
                let short: Vec<&str> = vsns.iter().map(|vsn| vsn.trim_end_matches(".0.0")).collect();
                format!("✓ {}", short.join(", "))
            });
            write!(text, " {cell} |").expect("a string takes all");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_what_passed_and_nothing_else() {
        let passed = |version: &str, vsn: &str, feature: &str| Passed {
            client: "js".to_owned(),
            version: version.to_owned(),
            vsn: vsn.to_owned(),
            feature: feature.to_owned(),
        };
        let all = [
            passed("1", "1.0.0", "join"),
            passed("2", "1.0.0", "join"),
            passed("2", "2.0.0", "join"),
            passed("2", "2.0.0", "bytes"),
        ];
        assert_eq!(
            table(&all),
            "| | js 1 | js 2 |\n|---|---|---|\n| bytes | – | ✓ 2 |\n| join | ✓ 1 | ✓ 1, 2 |\n"
        );
    }
}
