//! Counts of passed and failed, read from what each runner prints, and how long each part took.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::step;

/// How many tests passed and failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    /// What ran, for the summary.
    parts: Vec<Part>,
    /// What tests that failed said last.
    words: Vec<String>,
}

/// A line of the summary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Part {
    what: String,
    passed: u64,
    failed: u64,
    took: Duration,
    words: Vec<String>,
}

impl Tally {
    fn of(passed: u64, failed: u64) -> Self {
        Self { passed, failed, ..Self::default() }
    }

    /// A program that passes or fails as a whole.
    pub(crate) fn check(&mut self, what: &str, command: &mut Command) {
        self.attempt(what, || step::run(command));
    }

    /// A step that passes or fails as a whole. Returns whether it passed.
    pub(crate) fn attempt(&mut self, what: &str, step: impl FnOnce() -> Result<()>) -> bool {
        self.include(what, || step().map(|()| Self::of(1, 0)))
    }

    /// A runner of many tests. Returns whether all passed.
    pub(crate) fn include(&mut self, what: &str, runner: impl FnOnce() -> Result<Self>) -> bool {
        step::announce(what);
        let begun = Instant::now();
        let result = runner();
        self.put(what, result, begun.elapsed())
    }

    /// What a runner came to. Returns whether all passed.
    pub(crate) fn put(&mut self, what: &str, result: Result<Self>, took: Duration) -> bool {
        let tally = result.unwrap_or_else(|error| {
            println!("{what} failed: {error:#}");
            Self::of(0, 1)
        });
        self.add(what, &tally, took);
        tally.failed == 0
    }

    /// What another run has counted, part by part.
    pub(crate) fn merge(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.parts.extend(other.parts);
    }

    fn add(&mut self, what: &str, tally: &Self, took: Duration) {
        self.passed += tally.passed;
        self.failed += tally.failed;
        let what = what.to_owned();
        let words = if tally.failed > 0 { tally.words.clone() } else { Vec::new() };
        self.parts.push(Part { what, passed: tally.passed, failed: tally.failed, took, words });
    }

    /// The summary: each part with its time, then what failed and why. The last line is what CI reads, and often only the
    /// end of the output is kept.
    pub(crate) fn print(&self) {
        println!("\n{}", self.summary(step::running()));
    }

    fn summary(&self, all: Duration) -> String {
        let mut lines: Vec<String> = self
            .parts
            .iter()
            .map(|part| {
                let (what, took) = (&part.what, step::duration(part.took));
                format!("{took:>13}  {:>6} of {:<6} {what}", part.passed, part.passed + part.failed)
            })
            .collect();
        // Less than their sum if some ran beside each other.
        lines.push(format!("{:>13}  in all", step::duration(all)));
        for part in self.parts.iter().filter(|part| part.failed > 0) {
            lines.push(format!("FAILED: {}: {} failed", part.what, part.failed));
            lines.extend(part.words.iter().map(|line| format!("  {line}")));
        }
        lines.push(format!("{} passed, {} failed", self.passed, self.failed));
        lines.join("\n")
    }

