//! The agent's queue: batches in the order they were sealed, each with a dense number given in the transaction that stores it;
//! they go when the aggregator has acknowledged them. [`Buffer`] is the handle that tasks hold; one thread owns the [`Queue`]
//! behind it, which does the work and is told the time. What is appended is always taken: a disk that takes nothing is stood in
//! for by memory, bounded. Every loss is kept as a gap until a batch has told of it.

mod bound;
mod disk;
mod error;
mod file;
mod front;
mod import;
mod numbers;
mod open;
mod queue;
mod raw;
mod repair;
mod salvage;
mod settle;
mod sidecar;
mod state;
mod view;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use keyvigil_common::clock::SharedClock;
use keyvigil_common::seal::MasterKey;
use keyvigil_common::sequence::Range;
use keyvigil_common::wire::{Class, Elsewhere, Gap};
use tokio::sync::{mpsc, oneshot, watch};

pub use error::BufferError;
pub use open::{recall, waiting};
pub use queue::Queue;

/// Calls that may wait for the buffer's thread; each caller has one.
const CALLS_MAX: usize = 64;

/// What the buffer may hold.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Bytes of sealed batches.
    pub bytes: u64,
    /// Age of the oldest batch, ms.
    pub age_ms: i64,
    /// Bytes of the file system that stay free; 0: the smaller of a twentieth of it and 1 GiB.
    pub min_free_bytes: u64,
}

/// Where a buffer lies.
#[derive(Clone)]
pub struct Place {
    /// Its file. Others lie beside it, with other endings.
    pub path: PathBuf,
    /// Name of SQLite's layer of files; `None`: the default.
    pub vfs: Option<String>,
    /// What tells this installation from a copy of it.
    pub origin: String,
    /// Bounds how long a damaged file is looked at; nothing else is done by it.
    pub clock: SharedClock,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Place({})", self.path.display())
    }
}

/// A batch to be stored.
#[derive(Debug, Clone)]
pub struct New {
    /// How much it matters.
    pub class: Class,
    /// Samples, sightings and events in it.
    pub items: u64,
    /// When it was sealed, Unix ms.
    pub at_ms: i64,
    /// Encoded batch.
    pub frame: Vec<u8>,
    /// Ids of the gaps that it tells of.
    pub told: Vec<i64>,
}

/// A loss of things that never got a number: class, how many, why. It gets a number when it is stored.
pub type Lost = (Class, u64, &'static str);
/// What a sensor asks to be remembered: sensor, key, and value or forget.
pub type Remember = (&'static str, String, Option<Vec<u8>>);

/// What a sensor remembered: key and value.
pub type Remembered = (String, Vec<u8>);

/// What became of an append.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Appended {
    /// Batches given up to make room; each is declared.
    pub given_up: u64,
}

/// Which of two streams of pushes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// Everything, oldest first; while a backlog drains, what is fresh.
    Live,
    /// The backlog, oldest first.
    Backfill,
}

/// What one push may hold; at least one frame is always given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Frames.
    pub frames: usize,
    /// Bytes of frames.
    pub bytes: usize,
}

/// What is to be sent, all of one epoch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Front {
    /// What counts these numbers.
    pub epoch: [u8; 16],
    /// Numbers given up, before the last frame.
    pub dropped: Vec<Range>,
    /// Numbers that come with the other lane.
    pub waiting: Vec<Range>,
    /// Number and frame, ascending; never empty.
    pub frames: Vec<(u64, Vec<u8>)>,
}

/// How full it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Level {
    /// Batches that wait to be acknowledged.
    pub batches: u64,
    /// Samples, sightings and events in them.
    pub items: u64,
    /// Bytes.
    pub bytes: u64,
    /// When the oldest was sealed, Unix ms.
    pub oldest_ms: Option<i64>,
    /// What counts now.
    pub epoch: [u8; 16],
    /// Last number it gave.
    pub last_seq: u64,
    /// Why batches are kept in memory, in words; `None` while the disk takes them.
    pub degraded: Option<String>,
}

/// Work with the queue; it ends with the one that does not give it back.
type Job = Box<dyn FnOnce(Queue, &watch::Sender<Level>) -> Option<Queue> + Send>;

/// Handle to the queue; cheap to clone. Its thread ends when the last handle is gone.
#[derive(Debug, Clone)]
pub struct Buffer {
    path: Arc<Path>,
    jobs: mpsc::Sender<Job>,
    level: watch::Receiver<Level>,
}

