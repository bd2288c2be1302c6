//! Which files and lines are tests. Indentation tells where an item ends: the formatter sees to that.

use std::collections::BTreeSet;

use crate::tree::{File, Tree};

/// Files that hold nothing but tests.
pub(super) struct Tests(BTreeSet<String>);

impl Tests {
    /// Finds them: by name, by directory, and where a module is declared for tests only.
    pub(super) fn find(tree: &Tree) -> Self {
        let mut set = BTreeSet::new();
        for file in &tree.files {
            let by_name = file.name() == "tests.rs" || file.path.contains("/tests/") || file.path.starts_with("tests/");
            if by_name || [".test.ts", ".test.tsx"].iter().any(|end| file.path.ends_with(end)) {
                set.insert(file.path.clone());
            }
            for module in test_modules(file) {
                set.insert(format!("{module}.rs"));
                let inside = format!("{module}/");
                set.extend(tree.files.iter().filter(|f| f.path.starts_with(&inside)).map(|f| f.path.clone()));
            }
        }
        Self(set)
    }

    /// Whether `file` is one.
    pub(super) fn holds(&self, file: &File) -> bool {
        self.0.contains(&file.path)
    }
}

/// Paths (without `.rs`) of modules declared by `#[cfg(test)] mod name;`.
fn test_modules(file: &File) -> Vec<String> {
    if !file.is_rust() {
        return Vec::new();
    }
    let (dir, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
    let room = match name {
        "lib.rs" | "main.rs" => dir.to_owned(),
        _ => file.path.trim_end_matches(".rs").to_owned(),
    };
    let lines: Vec<&str> = file.text.lines().map(str::trim).collect();
    let pairs = lines.iter().zip(lines.iter().skip(1)).filter(|(above, _)| **above == "#[cfg(test)]");
    pairs.filter_map(|(_, line)| line.strip_prefix("mod ")?.strip_suffix(';')).map(|name| format!("{room}/{name}")).collect()
}

/// For each line of a Rust file, whether it is inside an item for tests only (`#[cfg(test)]`).
pub(super) fn test_lines(text: &str) -> Vec<bool> {
    let lines: Vec<&str> = text.lines().collect();
    let mut test = vec![false; lines.len()];
    let mut at = 0;
    while at < lines.len() {
        if lines[at].trim() == "#[cfg(test)]" {
            let end = item_end(&lines, at + 1);
            test[at..=end].fill(true);
            at = end;
        }
        at += 1;
    }
    test
}

/// Last line of the item whose first line is `lines[start]`.
pub(super) fn item_end(lines: &[&str], start: usize) -> usize {
    let Some(first) = lines.get(start) else { return start.saturating_sub(1) };
    let indent = indent(first);
    for (at, line) in lines.iter().enumerate().skip(start) {
        let trimmed = line.trim_end();
        let level = self::indent(line);
        if at == start && (trimmed.ends_with('}') || trimmed.ends_with(';')) {
            return at;
        }
        if at > start && level == indent && trimmed[level..].starts_with(['}', ')']) && trimmed.ends_with(['}', ';', ',']) {
            return at;
        }
        // The end of a declaration without a body that was broken over lines.
        if at > start && level == indent && trimmed.ends_with(';') && !trimmed.contains('{') {
            return at;
        }
    }
    lines.len() - 1
}

/// Blanks in front.
pub(super) fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_test_module_end_where_it_ends() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {\n    }\n}\nfn c() {}\n#[cfg(test)]\nmod props;\n";
        assert_eq!(test_lines(text), [false, true, true, true, true, true, false, true, true]);
    }

    #[test]
    fn a_module_declared_for_tests_is_a_test_with_all_below_it() {
        let tree = Tree::of(&[
            ("a/src/alert.rs", "#[cfg(test)]\nmod golden;\nmod step;\n"),
            ("a/src/alert/golden.rs", ""),
            ("a/src/alert/golden/more.rs", ""),
            ("a/src/alert/step.rs", ""),
            ("a/src/lib.rs", "#[cfg(test)]\nmod help;\n"),
            ("a/src/help.rs", ""),
            ("a/src/store/tests.rs", ""),
            ("tests/tests/x.rs", ""),
            ("web/src/x.test.ts", ""),
        ]);
        let tests = Tests::find(&tree);
        let found: Vec<&str> = tree.files.iter().filter(|f| tests.holds(f)).map(|f| f.path.as_str()).collect();
        assert_eq!(
            found,
            ["a/src/alert/golden.rs", "a/src/alert/golden/more.rs", "a/src/help.rs", "a/src/store/tests.rs", "tests/tests/x.rs", "web/src/x.test.ts"]
        );
    }
}
