//! Finds the files below the configured paths: bounded in number, depth and time, stays on each path's file system, enters each
//! directory once. What it could not look at it says. Never opens a file. Called by the sensor at each scan.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use keyvigil_common::limits::{KEYSTORE_DEPTH_MAX, KEYSTORE_FILES_MAX};
use rustix::fs::FileType;

use super::budget::Budget;
use super::disk::{Disk, Stamp};
use super::homes::Homes;
use super::pattern::{Pattern, is_missing};
use super::trouble::Trouble;

/// A regular file, by one of its names.
#[derive(Debug, Clone)]
pub(super) struct Named {
    /// As the host calls it.
    pub(super) path: PathBuf,
    /// Of the file itself.
    pub(super) stamp: Stamp,
    /// The name is a link.
    pub(super) link: bool,
    /// Which configured path led to it.
    pub(super) pattern: usize,
    /// Which of its names this is, where it has several.
    pub(super) nth: usize,
}

/// How a configured path was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Root {
    /// Nothing is there.
    Missing,
    /// Could not be looked at.
    Blind,
    /// Was looked at.
    Seen,
}

/// Directories as the host calls them, and which they are.
pub(super) type Directories = BTreeMap<PathBuf, (u64, u64)>;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) files: Vec<Named>,
    /// Directories that were listed.
    pub(super) directories: Directories,
    /// The paths that were asked for, whether they exist or not.
    pub(super) asked: Vec<PathBuf>,
    /// What could not be looked at, each with its path.
    pub(super) troubles: Vec<(PathBuf, Trouble)>,
    /// Of each configured path.
    pub(super) roots: Vec<Root>,
    /// Directories that were not, or not wholly, visited because there were too many names or the time was over.
    pub(super) unvisited: Vec<PathBuf>,
    /// Where to go on the next time.
    pub(super) rest: Rest,
}

/// What a walk did not come to.
#[derive(Debug, Default)]
pub(super) struct Rest {
    directories: Vec<Directory>,
    /// The first pattern that was not begun.
    pattern: usize,
}

impl Rest {
    pub(super) fn is_empty(&self) -> bool {
        self.directories.is_empty() && self.pattern == 0
    }
}

/// What is asked for.
pub(super) struct Ask<'a> {
    pub(super) disk: &'a Disk,
    pub(super) homes: &'a Homes,
    pub(super) patterns: &'a [&'a Pattern],
    pub(super) exclude: &'a [Pattern],
    pub(super) budget: &'a Budget,
}

/// One walk.
struct Walk<'a> {
    ask: Ask<'a>,
    found: Found,
    entered: HashSet<(u64, u64)>,
    /// Names that may be visited still.
    left: usize,
    /// Links to directories: entered at the end, so that a directory goes by its own name where it has one.
    links: Vec<Directory>,
    /// Links that lead to themselves, one of each circle.
    loops: HashSet<PathBuf>,
    is_crowded: bool,
}

#[derive(Debug)]
struct Directory {
    path: PathBuf,
    depth: usize,
    device: u64,
    pattern: usize,
}

/// Walks all configured paths, beginning with what the last walk did not come to.
pub(super) fn walk(ask: Ask<'_>, rest: Rest) -> Found {
    let first = rest.pattern % ask.patterns.len().max(1);
    let found = Found { roots: vec![Root::Seen; ask.patterns.len()], ..Found::default() };
    let mut walk = Walk { ask, found, entered: HashSet::new(), left: KEYSTORE_FILES_MAX, links: Vec::new(), loops: HashSet::new(), is_crowded: false };
    for directory in rest.directories {
        walk.directory(directory);
    }
    let count = walk.ask.patterns.len();
    for pattern in (first..count).chain(0..first) {
        walk.pattern(pattern);
    }
    while let Some(link) = walk.links.pop() {
        walk.directory(link);
    }
    if let Some(first) = walk.found.unvisited.first().cloned().filter(|_| walk.is_crowded) {
        let why = format!("more than {KEYSTORE_FILES_MAX} names lie below the configured paths, or most of them here; the others here are not looked at");
        walk.found.troubles.push((first, Trouble::limit(why)));
    }
    walk.found
}

/// Of several paths behind one pattern, one that is blind makes it blind.
fn worse(a: Root, b: Root) -> Root {
    match (a, b) {
        (Root::Blind, _) | (_, Root::Blind) => Root::Blind,
        (Root::Seen, _) | (_, Root::Seen) => Root::Seen,
        _ => Root::Missing,
    }
}

