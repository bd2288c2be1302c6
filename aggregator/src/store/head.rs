//! The most recent samples in memory: everything of level 0 that is not compacted yet, and what was compacted last. A query
//! for the last minutes is answered from here. Three generations: `active` grows; `frozen` is being written as blocks;
//! `warm` is in blocks, and goes when the next one comes or memory is short. A reader that looks here first and on disk
//! second never misses a sample (what it sees twice is the same).

mod generation;

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use keyvigil_common::wire::Group;
use roaring::RoaringBitmap;
use tokio::sync::Notify;

use super::level0::{Rows, Run};
use crate::index::SeriesId;
use generation::{Inner, Part};

/// One sample.
pub type Point = (i64, f64);

/// Samples of each series, in the order they came, at the place of its id.
pub(crate) type Columns = Vec<Vec<Point>>;

/// Counters that began at most this long before their first sample get a zero at their start, ms.
const COUNTER_START_MS_MAX: i64 = 3_600_000;
/// The newest sample of a series that has none.
const NONE: Point = (i64::MIN, 0.0);

/// What one row of level 0 adds.
#[derive(Debug)]
pub(crate) enum Samples {
    /// Of an agent's batch: its groups, and the ids of its dictionary (0: not to be kept).
    Groups(Vec<Group>, Arc<[SeriesId]>),
    /// Of every other protocol.
    Rows(Rows),
}

impl Samples {
    /// Calls `each` with the series, the start of its counter (0: not known), times and values of each column.
    pub(crate) fn each(&self, mut each: impl FnMut(SeriesId, i64, &[i64], &[f64])) {
        match self {
            Self::Groups(groups, ids) => {
                for (group, column) in groups.iter().flat_map(|group| group.columns.iter().map(move |column| (group, column))) {
                    let id = ids.get(column.series as usize).copied().unwrap_or(0);
                    if id != 0 {
                        each(id, column.start_ms, &group.times, &column.values);
                    }
                }
            }
            Self::Rows(rows) => rows.runs().for_each(|(run, times, values)| each(run.series, run.start_ms, times, values)),
        }
    }

