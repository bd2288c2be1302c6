//! Watches of directories, by the crate notify: which kinds of events the kernel is asked for, and what they say. Never for
//! openings and readings: in `/etc` that is once for every program that starts, in `/etc/ssl` for every one that uses TLS, and was
//! most of what the agent cost on a busy host. Owns notify's two threads. Called by `watcher`.

use std::path::Path;

use notify::event::{Event, EventKind, ModifyKind, RenameMode};
use notify::{Config, EventKindMask, RecommendedWatcher, RecursiveMode, Watcher as _};

/// All that changes a file or its name; of access only the closing of what was written.
const WHOLE: EventKindMask = EventKindMask::CORE.union(EventKindMask::ACCESS_CLOSE);
/// The same without each single write.
const NAMES: EventKindMask = WHOLE.difference(EventKindMask::MODIFY_DATA);

/// The watches and the threads that read them. Two watchers, since one asks for the same events of all its directories.
#[derive(Debug)]
pub(super) struct Watches {
    whole: RecommendedWatcher,
    names: RecommendedWatcher,
}

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It appeared, was written or got other rights.
    Changed,
    /// It may be gone, or another one.
    Replaced,
    /// Changes were lost: any path.
    Unknown,
}

impl Watches {
    /// Starts to wait; `tell` is called on threads of their own.
    ///
    /// # Errors
    /// No inotify.
    pub(super) fn start(tell: impl Fn(&Path, Change) + Clone + Send + 'static) -> notify::Result<Self> {
        let start = |kinds, tell| {
            let config = Config::default().with_follow_symlinks(false).with_event_kinds(kinds);
            RecommendedWatcher::new(move |event| pass(event, &tell), config)
        };
        Ok(Self { whole: start(WHOLE, tell.clone())?, names: start(NAMES, tell)? })
    }

    /// Watches a directory; `whole`: also while something in it is being written, and not only when that is closed.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn watch(&mut self, path: &Path, whole: bool) -> notify::Result<()> {
        self.of(whole).watch(path, RecursiveMode::NonRecursive)
    }

    /// Watches it no more; `whole` as it was watched.
    pub(super) fn unwatch(&mut self, path: &Path, whole: bool) {
        // Fails where the directory is gone, and its watch with it.
        let _ = self.of(whole).unwatch(path);
    }

    fn of(&mut self, whole: bool) -> &mut RecommendedWatcher {
        if whole { &mut self.whole } else { &mut self.names }
    }
}

fn pass(event: notify::Result<Event>, tell: &impl Fn(&Path, Change)) {
    let event = match event {
        Ok(event) if !event.need_rescan() => event,
        Ok(_) | Err(_) => return tell(Path::new("/"), Change::Unknown),
    };
    let change = match event.kind {
        // Told before, as two: whence and whither.
        EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => return,
        EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => Change::Replaced,
        _ => Change::Changed,
    };
    event.paths.iter().for_each(|path| tell(path, change));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;
    use std::path::PathBuf;
    use std::sync::mpsc::{Receiver, sync_channel};

    type Told = (PathBuf, Change);

    /// Watches that tell also which thread of them it was.
    fn start() -> (Watches, Receiver<(Told, i32)>) {
        let (tell, told) = sync_channel(100);
        let tell = move |path: &Path, change| tell.send(((path.to_owned(), change), rustix::thread::gettid().as_raw_nonzero().get())).unwrap();
        (Watches::start(tell).unwrap(), told)
    }

    /// How often a thread of ours went to sleep.
    fn sleeps(thread: i32) -> u64 {
        let status = fs::read_to_string(format!("/proc/self/task/{thread}/status")).unwrap();
        status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap().trim().parse().unwrap()
    }

    #[test]
    fn what_is_made_written_moved_and_removed_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let (mut watches, told) = start();
        let next = || told.recv().unwrap().0;
        fs::write(path("old"), "1").unwrap();
        watches.watch(dir.path(), false).unwrap();
        fs::create_dir(path("made")).unwrap();
        assert_eq!(next(), (path("made"), Change::Changed));
        fs::write(path("old"), "2").unwrap();
        assert_eq!(next(), (path("old"), Change::Changed));
        fs::rename(path("old"), path("new")).unwrap();
        assert_eq!([next(), next()], [(path("old"), Change::Replaced), (path("new"), Change::Replaced)]);
        watches.unwatch(dir.path(), false);
        fs::remove_dir(path("made")).unwrap();
        drop(watches);
        assert!(told.recv().is_err(), "the threads have ended, and told nothing more");
    }

    #[test]
    fn what_is_still_open_is_told_of_where_all_matters() {
        let dir = tempfile::tempdir().unwrap();
        let (whole, names) = (dir.path().join("whole"), dir.path().join("names"));
        let (mut watches, told) = start();
        let open = [&names, &whole].map(|directory| {
            fs::create_dir(directory).unwrap();
            let file = fs::File::create(directory.join("k.pem")).unwrap();
            watches.watch(directory, *directory == whole).unwrap();
            file
        });
        open.iter().for_each(|mut file| file.write_all(b"1").unwrap());
        assert_eq!(told.recv().unwrap().0, (whole.join("k.pem"), Change::Changed));
        fs::create_dir(names.join("mark")).unwrap();
        assert_eq!(told.recv().unwrap().0, (names.join("mark"), Change::Changed), "the write before it was not told");
    }

    #[test]
    fn changes_that_were_lost_may_be_anywhere() {
        let (tell, told) = sync_channel(10);
        let tell = move |path: &Path, change| tell.send((path.to_owned(), change)).unwrap();
        // As notify says it when the kernel's queue was too short.
        pass(Ok(Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan)), &tell);
        pass(Err(notify::Error::generic("read failed")), &tell);
        drop(tell);
        assert_eq!(told.iter().collect::<Vec<_>>(), vec![(PathBuf::from("/"), Change::Unknown); 2]);
    }

    #[test]
    fn openings_and_readings_wake_nobody() {
        for whole in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let path = |name: &str| dir.path().join(name);
            let (mut watches, told) = start();
            fs::write(path("k.pem"), "1").unwrap();
            watches.watch(dir.path(), whole).unwrap();
            fs::create_dir(path("before")).unwrap();
            let (first, thread) = told.recv().unwrap();
            assert_eq!(first, (path("before"), Change::Changed));
            let before = sleeps(thread);
            (0..10_000).for_each(|_| drop(fs::read(path("k.pem")).unwrap()));
            fs::read_dir(dir.path()).unwrap().for_each(drop);
            // Once to sleep after the first event, and once more for good measure.
            assert!(sleeps(thread) - before <= 2);
            fs::create_dir(path("after")).unwrap();
            assert_eq!(told.recv().unwrap().0, (path("after"), Change::Changed), "the next that is told");
        }
    }
}
