//! What documents and comments refer to exists.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Folders that are built or fetched.
const FOREIGN: [&str; 4] = ["assets", "target", "node_modules", "dist"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the repository")
}

/// The repository's own files with one of these extensions.
fn files_of(folder: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder that can be read") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_symlink() || name.starts_with('.') || FOREIGN.contains(&name) {
            continue;
        }
        if path.is_dir() {
            files.extend(files_of(&path, extensions));
        } else if path.extension().is_some_and(|found| extensions.iter().any(|wanted| found == *wanted)) {
            files.push(path);
        }
    }
    files
}

/// The lines of a document that are not code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// The anchors of a document's headings, as GitHub makes them: a heading that comes again has a number behind it.
fn anchors(text: &str) -> HashSet<String> {
    let mut counts = BTreeMap::<String, usize>::new();
    let headings = prose(text).filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            let anchor = kept.collect::<String>().replace(' ', "-");
            let count = counts.entry(anchor.clone()).or_default();
            *count += 1;
            if *count == 1 { anchor } else { format!("{anchor}-{}", *count - 1) }
        })
        .collect()
}

/// The targets of links `[text](target)` outside code.
fn links(text: &str) -> Vec<&str> {
    let targets = |line| {
        // Every other part of a line stands between backticks; a link's text may hold such a part.
        let mut is_code = false;
        let mut found = Vec::new();
        for part in str::split(line, '`') {
            if !is_code {
                found.extend(part.split("](").skip(1).filter_map(|rest| rest.split(')').next()));
            }
            is_code = !is_code;
        }
        found
    };
    prose(text).flat_map(targets).collect()
}

#[test]
fn links_between_documents_lead_somewhere() {
    let documents = files_of(&root(), &["md"]);
    assert!(documents.len() > 10, "{documents:?}");
    let mut broken = Vec::new();
    let mut count = 0;
    for document in &documents {
        let text = fs::read_to_string(document).expect("a document");
        for link in links(&text).into_iter().filter(|link| !link.contains("://")) {
            count += 1;
            let (path, anchor) =
                link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
            let target = match path {
                "" => document.clone(),
                _ => document.parent().expect("a folder").join(path),
            };
            let has_anchor =
                |anchor| fs::read_to_string(&target).is_ok_and(|text| anchors(&text).contains(anchor));
            if !target.exists() || !anchor.is_none_or(has_anchor) {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(count > 50, "{count} links");
    assert!(broken.is_empty(), "{broken:#?}");
}

/// A comment that cites a page which is not there explains nothing.
#[test]
fn documents_that_are_cited_exist() {
    let root = root();
    let names: HashSet<String> = files_of(&root, &["md"])
        .iter()
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .collect();
    let is_path = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '/' | '_' | '-');
    let mut missing = Vec::new();
    for file in files_of(&root, &["rs", "sql", "md", "js", "ts", "py", "sh", "toml"]) {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let words = text.split(|c: char| !is_path(c));
        let words = words.map(|word| word.trim_end_matches('.').trim_start_matches("../"));
        for word in words.filter(|word| word.len() > 3 && word.ends_with(".md")) {
            let is_there = match word.contains('/') {
                true => {
                    root.join(word).exists() || file.parent().is_some_and(|folder| folder.join(word).exists())
                }
                false => names.contains(word),
            };
            if !is_there {
                missing.push(format!("{}: {word}", file.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// A code map of files that were moved leads astray. The changelog is of its time.
#[test]
fn paths_in_documents_exist() {
    let root = root();
    let modules = root.join("relay/src");
    let is_path = |word: &&str| {
        word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"./_-".contains(&byte))
            && word.contains(['/', '.'])
            && !word.starts_with('/')
    };
    let mut missing = Vec::new();
    let mut count = 0;
    for document in files_of(&root, &["md"]).into_iter().filter(|path| !path.ends_with("CHANGELOG.md")) {
        let text = fs::read_to_string(&document).expect("a document");
        let folder = document.parent().expect("a folder");
        for word in prose(&text).flat_map(|line| line.split('`').skip(1).step_by(2)).filter(is_path) {
            let (first, is_in_folder) =
                word.split_once('/').map_or((word, false), |(first, _)| (first, true));
            let is_ours = is_in_folder && [&root, &modules].iter().any(|place| place.join(first).is_dir());
            let is_file = [".rs", ".sql", ".sh", ".ts"].iter().any(|ending| word.ends_with(ending));
            let is_built = FOREIGN.contains(&first);
            if (!is_ours && !is_file) || is_built {
                continue;
            }
            count += 1;
            if ![root.as_path(), &modules, folder].iter().any(|place| place.join(word).exists()) {
                missing.push(format!("{}: {word}", document.display()));
            }
        }
    }
    assert!(count > 50, "{count} paths");
    assert!(missing.is_empty(), "{missing:#?}");
}

/// The same of types and their members: `History::handed`.
#[test]
fn names_of_code_in_the_architecture_exist() {
    let root = root();
    let code: String = files_of(&root.join("relay/src"), &["rs"])
        .iter()
        .map(|file| fs::read_to_string(file).expect("a source file"))
        .collect();
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let known: HashSet<&str> = code.split(|c| !is_name(c)).collect();
    let text = fs::read_to_string(root.join("ARCHITECTURE.md")).expect("the architecture");
    let words = prose(&text).flat_map(|line| line.split('`').skip(1).step_by(2));
    let names = words.filter(|word| word.contains("::") && word.replace("::", "").chars().all(is_name));
    let unknown: Vec<_> = names.filter(|word| !word.split("::").all(|part| known.contains(part))).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn anchors_are_those_of_github() {
    let text = "# The relay\n## Private channels outside `org:`\n```sh\n# no heading\n```\n## Keys, old & new\n## Keys, old & new\n";
    let found = anchors(text);
    for anchor in ["the-relay", "private-channels-outside-org", "keys-old--new", "keys-old--new-1"] {
        assert!(found.contains(anchor), "{anchor}: {found:?}");
    }
    assert_eq!(found.len(), 4);
    assert_eq!(
        links("see [a](README.md#c), `[d](e)` and [`f`](g)\n```\n[h](i)\n```\n"),
        ["README.md#c", "g"]
    );
}
