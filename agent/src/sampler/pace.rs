//! How often one sensor is asked in the end: what its values ask for, what the aggregator orders, and what the agent's own
//! budget allows, in one place; and when that is told. Called by the sampler.

use std::time::Duration;

use keyvigil_common::sample::Sample;

use super::adaptive::Adaptive;
use super::budget::Load;

/// No budget makes a sensor look less often than this, or than its longest interval.
const STRETCHED_MAX: Duration = Duration::from_secs(600);
/// An interval that does not change is told again after this time, the look-back of a query.
const TELL_AGAIN: Duration = Duration::from_secs(290);
/// How much of what a look cost lately the last one counts.
const LATEST: f64 = 0.2;

/// The pace of one sensor.
#[derive(Debug)]
pub(super) struct Pace {
    adaptive: Adaptive,
    last: bool,
    enhanced: bool,
    /// How many times the budget doubles the interval, and whether it does so even against orders.
    level: u8,
    far_over: bool,
    /// Seconds of processor time of a look.
    cost: f64,
    told: Option<(Duration, Duration)>,
}

impl Pace {
    /// `last`: the budget comes to it last.
    pub(super) fn new(adaptive: Adaptive, last: bool) -> Self {
        Self { adaptive, last, enhanced: false, level: 0, far_over: false, cost: 0.0, told: None }
    }

    /// The interval now.
    pub(super) fn current(&self, enhanced: bool) -> Duration {
        let asked = self.adaptive.current(enhanced);
        if enhanced && !self.far_over { asked } else { self.stretched(asked) }
    }

    /// The shortest interval that the budget allows.
    pub(super) fn at_once(&self) -> Duration {
        self.stretched(self.adaptive.shortest())
    }

    fn stretched(&self, asked: Duration) -> Duration {
        match self.level {
            0 => asked,
            level => (asked * (1 << level)).min(STRETCHED_MAX.max(self.adaptive.longest())),
        }
    }

    /// The longest that values may stretch it to.
    pub(super) fn longest(&self) -> Duration {
        self.adaptive.longest()
    }

    /// Learns from what a look showed and cost; whether what it showed moved.
    pub(super) fn learn(&mut self, samples: &[Sample], cost: Duration, enhanced: bool) -> bool {
        self.enhanced = enhanced;
        let cost = cost.as_secs_f64();
        self.cost = if self.cost == 0.0 { cost } else { self.cost + (cost - self.cost) * LATEST };
        self.adaptive.learn(samples)
    }

    /// What it costs.
    pub(super) fn load(&self) -> Load {
        let percent = self.cost / self.adaptive.current(self.enhanced).as_secs_f64() * 100.0;
        Load { percent, last: self.last, enhanced: self.enhanced, level: self.level }
    }

    /// Takes what the budget says.
    pub(super) fn stretch(&mut self, level: u8, far_over: bool) {
        (self.level, self.far_over) = (level, far_over);
    }

    /// The interval, if it has changed since it was last told, or if that is long ago.
    pub(super) fn telling(&mut self, enhanced: bool, now: Duration) -> Option<Duration> {
        let interval = self.current(enhanced);
        if self.told.is_some_and(|(told, at)| told == interval && now < at + TELL_AGAIN) {
            return None;
        }
        self.told = Some((interval, now));
        Some(interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn pace(min: u64, max: u64) -> Pace {
        Pace::new(Adaptive::new(seconds(min), seconds(max)), false)
    }

    #[test]
    fn orders_win_over_the_budget_until_it_is_far_exceeded() {
        let mut pace = pace(10, 60);
        pace.stretch(2, false);
        assert_eq!((pace.current(false), pace.current(true)), (seconds(40), seconds(10)));
        pace.stretch(2, true);
        assert_eq!(pace.current(true), seconds(40));
        pace.stretch(0, false);
        assert_eq!(pace.current(false), seconds(10));
    }

    #[test]
    fn no_budget_makes_a_sensor_blind() {
        for (min, max, longest) in [(60, 300, 600), (900, 1_800, 1_800)] {
            let mut pace = pace(min, max);
            pace.stretch(4, true);
            assert_eq!(pace.current(false), seconds(longest));
        }
    }

    #[test]
    fn an_interval_is_told_when_it_changes_and_before_a_query_would_lose_it() {
        let mut pace = pace(10, 60);
        let mut told = Vec::new();
        for at in (0..900).step_by(10) {
            if at == 300 {
                pace.stretch(1, false);
            }
            told.extend(pace.telling(false, seconds(at)).map(|interval| (at, interval.as_secs())));
        }
        assert_eq!(told, [(0, 10), (290, 10), (300, 20), (590, 20), (880, 20)]);
    }

    #[test]
    fn what_a_sensor_costs_follows_its_looks_and_its_interval() {
        let mut pace = pace(10, 10);
        pace.learn(&[], Duration::from_millis(100), false);
        assert!((pace.load().percent - 1.0).abs() < 1e-9);
        for _ in 0..30 {
            pace.learn(&[], Duration::from_millis(10), false);
        }
        assert!((0.1..0.11).contains(&pace.load().percent), "{:?}", pace.load());
    }
}
