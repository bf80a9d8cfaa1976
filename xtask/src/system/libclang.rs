//! The library by which bindgen reads Postgres's headers.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use campfire_tests::server;

/// A libclang that bindgen can use: where LIBCLANG_PATH says, or where distributions put it. An error says that the
/// variable is wrong, since bindgen would look nowhere else.
pub(super) fn find() -> Result<Option<PathBuf>> {
    if let Some(told) = std::env::var_os("LIBCLANG_PATH") {
        let told = PathBuf::from(told);
        let dir = if told.is_dir() { Some(told.as_path()) } else { told.parent() };
        let found = dir.into_iter().flat_map(libraries_in).find(|path| loads(path));
        ensure!(
            found.is_some(),
            "LIBCLANG_PATH is {}, where there is no libclang that loads: correct it, or unset it and let one be found",
            told.display()
        );
        return Ok(Some(told));
    }
    let found = directories().iter().flat_map(|dir| libraries_in(dir)).find(|path| {
        // The library alone comes without what C programs include from their compiler.
        loads(path) && has_headers(path)
    });
    Ok(found)
}

/// Newest first, by the names that distributions give them.
fn directories() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = ["/usr/lib", "/usr/local/lib", "/usr/lib64"]
        .into_iter()
        .flat_map(|dir| entries(Path::new(dir)))
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("llvm") || name.ends_with("-linux-gnu")
        })
        .flat_map(|path| [path.join("lib"), path.join("lib64"), path])
        .collect();
    let version = |path: &PathBuf| -> u32 {
        let text = path.to_string_lossy();
        let digits = text.split_once("llvm-").map_or("", |(_, rest)| rest);
        digits.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
    };
    found.sort_by_key(|path| std::cmp::Reverse(version(path)));
    found.extend(["/usr/local/lib", "/usr/lib64", "/usr/lib"].map(PathBuf::from));
    found
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

fn libraries_in(dir: &Path) -> Vec<PathBuf> {
    let mut found = entries(dir);
    found.retain(|path| path.file_name().is_some_and(is_libclang));
    found.sort();
    found
}

/// `libclang.so`, `libclang.so.1`, `libclang-14.so`, `libclang-14.so.14.0.6`; not `libclang-cpp.so.14`.
fn is_libclang(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    let Some(rest) = name.strip_prefix("libclang") else { return false };
    let rest = rest
        .strip_prefix('-')
        .map_or(rest, |rest| rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.'));
    rest.starts_with(".so") || rest.starts_with("so")
}

/// Whether the dynamic linker finds all that the library needs.
fn loads(library: &Path) -> bool {
    server::run(Command::new("ldd").arg(library)).is_ok_and(|needed| !needed.contains("not found"))
}

/// `stddef.h` and its kin, which lie in a directory of the compiler's version.
fn has_headers(library: &Path) -> bool {
    let Ok(library) = library.canonicalize() else { return false };
    let Some(dir) = library.parent() else { return false };
    [dir.join("clang"), dir.join("../lib/clang"), PathBuf::from("/usr/lib/clang")]
        .iter()
        .flat_map(|dir| entries(dir))
        .any(|version| version.join("include/stddef.h").exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libclang_is_told_from_its_neighbours() {
        for name in
            ["libclang.so", "libclang.so.1", "libclang-14.so", "libclang-14.so.14.0.6", "libclang-3.9.so"]
        {
            assert!(is_libclang(OsStr::new(name)), "{name}");
        }
        for name in
            ["libclang-cpp.so.14", "libclang_rt.asan.so", "libclangAST.a", "libclang.a", "libclang-14.a"]
        {
            assert!(!is_libclang(OsStr::new(name)), "{name}");
        }
    }
}
