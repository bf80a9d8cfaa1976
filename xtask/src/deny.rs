//! cargo-deny: licences, origins and bans of dependencies, by deny.toml.

use anyhow::Result;

use crate::{step, tool};

/// Of cargo-deny.
const VERSION: &str = "0.20.2";

/// Fails if a dependency is one that deny.toml does not let in. Advisories are left out: deny.toml says why.
pub(crate) fn check() -> Result<()> {
    let program = tool::ensure("cargo-deny", VERSION)?;
    step::run(step::command(program).args([
        "--workspace",
        "--locked",
        "check",
        "--hide-inclusion-graph",
        "licenses",
        "bans",
        "sources",
    ]))
}
