//! The changelog's sections, in the form of Keep a Changelog.

use anyhow::{Result, bail, ensure};

const UNRELEASED: &str = "## [Unreleased]";

/// The changelog with a section for this version, cut from what is unreleased; `None` if it has one already, with a date.
pub(super) fn cut(text: &str, version: &str, date: &str) -> Result<Option<String>> {
    let heading = format!("## [{version}]");
    if let Some(line) = text.lines().find(|line| line.starts_with(&heading)) {
        let is_dated = line.strip_prefix(&format!("{heading} - ")).is_some_and(|date| date.starts_with("20"));
        ensure!(is_dated, "CHANGELOG.md has {line:?}, which says no date");
        return Ok(None);
    }
    let Some((before, after)) = text.split_once(UNRELEASED) else {
        bail!("CHANGELOG.md has neither a section [{version}] nor one of what is unreleased");
    };
    let unreleased = after.split("\n## ").next().unwrap_or_default();
    if unreleased.trim().is_empty() {
        bail!("CHANGELOG.md has no section [{version}], and nothing that is unreleased");
    }
    Ok(Some(format!("{before}{UNRELEASED}\n\n## [{version}] - {date}{after}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unreleased_becomes_the_versions() {
        let text = "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- A.\n\n## [0.1.0] - 2026-01-01\n\n- B.\n";
        assert_eq!(
            cut(text, "0.2.0", "2026-02-03").unwrap().unwrap(),
            "# Changelog\n\n## [Unreleased]\n\n## [0.2.0] - 2026-02-03\n\n### Added\n\n- A.\n\n\
             ## [0.1.0] - 2026-01-01\n\n- B.\n"
        );
        assert_eq!(cut(text, "0.1.0", "2026-02-03").unwrap(), None);
    }

    #[test]
    fn a_release_that_changes_nothing_is_refused() {
        for text in [
            "# Changelog\n",
            "## [Unreleased]\n\n## [0.1.0] - 2026-01-01\n\n- B.\n",
            "## [Unreleased]\n\n- A.\n\n## [0.2.0] - unreleased\n\n- B.\n",
        ] {
            assert!(cut(text, "0.2.0", "2026-02-03").is_err(), "{text}");
        }
    }
}
