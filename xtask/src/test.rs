//! `cargo xtask test`: every runner one after the other, cheap ones first, their
//! counts added up. The last line is for people and CI alike: `N passed, N failed`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use campfire_chaos::Sabotage;
use campfire_tests::cluster::{Cluster, Options};
use campfire_tests::extension::Profile;
use campfire_tests::layout;
use campfire_tests::seed::Seed;
use campfire_tests::server::Server;
use clap::ValueEnum;

use crate::chroot::Chroot;
use crate::system::{self, Need};
use crate::tally::{self, Tally};
use crate::{
    api, chaos, clients, demo, deny, fresh, install, order, pgrx, program, release, samples, step,
    walkthrough,
};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Parts to run; default: formatting, lints, and every part but api, browser, samples, script and fresh
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Major version of Postgres to test with; default: 15 if it is installed, else the
    /// lowest installed version, else the distribution's. A version that this Debian does
    /// not carry is tested in a chroot of a release that does (17: trixie, 18: sid)
    #[arg(long, value_name = "VERSION")]
    pg: Option<u32>,
    /// Test every pinned release of the clients, and write the table in docs/clients.md; default: the current ones
    #[arg(long)]
    every_client: bool,
    /// Test only this one of the fresh machines; may be given several times
    #[arg(long, value_name = "NAME", value_parser = fresh::NAMES)]
    machine: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Unit and property tests, including those of single stages of the relay
    Unit,
    /// SQL behaviour of the extension against golden files, and races, by Postgres's own pg_regress
    Regress,
    /// The relay's program against a real Postgres, from INSERT to WebSocket
    E2e,
    /// Unmodified supabase-js and realtime (Python) against the relay
    Clients,
    /// docs/own-tables.md, block by block, with supabase-js in Node
    Walkthrough,
    /// The client helper, the dashboard and the widget in Chromium, and docs/own-tables.md once more
    Browser,
    /// The HTTP API, with requests made from the document that describes it
    Api,
    /// What docs/api.md has for signing an identity, run in five languages
    Samples,
    /// One minute of faults, checked by an oracle, and a test of the checker itself
    Chaos,
    /// The extension's script, compared with the one that pgrx's own tool makes, and loaded in another order
    Script,
    /// The README's first commands on fresh machines, in chroots; needs root
    Fresh,
    /// Every part; also licences of dependencies, older clients, Postgres 17, and the SQL on Postgres 18
    All,
}

/// What `test all` also runs on which other versions: the whole server side on 17, the extension on 18.
const OTHER_VERSIONS: [(u32, &[&str]); 2] = [(17, &["unit", "regress", "e2e"]), (18, &["regress"])];

/// `cargo xtask test`.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    if let Some(version) = arguments.pg
        && !system::can_have_postgres(version)
    {
        let mut tally = Tally::default();
        tally.include(&format!("tests on Postgres {version}, in a chroot"), || {
            in_chroot(version, &arguments.parts)
        });
        tally.print();
        return Ok(tally.exit_code());
    }
    let mut tally = Tally::default();
    if arguments.parts == [Part::Fresh] {
        fresh::check(&mut tally, &arguments.machine);
        tally.print();
        return Ok(tally.exit_code());
    }
    // Also for the unit tests: those of the relay's WAL stage talk to a server.
    let server = system::ensure(arguments.pg.into(), &arguments.needs())?;
    if arguments.everything() {
        ensure_components()?;
        tally.check("formatting", step::cargo().args(["fmt", "--all", "--check"]));
    }
    if arguments.wants(Part::Unit) {
        tally.attempt("released scripts are as they were released", release::check_frozen);
        unit(&mut tally, &server);
    }
    if arguments.everything() {
        lints(&mut tally);
        tally.attempt("lints of the extension", || extension_lints(&server));
    }
    if arguments.all() && arguments.pg.is_none() {
        tally.attempt("licences, bans and sources of dependencies", deny::check);
    }
    if arguments.want_extension() {
        // Nothing that follows means anything without the extension.
        let installed = tally.attempt("the extension builds and installs", || {
            install::ensure_installed(&server, Profile::Debug)
        });
        if installed {
            with_extension(&mut tally, &server, arguments);
        }
    }
    if arguments.wants(Part::Script) {
        tally.attempt("the extension's script is the one that pgrx makes", || pgrx::check_script(&server));
    }
    if arguments.all() && arguments.pg.is_none() {
        for (version, parts) in OTHER_VERSIONS {
            tally.include(&format!("Postgres {version}"), || {
                let version = version.to_string();
                let mut command = step::cargo();
                command.args(["xtask", "test"]).args(parts).args(["--pg", &version]);
                tally::watch(&mut command, tally::xtask)
            });
        }
    }
    if arguments.wants(Part::Fresh) {
        fresh::check(&mut tally, &arguments.machine);
    }
    tally.print();
    Ok(tally.exit_code())
}

