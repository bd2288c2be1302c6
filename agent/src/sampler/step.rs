//! Whether the wall clock was set while something waits to be sealed. The aggregator puts a batch to its time as a whole, by what
//! the clock shows when it is sealed: what was seen before the clock was set must be told by the clock as it is then.

use keyvigil_common::event::Event;
use keyvigil_common::key::Sighting;
use keyvigil_common::sample::Sample;

/// Less than this is left as it is, ms: so far the aggregator moves nothing.
const STEP_MS: i64 = 60_000;

/// Follows one wall clock.
#[derive(Debug, Default)]
pub(super) struct Steps(Option<i64>);

impl Steps {
    /// When the host was started, by the wall clock as it was looked at last, Unix ms.
    pub(super) fn booted_ms(&self) -> i64 {
        self.0.unwrap_or(0)
    }

    /// By how much the clock was set since it was looked at last; 0 if it was not. `boot_ms`: time since boot.
    pub(super) fn since_last(&mut self, wall_ms: i64, boot_ms: i64) -> i64 {
        let booted_ms = wall_ms.saturating_sub(boot_ms);
        let by_ms = booted_ms.saturating_sub(*self.0.get_or_insert(booted_ms));
        if by_ms.saturating_abs() < STEP_MS {
            return 0;
        }
        self.0 = Some(booted_ms);
        by_ms
    }
}

/// Moves what was seen.
pub(super) fn shift(by_ms: i64, samples: &mut [Sample], sightings: &mut [Sighting], events: &mut [Event]) {
    let moved = |at: &mut i64| *at = at.saturating_add(by_ms);
    for sample in samples {
        moved(&mut sample.at_ms);
        sample.start_ms.iter_mut().for_each(moved);
    }
    sightings.iter_mut().map(|sighting| &mut sighting.at_ms).for_each(moved);
    events.iter_mut().map(|event| &mut event.at_ms).for_each(moved);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_is_told_once_and_one_that_drifts_or_a_host_that_sleeps_is_not() {
        let mut steps = Steps::default();
        assert_eq!(steps.since_last(1_000_000, 5_000), 0);
        assert_eq!(steps.since_last(1_070_000, 65_000), 0, "ten seconds by drift");
        assert_eq!(steps.since_last(1_070_000 + 7_200_000, 65_000 + 7_200_000), 0, "asleep");
        assert_eq!(steps.since_last(1_070_000 - 3_600_000, 65_000), 10_000 - 3_600_000);
        assert_eq!(steps.since_last(1_071_000 - 3_600_000, 66_000), 0);
    }
}
