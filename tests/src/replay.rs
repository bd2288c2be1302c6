//! A recording played to the controller of adaptive sampling: what it would have taken, what of that was saved, and what it
//! would have missed. The measures are those of `docs/adr/0006-a-light-agent.md`:
//!
//! An *excursion* is seen in samples at the shortest interval: a series leaves the controller's own band and stays outside of
//! what the band was for at least two of them. It is *missed* if no adaptive sample of the longest interval from its first one
//! on lies outside that band as well. A counter's value here is its growth a second, which an adaptive sample shows over its
//! own, longer interval.

use std::collections::BTreeMap;
use std::time::Duration;

use keyvigil_agent::collect::COLLECTORS;
use keyvigil_agent::sampler::adaptive::{Adaptive, Band, nothing};
use keyvigil_common::sample::{MetricType, Sample};

use crate::recording::{Recording, STEP_MS};

/// Shortest interval of all that is recorded, ms.
const SHORTEST_MS: i64 = 10_000;
/// Aggregates are compared over windows of this length.
const WINDOW_MS: i64 = 300_000;
/// What never changes would still be sent so often.
const HEARTBEAT_MS: i64 = 60_000;
/// Its values are means since the look before.
const OVER_INTERVAL: &str = "system.cpu.usage_total";

/// What became of one sensor.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Looks at the shortest interval, and adaptive ones.
    pub looks: (usize, usize),
    /// Samples of these.
    pub samples: (usize, usize),
    /// Excursions, and those that no adaptive sample shows.
    pub excursions: (usize, usize),
    /// Relative errors over windows: mean, highest value, growth; one a series and window.
    pub mean: Vec<f64>,
    /// Highest value.
    pub highest: Vec<f64>,
    /// Growth of counters.
    pub growth: Vec<f64>,
}

impl Outcome {
    /// Part of the samples that were not taken.
    #[must_use]
    pub fn saved(&self) -> f64 {
        1.0 - self.samples.1 as f64 / self.samples.0.max(1) as f64
    }

    /// Part of the excursions that were missed.
    #[must_use]
    pub fn missed(&self) -> f64 {
        self.excursions.1 as f64 / self.excursions.0.max(1) as f64
    }
}

/// The value below which so much of the list lies.
#[must_use]
pub fn quantile(list: &[f64], part: f64) -> f64 {
    let mut sorted = list.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(((sorted.len() as f64 * part) as usize).min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0)
}

/// Plays a recording: by sensor, what became of it.
#[must_use]
pub fn replay(recording: &Recording) -> BTreeMap<String, Outcome> {
    let mut out: BTreeMap<String, Outcome> = BTreeMap::new();
    let fixed: Vec<usize> = (0..recording.times.len()).filter(|at| recording.times[*at] % SHORTEST_MS == 0).collect();
    for (columns, adaptive) in looks(recording) {
        let sensor = columns.first().map_or("", |column| &recording.head[*column].sensor);
        let outcome = out.entry(sensor.to_owned()).or_default();
        outcome.looks = (fixed.len(), adaptive.len());
        for column in columns {
            let view = View { recording, column };
            outcome.samples.0 += fixed.len();
            outcome.samples.1 += adaptive.len();
            view.excursions(&fixed, &adaptive, &mut outcome.excursions);
            view.windows(&adaptive, outcome);
        }
    }
    out
}

/// The columns of each sensor, and the places in the recording's times at which it looks.
pub(crate) fn looks(recording: &Recording) -> Vec<(Vec<usize>, Vec<usize>)> {
    let mut sensors: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, recorded) in recording.head.iter().enumerate() {
        sensors.entry(&recorded.sensor).or_default().push(at);
    }
    let sensors: Vec<Vec<usize>> = sensors.into_values().collect();
    let looks = schedule(recording, sensors.clone());
    sensors.into_iter().zip(looks).collect()
}

/// A sensor's longest interval by default, ms.
fn longest_ms(sensor: &str) -> i64 {
    let row = COLLECTORS.iter().find(|row| row.name == sensor);
    row.map_or(SHORTEST_MS, |row| i64::try_from(row.interval_seconds.1 * 1_000).unwrap_or(i64::MAX))
}

/// A sensor in its schedule.
struct Slot {
    columns: Vec<usize>,
    adaptive: Adaptive,
    due: i64,
    looks: Vec<usize>,
}

