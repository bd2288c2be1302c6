//! Opens as fanotify tells them, where the kernel takes no programs: allowed ones only, several of one process as one, and whose program
//! is unknown where the process was gone when it was looked at. Counts are "at least". Files that Linux audit covers are told by it.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::audit::Audit;
use super::message::{Opened, Who, path_of};
use super::place::Mounts;
use super::since_boot_ns;
use super::sys::{self, Mark};

/// Bytes of events that are read at once.
const EVENTS: usize = 64 << 10;
/// Bytes of one event's head, and the form that this understands.
const HEAD: usize = 24;
const FORM: u8 = 3;
const NO_FILE: i32 = -1;
const TICKS_A_SECOND: u64 = 100;

/// The marked files and directories.
#[derive(Debug)]
pub struct Marks {
    group: OwnedFd,
    marked: BTreeMap<PathBuf, Mark>,
    files: HashMap<(u32, u64), u32>,
    paths: HashMap<PathBuf, u32>,
    /// Nobody's opens that are told: the helper's and the agent's.
    ours: [u32; 2],
    audit: Result<Audit, String>,
    lost: u64,
    /// What could not be marked, and why.
    pub refused: Option<String>,
}

/// An event as the kernel lays it out.
struct Event {
    file: i32,
    pid: u32,
}

impl Marks {
    /// Begins, with nothing marked.
    ///
    /// # Errors
    /// The system's: it takes `CAP_SYS_ADMIN`.
    pub fn begin() -> io::Result<Self> {
        let group = sys::fanotify()?;
        let ours = [std::process::id(), 0];
        let audit = Audit::begin().map_err(|e| e.to_string());
        Ok(Self { group, marked: BTreeMap::new(), files: HashMap::new(), paths: HashMap::new(), ours, audit, lost: 0, refused: None })
    }

    /// Times that the kernel had no room.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost + self.audit.as_ref().map_or(0, |audit| audit.lost)
    }

    /// What Linux audit adds.
    #[must_use]
    pub fn audited(&self) -> String {
        match self.audit.as_ref().map(Audit::covers) {
            Ok((0, _)) => "no rule of Linux audit covers one".to_owned(),
            Ok((covered, all)) => format!("Linux audit tells those of {covered} of {all} files, each with who did it, and those that are denied"),
            Err(e) => format!("Linux audit cannot be listened to: {e}"),
        }
    }

    /// Becomes readable when events come.
    #[must_use]
    pub fn readable(&self) -> BorrowedFd<'_> {
        self.group.as_fd()
    }

    /// Who is not told, beside the helper.
    pub fn leave_out(&mut self, agent: u32) {
        self.ours[1] = agent;
    }

    /// Marks these files, and their directories, as whatever replaces a file is it; and no others.
    pub fn follow(&mut self, files: &[(u32, u64, u32, u32)], paths: &[(String, u32)]) {
        self.files = files.iter().map(|(dev, ino, _, number)| ((*dev, *ino), *number)).collect();
        self.paths = paths.iter().map(|(path, number)| (path_of(path), *number)).collect();
        let directories = self.paths.keys().filter_map(|path| path.parent()).map(|path| (path.to_owned(), Mark::Children));
        let wanted: BTreeMap<PathBuf, Mark> = directories.chain(self.paths.keys().map(|path| (path.clone(), Mark::File))).collect();
        // Also those that are marked: another file may lie there by now.
        self.refused = None;
        for (path, mark) in &wanted {
            if let Err(e) = sys::mark(&self.group, path, *mark, true) {
                self.refused = Some(format!("{}: {e}", path.display()));
            }
        }
        for (path, mark) in self.marked.iter().filter(|(path, _)| !wanted.contains_key(*path)) {
            // What is gone has no mark either.
            let _ = sys::mark(&self.group, path, *mark, false);
        }
        self.marked = wanted;
        if let Ok(audit) = &mut self.audit {
            audit.follow(&self.files, &self.paths);
        }
    }

    /// Takes all that has come.
    pub fn drain(&mut self) -> Vec<Opened> {
        let (mut opens, mut room, mounts) = (Vec::new(), vec![0; EVENTS], Mounts::read());
        while let Ok(read @ 1..) = rustix::io::read(&self.group, &mut room[..]) {
            let mut rest = &room[..read];
            while let Some((event, len)) = event(rest) {
                rest = &rest[len..];
                if event.file == NO_FILE {
                    self.lost += 1;
                    continue;
                }
                // Taken whoever it is of, so that it is closed.
                let file = sys::take(event.file);
                let Some(number) = self.number(&file, &mounts) else { continue };
                if self.ours.contains(&event.pid) {
                    self.audit.iter_mut().filter(|_| event.pid == self.ours[0]).for_each(|audit| audit.mark(number));
                    continue;
                }
                let opened = Opened { at_ns: since_boot_ns(), who: who(event.pid), file: number, ..Opened::default() };
                match &mut self.audit {
                    Ok(audit) => opens.extend(audit.leave(opened)),
                    Err(_) => opens.push(opened),
                }
            }
        }
        if let Ok(audit) = &mut self.audit {
            opens.append(&mut audit.drain(self.ours));
        }
        opens
    }

    fn number(&self, file: &OwnedFd, mounts: &Mounts) -> Option<u32> {
        let known = mounts.open(file).ok().and_then(|place| self.files.get(&place));
        let by_path = || self.paths.get(&fs::read_link(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(file))).ok()?);
        known.or_else(by_path).copied()
    }
}

