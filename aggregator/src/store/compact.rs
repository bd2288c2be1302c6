//! Level 0 into blocks, and small blocks into larger ones. Crash-safe by order: blocks of a day and the mark "level 0 done
//! through row N" are one commit; only then are the rows deleted. A crash between leaves rows that the mark makes ignored.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use keyvigil_common::seal::KeyRing;
use roaring::RoaringBitmap;
use rusqlite::{Connection, params};

use super::block::{self, Block, Member, SERIES_PER_BLOCK};
use super::head::{self, Columns, Head, settle};
use super::partition::{DAY_MS, Kind, RAW, day_of, meta, meta_series, put_meta_series};
use super::sealed::{Place, Source, seal_block};
use super::{Point, Shared, StoreError, sqlite};
use crate::index::SeriesId;

/// Width of the window that merging collects into one block a series, ms.
pub(super) const WINDOW_MS: i64 = 2 * 3_600_000;
/// Stands for the window of blocks that hold a whole day: apart from all windows, so that no merge of a window takes them.
pub(super) const WHOLE_DAY: i64 = -1;
/// Points that a rewrite holds in memory at once, 16 bytes each.
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
    columns: Option<head::Frozen>,
    /// Days that are in blocks.
    done: Vec<i64>,
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
            // A day that was committed is not written a second time.
            self.head.unfreeze(|at_ms| !self.done.contains(&day_of(at_ms)));
        }
    }
}

impl Shared {
    /// Writes what level 0 holds as blocks; `None` if there is nothing. The rows themselves are the caller's to delete.
    pub(super) fn write_blocks(&self) -> Result<Option<Flushed>, StoreError> {
        let Some((columns, through)) = self.head.freeze() else { return Ok(None) };
        let mut frozen = Frozen { head: &self.head, columns: Some(columns.clone()), done: Vec::new() };
        let written = self.write_days(&columns, through, &mut frozen.done)?;
        drop(columns);
        frozen.written();
        Ok(Some(written))
    }

    fn write_days(&self, columns: &Columns, through: i64, days_done: &mut Vec<i64>) -> Result<Flushed, StoreError> {
        let mut flushed = Flushed { through, ..Flushed::default() };
        let mut days: BTreeMap<i64, Vec<(i64, Vec<Member<'_>>)>> = BTreeMap::new();
        for ((day, window), series) in windows(columns) {
            days.entry(day).or_default().push((window, series));
        }
        for (day, windows) in days {
            let mut connection = self.partitions.writer(day)?;
            let tx = connection.transaction()?;
            if meta(&tx, "level0")?.is_some_and(|done| done >= through) {
                continue;
            }
            let made = next_made(&tx)?;
            let mut series = meta_series(&tx, "series")?;
            for (window, mut members) in windows {
                series.extend(members.iter().map(|member| member.series));
                let (samples, blocks) = insert(self, &tx, (RAW, day), (window, made), &mut members)?;
                flushed.samples += samples;
                flushed.blocks += blocks;
            }
            put_meta_series(&tx, "series", &series)?;
            tx.execute("INSERT OR REPLACE INTO meta VALUES ('level0', ?1)", [through])?;
            tx.commit()?;
            days_done.push(day);
            tidy(&connection, 0);
        }
        Ok(flushed)
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
        let old = Old::read(&self.ring, &tx, day, window)?;
        let place = (window.unwrap_or(WHOLE_DAY), next_made(&tx)?);
        for (ids, pieces) in old.slices() {
            for at in 0..pieces {
                // A series too dense for memory goes by parts of the day.
                let edge = |n: i64| day * DAY_MS + DAY_MS * n / pieces;
                let span = edge(at)..edge(at + 1);
                // New ids lie above the old ones: no id is ever used for two bodies.
                insert(self, &tx, (RAW, day), place, &mut old.members(&self.ring, &tx, &ids, &span)?)?;
            }
        }
        keep_next(&tx)?;
        for block in &old.blocks {
            tx.prepare_cached("DELETE FROM block WHERE id = ?1")?.execute([block.id])?;
        }
        tx.commit()?;
        tidy(connection, i64::from(i32::MAX));
        Ok(())
    }
}

/// Blocks that will be written anew.
struct Old {
    day: i64,
    blocks: Vec<OldBlock>,
    /// Points of each series.
    points: BTreeMap<SeriesId, usize>,
}

struct OldBlock {
    id: i64,
    series: (SeriesId, SeriesId),
    times: (i64, i64),
}

impl Old {
    fn read(ring: &KeyRing, tx: &Connection, day: i64, window: Option<i64>) -> Result<Self, StoreError> {
        let mut statement = tx.prepare("SELECT id, series_min, series_max, t_min, t_max FROM block WHERE ?1 IS NULL OR window = ?1 ORDER BY id")?;
        let rows =
            statement.query_map([window], |row| Ok(OldBlock { id: row.get(0)?, series: (row.get(1)?, row.get(2)?), times: (row.get(3)?, row.get(4)?) }))?;
        let mut old = Self { day, blocks: rows.collect::<Result<_, _>>()?, points: BTreeMap::new() };
        for block in &old.blocks {
            let head = old.source(ring, tx, block.id).head()?.head;
            head.series().for_each(|series| *old.points.entry(series).or_default() += head.points());
        }
        Ok(old)
    }

