//! Which build of the extension is installed, and whether it is the one the
//! sources describe. `cargo xtask install` writes the stamp read here.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::layout;
use crate::server::Server;

/// A hash of everything the extension is built from. It may change with the
/// toolchain, which costs one rebuild.
pub fn source_hash() -> Result<String> {
    let repository = layout::repository();
    let mut files = BTreeMap::new();
    for dir in ["sql", "extension", "gate"] {
        collect(&repository.join(dir), &mut files)?;
    }
    // It puts the script together.
    let script = repository.join("xtask/src/script.rs");
    files.insert(script.clone(), std::fs::read(&script).with_context(|| script.display().to_string())?);
    // Of the workspace's manifest only the profiles: the other crates' dependencies
    // change often and mean nothing here.
    let manifest = repository.join("Cargo.toml");
    let text = std::fs::read_to_string(&manifest).with_context(|| manifest.display().to_string())?;
    let profiles = text.find("[profile").map_or("", |start| &text[start..]);
    files.insert(manifest, profiles.as_bytes().to_vec());
    Ok(hash(&files))
}

fn collect(dir: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) -> Result<()> {
    let entries = std::fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name == "target" || name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            let text = std::fs::read(&path).with_context(|| path.display().to_string())?;
            files.insert(path, text);
        }
    }
    Ok(())
}

/// What is installed in the server, told by size and time of its files: other
/// tools (`cargo pgrx install`, a package) may have replaced what we put there.
/// `None` where nothing is installed.
pub fn installed(server: &Server) -> Option<String> {
    let mut files = BTreeMap::new();
    for dir in [&server.extension_dir, &server.library_dir] {
        for entry in std::fs::read_dir(dir).ok()?.flatten() {
            if is_ours(&entry.file_name().to_string_lossy())
                && let Ok(meta) = entry.metadata()
            {
                files.insert(entry.path(), (meta.size(), meta.mtime(), meta.mtime_nsec()));
            }
        }
    }
    let control = server.extension_dir.join("campfire.control");
    files.contains_key(&control).then(|| hash(&files))
}

/// Whether a file of the server's directories belongs to the extension:
/// `campfire.control`, `campfire--0.1.0.sql`, `campfire.so`, `campfire-0.1.0.so`.
pub fn is_ours(name: &str) -> bool {
    name.strip_prefix("campfire").is_some_and(|rest| rest.starts_with(['.', '-']))
}

/// The version that a script installs; an update script (`campfire--0.1.0--0.2.0.sql`) installs none.
pub fn version_of(script: &str) -> Option<&str> {
    let version = script.strip_prefix("campfire--")?.strip_suffix(".sql")?;
    (!version.contains("--")).then_some(version)
}

fn hash(value: &impl Hash) -> String {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// Where the stamp of an installation lies.
fn stamp(server: &Server) -> PathBuf {
    layout::target().join("extension").join(format!("installed-{}", hash(&server.library_dir)))
}

/// How an extension was compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Quick to build; what tests use.
    Debug,
    /// Optimized.
    Release,
}

/// Whether the installed extension was built from the present sources, and well
/// enough: a release build also serves who asked for a debug one.
pub fn is_current(server: &Server, profile: Profile) -> bool {
    let (Some(installed), Ok(sources), Ok(stamp)) =
        (installed(server), source_hash(), std::fs::read_to_string(stamp(server)))
    else {
        return false;
    };
    stamp == line(&sources, &installed, Profile::Release)
        || (profile == Profile::Debug && stamp == line(&sources, &installed, profile))
}

/// Notes that what is installed now was built from sources with hash `sources`.
pub fn note_installed(server: &Server, sources: &str, profile: Profile) -> Result<()> {
    let installed = installed(server).context("the extension did not arrive in the server")?;
    let stamp = stamp(server);
    std::fs::create_dir_all(stamp.parent().expect("a stamp lies in a directory"))?;
    std::fs::write(&stamp, line(sources, &installed, profile)).with_context(|| stamp.display().to_string())
}

fn line(sources: &str, installed: &str, profile: Profile) -> String {
    format!("{sources} {installed} {profile:?}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_the_extension_are_ours() {
        for name in ["campfire.control", "campfire--0.1.0.sql", "campfire.so", "campfire-0.1.0.so"] {
            assert!(is_ours(name), "{name}");
        }
        for name in ["campfires.control", "campfire", "plpgsql.control", "my_campfire.so"] {
            assert!(!is_ours(name), "{name}");
        }
    }

    #[test]
    fn the_script_of_a_version_is_known_from_that_of_an_update() {
        assert_eq!(version_of("campfire--0.1.0.sql"), Some("0.1.0"));
        for name in ["campfire--0.1.0--0.2.0.sql", "campfire.control", "other--0.1.0.sql"] {
            assert_eq!(version_of(name), None, "{name}");
        }
    }

    #[test]
    fn the_source_hash_is_the_same_twice() {
        assert_eq!(source_hash().unwrap(), source_hash().unwrap());
    }
}
