//! How much the disk under the queue has room for, and what goes when that is less than what is held. A part of [`Queue`].

use super::{MEMORY_BYTES, Queue};
use crate::buffer::BufferError;
use crate::buffer::disk::{self, Space};
use crate::buffer::file::File;

/// Free space is looked at again after this time, ms, and whether the reserve can be made.
const LOOK_MS: i64 = 1_000;

impl Queue {
    /// The disk is full: frees what can be freed.
    pub(super) fn make_space(&mut self, now_ms: i64) {
        let reserve = disk::free_reserve(&self.place.path);
        let held = self.file.state.waiting.bytes;
        // Without a reserve a part of what waits must go, or nothing new could come.
        let bound = if reserve { held } else { held / 16 * 15 };
        let evicted = self.file.write(now_ms, |work| {
            work.make_room(bound, i64::MAX / 4, 0)?;
            work.save()
        });
        let freed = evicted.and_then(|()| self.file.empty_log(&self.place.path));
        self.noted = self.note_of(&self.file);
        tracing::warn!(reserve, freed = freed.is_ok(), "the disk is full; the buffer freed what it could");
        self.looked_ms = Some(now_ms);
    }

    /// Gives up what must go so that what memory holds fits into `file`: it is newer, so that of the file goes first, but for a
    /// half that memory may not take.
    pub(super) fn fit(&mut self, file: &mut File, now_ms: i64) -> Result<(), BufferError> {
        let bound = self.disk_bound(file);
        // A bound that was set is kept by the next append; here it is the disk that has no room.
        if bound >= self.bounds.bytes || self.file.state.waiting.bytes == 0 || file.state.waiting.bytes + self.file.state.waiting.bytes <= bound {
            return Ok(());
        }
        // Gaps that were offered before the file was left may be told of now: they must not grow.
        file.offered.clone_from(&self.file.offered);
        let half = (bound / 2).max(bound.saturating_sub(file.state.waiting.bytes));
        let make_room = |file: &mut File, bound, incoming| {
            file.write(now_ms, |work| {
                work.make_room(bound, i64::MAX / 4, incoming)?;
                work.save()
            })
        };
        make_room(&mut self.file, half, 0)?;
        make_room(file, bound, self.file.state.waiting.bytes)?;
        file.empty_log(&self.place.path)?;
        self.noted = self.note_of(file);
        Ok(())
    }

    /// What `file` on disk may hold.
    fn disk_bound(&self, file: &File) -> u64 {
        let space = Space::of(&self.place.path, self.bounds.min_free_bytes);
        match (space, file.taken()) {
            (Some(space), Ok(taken)) => space.bound(taken.with_log(&self.place.path), self.bounds.bytes),
            _ => self.bounds.bytes,
        }
    }

    /// What the file may hold now.
    pub(super) fn bound(&mut self, now_ms: i64) -> u64 {
        if self.away.is_some() {
            return MEMORY_BYTES.min(self.bounds.bytes);
        }
        if self.looked_ms.is_none_or(|at| (now_ms - at).abs() >= LOOK_MS) {
            self.looked_ms = Some(now_ms);
            let space = Space::of(&self.place.path, self.bounds.min_free_bytes);
            disk::make_reserve(&self.place.path, self.bounds.bytes, space);
            self.bound = self.disk_bound(&self.file);
        }
        self.bound
    }
}
