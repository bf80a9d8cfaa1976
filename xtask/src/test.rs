//! `cargo xtask test`: first what a compiler finds, then the runners beside each other, their
//! counts added up. The last line is for people and CI alike: `N passed, N failed`.

use std::process::ExitCode;

use anyhow::{Context, Result};
use campfire_tests::extension::Profile;
use campfire_tests::layout;
use campfire_tests::seed::{self, Seed};
use campfire_tests::server::Server;
use clap::ValueEnum;

use crate::chroot::Chroot;
use crate::parts::{self, Scope};
use crate::system::{self, Need};
use crate::tally::{self, Tally};
use crate::{clients, deny, fresh, install, order, pgrx, program, release, step, suites};

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
    }
    if arguments.everything() {
        lints(&mut tally);
        tally.attempt("lints of the extension", || extension_lints(&server));
    }
    if arguments.all() && arguments.pg.is_none() {
        tally.attempt("licences, bans and sources of dependencies", deny::check);
    }
    // Nothing that needs it means anything without the extension.
    let installed = arguments.want_extension()
        && tally.attempt("the extension builds and installs", || {
            install::ensure_installed(&server, Profile::Debug)
        });
    if installed && arguments.wants(Part::Script) {
        tally.attempt("the order of the extension's script", || order::try_opposite(&server));
    }
    run_parts(&mut tally, &server, arguments, installed);
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
            // Whoever makes requests makes many, and five languages are large.
            Part::Api | Part::Browser | Part::Samples => named || self.all(),
            _ => named || self.everything(),
        }
    }

    /// Those that may run beside each other, in their order.
    fn parts(&self) -> Vec<parts::Part> {
        let is_wanted = |part: &&parts::Part| match part {
            parts::Part::E2e => self.wants(Part::E2e),
            parts::Part::Browser => self.wants(Part::Browser),
            parts::Part::Clients => self.wants(Part::Clients),
            parts::Part::Walkthrough => self.wants(Part::Walkthrough),
            parts::Part::Chaos => self.wants(Part::Chaos),
            parts::Part::Unit => self.wants(Part::Unit),
            parts::Part::Regress => self.wants(Part::Regress),
            parts::Part::Api => self.wants(Part::Api),
            parts::Part::Samples => self.wants(Part::Samples),
            parts::Part::Demo => self.everything(),
        };
        parts::Part::value_variants().iter().filter(is_wanted).copied().collect()
    }

    fn want_extension(&self) -> bool {
        let parts = self.parts();
        self.wants(Part::Script) || parts.iter().any(|part| *part != parts::Part::Unit)
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

/// The long parts, after what they have in common.
fn run_parts(tally: &mut Tally, server: &Server, arguments: &Arguments, installed: bool) {
    let mut parts = arguments.parts();
    parts.retain(|part| installed || *part == parts::Part::Unit);
    let several = parts.len() > 1;
    let is_rust = |part: &parts::Part| matches!(part, parts::Part::Unit | parts::Part::E2e);
    if several && parts.iter().any(is_rust) && !tally.attempt("the tests build", suites::build) {
        parts.retain(|part| !is_rust(part));
    }
    let needs_relay = parts.iter().any(|part| part.needs_relay());
    if needs_relay && !tally.attempt("the relay builds", || step::build_relay(false).map(drop)) {
        parts.retain(|part| !part.needs_relay());
    }
    let needs_web = parts.iter().any(|part| part.needs_web());
    if needs_web && !tally.attempt("the client helper builds", clients::build_helper) {
        parts.retain(|part| !part.needs_web());
    }
    // Before several want to make it.
    let seed = || {
        seed::directory(server, Seed::Bare)?;
        if installed { seed::directory(server, Seed::Chat).map(drop) } else { Ok(()) }
    };
    if several && !tally.attempt("a database to copy", seed) {
        return;
    }
    // Whoever names a part, or all, wants the whole of it.
    let every_sabotage = !arguments.parts.is_empty();
    let every_client = arguments.every_client || arguments.all();
    parts::run_all(tally, &parts, server, Scope { every_client, every_sabotage });
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
