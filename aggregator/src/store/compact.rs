//! Level 0 into blocks, and small blocks into larger ones. Crash-safe by order: blocks of a day and the mark "level 0 done
//! through row N" are one commit; only then are the rows deleted. A crash between leaves rows that the mark makes ignored.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use super::block::{self, Member, SERIES_PER_BLOCK};
use super::head::{Columns, Head, settle};
use super::partition::{DAY_MS, day_of};
use super::sealed::{Source, seal_block};
use super::{Point, Shared, StoreError, sqlite};
use crate::index::SeriesId;

/// Width of the window that merging collects into one block a series, ms.
pub(super) const WINDOW_MS: i64 = 2 * 3_600_000;
/// Stands for the window of blocks that hold a whole day: apart from all windows, so that no merge of a window takes them.
pub(super) const WHOLE_DAY: i64 = -1;
/// Points that a rewrite holds in memory at once, 16 bytes each, if series are of about one length.
const REWRITE_POINTS: usize = 4 << 20;
/// A merged day is merged again once late data are one part in so many of it.
pub(super) const LATE_SHARE: i64 = 20;

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

/// Settles each series' samples and cuts them at the borders of windows; by day and window.
fn windows<'a>(columns: &'a Columns) -> BTreeMap<(i64, i64), Vec<Member<'a>>> {
    let mut out: BTreeMap<(i64, i64), Vec<Member<'a>>> = BTreeMap::new();
    let window = |point: &Point| point.0.div_euclid(WINDOW_MS) * WINDOW_MS;
    let mut add = |id: usize, points: Cow<'a, [Point]>| {
        let Some(first) = points.first() else { return };
        let series = SeriesId::try_from(id).unwrap_or(0);
        out.entry((day_of(first.0), window(first))).or_default().push(Member { series, kin: 0, points });
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

/// What is being written; what was not, however that came, becomes active again.
struct Frozen<'a> {
    head: &'a Head,
    columns: Option<Arc<Columns>>,
}

impl Frozen<'_> {
    /// All of it is in blocks; the caller thaws.
    fn written(mut self) {
        self.columns = None;
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        if self.columns.take().is_some() {
            self.head.unfreeze();
        }
    }
}

impl Shared {
    /// Writes what level 0 holds as blocks; `None` if there is nothing. The rows themselves are the caller's to delete.
    pub(super) fn write_blocks(&self) -> Result<Option<Flushed>, StoreError> {
        let Some((columns, through)) = self.head.freeze() else { return Ok(None) };
        let frozen = Frozen { head: &self.head, columns: Some(columns) };
        let written = self.write_days(frozen.columns.as_deref().unwrap_or(&Columns::new()), through)?;
        frozen.written();
        Ok(Some(written))
    }

    fn write_days(&self, columns: &Columns, through: i64) -> Result<Flushed, StoreError> {
        let mut flushed = Flushed { through, ..Flushed::default() };
        let mut days: BTreeMap<i64, Vec<(i64, Vec<Member<'_>>)>> = BTreeMap::new();
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
            let made = next_made(&tx)?;
            for (window, mut members) in windows {
                let (samples, blocks) = self.insert(&tx, (day, window, made), &mut members)?;
                flushed.samples += samples;
                flushed.blocks += blocks;
            }
            tx.execute("INSERT OR REPLACE INTO meta VALUES ('level0', ?1)", [through])?;
            tx.commit()?;
            tidy(&connection, 0);
        }
        Ok(flushed)
    }

