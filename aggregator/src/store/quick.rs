//! Small questions whose answer is in memory: a page that is watched asks for the same few series again and again. They are
//! answered where they are asked, without a thread that may block, which costs more than the answer.

use super::head;
use super::partition::{DAY_MS, day_of};
use super::plan::Wanted;
use super::{Point, Shared};
use crate::index::SeriesId;

/// Series of such a question.
const SERIES_MAX: usize = 16;
/// Files that it may span.
const PARTS_MAX: usize = 3;
/// Points that are copied at most: other requests of the thread wait meanwhile.
const POINTS_MAX: usize = 20_000;

impl Shared {
    /// Samples of each of `ids` (ascending), if all there is to be read is in memory. `None` says nothing of the reason.
    pub(super) fn quick(&self, ids: &[SeriesId], wanted: &Wanted) -> Option<Vec<Vec<Point>>> {
        if ids.len() > SERIES_MAX || day_of(wanted.from) <= self.rolled_through() || self.head.points_of(ids) > POINTS_MAX {
            return None;
        }
        // Memory first: what moves to disk meanwhile is then seen twice, never missed.
        let mut recent = vec![Vec::new(); ids.len()];
        let deeper = self.head.read(ids, wanted.from, wanted.to, &mut recent);
        let mut out: Vec<Vec<Point>> = vec![Vec::new(); ids.len()];
        if !deeper.is_empty() {
            self.quick_blocks(ids, (wanted.from, wanted.to), &mut out)?;
        }
        for (points, newer) in out.iter_mut().zip(recent) {
            points.extend(newer);
            head::settle(points);
        }
        (out.iter().map(Vec::len).sum::<usize>() <= POINTS_MAX.min(wanted.samples_max)).then_some(out)
    }

    fn quick_blocks(&self, ids: &[SeriesId], (from, to): (i64, i64), out: &mut [Vec<Point>]) -> Option<()> {
        let parts: Vec<i64> = self.partitions.parts().into_iter().filter(|day| (day + 1) * DAY_MS > from && day * DAY_MS <= to).collect();
        if parts.len() > PARTS_MAX {
            return None;
        }
        let mut room = POINTS_MAX;
        for part in parts {
            let Some((generation, _, listing)) = self.partitions.pool.listing(part) else { continue };
            for block in listing?.iter().filter(|block| block.times.1 >= from && block.times.0 <= to) {
                let within = |id: &&SeriesId| (block.series.0..=block.series.1).contains(*id);
                if !ids.iter().any(|id| within(&id)) {
                    continue;
                }
                let key = (generation, block.id);
                let head = self.cache.known_head(key)?;
                for (series, out) in ids.iter().zip(&mut *out).filter(|(id, _)| within(id) && head.head.has(**id)) {
                    let (times, values) = (self.cache.times(key)?, self.cache.values(key, *series)?);
                    let range = times.partition_point(|t| *t < from)..times.partition_point(|t| *t <= to);
                    room = room.checked_sub(range.len())?;
                    out.extend(times[range.clone()].iter().copied().zip(values[range].iter().copied()));
                }
            }
        }
        Some(())
    }
}
