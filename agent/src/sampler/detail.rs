//! Which samples are only detail: taken because a sensor looks more often than its longest interval, and not on a mark of that.
//! While much waits to be delivered they go into batches of their own, so that a full buffer gives them up first and every
//! sensor keeps its coarse history. In ordinary times they do not: a second batch has a second dictionary of series, which is
//! more than half of what a batch weighs. Used by `seal`.

use std::time::Duration;

use keyvigil_common::sample::Sample;

/// Bytes that wait before it is worth telling detail apart: about an hour of a host.
const CROWDED_BYTES: u64 = 1 << 20;

/// What one sensor saw at one instant.
pub(super) type Seen = (&'static str, Duration, Vec<Sample>);

/// Tells detail apart.
#[derive(Debug, Default)]
pub(super) struct Details {
    /// Sensor and instant of what is pending and only detail.
    looks: Vec<(&'static str, i64)>,
}

impl Details {
    /// Notes a look at an interval of at most `longest`.
    pub(super) fn note(&mut self, sensor: &'static str, interval: Duration, longest: Duration, at_ms: i64) {
        let longest_ms = i64::try_from(longest.as_millis().max(1)).unwrap_or(i64::MAX);
        if interval < longest && at_ms.rem_euclid(longest_ms) != 0 {
            self.looks.push((sensor, at_ms));
        }
    }

    /// The clock by which looks are told was set.
    pub(super) fn shift(&mut self, by_ms: i64) {
        self.looks.iter_mut().for_each(|(_, at_ms)| *at_ms = at_ms.saturating_add(by_ms));
    }

    /// What is pending, parted while so many bytes wait: what must be kept, and what is only detail.
    pub(super) fn part(&mut self, seen: Vec<Seen>, waiting_bytes: u64) -> (Vec<Seen>, Vec<Seen>) {
        let looks = std::mem::take(&mut self.looks);
        if waiting_bytes <= CROWDED_BYTES {
            return (seen, Vec::new());
        }
        // What the sampler tells of a sensor goes with what the sensor saw.
        seen.into_iter().partition(|(sensor, _, samples)| samples.first().is_none_or(|sample| !looks.contains(&(*sensor, sample.at_ms))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyvigil_common::sample::{MetricType, Series, Tags};

    fn second(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn seen(sensor: &'static str, at_ms: i64) -> Seen {
        let series = Series::new("test.metric", MetricType::Gauge, Tags::default()).unwrap();
        (sensor, second(10), vec![Sample { series, at_ms, value: 1.0, start_ms: None }])
    }

    /// Sensors that are kept and that are detail, of looks at 20 s and 60 s past the minute.
    fn parted(waiting_bytes: u64) -> (Vec<&'static str>, Vec<&'static str>) {
        let mut details = Details::default();
        details.note("fast", second(10), second(60), 1_800_000_020_000);
        details.note("on the mark", second(10), second(60), 1_800_000_060_000);
        details.note("slow", second(60), second(60), 1_800_000_021_000);
        let all = vec![seen("fast", 1_800_000_020_000), seen("on the mark", 1_800_000_060_000), seen("slow", 1_800_000_021_000), seen("untold", 7)];
        let (kept, detail) = details.part(all, waiting_bytes);
        let names = |list: Vec<Seen>| list.into_iter().map(|(sensor, ..)| sensor).collect::<Vec<_>>();
        (names(kept), names(detail))
    }

    #[test]
    fn what_the_longest_interval_would_not_have_shown_is_detail_once_much_waits() {
        assert_eq!(parted(2 << 20), (vec!["on the mark", "slow", "untold"], vec!["fast"]));
    }

    #[test]
    fn while_little_waits_there_is_one_batch() {
        assert_eq!(parted(1_000).1, Vec::<&str>::new());
    }
}
