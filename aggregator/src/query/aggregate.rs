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

    /// One value for each bucket, of all `series` together.
    pub(super) fn apply(self, buckets: &Buckets, from_ms: i64, series: &[&[Point]]) -> Vec<Option<f64>> {
        if self.is_of_counters() {
            return self.of_counters(buckets, from_ms, series);
        }
        let mut pools: Vec<Vec<Point>> = vec![Vec::new(); buckets.count];
        for point in series.iter().flat_map(|points| points.iter()).filter(|p| !p.1.is_nan()) {
            if let Some(at) = buckets.of(point.0) {
                pools[at].push(*point);
            }
        }
        pools.into_iter().map(|pool| self.of_pool(pool)).collect()
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

    fn of_pool(self, pool: Vec<Point>) -> Option<f64> {
        if pool.is_empty() {
            return None;
        }
        let count = pool.len() as f64;
        let values = || pool.iter().map(|p| p.1);
        Some(match self {
            Self::Avg => values().sum::<f64>() / count,
            Self::Min => values().fold(f64::INFINITY, f64::min),
            Self::Max => values().fold(f64::NEG_INFINITY, f64::max),
            Self::Sum | Self::Rate | Self::Increase => values().sum(),
            Self::Count => count,
            Self::Last => pool.iter().max_by_key(|p| p.0).map_or(f64::NAN, |p| p.1),
            Self::Stddev => {
                let mean = values().sum::<f64>() / count;
                (values().map(|v| (v - mean).powi(2)).sum::<f64>() / count).sqrt()
            }
            Self::P50 => quantile(pool, 0.50),
            Self::P90 => quantile(pool, 0.90),
            Self::P95 => quantile(pool, 0.95),
            Self::P99 => quantile(pool, 0.99),
        })
    }
}

/// Quantile with linear interpolation between the two nearest ranks, as Prometheus's `quantile_over_time` has it.
fn quantile(pool: Vec<Point>, q: f64) -> f64 {
    let mut values: Vec<f64> = pool.into_iter().map(|p| p.1).collect();
    values.sort_by(f64::total_cmp);
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
