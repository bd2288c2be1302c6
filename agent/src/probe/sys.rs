//! The unsafe calls of the helper.
#![expect(
    unsafe_code,
    reason = "registering a descriptor with the runtime is unsafe, as it has to stay open until it is taken out; fanotify is in no safe crate"
)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
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

/// Takes a descriptor that the kernel has just given.
pub(super) fn take(descriptor: i32) -> OwnedFd {
    // SAFETY: the kernel opened it for this process with that very answer, and each is taken once.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}
