//! The queue as its owner sees it: it decides whether batches go to disk or, while the disk takes nothing, into memory, and what
//! is done about a file that is full, damaged or suspect. Synchronous, and told the time: [`super::Buffer`] runs it on a
//! thread, a simulation runs it as it likes.

mod away;
mod space;

use std::collections::HashMap;

use keyvigil_common::seal::MasterKey;
use keyvigil_common::sequence::Range;
use keyvigil_common::telemetry::chain;
use keyvigil_common::wire::{Elsewhere, Gap};

use away::{Away, Left};

use super::error::Trouble;
use super::file::File;
use super::numbers::Span;
use super::{Appended, Bounds, BufferError, Front, Lane, Level, Lost, New, Place, Remember, Remembered, Room, open};

/// Bytes of sealed batches that memory holds while the disk takes nothing.
const MEMORY_BYTES: u64 = 8 << 20;
/// A clock that goes on by more than this between two calls was set, ms, or the host slept: what was sealed before has no age that
/// could be told. Calls come every few seconds.
const LEAP_MS: i64 = 600_000;
/// Trials of one call: make room, repair, memory.
const TRIALS: usize = 4;

/// The queue.
pub struct Queue {
    place: Place,
    master: MasterKey,
    bounds: Bounds,
    pub(super) file: File,
    away: Option<Away>,
    /// Epochs as they were last written beside the file.
    noted: Vec<Span>,
    looked_ms: Option<i64>,
    bound: u64,
    /// When the last call came.
    called_ms: Option<i64>,
    past: Past,
}

/// What sensors remembered before this start.
enum Past {
    /// It lies in the file.
    InFile,
    /// It was asked for while the file was away.
    Owed,
    /// The file is back; but what memory held covers it there.
    Kept(HashMap<String, Vec<Remembered>>),
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Queue({:?})", self.place)
    }
}

impl Queue {
    /// Opens the queue at `place`, or makes it. A file that is damaged is repaired; a disk that takes nothing is stood in for by
    /// memory.
    ///
    /// # Errors
    /// A library that loses data, or a file of a later version.
    pub fn open(place: Place, master: MasterKey, bounds: Bounds, now_ms: i64) -> Result<Self, BufferError> {
        open::check_library()?;
        let file = File::in_memory(&master, MEMORY_BYTES, now_ms)?;
        let away = Some(Away::new(String::new(), None, None, now_ms));
        let mut queue =
            Self { place, master, bounds, file, away, noted: Vec::new(), looked_ms: None, bound: bounds.bytes, called_ms: None, past: Past::InFile };
        match queue.come_back(now_ms) {
            Err(e @ BufferError::Version(_)) => return Err(e),
            Err(e) => queue.still_away(&e),
            Ok(()) => {}
        }
        Ok(queue)
    }

    /// Stores batches, what sensors remember, and losses of things that never got a number, all or nothing; makes room first.
    /// What is appended is taken: by memory, if the disk does not.
    ///
    /// # Errors
    /// None that waiting would cure.
    #[expect(clippy::needless_pass_by_value, reason = "the handle's twin must own what it sends")]
    pub fn append(&mut self, batches: Vec<New>, remember: Vec<Remember>, lost: Vec<Lost>, now_ms: i64) -> Result<Appended, BufferError> {
        self.attempt(now_ms, |file, bound| file.append(&batches, &remember, &lost, bound, now_ms))
    }

    /// What `lane` sends next; `None` if there is nothing. What it was given before counts as answered, or never will be.
    ///
    /// # Errors
    /// As [`Queue::append`].
    pub fn front(&mut self, lane: Lane, room: Room, now_ms: i64) -> Result<Option<Front>, BufferError> {
        self.attempt(now_ms, |file, _| file.front(lane, room, now_ms))
    }

    /// The aggregator has all numbers of `epoch` up to `cursor`, and `beyond`. Returns how many batches are newly acknowledged.
    /// What it had before and has no more is sent again, or declared.
    ///
    /// # Errors
    /// As [`Queue::append`].
    #[expect(clippy::needless_pass_by_value, reason = "the handle's twin must own what it sends")]
    pub fn acked(&mut self, epoch: [u8; 16], cursor: u64, beyond: Vec<Range>, now_ms: i64) -> Result<u64, BufferError> {
        if let Some(Left { state: left, .. }) = self.away.as_mut().and_then(|away| away.left.as_mut()) {
            // Numbers of the file that is away: it hears of it when it is back.
            for seqs in Range::new(1, cursor).into_iter().chain(beyond.iter().copied()) {
                left.numbers.ids(epoch, seqs).into_iter().for_each(|ids| left.settled.insert(ids));
            }
        }
        self.attempt(now_ms, |file, _| file.acked(epoch, cursor, &beyond, now_ms))
    }

    /// What the aggregator has of other epochs than `pushed`: each with its cursor. What it has lost of them is sent again, or
    /// declared.
    ///
    /// # Errors
    /// As [`Queue::append`].
    #[expect(clippy::needless_pass_by_value, reason = "the handle's twin must own what it sends")]
    pub fn elsewhere(&mut self, pushed: [u8; 16], others: Vec<Elsewhere>, now_ms: i64) -> Result<(), BufferError> {
        self.attempt(now_ms, |file, _| file.elsewhere(pushed, &others, now_ms))
    }

