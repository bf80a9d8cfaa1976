//! The samples of docs/api.md that sign an identity, one a language: each is run as it stands there, and the relay has to
//! accept what it made.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use campfire_tests::cluster::{Cluster, Options};
use campfire_tests::relay::Settings;
use campfire_tests::server::Server;
use campfire_tests::{ORGANIZATION, http, layout};
use serde_json::json;

use crate::tally::Tally;
use crate::{node, python, step, up};

const PAGE: &str = "docs/api.md";
const SECTION: &str = "## Verified identities";

const JSONWEBTOKEN: &str = "9.0.3";
const PYJWT: &str = "2.15.1";

/// Where Debian keeps the sources of Go packages. One package has version 4, of later releases another has version 5.
const GO_JWT: [&str; 2] =
    ["/usr/share/gocode/src/github.com/golang-jwt/jwt/v5", "/usr/share/gocode/src/github.com/golang-jwt/jwt"];

/// As long as a relay wants it at least.
const SECRET: &str = "the identity secret that the samples sign with";

const NAME: &str = "Vera Customer";
const EMAIL: &str = "vera@example.com";

/// What stands around a sample, to make a program of it.
struct Language {
    /// Of the fence in the page.
    fence: &'static str,
    file: &'static str,
    before: fn(&str) -> Result<String>,
    after: &'static str,
    /// What runs the file, in its directory.
    command: fn(&Path) -> Result<Command>,
}

const LANGUAGES: [Language; 5] = [
    Language {
        fence: "js",
        file: "sign.mjs",
        before: |id| Ok(format!("const user = {{ id: '{id}', name: '{NAME}', email: '{EMAIL}' }}\n")),
        after: "console.log(identity)\n",
        command: |dir| {
            let node = node::ensure()?;
            let mut npm = step::command("npm");
            npm.args(["install", "--no-save", "--no-audit", "--no-fund", "--loglevel", "error", "--prefix"]);
            step::run(npm.arg(dir).arg(format!("jsonwebtoken@{JSONWEBTOKEN}")))?;
            Ok(node.command("."))
        },
    },
    Language {
        fence: "python",
        file: "sign.py",
        before: |id| {
            let user = format!("user = SimpleNamespace(id=\"{id}\", name=\"{NAME}\", email=\"{EMAIL}\")");
            Ok(format!("from types import SimpleNamespace\n{user}\n"))
        },
        after: "print(identity)\n",
        command: |_| Ok(step::command(python::ensure("PyJWT", PYJWT)?)),
    },
    Language {
        fence: "ruby",
        file: "sign.rb",
        before: |id| {
            Ok(format!("user = Struct.new(:id, :name, :email).new(\"{id}\", \"{NAME}\", \"{EMAIL}\")\n"))
        },
        after: "puts identity\n",
        command: |_| Ok(step::command("ruby")),
    },
    Language {
        fence: "php",
        file: "sign.php",
        before: |id| {
            Ok(format!(
                "<?php\n$user = (object) ['id' => '{id}', 'name' => '{NAME}', 'email' => '{EMAIL}'];\n"
            ))
        },
        after: "echo $identity;\n",
        command: |_| Ok(step::command("php")),
    },
    Language {
        fence: "go",
        file: "main.go",
        before: |id| {
            let (module, _) = go_jwt()?;
            Ok(format!(
                "package main\n\nimport (\n\t\"fmt\"\n\t\"os\"\n\t\"time\"\n\n\t\"{module}\"\n)\n\nfunc main() {{\n\
                 user := struct{{ ID, Name, Email string }}{{\"{id}\", \"{NAME}\", \"{EMAIL}\"}}\n"
            ))
        },
        after: "if err != nil {\n\tpanic(err)\n}\nfmt.Println(identity)\n}\n",
        command: |dir| {
            let (module, source) = go_jwt()?;
            let version = module.rsplit_once("/v").map_or("0", |(_, version)| version);
            let mut text = String::from("module sample\n\ngo 1.18\n\n");
            writeln!(text, "require {module} v{version}.0.0")?;
            writeln!(text, "replace {module} => {}", source.display())?;
            std::fs::write(dir.join("go.mod"), text)?;
            let mut go = step::command("go");
            // Nothing of it is fetched.
            go.arg("run").env("GOFLAGS", "-mod=mod").env("GOPROXY", "off").env("GOSUMDB", "off");
            go.env("GOCACHE", dir.join("cache")).env("GOTOOLCHAIN", "local");
            Ok(go)
        },
    },
];

