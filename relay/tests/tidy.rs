//! Rules of the tree that the compiler does not know.

#[path = "tidy/arrows.rs"]
mod arrows;
#[path = "tidy/documents.rs"]
mod documents;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use self::arrows::{Arrow, Tree};

// What is still to be mended while the modules are moved.
const UPWARD_YET: usize = 11;
const IN_CIRCLES_YET: usize = 30;

/// The modules of the relay. Each may name those before it, and none behind it.
const ORDER: [&str; 16] = [
    // Known to all.
    "config",
    "metrics",
    // The flow of the data.
    "postgres",
    "wal",
    "decode",
    "route",
    "protocol",
    "auth",
    "fanout",
    "sql",
    "admission",
    "ingest",
    "socket",
    "http",
    // What joins them.
    "cli",
    "app",
];

fn source_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("a folder that can be read").path();
        if path.is_dir() {
            files.extend(source_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The variables of all settings.
fn variables() -> Vec<String> {
    use clap::CommandFactory;

    let command = campfire_relay::cli::Cli::command();
    let run = command.find_subcommand("run").expect("the one subcommand");
    let variables = run.get_arguments().filter_map(|argument| argument.get_env());
    variables.map(|variable| variable.to_string_lossy().into_owned()).collect()
}

/// Decoding, routing and the protocol are functions of bytes: they can be fuzzed, replayed and tested without a
/// runtime, and can not be half-done when a task is cancelled.
#[test]
fn pure_modules_do_no_io() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    for module in ["decode", "route", "protocol"] {
        files.push(source.join(module).with_extension("rs"));
        files.extend(source_files(&source.join(module)));
    }
    for file in files {
        let text = fs::read_to_string(&file).expect("a source file");
        for word in
            ["tokio::", "std::net", "std::fs", "std::env", "SystemTime::now", "Instant::now", ".await"]
        {
            assert!(!text.contains(word), "{} mentions {word}", file.display());
        }
    }
}

/// A change of one module can then only be felt by those behind it in the list, and each can be read and tested without
/// what stands behind it.
#[test]
fn modules_name_only_those_before_them() {
    let tree = Tree::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let place = |module: &str| ORDER.iter().position(|name| *name == module);
    let strangers: Vec<_> = tree.roots().into_iter().filter(|root| place(root).is_none()).collect();
    assert!(strangers.is_empty(), "{strangers:?}: give each its place in ORDER (relay/tests/tidy.rs)");
    let is_upward = |arrow: &&Arrow| place(arrow.root()) < place(arrow.target_root());
    let told: Vec<String> = tree.arrows().iter().filter(is_upward).map(|arrow| {
        let (root, target) = (arrow.root(), arrow.target_root());
        format!(
            "{}:{} names {}, and {target} stands behind {root} in ORDER (relay/tests/tidy.rs): move what {root} needs of it to a module before both, or have app hand it over",
            arrow.file, arrow.line, arrow.path.join("::")
        )
    }).collect();
    assert!(told.len() <= UPWARD_YET, "{} arrows run upward:\n{}", told.len(), told.join("\n"));
}

/// Files that know one another can only be understood, and moved, together.
#[test]
fn no_files_name_one_another_in_a_circle() {
    let tree = Tree::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let circles = arrows::circles(&tree.arrows());
    let files: BTreeSet<&str> = circles.iter().flatten().map(|arrow| arrow.file.as_str()).collect();
    let line = |arrow: &Arrow| {
        let Arrow { file, line, path, target } = arrow;
        format!("  {file}:{line} names {} ({target})", path.join("::"))
    };
    let told: Vec<String> =
        circles.iter().map(|circle| circle.iter().map(line).collect::<Vec<_>>().join("\n")).collect();
    assert!(
        files.len() <= IN_CIRCLES_YET,
        "{} files stand in circles: move what two of them share into a file that names neither, or hand it over as an argument\n{}",
        files.len(),
        told.join("\n\n")
    );
}

/// Frames leave the hub by one way, so that whatever must look at all of them has one place to do it.
#[test]
fn one_file_queues_frames_for_sockets() {
    let fanout = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/fanout");
    let way_out = fanout.join("hub/deliver.rs");
    let is_test = |file: &PathBuf| file.components().any(|part| part.as_os_str() == "tests");
    for file in source_files(&fanout).into_iter().filter(|file| *file != way_out && !is_test(file)) {
        let text = fs::read_to_string(&file).expect("a source file");
        for word in ["outbox.push(", "outbox.offer("] {
            assert!(!text.contains(word), "{} has {word}", file.display());
        }
    }
    let text = fs::read_to_string(&way_out).expect("a source file");
    assert!(text.contains("outbox.push(") && text.contains("outbox.offer("));
}

/// Whoever runs the relay finds every setting in the documentation.
#[test]
fn every_setting_is_documented() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let text: String = fs::read_dir(&docs)
        .expect("the docs")
        .map(|entry| fs::read_to_string(entry.expect("a file").path()).expect("text"))
        .collect();
    let variables = variables();
    assert!(variables.len() > 20, "{variables:?}");
    let missing: Vec<_> =
        variables.iter().filter(|variable| !text.contains(&format!("`{variable}`"))).collect();
    assert!(missing.is_empty(), "not in docs/: {missing:?}");
}

