//! Configured paths: absolute or below homes (`~*/.ssh`, `~bob/keys`), with globs within a part and `**` for any number of
//! directories. Says which paths stand behind one and whether one covers a path. Called by the walk.

use std::io;
use std::path::{Component, Path, PathBuf};

use keyvigil_common::limits::KEYSTORE_DEPTH_MAX;
use rustix::fs::FileType;

use super::disk::{Disk, Entry};
use super::glob::Part;
use super::homes::Homes;
use super::walk::Directories;
use crate::rootfs::RootFs;

/// One configured path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    /// As configured.
    pub(super) text: String,
    /// Whose homes it begins with: a part that fits users' names.
    home: Option<Part>,
    parts: Vec<Part>,
    /// Of directories only the files that lie in them directly.
    pub(super) flat: bool,
}

/// What stands behind a pattern.
#[derive(Debug, Default)]
pub(super) struct Expanded {
    /// Whether they exist or not.
    pub(super) paths: Vec<PathBuf>,
    /// Directories that could not be listed.
    pub(super) failed: Vec<(PathBuf, io::Error)>,
}

/// Whether an absolute path is the one of a pattern, or lies below it.
pub(crate) fn covers_path(pattern: &str, path: &Path) -> bool {
    let pattern = Pattern::new(pattern);
    pattern.home.is_none() && pattern.covers_below(path)
}

/// Those of `texts` that name a path in full behind which nothing is; what cannot be asked may be there.
pub(crate) fn missing<'a>(root: &RootFs, texts: impl Iterator<Item = &'a String>) -> Vec<&'a String> {
    let Ok(disk) = Disk::open_root(root) else { return Vec::new() };
    let mut homes = Homes::default();
    homes.refresh(&disk);
    let leads_nowhere = |text: &&String| {
        let pattern = Pattern::new(text);
        let paths = pattern.expand(&disk, &homes, 1_000, &mut Directories::new()).paths;
        pattern.is_literal() && paths.iter().all(|path| disk.stat(path).is_err_and(|e| is_missing(&e)))
    };
    texts.filter(leads_nowhere).collect()
}

/// Whether a text has one of the two forms of a pattern.
pub(crate) fn is_pattern(text: &str) -> bool {
    text.starts_with('/') || text.starts_with('~') && text.contains('/') && !text.starts_with("~/")
}

impl Pattern {
    pub(super) fn new(text: &str) -> Self {
        let (home, rest) = match text.strip_prefix('~').and_then(|text| text.split_once('/')) {
            Some((user, rest)) => (Some(Part::new(user)), rest),
            None => (None, text),
        };
        let parts = Path::new(rest).components().filter_map(|part| match part {
            Component::Normal(name) => Some(Part::new(&name.to_string_lossy())),
            _ => None,
        });
        Self { text: text.to_owned(), home, parts: parts.collect(), flat: false }
    }

    /// One that asks of directories only for the files that lie in them directly.
    pub(super) fn flat(text: &str) -> Self {
        Self { flat: true, ..Self::new(text) }
    }

    /// The paths behind it, at most `limit`. Directories that it listed to find out are added to `listed`.
    pub(super) fn expand(&self, disk: &Disk, homes: &Homes, limit: usize, listed: &mut Directories) -> Expanded {
        let mut found = Expanded { paths: vec![PathBuf::from("/")], failed: Vec::new() };
        if let Some(users) = &self.home {
            found.paths = homes.of(|user| users.matches(user)).map(Path::to_owned).collect();
        }
        for (at, part) in self.parts.iter().enumerate() {
            let is_last = at + 1 == self.parts.len();
            let mut next = Vec::new();
            for path in std::mem::take(&mut found.paths) {
                let left = limit.saturating_sub(next.len());
                match part {
                    Part::Names(names) => next.extend(names.iter().map(|name| path.join(name)).take(left)),
                    Part::Globs(_) => {
                        let fits = |entry: &Entry| part.matches(&entry.name.to_string_lossy()) && (is_last || may_be_directory(entry));
                        let entries = list(disk, &path, limit, &mut found.failed, listed);
                        next.extend(entries.iter().filter(|entry| fits(entry)).map(|entry| path.join(&entry.name)).take(left));
                    }
                    Part::Deep => deep(disk, path, left, &mut next, &mut found.failed, listed),
                }
            }
            next.sort();
            next.dedup();
            found.paths = next;
        }
        found
    }