/// The first event in what was read, and its length.
fn event(bytes: &[u8]) -> Option<(Event, usize)> {
    let head = bytes.first_chunk::<HEAD>()?;
    let number = |at: usize| [head[at], head[at + 1], head[at + 2], head[at + 3]];
    let len = usize::try_from(u32::from_ne_bytes(number(0))).ok().filter(|len| (HEAD..=bytes.len()).contains(len))?;
    let event = Event { file: i32::from_ne_bytes(number(16)), pid: u32::from_ne_bytes(number(20)) };
    (head[4] == FORM).then_some((event, len))
}

/// Who that is, as far as it can still be seen.
pub(super) fn who(pid: u32) -> Who {
    let place = PathBuf::from(format!("/proc/{pid}"));
    let text = |name: &str| fs::read_to_string(place.join(name)).unwrap_or_default();
    let (status, stat) = (text("status"), text("stat"));
    let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    let parent: u32 = line("PPid:").unwrap_or_default();
    // Behind the name, which may hold anything, the twentieth field.
    let ticks: u64 = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(19)?.parse().ok()).unwrap_or_default();
    // Of a process that is gone not even the user is known; nobody is called root for want of better.
    let uid = line("Uid:").or_else(|| fs::metadata(&place).ok().map(|stat| stat.uid())).unwrap_or(u32::MAX);
    Who {
        pid,
        started_ns: ticks * (1_000_000_000 / TICKS_A_SECOND),
        parent,
        uid,
        login_uid: text("loginuid").trim().parse().ok().filter(|uid| *uid != u32::MAX),
        exe: fs::read_link(place.join("exe")).map(|exe| exe.to_string_lossy().into_owned()).unwrap_or_default(),
        comm: text("comm").trim_end().to_owned(),
        parent_comm: fs::read_to_string(Path::new("/proc").join(parent.to_string()).join("comm")).unwrap_or_default().trim_end().to_owned(),
        cgroup: text("cgroup").lines().find_map(|line| line.strip_prefix("0::")).filter(|path| *path != "/").unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_bounded_by_what_was_read() {
        let mut bytes = vec![0_u8; 24];
        assert!(event(&bytes).is_none(), "no length");
        bytes[..4].copy_from_slice(&24_u32.to_ne_bytes());
        bytes[4] = 3;
        bytes[16..20].copy_from_slice(&(-1_i32).to_ne_bytes());
        bytes[20..24].copy_from_slice(&7_u32.to_ne_bytes());
        assert!(event(&bytes).is_some_and(|(event, len)| (event.file, event.pid, len) == (-1, 7, 24)));
        assert!(event(&bytes[..23]).is_none());
        bytes[..4].copy_from_slice(&25_u32.to_ne_bytes());
        assert!(event(&bytes).is_none());
    }
}
