//! How often something was counted: whole numbers, by series, with when it was counted first and last. For counters that are first
//! seen at their first increment: what the first sample has is growth too, and growth belongs to the sample that shows it, so that
//! three uses are never two and a half in one bucket. `increase` of the query API spreads instead, and is silent across holes.

use std::collections::BTreeMap;
use std::sync::Arc;

use keyvigil_common::limits::{QUERY_POINTS_MAX, QUERY_SAMPLES_MAX};
use keyvigil_common::sample::Series;

use super::{Buckets, QueryError, TIME_MAX};
use crate::index::{Selector, SeriesId, TenantId};
use crate::store::{Cell, Cells, Facet, Fold, Piece, Point, Store, StoreError, Wanted};

/// How far before the range a counter is looked for, ms: one that was there goes on, one that was not begins at 0.
const BEFORE_MS: i64 = 2 * 86_400_000;

/// Which counters, when.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub selector: Selector,
    /// First instant, Unix ms.
    pub from_ms: i64,
    /// Last instant.
    pub to_ms: i64,
    /// Width of a bucket, ms.
    pub interval_ms: i64,
    /// Series at most.
    pub series_max: usize,
}

/// What was counted.
#[derive(Debug)]
pub struct Counted {
    /// Those that counted something, in the order of name and tags.
    pub rows: Vec<Row>,
    /// Starts of the buckets, Unix ms.
    pub times: Vec<i64>,
    /// There were more series.
    pub truncated: bool,
    /// Nothing that it is made of is gone.
    pub exact: bool,
}

/// One series.
#[derive(Debug, Clone)]
pub struct Row {
    /// Name and tags.
    pub series: Arc<Series>,
    /// How much it grew.
    pub total: f64,
    /// When it did first, Unix ms, as precisely as its samples are kept.
    pub first_ms: i64,
    /// When it did last.
    pub last_ms: i64,
    /// How much in each bucket that has any, by its number.
    pub buckets: BTreeMap<usize, f64>,
}

#[derive(Debug)]
struct Growth {
    before: Option<f64>,
    total: f64,
    first_ms: i64,
    last_ms: i64,
    buckets: BTreeMap<usize, f64>,
}

impl Default for Growth {
    fn default() -> Self {
        Self { before: None, total: 0.0, first_ms: i64::MAX, last_ms: i64::MIN, buckets: BTreeMap::new() }
    }
}

impl Growth {
    fn add(&mut self, buckets: &Buckets, from_ms: i64, (at_ms, value): Point) {
        if value.is_nan() {
            return;
        }
        let grown = match self.before.replace(value) {
            Some(before) if value >= before => value - before,
            Some(_) | None => value,
        };
        self.grow(buckets, from_ms, at_ms, grown);
    }

    fn add_cell(&mut self, buckets: &Buckets, from_ms: i64, cell: &Cell) {
        self.add(buckets, from_ms, cell.first);
        self.grow(buckets, from_ms, cell.last.0, cell.last.1 - cell.first.1 + cell.reset);
        self.before = Some(cell.last.1);
    }

    fn grow(&mut self, buckets: &Buckets, from_ms: i64, at_ms: i64, grown: f64) {
        let Some(bucket) = buckets.of(at_ms).filter(|_| grown > 0.0 && at_ms >= from_ms) else { return };
        self.total += grown;
        (self.first_ms, self.last_ms) = (self.first_ms.min(at_ms), self.last_ms.max(at_ms));
        *self.buckets.entry(bucket).or_default() += grown;
    }
}

struct Counting {
    places: Vec<usize>,
    from_ms: i64,
    buckets: Buckets,
    growths: BTreeMap<usize, Growth>,
}

impl Fold for Counting {
    type Out = BTreeMap<usize, Growth>;

    fn take(&mut self, at: usize, piece: Piece<'_>) -> Result<(), StoreError> {
        let growth = self.growths.entry(self.places[at]).or_default();
        match piece {
            Piece::Points(points) => points.iter().for_each(|point| growth.add(&self.buckets, self.from_ms, *point)),
            Piece::Cells(cells) => cells.iter().for_each(|cell| growth.add_cell(&self.buckets, self.from_ms, cell)),
        }
        Ok(())
    }

    fn finish(self) -> Self::Out {
        self.growths
    }

    fn absorb(into: &mut Self::Out, next: Self::Out) {
        into.extend(next);
    }
}