impl Buffer {
    /// Opens the buffer, or makes it, and starts its thread. Blocks until it is open, which takes up to some 30 s where a file
    /// is damaged.
    ///
    /// # Errors
    /// A library that loses data, a file of a later version, or no thread. All else is overcome: see [`Level::degraded`].
    pub fn open(place: Place, master: MasterKey, bounds: Bounds, now_ms: i64) -> Result<Self, BufferError> {
        let path = Arc::from(place.path.as_path());
        let mut queue = Queue::open(place, master, bounds, now_ms)?;
        let (jobs, mut calls) = mpsc::channel::<Job>(CALLS_MAX);
        let (publish, level) = watch::channel(queue.level());
        let work = move || {
            while let Some(job) = calls.blocking_recv() {
                let Some(given_back) = job(queue, &publish) else { break };
                queue = given_back;
            }
        };
        std::thread::Builder::new().name("buffer".into()).spawn(work).map_err(BufferError::Thread)?;
        Ok(Self { path, jobs, level })
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How full it is; asks nobody.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level.borrow().clone()
    }

    async fn ask<T: Send + 'static>(&self, work: impl FnOnce(&mut Queue) -> Result<T, BufferError> + Send + 'static) -> Result<T, BufferError> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |mut queue, level| {
            let out = work(&mut queue);
            level.send_replace(queue.level());
            // Whoever asked may have been told to stop.
            let _ = reply.send(out);
            Some(queue)
        });
        self.send(job, answer).await
    }

    async fn send<T>(&self, job: Job, answer: oneshot::Receiver<Result<T, BufferError>>) -> Result<T, BufferError> {
        self.jobs.send(job).await.map_err(|_| BufferError::Gone)?;
        answer.await.map_err(|_| BufferError::Gone)?
    }

    /// [`Queue::append`].
    ///
    /// # Errors
    /// As there.
    pub async fn append(&self, batches: Vec<New>, remember: Vec<Remember>, lost: Vec<Lost>, now_ms: i64) -> Result<Appended, BufferError> {
        self.ask(move |queue| queue.append(batches, remember, lost, now_ms)).await
    }

    /// [`Queue::front`].
    ///
    /// # Errors
    /// As there.
    pub async fn front(&self, lane: Lane, room: Room, now_ms: i64) -> Result<Option<Front>, BufferError> {
        self.ask(move |queue| queue.front(lane, room, now_ms)).await
    }

    /// [`Queue::acked`].
    ///
    /// # Errors
    /// As there.
    pub async fn acked(&self, epoch: [u8; 16], cursor: u64, beyond: Vec<Range>, now_ms: i64) -> Result<u64, BufferError> {
        self.ask(move |queue| queue.acked(epoch, cursor, beyond, now_ms)).await
    }

    /// [`Queue::elsewhere`].
    ///
    /// # Errors
    /// As there.
    pub async fn elsewhere(&self, pushed: [u8; 16], others: Vec<Elsewhere>, now_ms: i64) -> Result<(), BufferError> {
        self.ask(move |queue| queue.elsewhere(pushed, others, now_ms)).await
    }

    /// [`Queue::missing`].
    ///
    /// # Errors
    /// As there.
    pub async fn missing(&self, epoch: [u8; 16], expected: u64, now_ms: i64) -> Result<(), BufferError> {
        self.ask(move |queue| queue.missing(epoch, expected, now_ms)).await
    }

    /// [`Queue::forked`].
    ///
    /// # Errors
    /// As there.
    pub async fn forked(&self, epoch: [u8; 16], seq: u64, now_ms: i64) -> Result<(), BufferError> {
        self.ask(move |queue| queue.forked(epoch, seq, now_ms)).await
    }

    /// [`Queue::set_aside`].
    ///
    /// # Errors
    /// As there.
    pub async fn set_aside(&self, epoch: [u8; 16], seq: u64, cause: String, now_ms: i64) -> Result<bool, BufferError> {
        self.ask(move |queue| queue.set_aside(epoch, seq, cause, now_ms)).await
    }

    /// [`Queue::gaps`].
    ///
    /// # Errors
    /// As there.
    pub async fn gaps(&self, now_ms: i64) -> Result<Vec<(i64, Gap)>, BufferError> {
        self.ask(move |queue| queue.gaps(now_ms)).await
    }

    /// [`Queue::remembered`].
    ///
    /// # Errors
    /// As there.
    pub async fn remembered(&self, sensor: &'static str, now_ms: i64) -> Result<Option<Vec<Remembered>>, BufferError> {
        self.ask(move |queue| queue.remembered(sensor, now_ms)).await
    }

    /// [`Queue::close`], and the end of its thread: when this returns, no file is open any more. What is asked later is refused.
    ///
    /// # Errors
    /// As there.
    pub async fn close(&self, now_ms: i64) -> Result<(), BufferError> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |mut queue, level| {
            let out = queue.close(now_ms);
            level.send_replace(queue.level());
            drop(queue);
            let _ = reply.send(out);
            None
        });
        self.send(job, answer).await
    }
}

#[cfg(test)]
mod tests;