    fn source<'a>(&self, ring: &'a KeyRing, reading: &'a Connection, id: i64) -> Source<'a> {
        Source { ring, reading, place: Place { kind: RAW.name, part: self.day, id } }
    }

    /// Series that fit into memory together, and into how many parts of the day they must be cut.
    fn slices(&self) -> Vec<(Vec<SeriesId>, i64)> {
        slices(&self.points)
    }

    /// The samples of `ids` (ascending) in `span`, settled.
    fn members(&self, ring: &KeyRing, tx: &Connection, ids: &[SeriesId], span: &Range<i64>) -> Result<Vec<Member<'static>>, StoreError> {
        let (first, last) = (ids.first().copied().unwrap_or(0), ids.last().copied().unwrap_or(0));
        let mut series: BTreeMap<SeriesId, Vec<Point>> = BTreeMap::new();
        let ours = |block: &&OldBlock| block.series.0 <= last && block.series.1 >= first && block.times.0 < span.end && block.times.1 >= span.start;
        for block in self.blocks.iter().filter(ours) {
            let source = self.source(ring, tx, block.id);
            let mut columns = Vec::new();
            let times = source.read(&source.head()?, |series| ids.binary_search(&series).is_ok(), |series, values| columns.push((series, values)))?;
            let within = times.partition_point(|t| *t < span.start)..times.partition_point(|t| *t < span.end);
            for (id, values) in columns {
                series.entry(id).or_default().extend(times[within.clone()].iter().copied().zip(values[within.clone()].iter().copied()));
            }
        }
        let settled = series.into_iter().map(|(series, mut points)| {
            settle(&mut points);
            Member { series, kin: 0, points: Cow::Owned(points) }
        });
        Ok(settled.collect())
    }
}

/// Series, by how many points each has, that fit into memory together; and into how many parts one of them must be cut.
pub(super) fn slices(points: &BTreeMap<SeriesId, usize>) -> Vec<(Vec<SeriesId>, i64)> {
    let mut out: Vec<(Vec<SeriesId>, usize)> = Vec::new();
    for (series, points) in points {
        match out.last_mut().filter(|(ids, sum)| ids.len() < SERIES_PER_BLOCK && sum + points <= REWRITE_POINTS) {
            Some((ids, sum)) => {
                ids.push(*series);
                *sum += points;
            }
            None => out.push((vec![*series], *points)),
        }
    }
    out.into_iter().map(|(ids, points)| (ids, i64::try_from(points.div_ceil(REWRITE_POINTS)).unwrap_or(1).max(1))).collect()
}

