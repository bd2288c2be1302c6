//! How often a sensor is asked: at its shortest interval while its values move, stretching step by step to its longest
//! while they do not. A value moves when it leaves a band around what it was lately: 5 %, or a few times what it jitters by
//! anyway, or what counts as nothing in its unit. Of a counter the growth per second is looked at. One jump brings the
//! shortest interval back at once, so that what follows is seen closely; so does a series that was not there before.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use keyvigil_common::sample::{MetricType, Sample};

const BAND: f64 = 0.05;
const FLOOR: f64 = 0.001;
/// So many times its usual jitter is more than jitter.
const JITTERS: f64 = 4.0;
/// How fast jitter is learnt and forgotten, and how fast the middle of the band follows: parts of the difference a scrape.
const LEARN: f64 = 0.2;
const FORGET: f64 = 0.05;
const FOLLOW: f64 = 0.2;
/// Quiet scrapes before each stretch.
const PATIENCE: u32 = 3;
/// Series that are gone may be remembered beside as many that are there, and so many more.
const GONE: usize = 64;

/// The interval of one sensor.
#[derive(Debug)]
pub struct Adaptive {
    min: Duration,
    max: Duration,
    current: Duration,
    quiet: u32,
    /// By a hash of the series, which is many times smaller than the series. Two that share one would look like one that
    /// moves: asked too often, and nothing worse.
    known: HashMap<u64, Known>,
    hasher: RandomState,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    at_ms: i64,
    value: f64,
    /// None while only one value of a counter is known.
    band: Option<Band>,
}

/// What a series was lately: its value, or a counter's growth per second.
#[derive(Debug, Clone, Copy)]
pub struct Band {
    /// Where its middle lies.
    pub middle: f64,
    /// How far from there the series usually is.
    jitter: f64,
}

impl Adaptive {
    /// Begins with the shortest interval.
    #[must_use]
    pub fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, current: min, quiet: 0, known: HashMap::new(), hasher: RandomState::new() }
    }

    /// The interval now; the shortest while the aggregator has asked for that.
    #[must_use]
    pub fn current(&self, enhanced: bool) -> Duration {
        if enhanced { self.min } else { self.current }
    }

    /// The shortest.
    #[must_use]
    pub fn shortest(&self) -> Duration {
        self.min
    }

    /// The longest.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.max
    }

    /// Learns from what was just seen; whether it moved.
    pub fn learn(&mut self, samples: &[Sample]) -> bool {
        if self.min == self.max {
            return false;
        }
        let first = self.known.is_empty();
        let mut moved = false;
        for sample in samples {
            // All of them learn.
            moved |= self.moves(sample).unwrap_or(!first);
        }
        // A host that makes and drops interfaces all day must not be remembered whole.
        if self.known.len() > samples.len() * 2 + GONE {
            let newest = samples.iter().map(|sample| sample.at_ms).max();
            self.known.retain(|_, known| Some(known.at_ms) == newest);
        }
        if moved {
            self.quiet = 0;
            self.current = self.min;
            return true;
        }
        self.quiet += 1;
        if self.quiet >= PATIENCE {
            self.quiet = 0;
            self.current = (self.current * 2).min(self.max);
        }
        false
    }

    /// Whether it left its band; `None` if it was not there before.
    fn moves(&mut self, sample: &Sample) -> Option<bool> {
        let is_gauge = sample.series.metric_type == MetricType::Gauge;
        let known = match self.known.entry(self.hasher.hash_one(&sample.series)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                place.insert(Known { at_ms: sample.at_ms, value: sample.value, band: is_gauge.then(|| Band::new(sample.value)) });
                return None;
            }
        };
        let seconds = (sample.at_ms - known.at_ms) as f64 / 1_000.0;
        let shown = match is_gauge {
            true => sample.value,
            false if seconds <= 0.0 => return Some(false),
            // What counts less than before began again at zero.
            false => (if sample.value < known.value { sample.value } else { sample.value - known.value }) / seconds,
        };
        (known.at_ms, known.value) = (sample.at_ms, sample.value);
        if !shown.is_finite() {
            return Some(false);
        }
        match &mut known.band {
            Some(band) => Some(band.left(shown, nothing(&sample.series.metric_id))),
            None => {
                known.band = Some(Band::new(shown));
                Some(false)
            }
        }
    }

    /// Series that are remembered.
    #[cfg(test)]
    fn remembered(&self) -> usize {
        self.known.len()
    }
}

impl Band {
    /// Around `shown`.
    #[must_use]
    pub fn new(shown: f64) -> Self {
        Self { middle: shown, jitter: 0.0 }
    }

    /// How far from its middle it reaches, where so much counts as [`nothing`].
    #[must_use]
    pub fn width(&self, nothing: f64) -> f64 {
        (self.middle.abs() * BAND).max(nothing).max(self.jitter * JITTERS)
    }

    /// Learns from the next value; whether that lies outside.
    pub fn left(&mut self, shown: f64, nothing: f64) -> bool {
        let off = (shown - self.middle).abs();
        let moved = off > self.width(nothing);
        self.jitter += (off - self.jitter) * if off > self.jitter { LEARN } else { FORGET };
        self.middle = if moved { shown } else { self.middle + (shown - self.middle) * FOLLOW };
        moved
    }
}

