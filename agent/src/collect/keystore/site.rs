//! One host that is looked at, or one container on it: its homes, its configurations, its files, as of the latest look. Called
//! by the sensor, which compares and tells.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use super::budget::Budget;
use super::disk::Disk;
use super::homes::Homes;
use super::model::Hidden;
use super::named::Naming;
use super::names::{Names, Targets, target_of};
use super::owner::Owners;
use super::parser::Parser;
use super::pattern::Pattern;
use super::reach::{File, Reaches};
use super::reader::{Look, Reader, Surroundings};
use super::trouble::Trouble;
use super::walk::{self, Ask, Found, Named, Rest, Root};
use crate::collect::At;
use crate::collect::known::OwnReads;
use crate::rootfs::RootFs;

/// Where distributions keep the authorities that everyone trusts: hundreds of certificates that nobody here renews.
const TRUST_STORES: [&str; 7] = [
    "/etc/ssl/certs",
    "/usr/share/pki",
    "/etc/pki/ca-trust",
    "/etc/pki/tls/certs",
    "/usr/share/ca-certificates",
    "/etc/ca-certificates",
    "/var/lib/ca-certificates",
];

/// One host.
#[derive(Debug)]
pub(super) struct Site {
    /// Before each path, where it is not the agent's own host.
    pub(super) prefix: String,
    pub(super) root: RootFs,
    own: OwnReads,
    pub(super) homes: Homes,
    pub(super) reader: Reader,
    naming: Naming,
    rest: Rest,
    /// Where links lead.
    targets: Targets,
    /// It was looked at before.
    pub(super) is_known: bool,
}

/// What the configuration asks for.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) paths: &'a [Pattern],
    pub(super) exclude: &'a [Pattern],
    /// Files that configurations named once.
    pub(super) kept: &'a [Pattern],
    /// Whether files are looked at that configurations name.
    pub(super) named: bool,
}

/// What a look found, beside what the reader holds.
pub(super) struct Looked {
    pub(super) disk: Disk,
    pub(super) found: Found,
    /// Names of files that go by another one.
    pub(super) names: HashSet<String>,
    pub(super) hidden: Hidden,
    /// How many files wait for the next look, where there was no time.
    pub(super) late: Option<usize>,
}

impl Site {
    pub(super) fn new(prefix: &str, root: RootFs, own: OwnReads) -> Self {
        Self {
            prefix: prefix.to_owned(),
            root,
            own,
            homes: Homes::default(),
            reader: Reader::of(prefix),
            naming: Naming::default(),
            rest: Rest::default(),
            targets: Targets::new(),
            is_known: false,
        }
    }

    /// Goes in by another root, where one is given.
    pub(super) fn enter(&mut self, root: Option<&PathBuf>) {
        if let Some(root) = root {
            self.root = RootFs::new(root);
        }
    }

    /// Looks once.
    ///
    /// # Errors
    /// The root cannot be opened.
    pub(super) fn look(&mut self, wanted: Wanted<'_>, at: At, budget: &Budget, parser: &Parser) -> io::Result<Looked> {
        let disk = Disk::open_root(&self.root)?.counting(self.own.clone());
        let look = Look { disk: &disk, at, budget, parser };
        self.homes.refresh(&disk);
        if wanted.named {
            self.naming.refresh(&look, &self.homes);
        }
        let named = self.naming.uses.iter().map(|named| &named.pattern);
        let patterns: Vec<&Pattern> = wanted.paths.iter().chain(named).chain(wanted.kept).collect();
        let ask = Ask { disk: &disk, homes: &self.homes, patterns: &patterns, exclude: wanted.exclude, budget };
        let mut found = walk::walk(ask, std::mem::take(&mut self.rest));
        self.rest = std::mem::take(&mut found.rest);
        self.own_troubles(wanted, &mut found);
        self.follow(&disk, &found.files);
        let users = Users::of(&self.naming, wanted.paths.len(), &found.files);
        let configured: HashSet<&Path> = self.naming.uses.iter().filter_map(|named| named.path.as_deref()).collect();
        let names = Names::of(std::mem::take(&mut found.files), &disk, &self.targets, |path| configured.contains(path));
        found.troubles.extend(names.troubles);
        let hides = found.troubles.iter().filter(|(_, trouble)| trouble.hides).map(|(path, _)| path);
        let late = found.unvisited.iter().cloned().collect();
        let mut hidden = Hidden { blocked: hides.chain(&found.unvisited).cloned().collect(), late, visited: BTreeSet::new() };
        if !hidden.late.is_empty() {
            hidden.visited = found.directories.keys().cloned().collect();
        }
        let late = self.reader.read(&look, names.files, &mut Owners::new(&self.root), |path| hidden.covers(path));
        let unread: BTreeSet<PathBuf> = late.iter().filter_map(|path| path.parent()).map(Path::to_owned).collect();
        hidden.blocked.extend(unread.iter().cloned());
        hidden.late.extend(unread);
        let late = (!late.is_empty() || !self.rest.is_empty()).then_some(late.len());
        self.describe(&disk, &users, &names.lie);
        let names = names.others.iter().map(|path| self.reader.name(path)).collect();
        let named = |paths: BTreeSet<PathBuf>| paths.iter().map(|path| PathBuf::from(self.reader.name(path))).collect();
        let hidden = Hidden { blocked: named(hidden.blocked), late: named(hidden.late), visited: named(hidden.visited) };
        Ok(Looked { disk, found, names, hidden, late })
    }

