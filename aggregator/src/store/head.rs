//! The most recent samples in memory: everything of level 0 that is not compacted yet. A query for the last minutes is
//! answered from here. Two generations: `active` grows; `frozen` is being written as blocks and is dropped once they are
//! visible, so a reader that looks here first and on disk second never misses a sample (what it sees twice is the same).

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::index::SeriesId;

/// One sample.
pub type Point = (i64, f64);

/// Samples of one series, in the order they came.
pub(crate) type Columns = HashMap<SeriesId, Vec<Point>>;

#[derive(Debug, Default)]
pub(crate) struct Head(RwLock<Inner>);

#[derive(Debug, Default)]
struct Inner {
    active: Columns,
    frozen: Option<Arc<Columns>>,
    /// Last level-0 row whose samples are in `active`.
    through: i64,
    points: usize,
    latest: HashMap<SeriesId, Point>,
}

impl Head {
    /// Adds the samples of level-0 row `row`. Called in the order of the rows.
    pub(crate) fn append(&self, row: i64, samples: impl IntoIterator<Item = (SeriesId, Vec<Point>)>) {
        let mut inner = self.0.write().unwrap_or_else(PoisonError::into_inner);
        inner.through = inner.through.max(row);
        for (id, points) in samples {
            inner.points += points.len();
            if let Some(newest) = points.iter().copied().max_by_key(|p| p.0) {
                let latest = inner.latest.entry(id).or_insert(newest);
                if newest.0 >= latest.0 {
                    *latest = newest;
                }
            }
            inner.active.entry(id).or_default().extend(points);
        }
    }

    /// Samples of `id` in `from..=to`, unsorted, frozen ones first.
    pub(crate) fn read(&self, id: SeriesId, from: i64, to: i64, out: &mut Vec<Point>) {
        let inner = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let columns = inner.frozen.as_deref().into_iter().chain([&inner.active]);
        for points in columns.filter_map(|c| c.get(&id)) {
            out.extend(points.iter().filter(|p| (from..=to).contains(&p.0)));
        }
    }

    /// Newest sample of each series since the start of this process.
    pub(crate) fn latest(&self, id: SeriesId) -> Option<Point> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).latest.get(&id).copied()
    }

    /// Points in the active generation.
    pub(crate) fn points(&self) -> usize {
        self.0.read().unwrap_or_else(PoisonError::into_inner).points
    }

    /// Freezes what is there; `None` if there is nothing, or the last frozen part is still being written. Returns the
    /// samples and the last row they come from.
    pub(crate) fn freeze(&self) -> Option<(Arc<Columns>, i64)> {
        let mut inner = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if inner.frozen.is_some() || inner.active.is_empty() {
            return None;
        }
        let frozen = Arc::new(std::mem::take(&mut inner.active));
        inner.points = 0;
        inner.frozen = Some(Arc::clone(&frozen));
        Some((frozen, inner.through))
    }

    /// The frozen part is on disk as blocks.
    pub(crate) fn thaw(&self) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).frozen = None;
    }

    /// The frozen part could not be written: it becomes active again, before what came since.
    pub(crate) fn unfreeze(&self) {
        let mut inner = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let Some(frozen) = inner.frozen.take() else { return };
        let newer = std::mem::take(&mut inner.active);
        inner.active = Arc::unwrap_or_clone(frozen);
        for (id, points) in newer {
            inner.active.entry(id).or_default().extend(points);
        }
        inner.points = inner.active.values().map(Vec::len).sum();
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

    #[test]
    fn the_last_value_of_an_instant_wins() {
        let mut points = vec![(3, 1.0), (1, 1.0), (3, 2.0), (2, 5.0), (1, 9.0)];
        settle(&mut points);
        assert_eq!(points, [(1, 9.0), (2, 5.0), (3, 2.0)]);
    }

    #[test]
    fn samples_stay_readable_while_they_are_written_and_when_that_fails() {
        let head = Head::default();
        head.append(1, [(7, vec![(10, 1.0)])]);
        let (frozen, through) = head.freeze().unwrap();
        assert_eq!((frozen.len(), through), (1, 1));
        head.append(2, [(7, vec![(20, 2.0)])]);
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
