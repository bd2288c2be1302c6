//! Takes what the kernel tells off its ring, on a thread of its own: the ring is small, and looking into libraries can take the helper
//! longer than it holds. What was taken waits here, within bounds.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aya::maps::{MapData, RingBuf};
use rustix::event::{PollFd, PollFlags, poll};

use super::layout::Record;

/// Records that wait; some 300 bytes each.
const WAITING_MAX: usize = 32_768;

struct Shared {
    ring: RingBuf<MapData>,
    waiting: VecDeque<Record>,
    /// Records that were more.
    lost: u64,
}

/// The ring, and what was taken off it.
pub(super) struct Ring {
    shared: Arc<Mutex<Shared>>,
    /// Becomes readable when something waits. Its other end lets the thread know that nobody does any more.
    bell: UnixStream,
    other: Option<UnixStream>,
    fd: OwnedFd,
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ring({} wait)", lock(&self.shared).waiting.len())
    }
}

impl Ring {
    /// Of a table of the kernel's.
    pub(super) fn new(ring: RingBuf<MapData>) -> io::Result<Self> {
        let (bell, other) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        other.set_nonblocking(true)?;
        let fd = ring.as_fd().try_clone_to_owned()?;
        Ok(Self { shared: Arc::new(Mutex::new(Shared { ring, waiting: VecDeque::new(), lost: 0 })), bell, other: Some(other), fd })
    }

    /// Takes records off by itself from now on. To be called once privileges are given away, as the thread has those of its maker.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        let Some(other) = self.other.take() else { return Ok(()) };
        let (shared, fd) = (Arc::clone(&self.shared), self.fd.try_clone()?);
        let thread = std::thread::Builder::new().name("probe-ring".into()).stack_size(256 << 10);
        thread.spawn(move || keep(&shared, &fd, other)).map(drop)
    }

    /// Becomes readable when there is something to take, once it [begins](Self::begin).
    pub(super) fn readable(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    /// All that has come up to now.
    pub(super) fn take(&mut self) -> VecDeque<Record> {
        // Before it is looked, so that whatever comes after it rings again.
        let mut rings = [0; 64];
        while self.bell.read(&mut rings).is_ok_and(|read| read > 0) {}
        let mut shared = lock(&self.shared);
        shared.take();
        std::mem::take(&mut shared.waiting)
    }

    /// Records for which there was no room here.
    pub(super) fn lost(&self) -> u64 {
        lock(&self.shared).lost
    }
}

impl Shared {
    fn take(&mut self) {
        while let Some(item) = self.ring.next() {
            let Some(record) = Record::read(&item) else { continue };
            if self.waiting.len() < WAITING_MAX { self.waiting.push_back(record) } else { self.lost += 1 }
        }
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes and rings until nobody listens.
fn keep(shared: &Mutex<Shared>, ring: &OwnedFd, mut bell: UnixStream) {
    loop {
        let mut events = [PollFd::new(ring, PollFlags::IN), PollFd::new(&bell, PollFlags::empty())];
        match poll(&mut events, None) {
            Ok(_) if events[1].revents().intersects(PollFlags::HUP | PollFlags::ERR) => return,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return tracing::error!(error = %e, "the kernel's ring cannot be watched; it is read with the next look"),
        }
        let waits = {
            let mut shared = lock(shared);
            shared.take();
            !shared.waiting.is_empty()
        };
        // One that has rung and was not heard yet needs to ring no more: then there is no room.
        if waits && bell.write(&[1]).is_err_and(|e| e.kind() == io::ErrorKind::BrokenPipe) {
            return;
        }
    }
}