/// The instants at which each sensor looks, as the sampler schedules them.
fn schedule(recording: &Recording, sensors: Vec<Vec<usize>>) -> Vec<Vec<usize>> {
    let length = |ms: i64| Duration::from_millis(ms.unsigned_abs());
    let slot = |columns: Vec<usize>| {
        let longest = columns.first().map_or(SHORTEST_MS, |column| longest_ms(&recording.head[*column].sensor));
        Slot { columns, adaptive: Adaptive::new(length(SHORTEST_MS), length(longest)), due: 0, looks: Vec::new() }
    };
    let mut slots: Vec<Slot> = sensors.into_iter().map(slot).collect();
    for (at, now) in recording.times.iter().copied().enumerate().filter(|(_, now)| now % SHORTEST_MS == 0) {
        let mut moved = false;
        for slot in slots.iter_mut().filter(|slot| slot.due <= now) {
            moved |= slot.look(recording, at, now);
        }
        // Those of a host look together.
        if moved {
            slots.iter_mut().for_each(|slot| slot.due = slot.due.min(now + SHORTEST_MS));
        }
    }
    slots.into_iter().map(|slot| slot.looks).collect()
}

impl Slot {
    fn look(&mut self, recording: &Recording, at: usize, now: i64) -> bool {
        let next = |adaptive: &Adaptive| {
            let interval = i64::try_from(adaptive.current(false).as_millis()).unwrap_or(SHORTEST_MS);
            (now / interval + 1) * interval
        };
        let due = next(&self.adaptive);
        let samples = self.columns.iter().filter_map(|column| {
            let value = View { recording, column: *column }.value(self.looks.last().copied(), at);
            let series = recording.head[*column].series.clone();
            value.is_finite().then_some(Sample { series, at_ms: now, value, start_ms: None })
        });
        let moved = self.adaptive.learn(&samples.collect::<Vec<_>>());
        self.due = due.min(next(&self.adaptive));
        self.looks.push(at);
        moved
    }
}

/// What it would save to send a value only when it changes, with the last one before, and once a minute: the part
/// of the samples that are still sent, and the relative errors of gauges' means over windows of so many ms.
#[must_use]
pub fn held(recording: &Recording, window_ms: i64) -> (f64, Vec<f64>) {
    let times = &recording.times;
    let fixed: Vec<usize> = (0..times.len()).filter(|at| times[*at] % SHORTEST_MS == 0).collect();
    let (mut sent, mut all, mut errors) = (0_usize, 0_usize, Vec::new());
    for (column, values) in recording.columns.iter().enumerate() {
        let mut some: Vec<usize> = Vec::new();
        for (place, at) in fixed.iter().copied().enumerate() {
            let last = some.last().copied();
            if last.is_some_and(|last| values[last] == values[at] && times[at] < times[last] + HEARTBEAT_MS) {
                continue;
            }
            some.extend(
                place.checked_sub(1).map(|before| fixed[before]).filter(|before| last.is_some_and(|last| last < *before && values[last] != values[at])),
            );
            some.push(at);
        }
        (sent, all) = (sent + some.len(), all + fixed.len());
        let (Some(first), Some(last), true) = (times.first(), times.last(), View { recording, column }.is_gauge()) else { continue };
        let mean = |list: &[usize], begin: i64| {
            let inside: Vec<f64> = list.iter().filter(|at| (begin..begin + window_ms).contains(&times[**at])).map(|at| values[*at]).collect();
            inside.iter().sum::<f64>() / inside.len() as f64
        };
        for begin in (first + STEP_MS..last - window_ms).step_by(usize::try_from(window_ms).unwrap_or(usize::MAX)) {
            let (truth, told) = (mean(&fixed, begin), mean(&some, begin));
            errors.push(if told.is_nan() { 1.0 } else { (truth - told).abs() / truth.abs().max(1e-9) });
        }
    }
    (sent as f64 / all.max(1) as f64, errors)
}

/// One series of a recording.
struct View<'a> {
    recording: &'a Recording,
    column: usize,
}

