//! What a program consists of: its SHA-256, by the file that the kernel says was run, and not by whatever lies at its path now. Asked for
//! where a policy wants it. What cannot be known for sure is not known.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use aws_lc_rs::digest::{Context, SHA256};
use keyvigil_common::clock::{SharedClock, SystemClock};
use keyvigil_common::hex;

use super::layout::Record;
use super::place::open_file;
use super::{device, since_boot_ns};

/// Digests that are remembered.
const PROGRAMS_MAX: usize = 1_024;
/// Larger ones are not read, nor more than that in a minute: the helper does nothing else meanwhile, and who makes up programs shall not
/// keep it from its work.
const BYTES_MAX: u64 = 512 << 20;
const BYTES_A_MINUTE: u64 = 2 << 30;
const MINUTE_NS: u64 = 60_000_000_000;

/// A file as it was when it was read: device, inode, size, and when it and its inode were changed.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

/// Digests that were read.
#[derive(Debug)]
pub struct Digests {
    known: HashMap<Stamp, String>,
    clock: SharedClock,
    /// Since when, ns since boot, and bytes that may still be read in that minute.
    since_ns: u64,
    left: u64,
}

impl Default for Digests {
    fn default() -> Self {
        Self { known: HashMap::new(), clock: SystemClock::shared(), since_ns: 0, left: 0 }
    }
}

impl Digests {
    /// SHA-256 of the program that did this, in hexadecimal digits; `None` where that cannot be known: it is gone, was changed since, lies
    /// on a file system whose numbers are not those of the kernel, or too many others had to be read just now.
    pub fn hash(&mut self, record: &Record) -> Option<String> {
        let running = PathBuf::from(format!("/proc/{}/exe", record.pid));
        let path = PathBuf::from(std::ffi::OsStr::from_bytes(&record.exe));
        // By the process while it lives, whichever file system it sees; else by its path, if that is the same file still.
        [running, path].into_iter().find_map(|path| {
            let file = open_file(&path).ok()?;
            let before = file.metadata().ok().filter(|stat| self.is_it(stat, record))?;
            let stamp = stamp(&before);
            if let Some(hash) = self.known.get(&stamp) {
                return Some(hash.clone());
            }
            self.spend(before.len())?;
            let hash = digest(&file).ok()?;
            let after = file.metadata().ok()?;
            if self::stamp(&after) != stamp {
                return None;
            }
            if self.known.len() >= PROGRAMS_MAX {
                self.known.clear();
            }
            self.known.insert(stamp, hash.clone());
            Some(hash)
        })
    }

    /// So many bytes are to be read, if that is not too much.
    fn spend(&mut self, bytes: u64) -> Option<()> {
        let now_ns = since_boot_ns();
        if self.since_ns == 0 || now_ns.saturating_sub(self.since_ns) >= MINUTE_NS {
            (self.since_ns, self.left) = (now_ns, BYTES_A_MINUTE);
        }
        self.left = self.left.checked_sub(bytes)?;
        Some(())
    }

    /// Whether this is the file that was run, as it was then. One that runs cannot be written; later its inode would tell.
    fn is_it(&self, stat: &Metadata, record: &Record) -> bool {
        let age_ms = i64::try_from(since_boot_ns().saturating_sub(record.at_ns) / 1_000_000).unwrap_or(i64::MAX);
        let opened_ms = self.clock.now_ms().saturating_sub(age_ms);
        let changed_ms = stat.ctime().saturating_mul(1_000).saturating_add(stat.ctime_nsec() / 1_000_000);
        stat.is_file() && (device(stat), stat.ino()) == record.exe_id && stat.len() <= BYTES_MAX && changed_ms <= opened_ms
    }
}

fn stamp(stat: &Metadata) -> Stamp {
    (stat.dev(), stat.ino(), stat.len(), (stat.mtime(), stat.mtime_nsec()), (stat.ctime(), stat.ctime_nsec()))
}

fn digest(mut file: &File) -> io::Result<String> {
    let (mut context, mut room, mut left) = (Context::new(&SHA256), vec![0; 1 << 16], BYTES_MAX);
    loop {
        let read = file.read(&mut room)?;
        left = left.checked_sub(read as u64).ok_or_else(|| io::Error::other("it grows"))?;
        match read {
            0 => return Ok(hex(context.finish().as_ref())),
            read => context.update(&room[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::layout::Deed;
    use std::path::Path;

    fn by(pid: u32, exe: &Path) -> Record {
        let stat = std::fs::metadata(exe).unwrap();
        Record {
            generation: 0,
            deed: Deed::Opened,
            is_cut: false,
            exe_is_cut: false,
            cgroup_is_cut: false,
            asked_is_cut: false,
            at_ns: since_boot_ns(),
            started_ns: 0,
            ino: 0,
            exe_id: (device(&stat), stat.ino()),
            mount_ns: 0,
            dev: 0,
            file: 1,
            pid,
            parent: 1,
            uid: 0,
            login_uid: None,
            errno: 0,
            flags: 0,
            comm: String::new(),
            parent_comm: String::new(),
            exe: exe.as_os_str().as_bytes().to_vec(),
            cgroup: Vec::new(),
            asked: Vec::new(),
            base: Vec::new(),
        }
    }

    #[test]
    fn a_program_that_is_gone_is_known_by_its_file_and_by_no_other_file_at_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let exe = dir.path().join("tool");
        std::fs::write(&exe, "as it ran").unwrap();
        let ran = by(u32::MAX, &exe);
        let mut digests = Digests::default();
        let hash = hex(&keyvigil_common::sha256(b"as it ran"));
        assert_eq!(digests.hash(&ran), Some(hash.clone()));
        assert_eq!(digests.hash(&ran), Some(hash), "and again, without reading it");
        std::fs::rename(&exe, dir.path().join("before")).unwrap();
        std::fs::write(&exe, "another").unwrap();
        assert_eq!(digests.hash(&ran), None, "another file");
        std::fs::remove_file(&exe).unwrap();
        assert_eq!(digests.hash(&ran), None);
        rustix::fs::mkfifoat(rustix::fs::CWD, &exe, rustix::fs::Mode::RUSR).unwrap();
        assert_eq!(digests.hash(&ran), None, "a pipe that nobody writes to is not waited for");

        let kept = dir.path().join("kept");
        std::fs::write(&kept, "as it ran").unwrap();
        digests.left = 3;
        std::fs::write(dir.path().join("long"), "four").unwrap();
        std::fs::write(dir.path().join("tiny"), "one").unwrap();
        assert_eq!(digests.hash(&by(u32::MAX, &dir.path().join("long"))), None, "no more is read in this minute");
        assert!(digests.hash(&by(u32::MAX, &dir.path().join("tiny"))).is_some());
        let long_ago = Record { at_ns: 0, ..by(u32::MAX, &kept) };
        assert_eq!(digests.hash(&long_ago), None, "the same file, changed since");
    }
}
