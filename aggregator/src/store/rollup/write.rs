//! Makes a day's roll-ups from its samples, or brings them up to date. Where samples are gone that a cell was made of (their
//! retention was shorter), what came since is added to the cell instead.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use keyvigil_common::seal::KeyRing;
use roaring::RoaringBitmap;
use rusqlite::Connection;

use super::{Cell, Facet, Mark, ROLL_UPS, RollUp, add, members, read, roll};
use crate::index::SeriesId;
use crate::store::compact::{insert, next_block, slices, strip, tidy};
use crate::store::partition::{DAY_MS, Partitions, Reading, Windows, meta_series, put_meta_series};
use crate::store::{Point, Shared, StoreError, head};

const HOUR_MS: i64 = 3_600_000;
/// Cells of this width are kept only where they are fewer than the samples.
const FINE_MS: i64 = 300_000;

/// Whether cells are at most half as many as the samples: each takes what a few samples do.
fn is_gain(cells: &[Cell]) -> bool {
    cells.iter().map(|cell| cell.count).sum::<f64>() >= 2.0 * cells.len() as f64
}

/// The samples of a day, as they are to be rolled up.
struct Day<'a> {
    number: i64,
    reading: &'a Reading<'a>,
    birth: i64,
    /// All blocks up to here.
    made: i64,
    /// Series of which samples were given up before the rest of the day.
    pruned: RoaringBitmap,
}

impl<'a> Day<'a> {
    fn read(reading: &'a Reading<'a>, number: i64) -> Result<Self, StoreError> {
        let made = reading.connection.query_row("SELECT ifnull(max(made), 0) FROM block", [], |row| row.get(0))?;
        Ok(Self { number, reading, birth: reading.meta("birth")?.unwrap_or(0), made, pruned: meta_series(reading.connection, "pruned")? })
    }

    /// How many points each series has that is in blocks made after `since`.
    fn points(&self, ring: &KeyRing, since: i64) -> Result<BTreeMap<SeriesId, usize>, StoreError> {
        let mut statement = self.reading.connection.prepare_cached("SELECT id, made FROM block")?;
        let blocks: Vec<(i64, i64)> = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
        let (mut late, mut points) = (RoaringBitmap::new(), BTreeMap::new());
        for (id, _) in blocks.iter().filter(|(_, made)| *made > since) {
            late |= self.reading.series(ring, *id)?;
        }
        for (id, _) in &blocks {
            let (source, key) = self.reading.source(ring, *id);
            let head = self.reading.partitions.cache.head(key, || source.head())?;
            head.head.series().filter(|series| late.contains(*series)).for_each(|series| *points.entry(series).or_default() += head.head.points());
        }
        Ok(points)
    }
}

impl Shared {
    /// Rolls up what is new of `day`, where it is kept at `now_ms`.
    pub(in crate::store) fn roll_up(&self, day: i64, now_ms: i64) -> Result<(), StoreError> {
        self.roll_up_some(day, now_ms, |_| true).map(|_| ())
    }

    /// Brings the roll-ups of `day` up to date that there are; returns which of them are so now.
    pub(in crate::store) fn roll_up_late(&self, day: i64, now_ms: i64) -> Result<[bool; 2], StoreError> {
        self.roll_up_some(day, now_ms, |mark| mark.is_some())
    }

    /// Merging changed what the blocks of `day` are, not what they hold: roll-ups that were up to date are so again.
    pub(in crate::store) fn mark_merged(&self, day: i64, current: [bool; 2]) -> Result<(), StoreError> {
        let now = self.partitions.reading(day, |reading| Day::read(reading, day).map(|day| (day.birth, day.made)))?;
        let Some((birth, made)) = now else { return Ok(()) };
        for (set, _) in self.rolled.iter().zip(current).filter(|(_, current)| *current) {
            let mut connection = set.writer(set.part_of(day))?;
            let tx = connection.transaction()?;
            Mark { birth, made, added: false }.write(&tx, day)?;
            tx.commit()?;
        }
        Ok(())
    }