    /// All places where links lead.
    pub(super) fn targets(&self) -> impl Iterator<Item = &Path> {
        self.targets.values().flatten().map(|(_, target)| target.as_path())
    }

    /// What is wrong with homes, configurations and what they name.
    fn own_troubles(&mut self, wanted: Wanted<'_>, found: &mut Found) {
        let is_asked = |path: &Path| !wanted.exclude.iter().any(|pattern| pattern.covers(path, &self.homes));
        if wanted.paths.iter().any(Pattern::is_of_homes) {
            let closed = self.homes.closed.iter().map(|(path, e)| (path.clone(), Trouble::system(e)));
            found.troubles.extend(closed.filter(|(path, _)| is_asked(path)));
            found.directories.append(&mut self.homes.listed.clone());
            if self.homes.more {
                let most = keyvigil_common::limits::KEYSTORE_HOMES_MAX;
                found.troubles.push(("/etc/passwd".into(), Trouble::limit(format!("more than {most} homes; the others are not looked at"))));
            }
        }
        found.troubles.extend(self.naming.troubles.iter().filter(|(path, _)| is_asked(path)).cloned());
        found.directories.append(&mut self.naming.listed.clone());
        found.asked.extend(self.naming.files.iter().cloned());
        found.asked.push("/etc/passwd".into());
        for (named, root) in self.naming.uses.iter().zip(&found.roots[wanted.paths.len()..]) {
            if let (Some(path), Some(user), Root::Missing) = (&named.path, &named.must, root)
                && is_asked(path)
            {
                found.troubles.push((path.clone(), Trouble::missing(user, named.what)));
            }
        }
    }

    /// Finds out where links lead that are new.
    fn follow(&mut self, disk: &Disk, files: &[Named]) {
        let mut targets = Targets::new();
        for link in files.iter().filter(|file| file.link) {
            let known = target_of(&self.targets, &link.path, link.stamp.identity()).map(Path::to_owned);
            if let Some(target) = known.or_else(|| disk.canonical(&link.path).ok()) {
                targets.entry(link.stamp.identity()).or_default().push((link.path.clone(), target));
            }
        }
        self.targets = targets;
    }

    /// `lie`: of files with several names, where they lie.
    fn describe(&mut self, disk: &Disk, users: &Users, lie: &HashMap<(u64, u64), Vec<PathBuf>>) {
        let mut reaches = Reaches::new(disk);
        let (homes, targets) = (&self.homes, &self.targets);
        self.reader.describe(|path, stamp, acl| {
            let which = stamp.identity();
            let file = File { path, target: target_of(targets, path, which), stamp, acl, lies: lie.get(&which).map_or(&[], Vec::as_slice) };
            let (used_by, is_trust) = users.of_file(path, which);
            Surroundings {
                reach: reaches.of(&file),
                home: homes.user_of(path).map(str::to_owned),
                is_trust: is_trust || is_trust_store(path),
                used_by,
                wants_key: users.wants_key.get(&which).cloned(),
            }
        });
    }
}

/// Whether authorities lie there that everyone trusts; those of Java have one name wherever it was installed.
fn is_trust_store(path: &Path) -> bool {
    let is_of_java = path.parent().is_some_and(|above| above.ends_with("security")) && path.file_name().is_some_and(|name| name == "cacerts");
    is_of_java || TRUST_STORES.iter().any(|store| path.starts_with(store))
}

/// Which configurations name which files.
struct Users {
    files: HashMap<(u64, u64), Vec<usize>>,
    directories: HashMap<PathBuf, usize>,
    /// Who names it as a key.
    wants_key: HashMap<(u64, u64), String>,
    /// Of each name: who, and whether as authorities.
    names: Vec<(Vec<String>, bool)>,
}

impl Users {
    /// `first`: the pattern of the first name.
    fn of(naming: &Naming, first: usize, files: &[Named]) -> Self {
        let mut users = Self { files: HashMap::new(), directories: HashMap::new(), wants_key: HashMap::new(), names: Vec::new() };
        for file in files {
            let Some(at) = file.pattern.checked_sub(first).filter(|at| *at < naming.uses.len()) else { continue };
            let list = users.files.entry(file.stamp.identity()).or_default();
            if !list.contains(&at) {
                list.push(at);
            }
            let named = &naming.uses[at];
            if named.is_key && named.path.as_ref() == Some(&file.path) {
                users.wants_key.extend(named.must.clone().map(|user| (file.stamp.identity(), user)));
            }
        }
        for (at, named) in naming.uses.iter().enumerate() {
            users.directories.extend(named.path.clone().map(|path| (path, at)));
            users.names.push((named.users.clone(), named.is_trust));
        }
        users
    }

    /// Who names a file or its directory, and whether all of them as authorities.
    fn of_file(&self, path: &Path, which: (u64, u64)) -> (Vec<String>, bool) {
        let above = path.parent().and_then(|above| self.directories.get(above));
        let names: Vec<&(Vec<String>, bool)> = self.files.get(&which).into_iter().flatten().chain(above).map(|at| &self.names[*at]).collect();
        let mut used_by: Vec<String> = names.iter().flat_map(|(users, _)| users.iter().cloned()).collect();
        used_by.sort();
        used_by.dedup();
        used_by.truncate(keyvigil_common::limits::PLACE_USERS_MAX);
        (used_by, !names.is_empty() && names.iter().all(|(_, is_trust)| *is_trust))
    }
}