    /// The aggregator lacks number `expected`, which was not sent: what is held from there is sent again, the rest declared.
    ///
    /// # Errors
    /// As [`Queue::append`].
    pub fn missing(&mut self, epoch: [u8; 16], expected: u64, now_ms: i64) -> Result<(), BufferError> {
        self.attempt(now_ms, |file, _| file.missing(epoch, expected, now_ms))
    }

    /// The aggregator has another batch under number `seq`: from there on a new epoch counts.
    ///
    /// # Errors
    /// As [`Queue::append`].
    pub fn forked(&mut self, epoch: [u8; 16], seq: u64, now_ms: i64) -> Result<(), BufferError> {
        self.attempt(now_ms, |file, _| file.forked(epoch, seq, now_ms))
    }

    /// Gives up one batch that the aggregator will never take; whether it was one that was sent.
    ///
    /// # Errors
    /// As [`Queue::append`].
    #[expect(clippy::needless_pass_by_value, reason = "the handle's twin must own what it sends")]
    pub fn set_aside(&mut self, epoch: [u8; 16], seq: u64, cause: String, now_ms: i64) -> Result<bool, BufferError> {
        self.attempt(now_ms, |file, _| file.set_aside(epoch, seq, &cause, now_ms))
    }

    /// Losses that no batch tells of yet, with their ids. They do not grow before this is asked again.
    ///
    /// # Errors
    /// As [`Queue::append`].
    pub fn gaps(&mut self, now_ms: i64) -> Result<Vec<(i64, Gap)>, BufferError> {
        self.attempt(now_ms, |file, _| file.gaps())
    }

    /// What `sensor` asked to be remembered before this start; `None` while the disk is away that knows it. What is asked to be
    /// remembered meanwhile takes nothing from it.
    ///
    /// # Errors
    /// As [`Queue::append`].
    pub fn remembered(&mut self, sensor: &str, now_ms: i64) -> Result<Option<Vec<Remembered>>, BufferError> {
        let now = self.attempt(now_ms, |file, _| file.remembered(sensor))?;
        Ok(match &mut self.past {
            Past::Kept(past) => Some(past.remove(sensor).unwrap_or_default()),
            past if self.away.is_some() => {
                *past = Past::Owed;
                None
            }
            _ => Some(now),
        })
    }

    /// Stores what acks said, and what memory holds if the disk takes it now; the file is whole without its log then.
    ///
    /// # Errors
    /// As [`Queue::append`].
    pub fn close(&mut self, now_ms: i64) -> Result<(), BufferError> {
        if let Some(away) = &mut self.away {
            // The last chance for what memory holds.
            away.tried_ms = i64::MIN / 2;
        }
        self.attempt(now_ms, |file, _| file.save(now_ms))?;
        if self.away.is_none() {
            self.noted.clear();
            if let Err(e) = self.file.end_log(&self.place.path) {
                tracing::debug!(error = %e, "the buffer's log stays beside it");
            }
        }
        Ok(())
    }

    /// How full it is; what waits in a file that is away is counted as it was.
    #[must_use]
    pub fn level(&self) -> Level {
        let mut level = self.file.level();
        if let Some(away) = &self.away {
            level.degraded = Some(away.why.clone());
            if let Some(Left { state: left, .. }) = &away.left {
                level.batches += left.waiting.rows;
                level.items += left.waiting.items;
                level.bytes += left.waiting.bytes;
            }
        }
        level
    }

    /// Does `work`; where the file fails, does what its trouble calls for and tries again.
    fn attempt<T>(&mut self, now_ms: i64, mut work: impl FnMut(&mut File, (u64, i64)) -> Result<T, BufferError>) -> Result<T, BufferError> {
        self.try_disk(now_ms);
        self.note();
        if self.called_ms.replace(now_ms).is_some_and(|before| now_ms - before > LEAP_MS) {
            self.file.state.ageless = self.file.state.numbers.next_id;
        }
        let mut trials = 0;
        loop {
            let bound = self.bound(now_ms);
            let e = match work(&mut self.file, (bound, self.bounds.age_ms)) {
                Ok(out) => {
                    self.note();
                    return Ok(out);
                }
                Err(e) => e,
            };
            trials += 1;
            if self.away.is_some() || trials == TRIALS {
                return Err(e);
            }
            self.recover(e, trials == 1, now_ms)?;
        }
    }

    pub(super) fn recover(&mut self, e: BufferError, first: bool, now_ms: i64) -> Result<(), BufferError> {
        match e.trouble() {
            Trouble::Full if first => {
                self.make_space(now_ms);
                Ok(())
            }
            Trouble::Full | Trouble::Away => self.leave(&e, false, now_ms),
            Trouble::Suspect | Trouble::Damaged => {
                self.leave(&e, true, now_ms)?;
                if let Err(e) = self.come_back(now_ms) {
                    self.still_away(&e);
                }
                Ok(())
            }
            Trouble::Fatal => Err(e),
        }
    }

    /// Writes beside the file what opens its rows and that its log must be there, when that has changed.
    fn note(&mut self) {
        if self.away.is_none() && self.noted != self.file.state.numbers.spans() {
            self.noted = self.note_of(&self.file);
        }
    }

    /// Epochs of `file` as they are noted beside it now; none where that was not possible: it is tried again with the next call.
    fn note_of(&self, file: &File) -> Vec<Span> {
        match file.note(&self.place.path) {
            Ok(()) => file.state.numbers.spans().to_vec(),
            Err(e) => {
                tracing::debug!(error = chain(&e), "what opens the buffer is not noted beside it yet");
                Vec::new()
            }
        }
    }
}
