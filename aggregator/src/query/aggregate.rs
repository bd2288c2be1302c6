//! How the samples of a bucket become one value. NaN (a staleness mark, or a value that is not one) is left out.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::store::{Cell, Facet, Point};

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

    /// The quantile that it is.
    pub(super) fn rank(self) -> Option<f64> {
        match self {
            Self::P50 => Some(0.50),
            Self::P90 => Some(0.90),
            Self::P95 => Some(0.95),
            Self::P99 => Some(0.99),
            _ => None,
        }
    }

    /// What it needs of a roll-up; `None` if only the samples will do.
    pub(super) fn facets(self) -> Option<&'static [Facet]> {
        match self {
            Self::Avg => Some(&[Facet::Count, Facet::Sum]),
            Self::Min => Some(&[Facet::Min]),
            Self::Max => Some(&[Facet::Max]),
            Self::Sum => Some(&[Facet::Sum]),
            Self::Count => Some(&[Facet::Count]),
            Self::Last => Some(&[Facet::Last]),
            Self::Rate | Self::Increase => Some(&[Facet::Last, Facet::First, Facet::Reset]),
            _ => None,
        }
    }
}

/// What is known of a bucket without keeping its samples.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tally {
    count: f64,
    sum: f64,
    min: f64,
    max: f64,
    last: Point,
    mean: f64,
    /// Sum of squared distances to the mean (Welford).
    squares: f64,
}

impl Default for Tally {
    fn default() -> Self {
        Self { count: 0.0, sum: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY, last: (i64::MIN, f64::NAN), mean: 0.0, squares: 0.0 }
    }
}

impl Tally {
    pub(super) fn add(&mut self, points: &[Point], scatter: bool) {
        for point in points.iter().filter(|p| !p.1.is_nan()) {
            self.count += 1.0;
            self.sum += point.1;
            self.min = self.min.min(point.1);
            self.max = self.max.max(point.1);
            if point.0 >= self.last.0 {
                self.last = *point;
            }
            if scatter {
                let before = point.1 - self.mean;
                self.mean += before / self.count;
                self.squares += before * (point.1 - self.mean);
            }
        }
    }

    /// Adds a cell of a roll-up, of which only what is asked for was read.
    pub(super) fn add_cell(&mut self, cell: &Cell) {
        self.count += cell.count.max(1.0);
        self.sum += cell.sum;
        self.min = self.min.min(cell.min);
        self.max = self.max.max(cell.max);
        if cell.last.0 >= self.last.0 {
            self.last = cell.last;
        }
    }

    /// Adds what other series of the group come to.
    pub(super) fn absorb(&mut self, other: &Self) {
        let count = self.count + other.count;
        if count > 0.0 {
            let apart = other.mean - self.mean;
            self.squares += other.squares + apart * apart * self.count * other.count / count;
            self.mean += apart * other.count / count;
        }
        self.count = count;
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        if other.last.0 >= self.last.0 {
            self.last = other.last;
        }
    }

    /// The value of the bucket, if it holds any.
    pub(super) fn value(&self, aggregation: Aggregation) -> Option<f64> {
        (self.count > 0.0).then(|| match aggregation {
            Aggregation::Min => self.min,
            Aggregation::Max => self.max,
            Aggregation::Sum => self.sum,
            Aggregation::Count => self.count,
            Aggregation::Last => self.last.1,
            Aggregation::Stddev => (self.squares / self.count).sqrt(),
            _ => self.sum / self.count,
        })
    }
}

/// Quantile with linear interpolation between the two nearest ranks, as Prometheus's `quantile_over_time` has it.
pub(super) fn quantile(mut values: Vec<f64>, q: f64) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let rank = q * values.len().checked_sub(1)? as f64;
    let (low, high) = (values[rank.floor() as usize], values[rank.ceil() as usize]);
    Some(if low == high { low } else { low + (high - low) * rank.fract() })
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