impl Walk<'_> {
    fn pattern(&mut self, pattern: usize) {
        let Ask { disk, homes, patterns, budget, .. } = self.ask;
        let configured = patterns[pattern];
        if budget.is_half_over() {
            // Nobody knows what stands behind it.
            self.found.unvisited.extend(configured.begins(homes));
            self.found.roots[pattern] = Root::Blind;
            if self.found.rest.pattern == 0 {
                self.found.rest.pattern = pattern;
            }
            return;
        }
        let expanded = configured.expand(disk, homes, self.left, &mut self.found.directories);
        let failed = expanded.failed.into_iter().map(|(path, e)| self.trouble(path, Trouble::system(&e))).fold(Root::Missing, worse);
        self.found.asked.extend(expanded.paths.iter().cloned());
        self.found.roots[pattern] = expanded.paths.into_iter().map(|path| self.root(path, pattern)).fold(failed, worse);
    }

    fn root(&mut self, path: PathBuf, pattern: usize) -> Root {
        if self.is_excluded(&path) {
            return Root::Missing;
        }
        match self.ask.disk.stat(&path) {
            Err(e) if is_missing(&e) => Root::Missing,
            Err(e) if Trouble::is_loop(&e) && !self.ask.patterns[pattern].is_one_path() => self.circle(path),
            Err(e) => self.trouble(path, Trouble::system(&e)),
            Ok(stamp) if stamp.file_type() == FileType::Directory => self.directory(Directory { path, depth: 0, device: stamp.device, pattern }),
            Ok(stamp) => {
                let link = self.ask.disk.is_link(&path);
                self.file(path, stamp, link, pattern);
                Root::Seen
            }
        }
    }

    fn trouble(&mut self, path: PathBuf, trouble: Trouble) -> Root {
        self.found.troubles.push((path, trouble));
        Root::Blind
    }

    /// A link that leads to itself holds no key; of those that lead to each other one is told.
    fn circle(&mut self, path: PathBuf) -> Root {
        let first = self.ask.disk.first_of_loop(&path).unwrap_or(path);
        if self.loops.insert(first.clone()) {
            self.trouble(first, Trouble::link_loop());
        }
        Root::Missing
    }

    fn is_excluded(&self, path: &Path) -> bool {
        self.ask.exclude.iter().any(|pattern| pattern.covers(path, self.ask.homes))
    }

    fn directory(&mut self, at: Directory) -> Root {
        // An explicit stack: the depth of the tree is not ours to decide.
        let mut outcome = Root::Seen;
        let mut stack = vec![at];
        while let Some(at) = stack.pop() {
            if self.ask.budget.is_half_over() {
                // The last walk may have left some that were visited first this time.
                let late = stack.into_iter().chain([at]).filter(|directory| !self.found.directories.contains_key(&directory.path));
                let before = self.found.rest.directories.len();
                self.found.rest.directories.extend(late);
                self.found.unvisited.extend(self.found.rest.directories[before..].iter().map(|directory| directory.path.clone()));
                return Root::Blind;
            }
            let depth = at.depth;
            let seen = self.list(at, &mut stack);
            if depth == 0 {
                outcome = seen;
            }
        }
        outcome
    }

    fn list(&mut self, at: Directory, stack: &mut Vec<Directory>) -> Root {
        if at.depth > KEYSTORE_DEPTH_MAX {
            return self.trouble(at.path, Trouble::limit(format!("deeper than {KEYSTORE_DEPTH_MAX} levels below its configured path")));
        }
        // No crowd takes all: what comes after it is looked at, too.
        let listing = match self.ask.disk.list(&at.path, self.left.div_ceil(2)) {
            Ok(listing) => listing,
            Err(e) if is_missing(&e) => return Root::Missing,
            Err(e) => return self.trouble(at.path, Trouble::system(&e)),
        };
        if listing.stamp.device != at.device {
            return self.trouble(at.path, Trouble::limit("another file system is mounted here: add it to the paths to have it watched".into()));
        }
        if !self.entered.insert(listing.stamp.identity()) {
            return Root::Seen;
        }
        self.left -= listing.entries.len();
        if listing.more {
            self.is_crowded = true;
            self.found.unvisited.push(at.path.clone());
        }
        for entry in listing.entries {
            let path = at.path.join(&entry.name);
            // Directories whose name begins so hold the versions of a mounted secret, whose names are links beside them.
            if entry.name.as_encoded_bytes().starts_with(b"..") || self.is_excluded(&path) {
                continue;
            }
            let deeper = Directory { path, depth: at.depth + 1, device: at.device, pattern: at.pattern };
            self.entry(deeper, entry.stamp, stack);
        }
        self.found.directories.insert(at.path, listing.stamp.identity());
        Root::Seen
    }

    fn entry(&mut self, at: Directory, stamp: io::Result<Stamp>, stack: &mut Vec<Directory>) {
        let link = stamp.as_ref().is_ok_and(|stamp| stamp.file_type() == FileType::Symlink);
        let stamp = if link { self.ask.disk.stat(&at.path) } else { stamp };
        match stamp {
            // A link to nothing holds no key.
            Err(e) if is_missing(&e) => {}
            Err(e) if link && Trouble::is_loop(&e) => drop(self.circle(at.path)),
            Err(e) => {
                self.trouble(at.path, Trouble::system(&e));
            }
            Ok(stamp) if stamp.file_type() == FileType::Directory => {
                if self.ask.patterns.get(at.pattern).is_some_and(|pattern| pattern.flat) {
                    // Only what lies in it was asked for.
                } else if link {
                    self.links.push(at);
                } else {
                    stack.push(at);
                }
            }
            Ok(stamp) => self.file(at.path, stamp, link, at.pattern),
        }
    }

    fn file(&mut self, path: PathBuf, stamp: Stamp, link: bool, pattern: usize) {
        match stamp.file_type() {
            FileType::RegularFile => self.found.files.push(Named { path, stamp, link, pattern, nth: 0 }),
            // Left there by multiplexed SSH sessions.
            FileType::Socket => {}
            _ => {
                self.trouble(path, Trouble::not_regular());
            }
        }
    }
}
