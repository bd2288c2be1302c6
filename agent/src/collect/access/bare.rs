//! Opens as inotify tells them, where there is no helper: which file was opened, at least how often, and not by whom. What the keystore
//! sensor opens itself is left out. Looked at with each look of the sensor; nothing waits for it in between.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use keyvigil_common::limits::KEYSTORE_WATCHES_MAX;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

use crate::collect::known::OwnReads;

/// Bytes that are read at once.
const ROOM: usize = 16 << 10;
/// Between two events about one file: without an actor they say little.
const APART: Duration = Duration::from_secs(300);

/// The watched files.
#[derive(Debug)]
pub(super) struct Bare {
    watcher: OwnedFd,
    own: OwnReads,
    watched: HashMap<i32, (String, (u64, u64))>,
    /// Opens that are not told yet, and when some were last.
    seen: BTreeMap<String, (u64, Option<Duration>)>,
    /// What cannot be watched, and why.
    pub(super) refused: Option<String>,
}

impl Bare {
    /// Begins, with nothing watched.
    pub(super) fn begin(own: OwnReads) -> io::Result<Self> {
        let watcher = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self { watcher, own, watched: HashMap::new(), seen: BTreeMap::new(), refused: None })
    }

    /// Watches what lies at these paths now, and nothing else: a path as it is told, and where it is.
    pub(super) fn follow(&mut self, files: impl Iterator<Item = (String, PathBuf)>) {
        let before = std::mem::take(&mut self.watched);
        self.refused = None;
        let mut own = self.own.lock();
        for (path, real) in files {
            let watched = || -> io::Result<(i32, (u64, u64))> {
                if self.watched.len() >= KEYSTORE_WATCHES_MAX {
                    return Err(io::Error::other(format!("more than {KEYSTORE_WATCHES_MAX} files are not watched")));
                }
                let watch = inotify::add_watch(&self.watcher, &real, WatchFlags::OPEN)?;
                let stat = rustix::fs::stat(&real)?;
                Ok((watch, (stat.st_dev, stat.st_ino)))
            };
            match watched() {
                Ok((watch, which)) => drop(self.watched.entry(watch).or_insert((path, which))),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => self.refused = Some(format!("{path}: {e}")),
            }
        }
        for watch in before.keys().filter(|watch| !self.watched.contains_key(watch)) {
            // That of a file that is gone went with it.
            let _ = inotify::remove_watch(&self.watcher, *watch);
        }
        let which: HashSet<(u64, u64)> = self.watched.values().map(|(_, which)| *which).collect();
        own.retain(|file, _| which.contains(file));
        which.into_iter().for_each(|file| {
            own.entry(file).or_default();
        });
    }

    /// Takes what has come; whether the kernel had room for all.
    pub(super) fn take(&mut self) -> bool {
        let mut own = self.own.lock();
        let (mut opens, mut is_whole): (HashMap<i32, u64>, bool) = (HashMap::new(), true);
        let mut room = [MaybeUninit::uninit(); ROOM];
        let mut events = Reader::new(&self.watcher, &mut room);
        loop {
            match events.next() {
                Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => is_whole = false,
                Ok(event) if event.events().contains(ReadFlags::OPEN) => *opens.entry(event.wd()).or_default() += 1,
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        for (watch, count) in opens {
            let Some((path, which)) = self.watched.get(&watch) else { continue };
            let others = count.saturating_sub(own.get(which).copied().unwrap_or_default());
            if others > 0 {
                self.seen.entry(path.clone()).or_default().0 += others;
            }
        }
        own.values_mut().for_each(|count| *count = 0);
        is_whole
    }

    /// What is to be told now: files, and how often each was opened at least.
    pub(super) fn tell(&mut self, now: Duration) -> Vec<(String, u64)> {
        let is_due = |(count, told): &(u64, Option<Duration>)| *count > 0 && told.is_none_or(|told| now >= told.saturating_add(APART));
        let due = self.seen.iter_mut().filter(|(_, seen)| is_due(seen));
        let told: Vec<_> = due.map(|(path, seen)| (path.clone(), std::mem::replace(seen, (0, Some(now))).0)).collect();
        // Of one that is quiet nothing need be known.
        self.seen.retain(|_, (count, told)| *count > 0 || told.is_some_and(|told| now < told.saturating_add(APART)));
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn opens_by_others_are_told_now_and_then_and_our_own_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("a.key"), dir.path().join("b.key"));
        let own = OwnReads::default();
        let mut bare = Bare::begin(own.clone()).unwrap();
        let which = |path: &PathBuf| rustix::fs::stat(path).map(|stat| (stat.st_dev, stat.st_ino)).unwrap();
        let open = |path: &PathBuf| drop(fs::File::open(path).unwrap());
        [&path, &other].into_iter().for_each(|path| fs::write(path, "k").unwrap());
        let follow = |bare: &mut Bare| bare.follow([&path, &other].into_iter().map(|path| (path.to_string_lossy().into_owned(), path.clone())));
        let told = |bare: &mut Bare, s: u64| {
            assert!(bare.take());
            bare.tell(Duration::from_secs(s))
        };
        let name = |path: &PathBuf| path.to_string_lossy().into_owned();
        follow(&mut bare);
        own.opening(which(&path), || open(&path));
        assert_eq!(told(&mut bare, 0), []);
        own.opening(which(&path), || open(&path));
        open(&other);
        open(&path);
        assert_eq!(told(&mut bare, 10), [(name(&path), 1), (name(&other), 1)]);
        open(&path);
        open(&other);
        assert_eq!(told(&mut bare, 20), [], "the first at once, the next after a while");
        let next = dir.path().join("next");
        fs::write(&next, "k").unwrap();
        fs::rename(&next, &other).unwrap();
        follow(&mut bare);
        open(&other);
        assert_eq!(told(&mut bare, 310), [(name(&path), 1), (name(&other), 2)], "what replaced it is it");
        assert_eq!((told(&mut bare, 900), bare.seen.len()), (vec![], 0));
    }
}
