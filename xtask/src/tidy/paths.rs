//! What the documents name exists: paths in backticks in Markdown, and decisions (`docs/adr/`) named anywhere.

use std::sync::LazyLock;

use regex::Regex;

use super::Fault;
use super::source::{Tests, test_lines};
use crate::tree::Tree;

static QUOTED: LazyLock<Regex> = LazyLock::new(|| pattern("`([^`\n]+)`"));
static PATH: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[\w.{},*/-]+$"));
static LINK: LazyLock<Regex> = LazyLock::new(|| pattern(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)"));
static DECISION: LazyLock<Regex> = LazyLock::new(|| pattern(r"\bdocs/adr/[\w.-]+\.md\b"));

#[expect(clippy::expect_used, reason = "constants that the tests use")]
fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a valid pattern")
}

pub(super) fn check(tree: &Tree) -> Vec<Fault> {
    let tests = Tests::find(tree);
    let mut faults = Vec::new();
    for file in tree.files.iter().filter(|file| !tests.holds(file)) {
        let document = file.extension() == "md" && (!file.path.contains('/') || file.path.starts_with("docs/"));
        let dir = file.path.rsplit_once('/').map_or("", |(dir, _)| dir);
        let test = if file.is_rust() { test_lines(&file.text) } else { vec![false; file.text.lines().count()] };
        for (at, line) in file.text.lines().enumerate().filter(|(at, _)| !test[*at]) {
            let mut missing: Vec<String> = Vec::new();
            if document {
                let quoted = QUOTED.captures_iter(line).map(|found| found[1].to_owned());
                missing.extend(quoted.filter(|text| is_path(tree, text) && !all_exist(tree, text)));
                missing.extend(LINK.captures_iter(line).map(|found| found[1].to_owned()).filter(|link| !tree.exists(&join(dir, link))));
            } else {
                missing.extend(DECISION.find_iter(line).map(|found| found.as_str().to_owned()).filter(|path| !tree.exists(path)));
            }
            faults.extend(
                missing.iter().map(|path| Fault::new(&file.path, at + 1, format!("names {path}, which does not exist"), "correct the path, or the text")),
            );
        }
    }
    faults
}

/// Whether `text` means a place in this repository: it begins with one of its directories, or has the form of a file at its root.
fn is_path(tree: &Tree, text: &str) -> bool {
    let text = text.split("::").next().unwrap_or(text);
    if !PATH.is_match(text) {
        return false;
    }
    match text.split_once('/') {
        Some((first, _)) => !first.is_empty() && !first.contains(['*', '{']) && tree.exists(first) && tree.get(first).is_none(),
        None => {
            ["md", "toml"].iter().any(|end| text.rsplit_once('.').is_some_and(|(stem, extension)| extension == *end && stem.chars().any(char::is_uppercase)))
        }
    }
}

/// Whether each path that `text` stands for (`{a,b}`, `*`) exists.
fn all_exist(tree: &Tree, text: &str) -> bool {
    let text = text.split("::").next().unwrap_or(text);
    expand(text).iter().all(|path| if path.contains('*') { matches_any(tree, path) } else { tree.exists(path) })
}

fn expand(text: &str) -> Vec<String> {
    let braces = text.find('{').and_then(|open| Some((open, open + text[open..].find('}')?)));
    let Some((open, close)) = braces else { return vec![text.to_owned()] };
    text[open + 1..close].split(',').flat_map(|part| expand(&format!("{}{}{}", &text[..open], part.trim(), &text[close + 1..]))).collect()
}

fn matches_any(tree: &Tree, glob: &str) -> bool {
    let parts: Vec<String> = glob.split("**").map(|part| part.split('*').map(regex::escape).collect::<Vec<_>>().join("[^/]*")).collect();
    let Ok(pattern) = Regex::new(&format!("^{}(?:/|$)", parts.join(".*").trim_end_matches('/'))) else { return false };
    tree.files.iter().any(|file| pattern.is_match(&file.path))
}

/// `link`, seen from `dir`.
fn join(dir: &str, link: &str) -> String {
    let mut parts: Vec<&str> = dir.split('/').filter(|part| !part.is_empty()).collect();
    for part in link.split('/') {
        match part {
            ".." => {
                parts.pop();
            }
            "." | "" => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(document: &str, text: &str) -> usize {
        let tree = Tree::of(&[
            (document, text),
            ("agent/src/collect.rs", ""),
            ("agent/src/collect/cpu.rs", ""),
            ("docs/adr/0001-a.md", ""),
            ("docs/reference/api.md", ""),
            ("Cargo.toml", ""),
        ]);
        check(&tree).len()
    }

    #[test]
    fn paths_in_backticks_exist() {
        assert_eq!(missing("README.md", "`agent/src/collect.rs` `agent/src/` `agent/src/{collect,collect/cpu}.rs` `agent/src/*/cpu.rs` `Cargo.toml`"), 0);
        assert_eq!(missing("README.md", "`agent/src/gone.rs`"), 1);
        assert_eq!(missing("README.md", "`agent/src/{collect,gone}.rs` and `agent/*/gone.rs` and `GONE.md`"), 3);
    }

    #[test]
    fn what_only_looks_like_a_path_is_left_alone() {
        assert_eq!(missing("README.md", "`/api/v1/keys` `collect/<x>.rs` `and/or` `crypto.key.up` `agent.toml` `keyvigil up --dir DIR`"), 0);
    }

    #[test]
    fn links_lead_somewhere() {
        assert_eq!(missing("docs/a.md", "[api](reference/api.md#keys) [root](../Cargo.toml) [web](https://example.org/x)"), 0);
        assert_eq!(missing("docs/a.md", "[api](reference/gone.md)"), 1);
    }

    #[test]
    fn code_names_decisions_that_exist() {
        assert_eq!(missing("agent/src/a.rs", "//! See docs/adr/0001-a.md.\n//! See docs/adr/0002-b.md.\n"), 1);
    }
}
