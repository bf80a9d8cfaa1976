//! What people wait for: from the commit of a message to the pixels of the widget and of the dashboard, and from a key to
//! one's own bubble; the sizes of what pages fetch.
//!
//! The floor is an unmodified client in Node, which has the same message without a page around it.

use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use campfire_tests::cluster::{Cluster, Options};
use campfire_tests::relay::Settings;
use campfire_tests::server::Server;
use serde_json::Value;

use crate::{clients, node, step, system, up};

/// Runs the scenario once.
pub(super) fn measure(server: &Server, relay: &Path) -> Result<Value> {
    let node = node::ensure()?;
    for dir in [clients::CLIENTS, clients::BROWSER] {
        node.ensure_packages(dir)?;
    }
    let chromium = system::browser().context("there is no Chromium: install the package chromium")?;
    let cluster = Cluster::boot_with(Options { version: Some(server.version), ..Options::default() })?;
    up::block_on(async {
        let settings = Settings::of(&cluster)?.binary(relay).env("CAMPFIRE_LOG", "error");
        let relay = settings.env("CAMPFIRE_DASHBOARD", "on").start().await?;
        let mut command = node.command(clients::BROWSER);
        command.arg("bench.js").env("CAMPFIRE_CHROMIUM", chromium);
        clients::environment(&mut command, server, &cluster, &relay);
        let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
        ensure!(output.status.success(), "`{}` failed ({})", step::show(&command), output.status);
        let text = String::from_utf8(output.stdout)?;
        serde_json::from_str(text.trim()).with_context(|| format!("it printed {text}"))
    })
}
