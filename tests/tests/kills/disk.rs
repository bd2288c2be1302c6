//! A disk as a power cut sees it: of each file what was written, in order, and how much of that was synced; and the names,
//! with how much of their changes was. Knows nothing of SQLite, and makes no file but those of an image.
//!
//! Simulated: writes and truncations since the last sync are kept whole, up to any point (the last write torn at a multiple
//! of 512 bytes), in any selection (disks reorder), or not at all, file by file; making, renaming and removing a name holds
//! for certain only once its directory was synced, and till then is kept up to any point or in any selection. Not simulated:
//! bytes that rot, a sync that lies, a torn sector, directories that are lost themselves, SQLite's `-shm` (it is made anew
//! after a crash), and reads that fail.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::DirEntryExt;
use std::path::Path;
use std::sync::atomic::AtomicU8;
use std::sync::{Mutex, MutexGuard, PoisonError};

use keyvigil_tests::random::Random;

/// Part of a write that reaches the disk whole.
const SECTOR: usize = 512;

/// A file by the order in which it was made; a number is used once, as that of an inode is not.
pub(crate) type FileId = usize;

#[derive(Debug)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Truncate(usize),
}

#[derive(Debug, Default)]
struct File {
    changes: Vec<Change>,
    /// So many of them are on disk.
    synced: usize,
}

/// A change of names, relative to the root.
#[derive(Debug, Clone)]
enum Move {
    Make(String, FileId),
    Rename(String, String),
    Remove(String),
}

impl Move {
    fn apply(&self, names: &mut BTreeMap<String, FileId>) {
        match self {
            Self::Make(name, file) => drop(names.insert(name.clone(), *file)),
            Self::Remove(name) => drop(names.remove(name)),
            Self::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
        }
    }

    /// The directory that has to be synced for it.
    fn dir(&self) -> &str {
        let (Self::Make(name, _) | Self::Rename(name, _) | Self::Remove(name)) = self;
        name.rsplit_once('/').map_or("", |(dir, _)| dir)
    }
}

/// What is about to be done to the disk, for who decides when to take a [`Crash`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Write,
    Truncate,
    Sync,
    Name,
    SyncDir,
}

/// All there is to know at one instant; the contents stay with the disk.
#[derive(Debug)]
pub(crate) struct Crash<W> {
    /// Changes synced and made, of each file.
    files: Vec<(usize, usize)>,
    names: BTreeMap<String, FileId>,
    moves: Vec<Move>,
    /// What was promised by then.
    pub(crate) witness: W,
    /// What was just about to be done.
    pub(crate) before: Kind,
    /// Operations before it.
    pub(crate) at: usize,
}

/// How much of what was not synced an image keeps.
#[derive(Debug, Clone, Copy)]
enum Loss {
    /// A process dies: all is kept.
    Nothing,
    /// All is lost.
    Everything,
    /// Each file, and the names, up to a point of its own.
    Tail,
    /// Each change is kept with this many chances in eight.
    Any(usize),
}

#[derive(Debug)]
struct State<W> {
    files: Vec<File>,
    /// Inodes of files that are open or were: the newest file of each.
    inodes: HashMap<u64, FileId>,
    names: BTreeMap<String, FileId>,
    /// Changes of names that are not synced.
    moves: Vec<Move>,
    operations: usize,
    dir_syncs: usize,
    random: Random,
    taken: Vec<Crash<W>>,
}

impl<W> State<W> {
    fn crash(&self, before: Kind, witness: W) -> Crash<W> {
        let files = self.files.iter().map(|file| (file.synced, file.changes.len())).collect();
        Crash { files, names: self.names.clone(), moves: self.moves.clone(), witness, before, at: self.operations }
    }
}

/// All is done. In this mood a disk is made.
pub(crate) const FAIR: u8 = 0;
/// Nothing can be written for want of room.
pub(crate) const FULL: u8 = 1;
/// Writes and syncs fail, or some of them.
pub(crate) const BROKEN: u8 = 2;
/// Syncs are done, and said to have failed.
pub(crate) const MISTAKEN: u8 = 3;

/// The disk below `root`.
pub(crate) struct Disk<W> {
    pub(crate) root: String,
    /// What it does with what is written.
    pub(crate) mood: AtomicU8,
    state: Mutex<State<W>>,
    witness: Box<dyn Fn() -> W + Send + Sync>,
}

