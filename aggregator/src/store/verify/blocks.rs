//! The files of days: every block opens, and what its row says of it is so. One read transaction a block, so that a long
//! look keeps no log from being emptied; a block that a merge took meanwhile lives on in a newer one.

use std::sync::PoisonError;

use keyvigil_common::telemetry::chain;
use rusqlite::{Connection, OptionalExtension};

use super::super::StoreError;
use super::super::block::{Block, Column};
use super::super::compact::{WHOLE_DAY, WINDOW_MS};
use super::super::partition::{Partitions, RAW, day_of, meta_series};
use super::super::sealed::{Place, Source};
use super::{Fault, Look, REINDEX, RESTORE, Verified, reader};
use crate::index::SeriesId;

/// What the row of a block says of it.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::store) struct Said {
    pub(in crate::store) window: i64,
    pub(in crate::store) t_min: i64,
    pub(in crate::store) t_max: i64,
    pub(in crate::store) series_min: SeriesId,
    pub(in crate::store) series_max: SeriesId,
    pub(in crate::store) samples: i64,
}

impl Said {
    /// The row of block `id`; `None` if there is none any more.
    pub(in crate::store) fn read(connection: &Connection, id: i64) -> Result<Option<Self>, StoreError> {
        let sql = "SELECT window, t_min, t_max, series_min, series_max, samples FROM block WHERE id = ?1";
        let mut statement = connection.prepare_cached(sql)?;
        let row = statement.query_row([id], |row| {
            let (window, t_min, t_max, series_min, series_max, samples) = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?);
            Ok(Self { window, t_min, t_max, series_min, series_max, samples })
        });
        Ok(row.optional()?)
    }

    /// What the row should say of samples (or of values of a roll-up) at `times` (not empty) of the series `ids`. `self` is what it says now.
    pub(in crate::store) fn mended(&self, raw: bool, times: &[i64], ids: impl Iterator<Item = SeriesId> + Clone) -> Self {
        let (t_min, t_max) = (times.iter().min().copied().unwrap_or(0), times.iter().max().copied().unwrap_or(0));
        let (series_min, series_max) = (ids.clone().min().unwrap_or(0), ids.clone().max().unwrap_or(0));
        let samples = i64::try_from(times.len() * ids.count()).unwrap_or(i64::MAX);
        let window = match self.window {
            window if !raw => day_of(t_min) * 16 + window.rem_euclid(16),
            WHOLE_DAY => WHOLE_DAY,
            _ => t_min.div_euclid(WINDOW_MS) * WINDOW_MS,
        };
        Self { window, t_min, t_max, series_min, series_max, samples }
    }
}

