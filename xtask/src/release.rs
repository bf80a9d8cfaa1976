//! `cargo xtask release`: whether this version can be released, and what that would change here. With `--tag` it does so:
//! the extension's script is frozen, the changelog gets its section, both are committed and tagged. Nothing leaves this
//! machine.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use campfire_tests::layout;

use crate::{script, step};

mod changelog;
mod frozen;
mod git;
mod versions;

use git::Git;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Do it: commit, and make the tag. Without, only what would be done is said
    #[arg(long)]
    tag: bool,
}

/// A version that is to be released.
struct Release<'a> {
    repository: &'a Path,
    version: &'a str,
    script: String,
    date: String,
}

/// What a release changes.
struct Plan {
    /// The changelog, if its section is to be cut.
    changelog: Option<String>,
}

/// `cargo xtask release`.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let release = Release {
        repository: layout::repository(),
        version: script::VERSION,
        script: script::write()?,
        date: today()?,
    };
    let mut problems = versions::of_control(release.version)?.into_iter().collect();
    let plan = release.plan(&mut problems)?;
    for problem in &problems {
        eprintln!("cannot release {}: {problem}", release.version);
    }
    let Some(plan) = plan.filter(|_| problems.is_empty()) else {
        return Ok(ExitCode::FAILURE);
    };
    release.tell(&plan);
    if arguments.tag {
        release.make(&plan)?;
        eprintln!("done. Next: git push --follow-tags; then set the next version in Cargo.toml.");
    } else {
        eprintln!("nothing was changed: cargo xtask release --tag does it");
    }
    Ok(ExitCode::SUCCESS)
}

/// For `cargo xtask test`: whether scripts of released versions are as they were released.
pub(crate) fn check_frozen() -> Result<()> {
    let compared = frozen::check(layout::repository(), script::VERSION, &script::write()?)?;
    println!("{compared}");
    Ok(())
}

fn today() -> Result<String> {
    let output = step::command("date").args(["-u", "+%F"]).output().context("cannot run date")?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

impl Release<'_> {
    fn tag(&self) -> String {
        format!("v{}", self.version)
    }

    /// What is to be done; none, or problems, if it cannot be.
    fn plan(&self, problems: &mut Vec<String>) -> Result<Option<Plan>> {
        let (repository, version) = (self.repository, self.version);
        let git = Git(repository);
        if !git.run(&["status", "--porcelain"])?.is_empty() {
            problems.push("the working tree is not clean: commit what `git status` shows".to_owned());
        }
        if !git.lines(&["tag", "--list", &self.tag()])?.is_empty() {
            problems.push(format!("tag {} exists: set the next version in Cargo.toml", self.tag()));
        }
        problems.extend(versions::disagreements(repository, version)?);
        if let Err(error) = frozen::check(repository, version, &self.script) {
            problems.push(format!("{error:#}"));
        }
        for from in frozen::without_update(repository, version)? {
            let path = frozen::path(&format!("{from}--{version}"));
            problems.push(format!("no update leads from {from} to it: write the script, {path}"));
        }
        let text = std::fs::read_to_string(repository.join("CHANGELOG.md")).context("CHANGELOG.md")?;
        match changelog::cut(&text, version, &self.date) {
            Ok(changelog) => Ok(Some(Plan { changelog })),
            Err(error) => {
                problems.push(format!("{error:#}"));
                Ok(None)
            }
        }
    }

    fn tell(&self, plan: &Plan) {
        println!("{}: the script, {} bytes", frozen::path(self.version), self.script.len());
        if plan.changelog.is_some() {
            println!("CHANGELOG.md: what is unreleased becomes [{}] - {}", self.version, self.date);
        }
        println!("a commit with both, and tag {}", self.tag());
    }

    fn make(&self, plan: &Plan) -> Result<()> {
        let git = Git(self.repository);
        let path = frozen::path(self.version);
        let script = self.repository.join(&path);
        std::fs::create_dir_all(script.parent().expect("a script lies in a directory"))?;
        std::fs::write(&script, &self.script).with_context(|| path.clone())?;
        if let Some(changelog) = &plan.changelog {
            std::fs::write(self.repository.join("CHANGELOG.md"), changelog).context("CHANGELOG.md")?;
        }
        git.run(&["add", "--", &path, "CHANGELOG.md"])?;
        // All of it may be committed already.
        if !git.run(&["status", "--porcelain"])?.is_empty() {
            git.run(&["commit", "--quiet", "--message", &format!("release {}", self.version)])?;
        }
        git.run(&["tag", "--annotate", "--message", &format!("campfire {}", self.version), &self.tag()])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
