//! Samples into the rows of an answer, as they are read: what is kept of a row is a few numbers for each bucket, but for
//! quantiles, which need the values themselves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::aggregate::{Aggregation, Tally, quantile};
use super::counter::Growth;
use super::{Buckets, POOLED_MAX};
use crate::store::{Fold, Piece, Point, StoreError};

/// What all folds of a question share.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) buckets: Buckets,
    pub(super) aggregation: Aggregation,
    pub(super) from_ms: i64,
    /// The row of each series, by its place.
    pub(super) rows: Vec<usize>,
    /// Some rows are of several series.
    pub(super) grouped: bool,
    /// Values that are kept for quantiles.
    pub(super) pooled: AtomicUsize,
}

/// What is known of a row.
#[derive(Debug)]
enum Row {
    Tallies(Vec<Tally>),
    Pools(Vec<Vec<f64>>),
    Values(Vec<Option<f64>>),
}

/// Rows by their number; those without samples are missing.
#[derive(Debug, Default)]
pub(super) struct Rows(BTreeMap<usize, Row>);

/// Takes what is read of some series.
#[derive(Debug)]
pub(super) struct Folding {
    shape: Arc<Shape>,
    places: Vec<usize>,
    rows: BTreeMap<usize, Row>,
    growths: BTreeMap<usize, Growth>,
}

impl Shape {
    /// Series that one fold may have, so that it stays small.
    pub(super) fn series_at_once(&self) -> usize {
        const BUCKETS_AT_ONCE: usize = 1 << 20;
        // Their values are kept until the fold ends.
        let most = if self.aggregation.rank().is_some() { 16 } else { usize::MAX };
        (BUCKETS_AT_ONCE / self.buckets.count.max(1)).clamp(1, most)
    }

    fn row(&self) -> Row {
        if self.aggregation.rank().is_some() {
            Row::Pools(vec![Vec::new(); self.buckets.count])
        } else {
            Row::Tallies(vec![Tally::default(); self.buckets.count])
        }
    }

    fn pool(&self, values: usize) -> Result<(), StoreError> {
        let pooled = self.pooled.fetch_add(values, Ordering::Relaxed) + values;
        if pooled > POOLED_MAX { Err(StoreError::TooMuch(POOLED_MAX)) } else { Ok(()) }
    }

    /// The values of a row that no more series will come to.
    fn values(&self, row: Row) -> Vec<Option<f64>> {
        match row {
            Row::Values(values) => values,
            Row::Tallies(tallies) => tallies.iter().map(|tally| tally.value(self.aggregation)).collect(),
            Row::Pools(pools) => {
                self.pooled.fetch_sub(pools.iter().map(Vec::len).sum(), Ordering::Relaxed);
                pools.into_iter().map(|pool| quantile(pool, self.aggregation.rank().unwrap_or(0.5))).collect()
            }
        }
    }
}

impl Folding {
    pub(super) fn new(shape: Arc<Shape>, places: &[usize]) -> Self {
        Self { shape, places: places.to_vec(), rows: BTreeMap::new(), growths: BTreeMap::new() }
    }

    fn points(&mut self, row: usize, points: &[Point]) -> Result<(), StoreError> {
        let (shape, scatter) = (&self.shape, self.shape.aggregation == Aggregation::Stddev);
        match self.rows.entry(row).or_insert_with(|| shape.row()) {
            Row::Tallies(tallies) => shape.buckets.cut(points, |at, points| tallies[at].add(points, scatter)),
            Row::Pools(pools) => {
                shape.pool(points.len())?;
                shape.buckets.cut(points, |at, points| pools[at].extend(points.iter().map(|p| p.1).filter(|v| !v.is_nan())));
                let kept: usize = points.iter().filter(|p| p.1.is_nan()).count();
                shape.pooled.fetch_sub(kept, Ordering::Relaxed);
            }
            Row::Values(_) => {}
        }
        Ok(())
    }
}

impl Fold for Folding {
    type Out = Rows;

    fn take(&mut self, at: usize, piece: Piece<'_>) -> Result<(), StoreError> {
        let shape = Arc::clone(&self.shape);
        let row = shape.rows[self.places[at]];
        if shape.aggregation.is_of_counters() {
            let growth = self.growths.entry(at).or_insert_with(|| Growth::new(&shape.buckets));
            match piece {
                Piece::Points(points) => points.iter().for_each(|point| growth.add(&shape.buckets, shape.from_ms, *point)),
                Piece::Cells(cells) => cells.iter().for_each(|cell| growth.add_cell(&shape.buckets, shape.from_ms, cell)),
            }
            return Ok(());
        }
        match piece {
            Piece::Points(points) => self.points(row, points),
            Piece::Cells(cells) => {
                if let Row::Tallies(tallies) = self.rows.entry(row).or_insert_with(|| shape.row()) {
                    // A cell that reaches over the start of the range counts where the range begins.
                    let place = |at_ms: i64| shape.buckets.of(at_ms.max(shape.from_ms));
                    cells.iter().for_each(|cell| place(cell.at).into_iter().for_each(|at| tallies[at].add_cell(cell)));
                }
                Ok(())
            }
        }
    }

    fn finish(mut self) -> Rows {
        let per_second = self.shape.aggregation == Aggregation::Rate;
        for (at, growth) in self.growths {
            let row = self.rows.entry(self.shape.rows[self.places[at]]).or_insert_with(|| Row::Values(vec![None; self.shape.buckets.count]));
            if let Row::Values(totals) = row {
                totals.iter_mut().zip(growth.values(per_second)).for_each(|(total, value)| plus(total, value));
            }
        }
        if !self.shape.grouped {
            // Nothing will come to these rows any more: values take less than what they are made of.
            let shape = &self.shape;
            return Rows(self.rows.into_iter().map(|(at, row)| (at, Row::Values(shape.values(row)))).collect());
        }
        Rows(self.rows)
    }

    fn absorb(into: &mut Rows, next: Rows) {
        for (at, row) in next.0 {
            match (into.0.get_mut(&at), row) {
                (Some(Row::Tallies(tallies)), Row::Tallies(more)) => tallies.iter_mut().zip(&more).for_each(|(a, b)| a.absorb(b)),
                (Some(Row::Pools(pools)), Row::Pools(more)) => pools.iter_mut().zip(more).for_each(|(a, b)| a.extend(b)),
                (Some(Row::Values(totals)), Row::Values(more)) => totals.iter_mut().zip(more).for_each(|(a, b)| plus(a, b)),
                (_, row) => {
                    into.0.insert(at, row);
                }
            }
        }
    }
}

fn plus(total: &mut Option<f64>, value: Option<f64>) {
    if let Some(value) = value {
        *total = Some(total.unwrap_or(0.0) + value);
    }
}

impl Rows {
    /// The values of each row that has any.
    pub(super) fn values(self, shape: &Shape) -> impl Iterator<Item = (usize, Vec<Option<f64>>)> {
        self.0.into_iter().map(|(at, row)| (at, shape.values(row))).filter(|(_, values)| values.iter().any(Option::is_some))
    }
}
