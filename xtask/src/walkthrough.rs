//! docs/own-tables.md, block by block, as somebody does who follows it: the SQL by psql, a relay, the shop's own server, and
//! its page, in Node or in Chromium. What the page says each block leads to is what comes.
//!
//! | block | what is done |
//! |---|---|
//! | `sql` | run, as superuser |
//! | `js`, `html` | written to the file that its first line names |
//! | `console` | `campfire-relay run` and `node server.js` are started, and then the page is opened |
//! | `text` | what was said last: by psql, if it ends in a count of rows or begins with a notice, else by the page |

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use campfire_tests::cluster::{Cluster, Options};
use campfire_tests::relay::{Relay, Settings};
use campfire_tests::seed::{RELAY_ROLE, Seed};
use campfire_tests::server::Server;
use campfire_tests::{layout, port};

use crate::node::{self, Node};
use crate::{clients, step, system, up};

const PAGE: &str = "docs/own-tables.md";

/// Its database.
const DATABASE: &str = "shop";

/// What its files have in place of what differs from one machine to the next.
const RELAY_ADDRESS: &str = "127.0.0.1:8080";
const SHOP_PORT: &str = "3000";
const API_KEY: &str = "KEY_OF_THE_PAGE";
const RELAY_PASSWORD: &str = "PASSWORD_OF_THE_RELAY";

/// How long a line may take: it finds only what hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// What opens the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Browser {
    /// The page's script, without a page.
    Node,
    Chromium,
}

#[derive(Debug, PartialEq, Eq)]
struct Block<'a> {
    language: &'a str,
    text: &'a str,
    /// Where it begins.
    line: usize,
}

/// The blocks in fences, in their order.
fn blocks(page: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut open: Option<(&str, usize, usize)> = None;
    let mut offset = 0;
    for (number, line) in page.split_inclusive('\n').enumerate() {
        let start = offset;
        offset += line.len();
        let Some(language) = line.strip_prefix("```") else { continue };
        match open.take() {
            None => open = Some((language.trim(), number + 2, offset)),
            Some((language, line, from)) => {
                let text = page[from..start].trim_end_matches('\n');
                blocks.push(Block { language, text, line });
            }
        }
    }
    blocks
}

/// Does all that the page says.
pub(crate) fn follow(server: &Server, browser: Browser) -> Result<()> {
    let page = std::fs::read_to_string(layout::repository().join(PAGE)).context(PAGE)?;
    let node = node::ensure()?;
    if browser == Browser::Chromium {
        node.ensure_packages("tests/browser")?;
    }
    let version = Some(server.version);
    let cluster = Cluster::boot_with(Options { seed: Seed::Bare, version, ..Options::default() })?;
    cluster.psql("postgres", &format!("create database {DATABASE}"))?;
    up::block_on(async {
        let mut walker = Walker::new(&cluster, &node, browser)?;
        for block in blocks(&page) {
            let line = block.line;
            if let Err(error) = walker.follow(&block).await {
                let log = walker.relay.as_ref().map(Relay::log).unwrap_or_default();
                for line in log.iter().filter(|line| line.contains("WARN") || line.contains("ERROR")) {
                    eprintln!("the relay's log: {line}");
                }
                return Err(error.context(format!("{PAGE}:{line}")));
            }
        }
        ensure!(walker.lines.is_some(), "{PAGE} opens no page");
        Ok(())
    })
}

struct Walker<'a> {
    cluster: &'a Cluster,
    node: &'a Node,
    browser: Browser,
    /// Where the shop's files are.
    dir: PathBuf,
    settings: Settings,
    shop_port: u16,
    relay: Option<Relay>,
    shop: Option<Ended>,
    viewer: Option<Ended>,
    /// What the page shows.
    lines: Option<Receiver<String>>,
    /// What psql said last: results, and notices.
    said: (String, String),
}

