//! Series leave again: out of their rows, then out of the index. Their numbers are never given to others, and whoever still
//! holds such a number is turned away: the generation of ids has passed.

use std::collections::HashSet;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use rusqlite::{OptionalExtension, params};

use super::{Store, StoreError, Tx};
use crate::index::{SeriesId, TenantId};

/// Rows of series that one transaction rewrites, each of up to a thousand: others wait for it, some 100 ms.
const ROWS_STEP: usize = 64;

impl Store {
    /// Forgets the series of `ids`, of which no block holds samples; while this goes on nothing may move from memory to blocks.
    /// What has samples in memory stays. Who is just sending samples of others may be told to come back. Returns how many were
    /// forgotten.
    ///
    /// # Errors
    /// What could not be written; some of them may be forgotten then.
    pub(super) async fn forget_series(&self, mut ids: Vec<SeriesId>) -> Result<usize, StoreError> {
        ids.retain(|id| self.index().get(*id).is_some());
        ids.sort_unstable();
        ids.dedup();
        let mut forgotten = 0;
        while !ids.is_empty() {
            let (gone, rest) = self.write(move |tx| tx.forget_series(ids)).await?;
            forgotten += gone;
            ids = rest;
        }
        Ok(forgotten)
    }
}

impl Tx<'_> {
    /// Forgets the first of `ids` (ascending) as far as one transaction should; returns how many, and the ids that are left.
    fn forget_series(&self, mut ids: Vec<SeriesId>) -> Result<(usize, Vec<SeriesId>), StoreError> {
        // Of transactions that are committed together with this one: the head does not have them yet.
        let mut arriving = HashSet::new();
        let pending = self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner);
        for (_, samples) in &pending.rows {
            samples.each(|id, _, _, _| {
                arriving.insert(id);
            });
        }
        drop(pending);
        let mut leaving = Vec::new();
        let mut at = 0;
        for _ in 0..ROWS_STEP {
            let Some(id) = ids.get(at) else { break };
            // Rows are in the order of their ids: a series is in the last one that begins before it.
            let sql = "SELECT id, tenant, body FROM series WHERE id <= ?1 ORDER BY id DESC LIMIT 1";
            let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
            let found: Option<(SeriesId, TenantId, Vec<u8>)> = self.connection.prepare_cached(sql)?.query_row([id], row).optional()?;
            let Some((first, tenant, body)) = found else {
                at += 1;
                continue;
            };
            let series = self.shared.open_series(first, &body)?;
            let last = series.last().map_or(first, |last| last.0);
            let here = &ids[at..];
            let here = &here[..here.partition_point(|id| *id <= last).max(1)];
            at += here.len();
            let (gone, kept): (Vec<_>, Vec<_>) =
                series.into_iter().partition(|(id, _)| here.binary_search(id).is_ok() && !arriving.contains(id) && !self.is_used(*id));
            if gone.is_empty() {
                continue;
            }
            leaving.extend(gone.iter().map(|(id, _)| *id));
            if kept.is_empty() {
                self.connection.prepare_cached("DELETE FROM series WHERE id = ?1")?.execute([first])?;
            } else {
                let body = self.shared.seal_series(first, &kept)?;
                self.connection.prepare_cached("INSERT OR REPLACE INTO series VALUES (?1, ?2, ?3)")?.execute(params![first, tenant, body])?;
            }
        }
        let forgotten = leaving.len();
        self.leave(leaving)?;
        Ok((forgotten, ids.split_off(at)))
    }

    /// Whether a series must stay. This is the writing thread: what has no samples now gets none before it is gone.
    fn is_used(&self, id: SeriesId) -> bool {
        let mut new = [Vec::new()];
        self.shared.head.read_new(&[id], i64::MIN, i64::MAX, &mut new);
        !new[0].is_empty()
    }

    fn leave(&self, leaving: Vec<SeriesId>) -> Result<(), StoreError> {
        if leaving.is_empty() {
            return Ok(());
        }
        self.put_next_series()?;
        // Before the commit: a transaction that is committed together with this one must not use what caches say either.
        self.shared.generation.fetch_add(1, Ordering::AcqRel);
        self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner).leaving.extend(&leaving);
        self.effects.borrow_mut().leaving.extend(leaving);
        Ok(())
    }
}
