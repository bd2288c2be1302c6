//! What users other than the owner, and outside of the group, can do with a file: its own permission bits and its access control
//! list, and those of every directory above it, up to the root, by whichever of its names one comes. In a directory with the sticky
//! bit nobody puts another in the place of what is not theirs. What cannot be asked makes it unknown. Called by the site.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use keyvigil_common::key::Reach;

use super::disk::{Disk, Stamp};
use crate::parse::acl::{Acl, Who};

const READ: u32 = 0o4;
const WRITE: u32 = 0o2;
const SEARCH: u32 = 0o1;
const STICKY: u32 = 0o1000;

/// Who can do something, of those that are neither the owner nor in the group.
#[derive(Debug, Clone)]
enum Others {
    Everyone,
    /// Whom access control lists name.
    Only(Vec<Who>),
}

impl Others {
    fn is_somebody(&self) -> bool {
        !matches!(self, Self::Only(list) if list.is_empty())
    }

    /// Those of them who can do `what` with something that has these permissions.
    fn who_can(&self, what: u32, stamp: &Stamp, acl: &Acl) -> Self {
        let everyone = stamp.mode & what == what;
        let is_granted = |can: u32| can & what == what;
        match self {
            Self::Everyone if everyone => Self::Everyone,
            Self::Everyone => Self::Only(acl.0.iter().filter(|(who, can)| is_granted(*can) && !is_own(*who)).map(|(who, _)| *who).collect()),
            Self::Only(list) => {
                let by_mode = |who: &Who| match who {
                    Who::User(id) if *id == stamp.uid => is_granted(stamp.mode >> 6),
                    Who::Group(id) if *id == stamp.gid => is_granted(stamp.mode >> 3),
                    _ => acl.of(*who).map_or(everyone, is_granted),
                };
                Self::Only(list.iter().copied().filter(by_mode).collect())
            }
        }
    }

    /// Without those who own it, or are in its group.
    fn without_owners(self, stamp: &Stamp) -> Self {
        let is_other = |who: &Who| *who != Who::User(stamp.uid) && *who != Who::Group(stamp.gid);
        match self {
            Self::Everyone => Self::Everyone,
            Self::Only(list) => Self::Only(list.into_iter().filter(is_other).collect()),
        }
    }
}

/// Whether it is the agent itself, which a list lets in so that it can look, or root, whom nothing keeps out.
fn is_own(who: Who) -> bool {
    match who {
        Who::User(id) => id == 0 || id == rustix::process::geteuid().as_raw(),
        Who::Group(id) => id == rustix::process::getegid().as_raw(),
    }
}

/// What others can do in a directory.
#[derive(Debug, Clone)]
struct Above {
    search: Others,
    /// Everyone can.
    list: bool,
    /// Put another in the place of what lies in it, or of it, or of a directory above it.
    replace: bool,
}

