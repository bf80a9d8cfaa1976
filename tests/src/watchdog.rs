//! Cleans up after a test run that was interrupted or killed: destructors do not
//! run then, and a Postgres that nobody stops would stay for ever.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// A shell that waits for the end of a pipe which only this process holds open,
/// and then runs `script`. Whatever ends this process also closes the pipe.
pub struct Watchdog(Child);

impl Watchdog {
    /// `script` sees `arguments` as `$1`, `$2`, … so that nothing needs quoting.
    pub fn start(script: &str, arguments: &[&str]) -> std::io::Result<Self> {
        let child = Command::new("sh")
            .arg("-c")
            .arg(format!("while read -r _; do :; done; {script}"))
            .arg("watchdog")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A group of its own: Ctrl-C must reach us, not the one who tidies up.
            .process_group(0)
            .spawn()?;
        Ok(Self(child))
    }
}

impl Drop for Watchdog {
    /// Whoever drops the watchdog has cleaned up already.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
