//! Scripts of released versions. Databases were made by them, so they stay as they are: what changes is written into an
//! update script. A tag knows how they were.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use campfire_tests::extension;

use super::git::Git;
use crate::script::RELEASED;

/// Path of a version's script in the repository.
pub(super) fn path(version: &str) -> String {
    format!("{RELEASED}/campfire--{version}.sql")
}

/// Fails if a script is not as a tag holds it, or `script`, which is this version's, not as it was frozen. Returns what
/// was compared.
pub(super) fn check(repository: &Path, version: &str, script: &str) -> Result<String> {
    let frozen = repository.join(path(version));
    if let Ok(frozen) = std::fs::read_to_string(&frozen) {
        ensure!(
            frozen == script,
            "sql/ and extension/src make another script than {}, which is that of a released version: set the next \
             version in Cargo.toml, and write what changes into {RELEASED}/campfire--{version}--NEXT.sql",
            path(version)
        );
    }
    let git = Git(repository);
    let tags = match git.lines(&["tag", "--list", "v[0-9]*"]) {
        Ok(tags) => tags,
        // A tree without its history, as in a source package.
        Err(error) => return Ok(format!("no tags to compare scripts with: {error:#}")),
    };
    if tags.is_empty() {
        return Ok(
            "this clone has no tags (`git fetch --tags` gets what there is): no released script to compare with"
                .to_owned(),
        );
    }
    let mut edits = Vec::new();
    let mut compared = 0;
    for tag in &tags {
        for path in git.lines(&["ls-tree", "-r", "--name-only", tag, "--", RELEASED])? {
            compared += 1;
            let now = std::fs::read(repository.join(&path)).ok();
            if now.as_ref() != Some(&git.file(tag, &path)?) {
                let what = if now.is_some() { "is not as" } else { "is gone, and" };
                edits.push(format!(
                    "{path} {what} tag {tag} holds it: `git checkout {tag} -- {path}`, and write what changes into the \
                     update script of the next version"
                ));
            }
        }
    }
    ensure!(edits.is_empty(), "databases were made by scripts that are edited:\n{}", edits.join("\n"));
    Ok(format!("{compared} scripts of {} tags are as they were released", tags.len()))
}

/// Released versions from which no scripts lead to this one.
pub(super) fn without_update(repository: &Path, version: &str) -> Result<Vec<String>> {
    let (mut versions, mut updates) = (BTreeSet::new(), Vec::new());
    let directory = repository.join(RELEASED);
    for entry in std::fs::read_dir(&directory).into_iter().flatten() {
        let name = entry.with_context(|| directory.display().to_string())?.file_name();
        let name = name.to_string_lossy();
        let update = name.strip_prefix("campfire--").and_then(|rest| rest.strip_suffix(".sql"));
        if let Some(from) = extension::version_of(&name) {
            versions.insert(from.to_owned());
        } else if let Some((from, to)) = update.and_then(|update| update.split_once("--")) {
            updates.push((from.to_owned(), to.to_owned()));
        }
    }
    let mut reached = BTreeSet::from([version.to_owned()]);
    while let Some((from, _)) =
        updates.iter().find(|(from, to)| reached.contains(to) && !reached.contains(from))
    {
        reached.insert(from.clone());
    }
    Ok(versions.difference(&reached).cloned().collect())
}
