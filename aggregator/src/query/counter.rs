//! What a counter grew by. Between two samples it grew by their difference, or, after a reset, by the second value; that
//! growth is spread evenly over the time between them, so that buckets narrower than the sampling interval are right and
//! the sum over all buckets is exact. Across a hole longer than [`reach_ms`] nothing is known, and nothing is said.

use super::Buckets;
use crate::store::Point;

/// Longest distance of two samples between which growth is attributed, for buckets of this width.
pub(super) fn reach_ms(width: i64) -> i64 {
    width.saturating_mul(2).max(300_000)
}

/// Growth and covered time (ms) of each bucket; points are ascending, and may begin before the range.
pub(super) fn growth(buckets: &Buckets, from_ms: i64, points: &[Point]) -> Vec<(f64, i64)> {
    let mut out = vec![(0.0, 0); buckets.count];
    let reach = reach_ms(buckets.width);
    let mut known = points.iter().filter(|p| !p.1.is_nan()).copied();
    let Some(mut before) = known.next() else { return out };
    for point in known {
        let (t0, t1) = (before.0, point.0);
        let grown = if point.1 >= before.1 { point.1 - before.1 } else { point.1 };
        before = point;
        if t1 - t0 <= reach {
            spread(buckets, from_ms, (t0, t1), grown, &mut out);
        }
    }
    out
}

/// Adds growth over `(t0, t1]` to the buckets that it touches, each its share.
fn spread(buckets: &Buckets, from_ms: i64, (t0, t1): (i64, i64), grown: f64, out: &mut [(f64, i64)]) {
    let mut at = t0.max(from_ms);
    while at < t1 {
        let Some(bucket) = buckets.of(at) else { return };
        let end = (buckets.start(bucket) + buckets.width).min(t1);
        let whole = at == t0 && end == t1;
        out[bucket].0 += if whole { grown } else { grown * (end - at) as f64 / (t1 - t0) as f64 };
        out[bucket].1 += end - at;
        at = end;
    }
}
