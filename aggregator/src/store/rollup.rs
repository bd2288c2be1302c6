//! Roll-ups: what is kept of many samples of one series in a cell of 5 min or 1 h. A cell tells count, sum, smallest,
//! largest and newest value, and of counters the oldest and what resets took: from these, any bucket that is made of whole
//! cells has the very answer that the samples give. NaN (a staleness mark among them) is left out, as in every answer.
//!
//! Stored as blocks, each of one kind of value (its facet), whose window is 16 times the day plus the facet. The times of
//! newest and oldest values are those of the samples, those of all others the cell's start.

mod mark;
mod write;

use std::collections::BTreeMap;

use keyvigil_common::seal::KeyRing;

use super::partition::{Kind, Reading, Windows};
use super::{Point, StoreError, block};
use crate::index::SeriesId;

pub(super) use mark::Mark;

/// The two of them, the coarser one first.
pub(super) const ROLL_UPS: [RollUp; 2] = [
    RollUp { kind: Kind { dir: "rollup-1h", name: "rollup-1h", span_days: 32 }, width: 3_600_000 },
    RollUp { kind: Kind { dir: "rollup-5m", name: "rollup-5m", span_days: 1 }, width: 300_000 },
];

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RollUp {
    pub(super) kind: Kind,
    /// Width of a cell, ms: a day is made of whole cells.
    pub(super) width: i64,
}

/// A kind of value in a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Facet {
    Count,
    Sum,
    Min,
    Max,
    Last,
    /// Of counters only, as the next.
    First,
    Reset,
}

impl Facet {
    pub(super) const ALL: [Self; 7] = [Self::Count, Self::Sum, Self::Min, Self::Max, Self::Last, Self::First, Self::Reset];

    /// The window of its blocks of `day`.
    pub(super) fn window(self, day: i64) -> i64 {
        day * 16 + self as i64
    }
}

/// What the samples of a series in one cell come to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cell {
    /// Its start, Unix ms.
    pub(crate) at: i64,
    pub(crate) count: f64,
    pub(crate) sum: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    pub(crate) first: Point,
    pub(crate) last: Point,
    /// What resets took from the counter: it grew by last - first + this.
    pub(crate) reset: f64,
}

impl Cell {
    fn empty(at: i64) -> Self {
        Self { at, count: 0.0, sum: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY, first: (at, 0.0), last: (at, 0.0), reset: 0.0 }
    }

    fn of(at: i64, points: &[Point]) -> Option<Self> {
        let mut known = points.iter().filter(|point| !point.1.is_nan()).copied();
        let first = known.next()?;
        let mut cell = Self { count: 1.0, sum: first.1, min: first.1, max: first.1, first, last: first, ..Self::empty(at) };
        for point in known {
            cell.count += 1.0;
            cell.sum += point.1;
            cell.min = cell.min.min(point.1);
            cell.max = cell.max.max(point.1);
            cell.reset += if point.1 < cell.last.1 { cell.last.1 } else { 0.0 };
            cell.last = point;
        }
        cell.sum = as_written(cell.sum);
        Some(cell)
    }

    /// Adds what came later, of samples that are not in the cell yet.
    fn add(&mut self, late: &Self) {
        self.count += late.count;
        self.sum = as_written(self.sum + late.sum);
        self.min = self.min.min(late.min);
        self.max = self.max.max(late.max);
        self.first = if late.first.0 < self.first.0 { late.first } else { self.first };
        self.last = if late.last.0 >= self.last.0 { late.last } else { self.last };
        self.reset += late.reset;
    }

    fn get(&self, facet: Facet) -> Point {
        match facet {
            Facet::Count => (self.at, self.count),
            Facet::Sum => (self.at, self.sum),
            Facet::Min => (self.at, self.min),
            Facet::Max => (self.at, self.max),
            Facet::Last => self.last,
            Facet::First => self.first,
            Facet::Reset => (self.at, self.reset),
        }
    }

    fn set(&mut self, facet: Facet, point: Point) {
        match facet {
            Facet::Count => self.count = point.1,
            Facet::Sum => self.sum = point.1,
            Facet::Min => self.min = point.1,
            Facet::Max => self.max = point.1,
            Facet::Last => self.last = point,
            Facet::First => self.first = point,
            Facet::Reset => self.reset = point.1,
        }
    }
}

