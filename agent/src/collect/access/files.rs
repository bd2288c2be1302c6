//! Which files are followed: those that hold private keys, as the kernel numbers them. Each gets a number that comes of its path, and
//! so is the same after the agent was started anew: what the helper kept for it meanwhile names files by it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use keyvigil_common::key::KeyFacts;

use super::generations::Generations;
use super::versions::Versions;
use crate::collect::known::{Known, OwnReads};
use crate::probe::layout::{AMBIGUOUS, generation, name_key};
use crate::probe::message::{Ask, FILES_MAX, spelled};
use crate::probe::place::Mounts;
use crate::probe::since_boot_ns;
use crate::rootfs::RootFs;

/// Files that are followed: each lies in four directories and under two paths at most, and the helper takes that many.
const FOLLOWED_MAX: usize = FILES_MAX / 4;

/// Files that are there no more, of which opens may still be told: they wait in the helper while the agent is away or busy.
const GONE_MAX: usize = 4_096;

/// A file, and what lies in it.
#[derive(Debug, Clone)]
pub(crate) struct Followed {
    /// Its path as the keystore sensor tells it.
    pub(crate) path: String,
    /// The private keys in it.
    pub(crate) keys: Vec<Arc<KeyFacts>>,
    /// Where this process finds it.
    pub(crate) written: PathBuf,
    /// All its names, where it has more than one: where links lead, and links that are no links to the kernel.
    pub(crate) names: Vec<String>,
}

impl Followed {
    /// All paths that it is known by.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let others = self.names.iter().filter(|name| **name != self.path);
        std::iter::once(&self.path).chain(others).map(String::as_str)
    }
}

/// What is known of the keys of a file in some state.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// It held these.
    Keys(Vec<Arc<KeyFacts>>),
    /// It held others than now, or not.
    Ambiguous,
    /// No scan has seen it in that state.
    Unseen,
}

/// All of them, by number.
#[derive(Debug, Default)]
pub(crate) struct Files {
    followed: BTreeMap<u32, Followed>,
    numbers: HashMap<String, u32>,
    /// By the path without links.
    real: HashMap<PathBuf, u32>,
    /// Those that went, and at which update.
    gone: BTreeMap<u32, (u64, Followed)>,
    updates: u64,
    /// Prefix of the paths in each container that is looked into, by its mount namespace.
    containers: HashMap<u32, String>,
    /// What each held before.
    generations: Generations,
    versions: Versions,
    /// The canary's file, which is followed beside those of users.
    canary: Option<PathBuf>,
    /// Files that cannot be followed, as there are too many.
    pub(crate) left_out: usize,
    /// One of those that could not be reached by its path, and why.
    pub(crate) unreachable: Option<String>,
}

impl Files {
    /// With the canary's file among them; `own` counts what this opens.
    pub(crate) fn with(canary: Option<PathBuf>, own: OwnReads) -> Self {
        Self { canary, versions: Versions::new(own), ..Self::default() }
    }

