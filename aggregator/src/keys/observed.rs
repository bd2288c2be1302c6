//! Since when the use of keys is observed on a host, by which sensor, with which interruptions, and what the sensors say that they
//! cannot see. No record of use is a proof of no use only as far as this reaches. Knows no store: the fleet keeps it with the agent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Counters of the sensors that grow only by losses: a sample of one says that its sensor saw at that time.
const PROOFS: [(&str, Sensor); 2] = [("crypto.access.lost_total", Sensor::Access), ("crypto.operations.lost_total", Sensor::Operations)];
/// Between two looks of a sensor that lies further apart nothing was observed, ms: a start of the agent is no interruption, as the
/// helper goes on counting meanwhile.
const APART_MS_MIN: i64 = 5 * 60_000;
/// Stretches that are kept apart; of older ones only how much lay between them.
const STRETCHES_MAX: usize = 32;
/// What is told that a sensor cannot see; beyond it, only that there is more.
const GAPS_MAX: usize = 64;

/// A sensor of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sensor {
    /// Opens of key files.
    Access,
    /// Signatures, decryptions and the like.
    Operations,
}

impl Sensor {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Access, Self::Operations];

    /// Its name, as the agent has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Access => "access",
            Self::Operations => "operations",
        }
    }

    /// The sensor of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|sensor| sensor.as_str() == name)
    }

    /// The sensor that a sample of this metric proves to see.
    #[must_use]
    pub fn proven_by(metric_id: &str) -> Option<Self> {
        PROOFS.iter().find(|(metric, _)| *metric == metric_id).map(|(_, sensor)| *sensor)
    }
}

/// When a sensor saw.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sight {
    /// First and last ms of each stretch without an interruption, ascending.
    stretches: Vec<(i64, i64)>,
    /// How long it did not see before the second of them, ms.
    #[serde(default)]
    lapsed_ms: i64,
    /// When it began, where that was before the first of them.
    #[serde(default)]
    began_ms: Option<i64>,
    /// How far apart two looks lay at most, ms.
    #[serde(default)]
    apart_ms: i64,
}

impl Sight {
    /// It saw from `first` to `last`, looking every `interval_ms`.
    pub fn saw(&mut self, (first, last): (i64, i64), interval_ms: u32) {
        self.apart_ms = (i64::from(interval_ms) * 3).max(APART_MS_MIN);
        let (mut from, mut to) = (first.min(last), first.max(last));
        if self.began_ms.is_some() && self.stretches.first().is_some_and(|kept| to < kept.0) {
            // Of that time it is not known any more what was seen: it stays counted as not.
            return;
        }
        let touches = |stretch: &(i64, i64)| stretch.0 <= to.saturating_add(self.apart_ms) && stretch.1 >= from.saturating_sub(self.apart_ms);
        let touched: Vec<(i64, i64)> = self.stretches.iter().copied().filter(touches).collect();
        self.stretches.retain(|stretch| !touched.contains(stretch));
        for (start, end) in touched {
            (from, to) = (from.min(start), to.max(end));
        }
        let at = self.stretches.partition_point(|stretch| stretch.0 < from);
        self.stretches.insert(at, (from, to));
        while self.stretches.len() > STRETCHES_MAX {
            let (start, end) = self.stretches.remove(0);
            self.began_ms = Some(self.began_ms.map_or(start, |known| known.min(start)));
            self.lapsed_ms += self.stretches.first().map_or(0, |next| (next.0 - end).max(0));
        }
    }

    /// When it began, Unix ms.
    #[must_use]
    pub fn since_ms(&self) -> Option<i64> {
        self.began_ms.or_else(|| self.stretches.first().map(|stretch| stretch.0))
    }

    /// When it saw last.
    #[must_use]
    pub fn last_ms(&self) -> Option<i64> {
        self.stretches.last().map(|stretch| stretch.1)
    }

    /// For how long it did not see in all of that time, ms.
    #[must_use]
    pub fn lapsed_ms(&self) -> i64 {
        self.lapsed_ms + self.stretches.windows(2).map(|pair| pair[1].0 - pair[0].1).sum::<i64>()
    }

    /// The latest stretch without sight that reached into the time from `from` on.
    #[must_use]
    pub fn lapse_within(&self, from: i64) -> Option<(i64, i64)> {
        self.stretches.windows(2).rev().map(|pair| (pair[0].1, pair[1].0)).find(|(_, end)| *end > from)
    }

    /// Whether it sees at `now_ms`.
    #[must_use]
    pub fn sees(&self, now_ms: i64) -> bool {
        self.last_ms().is_some_and(|last| now_ms - last <= self.apart_ms.max(APART_MS_MIN))
    }

