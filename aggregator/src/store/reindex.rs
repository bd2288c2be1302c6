//! Making anew what follows from the rest: SQLite's indexes, what the rows of blocks say of them, series that are stored
//! but not in memory. Takes one day's file at a time under the lock of flush and merge, so that they wait for one at most.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use keyvigil_common::telemetry::chain;
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use super::sealed::Source;
use super::verify::{Doubt, Said, each_series};
use super::{PAGE_BYTES, Progress, Shared, Store, StoreError, sqlite};

/// What was made anew.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reindexed {
    /// Databases.
    pub files: u64,
    /// Blocks looked at.
    pub blocks: u64,
    /// Rows of blocks that said something wrong.
    pub mended: u64,
    /// Series that were stored but that no query found.
    pub series_added: u64,
    /// Blocks that do not open; they stay as they are, and `verify` names them.
    pub damaged: u64,
    /// Days whose file could not be made anew, and why.
    pub failed: Vec<String>,
}

/// Makes the indexes of the state database in `dir` anew, before a store opens it: one that is wrong may keep it from opening.
///
/// # Errors
/// The database's.
pub fn reindex_main_at(dir: &Path) -> Result<(), StoreError> {
    sqlite::reindex(&sqlite::open(&dir.join("main.db"), "", PAGE_BYTES)?)
}

impl Store {
    /// Makes all of it anew. On a blocking thread.
    ///
    /// # Errors
    /// The database's; [`StoreError::Gone`] after the day at which nobody waited any more.
    pub async fn reindex(&self, progress: &Progress) -> Result<Reindexed, StoreError> {
        let days = self.0.shared.partitions.days();
        let total = days.len() as u64 + 1;
        progress.tell("main.db", 0, total, "files");
        self.write(|tx| sqlite::reindex(tx.connection)).await?;
        let mut out = Reindexed { files: 1, series_added: self.add_series().await?, ..Reindexed::default() };
        for (done, day) in (1..).zip(days) {
            progress.wanted()?;
            progress.tell(&self.0.shared.partitions.name(day), done, total, "files");
            let this = self.clone();
            let work = move || {
                let _one = this.0.compacting.lock().unwrap_or_else(PoisonError::into_inner);
                // Retention may have dropped it meanwhile.
                if this.0.shared.partitions.days().contains(&day) { this.0.shared.reindex_day(day).map(Some) } else { Ok(None) }
            };
            match tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Closed)? {
                Ok(None) => {}
                Ok(Some(of_day)) => {
                    out.files += 1;
                    out.blocks += of_day.blocks;
                    out.mended += of_day.mended;
                    out.damaged += of_day.damaged;
                }
                // One file that is broken does not keep the others from being mended.
                Err(e) => out.failed.push(format!("{}: {}", self.0.shared.partitions.name(day), chain(&e))),
            }
        }
        Ok(out)
    }

    /// Series that are stored but not in the index.
    async fn add_series(&self) -> Result<u64, StoreError> {
        let shared = Arc::clone(&self.0.shared);
        let find = move |connection: &Connection| {
            let mut doubts = Vec::new();
            each_series(connection, &shared.ring, 0, |_, tenant, all| {
                let all = all.into_iter().map(|(id, series)| Doubt { tenant, id, series });
                doubts.extend(all.filter(|doubt| !doubt.is_known(&shared.index)));
            })?;
            Ok(doubts)
        };
        let mut doubts = self.read(move |connection, _| find(connection)).await?;
        if !doubts.is_empty() {
            // Series become known just after their commit, on the writing thread: once it answers, all that were committed are.
            self.write(|_| Ok(())).await?;
            doubts.retain(|doubt| !doubt.is_known(self.index()));
            doubts.iter().for_each(|doubt| self.index().insert(doubt.tenant, doubt.id, &doubt.series));
            doubts.retain(|doubt| doubt.is_known(self.index()));
        }
        Ok(doubts.len() as u64)
    }
}

impl Shared {
    fn reindex_day(&self, day: i64) -> Result<Reindexed, StoreError> {
        let mut connection = self.partitions.writer(day)?;
        let tx = connection.transaction()?;
        sqlite::reindex(&tx)?;
        let ids: Vec<i64> = tx.prepare("SELECT id FROM block ORDER BY id")?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        let mut out = Reindexed::default();
        for id in ids {
            out.blocks += 1;
            match self.wrong(&tx, day, id) {
                Ok(None) => {}
                Err(_) => out.damaged += 1,
                Ok(Some(Said { window, t_min, t_max, series_min, series_max, samples })) => {
                    let sql = "UPDATE block SET window = ?2, t_min = ?3, t_max = ?4, series_min = ?5, series_max = ?6, samples = ?7 WHERE id = ?1";
                    tx.prepare_cached(sql)?.execute(params![id, window, t_min, t_max, series_min, series_max, samples])?;
                    out.mended += 1;
                }
            }
        }
        tx.commit()?;
        Ok(out)
    }

    /// What the row of a block should say of it, if it says otherwise.
    fn wrong(&self, tx: &Connection, day: i64, id: i64) -> Result<Option<Said>, StoreError> {
        let source = Source { ring: &self.ring, reading: tx, day, id };
        let Some(said) = Said::read(tx, id)? else { return Ok(None) };
        let opened = source.head()?;
        let mut ids: Vec<_> = opened.head.series().collect();
        // One series is enough to know the times.
        let first = ids.first().copied();
        let block = source.read(&opened, |series| Some(series) == first)?;
        ids.sort_unstable();
        let right = said.mended(&block.times, ids.iter().copied());
        Ok((!block.times.is_empty() && right != said).then_some(right))
    }
}