    /// Takes what is known now, and makes of it what the helper is to follow.
    pub(crate) fn update(&mut self, known: &Known, root: &RootFs) -> Ask {
        let mut wanted = Wanted { mounts: Mounts::read(), ..Wanted::default() };
        // What stands for a container's root is a process in it.
        known.roots.values().filter_map(|root| root.parent()).for_each(|process| wanted.mounts.add(&process.join("mountinfo")));
        let container = |(prefix, root): (&String, &PathBuf)| Some((mount_namespace(root.parent()?)?, prefix.clone()));
        self.containers = known.roots.iter().filter_map(container).collect();
        let mut followed: BTreeMap<u32, Followed> = BTreeMap::new();
        self.real.clear();
        // It lies in the agent's own tree, whichever host that watches.
        let canary = self.canary.iter().map(|path| (path.to_string_lossy().into_owned(), path.clone(), Vec::new()));
        let users = fairly(&known.private).into_iter().map(|path| (path.clone(), known.place(path, root), known.private[path].clone()));
        self.left_out = (known.private.len() + canary.len()).saturating_sub(FOLLOWED_MAX);
        self.unreachable = None;
        for (path, written, keys) in canary.chain(users).take(FOLLOWED_MAX) {
            let mut number = number(&path);
            while followed.contains_key(&number) {
                number = number.wrapping_add(1).max(1);
            }
            // Links in a container lead to where it takes them.
            let real = if known.is_inside(&path) { None } else { std::fs::canonicalize(&written).ok() };
            self.real.extend(real.iter().map(|real| (real.clone(), number)));
            match wanted.add(number, &written, real.as_deref(), &mut self.versions) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => self.unreachable = Some(format!("{path}: {e}")),
                _ => {}
            }
            let names = real.filter(|real| *real != written).map(|real| told(&real, root)).into_iter().collect();
            followed.insert(number, Followed { written, keys, path, names });
        }
        self.versions.end_round();
        wanted.name(&mut followed);
        // As it is told, and as somebody asks for it.
        let asked = |file: &Followed| [file.path.clone(), file.written.to_string_lossy().into_owned()];
        self.numbers = followed.iter().flat_map(|(number, file)| asked(file).map(|path| (path, *number))).collect();
        self.remember(known, &followed);
        self.replace(followed);
        wanted.ask()
    }

    /// Follows these from now on; those that went keep their names for what is told late.
    fn replace(&mut self, followed: BTreeMap<u32, Followed>) {
        self.updates += 1;
        let before = std::mem::replace(&mut self.followed, followed);
        let went = before.into_iter().filter(|(number, _)| !self.followed.contains_key(number));
        self.gone.extend(went.map(|(number, file)| (number, (self.updates, file))));
        self.gone.retain(|number, _| !self.followed.contains_key(number));
        let more = self.gone.len().saturating_sub(GONE_MAX);
        if more > 0 {
            let mut by_age: Vec<(u64, u32)> = self.gone.iter().map(|(number, (update, _))| (*update, *number)).collect();
            by_age.sort_unstable();
            by_age.iter().take(more).for_each(|(_, number)| drop(self.gone.remove(number)));
        }
    }

    fn remember(&mut self, known: &Known, followed: &BTreeMap<u32, Followed>) {
        for (number, file) in followed {
            let is_same = |before: &Followed| before.keys.iter().map(|key| &key.id).eq(file.keys.iter().map(|key| &key.id));
            if self.followed.get(number).is_some_and(|before| !is_same(before)) {
                self.generations.change(*number, since_boot_ns());
            }
            let generation = known.generations.get(&file.path).copied().unwrap_or_default();
            self.generations.learn(*number, generation, &file.keys);
        }
        self.generations.end_round();
    }

    /// The keys of a file in the state in which a process opened it that was started at that instant.
    pub(crate) fn held(&mut self, number: u32, generation: u64, started_ns: u64) -> Held {
        if generation == 0 {
            let Some(file) = self.get(number) else { return Held::Unseen };
            let is_sure = self.generations.is_unchanged_since(number, started_ns);
            return if is_sure { Held::Keys(file.keys.clone()) } else { Held::Ambiguous };
        }
        if let Some(keys) = self.generations.exact(number, generation) {
            return Held::Keys(keys.to_vec());
        }
        let keys = self.generations.of_contents(number, generation);
        // Who writes a file may also set when that was: so only while it is as a scan saw it.
        let now = self.followed.get(&number).and_then(|file| generation_at(&file.written));
        if keys.is_empty() || now.is_none_or(|now| self.generations.exact(number, now).is_none()) {
            return Held::Unseen;
        }
        self.generations.learn(number, generation, &keys);
        Held::Keys(keys)
    }

    /// Numbers of those that are there.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.followed.keys().copied()
    }

    /// The file of a number; also of one that is there no more.
    pub(crate) fn get(&self, number: u32) -> Option<&Followed> {
        self.followed.get(&number).or_else(|| self.gone.get(&number).map(|(_, file)| file))
    }

    /// The number of the file of a path, as process `pid` asked for it: with dots and links in it. `mount_ns` is that of whoever has another root than the host,
    /// whose paths are those of its container, if it is in one that is known; else they are nobody's.
    pub(crate) fn at(&self, asked: &str, pid: u32, mount_ns: u32, root: &RootFs) -> Option<u32> {
        let asked = of_process(Path::new(asked), pid);
        let plain = plain(&asked);
        if mount_ns != 0 {
            let prefix = self.containers.get(&mount_ns)?;
            return self.numbers.get(&format!("{prefix}{}", plain.display())).copied();
        }
        // Where `..` leads, links before it say.
        match std::fs::canonicalize(root.path(&asked)) {
            Ok(real) => self.real.get(&real).or_else(|| self.numbers.get(told(&real, root).as_str())).copied(),
            Err(_) => self.numbers.get(plain.to_string_lossy().as_ref()).copied(),
        }
    }
}

/// A path as its process means it: what it calls its own in `/proc` is not ours.
fn of_process(path: &Path, pid: u32) -> PathBuf {
    let own = ["/proc/self", "/proc/thread-self"].into_iter().find_map(|own| path.strip_prefix(own).ok());
    own.map_or_else(|| path.to_owned(), |rest| Path::new("/proc").join(pid.to_string()).join(rest))
}

/// A path of this process as the host calls it.
pub(super) fn told(real: &Path, root: &RootFs) -> String {
    let prefix = root.path(Path::new("/"));
    let shown = real.strip_prefix(std::fs::canonicalize(&prefix).unwrap_or(prefix)).unwrap_or(real);
    Path::new("/").join(shown).to_string_lossy().into_owned()
}

/// What the helper is to follow.
#[derive(Default)]
struct Wanted {
    mounts: Mounts,
    /// One file may have more names than one, and is one file to the kernel.
    files: BTreeMap<(u32, u64, u32), Vec<u32>>,
    entries: BTreeMap<(u32, u64, u64), u32>,
    names: BTreeSet<u64>,
    paths: BTreeMap<String, u32>,
}

