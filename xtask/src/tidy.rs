//! The rules that a compiler does not know: a file a check. Each check takes the whole tree and returns faults; none of them
//! reads the disk, so that its tests give it a tree of their own.

mod direction;
mod opening;
mod paths;
mod size;
mod source;
mod supply;
mod words;

use std::fmt;

use crate::tree::Tree;

/// Whether a fault may stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// It must go.
    Fail,
    /// It is close to what must go.
    Warn,
}

/// Something that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Whether it may stay.
    pub weight: Weight,
    /// The file.
    pub path: String,
    /// Counted from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl Fault {
    fn new(path: &str, line: usize, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { weight: Weight::Fail, path: path.into(), line, what: what.into(), remedy: remedy.into() }
    }

    fn warning(self) -> Self {
        Self { weight: Weight::Warn, ..self }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let weight = if self.weight == Weight::Warn { "warning: " } else { "" };
        write!(f, "{}:{}: {weight}{}; {}", self.path, self.line, self.what, self.remedy)
    }
}

/// Runs every check, by path and line.
#[must_use]
pub fn check(tree: &Tree) -> Vec<Fault> {
    let checks = [size::check, words::check, opening::check, paths::check, direction::check, supply::check];
    let mut faults: Vec<Fault> = checks.iter().flat_map(|check| check(tree)).collect();
    faults.sort_by(|a, b| (a.weight, &a.path, a.line).cmp(&(b.weight, &b.path, b.line)));
    faults
}
