//! Level 0 into blocks, and small blocks into larger ones. Crash-safe by order: blocks of a day and the mark "level 0 done
//! through row N" are one commit; only then are the rows deleted. A crash between leaves rows that the mark makes ignored.

use std::borrow::Cow;
use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};

use super::block::{self, Block};
use super::head::{Columns, settle};
use super::partition::{day_of, open_block, part, seal_block};
use super::{Point, Shared, StoreError};
use crate::index::SeriesId;

/// Width of the window that merging collects into one block a series, ms.
pub(super) const WINDOW_MS: i64 = 2 * 3_600_000;

/// What one flush wrote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Samples.
    pub samples: usize,
    /// Blocks.
    pub blocks: usize,
    /// Last level-0 row that is in blocks now.
    pub(super) through: i64,
}

/// Samples of one window, each series' own ascending.
type Window<'a> = Vec<(SeriesId, Cow<'a, [Point]>)>;

/// Settles each series' samples and cuts them at the borders of windows; by day and window.
fn windows<'a>(columns: &'a Columns) -> BTreeMap<(i64, i64), Window<'a>> {
    let mut out: BTreeMap<(i64, i64), Window<'a>> = BTreeMap::new();
    let window = |point: &Point| point.0.div_euclid(WINDOW_MS) * WINDOW_MS;
    let mut add = |id: usize, points: Cow<'a, [Point]>| {
        let Some(first) = points.first() else { return };
        let series = SeriesId::try_from(id).unwrap_or(0);
        out.entry((day_of(first.0), window(first))).or_default().push((series, points));
    };
    for (id, points) in columns.iter().enumerate() {
        if points.is_sorted_by(|a, b| a.0 < b.0) {
            points.chunk_by(|a, b| window(a) == window(b)).for_each(|part| add(id, Cow::Borrowed(part)));
        } else {
            let mut settled = points.clone();
            settle(&mut settled);
            settled.chunk_by(|a, b| window(a) == window(b)).for_each(|part| add(id, Cow::Owned(part.to_vec())));
        }
    }
    out
}

impl Shared {
    /// Writes what level 0 holds as blocks; `None` if there is nothing. The rows themselves are the caller's to delete.
    pub(super) fn write_blocks(&self) -> Result<Option<Flushed>, StoreError> {
        let Some((columns, through)) = self.head.freeze() else { return Ok(None) };
        let written = self.write_days(&columns, through);
        if written.is_err() {
            drop(columns);
            self.head.unfreeze();
        }
        written.map(Some)
    }

    fn write_days(&self, columns: &Columns, through: i64) -> Result<Flushed, StoreError> {
        let mut flushed = Flushed { through, ..Flushed::default() };
        let mut days: BTreeMap<i64, Vec<(i64, Window<'_>)>> = BTreeMap::new();
        for ((day, window), series) in windows(columns) {
            days.entry(day).or_default().push((window, series));
        }
        for (day, windows) in days {
            let mut connection = self.partitions.writer(day)?;
            let tx = connection.transaction()?;
            let done: Option<i64> = tx.query_row("SELECT value FROM meta WHERE name = 'level0'", [], |row| row.get(0)).optional()?;
            if done.is_some_and(|done| done >= through) {
                continue;
            }
            for (window, series) in windows {
                let (samples, blocks) = self.insert(&tx, day, window, &series)?;
                flushed.samples += samples;
                flushed.blocks += blocks;
            }
            tx.execute("INSERT OR REPLACE INTO meta VALUES ('level0', ?1)", [through])?;
            tx.commit()?;
        }
        Ok(flushed)
    }

    /// Inserts the samples of one window as blocks. Returns how many samples and blocks.
    fn insert(&self, tx: &Connection, day: i64, window: i64, series: &Window<'_>) -> Result<(usize, usize), StoreError> {
        let (mut samples, mut blocks) = (0, 0);
        let mut next: i64 = tx.query_row("SELECT ifnull(max(id), 0) + 1 FROM block", [], |row| row.get(0))?;
        let mut put = tx.prepare_cached("INSERT INTO block VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
        let mut member = tx.prepare_cached("INSERT INTO member VALUES (?1, ?2)")?;
        for block in block::group(series) {
            let (Some(first), Some(last)) = (block.times.first(), block.times.last()) else { continue };
            let count = block.times.len() * block.columns.len();
            let body = seal_block(&self.ring, day, next, &block)?;
            put.execute(params![next, window, first, last, i64::try_from(count).unwrap_or(i64::MAX), body])?;
            for (series, _) in &block.columns {
                member.execute(params![series, next])?;
            }
            (samples, blocks, next) = (samples + count, blocks + 1, next + 1);
        }
        Ok((samples, blocks))
    }

    /// Rewrites each window that ended before `before_ms` and holds a series in more than one block.
    pub(super) fn merge_windows(&self, before_ms: i64) -> Result<usize, StoreError> {
        let mut merged = 0;
        for day in self.partitions.days()? {
            let mut connection = self.partitions.writer(day)?;
            // A window that was merged and has got nothing since stays as it is, however many blocks its columns need.
            let windows: Vec<i64> = {
                let mut statement = connection.prepare(
                    "SELECT DISTINCT window FROM (SELECT b.window AS window FROM member m JOIN block b ON b.id = m.block
                       WHERE b.window <= ?1 GROUP BY m.series, b.window HAVING count(*) > 1) w
                     WHERE (SELECT max(id) FROM block WHERE window = w.window) IS NOT (SELECT value FROM meta WHERE name = 'merged:' || w.window)",
                )?;
                statement.query_map([before_ms - WINDOW_MS], |row| row.get(0))?.collect::<Result<_, _>>()?
            };
            for window in windows {
                let tx = connection.transaction()?;
                self.merge_window(&tx, day, window)?;
                tx.execute("INSERT OR REPLACE INTO meta SELECT 'merged:' || ?1, max(id) FROM block WHERE window = ?1", [window])?;
                tx.commit()?;
                merged += 1;
            }
        }
        Ok(merged)
    }

    fn merge_window(&self, tx: &Connection, day: i64, window: i64) -> Result<(), StoreError> {
        let old: Vec<(i64, Vec<u8>)> = {
            let mut statement = tx.prepare("SELECT id, body FROM block WHERE window = ?1 ORDER BY id")?;
            statement.query_map([window], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?
        };
        let mut series: BTreeMap<SeriesId, Vec<Point>> = BTreeMap::new();
        for (id, body) in &old {
            let Block { times, columns } = open_block(&self.ring, (day, *id), |offset, length| part(body, offset, length), |_| true)?;
            for (id, values) in columns {
                series.entry(id).or_default().extend(times.iter().copied().zip(values));
            }
        }
        let settled = series.into_iter().map(|(id, mut points)| {
            settle(&mut points);
            (id, Cow::Owned(points))
        });
        // New ids lie above the old ones: no id is ever used for two bodies.
        self.insert(tx, day, window, &settled.collect())?;
        for (id, _) in &old {
            tx.prepare_cached("DELETE FROM member WHERE block = ?1")?.execute([id])?;
            tx.prepare_cached("DELETE FROM block WHERE id = ?1")?.execute([id])?;
        }
        Ok(())
    }
}
