//! Watches of directories, by inotify. Not by the crate notify, whose version 8 also asks to be woken when a file is opened: in
//! `/etc` that is once for every program that starts, in `/etc/ssl` for every one that uses TLS, and was most of what the agent
//! cost on a busy host. Owns one thread. Called by `watcher`.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init, remove_watch};

const BUFFER_BYTES: usize = 4_096;

/// The watches and the thread that reads them.
#[derive(Debug)]
pub(super) struct Watches {
    inotify: Arc<OwnedFd>,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    directories: HashMap<i32, PathBuf>,
    ended: bool,
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
    /// Starts to wait; `tell` is called on a thread of its own.
    ///
    /// # Errors
    /// No inotify, or no thread.
    pub(super) fn start(tell: impl Fn(&Path, Change) + Send + 'static) -> io::Result<Self> {
        let inotify = Arc::new(init(CreateFlags::CLOEXEC)?);
        let shared = Arc::new(Mutex::new(Shared::default()));
        let (fd, known) = (Arc::clone(&inotify), Arc::clone(&shared));
        thread::Builder::new().name("keystore-inotify".into()).spawn(move || read(&fd, &known, tell))?;
        Ok(Self { inotify, shared })
    }

    /// Watches a directory; `whole`: also while something in it is being written, and not only when that is closed.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn watch(&self, path: &Path, whole: bool) -> io::Result<()> {
        let all = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::MOVE | WatchFlags::CLOSE_WRITE | WatchFlags::ATTRIB;
        let writing = if whole { WatchFlags::MODIFY } else { WatchFlags::empty() };
        let own = WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF | WatchFlags::ONLYDIR;
        // Held, so that the thread does not meet a watch that it does not know.
        let mut shared = lock(&self.shared);
        let watch = add_watch(&self.inotify, path, all | writing | own)?;
        shared.directories.insert(watch, path.to_owned());
        Ok(())
    }

    /// Watches it no more.
    pub(super) fn unwatch(&self, path: &Path) {
        let mut shared = lock(&self.shared);
        let watch = shared.directories.iter().find(|(_, directory)| *directory == path).map(|(watch, _)| *watch);
        if let Some(watch) = watch {
            shared.directories.remove(&watch);
            // Fails where the directory is gone, and its watch with it.
            let _ = remove_watch(&self.inotify, watch);
        }
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        lock(&self.shared).ended = true;
        // The end of a watch wakes the thread.
        if let Ok(watch) = add_watch(&self.inotify, "/", WatchFlags::DELETE_SELF) {
            let _ = remove_watch(&self.inotify, watch);
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(inotify: &OwnedFd, shared: &Mutex<Shared>, tell: impl Fn(&Path, Change)) {
    let mut buffer = [MaybeUninit::<u8>::uninit(); BUFFER_BYTES];
    let mut reader = Reader::new(inotify, &mut buffer);
    loop {
        let event = match reader.next() {
            Ok(event) => event,
            Err(rustix::io::Errno::INTR) => continue,
            Err(e) => return tracing::warn!(error = %e, "changes of keys are found by the timer only"),
        };
        let (flags, name) = (event.events(), event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()).to_owned()));
        let directory = {
            let mut shared = lock(shared);
            if shared.ended {
                return;
            }
            let directory = shared.directories.get(&event.wd()).cloned();
            if flags.contains(ReadFlags::IGNORED) {
                shared.directories.remove(&event.wd());
            }
            directory
        };
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            tell(Path::new("/"), Change::Unknown);
            continue;
        }
        let Some(directory) = directory else { continue };
        let moved = ReadFlags::DELETE | ReadFlags::MOVED_FROM | ReadFlags::MOVED_TO | ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::IGNORED;
        let change = if flags.intersects(moved) { Change::Replaced } else { Change::Changed };
        tell(&name.map_or_else(|| directory.clone(), |name| directory.join(name)), change);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::sync_channel;

    #[test]
    fn what_is_made_written_moved_and_removed_is_told_and_what_is_read_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let (tell, told) = sync_channel(100);
        let watches = Watches::start(move |path, change| tell.send((path.to_owned(), change)).unwrap()).unwrap();
        std::fs::write(path("old"), "1").unwrap();
        watches.watch(dir.path(), false).unwrap();
        std::fs::read(path("old")).unwrap();
        std::fs::create_dir(path("made")).unwrap();
        assert_eq!(told.recv().unwrap(), (path("made"), Change::Changed));
        std::fs::write(path("old"), "2").unwrap();
        assert_eq!(told.recv().unwrap(), (path("old"), Change::Changed));
        std::fs::rename(path("old"), path("new")).unwrap();
        assert_eq!([told.recv().unwrap(), told.recv().unwrap()], [(path("old"), Change::Replaced), (path("new"), Change::Replaced)]);
        watches.unwatch(dir.path());
        std::fs::remove_dir(path("made")).unwrap();
        drop(watches);
        assert!(told.recv().is_err(), "the thread has ended, and told nothing more");
    }
}