    /// Whether it begins with somebody's home.
    pub(super) fn is_of_homes(&self) -> bool {
        self.home.is_some()
    }

    /// Whether a configuration names just that, or the administrator: what stands behind it is missed where it cannot be seen.
    pub(super) fn is_one_path(&self) -> bool {
        !self.flat && matches!(self.parts.last(), Some(Part::Names(_)))
    }

    /// Whether it names all its paths in full: where none of them is there, that is no accident of globs.
    pub(super) fn is_literal(&self) -> bool {
        self.home.iter().chain(&self.parts).all(|part| matches!(part, Part::Names(_)))
    }

    /// Whether its names may begin with a dot.
    pub(super) fn asks_for_hidden(&self) -> bool {
        self.parts.last().is_some_and(|part| part.asks_for_hidden() || matches!(part, Part::Names(_)))
    }

    /// Directories in which all lies that may stand behind it.
    pub(super) fn begins(&self, homes: &Homes) -> Vec<PathBuf> {
        if let Some(users) = &self.home {
            return homes.of(|user| users.matches(user)).map(Path::to_owned).collect();
        }
        let known = self.parts.iter().map_while(|part| if let Part::Names(names) = part { <&[String; 1]>::try_from(&names[..]).ok() } else { None });
        vec![known.fold(PathBuf::from("/"), |path, [name]| path.join(name))]
    }

    /// Whether `path` is one of those behind it, or lies below one.
    pub(super) fn covers(&self, path: &Path, homes: &Homes) -> bool {
        match &self.home {
            None => self.covers_below(path),
            Some(users) => homes.of(|user| users.matches(user)).filter_map(|home| path.strip_prefix(home).ok()).any(|rest| self.covers_below(rest)),
        }
    }

    fn covers_below(&self, rest: &Path) -> bool {
        let names: Vec<_> = rest.components().filter(|part| matches!(part, Component::Normal(_))).map(|part| part.as_os_str().to_string_lossy()).collect();
        covers(&self.parts, &names)
    }
}

