//! Words that mean "not finished", "not safe" or "only here", and must not be committed. This file names them all and is
//! the one that is not searched.

use std::sync::LazyLock;

use regex::Regex;

use super::Fault;
use super::source::Tests;
use crate::tree::{File, Tree};

const OWN: &str = "xtask/src/tidy/words.rs";
const CODE: &[&str] = &["rs", "ts", "tsx", "mjs", "js", "py", "sh", "sql", "css", "html", "toml", "service"];

/// Where a word is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Where {
    /// Every file.
    Anywhere,
    /// What is run or built.
    Code,
    /// Rust.
    Rust,
    /// TypeScript and JavaScript.
    Script,
    /// Tests in TypeScript.
    ScriptTests,
}

/// Pattern, where, what it is, what to do.
const WORDS: &[(&str, Where, &str, &str)] = &[
    (r"\b(?:FIXME|XXX|TODO)\b", Where::Code, "a note of unfinished work", "finish it, or file an issue and remove the note"),
    (r"\b(?:todo|unimplemented)!", Where::Rust, "a part that is not written", "write it, or leave out what leads to it"),
    (r"\bdbg!", Where::Rust, "an aid for debugging", "remove it, or log it"),
    (r"#\[ignore", Where::Rust, "a test that is never run", "make it run, or remove it"),
    (r"\bthread::sleep\(", Where::Rust, "waits by the wall clock", "take a clock as an argument (keyvigil_common::clock), or wait for the event itself"),
    (r"#!?\[allow\(", Where::Rust, "silences a lint for ever", "write #[expect(.., reason = \"..\")]"),
    (r"\bdebugger;", Where::Script, "an aid for debugging", "remove it"),
    (r"@ts-(?:ignore|nocheck)\b", Where::Script, "silences the type checker", "give the type, or @ts-expect-error with a reason"),
    (r"\b(?:describe|it|test)\.(?:only|skip|todo)\b", Where::ScriptTests, "tests that are not run", "make them run, or remove them"),
    (
        r"(?:^|[^\w.~-])(?:/work/|/tmp/wt\b|/root/\.cargo\b|/home/[a-z][\w-]*/(?:src|projects|work)/)",
        Where::Anywhere,
        "a path of one machine",
        "name it relative to the repository, or take it as an argument",
    ),
];

#[expect(clippy::expect_used, reason = "constants that the tests use")]
static PATTERNS: LazyLock<Vec<Regex>> = LazyLock::new(|| WORDS.iter().map(|row| Regex::new(row.0).expect("a valid pattern")).collect());

pub(super) fn check(tree: &Tree) -> Vec<Fault> {
    let tests = Tests::find(tree);
    let mut faults = Vec::new();
    for file in tree.files.iter().filter(|file| file.path != OWN) {
        if file.name() == "mod.rs" {
            faults.push(Fault::new(&file.path, 1, "a mod.rs", "name the file after its module: foo.rs beside foo/"));
        }
        let rows = WORDS.iter().zip(&*PATTERNS).filter(|(row, _)| applies(row.1, file, tests.holds(file)));
        for ((_, _, what, remedy), pattern) in rows {
            let lines = file.text.lines().enumerate().filter_map(|(at, line)| pattern.find(line).map(|found| (at + 1, found.as_str().trim().to_owned())));
            faults.extend(lines.map(|(line, found)| Fault::new(&file.path, line, format!("{found:?}: {what}"), *remedy)));
        }
    }
    faults
}

fn applies(place: Where, file: &File, test: bool) -> bool {
    let script = matches!(file.extension(), "ts" | "tsx" | "mjs" | "js");
    match place {
        Where::Anywhere => true,
        Where::Code => CODE.contains(&file.extension()) || file.path.starts_with("scripts/") || file.name() == "Makefile",
        Where::Rust => file.is_rust(),
        Where::Script => script,
        Where::ScriptTests => script && test,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&Tree::of(&[(path, text)])).iter().map(|fault| fault.line).collect()
    }

    #[test]
    fn unfinished_work_is_found_where_code_is() {
        assert_eq!(lines("a/src/a.rs", "fn a() {}\n// FIXME: later\ntodo!()\ndbg!(a);\n#[ignore = \"slow\"]\n"), [2, 3, 4, 5]);
        assert_eq!(lines("scripts/need", "# TODO\nmktemp /tmp/keyvigil.XXXXXX\n"), [1]);
        assert_eq!(lines("docs/a.md", "TODO is a word here, and so is todo!\n"), []);
        assert_eq!(lines("a/src/a.rs", "pause: std::thread::sleep,\nstd::thread::sleep(SECOND);\n"), [2]);
    }

    #[test]
    fn tests_that_are_not_run_are_found_and_iterators_are_not() {
        assert_eq!(lines("web/src/a.test.ts", "it.only('x')\ndescribe.skip('y')\nlist.skip(1)\n"), [1, 2]);
        assert_eq!(lines("web/src/a.ts", "it.only('x')\n"), []);
    }

    #[test]
    fn paths_of_one_machine_are_found_and_paths_of_a_host_are_not() {
        assert_eq!(
            lines("docs/a.md", "see /work/main/x\n`/tmp/wt/a`\n/root/.cargo/bin\n/root/.ssh/id\n/var/lib/work/x\nhttps://example.org/work/\n"),
            [1, 2, 3]
        );
    }

    #[test]
    fn a_module_file_has_its_modules_name() {
        assert_eq!(lines("a/src/store/mod.rs", ""), [1]);
    }
}