impl<W> Disk<W> {
    /// With what lies there, synced. `witness` is asked, at each crash that is taken, for what was promised by then.
    pub(crate) fn new(root: &Path, random: Random, witness: impl Fn() -> W + Send + Sync + 'static) -> Self {
        let mut state = State {
            files: Vec::new(),
            inodes: HashMap::new(),
            names: BTreeMap::new(),
            moves: Vec::new(),
            operations: 0,
            dir_syncs: 0,
            random,
            taken: Vec::new(),
        };
        for dir in ["", "days/", "rollup-1h/", "rollup-5m/"] {
            fs::create_dir_all(root.join(dir)).expect("a directory");
            for entry in fs::read_dir(root.join(dir)).expect("a directory").map(|entry| entry.expect("an entry")) {
                if entry.file_type().expect("a type").is_file() {
                    let name = format!("{dir}{}", entry.file_name().to_str().expect("UTF-8"));
                    state.inodes.insert(entry.ino(), state.files.len());
                    state.names.insert(name, state.files.len());
                    state.files.push(File { changes: vec![Change::Write { at: 0, bytes: fs::read(entry.path()).expect("a file") }], synced: 1 });
                }
            }
        }
        Self { root: root.to_str().expect("UTF-8").to_owned(), mood: AtomicU8::new(FAIR), state: Mutex::new(state), witness: Box::new(witness) }
    }