/// Inserts samples as blocks of a file. Returns how many samples and blocks.
pub(super) fn insert(
    shared: &Shared,
    tx: &Connection,
    (kind, part): (Kind, i64),
    (window, made): (i64, i64),
    members: &mut [Member<'_>],
) -> Result<(usize, usize), StoreError> {
    shared.index.kins(members.iter_mut().map(|member| (member.series, &mut member.kin)));
    let (mut samples, mut blocks) = (0, 0);
    for block in block::group(members) {
        samples += put(&shared.ring, tx, (kind, part), (window, made), &block)?;
        blocks += 1;
    }
    Ok((samples, blocks))
}

/// Inserts one block. Returns its samples.
fn put(ring: &KeyRing, tx: &Connection, (kind, part): (Kind, i64), (window, made): (i64, i64), block: &Block) -> Result<usize, StoreError> {
    let (Some(first), Some(last)) = (block.times.first(), block.times.last()) else { return Ok(0) };
    let id = next_block(tx)?;
    let ids = || block.columns.iter().map(|column| column.series);
    let count = block.times.len() * block.columns.len();
    let body = seal_block(ring, Place { kind: kind.name, part, id }, block)?;
    let row = params![id, window, made, first, last, ids().min(), ids().max(), i64::try_from(count).unwrap_or(i64::MAX), body];
    tx.prepare_cached("INSERT INTO block VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?.execute(row)?;
    Ok(count)
}

/// Takes series out of a block, which is written anew as what it was otherwise. Returns the samples that went.
pub(super) fn strip(ring: &KeyRing, tx: &Connection, (kind, part, id): (Kind, i64, i64), series: &RoaringBitmap) -> Result<usize, StoreError> {
    let source = Source { ring, reading: tx, place: Place { kind: kind.name, part, id } };
    let opened = source.head()?;
    let (all, gone) = (opened.head.series().count(), opened.head.series().filter(|id| series.contains(*id)).count());
    if gone == 0 {
        return Ok(0);
    }
    if gone < all {
        let mut block = Block::default();
        block.times = source.read(&opened, |id| !series.contains(id), |series, values| block.columns.push(block::Column { series, kin: 0, values }))?;
        let place = tx.query_row("SELECT window, made FROM block WHERE id = ?1", [id], |row| Ok((row.get(0)?, row.get(1)?)))?;
        put(ring, tx, (kind, part), place, &block)?;
    }
    keep_next(tx)?;
    tx.prepare_cached("DELETE FROM block WHERE id = ?1")?.execute([id])?;
    Ok(gone * opened.head.points())
}

/// Gives space back. What was committed is committed, whether that succeeds or not.
pub(super) fn tidy(connection: &Connection, pages: i64) {
    let given = if pages > 0 { sqlite::shrink(connection, pages) } else { Ok(()) };
    if let Err(e) = given.and_then(|()| sqlite::empty_log(connection)) {
        tracing::warn!(error = %e, "space of a day's file cannot be given back now");
    }
}

/// The number of the next block: no number is ever used twice in the life of a file.
pub(super) fn next_block(tx: &Connection) -> Result<i64, StoreError> {
    let sql = "SELECT max(ifnull((SELECT max(id) + 1 FROM block), 1), ifnull((SELECT value FROM meta WHERE name = 'next_block'), 1))";
    Ok(tx.prepare_cached(sql)?.query_row([], |row| row.get(0))?)
}

/// Remembers the next numbers, before the block with the highest one may go.
fn keep_next(tx: &Connection) -> Result<(), StoreError> {
    for (name, next) in [("next_block", next_block(tx)?), ("next_made", next_made(tx)?)] {
        tx.prepare_cached("INSERT OR REPLACE INTO meta VALUES (?1, ?2)")?.execute(params![name, next])?;
    }
    Ok(())
}

/// The number of the next flush or merge: none is used twice either, since roll-ups tell by it what they hold.
fn next_made(tx: &Connection) -> Result<i64, StoreError> {
    let sql = "SELECT max(ifnull((SELECT max(made) + 1 FROM block), 1), ifnull((SELECT value FROM meta WHERE name = 'next_made'), 1))";
    Ok(tx.query_row(sql, [], |row| row.get(0))?)
}
