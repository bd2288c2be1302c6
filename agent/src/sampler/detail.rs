//! Which samples are only detail: taken because a sensor looks more often than its longest interval, and not on a mark of that.
//! While much waits to be delivered they go into batches of their own, so that a full buffer gives them up first and every
//! sensor keeps its coarse history. In ordinary times they do not: a second batch has a second dictionary of series, which is
//! more than half of what a batch weighs. Used by `seal`.

use std::sync::Arc;
use std::time::Duration;

use keyvigil_common::sample::Sample;

use crate::buffer::Buffer;

/// Bytes that wait before it is worth telling detail apart: about an hour of a host.
const CROWDED_BYTES: u64 = 1 << 20;
/// How long an answer of the buffer holds.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// What one sensor saw at one instant.
pub(super) type Seen = (&'static str, Duration, Vec<Sample>);

/// Tells detail apart.
#[derive(Debug, Default)]
pub(super) struct Details {
    /// Sensor and instant of what is pending and only detail.
    looks: Vec<(&'static str, i64)>,
    crowded: bool,
    asked: Option<Duration>,
}

impl Details {
    /// Notes a look at an interval of at most `longest`.
    pub(super) fn note(&mut self, sensor: &'static str, interval: Duration, longest: Duration, at_ms: i64) {
        let longest_ms = i64::try_from(longest.as_millis().max(1)).unwrap_or(i64::MAX);
        if interval < longest && at_ms.rem_euclid(longest_ms) != 0 {
            self.looks.push((sensor, at_ms));
        }
    }

    /// What is pending, parted: what must be kept, and what is only detail.
    pub(super) async fn part(&mut self, seen: Vec<Seen>, buffer: &Arc<Buffer>, now: Duration) -> (Vec<Seen>, Vec<Seen>) {
        let looks = std::mem::take(&mut self.looks);
        if self.asked.is_none_or(|asked| now >= asked + ASK_AGAIN) {
            self.asked = Some(now);
            let buffer = Arc::clone(buffer);
            let level = tokio::task::spawn_blocking(move || buffer.level()).await;
            self.crowded = level.is_ok_and(|level| level.is_ok_and(|level| level.bytes > CROWDED_BYTES));
        }
        if !self.crowded {
            return (seen, Vec::new());
        }
        // What the sampler tells of a sensor goes with what the sensor saw.
        seen.into_iter().partition(|(sensor, _, samples)| samples.first().is_none_or(|sample| !looks.contains(&(*sensor, sample.at_ms))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::{Bounds, New};
    use keyvigil_common::sample::{MetricType, Series, Tags};
    use keyvigil_common::seal::MasterKey;
    use keyvigil_common::wire::Class;

    fn second(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn seen(sensor: &'static str, at_ms: i64) -> Seen {
        let series = Series::new("test.metric", MetricType::Gauge, Tags::default()).unwrap();
        (sensor, second(10), vec![Sample { series, at_ms, value: 1.0, start_ms: None }])
    }

    /// Sensors that are kept and that are detail, of looks at 20 s and 60 s past the minute.
    async fn parted(waiting: usize) -> (Vec<&'static str>, Vec<&'static str>) {
        let dir = tempfile::tempdir().unwrap();
        let master = MasterKey::load_or_create(&dir.path().join("key")).unwrap();
        let buffer = Arc::new(Buffer::open(&dir.path().join("buffer.db"), &master, Bounds { bytes: 64 << 20, age_ms: i64::MAX }).unwrap());
        let batch = New { class: Class::Sample, items: 1, at_ms: 0, frame: vec![0; waiting], told: Vec::new() };
        buffer.append(&[batch], &[], &[], 0).unwrap();
        let mut details = Details::default();
        details.note("fast", second(10), second(60), 1_800_000_020_000);
        details.note("on the mark", second(10), second(60), 1_800_000_060_000);
        details.note("slow", second(60), second(60), 1_800_000_021_000);
        let all = vec![seen("fast", 1_800_000_020_000), seen("on the mark", 1_800_000_060_000), seen("slow", 1_800_000_021_000), seen("untold", 7)];
        let (kept, detail) = details.part(all, &buffer, second(1)).await;
        let names = |list: Vec<Seen>| list.into_iter().map(|(sensor, ..)| sensor).collect::<Vec<_>>();
        (names(kept), names(detail))
    }

    #[tokio::test]
    async fn what_the_longest_interval_would_not_have_shown_is_detail_once_much_waits() {
        assert_eq!(parted(2 << 20).await, (vec!["on the mark", "slow", "untold"], vec!["fast"]));
    }

    #[tokio::test]
    async fn while_little_waits_there_is_one_batch() {
        assert_eq!(parted(1_000).await.1, Vec::<&str>::new());
    }
}