/// What stands in the first code span of a cell, and the cell itself where it has none.
fn code_span(cell: &str) -> &str {
    let fence = &cell[..cell.len() - cell.trim_start_matches('`').len()];
    let inside = cell.strip_prefix(fence).and_then(|rest| rest.split_once(fence));
    inside.filter(|_| !fence.is_empty()).map_or(cell, |(inside, _)| inside.trim())
}

/// Whoever writes a client finds what each refusal means for it.
#[test]
fn every_refusal_is_documented() {
    use campfire_relay::protocol::{Reason, Word};

    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol.md");
    let docs = fs::read_to_string(docs).expect("the protocol");
    let (_, table) = docs.split_once("| code | text | retry |\n").expect("the table of refusals");
    let documented: Vec<[String; 3]> = table
        .lines()
        .skip(1)
        .map_while(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|line| {
            let cells: Vec<&str> = line.split(" | ").map(code_span).collect();
            <[&str; 3]>::try_from(cells).unwrap_or_else(|cells| panic!("{cells:?}")).map(str::to_owned)
        })
        .collect();
    // In the table an ellipsis stands for what differs from one refusal to the next.
    let without_names = |text: &str| {
        let mut parts = text.split('{');
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |text, part| text + "…" + part.split_once('}').map_or("", |(_, rest)| rest))
    };
    let told: Vec<[String; 3]> = Reason::TABLE
        .iter()
        .map(|(word, text, retry)| {
            let code = match word {
                Word::Code(code) => code,
                Word::Label(_) => "–",
            };
            [code.to_owned(), without_names(text), retry.to_string()]
        })
        .collect();
    assert_eq!(documented, told);
}

/// What the threat model claims is shown by tests; one that was renamed shows nothing.
#[test]
fn the_threat_model_names_tests_and_settings_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut tests = String::new();
    for folder in ["relay/src", "relay/tests", "tests/e2e", "extension/src"] {
        for file in source_files(&root.join(folder)) {
            tests.push_str(&fs::read_to_string(&file).expect("a source file"));
        }
    }
    let golden = ["sql", "specs"].map(|folder| {
        let files = fs::read_dir(root.join("pg_regress").join(folder)).expect("golden tests");
        files.map(|file| file.expect("a file").path()).collect::<Vec<_>>()
    });
    let is_golden =
        |name: &str| golden.iter().flatten().any(|path| path.file_stem().is_some_and(|stem| stem == name));
    let settings = variables();
    let text = fs::read_to_string(root.join("docs/security.md")).expect("the threat model");
    // What stands between backticks.
    let names: Vec<&str> = text.split('`').skip(1).step_by(2).collect();
    let is_word = |name: &&str| {
        name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit())
    };
    let is_test = |name: &&str| is_word(name) && name.matches('_').count() > 2;
    let exists = |name: &&str| tests.contains(&format!("fn {name}(")) || is_golden(name);
    let claimed: Vec<&str> = names.iter().copied().filter(is_test).collect();
    assert!(claimed.len() > 50, "{claimed:?}");
    let missing: Vec<_> = claimed.into_iter().filter(|name| !exists(name)).collect();
    assert!(missing.is_empty(), "no such tests: {missing:?}");
    let unknown: Vec<_> = names
        .iter()
        .filter(|name| name.starts_with("CAMPFIRE_") && !settings.iter().any(|setting| setting == *name))
        .collect();
    assert!(unknown.is_empty(), "no such settings: {unknown:?}");
}