    /// Inserts samples as blocks of a day and window. Returns how many samples and blocks.
    fn insert(&self, tx: &Connection, (day, window, made): (i64, i64, i64), members: &mut [Member<'_>]) -> Result<(usize, usize), StoreError> {
        self.index.kins(members.iter_mut().map(|member| (member.series, &mut member.kin)));
        let (mut samples, mut blocks) = (0, 0);
        let mut next: i64 = tx.query_row("SELECT ifnull(max(id), 0) + 1 FROM block", [], |row| row.get(0))?;
        let mut put = tx.prepare_cached("INSERT INTO block VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?;
        for block in block::group(members) {
            let (Some(first), Some(last)) = (block.times.first(), block.times.last()) else { continue };
            let ids = || block.columns.iter().map(|column| column.series);
            let count = block.times.len() * block.columns.len();
            let body = seal_block(&self.ring, day, next, &block)?;
            put.execute(params![next, window, made, first, last, ids().min(), ids().max(), i64::try_from(count).unwrap_or(i64::MAX), body])?;
            (samples, blocks, next) = (samples + count, blocks + 1, next + 1);
        }
        Ok((samples, blocks))
    }

    /// Merges what was written in pieces of `day`: its windows that ended before `before_ms`, or all of it if it ended before
    /// `days_before_ms`; a day that was merged, if late data are one part in `late_share`. Returns how many of both.
    pub(super) fn merge(&self, day: i64, before_ms: i64, days_before_ms: i64, late_share: i64) -> Result<usize, StoreError> {
        let mut connection = self.partitions.writer(day)?;
        if (day + 1) * DAY_MS <= days_before_ms {
            return Ok(usize::from(self.merge_day(&mut connection, day, late_share)?));
        }
        let windows: Vec<i64> = {
            // Blocks of a merged day that late data came to are that day's next merge to take up.
            let sql = "SELECT window FROM block WHERE window BETWEEN 0 AND ?1 GROUP BY window HAVING min(made) < max(made)";
            connection.prepare(sql)?.query_map([before_ms - WINDOW_MS], |row| row.get(0))?.collect::<Result<_, _>>()?
        };
        for window in &windows {
            self.rewrite(&mut connection, day, Some(*window))?;
        }
        Ok(windows.len())
    }

    /// Merges a day that is not one piece, unless what came late is too little to write all of it anew.
    fn merge_day(&self, connection: &mut Connection, day: i64, late_share: i64) -> Result<bool, StoreError> {
        let sql = "SELECT ifnull(sum(samples), 0), ifnull(sum(CASE WHEN window = ?1 AND made = (SELECT min(made) FROM block) THEN samples END), 0),
                          ifnull(min(made) < max(made) OR min(window) < max(window), 0) FROM block";
        let (all, merged, pieces): (i64, i64, bool) = connection.query_row(sql, [WHOLE_DAY], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let late = all - merged;
        if !pieces || late.saturating_mul(late_share) < all {
            return Ok(false);
        }
        self.rewrite(connection, day, None)?;
        Ok(true)
    }

    /// Writes the blocks of a window (or of the whole day) anew, some series at a time so that memory is bounded.
    fn rewrite(&self, connection: &mut Connection, day: i64, window: Option<i64>) -> Result<(), StoreError> {
        let tx = connection.transaction()?;
        let old: Vec<(i64, SeriesId, SeriesId)> = {
            let mut statement = tx.prepare("SELECT id, series_min, series_max FROM block WHERE ?1 IS NULL OR window = ?1 ORDER BY id")?;
            statement.query_map([window], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect::<Result<_, _>>()?
        };
        let mut ids: Vec<SeriesId> = Vec::new();
        for (id, _, _) in &old {
            ids.extend(Source { ring: &self.ring, reading: &tx, day, id: *id }.head()?.head.series());
        }
        ids.sort_unstable();
        ids.dedup();
        let place = (day, window.unwrap_or(WHOLE_DAY), next_made(&tx)?);
        let samples: i64 = tx.query_row("SELECT ifnull(sum(samples), 0) FROM block WHERE ?1 IS NULL OR window = ?1", [window], |row| row.get(0))?;
        let each = usize::try_from(samples).unwrap_or(usize::MAX) / ids.len().max(1);
        for slice in ids.chunks((REWRITE_POINTS / each.max(1)).clamp(1, SERIES_PER_BLOCK)) {
            let (first, last) = (slice[0], slice[slice.len() - 1]);
            let mut series: BTreeMap<SeriesId, Vec<Point>> = BTreeMap::new();
            for (id, _, _) in old.iter().filter(|(_, min, max)| *min <= last && *max >= first) {
                let source = Source { ring: &self.ring, reading: &tx, day, id: *id };
                let block = source.read(&source.head()?, |series| (first..=last).contains(&series))?;
                for column in block.columns {
                    series.entry(column.series).or_default().extend(block.times.iter().copied().zip(column.values));
                }
            }
            let settled = series.into_iter().map(|(series, mut points)| {
                settle(&mut points);
                Member { series, kin: 0, points: Cow::Owned(points) }
            });
            // New ids lie above the old ones: no id is ever used for two bodies.
            self.insert(&tx, place, &mut settled.collect::<Vec<_>>())?;
        }
        for (id, _, _) in &old {
            tx.prepare_cached("DELETE FROM block WHERE id = ?1")?.execute([id])?;
        }
        tx.commit()?;
        tidy(connection, i64::from(i32::MAX));
        Ok(())
    }
}

/// Gives space back. What was committed is committed, whether that succeeds or not.
fn tidy(connection: &Connection, pages: i64) {
    let given = if pages > 0 { sqlite::shrink(connection, pages) } else { Ok(()) };
    if let Err(e) = given.and_then(|()| sqlite::empty_log(connection)) {
        tracing::warn!(error = %e, "space of a day's file cannot be given back now");
    }
}

fn next_made(tx: &Connection) -> Result<i64, StoreError> {
    Ok(tx.query_row("SELECT ifnull(max(made), 0) + 1 FROM block", [], |row| row.get(0))?)
}
