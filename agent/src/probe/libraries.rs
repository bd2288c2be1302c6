//! Which libraries run here: those in the usual directories, and those that processes have mapped, also from a container's own files,
//! under any name, and those that a program has within itself. Each file is probed once, and let go when nobody has it any more.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::functions::Library;
use super::kernel::Kernel;
use super::library::families;
use super::message::Sight;
use super::paths::{Place, shown};
use super::place::open_file;
use super::probes::Probes;
use super::since_boot_ns;

/// Libraries that are probed.
const LIBRARIES_MAX: usize = 128;
/// Looks at a process before its libraries are taken as settled: many load more as they start. Later it is looked at again where its
/// memory has grown or shrunk.
const LOOKS: u8 = 3;
/// Looks that a process which often changes is left alone after a look that found nothing, at most: two minutes.
const WAIT_MAX: u16 = 60;
/// Looks for which nobody must have used a library before it is let go: a minute. What was counted of it was told by then.
const UNUSED_LOOKS: u8 = 30;
/// Files of which it is known that they are no library of ours; forgotten all at once when there are more.
const OTHERS_MAX: usize = 16_384;

/// How long a look may go on with files whose names tell nothing, and with any; the rest has its turn at the next. Attaching takes long
/// where others detach at the same time, and all waits for it.
const LOOK_NS: u64 = 50_000_000;
const SLICE_NS: u64 = 200_000_000;

/// What looking at a file came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Looked {
    Library(FileId),
    Other,
    /// There is no time left in this look.
    Later,
}

/// Device and inode.
pub type FileId = (u64, u64);

/// A library's file.
#[derive(Debug)]
struct Known {
    number: usize,
    path: String,
    fault: Option<String>,
    is_blind: bool,
    /// To put probes back that were taken away for a while.
    file: File,
    since_ns: u64,
    unused: u8,
}

#[derive(Debug, Default)]
struct Process {
    /// Pages of its memory at the latest look.
    size: u64,
    looks: u8,
    wait: u16,
    fruitless: u8,
    libraries: HashSet<FileId>,
}

/// The libraries and the processes that were looked at.
#[derive(Debug, Default)]
pub struct Libraries {
    known: BTreeMap<FileId, Known>,
    /// Paths by number, also of those that were let go.
    numbers: Vec<String>,
    /// Those in the usual directories, and when these were changed: they stay probed, as their next user may be a short one.
    usual: HashSet<FileId>,
    directories: Vec<(i64, i64)>,
    processes: HashMap<u32, Process>,
    others: HashSet<(String, String)>,
    is_full: bool,
    began_ns: u64,
    /// All was looked at once.
    is_settled: bool,
}

impl Libraries {
    /// Looks at the usual directories where something in them changed, and at processes that are new or changed. False where that took
    /// too long, and is to go on soon.
    pub fn look(&mut self, kernel: &mut Kernel, probes: &mut Probes) -> bool {
        self.began_ns = since_boot_ns();
        let mut is_whole = self.look_at_directories(kernel, probes);
        let pids: HashSet<u32> =
            std::fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        self.processes.retain(|pid, _| pids.contains(pid));
        for pid in pids {
            if self.is_over(SLICE_NS) {
                is_whole = false;
                break;
            }
            let Some(size) = pages(pid) else { continue };
            let mut process = self.processes.remove(&pid).unwrap_or_default();
            process.wait = process.wait.saturating_sub(1);
            if process.looks < LOOKS || process.size != size && process.wait == 0 {
                is_whole &= self.look_at(pid, &mut process, kernel, probes);
                process.size = size;
            }
            self.processes.insert(pid, process);
        }
        if is_whole {
            self.is_settled = true;
            self.let_go(kernel, probes);
        }
        is_whole
    }