    /// Zero only if something ran and all of it passed.
    pub(crate) fn exit_code(&self) -> ExitCode {
        if self.failed == 0 && self.passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// Runs a test runner with its output shown and adds up what `read` finds in its
/// lines. A runner that fails without a count, or succeeds without a test, counts
/// as one failure.
pub(crate) fn watch(command: &mut Command, read: fn(&str) -> Option<Tally>) -> Result<Tally> {
    let mut count = Count { read, sum: Tally::default(), panics: Panics::default() };
    let succeeded = step::stream(command, |line| count.line(line))?;
    count.result(succeeded, command)
}

/// The same, with the output in a file.
pub(crate) fn watch_quietly(
    command: &mut Command,
    log: &Path,
    read: fn(&str) -> Option<Tally>,
) -> Result<Tally> {
    let mut count = Count { read, sum: Tally::default(), panics: Panics::default() };
    let status = step::log_to(log, command)?;
    String::from_utf8_lossy(&std::fs::read(log)?).lines().for_each(|line| count.line(line));
    count.result(status.success(), command)
}

/// What is found in the lines of a runner.
struct Count {
    read: fn(&str) -> Option<Tally>,
    sum: Tally,
    panics: Panics,
}

impl Count {
    fn line(&mut self, line: &str) {
        self.panics.read(line);
        if let Some(tally) = (self.read)(line) {
            self.sum.passed += tally.passed;
            self.sum.failed += tally.failed;
        }
    }

    fn result(self, succeeded: bool, command: &Command) -> Result<Tally> {
        let Self { mut sum, panics, .. } = self;
        if !succeeded && sum.failed == 0 {
            anyhow::bail!("`{}` failed before it reported a count", step::show(command));
        }
        anyhow::ensure!(sum.passed + sum.failed > 0, "`{}` ran no test", step::show(command));
        sum.words = panics.lines;
        Ok(sum)
    }
}

/// What the panics of Rust's tests say: the first lines of each.
#[derive(Default)]
struct Panics {
    lines: Vec<String>,
    /// Lines of the current panic that are still wanted.
    wanted: usize,
}

impl Panics {
    /// Lines of one panic, and of all of a runner, that the summary repeats.
    const LINES_MAX: (usize, usize) = (6, 60);

    fn read(&mut self, line: &str) {
        if line.starts_with("thread '") && line.contains(" panicked at ") {
            self.wanted = Self::LINES_MAX.0;
        }
        if self.wanted > 0 && self.lines.len() < Self::LINES_MAX.1 {
            self.wanted -= 1;
            self.lines.push(line.chars().take(500).collect());
        }
    }
}

/// `test result: ok. 3 passed; 0 failed; …`
pub(crate) fn libtest(line: &str) -> Option<Tally> {
    let counts = line.strip_prefix("test result: ")?;
    Some(Tally::of(number_before(counts, " passed")?, number_before(counts, " failed")?))
}

/// `All 12 tests passed.` or `2 of 12 tests failed.` up to Postgres 15. From 16 on each test has a line of TAP, `ok 1` or
/// `not ok 2`; the summary is a comment then, and goes to standard error if it is a bad one.
pub(crate) fn pg_regress(line: &str) -> Option<Tally> {
    if line.starts_with("ok ") {
        return Some(Tally::of(1, 0));
    }
    if line.starts_with("not ok ") {
        return Some(Tally::of(0, 1));
    }
    let line = line.trim_start();
    if let Some(rest) = line.strip_prefix("All ") {
        return Some(Tally::of(number_before(rest, " test")?, 0));
    }
    let failed = number_before(line, " of ")?;
    let all = number_before(line, " tests failed").filter(|_| !line.starts_with('#'))?;
    Some(Tally::of(all.checked_sub(failed)?, failed))
}

/// `ℹ pass 4` and `ℹ fail 0`, each on a line; cancelled tests failed too.
pub(crate) fn node(line: &str) -> Option<Tally> {
    let mut words = line.split_whitespace();
    if !matches!(words.next()?, "ℹ" | "#") {
        return None;
    }
    let word = words.next()?;
    let count = words.next()?.parse().ok()?;
    if words.next().is_some() {
        return None;
    }
    match word {
        "pass" => Some(Tally::of(count, 0)),
        "fail" | "cancelled" => Some(Tally::of(0, count)),
        _ => None,
    }
}

/// ` 4 pass` and ` 0 fail`, each on a line.
pub(crate) fn bun(line: &str) -> Option<Tally> {
    let (count, word) = line.trim().split_once(' ')?;
    let count = count.parse().ok()?;
    match word {
        "pass" => Some(Tally::of(count, 0)),
        "fail" => Some(Tally::of(0, count)),
        _ => None,
    }
}

/// `ok | 4 passed | 0 failed (2s)`
pub(crate) fn deno(line: &str) -> Option<Tally> {
    let counts = line.strip_prefix("ok | ").or_else(|| line.strip_prefix("FAILED | "))?;
    Some(Tally::of(number_before(counts, " passed")?, number_before(counts, " failed")?))
}

/// `12 passed, 0 failed`: our own last line, of a run inside another.
pub(crate) fn xtask(line: &str) -> Option<Tally> {
    let (passed, failed) = line.strip_suffix(" failed")?.split_once(" passed, ")?;
    Some(Tally::of(passed.parse().ok()?, failed.parse().ok()?))
}

/// The number that stands right before `text`.
fn number_before(line: &str, text: &str) -> Option<u64> {
    let before = &line[..line.find(text)?];
    before.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(read: fn(&str) -> Option<Tally>, line: &str, counts: Option<(u64, u64)>) {
        let wanted = counts.map(|(passed, failed)| Tally::of(passed, failed));
        assert_eq!(read(line), wanted, "{line}");
    }

    #[test]
    fn the_rust_runner_is_understood() {
        let line = "test result: FAILED. 10 passed; 2 failed; 0 ignored; 0 measured; 3 filtered out";
        check(libtest, line, Some((10, 2)));
        check(libtest, "test a::b ... ok", None);
    }

    #[test]
    fn both_forms_of_pg_regress_are_understood() {
        check(pg_regress, " All 12 tests passed. ", Some((12, 0)));
        check(pg_regress, " 2 of 12 tests failed. ", Some((10, 2)));
        check(pg_regress, "ok 7         - touch_raises_updated_at       26 ms", Some((1, 0)));
        check(pg_regress, "not ok 61    - touch_raises_updated_at       37 ms", Some((0, 1)));
        check(pg_regress, "# All 12 tests passed.", None);
        check(pg_regress, "# 1 of 12 tests failed.", None);
        check(pg_regress, "test channels   ... ok   12 ms", None);
    }

    #[test]
    fn nodes_summary_is_understood_and_its_other_lines_are_not_counted() {
        check(node, "ℹ pass 4", Some((4, 0)));
        check(node, "ℹ fail 1", Some((0, 1)));
        check(node, "ℹ cancelled 2", Some((0, 2)));
        check(node, "ℹ tests 7", None);
        check(node, "ℹ pass 4 of them", None);
    }

    #[test]
    fn the_runners_of_bun_and_deno_are_understood() {
        check(bun, " 101 pass", Some((101, 0)));
        check(bun, " 2 fail", Some((0, 2)));
        check(bun, " 3 skip", None);
        check(bun, "(pass) 2.119.1 on Bun 1.4.5, 1.0.0: presence: change [12.00ms]", None);
        check(deno, "ok | 101 passed | 0 failed (35s)", Some((101, 0)));
        check(deno, "FAILED | 4 passed | 1 failed | 2 ignored (1s)", Some((4, 1)));
        check(deno, "channels: join ... ok (12ms)", None);
    }

    #[test]
    fn a_run_inside_another_is_counted_by_its_last_line() {
        check(xtask, "68 passed, 1 failed", Some((68, 1)));
        check(xtask, "test result: ok. 3 passed; 0 failed", None);
        check(xtask, "FAILED: pg_regress: 1 failed", None);
    }

    #[test]
    fn the_summary_has_parts_with_times_then_failures_and_ends_with_the_count() {
        let mut tally = Tally::default();
        tally.add("unit", &Tally::of(12, 0), Duration::from_secs(75));
        tally.add("lints", &Tally::of(0, 1), Duration::from_secs(3));
        let summary = tally.summary(Duration::from_secs(78));
        assert_eq!(
            summary,
            "   1 min 15 s      12 of 12     unit
        3.0 s       0 of 1      lints
   1 min 18 s  in all
FAILED: lints: 1 failed
12 passed, 1 failed"
        );
        // A run inside another is counted once: by its last line.
        let counted: Vec<Tally> = summary.lines().filter_map(xtask).collect();
        assert_eq!(counted, [Tally::of(12, 1)]);
    }

    #[test]
    fn the_summary_repeats_what_panics_said() {
        let mut panics = Panics::default();
        let output = "test a ... FAILED
---- a stdout ----
thread 'a' (4711) panicked at tests/e2e/scene.rs:62:9:
drop table: no event came
1
2
3
4
5";
        output.lines().for_each(|line| panics.read(line));
        let failed = Tally { words: panics.lines, ..Tally::of(0, 1) };
        let mut tally = Tally::default();
        tally.add("e2e", &failed, Duration::from_secs(1));
        let summary = tally.summary(Duration::from_secs(1));
        let end = "FAILED: e2e: 1 failed
  thread 'a' (4711) panicked at tests/e2e/scene.rs:62:9:
  drop table: no event came
  1
  2
  3
  4
0 passed, 1 failed";
        assert!(summary.ends_with(end), "{summary}");
    }

    #[test]
    fn what_another_run_has_counted_is_added_with_its_parts() {
        let mut other = Tally::default();
        other.add(
            "e2e",
            &Tally { words: vec!["why".to_owned()], ..Tally::of(3, 1) },
            Duration::from_millis(2500),
        );
        let json = serde_json::to_vec(&other).unwrap();
        let mut tally = Tally::default();
        tally.add("unit", &Tally::of(1, 0), Duration::from_secs(1));
        tally.merge(serde_json::from_slice(&json).unwrap());
        let summary = tally.summary(Duration::from_secs(3));
        let end = "        3.0 s  in all\nFAILED: e2e: 1 failed\n  why\n4 passed, 1 failed";
        assert!(summary.ends_with(end), "{summary}");
    }

    #[test]
    fn a_run_without_a_test_is_no_success() {
        assert_eq!(Tally::default().exit_code(), ExitCode::FAILURE);
    }
}
