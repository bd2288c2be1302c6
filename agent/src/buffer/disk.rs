//! What lies beside the buffer's file: its log, the reserve that is freed when the disk is full, and files that were set aside.
//! Also how much room the file system has.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use super::BufferError;

const RESERVE_BYTES_MAX: u64 = 16 << 20;
/// Part of the bound that the reserve takes at most.
const RESERVE_SHARE: u64 = 8;
const MIN_FREE_BYTES: u64 = 1 << 30;
/// Part of the file system that stays free.
const MIN_FREE_SHARE: u64 = 20;
/// What the buffer may hold however little room there is.
const FLOOR_BYTES: u64 = 1 << 20;
/// What the log grows to before it is moved into the file, with a transaction or two.
const LOG_BYTES: u64 = 3 << 20;
/// A smaller file does not tell how full pages become.
const DENSITY_FROM_BYTES: u64 = 1 << 20;

/// `path` with something after its name.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// How long the log of the file at `buffer` is; one that is no file counts as none.
pub(super) fn log_bytes(buffer: &Path) -> u64 {
    std::fs::symlink_metadata(beside(buffer, "-wal")).map_or(0, |stat| if stat.is_file() { stat.len() } else { 0 })
}

/// Free space of the file system and what of it stays free.
#[derive(Debug, Clone, Copy)]
pub(super) struct Space {
    pub(super) free: u64,
    pub(super) keep: u64,
}

impl Space {
    /// Of the file system that `buffer` lies on; `None` if it does not say.
    pub(super) fn of(buffer: &Path, min_free_bytes: u64) -> Option<Self> {
        let stat = statvfs(buffer.parent()?).ok()?;
        let all = stat.f_blocks.saturating_mul(stat.f_frsize);
        let keep = if min_free_bytes == 0 { (all / MIN_FREE_SHARE).min(MIN_FREE_BYTES) } else { min_free_bytes };
        Some(Self { free: stat.f_bavail.saturating_mul(stat.f_frsize), keep })
    }

    /// What the buffer may hold that is bound to `bytes`: neither it nor its log grows into what stays free.
    pub(super) fn bound(self, taken: Taken, bytes: u64) -> u64 {
        let log = LOG_BYTES.saturating_sub(taken.log);
        let room = self.free.saturating_sub(self.keep + log);
        // Rows fill their pages to some seven eighths, large ones less.
        let dense = taken.used < DENSITY_FROM_BYTES || taken.held >= taken.used / 8 * 7;
        let (held, used) = if dense { (7, 8) } else { (u128::from(taken.held).max(1), u128::from(taken.used)) };
        let bound = u128::from(taken.size + room) * held / used;
        u64::try_from(bound).unwrap_or(u64::MAX).max(FLOOR_BYTES).min(bytes)
    }
}

/// What a buffer takes of a disk, bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Taken {
    /// Its file.
    pub(super) size: u64,
    /// Pages of it that hold something.
    pub(super) used: u64,
    /// Sealed batches in them.
    pub(super) held: u64,
    /// The log.
    pub(super) log: u64,
}

impl Taken {
    /// Adds the log of the file at `buffer`.
    pub(super) fn with_log(self, buffer: &Path) -> Self {
        Self { log: log_bytes(buffer), ..self }
    }
}

fn reserve(buffer: &Path) -> PathBuf {
    buffer.with_extension("reserve")
}

/// Makes the reserve if there is none and there is room for it.
pub(super) fn make_reserve(buffer: &Path, bytes: u64, space: Option<Space>) {
    let (path, size) = (reserve(buffer), (bytes / RESERVE_SHARE).min(RESERVE_BYTES_MAX));
    let room = space.is_some_and(|space| space.free > space.keep + size);
    if !room || path.exists() {
        return;
    }
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).and_then(|file| Ok(fallocate(&file, FallocateFlags::empty(), 0, size)?));
    if let Err(e) = made {
        tracing::debug!(error = %e, "no reserve for a full disk");
        let _ = std::fs::remove_file(&path);
    }
}