/// The library for Go: its name, and where it is.
fn go_jwt() -> Result<(String, PathBuf)> {
    let found = GO_JWT.map(PathBuf::from).into_iter().find(|path| path.join("go.mod").exists());
    let path = found.context("there is no library of JWT for Go")?;
    let text = std::fs::read_to_string(path.join("go.mod"))?;
    let module =
        text.lines().find_map(|line| line.strip_prefix("module ")).context("go.mod names no module")?;
    Ok((module.trim().to_owned(), path))
}

/// Whether [`LANGUAGES`] finds its library for Go.
pub(crate) fn has_go_jwt() -> bool {
    go_jwt().is_ok()
}

/// The fenced blocks of the page's section, with what stands behind the fence.
fn samples(page: &str) -> Result<Vec<(&str, &str)>> {
    let (_, rest) =
        page.split_once(&format!("\n{SECTION}\n")).with_context(|| format!("{PAGE} has no {SECTION}"))?;
    let section = rest.split("\n## ").next().unwrap_or_default();
    let blocks = section.split("\n```").skip(1).step_by(2);
    Ok(blocks.filter_map(|block| block.split_once('\n')).collect())
}

/// Runs every sample, and shows the relay what it made.
pub(crate) fn check(server: &Server) -> Result<Tally> {
    let page = std::fs::read_to_string(layout::repository().join(PAGE))?;
    let samples = samples(&page)?;
    let cluster = Cluster::boot_with(Options { version: Some(server.version), ..Options::default() })?;
    let mut sum = Tally::default();
    up::block_on(async {
        let relay = Settings::of(&cluster)?.start().await?;
        let database = cluster.connect().await?;
        let insert = "insert into organization_secrets (organization_id, secret) values ($1, $2)";
        database.execute(insert, &[&ORGANIZATION, &SECRET]).await?;
        for language in &LANGUAGES {
            let id = format!("customer {}", language.fence);
            let made = async {
                let sample = samples.iter().find(|(fence, _)| *fence == language.fence);
                let (_, sample) = sample.with_context(|| format!("{SECTION} has no sample of it"))?;
                let identity = sign(language, &id, sample)?;
                let body = json!({"organizationId": ORGANIZATION, "identity": identity}).to_string();
                let headers = [("content-type", "application/json")];
                let path = "/api/widget/auth";
                let answer = http::request(&relay.address(), "POST", path, &headers, body.as_bytes()).await?;
                ensure!(answer.status == 201 && answer.json()?["verified"] == true, "{answer:?}");
                let row = "select name, email from visitors where external_id = $1";
                let row = database.query_one(row, &[&id]).await?;
                let (name, email): (&str, &str) = (row.get(0), row.get(1));
                ensure!((name, email) == (NAME, EMAIL), "{name} {email}");
                anyhow::Ok(())
            };
            let made = made.await;
            sum.attempt(&format!("an identity signed in {}", language.fence), || made);
        }
        anyhow::Ok(())
    })?;
    Ok(sum)
}

/// Makes a program of a sample, and returns what it prints.
fn sign(language: &Language, id: &str, sample: &str) -> Result<String> {
    let dir = layout::target().join("samples").join(language.fence);
    std::fs::create_dir_all(&dir)?;
    let before = (language.before)(id)?;
    let program = [&before, sample, "\n", language.after].concat();
    std::fs::write(dir.join(language.file), program)?;
    let mut command = (language.command)(&dir)?;
    command.arg(language.file).current_dir(&dir).env("IDENTITY_SECRET", SECRET);
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| step::show(&command))?;
    ensure!(output.status.success(), "{} failed: {}", step::show(&command), output.status);
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_one_sample_for_each_language() {
        let page = std::fs::read_to_string(layout::repository().join(PAGE)).unwrap();
        let mut found: Vec<&str> = samples(&page).unwrap().iter().map(|(fence, _)| *fence).collect();
        found.retain(|fence| *fence != "sql");
        assert_eq!(found, LANGUAGES.map(|language| language.fence));
    }
}