    /// Only the samples whose times `keep` says.
    pub(crate) fn only(&self, keep: impl Fn(i64) -> bool) -> Self {
        let mut rows = Rows::default();
        self.each(|series, start_ms, times, values| {
            let kept = times.iter().copied().zip(values.iter().copied()).filter(|p| keep(p.0));
            kept.for_each(|(time, value)| {
                rows.times.push(time);
                rows.values.push(value);
            });
            rows.runs.push(Run { series, start_ms, end: u32::try_from(rows.times.len()).unwrap_or(u32::MAX) });
        });
        Self::Rows(rows)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Head {
    inner: RwLock<Inner>,
    /// Told once there are more bytes than this.
    full: Arc<Notify>,
    full_bytes: usize,
}

impl Head {
    /// A head that asks to be compacted once it takes `full_bytes`.
    pub(crate) fn new(full_bytes: usize) -> Self {
        Self { full_bytes, ..Self::default() }
    }

    fn reading(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn writing(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks hold samples up to `at_ms`.
    pub(crate) fn begins_after(&self, at_ms: i64) {
        self.writing().floor_ms = at_ms;
    }

    /// Told when it should be compacted.
    pub(crate) fn full(&self) -> Arc<Notify> {
        Arc::clone(&self.full)
    }

    /// Adds the samples of level-0 row `row`. Called in the order of the rows.
    pub(crate) fn append(&self, row: i64, samples: &Samples) {
        let mut inner = self.writing();
        inner.through = inner.through.max(row);
        samples.each(|id, start_ms, times, values| inner.add(id, start_ms, times, values));
        let bytes = inner.bytes();
        if inner.frozen.is_none() && bytes > self.full_bytes {
            self.full.notify_one();
        }
        let sunk = if bytes + inner.warm_bytes() > self.full_bytes.saturating_add(self.full_bytes / 2) { inner.sink() } else { None };
        drop(inner);
        drop(sunk);
    }

    /// Samples of each of `ids` in `from..=to`, unsorted, those that came first in front; and the series of which there may
    /// be more in blocks, by their place in `ids`.
    pub(crate) fn read(&self, ids: &[SeriesId], from: i64, to: i64, out: &mut [Vec<Point>]) -> Vec<usize> {
        let inner = self.reading();
        let mut deeper = Vec::new();
        for (at, (id, out)) in ids.iter().zip(out).enumerate() {
            let parts = [inner.warm.as_deref(), inner.frozen.as_deref(), Some(&inner.active)];
            parts.into_iter().flatten().for_each(|part| part.read(*id, from, to, out));
            if from <= inner.sunk.get(*id as usize).copied().unwrap_or(inner.floor_ms) {
                deeper.push(at);
            }
        }
        deeper
    }

    /// How many samples of `ids` are in memory.
    pub(crate) fn points_of(&self, ids: &[SeriesId]) -> usize {
        let inner = self.reading();
        let parts = [inner.warm.as_deref(), inner.frozen.as_deref(), Some(&inner.active)];
        parts.into_iter().flatten().flat_map(|part| ids.iter().filter_map(|id| part.columns.get(*id as usize))).map(Vec::len).sum()
    }

    /// Samples of each of `ids` in `from..=to` that are in no block yet, unsorted.
    pub(crate) fn read_new(&self, ids: &[SeriesId], from: i64, to: i64, out: &mut [Vec<Point>]) {
        let inner = self.reading();
        for (id, out) in ids.iter().zip(out) {
            [inner.frozen.as_deref(), Some(&inner.active)].into_iter().flatten().for_each(|part| part.read(*id, from, to, out));
        }
    }

    /// Makes what is in blocks go from memory.
    pub(crate) fn cool(&self) {
        let sunk = self.writing().sink();
        drop(sunk);
    }

    /// Those of `ids` that have samples in `from..=to` which are in no block yet.
    pub(crate) fn series_in(&self, ids: &RoaringBitmap, from: i64, to: i64) -> RoaringBitmap {
        let inner = self.reading();
        let mut out = RoaringBitmap::new();
        for part in [inner.frozen.as_deref(), Some(&inner.active)].into_iter().flatten().filter(|part| part.oldest_ms.is_some_and(|oldest| oldest <= to)) {
            let points = |id: &u32| part.columns.get(*id as usize).into_iter().flatten();
            out.extend(ids.iter().filter(|id| points(id).any(|p| (from..=to).contains(&p.0))));
        }
        out
    }

    /// The series that have samples which are in no block yet.
    pub(crate) fn series(&self) -> RoaringBitmap {
        let inner = self.reading();
        let columns = [inner.frozen.as_deref(), Some(&inner.active)].into_iter().flatten().flat_map(|part| part.columns.iter().enumerate());
        columns.filter(|(_, points)| !points.is_empty()).map(|(id, _)| id as u32).collect()
    }

    /// Newest sample of each series since the start of this process.
    pub(crate) fn latest(&self, id: SeriesId) -> Option<Point> {
        self.reading().latest.get(id as usize).copied().filter(|p| p.0 != NONE.0)
    }

    /// Points in the active generation.
    pub(crate) fn points(&self) -> usize {
        self.reading().active.points
    }

    /// Memory of samples that are in no block yet and of the places of series, bytes. Spare room of growing columns is
    /// counted as half of them.
    pub(crate) fn bytes(&self) -> usize {
        self.reading().bytes()
    }

    /// Memory of samples that are in blocks too, bytes.
    pub(crate) fn warm_bytes(&self) -> usize {
        self.reading().warm_bytes()
    }

    /// Freezes what is there; `None` if there is nothing, or the last frozen part is still being written. Returns the
    /// samples and the last row they come from.
    pub(crate) fn freeze(&self) -> Option<(Frozen, i64)> {
        let mut inner = self.writing();
        if inner.frozen.is_some() || inner.active.points == 0 {
            return None;
        }
        let frozen = Arc::new(std::mem::take(&mut inner.active));
        inner.frozen = Some(Arc::clone(&frozen));
        Some((Frozen(frozen), inner.through))
    }

    /// The last row of level 0, if all that came up to it is in blocks.
    pub(crate) fn settled(&self) -> Option<i64> {
        let inner = self.writing();
        (inner.frozen.is_none() && inner.active.points == 0).then_some(inner.through)
    }

    /// The frozen part is on disk as blocks.
    pub(crate) fn thaw(&self) {
        let mut inner = self.writing();
        let sunk = inner.sink();
        inner.warm = inner.frozen.take();
        drop(inner);
        // Freed outside the lock: it may be the last hold on millions of samples.
        drop(sunk);
    }

    /// The frozen part could not be written: what `keep` says of its times becomes active again, before what came since.
    pub(crate) fn unfreeze(&self, keep: impl Fn(i64) -> bool) {
        let mut inner = self.writing();
        let Some(frozen) = inner.frozen.take() else { return };
        let newer = std::mem::take(&mut inner.active);
        let mut whole = Part { oldest_ms: frozen.oldest_ms.into_iter().chain(newer.oldest_ms).min(), ..Part::default() };
        whole.columns = match Arc::try_unwrap(frozen) {
            Ok(frozen) => frozen.columns,
            Err(shared) => shared.columns.clone(),
        };
        whole.columns.resize_with(whole.columns.len().max(newer.columns.len()), Vec::new);
        // What is not kept is in blocks, and in them only.
        let deepest = whole.columns.iter().flatten().map(|p| p.0).filter(|at| !keep(*at)).max();
        inner.floor_ms = deepest.map_or(inner.floor_ms, |at| inner.floor_ms.max(at));
        inner.sunk.iter_mut().for_each(|sunk| *sunk = (*sunk).max(deepest.unwrap_or(*sunk)));
        whole.columns.iter_mut().for_each(|points| points.retain(|p| keep(p.0)));
        for (points, newer) in whole.columns.iter_mut().zip(newer.columns) {
            points.extend(newer);
        }
        whole.points = whole.columns.iter().map(Vec::len).sum();
        inner.active = whole;
    }
}

/// Samples that are being written.
#[derive(Debug, Clone)]
pub(crate) struct Frozen(Arc<Part>);

impl std::ops::Deref for Frozen {
    type Target = Columns;

    fn deref(&self) -> &Columns {
        &self.0.columns
    }
}

/// Sorts by time; of samples of one instant the one that came last stays.
pub(crate) fn settle(points: &mut Vec<Point>) {
    // A stable sort keeps the order of arrival within one instant.
    if points.windows(2).any(|w| w[0].0 >= w[1].0) {
        points.sort_by_key(|p| p.0);
        points.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                *earlier = *later;
            }
            same
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(series: SeriesId, time: i64, value: f64) -> Samples {
        Samples::Rows(Rows { runs: vec![Run { series, start_ms: 0, end: 1 }], times: vec![time], values: vec![value] })
    }

    #[test]
    fn the_last_value_of_an_instant_wins() {
        let mut points = vec![(3, 1.0), (1, 1.0), (3, 2.0), (2, 5.0), (1, 9.0)];
        settle(&mut points);
        assert_eq!(points, [(1, 9.0), (2, 5.0), (3, 2.0)]);
    }

    #[test]
    fn samples_stay_readable_while_they_are_written_and_when_that_fails() {
        let head = Head::new(usize::MAX);
        head.append(1, &one(7, 10, 1.0));
        let (frozen, through) = head.freeze().unwrap();
        assert_eq!((frozen[7].len(), through), (1, 1));
        head.append(2, &one(7, 20, 2.0));
        assert!(head.freeze().is_none(), "one frozen part at a time");
        let read = |head: &Head| {
            let mut out = [Vec::new()];
            head.read(&[7], 0, 100, &mut out);
            let [out] = out;
            out
        };
        assert_eq!(read(&head), [(10, 1.0), (20, 2.0)]);
        head.unfreeze(|_| true);
        assert_eq!(read(&head), [(10, 1.0), (20, 2.0)]);
        assert_eq!((head.points(), head.latest(7)), (2, Some((20, 2.0))));
        drop(frozen);
        assert_eq!(head.freeze().unwrap().1, 2);
        head.thaw();
        assert_eq!(read(&head), [(10, 1.0), (20, 2.0)], "it stays until there is something newer");
    }

    #[test]
    fn a_question_about_the_last_minutes_needs_no_block_and_an_older_one_does() {
        let head = Head::new(usize::MAX);
        let deeper = |from: i64| head.read(&[7], from, 100, &mut [Vec::new()]).len();
        head.begins_after(5);
        assert_eq!((deeper(5), deeper(6)), (1, 0));
        for (row, at) in [(1, 10), (2, 20), (3, 30)] {
            head.append(row, &one(7, at, 1.0));
            head.freeze().unwrap();
            head.thaw();
        }
        assert_eq!((deeper(20), deeper(21)), (1, 0), "what was written before the last time is in blocks only");
    }

    #[test]
    fn what_a_failed_write_got_into_blocks_is_not_written_again() {
        let head = Head::new(usize::MAX);
        head.append(1, &one(7, 10, 1.0));
        head.append(2, &one(7, 20, 2.0));
        head.freeze().unwrap();
        head.unfreeze(|at| at != 10);
        let mut out = [Vec::new()];
        assert_eq!(head.read(&[7], 0, 100, &mut out), [0], "the rest is asked of the blocks");
        assert_eq!((&out[0][..], head.points()), (&[(20, 2.0)][..], 1));
    }
}
