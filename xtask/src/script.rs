//! The extension's script, `campfire--VERSION.sql`: the files of sql/ in the order in which extension/src/lib.rs names
//! them, and after the first of them, which makes the schema, the functions that are written in Rust. Their SQL stands
//! in the attribute of each, so that it can be read without compiling anything. `cargo xtask test all` compares the
//! whole with what pgrx's own tool makes of the compiled extension.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use campfire_tests::layout;

/// That of every crate here, and so the extension's.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Where the repository has the scripts of released versions, and the updates between versions.
pub(crate) const RELEASED: &str = "extension/sql";

/// A part of the script.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Part {
    /// Where it is from.
    pub(crate) origin: String,
    /// What others require it by.
    pub(crate) name: String,
    /// Parts without which its statements fail.
    pub(crate) requires: Vec<String>,
    pub(crate) sql: String,
}

/// Name of the library without its ending. With the version in it, so that an update leaves running sessions theirs.
pub(crate) fn library() -> String {
    format!("campfire-{VERSION}")
}

/// The whole script.
pub(crate) fn write() -> Result<String> {
    Ok(join(&parts()?))
}

/// Parts as one text, each under its origin.
pub(crate) fn join(parts: &[Part]) -> String {
    parts.iter().map(|part| format!("-- {}\n{}\n\n", part.origin, part.sql.trim_end())).collect()
}

/// The control file.
pub(crate) fn control() -> Result<String> {
    let path = layout::repository().join("extension/campfire.control");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(text.replace("@CARGO_VERSION@", VERSION))
}

/// Everything, in order.
pub(crate) fn parts() -> Result<Vec<Part>> {
    let sources = layout::repository().join("extension/src");
    let mut parts = Vec::new();
    let mut files = files(&sources.join("lib.rs"))?.into_iter();
    parts.push(files.next().context("extension/src/lib.rs names no SQL file")?);
    for path in files_below(&sources, "rs")? {
        parts.extend(functions(&read(&path)?, &shown(&path))?);
    }
    parts.extend(files);
    check_order(&parts)?;
    Ok(parts)
}

/// Each part comes after what it requires.
fn check_order(parts: &[Part]) -> Result<()> {
    let mut known = HashSet::new();
    for part in parts {
        for required in &part.requires {
            ensure!(
                known.contains(required.as_str()),
                "extension/src/lib.rs: {} requires {required}, which does not come before it",
                part.origin
            );
        }
        ensure!(
            known.insert(part.name.as_str()),
            "extension/src/lib.rs: two parts are called {:?}",
            part.name
        );
    }
    Ok(())
}

/// What `extension_sql_file!` names.
fn files(lib: &Path) -> Result<Vec<Part>> {
    let text = read(lib)?;
    let here = lib.parent().expect("a file lies in a directory");
    let mut parts = Vec::new();
    for (line, rest) in invocations(&text, "extension_sql_file!(") {
        let arguments = rest.split_once(");").map_or(rest, |(arguments, _)| arguments);
        let Some(file) = arguments.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next())
        else {
            bail!("{}:{line}: the file's name must come first, in quotes", shown(lib));
        };
        let path =
            here.join(file).canonicalize().with_context(|| format!("{}:{line}: {file}", shown(lib)))?;
        let (name, requires) =
            named(arguments).with_context(|| format!("{}:{line}: {file} has no name = \"…\"", shown(lib)))?;
        parts.push(Part { origin: shown(&path), name, requires, sql: read(&path)? });
    }
    ensure!(
        invocations(&text, "extension_sql!(").is_empty(),
        "{}: SQL that is no function's belongs into a file of sql/, named by extension_sql_file!",
        shown(lib)
    );
    Ok(parts)
}

/// What a file is called by others, and what it requires: files by their names, functions by their paths.
fn named(arguments: &str) -> Option<(String, Vec<String>)> {
    let (_, rest) = arguments.split_once("name = \"")?;
    let (name, _) = rest.split_once('"')?;
    let required = match arguments.split_once("requires = [") {
        Some((_, rest)) => rest.split_once(']')?.0,
        None => "",
    };
    let required = required.split(',').map(str::trim).filter(|item| !item.is_empty()).map(|item| {
        let function = item.rsplit("::").next().unwrap_or(item);
        function.trim_matches('"').to_owned()
    });
    Some((name.to_owned(), required.collect()))
}

/// The functions of one file, as their attributes declare them.
fn functions(text: &str, file: &str) -> Result<Vec<Part>> {
    const OPENS: &str = "sql = r#\"";
    const CLOSES: &str = "\"#";
    let mut parts = Vec::new();
    for (line, rest) in ["#[pg_extern", "#[pg_trigger"].iter().flat_map(|name| invocations(text, name)) {
        let advice = || {
            format!(
                "{file}:{line}: the attribute must say the function's SQL: (sql = r#\"create function …\"#)"
            )
        };
        let (attribute, rest) = rest.split_once(OPENS).with_context(advice)?;
        // Else it is the next function's.
        ensure!(!attribute.contains("fn "), advice());
        let (sql, rest) = rest.split_once(CLOSES).with_context(advice)?;
        let (_, rest) = rest.split_once("fn ").with_context(advice)?;
        let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
        let sql = sql
            .replace("@MODULE_PATHNAME@", &library())
            .replace("@FUNCTION_NAME@", &format!("{name}_wrapper"));
        parts.push(Part {
            origin: format!("{file}: {name}"),
            name: name.to_owned(),
            requires: Vec::new(),
            sql: sql.trim().to_owned(),
        });
    }
    Ok(parts)
}

