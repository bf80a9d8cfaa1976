use std::path::PathBuf;

use uuid::Uuid;

use super::*;

const CHANGELOG: &str = "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- Everything.\n";

/// A repository that goes with the value.
struct Repository(PathBuf);

impl Repository {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("campfire-release-{}", Uuid::new_v4().simple()));
        std::fs::create_dir_all(&dir).unwrap();
        let repository = Self(dir);
        repository.git(&["init", "--quiet"]);
        for (name, value) in [
            ("user.name", "Ada"),
            ("user.email", "ada@example.com"),
            ("commit.gpgsign", "false"),
            ("tag.gpgsign", "false"),
        ] {
            repository.git(&["config", name, value]);
        }
        repository.set_version("0.1.0");
        repository.write("CHANGELOG.md", CHANGELOG);
        repository.commit();
        repository
    }

    fn git(&self, arguments: &[&str]) -> String {
        Git(&self.0).run(arguments).unwrap()
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.0.join(path)).unwrap()
    }

    fn set_version(&self, version: &str) {
        self.write("Cargo.toml", &format!("[workspace.package]\nversion = \"{version}\"\n"));
    }

    fn commit(&self) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", "work"]);
    }

    fn release<'a>(&'a self, version: &'a str, script: &str) -> Release<'a> {
        let (script, date) = (script.to_owned(), "2026-02-03".to_owned());
        Release { repository: &self.0, version, script, date }
    }

    fn problems(&self, version: &str, script: &str) -> Vec<String> {
        let mut problems = Vec::new();
        self.release(version, script).plan(&mut problems).unwrap();
        problems
    }

    /// Releases a version that has no problems.
    fn make(&self, version: &str, script: &str) {
        let mut problems = Vec::new();
        let release = self.release(version, script);
        let plan = release.plan(&mut problems).unwrap();
        assert_eq!(problems, Vec::<String>::new());
        release.make(&plan.unwrap()).unwrap();
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_release_freezes_the_script_and_cuts_the_changelog_at_a_tag() {
    let repository = Repository::new();
    repository.make("0.1.0", "create schema campfire;\n");
    assert_eq!(repository.git(&["status", "--porcelain"]), "");
    assert_eq!(
        repository.git(&["show", "v0.1.0:extension/sql/campfire--0.1.0.sql"]),
        "create schema campfire;\n"
    );
    assert!(repository.read("CHANGELOG.md").contains("## [Unreleased]\n\n## [0.1.0] - 2026-02-03\n"));
    assert_eq!(
        frozen::check(&repository.0, "0.1.0", "create schema campfire;\n").unwrap(),
        "1 scripts of 1 tags are as they were released"
    );
}

#[test]
fn what_forbids_a_release_is_said_all_at_once() {
    let repository = Repository::new();
    repository.make("0.1.0", "create schema campfire;\n");
    repository.write("web/package.json", "{\"version\": \"0.0.9\"}");
    repository.git(&["add", "--all"]);
    let problems = repository.problems("0.1.0", "create schema campfire;\n");
    let told = |start: &str| problems.iter().any(|problem| problem.starts_with(start));
    assert!(told("the working tree is not clean"), "{problems:?}");
    assert!(told("tag v0.1.0 exists"), "{problems:?}");
    assert!(told("web/package.json has version 0.0.9, and Cargo.toml 0.1.0"), "{problems:?}");
    assert_eq!(problems.len(), 3, "{problems:?}");
}

#[test]
fn a_version_needs_an_update_from_each_before_it() {
    let repository = Repository::new();
    repository.make("0.1.0", "create schema campfire;\n");
    repository.set_version("0.3.0");
    repository.write("CHANGELOG.md", CHANGELOG);
    repository.commit();
    let problems = repository.problems("0.3.0", "create schema campfire; -- 3\n");
    assert_eq!(
        problems,
        ["no update leads from 0.1.0 to it: write the script, extension/sql/campfire--0.1.0--0.3.0.sql"]
    );
    // One may lead over another version.
    repository.write("extension/sql/campfire--0.1.0--0.2.0.sql", "select 2;\n");
    repository.write("extension/sql/campfire--0.2.0--0.3.0.sql", "select 3;\n");
    repository.commit();
    repository.make("0.3.0", "create schema campfire; -- 3\n");
}

#[test]
fn edits_of_released_scripts_are_refused() {
    let repository = Repository::new();
    let script = "create schema campfire;\n";
    repository.make("0.1.0", script);
    let path = "extension/sql/campfire--0.1.0.sql";

    // By way of sql/, of the version that is released.
    let error = frozen::check(&repository.0, "0.1.0", "create schema other;\n").unwrap_err().to_string();
    assert!(error.contains(path) && error.contains("set the next version in Cargo.toml"), "{error}");

    // Of the file itself, committed or not.
    repository.write(path, "create schema other;\n");
    let advice = "`git checkout v0.1.0 -- extension/sql/campfire--0.1.0.sql`";
    let refused = || {
        let error = frozen::check(&repository.0, "0.2.0", script).unwrap_err().to_string();
        assert!(error.contains(&format!("{path} is not as tag v0.1.0 holds it: {advice}")), "{error}");
    };
    refused();
    repository.commit();
    refused();
    std::fs::remove_file(repository.0.join(path)).unwrap();
    let error = frozen::check(&repository.0, "0.2.0", script).unwrap_err().to_string();
    assert!(error.contains(&format!("{path} is gone, and tag v0.1.0 holds it: {advice}")), "{error}");

    // As it says.
    repository.git(&["checkout", "--quiet", "v0.1.0", "--", path]);
    frozen::check(&repository.0, "0.2.0", script).unwrap();
}

#[test]
fn without_tags_or_history_there_is_nothing_to_compare_and_that_is_said() {
    let repository = Repository::new();
    repository.make("0.1.0", "create schema campfire;\n");
    // As CI clones.
    let clone = Repository(repository.0.with_extension("clone"));
    let url = format!("file://{}", repository.0.display());
    repository.git(&["clone", "--quiet", "--depth=1", "--no-tags", &url, clone.0.to_str().unwrap()]);
    let said = frozen::check(&clone.0, "0.1.0", "create schema campfire;\n").unwrap();
    assert!(said.starts_with("this clone has no tags"), "{said}");

    std::fs::remove_dir_all(clone.0.join(".git")).unwrap();
    let said = frozen::check(&clone.0, "0.1.0", "create schema campfire;\n").unwrap();
    assert!(said.starts_with("no tags to compare scripts with"), "{said}");
}
