//! Versions of inodes: what tells a file from another one that has the same device and inode, in another subvolume (btrfs) or after the
//! first is gone. A file is opened for it once, and again when it has changed.

use std::collections::HashMap;
use std::path::Path;

use crate::collect::known::OwnReads;
use crate::probe::place::open_file;
use crate::probe::sys;

/// Device, inode and last change.
type State = (u64, u64, i64, u64);

/// Those that are known.
#[derive(Debug, Default)]
pub(super) struct Versions {
    own: OwnReads,
    before: HashMap<State, u32>,
    now: HashMap<State, u32>,
}

impl Versions {
    /// None yet; `own` counts what this opens.
    pub(super) fn new(own: OwnReads) -> Self {
        Self { own, ..Self::default() }
    }

    /// That of the file at a path; 0 where the file system tells none, or it cannot be opened.
    pub(super) fn of(&mut self, path: &Path) -> u32 {
        let Ok(stat) = rustix::fs::stat(path) else { return 0 };
        #[expect(clippy::useless_conversion, reason = "of other types on other architectures")]
        let state = (stat.st_dev, stat.st_ino, i64::from(stat.st_ctime), u64::from(stat.st_ctime_nsec));
        if let Some(version) = self.now.get(&state).or_else(|| self.before.get(&state)) {
            let version = *version;
            self.now.insert(state, version);
            return version;
        }
        let opened = self.own.opening((stat.st_dev, stat.st_ino), || open_file(path));
        let version = opened.ok().and_then(sys::version).unwrap_or_default();
        self.now.insert(state, version);
        version
    }

    /// All files were asked for: what was not, is forgotten.
    pub(super) fn end_round(&mut self) {
        self.before = std::mem::take(&mut self.now);
    }
}
