//! The generations of samples in memory, without the lock around them.

use std::sync::Arc;

use super::{COUNTER_START_MS_MAX, Columns, NONE, Point};
use crate::index::SeriesId;

/// Samples that came in one stretch of time.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) columns: Columns,
    pub(super) points: usize,
    pub(super) oldest_ms: Option<i64>,
}

impl Part {
    pub(super) fn bytes(&self) -> usize {
        self.points * 3 / 2 * size_of::<Point>() + self.columns.len() * size_of::<Vec<Point>>()
    }

    pub(super) fn read(&self, id: SeriesId, from: i64, to: i64, out: &mut Vec<Point>) {
        if let Some(points) = self.columns.get(id as usize) {
            out.extend(points.iter().filter(|p| (from..=to).contains(&p.0)));
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) active: Part,
    pub(super) frozen: Option<Arc<Part>>,
    /// What was frozen last: in blocks too, and kept while there is room, so that a question about the last minutes reads
    /// no block.
    pub(super) warm: Option<Arc<Part>>,
    /// Last level-0 row whose samples are in `active`.
    pub(super) through: i64,
    pub(super) latest: Vec<Point>,
    /// Up to here there may be samples of the series that are in blocks only.
    pub(super) sunk: Vec<i64>,
    /// Up to here blocks may hold samples of any series: what is not in memory is not unknown.
    pub(super) floor_ms: i64,
}

impl Inner {
    /// What must be written before it can go.
    pub(super) fn bytes(&self) -> usize {
        self.active.bytes() + self.frozen.as_ref().map_or(0, |f| f.bytes()) + self.latest.len() * size_of::<Point>() + self.sunk.len() * 8
    }

    pub(super) fn warm_bytes(&self) -> usize {
        self.warm.as_ref().map_or(0, |w| w.bytes())
    }

    pub(super) fn add(&mut self, id: SeriesId, start_ms: i64, times: &[i64], values: &[f64]) {
        let (Some(first), at) = (times.first().copied(), id as usize) else { return };
        if at >= self.active.columns.len() {
            self.active.columns.resize_with(at + 1, Vec::new);
        }
        if at >= self.latest.len() {
            self.latest.resize(at + 1, NONE);
        }
        let (points, latest) = (&mut self.active.columns[at], &mut self.latest[at]);
        let known_until = if latest.0 == NONE.0 { self.floor_ms } else { latest.0 };
        let mut oldest = first;
        if start_ms > 0 && start_ms < first && start_ms > known_until && first - start_ms <= COUNTER_START_MS_MAX {
            points.push((start_ms, 0.0));
            self.active.points += 1;
            oldest = start_ms;
        }
        points.extend(times.iter().copied().zip(values.iter().copied()));
        self.active.points += times.len();
        for point in times.iter().copied().zip(values.iter().copied()) {
            oldest = oldest.min(point.0);
            if point.0 >= latest.0 {
                *latest = point;
            }
        }
        self.active.oldest_ms = Some(self.active.oldest_ms.map_or(oldest, |known| known.min(oldest)));
    }

    /// What was frozen last is in blocks only from now on. Returns it: it may be much to free.
    pub(super) fn sink(&mut self) -> Option<Arc<Part>> {
        let warm = self.warm.take()?;
        let floor_ms = self.floor_ms;
        if self.sunk.len() < warm.columns.len() {
            self.sunk.resize(warm.columns.len(), floor_ms);
        }
        for (sunk, points) in self.sunk.iter_mut().zip(&warm.columns) {
            *sunk = points.iter().map(|p| p.0).fold(*sunk, i64::max);
        }
        Some(warm)
    }
}
