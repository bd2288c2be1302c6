//! How the queue leaves a disk that takes nothing for memory, tries it again, has the file repaired where it must be, and brings
//! back into it what memory holds. A part of [`Queue`].

use keyvigil_common::telemetry::chain;

use super::{MEMORY_BYTES, Past, Queue};
use crate::buffer::BufferError;
use crate::buffer::error::Trouble;
use crate::buffer::file::File;
use crate::buffer::numbers::Span;
use crate::buffer::repair::{Why, repair};
use crate::buffer::sidecar::Sidecar;
use crate::buffer::state::State;
use crate::buffer::{disk, open};

/// The disk is tried again after this time, ms; after a repair that failed, later and later up to the second.
const RETRY_MS: i64 = 10_000;
const RETRY_MS_MAX: i64 = 320_000;
/// Repairs that failed because of what the file holds, before the file is set aside unread.
const REPAIRS_MAX: u32 = 3;

/// Why batches go into memory.
pub(super) struct Away {
    pub(super) why: String,
    /// The file must not be trusted: what can be read of it goes into a new one first.
    suspect: Option<Why>,
    /// What was known of the file when it was left.
    pub(super) left: Option<Left>,
    pub(super) tried_ms: i64,
    wait_ms: i64,
    repairs: u32,
}

/// A file that was left.
pub(super) struct Left {
    /// Its identity: another may lie in its place.
    id: [u8; 16],
    pub(super) state: State,
}

impl Away {
    pub(super) fn new(why: String, suspect: Option<Why>, left: Option<Left>, now_ms: i64) -> Self {
        Self { why, suspect, left, tried_ms: now_ms, wait_ms: RETRY_MS, repairs: 0 }
    }
}

impl Queue {
    /// Leaves the file on disk for memory, which counts on: what the disk did not confirm may lie there nonetheless, and is known again
    /// then. Else the next start gives these numbers to nobody, as this one has no orderly end; where that could not be noted
    /// beside the file, memory counts by itself.
    pub(super) fn leave(&mut self, e: &BufferError, suspect: bool, now_ms: i64) -> Result<(), BufferError> {
        let mut memory = File::in_memory(&self.master, MEMORY_BYTES, now_ms)?;
        if !self.noted.is_empty() {
            let numbers = &self.file.state.numbers;
            memory.state.numbers.begin(Span { first_id: 1, epoch: numbers.newest().epoch, first_seq: numbers.last_seq() + 1 });
            memory.state.epochs_saved = false;
        }
        memory.offered.clone_from(&self.file.offered);
        memory.state.confirmed.clone_from(&self.file.state.confirmed);
        let left = std::mem::replace(&mut self.file, memory);
        let why = chain(e);
        tracing::error!(buffer = %self.place.path.display(), error = why, "cannot store on disk; batches are kept in memory until it can be");
        let suspect = suspect.then(|| Why::of(e));
        self.away = Some(Away::new(why, suspect, Some(Left { id: left.id, state: left.state }), now_ms));
        Ok(())
    }

    pub(super) fn still_away(&mut self, e: &BufferError) {
        if let Some(away) = &mut self.away {
            away.why = chain(e);
            tracing::error!(buffer = %self.place.path.display(), error = away.why, "the disk takes nothing; batches are kept in memory until it does");
        }
    }

    pub(super) fn try_disk(&mut self, now_ms: i64) {
        let Some(away) = &mut self.away else { return };
        // A clock that was set back must not keep it away.
        if (away.tried_ms..away.tried_ms.saturating_add(away.wait_ms)).contains(&now_ms) {
            return;
        }
        away.tried_ms = now_ms;
        match self.come_back(now_ms) {
            Ok(()) => tracing::info!("the disk takes batches again"),
            Err(e) => self.still_away(&e),
        }
    }

