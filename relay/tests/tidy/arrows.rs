//! Which file of relay/src names which: read from its paths, without comments, texts and tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A file names an item of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arrow {
    pub(crate) file: String,
    pub(crate) line: usize,
    /// The path as it is meant: from the crate's root on.
    pub(crate) path: Vec<String>,
    /// The file in which that item stands, or from which it is passed on by `pub use` of a whole module.
    pub(crate) target: String,
}

impl Arrow {
    /// Whether a file names the one that it is a part of, as `wal/slot.rs` may name what stands in `wal.rs`.
    fn is_to_parent(&self) -> bool {
        self.file.starts_with(&format!("{}/", self.target.trim_end_matches(".rs")))
    }

    /// The module below the crate's root in which it begins, and that which it names.
    pub(crate) fn root(&self) -> &str {
        let file = self.file.trim_start_matches("relay/src/");
        file.split(['/', '.']).next().unwrap_or(file)
    }

    pub(crate) fn target_root(&self) -> &str {
        &self.path[0]
    }
}

/// The arrows of each circle. A part and its whole are none.
pub(crate) fn circles(arrows: &[Arrow]) -> Vec<Vec<Arrow>> {
    let arrows: Vec<&Arrow> = arrows.iter().filter(|arrow| !arrow.is_to_parent()).collect();
    let mut next: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for arrow in &arrows {
        next.entry(&arrow.file).or_default().insert(&arrow.target);
    }
    let reach = |file| {
        let (mut seen, mut todo) = (BTreeSet::new(), vec![file]);
        while let Some(file) = todo.pop() {
            todo.extend(next.get(file).into_iter().flatten().filter(|target| seen.insert(**target)));
        }
        seen
    };
    let reached: BTreeMap<&str, BTreeSet<&str>> = next.keys().map(|file| (*file, reach(file))).collect();
    let leads = |from: &str, to: &str| reached.get(from).is_some_and(|seen| seen.contains(to));
    let mut circles: Vec<Vec<Arrow>> = Vec::new();
    for arrow in arrows.into_iter().filter(|arrow| leads(&arrow.target, &arrow.file)) {
        match circles
            .iter_mut()
            .find(|circle| leads(&circle[0].file, &arrow.file) && leads(&arrow.file, &circle[0].file))
        {
            Some(circle) => circle.push(arrow.clone()),
            None => circles.push(vec![arrow.clone()]),
        }
    }
    circles
}

/// All modules that are files, by their paths: `["wal", "slot"]`.
pub(crate) struct Tree {
    files: BTreeMap<Vec<String>, File>,
}

struct File {
    name: String,
    tokens: Vec<(String, usize)>,
    /// What `use self::child::Name` makes of a name: where it comes from.
    passed_on: BTreeMap<String, Vec<String>>,
}

impl File {
    /// Whether it does more with a name than to import it or to have a module of that name.
    fn uses(&self, name: Option<&String>) -> bool {
        let mut is_import = false;
        self.tokens.windows(2).any(|pair| {
            let [(before, _), (token, _)] = pair else { return false };
            is_import = before == "use" || is_import && before != ";";
            !is_import && before != "mod" && Some(token) == name
        })
    }
}

impl Tree {
    /// The files below a folder, without the crate's roots and what only tests use.
    pub(crate) fn read(source: &Path) -> Self {
        let mut texts = Vec::new();
        read_folder(source, &[], &mut texts);
        Self::of(texts)
    }

    /// Files by their modules.
    fn of(texts: Vec<(Vec<String>, String)>) -> Self {
        let file = |(module, text): (Vec<String>, String)| {
            let name = format!("relay/src/{}.rs", module.join("/"));
            let tokens = without_tests(tokens(&text));
            (module, File { name, tokens, passed_on: BTreeMap::new() })
        };
        let mut tree = Self { files: texts.into_iter().map(file).collect() };
        let passed_on: Vec<_> =
            tree.files.keys().map(|module| (module.clone(), tree.passed_on(module))).collect();
        for (module, names) in passed_on {
            tree.files.entry(module).and_modify(|file| file.passed_on = names);
        }
        tree
    }

    /// The modules directly below the crate's root.
    pub(crate) fn roots(&self) -> BTreeSet<&str> {
        self.files.keys().filter(|module| module.len() == 1).map(|module| module[0].as_str()).collect()
    }

    pub(crate) fn arrows(&self) -> Vec<Arrow> {
        let mut arrows = Vec::new();
        for (module, file) in &self.files {
            for Named { path, line, is_import } in named(&file.tokens, module, self) {
                // A name that is imported and never used is one passed on to others, who name its file themselves.
                let is_passed_on = is_import && path.starts_with(module) && !file.uses(path.last());
                let target = self.file_of(&path).filter(|target| *target != file.name);
                let (false, Some(target)) = (is_passed_on, target) else { continue };
                let arrow = Arrow { file: file.name.clone(), line, target: target.to_owned(), path };
                if !arrows.contains(&arrow) {
                    arrows.push(arrow);
                }
            }
        }
        arrows
    }