    /// Whether all was looked at once.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.is_settled
    }

    /// Whether this look has lasted so long.
    fn is_over(&self, ns: u64) -> bool {
        since_boot_ns().saturating_sub(self.began_ns) > ns
    }

    fn look_at_directories(&mut self, kernel: &mut Kernel, probes: &mut Probes) -> bool {
        let changed: Vec<(i64, i64)> =
            super::paths::DIRECTORIES.iter().map(|directory| std::fs::metadata(directory).map_or((0, 0), |meta| (meta.mtime(), meta.mtime_nsec()))).collect();
        if changed == self.directories {
            return true;
        }
        let mut usual = HashSet::new();
        for directory in super::paths::DIRECTORIES {
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if !super::paths::may_be_one(directory, &name) {
                    continue;
                }
                match self.probe(kernel, probes, &entry.path(), Library::of(&name).is_some(), || shown(&entry.path())) {
                    Looked::Library(id) => drop(usual.insert(id)),
                    Looked::Other => {}
                    Looked::Later => {
                        // Those that went stay until all that are there are known.
                        self.usual.extend(usual);
                        return false;
                    }
                }
            }
        }
        (self.directories, self.usual) = (changed, usual);
        true
    }

    /// False where there was no time for a library that has a library's name.
    fn look_at(&mut self, pid: u32, process: &mut Process, kernel: &mut Kernel, probes: &mut Probes) -> bool {
        let Ok(maps) = File::open(format!("/proc/{pid}/maps")) else { return true };
        let (mut seen, mut found, mut place) = (HashSet::new(), HashSet::new(), None);
        let (mut is_whole, mut is_in_time) = (true, true);
        for line in BufReader::new(maps).lines().map_while(Result::ok) {
            let Some(mapped) = mapped(&line) else { continue };
            let named = mapped.path.rsplit('/').next().and_then(Library::of).is_some();
            let other = (mapped.id.to_owned(), mapped.path.to_owned());
            // What has no name that tells is looked into only where the process is there to stay: short ones are many.
            if !seen.insert(mapped.id.to_owned()) || !named && (process.looks == 0 || self.others.contains(&other)) {
                continue;
            }
            if !named && self.is_over(LOOK_NS) {
                is_whole = false;
                continue;
            }
            // By the process's own view of files; one that was replaced on disk still lies under its range.
            let direct = PathBuf::from(format!("/proc/{pid}/map_files/{}", mapped.range));
            let path = mapped.path.trim_end_matches(" (deleted)");
            let file = if direct.exists() { direct } else { PathBuf::from(format!("/proc/{pid}/root{path}")) };
            let place = place.get_or_insert_with(|| Place::of(pid));
            match self.probe(kernel, probes, &file, named, || place.shown(mapped.path)) {
                Looked::Library(id) => drop(found.insert(id)),
                Looked::Later => (is_whole, is_in_time) = (false, false),
                Looked::Other if self.others.len() < OTHERS_MAX => drop(self.others.insert(other)),
                Looked::Other => self.others.clear(),
            }
        }
        let is_news = process.libraries != found;
        process.looks = if is_whole { process.looks.saturating_add(1) } else { process.looks.max(1) };
        process.fruitless = if is_news { 0 } else { (process.fruitless + 1).min(6) };
        process.wait = if process.looks > LOOKS { (1 << process.fruitless).min(WAIT_MAX) } else { 0 };
        process.libraries = found;
        is_in_time
    }

    /// Probes a file where it is a library, once.
    fn probe(&mut self, kernel: &mut Kernel, probes: &mut Probes, path: &Path, named: bool, shown: impl FnOnce() -> String) -> Looked {
        let Ok(file) = open_file(path) else { return Looked::Other };
        let Ok(stat) = file.metadata() else { return Looked::Other };
        let id = (stat.dev(), stat.ino());
        if self.known.contains_key(&id) {
            return Looked::Library(id);
        }
        if self.is_over(SLICE_NS) {
            return Looked::Later;
        }
        let (libraries, mut faults) = match families(&file) {
            Ok(none) if none.is_empty() && named => (none, vec!["it has none of the functions that are known".to_owned()]),
            Err(fault) if named => (Vec::new(), vec![fault]),
            Ok(none) if none.is_empty() => return Looked::Other,
            Ok(some) => (some, Vec::new()),
            Err(_) => return Looked::Other,
        };
        self.is_full = self.known.len() >= LIBRARIES_MAX;
        if self.is_full {
            return Looked::Other;
        }
        let (number, path) = (self.numbers.len(), shown());
        self.numbers.push(path.clone());
        let mut is_blind = libraries.is_empty();
        for library in &libraries {
            match probes.attach(kernel, *library, number, &file) {
                Ok(some) => faults.extend(some.iter().map(|(symbol, fault)| format!("{symbol}: {fault}"))),
                Err(fault) => {
                    is_blind = true;
                    faults.push(fault);
                }
            }
        }
        let fault = (!faults.is_empty()).then(|| faults.join("; "));
        self.known.insert(id, Known { number, path, fault, is_blind, file, since_ns: since_boot_ns(), unused: 0 });
        Looked::Library(id)
    }

    fn let_go(&mut self, kernel: &mut Kernel, probes: &mut Probes) {
        let used: HashSet<FileId> = self.processes.values().flat_map(|process| process.libraries.iter().copied()).collect();
        self.known.retain(|id, known| {
            known.unused = if used.contains(id) || self.usual.contains(id) { 0 } else { known.unused + 1 };
            let stays = known.unused < UNUSED_LOOKS;
            if !stays {
                probes.detach(kernel, known.number);
            }
            stays
        });
        self.is_full &= self.known.len() >= LIBRARIES_MAX;
    }

    /// The path of a library by its number.
    #[must_use]
    pub fn path(&self, number: usize) -> &str {
        self.numbers.get(number).map_or("", String::as_str)
    }

    /// Since when it is probed, ns since boot, and its file; `None` for one that was let go.
    #[must_use]
    pub fn since(&self, number: usize) -> Option<(u64, &File)> {
        self.known.values().find(|known| known.number == number).map(|known| (known.since_ns, &known.file))
    }

    /// Whether a process has one mapped; `None` where it was not looked at yet.
    #[must_use]
    pub fn is_user(&self, pid: u32) -> Option<bool> {
        self.processes.get(&pid).filter(|process| process.looks > 1).map(|process| !process.libraries.is_empty())
    }

    /// How well each is seen.
    #[must_use]
    pub fn sight(&self) -> Vec<Sight> {
        let accuracy = |known: &Known| match (known.is_blind, &known.fault) {
            (true, _) => "none",
            (false, Some(_)) => "at least",
            (false, None) => "exact",
        };
        let sight = |known: &Known| Sight { what: known.path.clone(), accuracy: accuracy(known).to_owned(), reason: known.fault.clone().unwrap_or_default() };
        let mut sights: Vec<Sight> = self.known.values().map(sight).collect();
        if self.is_full {
            let reason = format!("there are more than {LIBRARIES_MAX} different libraries here; those beyond are not looked at");
            sights.push(Sight { what: "libraries".to_owned(), accuracy: "none".to_owned(), reason });
        }
        sights
    }

    /// Whether there is one at all that is looked into.
    #[must_use]
    pub fn any(&self) -> bool {
        self.known.values().any(|known| !known.is_blind)
    }
}

