//! What is done to stored samples in the background: level 0 into blocks, small blocks into larger ones, days into roll-ups.
//! One at a time, and a day at a time, so that none waits long for another.

use std::sync::PoisonError;

use super::partition::DAY_MS;
use super::{Progress, Shared, Store, StoreError, compact};

/// Free pages that the state database keeps for the next batches: 64 MB.
const SPARE_PAGES: i64 = 16_384;
/// Pages given back in one transaction, so that no batch waits long for it.
const SHRINK_PAGES: i64 = 1_024;

/// Which days and windows a merge takes up.
#[derive(Debug, Clone, Copy)]
struct Due {
    /// Windows that ended before this, Unix ms.
    windows_ms: i64,
    /// Days that ended before this.
    days_ms: i64,
    /// Days that ended before this are rolled up.
    rolled_ms: i64,
    /// A merged day is merged again once late data are one part in so many.
    late_share: i64,
}

impl Store {
    /// Turns level 0 into blocks. On a blocking thread; a second call waits for the first.
    ///
    /// # Errors
    /// What could not be written; level 0 then stays as it was.
    pub async fn flush(&self) -> Result<compact::Flushed, StoreError> {
        let write = |shared: &Shared| {
            let flushed = shared.write_blocks()?;
            // The samples are in blocks, and marked so: whether their rows can be deleted now or with the next flush is only
            // space. Here, because whoever asked for it may be gone by now.
            flushed.iter().for_each(|_| shared.head.thaw());
            Ok(flushed)
        };
        let Some(flushed) = self.alone(write).await? else {
            // A crash may have left rows whose samples are in blocks. They go too: once their day is dropped, and its mark with
            // it, they would be taken for samples that are nowhere yet.
            if let Some(through) = self.0.shared.head.settled().filter(|through| *through > 0) {
                self.write(move |tx| tx.forget_level0(through)).await?;
            }
            return Ok(compact::Flushed::default());
        };
        let through = flushed.through;
        let spare = self.write(move |tx| tx.forget_level0(through)).await?;
        self.shrink(spare, SPARE_PAGES).await?;
        Ok(flushed)
    }

    /// Merges blocks: of windows that ended before `before_ms`, and of whole days that ended before `days_before_ms`, which are
    /// rolled up then. On a blocking thread. Returns how many of both it merged.
    ///
    /// # Errors
    /// What could not be read or written; the old blocks then stay.
    pub async fn merge(&self, before_ms: i64, days_before_ms: i64) -> Result<usize, StoreError> {
        let due = Due { windows_ms: before_ms, days_ms: days_before_ms, rolled_ms: days_before_ms, late_share: compact::LATE_SHARE };
        self.merge_days(due, &Progress::silent()).await
    }

    /// Brings all there is into as few bytes as it takes, whatever that costs. On a blocking thread.
    ///
    /// # Errors
    /// As [`Store::flush`] and [`Store::merge`]; [`StoreError::Gone`] after the day at which nobody waited any more.
    pub async fn compact(&self, progress: &Progress) -> Result<compact::Flushed, StoreError> {
        let flushed = self.flush().await?;
        // A day that goes on is not rolled up: that would have to be done again.
        let due = Due { windows_ms: i64::MAX / 2, days_ms: i64::MAX / 2, rolled_ms: 0, late_share: i64::MAX };
        self.merge_days(due, progress).await?;
        self.give_back().await?;
        Ok(flushed)
    }

    /// Gives all free pages of the state database back to the file system, some in each transaction.
    pub(super) async fn give_back(&self) -> Result<(), StoreError> {
        self.shrink(i64::MAX - 1, 0).await
    }

    /// Gives free pages back until `kept` are left, of `spare` that there are.
    async fn shrink(&self, mut spare: i64, kept: i64) -> Result<(), StoreError> {
        let mut before = i64::MAX;
        while spare > kept && spare < before {
            before = spare;
            spare = self.write(|tx| tx.shrink(SHRINK_PAGES)).await?;
        }
        Ok(())
    }

    async fn merge_days(&self, due: Due, progress: &Progress) -> Result<usize, StoreError> {
        let mut merged = 0;
        let days = self.0.shared.partitions.parts();
        for (done, day) in (0..).zip(days.iter().copied()) {
            progress.wanted()?;
            progress.tell(&self.0.shared.partitions.label(day), done, days.len() as u64, "days");
            merged += self.alone(move |shared| shared.merge_and_roll_up(day, due)).await?;
        }
        Ok(merged)
    }

    /// Runs `work` on a blocking thread while nothing else changes blocks.
    pub(super) async fn alone<T: Send + 'static>(&self, work: impl FnOnce(&Shared) -> Result<T, StoreError> + Send + 'static) -> Result<T, StoreError> {
        let this = self.clone();
        let work = move || {
            let _one = this.0.compacting.lock().unwrap_or_else(PoisonError::into_inner);
            work(&this.0.shared)
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Closed)?
    }
}

impl Shared {
    fn merge_and_roll_up(&self, day: i64, due: Due) -> Result<usize, StoreError> {
        // Retention may have dropped it meanwhile.
        if !self.partitions.pool.has(day) {
            return Ok(0);
        }
        // What a roll-up is to add to its cells must be told from what it has: merged it would be one.
        if self.is_added_to(day)? {
            self.roll_up(day, due.rolled_ms)?;
            return Ok(0);
        }
        // Late samples first: of them alone is known which series they are of.
        let current = self.roll_up_late(day, due.rolled_ms)?;
        let merged = self.merge(day, due.windows_ms, due.days_ms, due.late_share)?;
        if (day + 1) * DAY_MS <= due.rolled_ms {
            self.mark_merged(day, current)?;
            self.roll_up(day, due.rolled_ms)?;
        }
        Ok(merged)
    }
}