    fn lock(&self) -> MutexGuard<'_, State<W>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The path relative to the root.
    pub(crate) fn name<'a>(&self, path: &'a str) -> Option<&'a str> {
        path.strip_prefix(&self.root).filter(|rest| rest.is_empty() || rest.starts_with('/')).map(|rest| rest.trim_start_matches('/'))
    }

    /// Begins an operation: it may be what is never done.
    fn begin(&self, kind: Kind) -> MutexGuard<'_, State<W>> {
        let mut state = self.lock();
        state.operations += 1;
        // What is rare is more often where it matters.
        let turns = match kind {
            Kind::Write => 5,
            Kind::Sync => 2,
            Kind::Truncate | Kind::Name | Kind::SyncDir => 1,
        };
        if state.random.once_in(turns) {
            // Under the lock: what was promised by now was synced before, and is seen as synced.
            let crash = state.crash(kind, (self.witness)());
            state.taken.push(crash);
        }
        state
    }

    /// A crash at this instant.
    pub(crate) fn crash(&self) -> Crash<W> {
        self.lock().crash(Kind::Name, (self.witness)())
    }

    /// Whether an operation fails, by the mood: a full disk takes no writes, a broken one half of its writes and syncs.
    pub(crate) fn refuses(&self, kind: Kind) -> Option<u8> {
        let mood = self.mood.load(std::sync::atomic::Ordering::Relaxed);
        let refused = match (mood, kind) {
            (FULL, Kind::Write) => true,
            (BROKEN, Kind::Write | Kind::Sync) => self.lock().random.once_in(2),
            _ => false,
        };
        refused.then_some(mood)
    }

    /// A file was opened, or made.
    pub(crate) fn open(&self, name: &str, inode: u64, made: bool) -> FileId {
        if !made && let Some(file) = self.lock().inodes.get(&inode) {
            return *file;
        }
        let mut state = self.begin(Kind::Name);
        let file = state.files.len();
        state.files.push(File::default());
        state.inodes.insert(inode, file);
        state.moves.push(Move::Make(name.to_owned(), file));
        file
    }

    pub(crate) fn write(&self, file: FileId, at: usize, bytes: &[u8]) {
        self.begin(Kind::Write).files[file].changes.push(Change::Write { at, bytes: bytes.to_vec() });
    }

    pub(crate) fn truncate(&self, file: FileId, size: usize) {
        self.begin(Kind::Truncate).files[file].changes.push(Change::Truncate(size));
    }

    /// Syncs by `work`: what was written before it begins is on disk once it succeeded.
    pub(crate) fn sync<T>(&self, file: FileId, work: impl FnOnce() -> T, good: impl Fn(&T) -> bool) -> T {
        let written = self.begin(Kind::Sync).files[file].changes.len();
        let done = work();
        if good(&done) {
            let file = &mut self.lock().files[file];
            file.synced = file.synced.max(written);
        }
        done
    }

    pub(crate) fn rename(&self, from: &str, to: &str) {
        let mut state = self.begin(Kind::Name);
        let is_it = |change: &Move| matches!(change, Move::Make(name, _) | Move::Rename(_, name) if name == from);
        if state.names.contains_key(from) || state.moves.iter().any(is_it) {
            state.moves.push(Move::Rename(from.to_owned(), to.to_owned()));
        } else if let Ok(bytes) = fs::read(Path::new(&self.root).join(from)) {
            // Not SQLite's: whoever writes a file to put it in place syncs it first.
            let file = state.files.len();
            state.files.push(File { changes: vec![Change::Write { at: 0, bytes }], synced: 1 });
            state.moves.push(Move::Make(to.to_owned(), file));
        }
    }

    pub(crate) fn remove(&self, name: &str) {
        // Never in an image.
        if !name.ends_with("-shm") {
            self.begin(Kind::Name).moves.push(Move::Remove(name.to_owned()));
        }
    }

    /// A directory was synced.
    pub(crate) fn sync_dir(&self, dir: &str) {
        let mut state = self.begin(Kind::SyncDir);
        state.dir_syncs += 1;
        let moves = std::mem::take(&mut state.moves);
        let (done, open): (Vec<_>, Vec<_>) = moves.into_iter().partition(|change| change.dir() == dir);
        done.iter().for_each(|change| change.apply(&mut state.names));
        state.moves = open;
    }

    /// Crashes since the last call.
    pub(crate) fn take(&self) -> Vec<Crash<W>> {
        std::mem::take(&mut self.lock().taken)
    }

    /// Operations, and how many of them synced a directory.
    pub(crate) fn seen(&self) -> (usize, usize) {
        let state = self.lock();
        (state.operations, state.dir_syncs)
    }

    /// Writes what is left after `crash` into `dir`, which is empty. The same `random` writes the same. Returns what was lost.
    pub(crate) fn image(&self, crash: &Crash<W>, mut random: Random, dir: &Path) -> String {
        let loss = match random.below(8) {
            0 => Loss::Nothing,
            1 => Loss::Everything,
            2..=4 => Loss::Tail,
            _ => Loss::Any(*random.pick(&[1, 4, 7])),
        };
        let mut names = crash.names.clone();
        for at in loss.kept(0, crash.moves.len(), &mut random) {
            crash.moves[at].apply(&mut names);
        }
        let state = self.lock();
        ["days", "rollup-1h", "rollup-5m"].into_iter().for_each(|name| fs::create_dir_all(dir.join(name)).expect("a directory"));
        for (name, file) in &names {
            let (synced, made) = crash.files[*file];
            let kept = loss.kept(synced, made, &mut random);
            let last = kept.last().copied().filter(|last| *last >= synced && !matches!(loss, Loss::Nothing));
            let mut bytes = Vec::new();
            for at in kept {
                let torn = if last == Some(at) && random.once_in(2) { random.below(9) * SECTOR } else { usize::MAX };
                state.files[*file].changes[at].apply(torn, &mut bytes);
            }
            fs::write(dir.join(name), bytes).expect("a file");
        }
        format!("{loss:?} lost before {:?}, operation {}", crash.before, crash.at)
    }
}

impl Loss {
    /// Which of the changes up to `made` are on disk, where those up to `synced` are for certain.
    fn kept(self, synced: usize, made: usize, random: &mut Random) -> Vec<usize> {
        match self {
            Self::Nothing => (0..made).collect(),
            Self::Everything => (0..synced).collect(),
            Self::Tail => (0..synced + random.below(made - synced + 1)).collect(),
            Self::Any(chances) => (0..made).filter(|at| *at < synced || random.below(8) < chances).collect(),
        }
    }
}

impl Change {
    /// `torn`: bytes that are written at most.
    fn apply(&self, torn: usize, content: &mut Vec<u8>) {
        match self {
            Self::Truncate(size) => content.resize(*size, 0),
            Self::Write { at, bytes } => {
                let bytes = &bytes[..bytes.len().min(torn)];
                let end = at + bytes.len();
                if !bytes.is_empty() && content.len() < end {
                    content.resize(end, 0);
                }
                if !bytes.is_empty() {
                    content[*at..end].copy_from_slice(bytes);
                }
            }
        }
    }
}
