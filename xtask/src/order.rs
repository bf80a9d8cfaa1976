//! Whether another order of the script's parts makes the same extension. extension/src/lib.rs has one order, and says by
//! `requires` which others would do; pgrx's own tool takes any of them.

use anyhow::{Result, ensure};
use campfire_tests::Cluster;
use campfire_tests::catalog::Catalog;
use campfire_tests::cluster::Options;
use campfire_tests::seed::Seed;
use campfire_tests::server::Server;

use crate::script::{self, Part, VERSION};

/// Fails if the order that is least like ours makes another extension: then `requires` says too little.
pub(crate) fn try_opposite(server: &Server) -> Result<()> {
    let name = "campfire--opposite.sql".to_owned();
    let cluster = Cluster::boot_with(Options {
        seed: Seed::Bare,
        version: Some(server.version),
        scripts: vec![(name, script::join(&opposite(script::parts()?)))],
        ..Options::default()
    })?;
    let make = |version: &str| {
        cluster.psql("postgres", &format!("create database \"{version}\""))?;
        cluster.psql(version, &format!("create extension campfire version '{version}'"))?;
        Catalog::read(&cluster, version)
    };
    let differences = make(VERSION)?.differences(&make("opposite")?);
    ensure!(differences.is_empty(), "another order makes another extension:\n{}", differences.join("\n"));
    Ok(())
}

/// The first part, which makes the schema, and the last, which gives the rights, stay; of the others the last always
/// comes first, once what it requires is there.
fn opposite(mut parts: Vec<Part>) -> Vec<Part> {
    let last = parts.pop();
    let mut turned: Vec<Part> = Vec::new();
    if !parts.is_empty() {
        turned.push(parts.remove(0));
    }
    while !parts.is_empty() {
        let is_there = |name: &String| turned.iter().any(|part| part.name == *name);
        let next = parts.iter().rposition(|part| part.requires.iter().all(is_there));
        turned.push(parts.remove(next.expect("the order was checked")));
    }
    turned.extend(last);
    turned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str, requires: &[&str]) -> Part {
        Part {
            name: name.to_owned(),
            requires: requires.iter().map(|name| (*name).to_owned()).collect(),
            ..Part::default()
        }
    }

    #[test]
    fn the_opposite_order_keeps_to_what_is_required() {
        let parts = vec![
            part("schema", &[]),
            part("a", &[]),
            part("b", &[]),
            part("c", &["a"]),
            part("d", &["c"]),
            part("rights", &[]),
        ];
        let turned = opposite(parts);
        let names: Vec<&str> = turned.iter().map(|part| part.name.as_str()).collect();
        assert_eq!(names, ["schema", "b", "a", "c", "d", "rights"]);
    }
}
