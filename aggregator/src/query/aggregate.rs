//! How the samples of a bucket become one value. NaN (a staleness mark, or a value that is not one) is left out.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Buckets, counter};
use crate::store::Point;

/// A way to aggregate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Aggregation {
    /// Mean.
    Avg,
    /// Smallest.
    Min,
    /// Largest.
    Max,
    /// Sum of samples.
    Sum,
    /// Number of samples.
    Count,
    /// Newest.
    Last,
    /// Growth of a counter per second.
    Rate,
    /// Growth of a counter.
    Increase,
    /// Standard deviation of the population.
    Stddev,
    /// Median.
    P50,
    /// 90th percentile.
    P90,
    /// 95th percentile.
    P95,
    /// 99th percentile.
    P99,
}

impl Aggregation {
    const ALL: [(&'static str, Self); 13] = [
        ("avg", Self::Avg),
        ("min", Self::Min),
        ("max", Self::Max),
        ("sum", Self::Sum),
        ("count", Self::Count),
        ("last", Self::Last),
        ("rate", Self::Rate),
        ("increase", Self::Increase),
        ("stddev", Self::Stddev),
        ("p50", Self::P50),
        ("p90", Self::P90),
        ("p95", Self::P95),
        ("p99", Self::P99),
    ];

    /// Name in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, a)| *a == self).map_or("avg", |(name, _)| name)
    }

    /// Whether it needs the sample before the range.
    pub(super) fn is_of_counters(self) -> bool {
        matches!(self, Self::Rate | Self::Increase)
    }

    /// One value for each bucket, of all `series` together; each is ascending.
    pub(super) fn apply(self, buckets: &Buckets, from_ms: i64, series: &[&[Point]]) -> Vec<Option<f64>> {
        match self {
            Self::Rate | Self::Increase => self.of_counters(buckets, from_ms, series),
            Self::P50 => of_ranks(buckets, series, 0.50),
            Self::P90 => of_ranks(buckets, series, 0.90),
            Self::P95 => of_ranks(buckets, series, 0.95),
            Self::P99 => of_ranks(buckets, series, 0.99),
            _ => self.of_cells(buckets, series),
        }
    }

    fn of_cells(self, buckets: &Buckets, series: &[&[Point]]) -> Vec<Option<f64>> {
        let mut cells = vec![Cell::default(); buckets.count];
        for points in series {
            buckets.cut(points, |at, points| cells[at].add(points, self == Self::Stddev));
        }
        cells.into_iter().map(|cell| (cell.count > 0).then(|| cell.value(self))).collect()
    }

    fn of_counters(self, buckets: &Buckets, from_ms: i64, series: &[&[Point]]) -> Vec<Option<f64>> {
        let mut out: Vec<Option<f64>> = vec![None; buckets.count];
        for points in series {
            for (total, (grown, covered_ms)) in out.iter_mut().zip(counter::growth(buckets, from_ms, points)) {
                if covered_ms > 0 {
                    let value = if self == Self::Rate { grown * 1_000.0 / covered_ms as f64 } else { grown };
                    *total = Some(total.unwrap_or(0.0) + value);
                }
            }
        }
        out
    }
}

/// What is known of a bucket without keeping its samples.
#[derive(Debug, Clone, Copy)]
struct Cell {
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
    last: Point,
    mean: f64,
    /// Sum of squared distances to the mean (Welford).
    squares: f64,
}

impl Default for Cell {
    fn default() -> Self {
        Self { count: 0, sum: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY, last: (i64::MIN, f64::NAN), mean: 0.0, squares: 0.0 }
    }
}

impl Cell {
    fn add(&mut self, points: &[Point], scatter: bool) {
        for point in points.iter().filter(|p| !p.1.is_nan()) {
            self.count += 1;
            self.sum += point.1;
            self.min = self.min.min(point.1);
            self.max = self.max.max(point.1);
            if point.0 >= self.last.0 {
                self.last = *point;
            }
            if scatter {
                let before = point.1 - self.mean;
                self.mean += before / self.count as f64;
                self.squares += before * (point.1 - self.mean);
            }
        }
    }

    fn value(&self, aggregation: Aggregation) -> f64 {
        match aggregation {
            Aggregation::Min => self.min,
            Aggregation::Max => self.max,
            Aggregation::Sum => self.sum,
            Aggregation::Count => self.count as f64,
            Aggregation::Last => self.last.1,
            Aggregation::Stddev => (self.squares / self.count as f64).sqrt(),
            _ => self.sum / self.count as f64,
        }
    }
}

/// A quantile of each bucket.
fn of_ranks(buckets: &Buckets, series: &[&[Point]], q: f64) -> Vec<Option<f64>> {
    let mut pools: Vec<Vec<f64>> = vec![Vec::new(); buckets.count];
    for points in series {
        buckets.cut(points, |at, points| pools[at].extend(points.iter().map(|p| p.1).filter(|v| !v.is_nan())));
    }
    pools.into_iter().map(|pool| (!pool.is_empty()).then(|| quantile(pool, q))).collect()
}

/// Quantile with linear interpolation between the two nearest ranks, as Prometheus's `quantile_over_time` has it.
fn quantile(mut values: Vec<f64>, q: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let rank = q * (values.len() - 1) as f64;
    let (low, high) = (values[rank.floor() as usize], values[rank.ceil() as usize]);
    if low == high { low } else { low + (high - low) * rank.fract() }
}

impl std::fmt::Display for Aggregation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Aggregation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(|(name, _)| name).join(" ");
        Self::ALL.iter().find(|(name, _)| *name == text).map(|(_, a)| *a).ok_or_else(|| format!("aggregation {text:?} is none of: {}", names()))
    }
}
