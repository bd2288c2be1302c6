//! Wakes the keystore sensor when something in its directories changes. An event is only a hint to look again: what changed
//! is found by the scan, which also runs on a timer where the kernel has no more watches. Owns one thread that gathers
//! hints, and those of `watches`. Called by the sensor.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use keyvigil_common::limits::KEYSTORE_WATCHES_MAX;

use super::watches::{Change, Watches};
use crate::collect::Poke;

/// Hints that one poke may stand for.
const STORM: usize = 1_000;
/// How long hints are gathered before the sensor is woken: a renewal writes several files.
const QUIET: Duration = Duration::from_millis(300);
/// Hints that may wait; more of them say nothing more.
const HINTS: usize = 16;

enum Hint {
    Changed,
    WakeIn(Duration),
}

/// What is to be watched; real paths.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Directories to be watched, and which they are.
    pub(super) directories: BTreeMap<PathBuf, (u64, u64)>,
    /// Those of them in which every change matters.
    pub(super) whole: HashSet<PathBuf>,
    /// Single names that matter in the others: a home directory has much else going on.
    pub(super) names: HashSet<PathBuf>,
}

/// What the threads of the watches know and say.
#[derive(Debug, Default)]
struct Shared {
    wanted: Wanted,
    /// Watched directories that were removed or renamed since, and those below them: another of the same name may have the same
    /// inode, and notify drops the watches of a directory that goes and of all below it, which may come back as they were.
    lost: HashSet<PathBuf>,
}

impl Shared {
    /// Takes in what happened to a path; whether something may have changed.
    fn take(&mut self, path: &Path, change: Change) -> bool {
        if change == Change::Replaced && self.wanted.directories.contains_key(path) {
            let below = self.wanted.directories.range(path.to_owned()..).map(|(directory, _)| directory);
            self.lost.extend(below.take_while(|directory| directory.starts_with(path)).cloned());
        }
        if change == Change::Unknown {
            // Which of them went is among what was lost.
            self.lost.extend(self.wanted.directories.keys().cloned());
            return true;
        }
        self.wanted.cares(path)
    }
}

impl Wanted {
    fn cares(&self, path: &Path) -> bool {
        self.names.contains(path) || self.directories.contains_key(path) || path.parent().is_some_and(|parent| self.whole.contains(parent))
    }
}

/// The watches and the threads behind them.
#[derive(Debug)]
pub(super) struct Watcher {
    shared: Arc<Mutex<Shared>>,
    watches: Result<Watches, String>,
    hints: SyncSender<Hint>,
    /// Directories that are watched, which they are, and whether every change in them matters.
    watched: BTreeMap<PathBuf, ((u64, u64), bool)>,
}

impl Watcher {
    /// Starts to wait for changes.
    pub(super) fn start(poke: Poke) -> Self {
        let (hints, inbox) = sync_channel(HINTS);
        let thread = thread::Builder::new().name("keystore-watch".into()).spawn(move || gather(&inbox, &poke));
        let changed = hints.clone();
        let shared = Arc::new(Mutex::new(Shared::default()));
        let known = Arc::clone(&shared);
        let tell = move |path: &Path, change: Change| {
            if lock(&known).take(path, change) {
                // A full inbox holds a hint already.
                let _ = changed.try_send(Hint::Changed);
            }
        };
        let watches = thread.map_err(|e| e.to_string()).and_then(|_| Watches::start(tell).map_err(|e| e.to_string()));
        Self { shared, watches, hints, watched: BTreeMap::new() }
    }

    /// Watches exactly what is `wanted`; what could not be watched, and whether a watch is new.
    ///
    /// A new watch misses what happened between the scan and now: look again soon.
    pub(super) fn watch(&mut self, wanted: Wanted) -> (Option<String>, bool) {
        let with_whole = |(path, which): (&PathBuf, &(u64, u64))| (path.clone(), (*which, wanted.whole.contains(path)));
        let mut directories: BTreeMap<PathBuf, ((u64, u64), bool)> = wanted.directories.iter().map(with_whole).collect();
        let lost = {
            let mut shared = lock(&self.shared);
            shared.wanted = wanted;
            std::mem::take(&mut shared.lost)
        };
        let watches = match &mut self.watches {
            Ok(watches) => watches,
            Err(e) => return (Some(e.clone()), false),
        };
        let mut fault = None;
        if directories.len() > KEYSTORE_WATCHES_MAX {
            fault = Some(format!("{} directories; {KEYSTORE_WATCHES_MAX} are watched, the others are looked at by the timer", directories.len()));
            directories = directories.into_iter().take(KEYSTORE_WATCHES_MAX).collect();
        }
        self.watched.retain(|path, which| {
            let stays = directories.get(path) == Some(which) && !lost.contains(path);
            if !stays {
                watches.unwatch(path, which.1);
            }
            stays
        });
        let mut is_new = false;
        for (path, which) in directories {
            if self.watched.contains_key(&path) {
                continue;
            }
            match watches.watch(&path, which.1) {
                Ok(()) => {
                    is_new = true;
                    self.watched.insert(path, which);
                }
                Err(e) if matches!(e.kind, notify::ErrorKind::PathNotFound) => is_new = true,
                Err(e) => fault = Some(explain(&path, e)),
            }
        }
        (fault, is_new)
    }