/// Frees the reserve; whether there was one.
pub(super) fn free_reserve(buffer: &Path) -> bool {
    std::fs::remove_file(reserve(buffer)).is_ok()
}

/// Where a file that is made anew lies until it is whole.
pub(super) fn unfinished(buffer: &Path) -> PathBuf {
    beside(buffer, ".new")
}

/// Removes what a repair began and did not end; what it did end takes its place.
pub(super) fn clean_up(buffer: &Path) -> std::io::Result<()> {
    let new = unfinished(buffer);
    match std::fs::symlink_metadata(buffer) {
        Err(e) if e.kind() == ErrorKind::NotFound && new.exists() => {
            // The log of the file that was moved away must not be taken for that of the new one.
            move_logs(buffer, &free_name(buffer, 0))?;
            put_in_place(buffer)
        }
        _ => {
            for suffix in ["", "-wal", "-shm"] {
                remove(&beside(&new, suffix))?;
            }
            Ok(())
        }
    }
}

fn remove(path: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn move_logs(from: &Path, to: &Path) -> std::io::Result<()> {
    for suffix in ["-wal", "-shm"] {
        match std::fs::rename(beside(from, suffix), beside(to, suffix)) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

fn free_name(buffer: &Path, at: i64) -> PathBuf {
    let names = (at..i64::MAX).map(|n| beside(buffer, &format!(".damaged-{n}")));
    names.into_iter().find(|path| std::fs::symlink_metadata(path).is_err()).unwrap_or_else(|| beside(buffer, ".damaged"))
}

/// Moves what lies in the buffer's place away, with its log; of those that were moved before none stays. Returns its new name.
pub(super) fn set_aside(buffer: &Path, now_ms: i64) -> Result<PathBuf, BufferError> {
    let fault = |e| BufferError::Io(format!("{} cannot be set aside", buffer.display()), e);
    let aside = free_name(buffer, now_ms.max(0));
    match std::fs::rename(buffer, &aside) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(fault(e)),
        _ => {}
    }
    move_logs(buffer, &aside).map_err(fault)?;
    if let Err(e) = forget_older(buffer, &aside) {
        tracing::debug!(error = %e, "a damaged buffer of before stays where it is");
    }
    Ok(aside)
}

fn forget_older(buffer: &Path, newest: &Path) -> std::io::Result<()> {
    let Some(name) = buffer.file_name().and_then(|name| name.to_str()) else { return Ok(()) };
    let keep = newest.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    for entry in std::fs::read_dir(buffer.parent().unwrap_or(Path::new(".")))? {
        let entry = entry?;
        let file = entry.file_name();
        let old = file.to_str().filter(|file| file.strip_prefix(name).is_some_and(|rest| rest.starts_with(".damaged-")) && !file.starts_with(keep));
        if old.is_some() && !entry.file_type()?.is_dir() {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Gives the new file the buffer's name.
pub(super) fn put_in_place(buffer: &Path) -> std::io::Result<()> {
    std::fs::rename(unfinished(buffer), buffer)?;
    std::fs::File::open(buffer.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_held_leaves_room_for_the_log_and_for_pages_that_are_not_full() {
        let mib = |n: u64| n << 20;
        let space = Space { free: mib(20), keep: mib(5) };
        assert_eq!(space.bound(Taken::default(), mib(100)), mib(12) / 8 * 7);
        let grown = Taken { log: mib(2), ..Taken::default() };
        assert_eq!(space.bound(grown, mib(100)), mib(14) / 8 * 7, "the log is there already");
        let half_full = Taken { size: mib(4), used: mib(4), held: mib(2), log: mib(3) };
        assert_eq!(space.bound(half_full, mib(100)), (mib(4) + mib(15)) / 2);
        assert_eq!(space.bound(half_full, mib(8)), mib(8));
        assert_eq!(Space { free: 0, ..space }.bound(Taken::default(), mib(8)), FLOOR_BYTES);
    }
}