    /// Whether what came late of `day` is to be added to cells whose samples are gone, all or of some series.
    pub(in crate::store) fn is_added_to(&self, day: i64) -> Result<bool, StoreError> {
        let raw = |reading: &Reading<'_>| {
            let pruned = meta_series(reading.connection, "pruned")?;
            Ok((reading.meta("birth")?.unwrap_or(0), !(pruned & meta_series(reading.connection, "series")?).is_empty()))
        };
        let Some((birth, pruned)) = self.partitions.reading(day, raw)? else { return Ok(false) };
        for set in &self.rolled {
            let mark = set.reading(set.part_of(day), |reading| Mark::read(reading.connection, day))?.flatten();
            if mark.is_some_and(|mark| mark.added || mark.birth != birth) {
                return Ok(true);
            }
        }
        Ok(pruned)
    }

    fn roll_up_some(&self, day: i64, now_ms: i64, which: impl Fn(Option<Mark>) -> bool) -> Result<[bool; 2], StoreError> {
        let kept_ms = *self.rolled_keep_ms.lock().unwrap_or_else(PoisonError::into_inner);
        let done = self.partitions.reading(self.partitions.part_of(day), |reading| {
            let day = Day::read(reading, day)?;
            let mut current = [false; 2];
            for (at, (rolled, set)) in ROLL_UPS.iter().zip(&self.rolled).enumerate() {
                let part = set.part_of(day.number);
                let mark = set.reading(part, |reading| Mark::read(reading.connection, day.number))?.flatten();
                let is_kept = set.first_day(part + 1) * DAY_MS > now_ms.saturating_sub(kept_ms[at]);
                if is_kept && day.made > 0 && which(mark) {
                    self.roll_up_to(&day, *rolled, set, mark)?;
                    current[at] = true;
                }
            }
            Ok(current)
        })?;
        Ok(done.unwrap_or_default())
    }

    fn roll_up_to(&self, day: &Day<'_>, rolled: RollUp, set: &Partitions, before: Option<Mark>) -> Result<(), StoreError> {
        if before.is_some_and(|mark| (mark.birth, mark.made) == (day.birth, day.made)) {
            return Ok(());
        }
        let part = set.part_of(day.number);
        let mut connection = set.writer(part)?;
        let added = before.is_some_and(|mark| mark.added || mark.birth != day.birth);
        let since = before.filter(|mark| mark.birth == day.birth).map_or(i64::MIN, |mark| mark.made);
        let tx = connection.transaction()?;
        let first_new = next_block(&tx)?;
        let (mut touched, mut added_to, mut sparse) = (RoaringBitmap::new(), meta_series(&tx, "added")?, meta_series(&tx, "pruned")?);
        for (ids, pieces) in slices(&day.points(&self.ring, since)?) {
            let (kept, whole): (Vec<SeriesId>, Vec<SeriesId>) = ids.iter().partition(|id| before.is_some() && (added || day.pruned.contains(**id)));
            let mut cells = self.cells(day, rolled, (&whole, pieces), i64::MIN)?;
            if rolled.width == FINE_MS {
                let (gains, gains_not) = cells.into_iter().partition(|(_, cells)| is_gain(cells));
                cells = gains;
                let gains_not: BTreeMap<SeriesId, Vec<Cell>> = gains_not;
                sparse.extend(gains_not.keys());
                touched.extend(gains_not.keys());
            }
            for (id, late) in self.cells(day, rolled, (&kept, pieces), since)? {
                cells.insert(id, late);
                added_to.insert(id);
            }
            self.with_old((&tx, set, part), rolled, day.number, &kept, &mut cells)?;
            touched.extend(cells.keys());
            self.put((&tx, set, part), day.number, cells)?;
        }
        let windows = (Facet::ALL[0].window(day.number), Facet::ALL[0].window(day.number) + 15);
        let old: Vec<i64> = {
            let mut statement = tx.prepare("SELECT id FROM block WHERE window BETWEEN ?1 AND ?2 AND id < ?3")?;
            statement.query_map([windows.0, windows.1, first_new], |row| row.get(0))?.collect::<Result<_, _>>()?
        };
        for id in old {
            strip(&self.ring, &tx, (set.kind, part, id), &touched)?;
        }
        put_meta_series(&tx, "series", &(meta_series(&tx, "series")? | &touched))?;
        put_meta_series(&tx, "added", &added_to)?;
        // Who is in here is asked of the samples, or of the coarser cells.
        put_meta_series(&tx, "pruned", &sparse)?;
        Mark { birth: day.birth, made: day.made, added }.write(&tx, day.number)?;
        tx.commit()?;
        tidy(&connection, i64::from(i32::MAX));
        self.rolled_through.fetch_max(day.number, Ordering::AcqRel);
        self.changed();
        Ok(())
    }

    /// Looks up the last day that is rolled up.
    pub(in crate::store) fn load_marks(&self) -> Result<(), StoreError> {
        for set in &self.rolled {
            for part in set.parts() {
                let last = set.reading(part, |reading| Mark::last(reading.connection))?.flatten();
                self.rolled_through.fetch_max(last.unwrap_or(i64::MIN), Ordering::AcqRel);
            }
        }
        Ok(())
    }

    /// The cells of `ids` from the blocks made after `since`; `pieces`: the day is read in so many.
    fn cells(&self, day: &Day<'_>, rolled: RollUp, (ids, pieces): (&[SeriesId], i64), since: i64) -> Result<BTreeMap<SeriesId, Vec<Cell>>, StoreError> {
        let mut out: BTreeMap<SeriesId, Vec<Cell>> = BTreeMap::new();
        // Cut between cells.
        let edge = |n: i64| day.number * DAY_MS + (DAY_MS * n / pieces).div_euclid(HOUR_MS) * HOUR_MS;
        for (from, to) in (0..pieces).map(|n| (edge(n), edge(n + 1) - 1)).filter(|(from, to)| from < to) {
            let mut points: BTreeMap<SeriesId, Vec<Point>> = BTreeMap::new();
            for id in day.reading.blocks(ids, (from, to), Windows { facet: None, made_after: since })? {
                let (source, _) = day.reading.source(&self.ring, id);
                let mut columns = Vec::new();
                let times = source.read(&source.head()?, |series| ids.binary_search(&series).is_ok(), |series, values| columns.push((series, values)))?;
                let within = times.partition_point(|t| *t < from)..times.partition_point(|t| *t <= to);
                for (series, values) in columns {
                    points.entry(series).or_default().extend(times[within.clone()].iter().copied().zip(values[within.clone()].iter().copied()));
                }
            }
            for (series, mut points) in points {
                head::settle(&mut points);
                out.entry(series).or_default().extend(roll(&points, rolled.width));
            }
        }
        out.retain(|_, cells| !cells.is_empty());
        Ok(out)
    }

    /// Puts the cells that are stored of `ids` under those that came late.
    fn with_old(
        &self,
        (tx, set, part): (&Connection, &Partitions, i64),
        rolled: RollUp,
        day: i64,
        ids: &[SeriesId],
        cells: &mut BTreeMap<SeriesId, Vec<Cell>>,
    ) -> Result<(), StoreError> {
        let late: Vec<SeriesId> = ids.iter().filter(|id| cells.contains_key(id)).copied().collect();
        if late.is_empty() {
            return Ok(());
        }
        let reading = Reading::within(set, part, tx);
        for (id, mut old) in read(&reading, &self.ring, (&late, rolled.width), (day * DAY_MS, (day + 1) * DAY_MS), &Facet::ALL)? {
            if let Some(cells) = cells.get_mut(&id) {
                add(&mut old, std::mem::take(cells));
                *cells = old;
            }
        }
        Ok(())
    }

    fn put(&self, (tx, set, part): (&Connection, &Partitions, i64), day: i64, cells: BTreeMap<SeriesId, Vec<Cell>>) -> Result<(), StoreError> {
        let mut counters = Vec::with_capacity(cells.len());
        self.index.counters(cells.keys().copied(), |is_counter| counters.push(is_counter));
        let cells = cells.into_iter().zip(counters).map(|((id, cells), is_counter)| (id, (cells, is_counter))).collect();
        for facet in Facet::ALL {
            insert(self, tx, (set.kind, part), (facet.window(day), 1), &mut members(&cells, facet))?;
        }
        Ok(())
    }
}
