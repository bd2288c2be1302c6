//! Whose home lies where: the users of `/etc/passwd`, and the directories of `/home`, whose users another service may know.
//! Read anew only when one of the two changed; which of them are there is asked each time. Called by the sensor.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use keyvigil_common::limits::KEYSTORE_HOMES_MAX;

use super::disk::{Disk, Stamp};
use super::pattern::is_missing;
use super::walk::Directories;
use crate::parse::passwd;

const PASSWD: &str = "/etc/passwd";
const HOME: &str = "/home";
/// Bytes of `/etc/passwd` that are read: some 50,000 users.
const PASSWD_BYTES_MAX: u64 = 4 << 20;
/// Homes of system users where nobody keeps keys, and where so much is going on that watching would cost.
const NO_HOMES: [&str; 10] = ["/bin", "/sbin", "/usr/bin", "/usr/sbin", "/dev", "/proc", "/sys", "/run", "/var/run", "/tmp"];

/// The homes of one host.
#[derive(Debug, Default)]
pub(super) struct Homes {
    /// Users of each home that is there, the first of the file.
    homes: BTreeMap<PathBuf, String>,
    /// Homes that may not be entered.
    pub(super) closed: Vec<(PathBuf, io::Error)>,
    /// There are more than are looked at.
    pub(super) more: bool,
    /// What had to be listed.
    pub(super) listed: Directories,
    /// What the two say.
    told: Vec<(PathBuf, String)>,
    read_at: Option<[Option<Stamp>; 2]>,
}

impl Homes {
    #[cfg(test)]
    pub(super) fn read(disk: &Disk) -> Self {
        let mut homes = Self::default();
        homes.refresh(disk);
        homes
    }

    /// Looks which homes there are now.
    pub(super) fn refresh(&mut self, disk: &Disk) {
        let stamps = Some([PASSWD, HOME].map(|path| disk.stat(Path::new(path)).ok()));
        if self.read_at != stamps {
            self.tell(disk);
            self.read_at = stamps;
        }
        self.homes.clear();
        self.closed.clear();
        for (path, user) in &self.told {
            match disk.stat(&path.join(".")) {
                Ok(_) => drop(self.homes.entry(path.clone()).or_insert_with(|| user.clone())),
                Err(e) if is_missing(&e) => {}
                Err(e) => self.closed.push((path.clone(), e)),
            }
        }
    }

    fn tell(&mut self, disk: &Disk) {
        let text = disk.text(Path::new(PASSWD), PASSWD_BYTES_MAX).map(|(_, text)| text).unwrap_or_default();
        let named = passwd::users(&text).map(|user| (PathBuf::from(user.home), user.name.to_owned()));
        let mut others = Vec::new();
        self.listed.clear();
        if let Ok(listing) = disk.list(Path::new(HOME), KEYSTORE_HOMES_MAX) {
            self.listed.insert(HOME.into(), listing.stamp.identity());
            self.more = listing.more;
            others.extend(listing.entries.into_iter().map(|entry| (Path::new(HOME).join(&entry.name), entry.name.to_string_lossy().into_owned())));
        }
        let mut seen = HashSet::new();
        let is_home = |path: &Path| path.is_absolute() && path != Path::new("/") && !NO_HOMES.iter().any(|no| path.starts_with(no));
        let mut told: Vec<_> = named.chain(others).filter(|(path, _)| is_home(path) && seen.insert(path.clone())).take(KEYSTORE_HOMES_MAX + 1).collect();
        self.more |= told.len() > KEYSTORE_HOMES_MAX;
        told.truncate(KEYSTORE_HOMES_MAX);
        self.told = told;
    }

    /// The homes of the users that are `wanted`.
    pub(super) fn of(&self, wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = &Path> {
        self.homes.iter().filter(move |(_, user)| wanted(user)).map(|(path, _)| path.as_path())
    }

    /// The user in whose home `path` lies: the innermost one.
    pub(super) fn user_of(&self, path: &Path) -> Option<&str> {
        path.ancestors().skip(1).find_map(|above| self.homes.get(above)).map(String::as_str)
    }
}