impl Wanted {
    /// A file: the path as it is written, and where its links lead, as a reader may come either way.
    fn add(&mut self, number: u32, written: &Path, real: Option<&Path>, versions: &mut Versions) -> io::Result<()> {
        for path in [Some(written), real].into_iter().flatten() {
            let Some((directory, name)) = path.parent().zip(path.file_name()) else { continue };
            let hash = name_key(name.as_encoded_bytes());
            self.names.insert(hash);
            self.paths.insert(spelled(path), number);
            for directory in [Some(directory), volume(directory)].into_iter().flatten() {
                if let Ok((device, ino)) = self.mounts.file(directory) {
                    self.entries.insert((device, ino, hash), number);
                }
            }
        }
        let (dev, ino) = self.mounts.file(written)?;
        self.files.entry((dev, ino, versions.of(written))).or_default().push(number);
        Ok(())
    }

    /// Says of those that are one file by what other names it goes.
    fn name(&self, followed: &mut BTreeMap<u32, Followed>) {
        for numbers in self.files.values().filter(|numbers| numbers.len() > 1) {
            let paths: Vec<String> = numbers.iter().filter_map(|number| Some(followed.get(number)?.path.clone())).collect();
            let also = |number: &u32| followed.get_mut(number).into_iter().for_each(|file| file.names.extend(paths.iter().cloned()));
            numbers.iter().for_each(also);
        }
    }

    fn ask(self) -> Ask {
        Ask::Follow {
            files: self.files.into_iter().filter_map(|((dev, ino, version), numbers)| Some((dev, ino, version, *numbers.first()?))).collect(),
            entries: self.entries.into_iter().map(|((dev, ino, name), number)| (dev, ino, name, number)).collect(),
            names: self.names.into_iter().collect(),
            paths: self.paths.into_iter().collect(),
        }
    }
}

/// In their order; where there are too many, so that each part of the tree gets its share: who fills a home pushes nobody else out.
fn fairly<T>(private: &BTreeMap<String, T>) -> Vec<&String> {
    let mut paths: Vec<&String> = private.keys().collect();
    if paths.len() >= FOLLOWED_MAX {
        let mut of_part: HashMap<&str, usize> = HashMap::new();
        paths.sort_by_cached_key(|path| {
            let part = path.match_indices('/').nth(2).map_or(path.as_str(), |(end, _)| &path[..end]);
            let nth = of_part.entry(part).or_default();
            *nth += 1;
            *nth
        });
    }
    paths
}

/// Number of the mount namespace of a process, by its directory in `/proc`.
fn mount_namespace(process: &Path) -> Option<u32> {
    let link = std::fs::read_link(process.join("ns/mnt")).ok()?;
    link.to_str()?.strip_prefix("mnt:[")?.strip_suffix(']')?.parse().ok()
}

/// In which state a file is now.
fn generation_at(path: &Path) -> Option<u64> {
    let stat = std::fs::metadata(path).ok()?;
    let ns = |seconds: i64, part: i64| i128::from(seconds) * 1_000_000_000 + i128::from(part);
    Some(generation(stat.ino(), stat.size(), ns(stat.mtime(), stat.mtime_nsec()), ns(stat.ctime(), stat.ctime_nsec())))
}

/// Without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            part => plain.push(part),
        }
    }
    plain
}

/// By its hash; neither nothing nor what stands for more than can be named.
fn number(path: &str) -> u32 {
    let hash = name_key(path.as_bytes());
    u32::try_from(hash >> 32 ^ hash & 0xffff_ffff).unwrap_or(1).clamp(1, AMBIGUOUS - 1)
}

/// Where a volume of Kubernetes lies, of the directory `..DATE` in it that is replaced with all its files.
fn volume(directory: &Path) -> Option<&Path> {
    directory.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"..")).then(|| directory.parent())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_fills_a_home_with_keys_takes_the_place_of_no_other() {
        let of_eve = (0..FOLLOWED_MAX + 10).map(|n| format!("/home/eve/.ssh/k{n:06}"));
        let private: BTreeMap<String, ()> = of_eve.chain(["/opt/app/a.key", "/srv/web/b.key"].map(str::to_owned)).map(|path| (path, ())).collect();
        let followed: BTreeSet<&str> = fairly(&private).into_iter().take(FOLLOWED_MAX).map(String::as_str).collect();
        assert!(followed.contains("/opt/app/a.key") && followed.contains("/srv/web/b.key") && followed.contains("/home/eve/.ssh/k000000"));
        let few: BTreeMap<String, ()> = ["/b/c/d", "/a/b/c"].map(|path| (path.to_owned(), ())).into();
        assert_eq!(fairly(&few), ["/a/b/c", "/b/c/d"]);
    }

    #[test]
    fn what_a_process_calls_its_own_is_not_the_agents() {
        assert_eq!(of_process(Path::new("/proc/self/cwd/a.key"), 77), Path::new("/proc/77/cwd/a.key"));
        assert_eq!(of_process(Path::new("/proc/thread-self/root/k"), 77), Path::new("/proc/77/root/k"));
        assert_eq!(of_process(Path::new("/etc/a.key"), 77), Path::new("/etc/a.key"));
    }
}
