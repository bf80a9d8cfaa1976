//! What no bytes may break. Each function is the body of a fuzz target: it takes anything, and panics only where the
//! relay does, or where something that must hold does not.

mod frames;
mod replication;
mod resuming;
mod tokens;

pub use frames::{channel, frame_binary, frame_text};
pub use replication::{pgoutput, route};
pub use resuming::resume;
pub use tokens::token;

/// Every target by name: what `cargo xtask fuzz` offers, and what the corpora are named after.
pub const TARGETS: [(&str, fn(&[u8])); 7] = [
    ("pgoutput", pgoutput),
    ("frame_text", frame_text),
    ("frame_binary", frame_binary),
    ("channel", channel),
    ("token", token),
    ("resume", resume),
    ("route", route),
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// What was ever found, and what leads into every corner, on every run of the tests.
    #[test]
    fn the_corpora_break_nothing() {
        for (name, target) in TARGETS {
            let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
            let files: Vec<_> =
                std::fs::read_dir(&dir).expect("each target has a corpus").flatten().collect();
            assert!(!files.is_empty(), "the corpus of {name} is empty");
            for file in files {
                let input = std::fs::read(file.path()).expect("a corpus is made of files");
                println!("{name}: {}", file.path().display());
                target(&input);
                // What is cut short is another input.
                (0..input.len().min(64)).for_each(|length| target(&input[..length]));
            }
        }
    }
}
