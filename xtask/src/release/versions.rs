//! Whether everything that has a version has the same: crates, npm packages, the extension.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::git::Git;
use crate::script;

/// What has another version than `version`, a line each.
pub(super) fn disagreements(repository: &Path, version: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for path in Git(repository).lines(&["ls-files"])? {
        let name = path.rsplit('/').next().unwrap_or(&path);
        if !matches!(name, "Cargo.toml" | "package.json" | "package-lock.json") {
            continue;
        }
        let text = std::fs::read_to_string(repository.join(&path)).with_context(|| path.clone())?;
        let versions = match name {
            "Cargo.toml" => of_crate(&text).into_iter().collect(),
            _ => of_package(&serde_json::from_str(&text).with_context(|| path.clone())?),
        };
        found.extend(
            versions
                .into_iter()
                .filter(|other| other != version)
                .map(|other| format!("{path} has version {other}, and Cargo.toml {version}")),
        );
    }
    Ok(found)
}

/// What the control file says, if it is not this version.
pub(super) fn of_control(version: &str) -> Result<Option<String>> {
    let says = format!("default_version = '{version}'");
    let is_said = script::control()?.lines().any(|line| line == says);
    Ok((!is_said).then(|| format!("extension/campfire.control does not say {says}")))
}

/// The version in a manifest; `None` where it is the workspace's.
fn of_crate(manifest: &str) -> Option<String> {
    let mut is_package = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            is_package = matches!(line.trim(), "[package]" | "[workspace.package]");
        }
        if let Some(version) = line.strip_prefix("version = ").filter(|_| is_package) {
            return Some(version.trim_matches('"').to_owned());
        }
    }
    None
}

/// The versions in a package.json, or in a lock file: of the package itself, and of those of its workspace.
fn of_package(json: &Value) -> Vec<String> {
    let in_workspace = json["packages"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(path, package)| !path.contains("node_modules") && package["version"].is_string())
        .map(|(_, package)| &package["version"]);
    let versions = [&json["version"]].into_iter().chain(in_workspace);
    versions.filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use campfire_tests::layout;
    use serde_json::json;

    use super::*;

    #[test]
    fn everything_has_one_version() {
        assert_eq!(of_control(script::VERSION).unwrap(), None);
        // A tree without its history has no list of its files.
        if let Ok(found) = disagreements(layout::repository(), script::VERSION) {
            assert_eq!(found, Vec::<String>::new());
        }
    }

    #[test]
    fn versions_are_found_where_they_are() {
        let manifest = "[package]\nname = \"a\"\nversion = \"1.2.3\"\n[dependencies]\nversion = \"9\"\n";
        assert_eq!(of_crate(manifest), Some("1.2.3".to_owned()));
        assert_eq!(
            of_crate("[package]\nversion.workspace = true\n[dependencies.x]\nversion = \"9\"\n"),
            None
        );
        let lock = json!({"version": "1", "packages": {
            "": {"version": "2"}, "client": {"version": "3"}, "node_modules/x": {"version": "9"}}});
        assert_eq!(of_package(&lock), ["1", "2", "3"]);
        assert_eq!(of_package(&json!({"private": true})), Vec::<String>::new());
    }
}
