//! How long a file and a function may be. Tests do not count: they are read one by one.

use std::sync::LazyLock;

use regex::Regex;

use super::Fault;
use super::source::{Tests, indent, item_end, test_lines};
use crate::tree::{File, Tree};

const FILE_LINES_WARN: usize = 400;
const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

/// What was too long when the rule came: `path`, or `path::function`, and its lines then. It may shrink only: a row that
/// grows fails, and so does a row that is no longer needed.
const EXCEPTIONS: &[(&str, usize)] = &[];

static RUST: LazyLock<Regex> = LazyLock::new(|| pattern(r#"^\s*(?:pub(?:\([a-z: ]+\))? )?(?:const )?(?:async )?(?:unsafe )?(?:extern "[^"]*" )?fn (\w+)"#));
static TYPESCRIPT: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"^\s*(?:export )?(?:default )?(?:(?:async )?function\*? ?(\w+)|(?:const|let) (\w+)(?:: [^=]+)? = (?:async )?(?:\([^)]*\)|\w+)(?:: [^=]+)? =>)")
});

#[expect(clippy::expect_used, reason = "constants that the tests use")]
fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a valid pattern")
}

pub(super) fn check(tree: &Tree) -> Vec<Fault> {
    check_with(tree, EXCEPTIONS)
}

fn check_with(tree: &Tree, exceptions: &[(&str, usize)]) -> Vec<Fault> {
    let tests = Tests::find(tree);
    let mut sizes: Vec<Size> = Vec::new();
    for file in tree.files.iter().filter(|f| (f.is_rust() || f.is_typescript()) && !tests.holds(f)) {
        measure(file, &mut sizes);
    }
    let mut faults: Vec<Fault> = sizes.iter().filter_map(|size| size.fault(exceptions)).collect();
    for (name, _) in exceptions {
        if !sizes.iter().any(|size| size.name() == *name && size.lines > size.max()) {
            let path = name.split("::").next().unwrap_or(name);
            faults.push(Fault::new(path, 1, format!("the exception {name:?} is not needed any more"), "remove it from xtask/src/tidy/size.rs"));
        }
    }
    faults
}

/// A file, or a function in it.
struct Size {
    path: String,
    function: Option<String>,
    /// Where it begins, from 1.
    line: usize,
    lines: usize,
}

impl Size {
    fn name(&self) -> String {
        self.function.as_ref().map_or_else(|| self.path.clone(), |function| format!("{}::{function}", self.path))
    }

    fn max(&self) -> usize {
        if self.function.is_some() { FUNCTION_LINES_MAX } else { FILE_LINES_MAX }
    }

    fn fault(&self, exceptions: &[(&str, usize)]) -> Option<Fault> {
        let (lines, max) = (self.lines, self.max());
        let excepted = exceptions.iter().find(|(name, _)| *name == self.name()).map(|(_, lines)| *lines);
        match (&self.function, excepted) {
            (_, Some(then)) if lines > max && lines <= then => None,
            (_, Some(then)) if lines > max => {
                Some(Fault::new(&self.path, self.line, format!("{lines} lines, {then} when it was excepted"), "an exception may only shrink: split it"))
            }
            (Some(function), _) if lines > max => Some(Fault::new(
                &self.path,
                self.line,
                format!("function {function} has {lines} lines, {max} are the most"),
                "name its parts and take them out",
            )),
            (None, _) if lines > max => {
                Some(Fault::new(&self.path, max, format!("{lines} lines without tests, {max} are the most"), "split it by what it owns"))
            }
            (None, _) if lines > FILE_LINES_WARN => Some(
                Fault::new(&self.path, FILE_LINES_WARN, format!("{lines} lines without tests, {max} are the most"), "split it before it gets there").warning(),
            ),
            _ => None,
        }
    }
}

fn measure(file: &File, sizes: &mut Vec<Size>) {
    let lines: Vec<&str> = file.text.lines().collect();
    let test = if file.is_rust() { test_lines(&file.text) } else { vec![false; lines.len()] };
    sizes.push(Size { path: file.path.clone(), function: None, line: 1, lines: test.iter().filter(|test| !**test).count() });
    let pattern = if file.is_rust() { &RUST } else { &TYPESCRIPT };
    for (at, line) in lines.iter().enumerate().filter(|(at, _)| !test[*at]) {
        let Some(found) = pattern.captures(line) else { continue };
        let name = found.iter().skip(1).flatten().next().map_or("", |m| m.as_str());
        let end = if file.is_rust() { item_end(&lines, at) } else { block_end(&lines, at) };
        sizes.push(Size { path: file.path.clone(), function: Some(name.into()), line: at + 1, lines: end - at + 1 });
    }
}