impl Look<'_> {
    /// One file. What is wrong with it is looked at again while nobody drops or makes files: retention may have taken it
    /// away, half of it or all, between two looks.
    pub(super) fn part(&mut self, partitions: &Partitions, part: i64) -> Result<(), StoreError> {
        let (done, known) = (self.done, self.known.clone());
        let mut found = self.look_at(partitions, part)?;
        if let Some(still) = self.files.still.filter(|_| found.faults > 0) {
            let _still = still.lock().unwrap_or_else(PoisonError::into_inner);
            if !partitions.pool.has(part) {
                return Ok(());
            }
            (self.done, self.known) = (done, known);
            found = self.look_at(partitions, part)?;
        }
        self.found.join(found);
        Ok(())
    }

    fn look_at(&mut self, partitions: &Partitions, part: i64) -> Result<Verified, StoreError> {
        let path = partitions.path(part);
        let file = path.strip_prefix(self.files.dir).unwrap_or(&path).display().to_string();
        self.begin(&file);
        let before = std::mem::take(&mut self.found);
        let looked = self.blocks((partitions, part), &path, &file);
        self.progress.wanted()?;
        if let Err(e) = looked {
            self.fault(&file, "", "", format!("it cannot be read: {}", chain(&e)), RESTORE);
        }
        Ok(std::mem::replace(&mut self.found, before))
    }

    fn blocks(&mut self, (partitions, part): (&Partitions, i64), path: &std::path::Path, file: &str) -> Result<(), StoreError> {
        self.found.files += 1;
        let connection = reader(path, self.progress)?;
        self.integrity(&connection, file)?;
        let ids: Vec<i64> = connection.prepare("SELECT id FROM block ORDER BY id")?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        for id in ids {
            // A block stays as it is while this transaction reads it, however a merge goes on.
            let reading = connection.unchecked_transaction()?;
            if let Some(said) = Said::read(&reading, id)? {
                let place = Place { kind: partitions.kind.name, part, id };
                self.block(partitions, &Source { ring: self.files.ring, reading: &reading, place }, &said, file);
            }
            drop(reading);
            self.looked()?;
        }
        Ok(())
    }

    fn block(&mut self, partitions: &Partitions, source: &Source<'_>, said: &Said, file: &str) {
        self.found.blocks += 1;
        let mut block = Block::default();
        let opened = source.head().and_then(|head| source.read(&head, |_| true, |series, values| block.columns.push(Column { series, kin: 0, values })));
        let (id, raw) = (source.place.id, partitions.kind == RAW);
        match opened {
            Err(e) => {
                let path = self.files.dir.join(file);
                let give_up = format!(
                    "restore the file from a backup; without one, stop the aggregator and give up these samples: sqlite3 {} 'DELETE FROM block WHERE id = {id}'",
                    path.display()
                );
                self.fault(file, "block", id, format!("it does not open: {}", chain(&e)), give_up);
            }
            Ok(times) => {
                block.times = times;
                let values = (block.times.len() * block.columns.len()) as u64;
                *(if raw { &mut self.found.samples } else { &mut self.found.rolled }) += values;
                for (what, advice) in self.odd((partitions, source.place.part), &block, said) {
                    self.fault(file, "block", id, what, advice);
                }
                if let Ok(named) = meta_series(source.reading, "series")
                    && block.columns.iter().any(|column| !named.contains(column.series))
                {
                    self.fault(file, "meta", "series", format!("not all series of block {id} are named: retention would not see them"), REINDEX);
                }
            }
        }
    }

    /// What is wrong with a block that opens.
    fn odd(&mut self, (partitions, part): (&Partitions, i64), block: &Block, said: &Said) -> Vec<(String, &'static str)> {
        let mut odd = Vec::new();
        let (Some(first), Some(last)) = (block.times.first(), block.times.last()) else {
            return vec![("it holds no samples".into(), REINDEX)];
        };
        if !block.times.is_sorted_by(|a, b| a < b) {
            odd.push(("its times do not ascend".into(), RESTORE));
        }
        if [first, last].into_iter().any(|at_ms| partitions.part_of(day_of(*at_ms)) != part) {
            odd.push((format!("its samples, {first} to {last}, are not of this file's days"), RESTORE));
        }
        let ids = block.columns.iter().map(|column| column.series);
        let right = said.mended(partitions.kind == RAW, &block.times, ids.clone());
        let pairs = [
            ("window", said.window, right.window),
            ("t_min", said.t_min, right.t_min),
            ("t_max", said.t_max, right.t_max),
            ("series_min", said.series_min.into(), right.series_min.into()),
            ("series_max", said.series_max.into(), right.series_max.into()),
            ("samples", said.samples, right.samples),
        ];
        let wrong: Vec<String> =
            pairs.iter().filter(|(_, said, right)| said != right).map(|(name, said, right)| format!("{name} is {said} for {right}")).collect();
        if !wrong.is_empty() {
            odd.push((format!("its row says otherwise than it: {}", wrong.join(", ")), REINDEX));
        }
        let mut sorted: Vec<SeriesId> = ids.collect();
        sorted.sort_unstable();
        if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
            odd.push(("it has one series twice".into(), RESTORE));
        }
        sorted.dedup();
        sorted.retain(|id| !self.is_known(*id));
        self.told(&sorted);
        if !sorted.is_empty() {
            let some: Vec<String> = sorted.iter().take(10).map(SeriesId::to_string).collect();
            let what = format!("{} of its series have no row in main.db, so that no query finds them: {}", sorted.len(), some.join(", "));
            odd.push((what, "restore main.db from a backup that is as new as this file"));
        }
        odd
    }
}

impl Verified {
    /// With what was found in another file.
    fn join(&mut self, other: Self) {
        self.files += other.files;
        self.blocks += other.blocks;
        self.samples += other.samples;
        self.rolled += other.rolled;
        let kept = other.first_faults.len() as u64;
        other.first_faults.into_iter().for_each(|fault: Fault| self.add(fault));
        self.faults += other.faults - kept;
    }
}
