//! By which of its names a file is known. Links lead to it, and are one name with what they lead to; hard links are names that each
//! lie somewhere, with directories of their own above them, and each is a place of its own. Called by the site.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use keyvigil_common::limits::KEYSTORE_FILE_NAMES_MAX;

use super::disk::Disk;
use super::trouble::Trouble;
use super::walk::Named;

/// Where links to each file lead: the link, and the file without links.
pub(super) type Targets = HashMap<(u64, u64), Vec<(PathBuf, PathBuf)>>;

/// The files that a walk found, by the names that people and programs know them by.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) files: Vec<Named>,
    /// Other names of these.
    pub(super) others: Vec<PathBuf>,
    /// Of files with several names: where each lies, without links.
    pub(super) lie: HashMap<(u64, u64), Vec<PathBuf>>,
    /// Files with more names than are told.
    pub(super) troubles: Vec<(PathBuf, Trouble)>,
}

/// Where a link leads.
pub(super) fn target_of<'a>(targets: &'a Targets, link: &Path, which: (u64, u64)) -> Option<&'a Path> {
    targets.get(&which)?.iter().find(|(path, _)| path == link).map(|(_, target)| target.as_path())
}

impl Names {
    /// Sorts out what a walk found; `is_configured` says of a path whether a configuration names it.
    pub(super) fn of(mut found: Vec<Named>, disk: &Disk, targets: &Targets, is_configured: impl Fn(&Path) -> bool) -> Self {
        found.sort_by_key(|file| file.stamp.identity());
        let mut names = Self { files: Vec::with_capacity(found.len()), ..Self::default() };
        let mut directories = HashMap::new();
        let mut lies = |file: &Named| match target_of(targets, &file.path, file.stamp.identity()).filter(|_| file.link) {
            Some(target) => target.to_owned(),
            None => unlinked(disk, &mut directories, &file.path),
        };
        let mut found = found.into_iter().peekable();
        while let Some(first) = found.next() {
            let which = first.stamp.identity();
            let mut same = Vec::new();
            while let Some(file) = found.next_if(|file| file.stamp.identity() == which) {
                same.push(file);
            }
            if same.is_empty() {
                names.files.push(first);
            } else {
                same.push(first);
                // Whoever may write somewhere may put a link there to what is not theirs: that gives it no other name.
                let is_foreign = |file: &Named| file.link && !disk.owner(&file.path).is_some_and(|uid| uid == 0 || uid == file.stamp.uid);
                names.file(which, same.into_iter().map(|file| (lies(&file), is_foreign(&file), file)).collect(), &is_configured);
            }
        }
        // As bytes: part by part takes as long as all the rest of an unchanged look.
        names.files.sort_by(|a, b| a.path.as_os_str().cmp(b.path.as_os_str()));
        names
    }

    /// All names of one file, each with where it lies, and whether it is a link that somebody made whose file it is not.
    fn file(&mut self, which: (u64, u64), mut same: Vec<(PathBuf, bool, Named)>, is_configured: &impl Fn(&Path) -> bool) {
        let rank = |file: &Named| -> (bool, bool, bool) { (file.link && is_hash_link(&file.path), !is_configured(&file.path), !file.link) };
        same.sort_by_cached_key(|(_, is_foreign, file)| (*is_foreign, rank(file), file.path.as_os_str().to_owned(), file.pattern));
        let mut lie = HashSet::new();
        // Two configured paths may lead to one name.
        same.dedup_by(|(_, _, file), (_, _, before)| file.path == before.path);
        for (lies, _, file) in same {
            if !lie.insert(lies.clone()) {
                self.others.push(file.path);
                continue;
            }
            self.lie.entry(which).or_default().push(lies);
            match lie.len() - 1 {
                nth if nth < KEYSTORE_FILE_NAMES_MAX => self.files.push(Named { nth, ..file }),
                KEYSTORE_FILE_NAMES_MAX => {
                    let why = format!("a file with more than {KEYSTORE_FILE_NAMES_MAX} names; this one and those behind it are not told");
                    self.troubles.push((file.path, Trouble::limit(why)));
                }
                _ => self.others.push(file.path),
            }
        }
    }
}

/// A path without links in its directories.
fn unlinked(disk: &Disk, known: &mut HashMap<PathBuf, Option<PathBuf>>, path: &Path) -> PathBuf {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return path.to_owned() };
    if !known.contains_key(directory) {
        known.insert(directory.to_owned(), disk.canonical(directory).ok());
    }
    known.get(directory).and_then(Option::as_ref).map_or_else(|| path.to_owned(), |directory| directory.join(name))
}

/// `0a1b2c3d.0`, or `0a1b2c3d.r0` for a revocation list: it only serves OpenSSL's search by hash.
fn is_hash_link(path: &Path) -> bool {
    let name = path.file_name().unwrap_or(OsStr::new("")).to_string_lossy();
    let Some((hash, number)) = name.split_once('.') else { return false };
    let number = number.strip_prefix('r').unwrap_or(number);
    hash.len() == 8 && hash.bytes().all(|b| b.is_ascii_hexdigit()) && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
}