    fn passed_on(&self, module: &[String]) -> BTreeMap<String, Vec<String>> {
        let imports =
            named(&self.files[module].tokens, module, self).into_iter().filter(|named| named.is_import);
        let children = imports.filter(|named| named.path.starts_with(module));
        children.filter_map(|named| Some((named.path.last()?.clone(), named.path))).collect()
    }

    /// The file where the item of this path stands.
    fn file_of(&self, path: &[String]) -> Option<&str> {
        let mut module: &[String] = &[];
        for (depth, name) in path.iter().enumerate() {
            if self.files.contains_key(&path[..=depth]) {
                module = &path[..=depth];
                continue;
            }
            let file = self.files.get(module)?;
            return match file.passed_on.get(name) {
                Some(source) if source.as_slice() != &path[..=depth] => self.file_of(source),
                _ => Some(&file.name),
            };
        }
        self.files.get(module).map(|file| file.name.as_str())
    }
}

fn read_folder(folder: &Path, module: &[String], texts: &mut Vec<(Vec<String>, String)>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("a folder that can be read").path();
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        // What tests name is theirs to choose.
        let is_of_tests = ["tests", "testing"].contains(&name.as_str());
        let is_crate_root = module.is_empty() && ["lib", "main"].contains(&name.as_str());
        let child = [module, std::slice::from_ref(&name)].concat();
        if is_of_tests || is_crate_root {
            continue;
        }
        if path.is_dir() {
            read_folder(&path, &child, texts);
        } else {
            texts.push((child, fs::read_to_string(&path).expect("a source file")));
        }
    }
}

/// Words, `::` and single signs, each with its line; neither comments nor the insides of texts.
fn tokens(text: &str) -> Vec<(String, usize)> {
    let mut tokens = Vec::new();
    let (mut rest, mut line) = (text, 1);
    while let Some(first) = rest.chars().next() {
        let is_word = |sign: char| sign.is_alphanumeric() || sign == '_';
        let raw = rest.strip_prefix('r').or_else(|| rest.strip_prefix("br")).map(|raw| {
            let hashes = raw.len() - raw.trim_start_matches('#').len();
            (hashes, &raw[hashes..])
        });
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some((hashes, raw)) = raw.filter(|(_, raw)| raw.starts_with('"')) {
            let end = format!("\"{}", "#".repeat(hashes));
            let inside = raw[1..].find(&end).map_or(raw.len(), |at| at + 1 + end.len());
            rest.len() - raw.len() + inside
        } else if first == '"' {
            let mut is_escaped = false;
            let end = rest[1..].find(|sign| {
                let ends = sign == '"' && !is_escaped;
                is_escaped = sign == '\\' && !is_escaped;
                ends
            });
            end.map_or(rest.len(), |end| end + 2)
        } else if first == '\'' {
            // A sign, unless it is a lifetime.
            let mut signs = rest[1..].char_indices();
            match (signs.next(), signs.next()) {
                (Some((_, '\\')), Some((at, escaped))) => {
                    let from = 1 + at + escaped.len_utf8();
                    rest[from..].find('\'').map_or(rest.len(), |end| from + end + 1)
                }
                (Some(_), Some((at, '\''))) => at + 2,
                _ => 1,
            }
        } else if is_word(first) {
            rest.find(|sign| !is_word(sign)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        let (token, after) = rest.split_at(length);
        if !first.is_whitespace() && !token.starts_with("//") {
            let is_text = token.len() > 1 && !is_word(first) && token != "::" || token.ends_with('"');
            tokens.push((if is_text { "\"\"".to_owned() } else { token.to_owned() }, line));
        }
        line += token.matches('\n').count();
        rest = after;
    }
    tokens
}

/// Leaves out each item behind `#[cfg(test)]`.
fn without_tests(tokens: Vec<(String, usize)>) -> Vec<(String, usize)> {
    let mut kept: Vec<(String, usize)> = Vec::new();
    let mut tokens = tokens.into_iter();
    while let Some(token) = tokens.next() {
        kept.push(token);
        let end: Vec<&str> = kept.iter().rev().take(7).rev().map(|(token, _)| token.as_str()).collect();
        if end == ["#", "[", "cfg", "(", "test", ")", "]"] {
            kept.truncate(kept.len() - 7);
            let mut depth = 0;
            for (token, _) in tokens.by_ref() {
                depth += i32::from("{([".contains(&token)) - i32::from("})]".contains(&token));
                if depth == 0 && [";", "}", ","].contains(&token.as_str()) {
                    break;
                }
            }
        }
    }
    kept
}

struct Named {
    path: Vec<String>,
    line: usize,
    is_import: bool,
}

/// All paths that begin at the crate, at `super`, at `self`, or at a child of this module.
fn named(tokens: &[(String, usize)], module: &[String], tree: &Tree) -> Vec<Named> {
    let mut found = Vec::new();
    let token = |at: usize| tokens.get(at).map_or("", |(token, _)| token.as_str());
    let mut is_import = false;
    for at in 0..tokens.len() {
        match token(at) {
            "use" => is_import = true,
            ";" => is_import = false,
            _ => {}
        }
        let is_first = at == 0 || !["::", "in", "."].contains(&token(at - 1));
        if !is_first || token(at + 1) != "::" {
            continue;
        }
        let from = match token(at) {
            "crate" => Vec::new(),
            "self" => module.to_vec(),
            "super" => module[..module.len() - 1].to_vec(),
            child if tree.files.contains_key(&[module, &[child.to_owned()]].concat()) => {
                [module, &[child.to_owned()]].concat()
            }
            _ => continue,
        };
        let first = found.len();
        branches(tokens, at + 2, from, &mut found);
        found[first..].iter_mut().for_each(|named| named.is_import = is_import);
    }
    found
}

/// Follows a path to its ends, of which there are several behind a brace. Returns where it ends.
fn branches(
    tokens: &[(String, usize)],
    mut at: usize,
    mut path: Vec<String>,
    found: &mut Vec<Named>,
) -> usize {
    while let Some((token, line)) = tokens.get(at) {
        match token.as_str() {
            "super" => drop(path.pop()),
            "self" | "*" | "<" => {}
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|(token, _)| token != "}") {
                    at = branches(tokens, at, path.clone(), found);
                    // `as other`, and the comma.
                    while tokens.get(at).is_some_and(|(token, _)| token != "}" && token != ",") {
                        at += 1;
                    }
                    at += usize::from(tokens.get(at).is_some_and(|(token, _)| token == ","));
                }
                return at + 1;
            }
            word => path.push(word.to_owned()),
        }
        at += 1;
        if tokens.get(at).is_none_or(|(token, _)| token != "::") {
            found.push(Named { path, line: *line, is_import: false });
            return at;
        }
        at += 1;
    }
    at
}

