//! Makes a day's roll-ups from its samples, or brings them up to date. Where samples are gone that a cell was made of (their
//! retention was shorter), what came since is added to the cell instead.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;
use rusqlite::Connection;

use super::{Cell, Facet, Mark, ROLL_UPS, RollUp, add, members, read, roll};
use crate::index::SeriesId;
use crate::store::compact::{insert, next_block, strip, tidy};
use crate::store::partition::{DAY_MS, Partitions, Reading, Windows, meta_series, put_meta_series};
use crate::store::{Point, Shared, StoreError, head};

/// Points that are held at once, 16 bytes each.
const POINTS_MAX: usize = 2 << 20;
/// Series that are rolled up at once.
const SERIES_AT_ONCE: usize = 512;

/// The samples of a day, as they are to be rolled up.
struct Day<'a> {
    number: i64,
    reading: &'a Reading<'a>,
    birth: i64,
    /// All blocks up to here.
    made: i64,
    series: Vec<SeriesId>,
    /// Series of which samples were given up before the rest of the day.
    pruned: RoaringBitmap,
    /// Points of one series, about.
    each: usize,
}

impl Shared {
    /// Rolls up what is new of `day`; returns whether there was anything.
    pub(in crate::store) fn roll_up(&self, day: i64) -> Result<bool, StoreError> {
        let part = self.partitions.part_of(day);
        let done = self.partitions.reading(part, |reading| {
            let count = |sql: &str| Ok::<i64, StoreError>(reading.connection.query_row(sql, [], |row| row.get(0))?);
            let series = meta_series(reading.connection, "series")?;
            let samples = usize::try_from(count("SELECT ifnull(sum(samples), 0) FROM block")?).unwrap_or(usize::MAX);
            let day = Day {
                number: day,
                reading,
                birth: reading.meta("birth")?.unwrap_or(0),
                made: count("SELECT ifnull(max(made), 0) FROM block")?,
                each: samples / usize::try_from(series.len()).unwrap_or(1).max(1),
                series: series.iter().collect(),
                pruned: meta_series(reading.connection, "pruned")?,
            };
            let mut any = false;
            for (rolled, set) in ROLL_UPS.iter().zip(&self.rolled) {
                any |= self.roll_up_to(&day, *rolled, set)?;
            }
            Ok(any)
        })?;
        Ok(done.unwrap_or(false))
    }

    fn roll_up_to(&self, day: &Day<'_>, rolled: RollUp, set: &Partitions) -> Result<bool, StoreError> {
        let part = set.part_of(day.number);
        let mut connection = set.writer(part)?;
        let before = Mark::read(&connection, day.number)?;
        if before.is_some_and(|mark| (mark.birth, mark.made) == (day.birth, day.made)) || day.made == 0 {
            return Ok(false);
        }
        let same_file = before.is_some_and(|mark| mark.birth == day.birth);
        let added = before.is_some_and(|mark| mark.added || mark.birth != day.birth);
        let since = before.filter(|_| same_file).map_or(i64::MIN, |mark| mark.made);
        let tx = connection.transaction()?;
        let first_new = next_block(&tx)?;
        let mut touched = RoaringBitmap::new();
        let at_once = (POINTS_MAX / day.each.max(1)).clamp(1, SERIES_AT_ONCE);
        for ids in day.series.chunks(at_once) {
            let (kept, whole): (Vec<SeriesId>, Vec<SeriesId>) = ids.iter().partition(|id| before.is_some() && (added || day.pruned.contains(**id)));
            let mut cells = self.cells(day, rolled, &whole, i64::MIN)?;
            for (id, late) in self.cells(day, rolled, &kept, since)? {
                cells.insert(id, late);
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
        Mark { birth: day.birth, made: day.made, added }.write(&tx, day.number)?;
        tx.commit()?;
        tidy(&connection, i64::from(i32::MAX));
        Ok(true)
    }

    /// The cells of `ids` from the blocks made after `since`.
    fn cells(&self, day: &Day<'_>, rolled: RollUp, ids: &[SeriesId], since: i64) -> Result<BTreeMap<SeriesId, Vec<Cell>>, StoreError> {
        let mut points: BTreeMap<SeriesId, Vec<Point>> = BTreeMap::new();
        let range = (day.number * DAY_MS, (day.number + 1) * DAY_MS - 1);
        for id in day.reading.blocks(ids, range, Windows { facet: None, made_after: since })? {
            let (source, _) = day.reading.source(&self.ring, id);
            let mut columns = Vec::new();
            let times = source.read(&source.head()?, |series| ids.binary_search(&series).is_ok(), |series, values| columns.push((series, values)))?;
            for (series, values) in columns {
                points.entry(series).or_default().extend(times.iter().copied().zip(values));
            }
        }
        let cells = points.into_iter().map(|(series, mut points)| {
            head::settle(&mut points);
            (series, roll(&points, rolled.width))
        });
        Ok(cells.filter(|(_, cells)| !cells.is_empty()).collect())
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
