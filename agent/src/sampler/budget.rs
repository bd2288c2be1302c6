//! What the agent itself may cost: over its budget, sensors are asked less often, the dearest first and those of keys last;
//! well under it, they come back. [`plan`] decides, and knows neither time nor sensors; [`Budget`] measures and waits until
//! what was decided shows.

use std::collections::VecDeque;
use std::time::Duration;

/// Usage is that of this time.
const WINDOW: Duration = Duration::from_secs(60);
/// Looked at this often.
const STEP: Duration = Duration::from_secs(10);
/// Intervals are doubled so many times at most.
const LEVEL_MAX: u8 = 4;
/// Part of the budget below which sensors come back, and up to which they may.
const LOW: f64 = 0.7;
const REFILL: f64 = 0.85;
/// So many times the budget is too much even for what the aggregator asked for.
const HARD: f64 = 5.0;

/// What a sensor costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Load {
    /// Percent of a core, at the interval that it would have without a budget.
    pub(super) percent: f64,
    /// Stretched only when nothing else is left.
    pub(super) last: bool,
    /// The aggregator asked for its shortest interval.
    pub(super) enhanced: bool,
    /// How many times its interval is doubled now.
    pub(super) level: u8,
}

impl Load {
    fn now(&self) -> f64 {
        self.percent / f64::from(1_u32 << self.level)
    }
}

/// How many times each interval is to be doubled, for so many percent of a core that may be used and that are.
pub(super) fn plan(budget: f64, used: f64, loads: &[Load]) -> Vec<u8> {
    let mut levels: Vec<u8> = loads.iter().map(|load| load.level).collect();
    let mut order: Vec<usize> = (0..loads.len()).collect();
    let mut expected = used;
    if used > budget {
        let may = |load: &Load| load.level < LEVEL_MAX && (!load.enhanced || used > budget * HARD);
        order.sort_by(|a, b| loads[*a].last.cmp(&loads[*b].last).then(loads[*b].now().total_cmp(&loads[*a].now())));
        let usual_left = order.iter().any(|at| may(&loads[*at]) && !loads[*at].last);
        for at in order {
            // One step at a time: what a sensor's samples cost elsewhere is not known, and shows in a minute.
            if expected > budget && may(&loads[at]) && !(loads[at].last && usual_left) {
                levels[at] += 1;
                expected -= loads[at].now() / 2.0;
            }
        }
    } else if used < budget * LOW {
        order.sort_by(|a, b| loads[*b].last.cmp(&loads[*a].last).then(loads[*a].now().total_cmp(&loads[*b].now())));
        for at in order {
            if loads[at].level > 0 && expected + loads[at].now() <= budget * REFILL {
                levels[at] -= 1;
                expected += loads[at].now();
            }
        }
    }
    levels
}

/// Own usage against the budget.
#[derive(Debug)]
pub(super) struct Budget {
    /// Percent of a core; 0 for none.
    percent: f64,
    /// Time and processor time, one a step.
    seen: VecDeque<(Duration, Duration)>,
}

impl Budget {
    pub(super) fn new(percent: f64) -> Self {
        Self { percent, seen: VecDeque::new() }
    }

    /// Percent of a core over the last minute, or since the last change if that is shorter.
    pub(super) fn used(&self) -> Option<f64> {
        let ((from, before), (to, after)) = (self.seen.front()?, self.seen.back()?);
        let time = to.saturating_sub(*from).as_secs_f64();
        (time > 0.0).then(|| after.saturating_sub(*before).as_secs_f64() / time * 100.0)
    }

    /// Whether the last minute took more than even orders may.
    pub(super) fn is_far_over(&self) -> bool {
        self.percent > 0.0 && self.used().is_some_and(|used| used > self.percent * HARD)
    }

