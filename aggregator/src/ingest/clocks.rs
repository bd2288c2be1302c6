//! The clocks of hosts against ours. Each push tells what the host's wall clock shows and how long ago it was started; each
//! batch, how long after the start it was sealed. So the age of a batch is known whatever the wall clock showed then, and one
//! from a clock that was far off is put to its time by ours. Small differences are told and left alone.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use keyvigil_common::limits::FUTURE_MS_MAX;
use keyvigil_common::wire::{Batch, Sender};

use crate::index::TenantId;

/// A way to us that takes longer than the shortest one by less than this is no other clock, ms.
const TRANSIT_MS: i64 = 30_000;
/// Hosts heard of within this time have a say on whether our own clock is wrong, ms.
const VOTE_MS: i64 = 600_000;
/// Fewer hosts than this have none.
const VOTES_MIN: usize = 3;

/// What is known of the hosts' clocks.
#[derive(Debug, Default)]
pub(super) struct Clocks(Mutex<HashMap<(TenantId, String), Known>>);

#[derive(Debug, Clone, Copy)]
struct Known {
    boot: [u8; 16],
    /// What our clock showed when the host was started.
    started_ms: i64,
    offset_ms: i64,
    heard_ms: i64,
    /// That it is far off was told.
    told: bool,
}

/// What a push tells of its host's clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    boot: [u8; 16],
    started_ms: i64,
    /// How far the host's wall clock is behind ours, ms; its way to us included.
    pub(super) offset_ms: i64,
    /// It is far off, and that is not told yet.
    pub(super) news: bool,
    /// Most hosts agree against us.
    ours_is_wrong: bool,
}

impl Clocks {
    /// Learns from a push that arrived at `now_ms`.
    pub(super) fn heard(&self, tenant: TenantId, agent: &str, sender: &Sender, now_ms: i64) -> Reading {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (offset_ms, started_ms) = (now_ms.saturating_sub(sender.wall_ms), now_ms.saturating_sub(sender.boot_ms));
        let fresh = Known { boot: sender.boot, started_ms, offset_ms, heard_ms: now_ms, told: false };
        let known = all.entry((tenant, agent.to_owned())).or_insert(fresh);
        let steady = known.boot == sender.boot && (known.started_ms..known.started_ms.saturating_add(TRANSIT_MS)).contains(&started_ms);
        let off = is_far(offset_ms);
        let news = off && !known.told;
        *known = Known { started_ms: if steady { known.started_ms } else { started_ms }, told: off && known.told, ..fresh };
        let known = *known;
        Reading { boot: sender.boot, started_ms: known.started_ms, offset_ms, news, ours_is_wrong: off && outvoted(&all, now_ms) }
    }

    /// That an agent's host is far off is on disk.
    pub(super) fn told(&self, tenant: TenantId, agent: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get_mut(&(tenant, agent.to_owned())).into_iter().for_each(|known| known.told = true);
    }
}

/// Whether most hosts that were heard of lately are off, all to one side: then it is our clock that is wrong.
fn outvoted(all: &HashMap<(TenantId, String), Known>, now_ms: i64) -> bool {
    let lately = all.values().filter(|known| (now_ms - known.heard_ms).abs() < VOTE_MS);
    let (mut hosts, mut ahead, mut behind) = (0usize, 0usize, 0usize);
    for known in lately {
        hosts += 1;
        ahead += usize::from(known.offset_ms < -FUTURE_MS_MAX);
        behind += usize::from(known.offset_ms > FUTURE_MS_MAX);
    }
    hosts >= VOTES_MIN && 2 * ahead.max(behind) > hosts
}

fn is_far(offset_ms: i64) -> bool {
    offset_ms.saturating_abs() > FUTURE_MS_MAX
}

impl Reading {
    /// By how much the times of a batch must be moved to be right by our clock, ms; 0 where they are near enough, where the
    /// host was started anew since, or where our own clock is in doubt.
    pub(super) fn shift_ms(&self, batch: &Batch) -> i64 {
        let Some(sealed) = batch.sealed.filter(|sealed| sealed.boot == self.boot && !self.ours_is_wrong) else { return 0 };
        let skew = self.started_ms.saturating_add(sealed.boot_ms).saturating_sub(batch.sealed_ms);
        if is_far(skew) { skew } else { 0 }
    }