/// Ends with the walk.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl<'a> Walker<'a> {
    fn new(cluster: &'a Cluster, node: &'a Node, browser: Browser) -> Result<Self> {
        // One walk may begin while the other is on its way.
        let dir = layout::target().join("walkthrough").join(match browser {
            Browser::Node => "node",
            Browser::Chromium => "chromium",
        });
        let _ = std::fs::remove_dir_all(&dir);
        let packages = dir.join("node_modules");
        std::fs::create_dir_all(&packages)?;
        let repository = layout::repository();
        symlink(repository.join("tests/clients/node_modules/@supabase"), packages.join("@supabase"))?;
        symlink(repository.join("tests/clients/node_modules/ws"), packages.join("ws"))?;
        symlink(repository.join(clients::HELPER), packages.join("campfire-client"))?;
        // Modules, as npm init makes it with type=module.
        std::fs::write(dir.join("package.json"), r#"{"type": "module"}"#)?;
        // Node 20 has no WebSocket of its own.
        std::fs::write(dir.join("websocket.js"), "import ws from 'ws'\nglobalThis.WebSocket ??= ws\n")?;
        let url = cluster.url(RELAY_ROLE, &cluster.credentials.relay_password, DATABASE);
        Ok(Self {
            settings: Settings::of(cluster)?.env("CAMPFIRE_DATABASE_URL", &url),
            cluster,
            node,
            browser,
            dir,
            shop_port: port::reserve()?,
            relay: None,
            shop: None,
            viewer: None,
            lines: None,
            said: Default::default(),
        })
    }

    async fn follow(&mut self, block: &Block<'_>) -> Result<()> {
        match block.language {
            "sql" => self.psql(block.text),
            "js" | "html" => self.write(block.text),
            "console" => self.console(block.text).await,
            "text" => self.expect(block.text),
            other => bail!("a block is sql, js, html, console or text, and not {other:?}"),
        }
    }

    /// With what differs from one machine to the next.
    fn filled(&self, text: &str) -> String {
        let credentials = &self.cluster.credentials;
        text.replace(RELAY_ADDRESS, &format!("127.0.0.1:{}", self.settings.port))
            .replace(SHOP_PORT, &self.shop_port.to_string())
            .replace(API_KEY, &credentials.api_key)
            .replace(RELAY_PASSWORD, &credentials.relay_password)
    }

    /// Statement by statement, as somebody pastes them.
    fn psql(&mut self, script: &str) -> Result<()> {
        let path = self.dir.join("statements.sql");
        std::fs::write(&path, self.filled(script))?;
        let mut command = Command::new(self.cluster.server.program("psql"));
        command.args([
            "-X",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "-d",
            &self.cluster.superuser_url(DATABASE),
            "-f",
        ]);
        let output = command.arg(&path).output().context("psql")?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        // psql:FILE:LINE: NOTICE: …
        let prefix = format!("psql:{}:", path.display());
        let notices = String::from_utf8_lossy(&output.stderr);
        let notices = notices.lines().map(|line| match line.strip_prefix(&prefix) {
            Some(rest) => rest.split_once(": ").map_or(rest, |(_, message)| message),
            None => line,
        });
        let notices = notices.collect::<Vec<_>>().join("\n");
        ensure!(output.status.success(), "{notices}");
        self.said = (printed, notices);
        Ok(())
    }

    fn write(&self, text: &str) -> Result<()> {
        let (first, _) = text.split_once('\n').context("the block is empty")?;
        let name =
            first.split([' ', '/', ':']).find(|word| word.contains('.')).context("no file is named")?;
        Ok(std::fs::write(self.dir.join(name), self.filled(text))?)
    }

    async fn console(&mut self, text: &str) -> Result<()> {
        if text.contains("campfire-relay run") {
            self.relay = Some(self.settings.clone().start().await?);
        }
        if text.contains("node server.js") {
            let mut command = self.node_in_shop();
            command.arg("server.js").env("CAMPFIRE_JWT_SECRET", &self.cluster.credentials.jwt_secret);
            self.shop = Some(Ended(command.stdin(Stdio::null()).spawn().context("server.js")?));
            self.open_page()?;
        }
        Ok(())
    }

    fn node_in_shop(&self) -> Command {
        let mut command = self.node.command(".");
        command.current_dir(&self.dir);
        command
    }

    fn open_page(&mut self) -> Result<()> {
        let mut command = match self.browser {
            Browser::Node => {
                let mut command = self.node_in_shop();
                command.args(["--import", "./websocket.js", "orders.js"]);
                command
            }
            Browser::Chromium => {
                let chromium =
                    system::browser().context("there is no Chromium: install the package chromium")?;
                let mut command = self.node.command("tests/browser");
                command.args(["console.js", &format!("http://127.0.0.1:{}/", self.shop_port)]);
                command.env("CAMPFIRE_CHROMIUM", chromium);
                command
            }
        };
        let mut viewer = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("the page")?;
        let stdout = viewer.stdout.take().context("what the page shows")?;
        self.viewer = Some(Ended(viewer));
        self.lines = Some(lines(stdout));
        Ok(())
    }

    fn expect(&self, text: &str) -> Result<()> {
        let is_result =
            text.lines().last().is_some_and(|line| line.ends_with(" rows)") || line.ends_with(" row)"));
        let is_notice = text.starts_with("NOTICE:") || text.starts_with("WARNING:");
        if is_result || is_notice {
            let said = if is_result { &self.said.0 } else { &self.said.1 };
            let trimmed = |text: &str| text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
            let (said, expected) = (trimmed(said), trimmed(text));
            ensure!(said.trim_end() == expected.trim_end(), "psql said:\n{said}");
            return Ok(());
        }
        let lines = self.lines.as_ref().context("no page is open")?;
        // Two channels have no order between them.
        let mut expected: Vec<&str> = text.lines().collect();
        while !expected.is_empty() {
            match lines.recv_timeout(PATIENCE) {
                Ok(shown) => match expected.iter().position(|line| *line == shown) {
                    Some(index) => drop(expected.remove(index)),
                    None => bail!("the page shows {shown:?}, and not one of {expected:?}"),
                },
                Err(RecvTimeoutError::Timeout) => bail!("the page does not show {expected:?}"),
                Err(RecvTimeoutError::Disconnected) => bail!("the page ended before {expected:?}"),
            }
        }
        Ok(())
    }
}

/// The lines of a program, as they come; they are shown as well.
fn lines(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            step::announce(&format!("the page shows: {line}"));
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_those_of_the_page_with_their_lines() {
        let page = "# T\n\n```sql\nselect 1;\n```\n\ntext\n\n```text\na\n\nb\n```\n```js\n// x.js\n```\n";
        let block = |language, text, line| Block { language, text, line };
        let expected =
            [block("sql", "select 1;", 4), block("text", "a\n\nb", 10), block("js", "// x.js", 15)];
        assert_eq!(blocks(page), expected);
    }
}
