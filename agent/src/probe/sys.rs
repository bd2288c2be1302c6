//! The unsafe calls of the helper.
#![expect(
    unsafe_code,
    reason = "registering a descriptor with the runtime is unsafe, as it has to stay open until it is taken out; fanotify is in no safe crate; nor is the call that tells versions of inodes"
)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Waits for `fd` to become readable.
pub(super) fn readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned by what registers it, nobody else has its number, and it is closed only after it was taken out.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(io::Error::from)
}

/// What is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// A file.
    File,
    /// What lies in a directory.
    Children,
}

/// A group of fanotify that tells and asks nothing.
pub(super) fn fanotify() -> io::Result<OwnedFd> {
    let flags = libc::FAN_CLASS_NOTIF | libc::FAN_CLOEXEC | libc::FAN_NONBLOCK;
    // SAFETY: numbers only.
    let group = unsafe { libc::fanotify_init(flags, (libc::O_RDONLY | libc::O_CLOEXEC | libc::O_LARGEFILE).cast_unsigned()) };
    if group < 0 { Err(io::Error::last_os_error()) } else { Ok(take(group)) }
}

/// Marks what lies at a path, or takes the mark away.
pub(super) fn mark(group: &OwnedFd, path: &Path, mark: Mark, add: bool) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let children = if mark == Mark::Children { libc::FAN_EVENT_ON_CHILD } else { 0 };
    let flags = if add { libc::FAN_MARK_ADD } else { libc::FAN_MARK_REMOVE };
    // SAFETY: the path ends with NUL and outlives the call.
    let done = unsafe { libc::fanotify_mark(group.as_raw_fd(), flags, libc::FAN_OPEN | children, libc::AT_FDCWD, path.as_ptr()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The version of an inode: another file has another one, also where it has the same inode, in another subvolume or after the first is gone.
/// `None` where the file system tells none.
pub(crate) fn version(file: impl AsFd) -> Option<u32> {
    // The kernel writes an `int`, whatever its number says.
    let mut version: libc::c_long = 0;
    // SAFETY: the kernel writes to no more than what is passed, which outlives the call.
    let done = unsafe { libc::ioctl(file.as_fd().as_raw_fd(), libc::FS_IOC_GETVERSION as _, &raw mut version) };
    let bytes = version.to_ne_bytes();
    (done == 0).then(|| bytes.first_chunk().map(|int| u32::from_ne_bytes(*int)))?
}

/// Takes a descriptor that the kernel has just given.
pub(super) fn take(descriptor: i32) -> OwnedFd {
    // SAFETY: the kernel opened it for this process with that very answer, and each is taken once.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}