    /// Whether a batch's times can never be known: sealed by a clock that was wrong, by one that is right now, before the host
    /// was started anew.
    pub(super) fn is_timeless(&self, batch: &Batch) -> bool {
        batch.sealed.is_some_and(|sealed| sealed.boot != self.boot) && !is_far(self.offset_ms)
    }
}

/// Moves all that a batch tells the time of.
pub(super) fn shift(batch: &mut Batch, by_ms: i64) {
    let moved = |at: &mut i64| *at = at.saturating_add(by_ms);
    moved(&mut batch.sealed_ms);
    for group in &mut batch.groups {
        group.times.iter_mut().for_each(moved);
        group.columns.iter_mut().map(|column| &mut column.start_ms).filter(|start| **start != 0).for_each(moved);
    }
    batch.sightings.iter_mut().map(|sighting| &mut sighting.at_ms).for_each(moved);
    batch.events.iter_mut().map(|event| &mut event.at_ms).for_each(moved);
    batch.gaps.iter_mut().map(|gap| &mut gap.at_ms).for_each(moved);
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyvigil_common::wire::Sealed;

    const NOW: i64 = 1_763_836_800_000;
    const HOUR: i64 = 3_600_000;

    fn sender(boot: u8, boot_ms: i64, wall_ms: i64) -> Sender {
        Sender {
            instance: [0; 16],
            machine: [0; 32],
            boot: [boot; 16],
            boot_ms,
            wall_ms,
            trusts: [0; 32],
            blind: None,
            canaries: keyvigil_common::canary::Canaries::default(),
        }
    }

    fn sealed(boot: u8, boot_ms: i64, wall_ms: i64) -> Batch {
        Batch { sealed_ms: wall_ms, sealed: Some(Sealed { boot: [boot; 16], boot_ms }), ..Batch::default() }
    }

    #[test]
    fn a_batch_of_a_clock_that_was_far_off_is_put_to_its_time_and_a_small_difference_is_left() {
        let clocks = Clocks::default();
        // Started at 1970; the clock was set after half an hour, and ten minutes later all is delivered.
        let reading = clocks.heard(1, "a", &sender(1, 40 * 60_000, NOW), NOW);
        let early = sealed(1, 10 * 60_000, 600_000);
        assert_eq!(early.sealed_ms + reading.shift_ms(&early), NOW - 30 * 60_000);
        assert_eq!(reading.shift_ms(&sealed(1, 39 * 60_000, NOW - 60_000)), 0);
        assert_eq!(reading.shift_ms(&sealed(1, 39 * 60_000, NOW - 6 * 60_000)), 0, "five minutes are told, not mended");
        assert_eq!(reading.shift_ms(&sealed(2, 1_000, NOW - 9 * HOUR)), 0, "how old one of an earlier start is, nobody knows");
        assert!(reading.is_timeless(&sealed(2, 1_000, NOW + 400 * 24 * HOUR)) && !reading.is_timeless(&early));
    }

    #[test]
    fn batches_of_one_start_keep_their_distances_though_each_push_takes_its_time() {
        let clocks = Clocks::default();
        let first = clocks.heard(1, "a", &sender(1, HOUR, NOW + HOUR), NOW);
        let slow = clocks.heard(1, "a", &sender(1, HOUR + 10_000, NOW + HOUR + 10_000), NOW + 10_000 + 7_000);
        let batch = sealed(1, HOUR - 5_000, NOW + HOUR - 5_000);
        assert_eq!(first.shift_ms(&batch), slow.shift_ms(&batch));
        assert!(first.news && slow.news, "a push that was not stored has told nothing");
        clocks.told(1, "a");
        assert!(!clocks.heard(1, "a", &sender(1, HOUR + 20_000, NOW + HOUR + 20_000), NOW + 20_000).news, "told once");
    }

    #[test]
    fn when_most_hosts_agree_against_us_nothing_is_moved() {
        let clocks = Clocks::default();
        for agent in ["a", "b"] {
            let reading = clocks.heard(1, agent, &sender(1, HOUR, NOW + 5 * HOUR), NOW);
            assert_ne!(reading.shift_ms(&sealed(1, HOUR, NOW + 5 * HOUR)), 0, "two are not many");
        }
        let reading = clocks.heard(1, "c", &sender(1, HOUR, NOW + 5 * HOUR), NOW);
        assert_eq!(reading.shift_ms(&sealed(1, HOUR, NOW + 5 * HOUR)), 0);
    }
}
