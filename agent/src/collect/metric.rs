//! What a metric is called and means. Each sensor lists its own in a `METRICS` table; the reference documentation is made
//! from them, and the conformance test refuses samples that no table describes.

use keyvigil_common::sample::MetricType;

/// What the values of a metric are measured in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Things: packets, processes, interrupts.
    Count,
    /// Bytes.
    Bytes,
    /// Bytes a second.
    BytesPerSecond,
    /// Bits of entropy.
    Bits,
    /// 0 to 100.
    Percent,
    /// A part of a whole, or a factor.
    Ratio,
    /// Seconds.
    Seconds,
    /// Seconds since 1970.
    UnixSeconds,
    /// Degrees Celsius.
    Celsius,
    /// 1 for yes, 0 for no.
    Flag,
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricDef {
    /// Dotted name.
    pub id: &'static str,
    /// What its values mean.
    pub metric_type: MetricType,
    /// What they are measured in.
    pub unit: Unit,
    /// One sentence for its readers.
    pub help: &'static str,
}

/// A metric that only grows.
pub(crate) const fn counter(id: &'static str, unit: Unit, help: &'static str) -> MetricDef {
    MetricDef { id, metric_type: MetricType::Counter, unit, help }
}

/// A metric that goes up and down.
pub(crate) const fn gauge(id: &'static str, unit: Unit, help: &'static str) -> MetricDef {
    MetricDef { id, metric_type: MetricType::Gauge, unit, help }
}