impl View<'_> {
    fn id(&self) -> &str {
        &self.recording.head[self.column].series.metric_id
    }

    fn is_gauge(&self) -> bool {
        self.recording.head[self.column].series.metric_type == MetricType::Gauge
    }

    /// What a sample at `at` holds that follows one at `before`.
    fn value(&self, before: Option<usize>, at: usize) -> f64 {
        let column = &self.recording.columns[self.column];
        match before {
            Some(before) if self.id() == OVER_INTERVAL => column[before + 1..=at].iter().sum::<f64>() / (at - before) as f64,
            _ => column[at],
        }
    }

    /// What a sample at `at` shows beside one at `before`: its value, or the growth a second.
    fn shown(&self, before: usize, at: usize) -> f64 {
        if self.is_gauge() {
            return self.value(Some(before), at);
        }
        let seconds = (self.recording.times[at] - self.recording.times[before]) as f64 / 1_000.0;
        (self.value(None, at) - self.value(None, before)).max(0.0) / seconds
    }

    fn excursions(&self, fixed: &[usize], adaptive: &[usize], (seen, missed): &mut (usize, usize)) {
        let nothing = nothing(self.id());
        let times = &self.recording.times;
        let shown: Vec<(usize, f64)> = fixed.windows(2).map(|pair| (pair[1], self.shown(pair[0], pair[1]))).filter(|(_, x)| x.is_finite()).collect();
        let Some((_, first)) = shown.first() else { return };
        let mut band = Band::new(*first);
        let (mut over, longest) = (0, longest_ms(&self.recording.head[self.column].sensor));
        for (place, (at, x)) in shown.iter().enumerate() {
            let (middle, width) = (band.middle, band.width(nothing));
            let outside = |x: f64| (x - middle).abs() > width;
            if !band.left(*x, nothing) || times[*at] < over {
                continue;
            }
            let length = shown[place..].iter().take_while(|(_, x)| outside(*x)).count();
            if length < 2 {
                continue;
            }
            *seen += 1;
            over = shown.get(place + length).map_or(i64::MAX, |(end, _)| times[*end]);
            // The sample at the begin shows growth since the one before it.
            let from = times[*at] - if self.is_gauge() { 0 } else { SHORTEST_MS };
            let shows = adaptive.windows(2).any(|pair| {
                let time = times[pair[1]];
                time >= from && time <= times[*at] + longest && outside(self.shown(pair[0], pair[1]))
            });
            *missed += usize::from(!shows);
        }
    }

    /// Errors of what a query over each window would tell.
    fn windows(&self, adaptive: &[usize], outcome: &mut Outcome) {
        let times = &self.recording.times;
        let (Some(first), Some(last)) = (times.first(), times.last()) else { return };
        let per_second = |list: &[usize]| match list {
            [from, .., to] => self.shown(*from, *to),
            _ => f64::NAN,
        };
        let floor = nothing(self.id()).min(1e12);
        // Not on a mark: windows whose ends every interval meets would flatter.
        let mut begin = (first / WINDOW_MS + 1) * WINDOW_MS + STEP_MS;
        while begin + WINDOW_MS <= *last {
            let inside = |at: &usize| (begin..=begin + WINDOW_MS).contains(&times[*at]);
            let all: Vec<usize> = (0..times.len()).filter(inside).collect();
            let some: Vec<usize> = adaptive.iter().copied().filter(inside).collect();
            begin += WINDOW_MS;
            let values = |list: &[usize]| -> Vec<f64> { list.iter().map(|at| self.recording.columns[self.column][*at]).filter(|x| x.is_finite()).collect() };
            let (full, seen) = (values(&all), self.seen(adaptive, &some));
            if full.is_empty() || seen.is_empty() {
                continue;
            }
            let error = |truth: f64, told: f64| (truth - told).abs() / truth.abs().max(floor);
            if self.is_gauge() {
                let mean = |list: &[f64]| list.iter().sum::<f64>() / list.len() as f64;
                let highest = |list: &[f64]| list.iter().copied().fold(f64::MIN, f64::max);
                outcome.mean.push(error(mean(&full), mean(&seen)));
                outcome.highest.push(error(highest(&full), highest(&seen)));
            } else if some.len() > 1 {
                outcome.growth.push(error(per_second(&all), per_second(&some)));
            }
        }
    }

    /// Values of the adaptive samples `some`.
    fn seen(&self, adaptive: &[usize], some: &[usize]) -> Vec<f64> {
        let before = |at: usize| adaptive.partition_point(|other| *other < at).checked_sub(1).map(|place| adaptive[place]);
        some.iter().map(|at| self.value(before(*at), *at)).filter(|x| x.is_finite()).collect()
    }
}

/// The table of a replay.
#[must_use]
pub fn table(recording: &Recording) -> String {
    let hours = recording.times.len() as f64 * STEP_MS as f64 / 3_600_000.0;
    let mut out = format!("{hours:.2} h, {} series\n", recording.head.len());
    out += "sensor    looks, fixed  adaptive  saved   excursions  missed     mean p50     p90     highest p50     p90     growth p50     p90\n";
    for (sensor, it) in replay(recording) {
        let errors: Vec<String> =
            [&it.mean, &it.highest, &it.growth].iter().map(|list| format!("{:>11.3}{:>8.3}", quantile(list, 0.5), quantile(list, 0.9))).collect();
        out += &format!(
            "{sensor:<10}{:>12}{:>10}{:>6.1}%{:>13}{:>8}{}\n",
            it.looks.0,
            it.looks.1,
            it.saved() * 100.0,
            it.excursions.0,
            it.excursions.1,
            errors.join("  ")
        );
    }
    out
}