fn covers(parts: &[Part], names: &[std::borrow::Cow<'_, str>]) -> bool {
    match parts.split_first() {
        None => true,
        // Two of them in a row are one; the depth of what they skip is bounded as it is when they are followed.
        Some((Part::Deep, rest)) => (0..=names.len().min(KEYSTORE_DEPTH_MAX)).any(|skipped| covers(rest, &names[skipped..])),
        Some((part, rest)) => names.split_first().is_some_and(|(name, names)| part.matches(name) && covers(rest, names)),
    }
}

fn may_be_directory(entry: &Entry) -> bool {
    entry.stamp.as_ref().is_ok_and(|stamp| matches!(stamp.file_type(), FileType::Directory | FileType::Symlink))
}

fn list(disk: &Disk, path: &Path, limit: usize, failed: &mut Vec<(PathBuf, io::Error)>, listed: &mut Directories) -> Vec<Entry> {
    match disk.list(path, limit) {
        Ok(listing) => {
            if listing.more {
                failed.push((path.to_owned(), io::Error::other("too many names")));
            }
            listed.insert(path.to_owned(), listing.stamp.identity());
            listing.entries
        }
        Err(e) if is_missing(&e) => Vec::new(),
        Err(e) => {
            failed.push((path.to_owned(), e));
            Vec::new()
        }
    }
}

/// A directory and all below it, not through links and not on other file systems.
fn deep(disk: &Disk, top: PathBuf, limit: usize, into: &mut Vec<PathBuf>, failed: &mut Vec<(PathBuf, io::Error)>, listed: &mut Directories) {
    let Ok(device) = disk.stat(&top).map(|stamp| stamp.device) else { return };
    let most = into.len() + limit;
    let mut names = limit;
    let mut stack = vec![(top, 0)];
    while let Some((path, depth)) = stack.pop() {
        if into.len() >= most || names == 0 {
            failed.push((path, io::Error::other("too many names")));
            return;
        }
        let entries = list(disk, &path, names, failed, listed);
        names = names.saturating_sub(entries.len());
        let directories = entries.into_iter().filter(|entry| {
            let is_it = |stamp: &super::disk::Stamp| stamp.file_type() == FileType::Directory && stamp.device == device;
            depth < KEYSTORE_DEPTH_MAX && entry.stamp.as_ref().is_ok_and(is_it)
        });
        stack.extend(directories.map(|entry| (path.join(entry.name), depth + 1)));
        into.push(path);
    }
}

/// Whether an error says that nothing is there.
pub(super) fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rootfs::RootFs;
    use crate::testkit::Workshop;

    fn homes(shop: &Workshop) -> (Disk, Homes) {
        let disk = Disk::open_root(&RootFs::new(shop.root())).unwrap();
        let homes = Homes::read(&disk);
        (disk, homes)
    }

    fn behind(shop: &Workshop, pattern: &str) -> Vec<String> {
        let (disk, homes) = homes(shop);
        let found = Pattern::new(pattern).expand(&disk, &homes, 1_000, &mut Directories::new());
        assert!(found.failed.is_empty());
        found.paths.iter().map(|path| path.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_pattern_covers_what_lies_below_it() {
        let shop = Workshop::new();
        shop.write("etc/passwd", "bob:x:1000:1000::/home/bob:/bin/sh\npostgres:x:26:26::/var/lib/pgsql:/bin/sh\n");
        std::fs::create_dir_all(shop.path("home/bob")).unwrap();
        std::fs::create_dir_all(shop.path("var/lib/pgsql")).unwrap();
        let (_, homes) = homes(&shop);
        let covers = |pattern: &str, path: &str| Pattern::new(pattern).covers(Path::new(path), &homes);
        assert!(covers("/home/*/.ssh", "/home/bob/.ssh/id") && covers("/home/*/.ssh", "/home/bob/.ssh"));
        assert!(!covers("/home/*/.ssh", "/home/bob") && !covers("/home/*/.ssh", "/home/bob/x/.ssh"));
        assert!(covers("~*/.ssh", "/var/lib/pgsql/.ssh/id") && covers("~bob/.ssh", "/home/bob/.ssh/id"));
        assert!(!covers("~bob/.ssh", "/var/lib/pgsql/.ssh/id") && !covers("~*/.ssh", "/srv/.ssh/id"));
        assert!(covers("/srv/**/tls", "/srv/tls/a") && covers("/srv/**/tls", "/srv/a/b/tls/c.pem") && !covers("/srv/**/tls", "/srv/a/b/c.pem"));
    }

    #[test]
    fn the_paths_behind_a_pattern_are_those_that_exist_where_it_has_to_look() {
        let shop = Workshop::new();
        shop.write("etc/passwd", "root:x:0:0::/root:/bin/sh\nbob:x:1000:1000::/home/bob:/bin/sh\ngone:x:5:5::/nonexistent:/bin/false\nsys:x:3:3::/dev:/x\n");
        for file in ["root/.ssh/id", "home/bob/x", "home/ldap-user/.ssh/id", "srv/a/tls/k", "srv/a/b/tls/k", "srv/tls", "srv/c/file", "dev/.ssh/id"] {
            shop.write(file, "");
        }
        assert_eq!(behind(&shop, "~*/.ssh"), ["/home/bob/.ssh", "/home/ldap-user/.ssh", "/root/.ssh"], "of devices nobody wants to know");
        assert_eq!(behind(&shop, "~root/.{ssh,gnupg}"), ["/root/.gnupg", "/root/.ssh"]);
        assert_eq!(behind(&shop, "/srv/[ab]/{tls,ssl}"), ["/srv/a/ssl", "/srv/a/tls"]);
        assert_eq!(behind(&shop, "/srv/**/t?s"), ["/srv/a/b/tls", "/srv/a/tls", "/srv/tls"]);
        assert_eq!(behind(&shop, "/srv/*/*"), ["/srv/a/b", "/srv/a/tls", "/srv/c/file"]);
        assert_eq!(behind(&shop, "/never/there"), ["/never/there"]);
    }
}