    /// Opens the file on disk, repairs it if it must be, and moves into it what memory holds.
    pub(super) fn come_back(&mut self, now_ms: i64) -> Result<(), BufferError> {
        let Some(mut away) = self.away.take() else { return Ok(()) };
        let back = self.reopen(&mut away, now_ms);
        match back {
            Ok(mut file) => {
                file.offered = std::mem::take(&mut self.file.offered);
                // What was told meanwhile is newer than what the file says.
                for (epoch, cursor) in std::mem::take(&mut self.file.state.confirmed) {
                    file.state.confirm(epoch, cursor);
                }
                self.file = file;
                self.looked_ms = None;
                Ok(())
            }
            Err(e) => {
                if e.trouble() == Trouble::Damaged {
                    // It showed only when more than its head was read.
                    away.suspect.get_or_insert_with(|| Why::of(&e));
                }
                self.away = Some(away);
                Err(e)
            }
        }
    }

    fn reopen(&mut self, away: &mut Away, now_ms: i64) -> Result<File, BufferError> {
        let why = if let Some(why) = &away.suspect {
            why.clone()
        } else {
            let cleaned = disk::clean_up(&self.place.path);
            cleaned.map_err(|e| BufferError::Io(format!("cannot work beside {}", self.place.path.display()), e))?;
            let killed = Sidecar::read(&self.place.path).is_some_and(|sidecar| !sidecar.ended);
            match File::on_disk(&self.place, &self.place.path, &self.master, self.bounds.bytes, now_ms) {
                Err(e) if e.trouble() == Trouble::Damaged => Why::of(&e),
                // What cannot be read may be read no more.
                Err(e) if e.trouble() == Trouble::Suspect && self.place.path.exists() => Why::of(&e),
                Err(e) => return Err(e),
                Ok(mut file) => {
                    match away.left.as_ref().filter(|left| left.id == file.id) {
                        Some(left) => file.resume(&left.state, now_ms)?,
                        // Who was killed may have delivered from memory what the file does not hold: its numbers are not given again.
                        None if killed => file.state.count_anew(),
                        None => {}
                    }
                    self.noted = self.note_of(&file);
                    return self.bring(file, away, now_ms);
                }
            }
        };
        away.suspect = Some(why.clone());
        let salvage = away.repairs < REPAIRS_MAX;
        let known = away.left.as_ref().map(|left| &left.state);
        match repair(&self.place, &self.master, self.bounds.bytes, &why, known, salvage, now_ms) {
            Ok(file) => {
                (away.suspect, away.left) = (None, None);
                self.noted = self.note_of(&file);
                self.bring(file, away, now_ms)
            }
            Err(e) => {
                // No room, or a disk that is away, says nothing of the file: it is read when there is a place for what it holds.
                away.repairs += u32::from(e.trouble() == Trouble::Damaged);
                away.wait_ms = (away.wait_ms * 2).min(RETRY_MS_MAX);
                Err(e)
            }
        }
    }

    /// Moves what memory holds into `file`.
    fn bring(&mut self, mut file: File, away: &mut Away, now_ms: i64) -> Result<File, BufferError> {
        if matches!(self.past, Past::Owed) {
            self.past = Past::Kept(file.all_remembered()?);
        }
        // What fails now may be on disk nonetheless; then it goes from there.
        away.left = Some(Left { id: file.id, state: file.state.clone() });
        self.fit(&mut file, now_ms)?;
        file.take(&self.file, now_ms)?;
        Ok(file)
    }
}

impl File {
    /// Goes on where this file was left: what a transaction that failed may have left in it goes, and acks that came since count.
    fn resume(&mut self, left: &State, now_ms: i64) -> Result<(), BufferError> {
        if self.state.numbers.next_id < left.numbers.next_id {
            return Err(BufferError::Damaged("it holds less than it did".into()));
        }
        if self.state.numbers.next_id > left.numbers.next_id {
            open::cut(&mut self.connection, left.numbers.next_id)?;
            self.reload(now_ms)?;
        }
        (self.state.numbers, self.state.epochs_saved) = (left.numbers.clone(), false);
        self.write(now_ms, |work| {
            for ids in left.settled.as_slice() {
                work.state.settle(work.tx, *ids, now_ms)?;
            }
            work.save()
        })
    }
}
