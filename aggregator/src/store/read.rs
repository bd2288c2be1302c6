//! What is read of a stretch of time: samples in memory first, then blocks, or the cells of roll-ups. Holds no more than a slice;
//! who asks for more is told, and asks for less.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use super::partition::{DAY_MS, Windows};
use super::plan::Of;
use super::rollup::{self, Cell, Facet, ROLL_UPS};
use super::{Point, Shared, StoreError, head};
use crate::index::SeriesId;

impl Shared {
    /// The range in parts of a day each, where there are days in files; what lies between them can only be in memory.
    pub(super) fn days(&self, from: i64, to: i64) -> Vec<(i64, i64)> {
        let mut out = Vec::new();
        let mut next = from;
        for day in self.partitions.parts().into_iter().filter(|day| (day + 1) * DAY_MS > from && day * DAY_MS <= to) {
            let (start, end) = ((day * DAY_MS).max(from), ((day + 1) * DAY_MS - 1).min(to));
            out.extend((next < start).then_some((next, start - 1)));
            out.push((start, end));
            next = end + 1;
        }
        out.extend((next <= to).then_some((next, to)));
        out
    }

    /// Samples of each of `ids` (ascending), settled.
    pub(super) fn points_of(&self, of: Of, ids: &[SeriesId], (from, to): (i64, i64), gone: &AtomicBool) -> Result<Vec<Vec<Point>>, StoreError> {
        let mut recent: Vec<Vec<Point>> = vec![Vec::new(); ids.len()];
        // Memory first: what moves to disk meanwhile is then seen twice, never missed. Blocks go before it, so that of two
        // values of one instant the later one stays.
        let (deeper, windows) = match of {
            Of::Late(since) => {
                self.head.read_new(ids, from, to, &mut recent);
                ((0..ids.len()).collect(), Windows { facet: None, made_after: since })
            }
            _ => (self.head.read(ids, from, to, &mut recent), Windows::ALL),
        };
        let mut out: Vec<Vec<Point>> = vec![Vec::new(); ids.len()];
        let sought: Vec<SeriesId> = deeper.iter().map(|at| ids[*at]).collect();
        let mut room = self.slice_points.saturating_sub(recent.iter().map(Vec::len).sum());
        for part in self.partitions.parts().into_iter().filter(|day| !sought.is_empty() && (day + 1) * DAY_MS > from && day * DAY_MS <= to) {
            self.partitions.list(part)?;
            self.partitions.reading(part, |reading| {
                for id in reading.blocks(&sought, (from, to), windows)? {
                    if gone.load(Ordering::Relaxed) {
                        return Err(StoreError::Gone);
                    }
                    let (source, key) = reading.source(&self.ring, id);
                    let head = reading.partitions.cache.head(key, || source.head())?;
                    let mut found = Vec::new();
                    let keep = |series, values| found.push((series, values));
                    let times = source.read_by((&reading.partitions.cache, key), &head, |series| sought.binary_search(&series).is_ok(), keep)?;
                    let Some(times) = times else { continue };
                    let within = times.partition_point(|t| *t < from)..times.partition_point(|t| *t <= to);
                    room = room.checked_sub(within.len() * found.len()).ok_or(StoreError::SliceFull)?;
                    for (series, values) in found {
                        if let Ok(at) = ids.binary_search(&series) {
                            out[at].extend(times[within.clone()].iter().copied().zip(values[within.clone()].iter().copied()));
                        }
                    }
                }
                Ok(())
            })?;
        }
        for (points, newer) in out.iter_mut().zip(recent) {
            points.extend(newer);
            head::settle(points);
        }
        Ok(out)
    }

    /// Cells of each of `ids` (ascending) that begin in the range.
    pub(super) fn cells_of(
        &self,
        (at, facets): (usize, &[Facet]),
        ids: &[SeriesId],
        (from, to): (i64, i64),
        gone: &AtomicBool,
    ) -> Result<BTreeMap<SeriesId, Vec<Cell>>, StoreError> {
        let (set, width) = (&self.rolled[at], ROLL_UPS[at].width);
        let mut out: BTreeMap<SeriesId, Vec<Cell>> = BTreeMap::new();
        let mut room = self.slice_points / 4;
        for part in set.parts().into_iter().filter(|part| set.first_day(part + 1) * DAY_MS > from && set.first_day(*part) * DAY_MS <= to) {
            if gone.load(Ordering::Relaxed) {
                return Err(StoreError::Gone);
            }
            let read = set.reading(part, |reading| rollup::read(reading, &self.ring, (ids, width), (from, to + 1), facets))?;
            for (id, cells) in read.unwrap_or_default() {
                room = room.checked_sub(cells.len()).ok_or(StoreError::SliceFull)?;
                out.entry(id).or_default().extend(cells);
            }
        }
        Ok(out)
    }
}
