//! Rules of the tree that the compiler does not know.

#[path = "tidy/arrows.rs"]
mod arrows;
#[path = "tidy/documents.rs"]
mod documents;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use self::arrows::{Arrow, Tree};

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

/// Decoding, routing, the protocol and what tokens say are functions of bytes: they can be fuzzed, replayed and tested without a
/// runtime, and can not be half-done when a task is cancelled.
#[test]
fn pure_modules_do_no_io() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    for module in ["decode", "route", "protocol", "auth"] {
        files.push(source.join(module).with_extension("rs"));
        files.extend(source_files(&source.join(module)));
    }
    for file in files {
        let text = fs::read_to_string(&file).expect("a source file");
        for word in [
            "tokio::",
            "TcpStream",
            "UdpSocket",
            "std::fs",
            "std::env",
            "SystemTime::now",
            "Instant::now",
            ".await",
        ] {
            assert!(!text.contains(word), "{} mentions {word}", file.display());
        }
    }
}

/// A change of one module can then only be felt by those below it in the list, and each can be read and tested without
/// what stands below it.
#[test]
fn modules_name_only_those_above_them() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let list = fs::read_to_string(source.join("lib.rs")).expect("the list of modules");
    let order: Vec<&str> =
        list.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    let tree = Tree::read(&source);
    let listed: BTreeSet<&str> = order.iter().copied().collect();
    assert_eq!(listed, tree.roots(), "lib.rs has each module in a line `pub mod NAME;`");
    let place = |module: &str| order.iter().position(|name| *name == module);
    let is_upward = |arrow: &&Arrow| place(arrow.root()) < place(arrow.target_root());
    let line = |arrow: &Arrow| {
        let (module, other) = (arrow.root(), arrow.target_root());
        format!(
            "{}:{} names {}, but {other} stands below {module} in relay/src/lib.rs: move what {module} needs of it to a module above both, or have app hand it over",
            arrow.file,
            arrow.line,
            arrow.path.join("::")
        )
    };
    let told: Vec<String> = tree.arrows().iter().filter(is_upward).map(line).collect();
    assert!(told.is_empty(), "{} paths against the order of modules:\n{}", told.len(), told.join("\n"));
}

/// Files that know one another can only be understood, and moved, together. A file may name the one that it is a part of.
#[test]
fn no_files_name_one_another_in_a_circle() {
    let tree = Tree::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let line = |arrow: &Arrow| {
        let Arrow { file, line, path, target } = arrow;
        format!("  {file}:{line} names {} ({target})", path.join("::"))
    };
    let circles = arrows::circles(&tree.arrows());
    let told: Vec<String> =
        circles.iter().map(|circle| circle.iter().map(line).collect::<Vec<_>>().join("\n")).collect();
    assert!(
        told.is_empty(),
        "files name one another in a circle ({} in all): move what two of them share into a file that names neither, or hand it over as an argument\n{}",
        told.len(),
        told.join("\n\n")
    );
}

/// Frames leave the hub by one way, so that whatever must look at all of them has one place to do it.
#[test]
fn one_file_queues_frames_for_sockets() {
    let fanout = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/fanout");
    let way_out = fanout.join("hub/deliver.rs");
    let is_test = |file: &Path| file.iter().any(|part| part == "tests" || part == "tests.rs");
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

/// The table of settings tells what they are if nothing is set.
#[test]
fn documented_defaults_are_those_of_the_settings() {
    use campfire_relay::cli::Cli;
    use clap::{CommandFactory, Parser};

    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/relay.md");
    let text = fs::read_to_string(docs).expect("the docs");
    let (_, table) = text.split_once("| variable | default |").expect("the table of settings");
    let command = Cli::command();
    let run = command.find_subcommand("run").expect("the one subcommand");
    let parse = |arguments: &[String]| {
        let line = ["campfire-relay", "run"].map(str::to_owned).into_iter().chain(arguments.iter().cloned());
        Cli::try_parse_from(line).map(|cli| format!("{cli:?}"))
    };
    let mut checked = 0;
    for row in table.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let names: Vec<&str> = cells[1].split(", ").map(|name| name.trim_matches('`')).collect();
        let defaults: Vec<&str> = match cells[2].strip_suffix(" each") {
            Some(default) => vec![default; names.len()],
            None => cells[2].split(", ").map(|default| default.trim_matches('`')).collect(),
        };
        assert_eq!(names.len(), defaults.len(), "one default for each variable: {row}");
        for (name, default) in names.into_iter().zip(defaults) {
            let argument =
                run.get_arguments().find(|argument| argument.get_env().is_some_and(|env| env == name));
            let argument = argument.unwrap_or_else(|| panic!("{name} is no setting"));
            if argument.get_default_values().is_empty() {
                continue;
            }
            let long = argument.get_long().expect("a flag");
            let flag = format!("--{long}={}", default.replace(',', ""));
            assert_eq!(parse(&[flag]).ok(), parse(&[]).ok(), "{name} is not {default} by default");
            checked += 1;
        }
    }
    assert!(checked > 40, "{checked}");
}

/// What dashboards and alarms of operators name.
#[test]
fn metrics_keep_their_names() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut names = Vec::new();
    for file in source_files(&source) {
        let text = fs::read_to_string(&file).expect("a source file");
        let registered = text.split("register(").skip(1).filter(|_| file != source.join("metrics.rs"));
        names.extend(registered.filter_map(|rest| rest.split('"').nth(1)).map(str::to_owned));
    }
    names.sort_unstable();
    assert_eq!(names, METRICS.split_whitespace().collect::<Vec<_>>());
}

const METRICS: &str = "
    accept_failures api_requests api_seconds applied_lsn changes changes_skipped channels channels_lagged client_messages
    client_messages_dropped connections connections_closed deliveries events events_collided
    events_unaddressed events_unheard handshakes_refused joins_refused messages_refused
    policy_askers policy_failures policy_questions presence_bytes presence_differences presences
    problems ready replayed_events replays replays_overtaken replays_waiting requests_refused
    slot_losses slot_reconnects slot_retained_bytes slot_stopped snapshot_bytes snapshot_seconds
    snapshots snapshots_refused sockets sockets_closed sockets_opened tasks topics transactions
    unfinished_bytes unread_bytes window_bytes window_events
";

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