    /// Notes the processor time so far; the new levels when it is time to change some.
    pub(super) fn look(&mut self, now: Duration, spent: Duration, loads: impl FnOnce() -> Vec<Load>) -> Option<Vec<u8>> {
        if self.seen.back().is_some_and(|(last, _)| now < *last + STEP) {
            return None;
        }
        self.seen.push_back((now, spent));
        while self.seen.get(1).is_some_and(|(at, _)| *at + WINDOW <= now) {
            self.seen.pop_front();
        }
        let whole = self.seen.front().is_some_and(|(from, _)| *from + WINDOW <= now);
        let used = self.used().filter(|_| whole && self.percent > 0.0)?;
        let loads = loads();
        let levels = plan(self.percent, used, &loads);
        let changed = loads.iter().zip(&levels).any(|(load, level)| load.level != *level);
        if changed {
            // What comes next is judged by itself.
            self.seen.drain(..self.seen.len() - 1);
        }
        changed.then_some(levels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(percent: f64, level: u8) -> Load {
        Load { percent, last: false, enhanced: false, level }
    }

    fn key(percent: f64, level: u8) -> Load {
        Load { last: true, ..load(percent, level) }
    }

    fn enhanced(percent: f64, level: u8) -> Load {
        Load { enhanced: true, ..load(percent, level) }
    }

    #[test]
    fn the_dearest_is_stretched_first_and_keys_last() {
        let cases: &[(&str, f64, &[Load], &[u8])] = &[
            ("within the budget", 0.9, &[load(0.5, 0), load(0.4, 0)], &[0, 0]),
            ("the dearest is enough", 1.2, &[load(0.2, 0), load(0.6, 0), load(0.1, 0)], &[0, 1, 0]),
            ("it is not", 1.6, &[load(0.4, 0), load(0.6, 0), load(0.01, 0)], &[1, 1, 1]),
            ("dear, but stretched already", 1.1, &[load(0.8, 3), load(0.4, 0)], &[3, 1]),
            ("keys are dearest", 1.2, &[load(0.1, 0), key(1.0, 0)], &[1, 0]),
            ("only keys are left", 1.2, &[load(0.1, 4), key(1.0, 0)], &[4, 1]),
            ("nothing is left", 3.0, &[load(1.0, 4), key(1.0, 4)], &[4, 4]),
            ("an order wins", 1.5, &[enhanced(1.0, 0), load(0.1, 0)], &[0, 1]),
            ("but not at any price", 5.5, &[enhanced(5.0, 0), load(0.1, 0)], &[1, 1]),
            ("between low and full nothing changes", 0.8, &[load(0.1, 2), key(0.1, 1)], &[2, 1]),
            ("room again: keys first, then what is cheap", 0.6, &[load(0.8, 1), load(0.2, 1), key(0.2, 1)], &[1, 0, 0]),
            ("no room for the dear one", 0.6, &[load(2.0, 1)], &[1]),
        ];
        for (name, used, loads, expected) in cases {
            assert_eq!(plan(1.0, *used, loads), *expected, "{name}");
        }
    }

    #[test]
    fn a_minute_is_measured_before_each_change_and_what_was_decided_is_given_a_minute_to_show() {
        let mut budget = Budget::new(1.0);
        let second = |n: u64| Duration::from_secs(n);
        // Two percent of a core, then half of one.
        let mut changes = Vec::new();
        let (mut level, mut spent) = (0, 0.0);
        for at in 0..400_u64 {
            spent += if level == 0 { 0.02 } else { 0.008 };
            if let Some(levels) = budget.look(second(at), Duration::from_secs_f64(spent), || vec![load(2.0, level)]) {
                level = levels[0];
                changes.push((at, level));
            }
        }
        assert_eq!(changes, [(60, 1)]);
        assert!(budget.used().is_some_and(|used| (0.79..0.81).contains(&used)), "{:?}", budget.used());
    }

    #[test]
    fn without_a_budget_nothing_is_stretched() {
        let mut budget = Budget::new(0.0);
        for at in 0..200 {
            assert_eq!(budget.look(Duration::from_secs(at), Duration::from_secs(at), || vec![load(90.0, 0)]), None);
        }
        assert!(!budget.is_far_over());
    }
}