/// A sum without what adding decimals in binary left behind the thirteenth digit: such a number is stored in a few bits.
fn as_written(sum: f64) -> f64 {
    [1.0, 10.0, 100.0, 1_000.0, 10_000.0]
        .into_iter()
        .map(|scale| (sum * scale).round() / scale)
        .find(|short| (short - sum).abs() <= sum.abs() * 1e-13)
        .unwrap_or(sum)
}

/// Samples of one series, ascending, as cells.
pub(super) fn roll(points: &[Point], width: i64) -> Vec<Cell> {
    let cell = |point: &Point| point.0.div_euclid(width);
    points.chunk_by(|a, b| cell(a) == cell(b)).filter_map(|part| Cell::of(cell(&part[0]) * width, part)).collect()
}

/// Adds cells to those there are; both ascending.
pub(super) fn add(cells: &mut Vec<Cell>, late: Vec<Cell>) {
    for cell in late {
        match cells.binary_search_by_key(&cell.at, |c| c.at) {
            Ok(at) => cells[at].add(&cell),
            Err(at) => cells.insert(at, cell),
        }
    }
}

/// Reads of each series of `ids` (ascending) the `facets` of the cells that begin in `from..to`, in the order of time.
pub(super) fn read(
    reading: &Reading<'_>,
    ring: &KeyRing,
    (ids, width): (&[SeriesId], i64),
    (from, to): (i64, i64),
    facets: &[Facet],
) -> Result<BTreeMap<SeriesId, Vec<Cell>>, StoreError> {
    let mut out: BTreeMap<SeriesId, Vec<Cell>> = BTreeMap::new();
    for facet in facets {
        // Times of newest and oldest values lie anywhere in their cell.
        let windows = Windows { facet: Some(*facet as i64), ..Windows::ALL };
        for id in reading.blocks(ids, (from, to - 1), windows)? {
            let (source, key) = reading.source(ring, id);
            let head = reading.partitions.cache.head(key, || source.head())?;
            let mut found = Vec::new();
            let wanted = |series| ids.binary_search(&series).is_ok();
            let Some(times) = source.read_by((&reading.partitions.cache, key), &head, wanted, |series, values| found.push((series, values)))? else { continue };
            let within = times.partition_point(|t| *t < from)..times.partition_point(|t| *t < to);
            for (series, values) in found {
                fill(out.entry(series).or_default(), *facet, width, &times[within.clone()], &values[within.clone()]);
            }
        }
    }
    Ok(out)
}

/// Sets a facet of cells, which are made where there are none yet. One pass, since both are ascending.
fn fill(cells: &mut Vec<Cell>, facet: Facet, width: i64, times: &[i64], values: &[f64]) {
    let mut place = times.first().map_or(0, |first| cells.partition_point(|c| c.at < first.div_euclid(width) * width));
    for (time, value) in times.iter().zip(values) {
        let at = time.div_euclid(width) * width;
        while cells.get(place).is_some_and(|cell| cell.at < at) {
            place += 1;
        }
        if cells.get(place).is_none_or(|cell| cell.at != at) {
            // A reset tells nothing of a cell whose other facets are not asked for.
            cells.insert(place, Cell::empty(at));
        }
        cells[place].set(facet, (*time, *value));
    }
}

/// The cells as members of blocks of one facet.
fn members(cells: &BTreeMap<SeriesId, (Vec<Cell>, bool)>, facet: Facet) -> Vec<block::Member<'static>> {
    let of_counters = matches!(facet, Facet::First | Facet::Reset);
    cells
        .iter()
        .filter(|(_, (_, is_counter))| *is_counter || !of_counters)
        .filter_map(|(series, (cells, _))| {
            let points: Vec<Point> = cells.iter().map(|cell| cell.get(facet)).filter(|p| facet != Facet::Reset || p.1 != 0.0).collect();
            (!points.is_empty()).then(|| block::Member { series: *series, kin: 0, points: points.into() })
        })
        .collect()
}

#[cfg(test)]
mod tests;