/// What counts as nothing, in the metric's own unit; of a counter, a second.
#[must_use]
pub fn nothing(metric_id: &str) -> f64 {
    let (name, total) = metric_id.strip_suffix("_total").map_or((metric_id, false), |name| (name, true));
    match name.rsplit(['.', '_']).next() {
        // Percentage points.
        Some("percent") => 2.0,
        Some("usage") => 5.0,
        // A tenth of the time.
        Some("seconds") if total => 0.1,
        Some("seconds") => f64::INFINITY,
        Some("bytes" | "sent" | "recv") => 65_536.0,
        // Load averages.
        Some("1m" | "5m" | "15m") => 0.25,
        _ if total => 10.0,
        _ => FLOOR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyvigil_common::sample::{Series, Tags};

    const MEMORY: &str = "system.memory.usage_percent";
    const SENT: &str = "system.network.bytes_sent";

    fn sample(id: &str, metric_type: MetricType, at_s: i64, value: f64) -> Sample {
        Sample { series: Series::new(id, metric_type, Tags::default()).unwrap(), at_ms: at_s * 1_000, value, start_ms: None }
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// What the interval is after scrapes every 10 s of what `value` tells of each.
    fn after(adaptive: &mut Adaptive, scrapes: std::ops::Range<i64>, id: &str, metric_type: MetricType, value: impl Fn(i64) -> f64) -> u64 {
        for at in scrapes {
            adaptive.learn(&[sample(id, metric_type, at * 10, value(at))]);
        }
        adaptive.current(false).as_secs()
    }

    fn adaptive() -> Adaptive {
        Adaptive::new(seconds(10), seconds(60))
    }

    #[test]
    fn quiet_values_stretch_the_interval_to_its_longest_and_a_jump_brings_it_back() {
        let mut it = adaptive();
        let steps: Vec<u64> = (0..9).map(|at| after(&mut it, at..at + 1, MEMORY, MetricType::Gauge, |at| 40.0 + (at % 2) as f64)).collect();
        assert_eq!(steps, [10, 10, 20, 20, 20, 40, 40, 40, 60]);
        assert_eq!(it.current(true), seconds(10), "the aggregator asked");
        assert_eq!(after(&mut it, 31..32, MEMORY, MetricType::Gauge, |_| 80.0), 10);
    }

    #[test]
    fn a_counter_is_quiet_while_it_grows_steadily() {
        let mut it = adaptive();
        assert_eq!(after(&mut it, 0..30, SENT, MetricType::Counter, |at| at as f64 * 1e7), 60);
        assert_eq!(after(&mut it, 30..31, SENT, MetricType::Counter, |_| 29e7 + 5e7), 10);
    }

    #[test]
    fn a_counter_that_began_again_is_measured_from_zero() {
        let mut it = adaptive();
        assert_eq!(after(&mut it, 0..30, SENT, MetricType::Counter, |at| 1e12 + at as f64 * 1e7), 60);
        assert_eq!(after(&mut it, 30..31, SENT, MetricType::Counter, |_| 1e7), 60, "it grows as before");
        assert_eq!(after(&mut it, 31..32, SENT, MetricType::Counter, |_| 1e5), 10, "it began again and stands nearly still");
    }

    #[test]
    fn one_series_that_always_jitters_does_not_keep_its_sensor_awake_but_more_than_its_jitter_does() {
        let mut it = adaptive();
        let noise = |at: i64| 1_000.0 + ((at * 7_919) % 13) as f64 * 40.0;
        assert_eq!(after(&mut it, 0..60, "system.file_descriptors.allocated", MetricType::Gauge, noise), 60);
        assert_eq!(after(&mut it, 60..61, "system.file_descriptors.allocated", MetricType::Gauge, |_| 4_000.0), 10);
    }

    #[test]
    fn what_appears_is_looked_at_closely_but_the_first_look_is_no_movement() {
        let mut it = adaptive();
        after(&mut it, 0..30, MEMORY, MetricType::Gauge, |_| 40.0);
        let both = [sample(MEMORY, MetricType::Gauge, 300, 40.0), sample("system.swap.usage_percent", MetricType::Gauge, 300, 0.0)];
        it.learn(&both);
        assert_eq!(it.current(false), seconds(10));
        assert_eq!(after(&mut adaptive(), 0..3, MEMORY, MetricType::Gauge, |_| 40.0), 20);
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let mut it = adaptive();
        for at in 0..10_000 {
            it.learn(&[sample(&format!("system.interface.{at}"), MetricType::Gauge, at, 1.0)]);
        }
        assert!(it.remembered() <= GONE + 2, "{}", it.remembered());
    }

    #[test]
    fn a_sensor_whose_intervals_are_equal_remembers_nothing() {
        let mut it = Adaptive::new(seconds(10), seconds(10));
        assert_eq!(after(&mut it, 0..9, MEMORY, MetricType::Gauge, |_| 40.0), 10);
        assert_eq!(it.remembered(), 0);
    }
}
