//! Every source file of a crate opens by saying what it owns. Files named `tests.rs` belong to the file above them.

use super::Fault;
use crate::tree::Tree;

pub(super) fn check(tree: &Tree) -> Vec<Fault> {
    let sources = tree.files.iter().filter(|f| f.is_rust() && f.name() != "tests.rs" && (f.path.contains("/src/") || f.path.contains("/fuzz_targets/")));
    let silent = sources.filter(|file| !file.text.trim_start_matches(|c: char| c == '\u{feff}' || c.is_whitespace()).starts_with("//!"));
    silent.map(|file| Fault::new(&file.path, 1, "does not say what it is for", "open it with //!: what it owns, what it never does, who calls it")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_file_opens_with_its_purpose() {
        let tree = Tree::of(&[("a/src/a.rs", "//! Owns a.\n"), ("a/src/b.rs", "use a;\n"), ("a/src/b/tests.rs", "use a;\n"), ("a/build.rs", "fn main() {}\n")]);
        assert_eq!(check(&tree).iter().map(|f| f.path.as_str()).collect::<Vec<_>>(), ["a/src/b.rs"]);
    }
}
