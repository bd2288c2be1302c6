//! Giving up what is older than a time before retention would: whole days, and the records of that age. Day by day, so
//! that a flush waits for one of them at most.

use serde::{Deserialize, Serialize};

use super::{Progress, Shared, Store, StoreError, sqlite};
use crate::store::partition::{DAY_MS, Partitions};

/// What a cleanup took away, or would.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cleaned {
    /// Days that ended before this, Unix ms.
    pub before: i64,
    /// Nothing was changed.
    pub dry_run: bool,
    /// The days, ascending: `2026-11-22`; those of roll-ups behind their name, by the first day of a file.
    pub days: Vec<String>,
    /// Events, declared losses, settled notifications, history of alerts.
    pub records: u64,
    /// Bytes freed, or of a dry run bytes of the days' files.
    pub bytes: u64,
}

impl Store {
    /// Drops whole days that ended before `before_ms`, and records of that age. `dry_run`: says what would go. What of that
    /// age is not in blocks yet goes too.
    ///
    /// # Errors
    /// A file that could not be removed; [`StoreError::Gone`] after the day at which nobody waited any more.
    pub async fn cleanup(&self, before_ms: i64, dry_run: bool, progress: &Progress) -> Result<Cleaned, StoreError> {
        let mut cleaned = Cleaned { before: before_ms, dry_run, records: self.old_records(before_ms).await?, ..Cleaned::default() };
        if !dry_run {
            self.flush().await?;
        }
        let ended = |set: &Partitions, part: i64| set.first_day(part + 1) * DAY_MS <= before_ms;
        let sets = self.0.shared.sets().into_iter().enumerate();
        let old: Vec<(usize, i64)> =
            sets.flat_map(|(at, set)| set.parts().into_iter().filter(move |part| ended(set, *part)).map(move |part| (at, part))).collect();
        for (done, (at, part)) in (0..).zip(old.iter().copied()) {
            progress.wanted()?;
            let set = self.0.shared.sets()[at];
            let label = set.label(part);
            progress.tell(&label, done, old.len() as u64, "days");
            cleaned.bytes += set.bytes(part);
            cleaned.days.push(label);
            if !dry_run {
                let remove = move |shared: &Shared| {
                    shared.sets()[at].remove(part)?;
                    shared.changed();
                    Ok(())
                };
                self.alone(remove).await?;
                self.0.shared.head.cool();
            }
        }
        if !dry_run {
            progress.wanted()?;
            cleaned.bytes += self.forget_records(before_ms).await?;
        }
        Ok(cleaned)
    }

    async fn old_records(&self, before_ms: i64) -> Result<u64, StoreError> {
        let sql = "SELECT (SELECT count(*) FROM event WHERE at_ms < ?1) + (SELECT count(*) FROM gap WHERE at_ms < ?1)
                        + (SELECT count(*) FROM outbox WHERE state <> 'waiting' AND changed_ms < ?1) + (SELECT count(*) FROM alert_history WHERE at_ms < ?1)";
        self.read(move |connection, _| Ok(connection.query_row(sql, [before_ms], |row| row.get::<_, i64>(0))?.cast_unsigned())).await
    }

    /// Returns the bytes that this gave back.
    async fn forget_records(&self, before_ms: i64) -> Result<u64, StoreError> {
        let before = self.write(|tx| sqlite::pages(tx.connection)).await?;
        self.write(move |tx| tx.forget_events(before_ms)).await?;
        self.give_back().await?;
        let after = self.write(|tx| sqlite::pages(tx.connection)).await?;
        Ok(before.saturating_sub(after) * u64::from(super::PAGE_BYTES))
    }
}