#[test]
fn arrows_and_circles_are_found() {
    let file = |module: &str, text: &str| (module.split('/').map(str::to_owned).collect(), text.to_owned());
    let tree = Tree::of(vec![
        file(
            "wal",
            r#"
            mod slot;
            mod stream;
            pub use slot::{Slot, drop_slot};
            use crate::{decode, postgres::{Lsn as Position, Xid}};
            // crate::http
            const TEXT: &str = "\" crate::http";
            fn quote<'a>(sign: &'a char) -> bool { *sign == '"' || *sign == '\'' }
            pub struct Wal(stream::Stream);
            #[cfg(test)]
            mod tests { use crate::http::Shared; fn f() { if true {} } }
            fn last() { crate::socket::open::<u8>(); }
            "#,
        ),
        file("wal/slot", "use super::{Wal, stream::Stream};"),
        file("wal/stream", "use super::Slot;"),
        file("decode", ""),
        file("postgres", "mod lsn; pub use self::lsn::Lsn; pub struct Xid;"),
        file("postgres/lsn", "pub struct Lsn;"),
        file("socket", ""),
        file("http", ""),
    ]);
    let arrows = tree.arrows();
    let told: Vec<String> = arrows
        .iter()
        .map(|Arrow { file, line, path, target }| format!("{file}:{line} {} {target}", path.join("::")))
        .map(|arrow| arrow.replace("relay/src/", ""))
        .collect();
    assert_eq!(
        told,
        [
            "wal.rs:5 decode decode.rs",
            "wal.rs:5 postgres::Lsn postgres/lsn.rs",
            "wal.rs:5 postgres::Xid postgres.rs",
            "wal.rs:9 wal::stream::Stream wal/stream.rs",
            "wal.rs:12 socket::open socket.rs",
            "wal/slot.rs:1 wal::Wal wal.rs",
            "wal/slot.rs:1 wal::stream::Stream wal/stream.rs",
            "wal/stream.rs:1 wal::Slot wal/slot.rs",
        ]
    );
    // What slot.rs names of wal.rs, of which it is a part, is none.
    let circles = circles(&arrows);
    let files: Vec<&str> = circles.iter().flatten().map(|arrow| arrow.file.as_str()).collect();
    assert_eq!(files, ["relay/src/wal/slot.rs", "relay/src/wal/stream.rs"]);
}
