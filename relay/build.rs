//! A file that is new among the assets is embedded, too: rust-embed names to cargo only those that it has seen.

fn main() {
    println!("cargo::rerun-if-changed=assets");
}
