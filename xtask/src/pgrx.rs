//! Whether the script that [`script`] puts together is the one that pgrx's own tool makes of the compiled extension:
//! the same SQL, in an order that `requires` allows. For `cargo xtask test all`; nobody else needs that tool.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use campfire_tests::layout;
use campfire_tests::server::Server;

use crate::{install, script, step, tool};

/// Must be the version of `pgrx` in extension/Cargo.toml, to the last digit.
const VERSION: &str = "0.18.1";

/// Fails if the scripts differ.
pub(crate) fn check_script(server: &Server) -> Result<()> {
    let program = tool::ensure("cargo-pgrx", VERSION)?;
    let out = layout::target().join("extension/pgrx.sql");
    step::run(
        step::command(program)
            .args(["pgrx", "schema", "--no-default-features"])
            .args(["--features", &format!("pg{}", server.version)])
            .arg("--pg-config")
            .arg(server.program("pg_config"))
            .arg("--out")
            .arg(&out)
            .current_dir(layout::repository().join("extension"))
            .envs(install::environment(server)?)
            // Its flags for the linker are not those of other builds, which would compile all dependencies again.
            .env("CARGO_TARGET_DIR", layout::target().join("extension/pgrx")),
    )?;
    let theirs = std::fs::read_to_string(&out).with_context(|| out.display().to_string())?;
    compare(&script::parts()?, &theirs)
        .context("`cargo pgrx schema` makes another script than `cargo xtask install`")
}

/// Every part of ours is in theirs, each after what it requires, and nothing else is.
fn compare(ours: &[script::Part], theirs: &str) -> Result<()> {
    let mut rest = theirs.to_owned();
    let mut places = HashMap::new();
    for part in ours {
        let at = theirs.find(part.sql.trim()).with_context(|| format!("it lacks {}", part.origin))?;
        for required in &part.requires {
            let is_before = places.get(required.as_str()).is_some_and(|place| *place < at);
            ensure!(is_before, "it has {} before {required}", part.origin);
        }
        places.insert(part.name.as_str(), at);
        rest = rest.replacen(part.sql.trim(), "", 1);
    }
    let mut in_comment = false;
    for line in rest.lines().map(str::trim) {
        let is_comment = in_comment || line.starts_with("/*") || line.starts_with("--");
        in_comment = (in_comment || line.starts_with("/*")) && !line.ends_with("*/");
        ensure!(is_comment || line.is_empty(), "it also has: {line}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> Vec<script::Part> {
        let part = |origin: &str, name: &str, requires: &[&str], sql: &str| script::Part {
            origin: origin.to_owned(),
            name: name.to_owned(),
            requires: requires.iter().map(|name| (*name).to_owned()).collect(),
            sql: sql.to_owned(),
        };
        vec![
            part("sql/a.sql", "a", &[], "create schema a;\n"),
            part("f.rs: f", "f", &[], "create function f();"),
            part("sql/b.sql", "b", &["a"], "-- b\nselect 1;"),
        ]
    }

    #[test]
    fn comments_and_the_place_of_what_nothing_requires_make_no_difference() {
        let theirs = "/* <begin> */\n/*\nby pgrx.\n*/\n\n-- sql/a\ncreate schema a;\n\n-- b\nselect 1;\n/* </end> */\ncreate function f();\n";
        compare(&parts(), theirs).unwrap();
    }

    #[test]
    fn other_sql_and_another_order_do() {
        for (theirs, error) in [
            ("create schema a;\n-- b\nselect 1;\n", "it lacks f.rs: f"),
            (
                "create schema a;\ncreate function f();\n-- b\nselect 1;\ncreate type t;",
                "it also has: create type t;",
            ),
            ("-- b\nselect 1;\ncreate schema a;\ncreate function f();", "it has sql/b.sql before a"),
            (
                "create schema a;\ncreate function f();\ncreate function f();\n-- b\nselect 1;",
                "it also has: create function f();",
            ),
        ] {
            assert_eq!(compare(&parts(), theirs).unwrap_err().to_string(), error);
        }
    }
}