    /// Keeps the threads that read the kernel's events waiting.
    #[cfg(test)]
    pub(super) fn hold(&self) -> impl Sized + '_ {
        lock(&self.shared)
    }

    /// Wakes the sensor after that time.
    pub(super) fn wake_in(&self, wait: Duration) {
        let _ = self.hints.try_send(Hint::WakeIn(wait));
    }
}

fn explain(path: &Path, error: notify::Error) -> String {
    let reason = match error.kind {
        notify::ErrorKind::MaxFilesWatch => "no more watches (raise fs.inotify.max_user_watches)".to_owned(),
        // The path is told already.
        _ => error.set_paths(Vec::new()).to_string(),
    };
    format!("{}: {reason}; changes are found by the timer", path.display())
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Turns hints into pokes until the watcher is dropped.
fn gather(inbox: &Receiver<Hint>, poke: &Poke) {
    let mut wait = None;
    loop {
        let hint = match wait {
            Some(wait) => inbox.recv_timeout(wait),
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match hint {
            Ok(Hint::WakeIn(soon)) => {
                wait = Some(soon);
                continue;
            }
            Ok(Hint::Changed) => {
                // A change seldom comes alone: the poke waits until none came for a moment, but not for a storm to end.
                let _ = (0..STORM).take_while(|_| inbox.recv_timeout(QUIET).is_ok()).count();
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        wait = None;
        poke.poke();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(directories: impl Iterator<Item = PathBuf>) -> Wanted {
        Wanted { directories: directories.map(|path| (path, (1, 1))).collect(), ..Wanted::default() }
    }

    #[test]
    fn what_cannot_be_watched_is_told_and_what_is_not_there_is_looked_at_again() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let mut watcher = Watcher::start(Poke::new(|| ()));
        let (fault, is_new) = watcher.watch(wanted([dir.path().join("missing")].into_iter()));
        assert_eq!((fault, is_new), (None, true));
        let below = dir.path().join("file/below");
        let (fault, is_new) = watcher.watch(wanted([below.clone()].into_iter()));
        let expected = format!("{}: Not a directory (os error 20); changes are found by the timer", below.display());
        assert_eq!((fault, is_new), (Some(expected), false));
        let (fault, _) = watcher.watch(wanted((0..=KEYSTORE_WATCHES_MAX).map(|n| dir.path().join(format!("missing-{n}")))));
        assert_eq!(fault.unwrap(), "8193 directories; 8192 are watched, the others are looked at by the timer");
        let none_left = explain(Path::new("/keys"), notify::Error::new(notify::ErrorKind::MaxFilesWatch));
        assert_eq!(none_left, "/keys: no more watches (raise fs.inotify.max_user_watches); changes are found by the timer");
    }

    #[test]
    fn after_changes_were_lost_everything_is_watched_anew_and_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let (sender, pokes) = sync_channel(10);
        let mut watcher = Watcher::start(Poke::new(move || sender.send(()).unwrap()));
        let wanted = || wanted([dir.path().to_owned()].into_iter());
        assert_eq!((watcher.watch(wanted()), watcher.watch(wanted())), ((None, true), (None, false)));
        assert!(lock(&watcher.shared).take(Path::new("/"), Change::Unknown));
        let _ = watcher.hints.try_send(Hint::Changed);
        pokes.recv().unwrap();
        assert_eq!((watcher.watch(wanted()), watcher.watch(wanted())), ((None, true), (None, false)));
    }

    #[test]
    fn with_a_directory_those_below_it_are_lost_and_no_others() {
        let paths = ["/keys", "/keys/a", "/keys/a/b", "/keys/a-b", "/keys/b"].map(PathBuf::from);
        let mut shared = Shared { wanted: wanted(paths.into_iter()), lost: HashSet::new() };
        assert!(shared.take(Path::new("/keys/a"), Change::Replaced));
        assert_eq!(shared.lost, HashSet::from(["/keys/a", "/keys/a/b"].map(PathBuf::from)));
    }
}
