//! Making anew what follows from the rest: SQLite's indexes, what the rows of blocks say of them, series that are stored
//! but not in memory. Takes one day's file at a time under the lock of flush and merge, so that they wait for one at most.

use std::path::Path;
use std::sync::Arc;

use keyvigil_common::telemetry::chain;
use roaring::RoaringBitmap;
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use super::partition::{Partitions, RAW, meta_series, put_meta_series};
use super::sealed::{Place, Source};
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
    sqlite::reindex(&sqlite::open(&dir.join("main.db"), super::STATE, PAGE_BYTES)?)
}

impl Store {
    /// Makes all of it anew. On a blocking thread.
    ///
    /// # Errors
    /// The database's; [`StoreError::Gone`] after the day at which nobody waited any more.
    pub async fn reindex(&self, progress: &Progress) -> Result<Reindexed, StoreError> {
        let sets = self.0.shared.sets().into_iter().enumerate();
        let parts: Vec<(usize, i64)> = sets.flat_map(|(at, set)| set.parts().into_iter().map(move |part| (at, part))).collect();
        let total = parts.len() as u64 + 1;
        progress.tell("main.db", 0, total, "files");
        self.write(|tx| sqlite::reindex(tx.connection)).await?;
        let mut out = Reindexed { files: 1, series_added: self.add_series().await?, ..Reindexed::default() };
        for (done, (at, part)) in (1..).zip(parts) {
            progress.wanted()?;
            let label = self.0.shared.sets()[at].label(part);
            progress.tell(&label, done, total, "files");
            // Retention may have dropped it meanwhile.
            let work = move |shared: &Shared| shared.sets()[at].pool.has(part).then(|| shared.reindex_part(shared.sets()[at], part)).transpose();
            match self.alone(work).await {
                Ok(None) => {}
                Ok(Some(of_part)) => {
                    out.files += 1;
                    out.blocks += of_part.blocks;
                    out.mended += of_part.mended;
                    out.damaged += of_part.damaged;
                }
                // One file that is broken does not keep the others from being mended.
                Err(e) => out.failed.push(format!("{label}: {}", chain(&e))),
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
    fn reindex_part(&self, set: &Partitions, part: i64) -> Result<Reindexed, StoreError> {
        let mut connection = set.writer(part)?;
        let tx = connection.transaction()?;
        sqlite::reindex(&tx)?;
        let ids: Vec<i64> = tx.prepare("SELECT id FROM block ORDER BY id")?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        let (mut out, mut series) = (Reindexed::default(), RoaringBitmap::new());
        for id in ids {
            out.blocks += 1;
            match self.wrong(&tx, Place { kind: set.kind.name, part, id }, &mut series) {
                Ok(None) => {}
                Err(_) => out.damaged += 1,
                Ok(Some(Said { window, t_min, t_max, series_min, series_max, samples })) => {
                    let sql = "UPDATE block SET window = ?2, t_min = ?3, t_max = ?4, series_min = ?5, series_max = ?6, samples = ?7 WHERE id = ?1";
                    tx.prepare_cached(sql)?.execute(params![id, window, t_min, t_max, series_min, series_max, samples])?;
                    out.mended += 1;
                }
            }
        }
        // What a damaged block holds is not known: it stays named.
        let named = meta_series(&tx, "series")?;
        if named != series {
            put_meta_series(&tx, "series", &if out.damaged > 0 { named | series } else { series })?;
        }
        tx.commit()?;
        Ok(out)
    }

    /// What the row of a block should say of it, if it says otherwise. Adds its series to `all`.
    fn wrong(&self, tx: &Connection, place: Place, all: &mut RoaringBitmap) -> Result<Option<Said>, StoreError> {
        let source = Source { ring: &self.ring, reading: tx, place };
        let Some(said) = Said::read(tx, place.id)? else { return Ok(None) };
        let opened = source.head()?;
        let ids: Vec<_> = opened.head.series().collect();
        // One series is enough to know the times.
        let first = ids.first().copied();
        let times = source.read(&opened, |series| Some(series) == first, |_, _| ())?;
        all.extend(&ids);
        let right = said.mended(place.kind == RAW.name, &times, ids.iter().copied());
        Ok((!times.is_empty() && right != said).then_some(right))
    }
}