/// Counts.
///
/// # Errors
/// A range or interval that is impossible or too large, or a store that cannot be read.
pub async fn count(store: &Store, asked: &Asked) -> Result<Counted, QueryError> {
    if asked.from_ms > asked.to_ms {
        return Err(QueryError::Invalid("start_time lies after end_time".into()));
    }
    let buckets = Buckets::within(asked.from_ms, asked.to_ms, Some(asked.interval_ms))?;
    if buckets.count.saturating_mul(asked.series_max) > QUERY_POINTS_MAX.saturating_mul(10) {
        return Err(QueryError::Invalid(format!("{} buckets are too many: use a longer interval or a shorter range", buckets.count)));
    }
    let mut series = store.index().select(asked.tenant, &asked.selector, asked.series_max);
    let truncated = series.len() > asked.series_max;
    series.truncate(asked.series_max);
    let ids: Vec<SeriesId> = series.iter().map(|(id, _)| *id).collect();
    let facets = &[Facet::Last, Facet::First, Facet::Reset];
    let cells = Some(Cells { facets, width: Some(asked.interval_ms), cut: asked.from_ms });
    let from = asked.from_ms.saturating_sub(BEFORE_MS);
    let wanted = Wanted { from, to: asked.to_ms, samples_max: QUERY_SAMPLES_MAX, cells, urgent: false };
    let from_ms = asked.from_ms;
    let make = move |places: &[usize]| Counting { places: places.to_vec(), from_ms, buckets, growths: BTreeMap::new() };
    let visited = tokio::time::timeout(TIME_MAX, store.visit((&ids, ids.len().max(1)), wanted, make)).await;
    let visited = visited.map_err(|_| QueryError::Invalid(format!("not answered within {TIME_MAX:?}: ask for a shorter range")))??;
    let mut growths = visited.out.unwrap_or_default();
    let row = |(at, (_, series)): (usize, &(SeriesId, Arc<Series>))| {
        let Growth { total, first_ms, last_ms, buckets, .. } = growths.remove(&at).filter(|growth| growth.total > 0.0)?;
        Some(Row { series: Arc::clone(series), total, first_ms, last_ms, buckets })
    };
    let rows = series.iter().enumerate().filter_map(row).collect();
    let exact = visited.exact && visited.unanswered.is_none_or(|(_, to)| to < asked.from_ms);
    Ok(Counted { rows, times: (0..buckets.count).map(|at| buckets.start(at)).collect(), truncated, exact })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(points: &[Point], from_ms: i64) -> (f64, Vec<(usize, f64)>) {
        let buckets = Buckets::within(from_ms, 100_000, Some(10_000)).unwrap();
        let mut growth = Growth::default();
        points.iter().for_each(|point| growth.add(&buckets, from_ms, *point));
        (growth.total, growth.buckets.into_iter().collect())
    }

    #[test]
    fn uses_are_whole_belong_to_where_they_show_and_begin_with_the_first_sample() {
        assert_eq!(counted(&[(15_000, 7.0)], 0), (7.0, vec![(1, 7.0)]), "a counter that is new has counted from 0");
        assert_eq!(counted(&[(5_000, 2.0), (25_000, 5.0)], 10_000), (3.0, vec![(1, 3.0)]), "one that was there goes on, undivided");
        assert_eq!(counted(&[(5_000, 9.0), (25_000, 4.0), (95_000, 6.0)], 0), (15.0, vec![(0, 9.0), (2, 4.0), (9, 2.0)]), "an agent that began anew");
        assert_eq!(counted(&[(5_000, 9.0), (25_000, f64::NAN), (35_000, 9.0)], 10_000), (0.0, vec![]));
    }

    #[test]
    fn cells_count_as_their_samples_do() {
        let buckets = Buckets::within(0, 100_000, Some(10_000)).unwrap();
        let mut growth = Growth::default();
        let zero = Cell { at: 0, count: 0.0, sum: 0.0, min: 0.0, max: 0.0, first: (0, 0.0), last: (0, 0.0), reset: 0.0 };
        growth.add_cell(&buckets, 0, &Cell { first: (1_000, 3.0), last: (9_000, 5.0), ..zero });
        growth.add_cell(&buckets, 0, &Cell { at: 10_000, first: (11_000, 6.0), last: (19_000, 2.0), reset: 6.0, ..zero });
        assert_eq!((growth.total, growth.first_ms, growth.last_ms), (8.0, 1_000, 19_000));
    }
}
