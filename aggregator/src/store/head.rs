//! The most recent samples in memory: everything of level 0 that is not compacted yet. A query for the last minutes is
//! answered from here. Two generations: `active` grows; `frozen` is being written as blocks and is dropped once they are
//! visible, so a reader that looks here first and on disk second never misses a sample (what it sees twice is the same).

use std::sync::{Arc, PoisonError, RwLock};

use keyvigil_common::wire::Group;
use tokio::sync::Notify;

use super::level0::{Rows, Run};
use crate::index::SeriesId;

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

#[derive(Debug, Default)]
struct Inner {
    active: Columns,
    frozen: Option<Arc<Columns>>,
    /// Last level-0 row whose samples are in `active`.
    through: i64,
    points: usize,
    frozen_points: usize,
    latest: Vec<Point>,
    /// Up to here blocks may hold samples of any series: what is not in memory is not unknown.
    floor_ms: i64,
}

impl Inner {
    fn bytes(&self) -> usize {
        let places = self.active.len() + self.frozen.as_ref().map_or(0, |f| f.len());
        (self.points * 3 / 2 + self.frozen_points * 3 / 2 + self.latest.len()) * size_of::<Point>() + places * size_of::<Vec<Point>>()
    }

    fn add(&mut self, id: SeriesId, start_ms: i64, times: &[i64], values: &[f64]) {
        let (Some(first), at) = (times.first().copied(), id as usize) else { return };
        if at >= self.active.len() {
            self.active.resize_with(at + 1, Vec::new);
        }
        if at >= self.latest.len() {
            self.latest.resize(at + 1, NONE);
        }
        let (points, latest) = (&mut self.active[at], &mut self.latest[at]);
        let known_until = if latest.0 == NONE.0 { self.floor_ms } else { latest.0 };
        if start_ms > 0 && start_ms < first && start_ms > known_until && first - start_ms <= COUNTER_START_MS_MAX {
            points.push((start_ms, 0.0));
            self.points += 1;
        }
        points.extend(times.iter().copied().zip(values.iter().copied()));
        self.points += times.len();
        for point in times.iter().copied().zip(values.iter().copied()) {
            if point.0 >= latest.0 {
                *latest = point;
            }
        }
    }
}

impl Head {
    /// A head that asks to be compacted once it takes `full_bytes`.
    pub(crate) fn new(full_bytes: usize) -> Self {
        Self { full_bytes, ..Self::default() }
    }

    /// Blocks hold samples up to `at_ms`.
    pub(crate) fn begins_after(&self, at_ms: i64) {
        self.inner.write().unwrap_or_else(PoisonError::into_inner).floor_ms = at_ms;
    }

    /// Told when it should be compacted.
    pub(crate) fn full(&self) -> Arc<Notify> {
        Arc::clone(&self.full)
    }

    /// Adds the samples of level-0 row `row`. Called in the order of the rows.
    pub(crate) fn append(&self, row: i64, samples: &Samples) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        inner.through = inner.through.max(row);
        samples.each(|id, start_ms, times, values| inner.add(id, start_ms, times, values));
        if inner.frozen.is_none() && inner.bytes() > self.full_bytes {
            self.full.notify_one();
        }
    }

    /// Samples of `id` in `from..=to`, unsorted, frozen ones first.
    pub(crate) fn read(&self, id: SeriesId, from: i64, to: i64, out: &mut Vec<Point>) {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let columns = inner.frozen.as_deref().into_iter().chain([&inner.active]);
        for points in columns.filter_map(|c| c.get(id as usize)) {
            out.extend(points.iter().filter(|p| (from..=to).contains(&p.0)));
        }
    }

    /// Newest sample of each series since the start of this process.
    pub(crate) fn latest(&self, id: SeriesId) -> Option<Point> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).latest.get(id as usize).copied().filter(|p| p.0 != NONE.0)
    }

    /// Points in the active generation.
    pub(crate) fn points(&self) -> usize {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).points
    }

    /// Memory that samples and the places of series take, bytes. Spare room of growing columns is counted as half of them.
    pub(crate) fn bytes(&self) -> usize {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).bytes()
    }

    /// Freezes what is there; `None` if there is nothing, or the last frozen part is still being written. Returns the
    /// samples and the last row they come from.
    pub(crate) fn freeze(&self) -> Option<(Arc<Columns>, i64)> {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        if inner.frozen.is_some() || inner.points == 0 {
            return None;
        }
        let frozen = Arc::new(std::mem::take(&mut inner.active));
        inner.frozen_points = std::mem::take(&mut inner.points);
        inner.frozen = Some(Arc::clone(&frozen));
        Some((frozen, inner.through))
    }

    /// The frozen part is on disk as blocks.
    pub(crate) fn thaw(&self) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let frozen = inner.frozen.take();
        inner.frozen_points = 0;
        drop(inner);
        // Freed outside the lock: it may be the last hold on millions of samples.
        drop(frozen);
    }

    /// The frozen part could not be written: it becomes active again, before what came since.
    pub(crate) fn unfreeze(&self) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let Some(frozen) = inner.frozen.take() else { return };
        let newer = std::mem::replace(&mut inner.active, Arc::unwrap_or_clone(frozen));
        if newer.len() > inner.active.len() {
            inner.active.resize_with(newer.len(), Vec::new);
        }
        for (points, newer) in inner.active.iter_mut().zip(newer) {
            points.extend(newer);
        }
        inner.points += std::mem::take(&mut inner.frozen_points);
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
            let mut out = Vec::new();
            head.read(7, 0, 100, &mut out);
            out
        };
        assert_eq!(read(&head), [(10, 1.0), (20, 2.0)]);
        head.unfreeze();
        assert_eq!(read(&head), [(10, 1.0), (20, 2.0)]);
        assert_eq!((head.points(), head.latest(7)), (2, Some((20, 2.0))));
        drop(frozen);
        assert_eq!(head.freeze().unwrap().1, 2);
        head.thaw();
        assert_eq!(read(&head), []);
    }
}
