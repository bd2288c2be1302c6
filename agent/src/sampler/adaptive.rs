//! How often a sensor is asked: at its shortest interval while its values move, stretching step by step to its longest
//! while they do not. A value moves when it leaves a band of 5 % (and at least a thousandth) around the last one that did; a counter, when its
//! growth per second does. One jump brings the shortest interval back at once, so that what follows is seen closely.

use std::collections::HashMap;
use std::time::Duration;

use keyvigil_common::sample::{MetricType, Sample, Series};

const BAND: f64 = 0.05;
const FLOOR: f64 = 0.001;
/// Quiet scrapes before each stretch.
const PATIENCE: u32 = 3;
/// Series remembered of one sensor.
const KNOWN_MAX: usize = 20_000;

/// The interval of one sensor.
#[derive(Debug)]
pub(super) struct Adaptive {
    min: Duration,
    max: Duration,
    current: Duration,
    quiet: u32,
    known: HashMap<Series, Known>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    at_ms: i64,
    value: f64,
    /// Value (or growth per second) around which the band lies.
    centre: Option<f64>,
}

impl Adaptive {
    pub(super) fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, current: min, quiet: 0, known: HashMap::new() }
    }

    /// The interval now; the shortest while the aggregator has asked for that.
    pub(super) fn current(&self, enhanced: bool) -> Duration {
        if enhanced { self.min } else { self.current }
    }

    /// Learns from what was just seen.
    pub(super) fn learn(&mut self, samples: &[Sample]) {
        if self.min == self.max {
            return;
        }
        // A host that makes and drops interfaces all day must not be remembered whole: what lives is learnt again at once.
        if self.known.len() > KNOWN_MAX {
            self.known.clear();
        }
        let mut moved = false;
        for sample in samples {
            moved |= self.moves(sample);
        }
        if moved {
            self.quiet = 0;
            self.current = self.min;
            return;
        }
        self.quiet += 1;
        if self.quiet >= PATIENCE {
            self.quiet = 0;
            self.current = (self.current * 2).min(self.max);
        }
    }

    fn moves(&mut self, sample: &Sample) -> bool {
        let Some(before) = self.known.get_mut(&sample.series) else {
            let centre = (sample.series.metric_type != MetricType::Counter).then_some(sample.value);
            self.known.insert(sample.series.clone(), Known { at_ms: sample.at_ms, value: sample.value, centre });
            return false;
        };
        let seconds = (sample.at_ms - before.at_ms) as f64 / 1_000.0;
        let shown = match sample.series.metric_type {
            MetricType::Counter if seconds > 0.0 => (sample.value - before.value).max(0.0) / seconds,
            MetricType::Counter => return false,
            _ => sample.value,
        };
        (before.at_ms, before.value) = (sample.at_ms, sample.value);
        let Some(centre) = before.centre else {
            before.centre = Some(shown);
            return false;
        };
        // A band of a twentieth, and room for the jitter of what is near zero.
        let moved = (shown - centre).abs() > (centre.abs() * BAND).max(scale(&sample.series.metric_id)) && shown.is_finite();
        if moved {
            before.centre = Some(shown);
        }
        moved
    }
}

/// What counts as nothing, in the metric's own unit.
fn scale(metric_id: &str) -> f64 {
    match metric_id.rsplit(['.', '_']).next() {
        // Percentage points.
        Some("percent") => 2.0,
        _ if metric_id == "system.cpu.usage_total" => 5.0,
        Some("bytes" | "sent" | "recv") => 65_536.0,
        Some("total") => 10.0,
        Some("seconds") => f64::INFINITY,
        _ => FLOOR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyvigil_common::sample::Tags;

    fn sample(id: &str, metric_type: MetricType, at_s: i64, value: f64) -> Sample {
        Sample { series: Series::new(id, metric_type, Tags::default()).unwrap(), at_ms: at_s * 1_000, value, start_ms: None }
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn quiet_values_stretch_the_interval_to_its_longest_and_a_jump_brings_it_back() {
        let mut adaptive = Adaptive::new(seconds(10), seconds(60));
        for at in 0..30 {
            adaptive.learn(&[sample("system.memory.usage_percent", MetricType::Gauge, at * 10, 40.0 + (at % 2) as f64)]);
        }
        assert_eq!(adaptive.current(false), seconds(60));
        assert_eq!(adaptive.current(true), seconds(10), "the aggregator asked");
        adaptive.learn(&[sample("system.memory.usage_percent", MetricType::Gauge, 310, 80.0)]);
        assert_eq!(adaptive.current(false), seconds(10));
    }

    #[test]
    fn a_counter_is_quiet_while_it_grows_steadily() {
        let mut adaptive = Adaptive::new(seconds(10), seconds(60));
        let mut grow = |from: i64, to: i64, per_second: f64, base: f64| {
            for at in from..to {
                adaptive.learn(&[sample("system.network.bytes_sent", MetricType::Counter, at * 10, base + (at - from) as f64 * 10.0 * per_second)]);
            }
            adaptive.current(false)
        };
        assert_eq!(grow(0, 30, 1e6, 0.0), seconds(60));
        assert_eq!(grow(30, 32, 5e6, 3e8), seconds(10));
    }
}