    /// How long it saw after `from` up to `now_ms`, ms.
    #[must_use]
    pub fn seen_since_ms(&self, from: i64, now_ms: i64) -> i64 {
        let early = self.began_ms.filter(|_| !self.stretches.is_empty());
        let before = early.zip(self.stretches.first()).map_or(0, |(began, first)| (first.0 - began.max(from)).max(0) - self.lapsed_ms);
        let within = self.stretches.iter().map(|(start, end)| ((*end).min(now_ms) - (*start).max(from)).max(0)).sum::<i64>();
        before.max(0) + within
    }
}

/// What a host's sensors of use see.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// By sensor.
    #[serde(default)]
    pub sights: BTreeMap<Sensor, Sight>,
    /// What they say that they cannot see, and why.
    #[serde(default)]
    pub gaps: BTreeMap<Sensor, BTreeMap<String, String>>,
}

impl Observed {
    /// Notes what a batch proves.
    pub fn saw(&mut self, sensor: Sensor, span: (i64, i64), interval_ms: u32) {
        self.sights.entry(sensor).or_default().saw(span, interval_ms);
    }

    /// A sensor cannot see `what`, or sees it again.
    pub fn told(&mut self, sensor: Sensor, what: &str, reason: Option<&str>) {
        let gaps = self.gaps.entry(sensor).or_default();
        match reason {
            Some(reason) if gaps.len() < GAPS_MAX || gaps.contains_key(what) => drop(gaps.insert(what.to_owned(), reason.to_owned())),
            Some(_) => {}
            None => drop(gaps.remove(what)),
        }
    }

    /// Takes in what an earlier agent of the same host observed.
    pub fn absorb(&mut self, earlier: &Self) {
        for (sensor, sight) in &earlier.sights {
            let own = self.sights.entry(*sensor).or_default();
            let interval = u32::try_from(sight.apart_ms / 3).unwrap_or(u32::MAX);
            sight.stretches.iter().for_each(|stretch| own.saw(*stretch, interval));
            own.lapsed_ms += sight.lapsed_ms;
            own.began_ms = own.began_ms.into_iter().chain(sight.began_ms).min();
        }
    }

    /// When a sensor began to see, Unix ms.
    #[must_use]
    pub fn since_ms(&self, sensor: Sensor) -> Option<i64> {
        self.sights.get(&sensor).and_then(Sight::since_ms)
    }

    /// How long something saw the use of keys after `from`, ms: the sensor that saw the most.
    #[must_use]
    pub fn seen_since_ms(&self, from: i64, now_ms: i64) -> i64 {
        self.sights.values().map(|sight| sight.seen_since_ms(from, now_ms)).max().unwrap_or(0)
    }

    /// Whether one of them sees at `now_ms`.
    #[must_use]
    pub fn sees(&self, now_ms: i64) -> bool {
        self.sights.values().any(|sight| sight.sees(now_ms))
    }

    /// When the first of them began to see.
    #[must_use]
    pub fn began_ms(&self) -> Option<i64> {
        self.sights.values().filter_map(Sight::since_ms).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60_000;

    #[test]
    fn looks_make_a_stretch_an_interruption_is_counted_and_a_backlog_fills_it() {
        let mut sight = Sight::default();
        for at in 0..10 {
            sight.saw((at * MINUTE, at * MINUTE), 60_000);
        }
        assert_eq!((sight.since_ms(), sight.last_ms(), sight.lapsed_ms()), (Some(0), Some(9 * MINUTE), 0));
        sight.saw((60 * MINUTE, 61 * MINUTE), 60_000);
        assert_eq!((sight.lapsed_ms(), sight.lapse_within(0)), (51 * MINUTE, Some((9 * MINUTE, 60 * MINUTE))));
        assert_eq!((sight.seen_since_ms(0, 100 * MINUTE), sight.seen_since_ms(5 * MINUTE, 100 * MINUTE)), (10 * MINUTE, 5 * MINUTE));
        sight.saw((10 * MINUTE, 59 * MINUTE), 60_000);
        assert_eq!((sight.lapsed_ms(), sight.lapse_within(0)), (0, None), "what was delivered later was observed all the same");
        assert_eq!([63, 66, 67].map(|at| sight.sees(at * MINUTE)), [true, true, false]);
    }

    #[test]
    fn of_many_interruptions_the_old_ones_still_count() {
        let mut sight = Sight::default();
        for at in 0..100 {
            sight.saw((at * 60 * MINUTE, at * 60 * MINUTE + 30 * MINUTE), 10_000);
        }
        assert_eq!((sight.since_ms(), sight.lapsed_ms()), (Some(0), 99 * 30 * MINUTE));
        assert!(sight.stretches.len() <= STRETCHES_MAX);
        assert_eq!(sight.seen_since_ms(0, 1_000 * 60 * MINUTE), 100 * 30 * MINUTE);
    }
}