/// Pages of a process's memory; `None` for one that has none of its own, or is gone.
fn pages(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    text.split(' ').next()?.parse().ok().filter(|pages| *pages > 0)
}

/// Code that is mapped from a file.
struct Mapped<'a> {
    range: &'a str,
    /// Device and inode, as the process's mount has them.
    id: &'a str,
    path: &'a str,
}

/// Reads a line of `/proc/PID/maps`; `None` for memory that is of no file, or not executable.
fn mapped(line: &str) -> Option<Mapped<'_>> {
    let (range, rest) = line.split_once(' ')?;
    let (rights, rest) = rest.split_once(' ')?;
    let (_offset, rest) = rest.split_once(' ')?;
    let device = rest.find(' ')?;
    let end = device + 1 + rest[device + 1..].find(' ')?;
    let path = rest[end..].trim_start();
    (rights.contains('x') && path.starts_with('/')).then_some(Mapped { range, id: &rest[..end], path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_of_files_is_looked_at() {
        let line = "7f1c6a000000-7f1c6a200000 r-xp 000ad000 fe:00 918 /usr/lib/a b/libcrypto.so.3";
        let code = mapped(line).unwrap();
        assert_eq!((code.range, code.id, code.path), ("7f1c6a000000-7f1c6a200000", "fe:00 918", "/usr/lib/a b/libcrypto.so.3"));
        assert!(mapped(&line.replace("r-xp", "r--p")).is_none());
        assert!(mapped("7ffd0-7ffd1 r-xp 00000000 00:00 0                          [vdso]").is_none());
        assert!(mapped("55f0-55f1 rw-p 00000000 00:00 0 ").is_none());
        assert!(mapped("").is_none());
    }
}