/// Last line of the TypeScript function that begins at `start`.
fn block_end(lines: &[&str], start: usize) -> usize {
    let level = indent(lines[start]);
    if lines[start].trim_end().ends_with(['}', ';']) {
        return start;
    }
    let closes = |line: &str| indent(line) == level && line.trim_start().starts_with(['}', ')']) && !line.trim_end().ends_with(['{', '(']);
    // A line that returns to the level without closing is the next item, after an expression without a block.
    let next = |line: &str| !line.trim().is_empty() && indent(line) <= level && !line.trim_start().starts_with(['}', ')', '{']);
    let past = lines.iter().skip(start + 1).position(|line| closes(line) || next(line));
    past.map_or(lines.len() - 1, |n| if closes(lines[start + 1 + n]) { start + 1 + n } else { start + n })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::Weight;

    fn body(lines: usize) -> String {
        "    let _ = 1;\n".repeat(lines)
    }

    fn faults(path: &str, text: &str, exceptions: &[(&str, usize)]) -> Vec<(Weight, usize)> {
        check_with(&Tree::of(&[(path, text)]), exceptions).iter().map(|f| (f.weight, f.line)).collect()
    }

    #[test]
    fn a_long_file_is_warned_of_before_it_fails_and_its_tests_do_not_count() {
        let with = |lines: usize| format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", "const A: u8 = 1;\n".repeat(lines), body(600));
        assert_eq!(faults("a/src/a.rs", &with(400), &[]), []);
        assert_eq!(faults("a/src/a.rs", &with(401), &[]), [(Weight::Warn, 400)]);
        assert_eq!(faults("a/src/a.rs", &with(501), &[]), [(Weight::Fail, 500)]);
        assert_eq!(faults("a/src/tests.rs", &with(501), &[]), []);
    }

    #[test]
    fn a_function_counts_from_its_head_to_its_closing_brace() {
        let with =
            |lines: usize| format!("impl A {{\n    pub(crate) async fn long(\n        &self,\n    ) -> u8 {{\n{}    }}\n}}\n", "        f();\n".repeat(lines));
        assert_eq!(faults("a.rs", &with(66), &[]), []);
        assert_eq!(faults("a.rs", &with(67), &[]), [(Weight::Fail, 2)]);
        assert_eq!(faults("a.rs", &format!("trait T {{\n    fn short(\n    );\n{}}}\n", "    // one\n".repeat(80)), &[]), []);
        assert_eq!(faults("a.rs", &format!("fn one() {{ two() }}\n{}", "const A: u8 = 1;\n".repeat(80)), &[]), []);
    }

    #[test]
    fn typescript_is_measured_too() {
        assert_eq!(faults("a.tsx", &format!("export function A() {{\n{}}}\n", body(68)), &[]), []);
        assert_eq!(faults("a.tsx", &format!("export function A({{\n  a,\n}}: Props) {{\n{}}}\n", body(68)), &[]), [(Weight::Fail, 1)]);
        assert_eq!(faults("a.ts", &format!("const a = async (b: string): Promise<void> => {{\n{}}};\n", body(80)), &[]), [(Weight::Fail, 1)]);
        assert_eq!(faults("a.ts", &format!("const a = (b: string) =>\n  b;\n{}", "call();\n".repeat(80)), &[]), []);
    }

    #[test]
    fn an_exception_may_only_shrink() {
        let text = format!("fn long() {{\n{}}}\n", body(80));
        assert_eq!(faults("a.rs", &text, &[("a.rs::long", 82)]), []);
        assert_eq!(faults("a.rs", &text, &[("a.rs::long", 81)]), [(Weight::Fail, 1)]);
        assert_eq!(faults("a.rs", "fn long() {}\n", &[("a.rs::long", 82)]), [(Weight::Fail, 1)]);
    }
}
