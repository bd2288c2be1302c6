//! Which file a path leads to, as the kernel itself numbers it. `stat` will not do: btrfs and overlays tell devices there that their
//! file systems do not have, so the device is that of the mount.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, StatxFlags, fstat, open, statx};

/// Opens what lies at a path, if it is a file. What lies at a program's path is whatever its owner likes: opening a pipe would wait for
/// ever, opening a device does what that device does, and a file that its owner has a lease on is not waited for.
///
/// # Errors
/// The system's, or it is no file.
pub(crate) fn open_file(path: &Path) -> io::Result<File> {
    let named = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&named)?.st_mode) != FileType::RegularFile {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // The very file that was looked at, whatever lies at the path by now.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(open(format!("/proc/self/fd/{}", named.as_raw_fd()), flags, Mode::empty())?.into())
}

/// The mounts of this process's namespace: device by number.
#[derive(Debug, Default)]
pub(crate) struct Mounts(HashMap<u64, u32>);

impl Mounts {
    /// Reads them; none, where that cannot be.
    pub(crate) fn read() -> Self {
        let mut mounts = Self::default();
        mounts.add(Path::new("/proc/self/mountinfo"));
        mounts
    }

    /// Those of another namespace too.
    pub(crate) fn add(&mut self, mountinfo: &Path) {
        self.0.extend(std::fs::read_to_string(mountinfo).unwrap_or_default().lines().filter_map(mount));
    }

    /// Device and inode of the file that a path leads to.
    pub(crate) fn file(&self, path: &Path) -> io::Result<(u32, u64)> {
        self.place(CWD, path, AtFlags::empty())
    }

    /// Those of an open file, which may lie on a mount of another namespace.
    pub(crate) fn open(&self, file: impl AsFd) -> io::Result<(u32, u64)> {
        self.place(file, Path::new(""), AtFlags::EMPTY_PATH)
    }

    fn place(&self, from: impl AsFd, path: &Path, flags: AtFlags) -> io::Result<(u32, u64)> {
        let stat = statx(from, path, flags, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID)?;
        let told = device(stat.stx_dev_major, stat.stx_dev_minor);
        let has_mount = StatxFlags::from_bits_retain(stat.stx_mask).contains(StatxFlags::MNT_ID);
        let of_mount = has_mount.then(|| self.0.get(&stat.stx_mnt_id)).flatten();
        Ok((of_mount.copied().unwrap_or(told), stat.stx_ino))
    }
}

/// A line of mountinfo: number and device.
fn mount(line: &str) -> Option<(u64, u32)> {
    let mut fields = line.split(' ');
    let id = fields.next()?.parse().ok()?;
    let (major, minor) = fields.nth(1)?.split_once(':')?;
    Some((id, device(major.parse().ok()?, minor.parse().ok()?)))
}

/// Twenty bits of minor below those of major.
fn device(major: u32, minor: u32) -> u32 {
    major << 20 | minor & 0xf_ffff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_waited_for_and_only_files_are_opened() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        rustix::fs::mkfifoat(CWD, at("pipe"), Mode::RUSR).unwrap();
        std::os::unix::fs::symlink("/dev/null", at("device")).unwrap();
        std::fs::write(at("file"), "text").unwrap();
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        assert!(["pipe", "device", ".", "gone"].iter().all(|name| open_file(&at(name)).is_err()));
        assert_eq!(io::read_to_string(open_file(&at("link")).unwrap()).unwrap(), "text");
    }

    #[test]
    fn a_device_is_that_of_the_mount() {
        assert_eq!(mount("36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw"), Some((36, 98 << 20)));
        assert_eq!(mount("junk"), None);
        let mounts = Mounts::read();
        assert!(mounts.file(Path::new("/proc/self/stat")).is_ok_and(|(device, _)| mounts.0.values().any(|known| *known == device)));
    }
}
