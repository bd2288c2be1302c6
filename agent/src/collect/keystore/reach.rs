//! What users other than the owner, and outside of the group, can do with a file: its own permission bits, and those of every
//! directory above it, up to the root. In a directory with the sticky bit nobody puts another in the place of what is not
//! theirs. An access control list changes nothing here: those it names are like the group, chosen, and the bits of others stay
//! what they are. Called by the site.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use keyvigil_common::key::Reach;

use super::disk::Disk;

const READ: u32 = 0o4;
const WRITE: u32 = 0o2;
const SEARCH: u32 = 0o1;
const STICKY: u32 = 0o1000;

/// What others can do in a directory.
#[derive(Debug, Clone, Copy)]
struct Above {
    search: bool,
    list: bool,
    /// Put another in the place of what lies in it, or of it, or of a directory above it.
    replace: bool,
}

/// The directories of one look, each asked once.
pub(super) struct Reaches<'a> {
    disk: &'a Disk,
    above: HashMap<PathBuf, Option<Above>>,
    /// By names that may lead through links.
    named: HashMap<PathBuf, Option<Above>>,
}

impl<'a> Reaches<'a> {
    pub(super) fn new(disk: &'a Disk) -> Self {
        Self { disk, above: HashMap::new(), named: HashMap::new() }
    }

    /// Of a file with these permission bits, which goes by `path`; `target` is where a link leads. `None` where a directory
    /// cannot be asked.
    pub(super) fn of(&mut self, path: &Path, target: Option<&Path>, mode: u32) -> Option<Reach> {
        let named = self.named(path.parent()?)?;
        // Whoever cannot get at the link may get at the file itself; whoever can change the link decides which file it is.
        let there = match target {
            Some(target) => self.above(target.parent()?)?,
            None => named,
        };
        let can = |bit: u32| there.search && mode & bit != 0;
        Some(Reach { read: can(READ), write: can(WRITE) || there.replace || named.replace, list: there.list })
    }

    fn named(&mut self, directory: &Path) -> Option<Above> {
        if let Some(known) = self.named.get(directory) {
            return *known;
        }
        let above = self.disk.canonical(directory).ok().and_then(|real| self.above(&real));
        self.named.insert(directory.to_owned(), above);
        above
    }

    fn above(&mut self, directory: &Path) -> Option<Above> {
        if let Some(known) = self.above.get(directory) {
            return *known;
        }
        let outer = match directory.parent() {
            Some(parent) => self.above(parent),
            None => Some(Above { search: true, list: true, replace: false }),
        };
        let above = outer.and_then(|outer| {
            let mode = self.disk.stat(directory).ok()?.mode;
            let search = outer.search && mode & SEARCH != 0;
            let replace = outer.replace || search && mode & WRITE != 0 && mode & STICKY == 0;
            Some(Above { search, list: outer.search && mode & READ != 0, replace })
        });
        self.above.insert(directory.to_owned(), above);
        above
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rootfs::RootFs;
    use crate::testkit::Workshop;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// Whether others may read, write and list, of a file of that mode below directories of those modes.
    fn reach(modes: [u32; 3], mode: u32) -> String {
        let shop = Workshop::new();
        shop.write("a/b/k", "");
        for (path, mode) in [("", modes[0]), ("a", modes[1]), ("a/b", modes[2]), ("a/b/k", mode)] {
            fs::set_permissions(shop.path(path), Permissions::from_mode(mode)).unwrap();
        }
        let disk = Disk::open_root(&RootFs::new(shop.root())).unwrap();
        tell(Reaches::new(&disk).of(Path::new("/a/b/k"), None, mode))
    }

    fn tell(reach: Option<Reach>) -> String {
        let Reach { read, write, list } = reach.unwrap();
        [(read, 'r'), (write, 'w'), (list, 'l')].into_iter().filter(|(can, _)| *can).map(|(_, what)| what).collect()
    }

    #[test]
    fn every_directory_above_counts() {
        let open = [0o755; 3];
        assert_eq!([reach(open, 0o644), reach(open, 0o640), reach(open, 0o602)], ["rl", "l", "wl"]);
        assert_eq!([reach([0o755, 0o700, 0o755], 0o666), reach([0o700, 0o777, 0o777], 0o666)], ["", ""]);
        assert_eq!(reach([0o755, 0o755, 0o711], 0o644), "r", "who knows its name");
        assert_eq!(reach([0o755, 0o755, 0o744], 0o644), "l", "its name and no more");
    }

    #[test]
    fn who_may_write_into_a_directory_above_puts_another_there_unless_it_is_sticky() {
        assert_eq!(reach([0o755, 0o777, 0o700], 0o600), "w");
        assert_eq!(reach([0o755, 0o755, 0o733], 0o600), "w");
        assert_eq!([reach([0o755, 0o1777, 0o700], 0o600), reach([0o755, 0o755, 0o1777], 0o644)], ["", "rl"]);
        assert_eq!(reach([0o755, 0o772, 0o755], 0o644), "", "writing into it takes entering it");
    }

    #[test]
    fn behind_a_link_the_file_counts_and_who_may_turn_the_link() {
        let shop = Workshop::new();
        for (path, mode) in [("", 0o755), ("open", 0o755), ("shut", 0o700), ("wild", 0o777)] {
            fs::create_dir_all(shop.path(path)).unwrap();
            fs::set_permissions(shop.path(path), Permissions::from_mode(mode)).unwrap();
        }
        for name in ["open", "shut"] {
            shop.write(&format!("{name}/k"), "");
            symlink(format!("/{name}"), shop.path(&format!("to-{name}"))).unwrap();
        }
        let disk = Disk::open_root(&RootFs::new(shop.root())).unwrap();
        let of = |path: &str, target: Option<&str>| tell(Reaches::new(&disk).of(Path::new(path), target.map(Path::new), 0o644));
        assert_eq!([of("/shut/l", Some("/open/k")), of("/open/l", Some("/shut/k")), of("/wild/l", Some("/shut/k"))], ["rl", "", "w"]);
        assert_eq!([of("/to-open/k", None), of("/to-shut/k", None)], ["rl", ""], "a directory may be a link, too");
    }
}