/// A file by one of its names.
pub(super) struct File<'a> {
    pub(super) path: &'a Path,
    /// Where a link leads.
    pub(super) target: Option<&'a Path>,
    pub(super) stamp: &'a Stamp,
    /// `None` where it is not known.
    pub(super) acl: Option<&'a Acl>,
    /// Where the file lies, where it has several names that were found.
    pub(super) lies: &'a [PathBuf],
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

    /// `None` where a directory cannot be asked, or the file's list, or where the file has a name that was not found.
    pub(super) fn of(&mut self, file: &File<'_>) -> Option<Reach> {
        let named = self.named(file.path.parent()?)?;
        // Whoever cannot get at the link may get at the file itself; whoever can change the link decides which file it is.
        let there = match file.target {
            Some(target) => self.above(target.parent()?)?,
            None => named.clone(),
        };
        let can = |above: &Above, what: u32| match file.acl {
            Some(acl) => Some(above.search.who_can(what, file.stamp, acl).without_owners(file.stamp).is_somebody()),
            None => matches!(above.search.who_can(what, file.stamp, &Acl::default()), Others::Everyone).then_some(true),
        };
        let (mut read, mut write) = (can(&there, READ)?, can(&there, WRITE)?);
        for lies in file.lies {
            let door = self.above(lies.parent()?)?;
            (read, write) = (read || can(&door, READ)?, write || can(&door, WRITE)?);
        }
        let is_somewhere_else = file.stamp.links > file.lies.len().max(1) as u64;
        let anywhere = Above { search: Others::Everyone, list: false, replace: false };
        if is_somewhere_else && (!read && can(&anywhere, READ)? || !write && can(&anywhere, WRITE)?) {
            return None;
        }
        Some(Reach { read, write: write || there.replace || named.replace, list: there.list })
    }

    fn named(&mut self, directory: &Path) -> Option<Above> {
        if let Some(known) = self.named.get(directory) {
            return known.clone();
        }
        let above = self.disk.canonical(directory).ok().and_then(|real| self.above(&real));
        self.named.insert(directory.to_owned(), above.clone());
        above
    }

    fn above(&mut self, directory: &Path) -> Option<Above> {
        if let Some(known) = self.above.get(directory) {
            return known.clone();
        }
        let outer = match directory.parent() {
            Some(parent) => self.above(parent),
            None => Some(Above { search: Others::Everyone, list: true, replace: false }),
        };
        let above = outer.and_then(|outer| {
            let stamp = self.disk.stat(directory).ok()?;
            let acl = self.disk.acl(directory, &stamp).ok()?;
            let can = |what: u32| outer.search.who_can(what, &stamp, &acl);
            let replace = outer.replace || stamp.mode & STICKY == 0 && can(SEARCH | WRITE).is_somebody();
            Some(Above { search: can(SEARCH), list: matches!(can(READ), Others::Everyone), replace })
        });
        self.above.insert(directory.to_owned(), above.clone());
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
        tell(of(&disk, "/a/b/k", None))
    }

    fn of(disk: &Disk, path: &str, target: Option<&str>) -> Option<Reach> {
        let (path, target) = (Path::new(path), target.map(Path::new));
        let stamp = disk.stat(target.unwrap_or(path)).unwrap();
        let acl = disk.acl(target.unwrap_or(path), &stamp).ok();
        Reaches::new(disk).of(&File { path, target, stamp: &stamp, acl: acl.as_ref(), lies: &[] })
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
            let path = shop.write(&format!("{name}/k"), "");
            fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
            symlink(format!("/{name}"), shop.path(&format!("to-{name}"))).unwrap();
        }
        let disk = Disk::open_root(&RootFs::new(shop.root())).unwrap();
        let of = |path: &str, target: Option<&str>| tell(of(&disk, path, target));
        assert_eq!([of("/shut/l", Some("/open/k")), of("/open/l", Some("/shut/k")), of("/wild/l", Some("/shut/k"))], ["rl", "", "w"]);
        assert_eq!([of("/to-open/k", None), of("/to-shut/k", None)], ["rl", ""], "a directory may be a link, too");
    }

    /// The same after `setfacl` has run, with these arguments, on the file and then on its directories.
    fn listed(lists: [&str; 3], modes: [u32; 3]) -> String {
        let shop = Workshop::new();
        shop.write("a/b/k", "");
        for (path, mode) in [("", 0o755), ("a", modes[0]), ("a/b", modes[1]), ("a/b/k", modes[2])] {
            fs::set_permissions(shop.path(path), Permissions::from_mode(mode)).unwrap();
        }
        for (list, path) in lists.into_iter().zip(["a/b/k", "a/b", "a"]).filter(|(list, _)| !list.is_empty()) {
            shop.run("setfacl", &format!("{list} {path}"));
        }
        tell(of(&Disk::open_root(&RootFs::new(shop.root())).unwrap(), "/a/b/k", None))
    }

    #[test]
    fn whom_a_list_lets_in_counts_as_far_as_its_mask_and_the_directories_go() {
        let open = [0o755, 0o755, 0o600];
        let list = |list| listed([list, "", ""], open);
        assert_eq!([list("-m u:1:r"), list("-m g:12:r"), list("-m u:1:rw"), list("-m u:1:-"), list("-m u:1:x")], ["rl", "rl", "rwl", "l", "l"]);
        assert_eq!([list("-m u:1:rw,m::r"), list("-m u:1:rw,m::-")], ["rl", "l"], "the mask takes it away");
        assert_eq!([list("-m u:0:r"), list("-m g:0:r")], ["l", "l"], "its owner, its group");
        let shut = [0o750, 0o750, 0o640];
        assert_eq!(listed(["-m u:1:r", "", ""], shut), "", "no way to it");
        assert_eq!(listed(["-m u:1:r", "-m u:1:x", "-m u:1:x"], shut), "r");
        assert_eq!(listed(["-m u:1:r", "-m u:2:x", "-m u:1:x,u:2:x"], shut), "", "one may enter, another may read");
        assert_eq!(listed(["", "-m u:1:x", "-m u:1:x"], [0o750, 0o750, 0o644]), "r", "among all that may enter, too");
        assert_eq!(listed(["", "-m u:1:rwx", ""], [0o755, 0o700, 0o600]), "w", "another put in its place");
        assert_eq!(listed(["-m u:1:-", "", ""], [0o755, 0o755, 0o644]), "rl", "one who may not, of all who may");
    }

    #[test]
    fn by_each_name_of_a_file_one_may_come_and_a_name_that_nobody_found_leaves_it_unknown() {
        let shop = Workshop::new();
        let key = shop.write("shut/k", "");
        shop.write("open/other", "");
        for (path, mode) in [("", 0o755), ("shut", 0o700), ("open", 0o755), ("shut/k", 0o644)] {
            fs::set_permissions(shop.path(path), Permissions::from_mode(mode)).unwrap();
        }
        fs::hard_link(&key, shop.path("open/k")).unwrap();
        let disk = Disk::open_root(&RootFs::new(shop.root())).unwrap();
        let path = Path::new("/shut/k");
        let of = |lies: &[PathBuf]| {
            let stamp = disk.stat(path).unwrap();
            Reaches::new(&disk).of(&File { path, target: None, stamp: &stamp, acl: Some(&Acl::default()), lies })
        };
        assert_eq!(tell(of(&["/shut/k".into(), "/open/k".into()])), "r");
        assert_eq!(of(&[]), None);
        fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(tell(of(&[])), "", "wherever it lies");
    }
}
