//! A Postgres with scripts of the extension that nobody else sees. Its extension directory is the whole machine's, and
//! Postgres looks for it beside its own programs: so these are copied, and everything else is linked to.

use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result};

use super::Server;
use crate::extension;

/// Programs that look for their files where they lie themselves, wherever a link to them is.
const COPIED: [&str; 2] = ["postgres", "pg_ctl"];

impl Server {
    /// This server below `root`, with `scripts` beside those that are installed: names of files, and what is in them.
    pub fn with_scripts(&self, root: &Path, scripts: &[(String, String)]) -> Result<Self> {
        let below = |dir: &Path| root.join(dir.strip_prefix("/").unwrap_or(dir));
        let server = Self {
            bin: below(&self.bin),
            extension_dir: below(&self.extension_dir),
            library_dir: below(&self.library_dir),
            ..self.clone()
        };
        // First: what is there gets no link, by which the machine's own would be written.
        std::fs::create_dir_all(&server.extension_dir)?;
        for (name, script) in scripts {
            let path = server.extension_dir.join(name);
            std::fs::write(&path, script).with_context(|| path.display().to_string())?;
        }
        link_entries(&self.extension_dir, &server.extension_dir)?;
        link_entries(&self.library_dir, &server.library_dir)?;
        link_entries(&self.bin, &server.bin)?;
        if let (Some(from), Some(to)) = (self.extension_dir.parent(), server.extension_dir.parent()) {
            link_entries(from, to)?;
        }
        for program in COPIED {
            let (from, to) = (self.bin.join(program), server.bin.join(program));
            std::fs::remove_file(&to).with_context(|| to.display().to_string())?;
            std::fs::copy(&from, &to).with_context(|| from.display().to_string())?;
        }
        for (name, _) in scripts {
            server.give_library(name)?;
        }
        Ok(server)
    }

    /// Gives a version the library that is installed, under the name that its script says.
    fn give_library(&self, script: &str) -> Result<()> {
        let Some(version) = extension::version_of(script) else { return Ok(()) };
        let library = self.library_dir.join(format!("campfire-{version}.so"));
        if !library.exists() {
            symlink("campfire.so", &library).with_context(|| library.display().to_string())?;
        }
        Ok(())
    }
}

/// Links in `to` for all that is in `from` and not there yet.
fn link_entries(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| to.display().to_string())?;
    for entry in std::fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let link = to.join(entry.file_name());
        if !link.exists() {
            symlink(entry.path(), &link).with_context(|| link.display().to_string())?;
        }
    }
    Ok(())
}
