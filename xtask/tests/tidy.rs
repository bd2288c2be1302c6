//! The tree obeys its own rules: what `cargo xtask tidy` says, as a test.

use std::path::Path;

use xtask::tidy::{self, Weight};
use xtask::tree::Tree;

#[test]
fn the_tree_is_tidy() {
    let tree = Tree::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).unwrap();
    assert!(tree.get("Cargo.toml").is_some() && tree.files.len() > 100, "this is not the repository: {} files", tree.files.len());
    let faults: Vec<String> = tidy::check(&tree).iter().filter(|fault| fault.weight == Weight::Fail).map(ToString::to_string).collect();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}