impl Arguments {
    fn all(&self) -> bool {
        self.parts.contains(&Part::All)
    }

    fn everything(&self) -> bool {
        self.parts.is_empty() || self.all()
    }

    fn wants(&self, part: Part) -> bool {
        let named = self.parts.contains(&part);
        match part {
            // Too long for a plain run, and the same whatever version the rest is for.
            Part::Script | Part::Fresh => named || self.all() && self.pg.is_none(),
            // Chromium is large, and so are five languages; whoever makes requests makes many.
            Part::Browser | Part::Api | Part::Samples => named || self.all(),
            _ => named || self.everything(),
        }
    }

    fn want_extension(&self) -> bool {
        self.wants(Part::Regress) || self.wants(Part::Script) || self.want_relay()
    }

    fn want_relay(&self) -> bool {
        [Part::E2e, Part::Clients, Part::Walkthrough, Part::Browser, Part::Api, Part::Samples, Part::Chaos]
            .into_iter()
            .any(|part| self.wants(part))
    }

    /// What all of it needs of the system.
    fn needs(&self) -> Vec<Need> {
        let needs: [(bool, &[Need]); 11] = [
            (true, &[Need::Server]),
            (self.everything(), &[Need::Compile]),
            (self.want_extension(), &[Need::Extension(Profile::Debug)]),
            (self.wants(Part::Regress), &[Need::Regress]),
            (self.wants(Part::Clients), &[Need::Node, Need::Python]),
            (self.wants(Part::Walkthrough), &[Need::Node]),
            (self.wants(Part::Browser), &[Need::Node, Need::Browser]),
            (self.wants(Part::Api), &[Need::Python]),
            (self.wants(Part::Samples), &[Need::Node, Need::Python, Need::Samples]),
            (self.wants(Part::Script), &[Need::Compile, Need::Pgrx]),
            (self.wants(Part::Fresh), &[Need::Debootstrap]),
        ];
        needs.into_iter().filter(|(wanted, _)| *wanted).flat_map(|(_, needs)| needs.iter().copied()).collect()
    }
}

/// The same command where there is such a Postgres.
fn in_chroot(version: u32, parts: &[Part]) -> Result<Tally> {
    let parts: Vec<String> = parts
        .iter()
        .filter_map(ValueEnum::to_possible_value)
        .map(|value| value.get_name().to_owned())
        .collect();
    let (mut command, _lock) = Chroot::of(version)?.test(&parts)?;
    tally::watch(&mut command, tally::xtask)
}