/// Each place where `text` says `what`, outside of comments: its line, and what follows.
fn invocations<'a>(text: &'a str, what: &str) -> Vec<(usize, &'a str)> {
    let mut found = Vec::new();
    let mut start = 0;
    for (number, line) in text.lines().enumerate() {
        let indent = line.len() - line.trim_start().len();
        if line.trim_start().starts_with(what) {
            found.push((number + 1, &text[start + indent + what.len()..]));
        }
        start += line.len() + 1;
    }
    found
}

/// In an order that does not change.
fn files_below(dir: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files_below(&path, extension)?);
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// As the repository knows it.
fn shown(path: &Path) -> String {
    let repository = layout::repository();
    let repository = repository.canonicalize().unwrap_or_else(|_| repository.to_owned());
    path.strip_prefix(&repository).unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_read_from_its_attribute() {
        let text = "/// Adds.\n#[pg_extern(sql = r#\"\ncreate function campfire.add(a text) returns text\n\
                    as '@MODULE_PATHNAME@', '@FUNCTION_NAME@';\n\"#)]\n#[allow(clippy::x)]\npub(crate) fn add<'a>(a: &str) {}\n";
        let parts = functions(text, "a.rs").unwrap();
        let sql = format!(
            "create function campfire.add(a text) returns text\nas 'campfire-{VERSION}', 'add_wrapper';"
        );
        let (origin, name) = ("a.rs: add".to_owned(), "add".to_owned());
        assert_eq!(parts, [Part { origin, name, sql, ..Part::default() }]);
    }

    #[test]
    fn a_file_says_its_name_and_what_it_requires() {
        let arguments = "\"../../sql/a.sql\", name = \"a\", requires = [\n    \"b\",\n    c::d,\n]";
        let requires = vec!["b".to_owned(), "d".to_owned()];
        assert_eq!(named(arguments), Some(("a".to_owned(), requires)));
        assert_eq!(named("\"a.sql\", name = \"a\", bootstrap"), Some(("a".to_owned(), Vec::new())));
        assert_eq!(named("\"a.sql\""), None);
    }

    #[test]
    fn a_function_without_sql_is_no_function_of_another_ones_sql() {
        let text = "#[pg_extern]\nfn bare() {}\n#[pg_extern(sql = r#\"create …;\"#)]\nfn other() {}\n";
        let error = functions(text, "a.rs").unwrap_err().to_string();
        assert!(error.starts_with("a.rs:1: the attribute must say"), "{error}");
    }

    #[test]
    fn what_stands_in_a_comment_is_nothing() {
        assert_eq!(functions("// #[pg_extern]\n/// #[pg_trigger(…)]\n", "a.rs").unwrap(), []);
    }

    #[test]
    fn what_is_required_later_or_nowhere_is_refused() {
        let part = |name: &str, requires: &[&str]| Part {
            origin: format!("sql/{name}.sql"),
            name: name.to_owned(),
            requires: requires.iter().map(|name| (*name).to_owned()).collect(),
            ..Part::default()
        };
        check_order(&[part("schema", &[]), part("a", &[]), part("b", &["a"])]).unwrap();
        for parts in [[part("b", &["a"]), part("a", &[])], [part("a", &[]), part("b", &["c"])]] {
            let error = check_order(&parts).unwrap_err().to_string();
            assert!(error.contains("sql/b.sql requires"), "{error}");
        }
        assert!(check_order(&[part("a", &[]), part("a", &[])]).is_err());
    }

    /// A file that lib.rs does not name is installed by nobody, and a function that is not found is missed first by
    /// who calls it.
    #[test]
    fn every_file_and_every_function_is_in_the_script() {
        let parts = parts().unwrap();
        let origins: Vec<&str> = parts.iter().map(|part| part.origin.as_str()).collect();
        assert_eq!(origins[0], "sql/schema.sql");
        for path in files_below(&layout::repository().join("sql"), "sql").unwrap() {
            assert!(
                origins.contains(&shown(&path).as_str()),
                "extension/src/lib.rs does not name {}",
                path.display()
            );
        }
        let sources = files_below(&layout::repository().join("extension/src"), "rs").unwrap();
        let texts = sources.iter().map(|path| read(path).unwrap());
        let declared: usize = texts.map(|text| text.matches("@FUNCTION_NAME@").count()).sum();
        assert_eq!(origins.iter().filter(|origin| origin.contains(".rs: ")).count(), declared);
        for part in &parts {
            assert!(!part.sql.contains("@MODULE_PATHNAME@"), "{}", part.origin);
        }
    }
}
