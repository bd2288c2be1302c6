//! What a counter grew by. Between two samples it grew by their difference, or, after a reset, by the second value; that
//! growth is spread evenly over the time between them, so that buckets narrower than the sampling interval are right and
//! the sum over all buckets is exact. Across a hole longer than [`reach_ms`] nothing is known, and nothing is said.

use super::Buckets;
use crate::store::{Cell, Point};

/// Longest distance of two samples between which growth is attributed, for buckets of this width.
pub(super) fn reach_ms(width: i64) -> i64 {
    width.saturating_mul(2).max(300_000)
}

/// Growth and covered time (ms) of each bucket, of one counter whose samples come in the order of time. They may begin
/// before the range.
#[derive(Debug)]
pub(super) struct Growth {
    before: Option<Point>,
    grown: Vec<(f64, i64)>,
}

impl Growth {
    pub(super) fn new(buckets: &Buckets) -> Self {
        Self { before: None, grown: vec![(0.0, 0); buckets.count] }
    }

    /// The next sample.
    pub(super) fn add(&mut self, buckets: &Buckets, from_ms: i64, point: Point) {
        if point.1.is_nan() {
            return;
        }
        let Some(before) = self.before.replace(point) else { return };
        let (t0, t1) = (before.0, point.0);
        if t1 > t0 && t1 - t0 <= reach_ms(buckets.width) {
            self.spread(buckets, from_ms, (t0, t1), if point.1 >= before.1 { point.1 - before.1 } else { point.1 });
        }
    }

    /// The next cell of a roll-up: no two of its samples are further apart than growth is attributed over.
    pub(super) fn add_cell(&mut self, buckets: &Buckets, from_ms: i64, cell: &Cell) {
        self.add(buckets, from_ms, cell.first);
        if cell.at >= from_ms
            && let Some(at) = buckets.of(cell.at)
        {
            self.grown[at].0 += cell.last.1 - cell.first.1 + cell.reset;
            self.grown[at].1 += cell.last.0 - cell.first.0;
        }
        self.before = Some(cell.last);
    }

    /// Adds growth over `(t0, t1]` to the buckets that it touches, each its share.
    fn spread(&mut self, buckets: &Buckets, from_ms: i64, (t0, t1): (i64, i64), grown: f64) {
        let mut at = t0.max(from_ms);
        while at < t1 {
            let Some(bucket) = buckets.of(at) else { return };
            let end = (buckets.start(bucket) + buckets.width).min(t1);
            let whole = at == t0 && end == t1;
            self.grown[bucket].0 += if whole { grown } else { grown * (end - at) as f64 / (t1 - t0) as f64 };
            self.grown[bucket].1 += end - at;
            at = end;
        }
    }

    /// Of each bucket of which anything is known its growth, or that per second.
    pub(super) fn values(self, per_second: bool) -> impl Iterator<Item = Option<f64>> {
        self.grown.into_iter().map(move |(grown, covered_ms)| (covered_ms > 0).then(|| if per_second { grown * 1_000.0 / covered_ms as f64 } else { grown }))
    }
}