/// The parts that need the extension in the server, and mostly the relay as well.
fn with_extension(tally: &mut Tally, server: &Server, arguments: &Arguments) {
    if arguments.wants(Part::Regress) {
        tally.include("pg_regress", || regress(server, &Regress::SQL));
        tally.include("pg_isolation_regress", || regress(server, &Regress::RACES));
    }
    if arguments.wants(Part::Script) {
        tally.attempt("the order of the extension's script", || order::try_opposite(server));
    }
    if !arguments.want_relay() || !tally.attempt("the relay builds", || step::build_relay(false).map(drop)) {
        return;
    }
    if arguments.wants(Part::E2e) {
        tally.include("end-to-end tests", || e2e(server));
    }
    if arguments.wants(Part::Clients) {
        let every_client = arguments.every_client || arguments.all();
        tally.include("the client helper", clients::helper);
        tally.include("widget and dashboard", clients::embedded);
        tally.attempt("what the relay embeds is what web/ gives", clients::check_assets);
        tally.include("stock clients", || clients::stock(server));
        tally.include("conformance of stock clients", || clients::conformance(server, every_client));
    }
    if arguments.wants(Part::Walkthrough) {
        tally.attempt("docs/own-tables.md, followed in Node", || {
            walkthrough::follow(server, walkthrough::Browser::Node)
        });
    }
    if arguments.wants(Part::Browser) {
        tally.include("pages in a browser", || clients::browser(server));
        tally.attempt("docs/own-tables.md, followed in Chromium", || {
            walkthrough::follow(server, walkthrough::Browser::Chromium)
        });
    }
    if arguments.wants(Part::Api) {
        tally.include("the API, by its own description", || api::fuzz(server));
    }
    if arguments.wants(Part::Samples) {
        tally.include("samples of docs/api.md", || samples::check(server));
    }
    if arguments.wants(Part::Chaos) {
        // Whoever names a part, or all, wants the whole of it.
        let sabotages = if arguments.parts.is_empty() { &chaos::COMMON } else { Sabotage::ALL.as_slice() };
        tally.attempt("chaos: what errs on purpose is caught", || chaos::self_test(sabotages));
        tally.attempt("chaos: a minute of faults", chaos::check_once);
    }
    if arguments.everything() {
        tally.attempt("demo --once", demo::check_once);
    }
}

/// A toolchain of the minimal profile lacks both.
fn ensure_components() -> Result<()> {
    for component in ["rustfmt", "clippy"] {
        let program = if component == "clippy" { "cargo-clippy" } else { "cargo-fmt" };
        if !program::is_there(program) {
            let step = step::begin(format!("installing {component} (rustup)"));
            step::run(step::command("rustup").args(["component", "add", component]))
                .with_context(|| format!("{program} is missing: install {component}"))?;
            step.done();
            step::note_installed(format!("{component} (rustup)"));
        }
    }
    Ok(())
}

fn lints(tally: &mut Tally) {
    tally.check("lints", step::cargo().args(["clippy", "--all-targets", "--", "-D", "warnings"]));
    // Not in the workspace, and compiled by nothing else: it would stay behind unnoticed.
    tally.check(
        "lints of the fuzz targets",
        step::cargo()
            .args(["clippy", "--manifest-path", "fuzz/Cargo.toml", "--no-default-features"])
            .args(["--", "-D", "warnings"])
            .env("CARGO_TARGET_DIR", layout::target()),
    );
}

fn extension_lints(server: &Server) -> Result<()> {
    step::run(install::cargo("clippy", server)?.args(["--", "-D", "warnings"]))
}

fn unit(tally: &mut Tally, server: &Server) {
    tally.include("unit and property tests", || {
        tally::watch(
            step::cargo()
                .args(["test", "--no-fail-fast", "--lib", "--bins", "--test", "tidy", "--test", "wal"])
                .env("CAMPFIRE_TEST_PG", server.version.to_string()),
            tally::libtest,
        )
    });
}

/// One of Postgres's own two test programs.
struct Regress {
    program: &'static str,
    schedule: &'static str,
    database: &'static str,
}

impl Regress {
    const SQL: Self =
        Self { program: system::PG_REGRESS, schedule: "schedule", database: "campfire_regress" };
    const RACES: Self = Self {
        program: system::PG_ISOLATION_REGRESS,
        schedule: "isolation_schedule",
        database: "campfire_isolation",
    };
}

/// Runs one schedule against a cluster of its own; shows the differences.
fn regress(server: &Server, which: &Regress) -> Result<Tally> {
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

fn e2e(server: &Server) -> Result<Tally> {
    tally::watch(
        step::cargo()
            .args(["test", "--test", "e2e", "--"])
            // Measurements are printed by tests that pass.
            .args(["--show-output", "--test-threads=4"])
            .env("CAMPFIRE_TEST_PG", server.version.to_string()),
        tally::libtest,
    )
}
